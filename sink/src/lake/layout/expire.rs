//! How files are taken away for good.
//!
//! Owns the order of steps: the layout chain's newest record is completed first; then files that readers see are chosen, the record
//! that names them is put, and only then they are removed. Promises that a removal which was begun is completed by the next
//! command, and that rows which are gone do not come back, whoever publishes, dies or takes over meanwhile. Refuses to
//! choose a file of which some rows are to stay.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use hydrant_core::lake::{Object, SharedLake};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::retry::retry_forever;
use hydrant_core::{Context, Result};
use serde::Serialize;

use super::named_files::{ChainFiles, NamedFile, chains};
use super::what_expires::{AbsentValue, PlaceVerdict, WhatExpires};
use super::{LAYOUT_VERSION, LayoutChain, LayoutInput, LayoutRecord, key_digest};
use crate::lake::chain::{Chain, ChainTip, PRODUCT};
use crate::lake::clean_up::Leftovers;
use crate::lake::commit::FileKind;
use crate::lake::names::{DataFileName, TableNames};
use crate::schema::{TableSchema, registry};

/// The most files that a record names: as many as a store removes with one request.
const INPUTS_MAX: usize = 1_000;

/// What was taken away, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExpiredFiles {
    /// Layout records.
    pub records: u64,
    /// Files.
    pub files: u64,
    /// The bytes of the files.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Files of rows that readers see and that stay.
    pub kept_files: u64,
    /// Files that stay although some of their rows may be meant: others are not.
    pub mixed_files: u64,
    /// The partitions of the files of rows among them, by path.
    pub mixed_partitions: BTreeSet<String>,
    /// Rows that stay although they may be meant: they have no value of a column whose partition is removed.
    pub default_rows: u64,
    /// The values of a partition to remove that no file has.
    pub not_found: Vec<AbsentValue>,
    /// Uploads of dead sinks, which hold rows too.
    pub uploads: u64,
}

/// Takes files away; with `dry_run` only counts them.
///
/// # Errors
/// Those of the lake; refused for columns that are no partitions. What was removed until then stays removed, and the
/// same command goes on.
pub async fn expire(
    lake: &SharedLake,
    names: &TableNames,
    what: &WhatExpires,
    dry_run: bool,
    context: &Context,
) -> Result<ExpiredFiles> {
    let schema = registry::newest(lake, names).await?;
    what.check(names.table(), schema.as_ref())?;
    let layout = LayoutChain::new(lake, names);
    let mut expiry = Expiry {
        lake,
        names,
        what,
        dry_run,
        context,
        layout,
        known: 0,
        named: HashSet::new(),
        chosen: Vec::new(),
        row_files: 0,
        done: ExpiredFiles::default(),
    };
    expiry.run(schema.as_ref()).await?;
    Ok(expiry.done)
}

struct Expiry<'a> {
    lake: &'a SharedLake,
    names: &'a TableNames,
    what: &'a WhatExpires,
    dry_run: bool,
    context: &'a Context,
    layout: LayoutChain,
    /// The newest slot of the layout chain that was read.
    known: u64,
    /// What the layout chain names, by digest.
    named: HashSet<u64>,
    /// The files that the next record names.
    chosen: Vec<LayoutInput>,
    /// The files of rows that were chosen.
    row_files: u64,
    done: ExpiredFiles,
}

impl Expiry<'_> {
    async fn run(&mut self, schema: Option<&TableSchema>) -> Result<()> {
        let chains = chains(self.lake, self.names).await?;
        if !self.dry_run {
            self.clean_up(&chains).await?;
        }
        self.catch_up().await?;
        // Listed before the chains are read: what readers see has a record by now.
        let (seen, stems) = self.candidates(schema).await?;
        let visible = self.done.kept_files;
        for chain in chains {
            if !stems.contains(&chain.names.file_stem) {
                continue;
            }
            let mut files = ChainFiles::of(&chain).await?;
            while let Some(files) = files.next().await? {
                for file in files {
                    self.consider(file, &seen).await?;
                }
            }
        }
        self.take_chosen().await?;
        self.done.kept_files = visible.saturating_sub(self.row_files);
        Ok(())
    }

    /// The files that readers see and that may go or be meant, by the digests of their keys: what their places say. Also the
    /// stems of their names.
    async fn candidates(
        &mut self,
        schema: Option<&TableSchema>,
    ) -> Result<(HashMap<u64, PlaceVerdict>, HashSet<String>)> {
        let columns = schema.map_or(&[][..], |schema| &schema.partition_columns);
        let (mut seen, mut stems) = (HashMap::new(), HashSet::new());
        let (data, dead_letters) = (self.names.data(), self.names.dead_letters());
        let (mut paths, mut visible) = (BTreeSet::new(), 0);
        let mut consider = |object: Object, verdict: PlaceVerdict| {
            if verdict != PlaceVerdict::Stays
                && let Some((stem, _)) = DataFileName::of(&object.key)
            {
                seen.insert(key_digest(&object.key), verdict);
                stems.insert(stem);
            }
        };
        let mut row_file = |object: Object| {
            let name = &object.key[data.len()..];
            let path = name.rsplit_once('/').map_or("", |(path, _)| path);
            let verdict = self.what.judge(path, columns);
            if !paths.contains(path) {
                paths.insert(path.to_owned());
            }
            visible += 1;
            consider(object, verdict);
        };
        self.lake.visit(&data, &mut row_file).await?;
        if self.what.means_dead_letters() {
            let mut letters = |object: Object| consider(object, PlaceVerdict::ByRecord);
            self.lake.visit(&dead_letters, &mut letters).await?;
        }
        self.done.kept_files = visible;
        self.done.not_found = self.what.not_found(&paths);
        Ok((seen, stems))
    }

    /// Chooses a file if all of its rows are meant and it can be seen.
    async fn consider(
        &mut self,
        named: NamedFile,
        seen: &HashMap<u64, PlaceVerdict>,
    ) -> Result<()> {
        let digest = key_digest(&named.file.sealed.key);
        let Some(verdict) = seen.get(&digest).filter(|_| !self.named.contains(&digest)) else {
            return Ok(());
        };
        if *verdict == PlaceVerdict::MayBeMeant {
            self.done.default_rows += named.file.rows;
            return Ok(());
        }
        if *verdict == PlaceVerdict::ByRecord && !self.what.takes(named.times.max) {
            if self.what.takes(named.times.min) {
                self.done.mixed_files += 1;
                let data = self.names.data();
                if let Some(path) = named.file.sealed.key.strip_prefix(&data) {
                    let path = path.rsplit_once('/').map_or("", |(path, _)| path);
                    self.done.mixed_partitions.insert(path.to_owned());
                }
            }
            return Ok(());
        }
        self.chosen.push(LayoutInput {
            kind: named.file.kind,
            rows: named.file.rows,
            size: named.file.sealed.size,
            key: named.file.sealed.key,
        });
        if self.chosen.len() >= INPUTS_MAX {
            self.take_chosen().await?;
        }
        Ok(())
    }

    /// Takes the chosen files away: the record first.
    async fn take_chosen(&mut self) -> Result<()> {
        while !self.chosen.is_empty() {
            if !self.dry_run {
                let record = LayoutRecord {
                    version: LAYOUT_VERSION,
                    slot: self.known + 1,
                    nonce: self.context.random.identity(),
                    why: self.what.why(),
                    inputs: self.chosen.clone(),
                    made: self.context.clock.wall_micros(),
                    product: PRODUCT.to_owned(),
                };
                if mutant::is(Mutant::ExpiredBeforeRecord) {
                    self.remove(&record).await?;
                }
                let putting = retry_forever("put a layout record", &self.context.random, || {
                    self.layout.put(&record)
                });
                let Some(crc) = putting.await? else {
                    // Another operator was faster, and may have taken the same files.
                    self.catch_up().await?;
                    let named = &self.named;
                    self.chosen
                        .retain(|input| !named.contains(&key_digest(&input.key)));
                    continue;
                };
                self.known = record.slot;
                self.remove(&record).await?;
                self.layout.mark(record.slot, &crc).await?;
            }
            self.done.records += 1;
            for input in self.chosen.drain(..) {
                self.done.files += 1;
                self.done.bytes += input.size;
                match input.kind {
                    FileKind::Rows => {
                        self.row_files += 1;
                        self.done.rows += input.rows;
                    }
                    FileKind::DeadLetters => self.done.dead_letters += input.rows,
                }
            }
        }
        Ok(())
    }

    /// Reads what other operators recorded, then completes the newest removal. In this order: a record that is put after it
    /// was looked for is either completed here, or takes the slot that this operator would take.
    async fn catch_up(&mut self) -> Result<()> {
        self.read_layout().await?;
        if self.dry_run {
            return Ok(());
        }
        self.roll_forward().await
    }

    /// Completes the removal that the newest record began, unless that is known to be done.
    async fn roll_forward(&self) -> Result<()> {
        let Some(newest) = self.layout.newest().await? else {
            return Ok(());
        };
        if !newest.is_marked {
            self.remove(&newest.object).await?;
            self.layout.mark(newest.object.slot, &newest.crc).await?;
        }
        Ok(())
    }

    async fn remove(&self, record: &LayoutRecord) -> Result<()> {
        let keys: Vec<String> = record
            .inputs
            .iter()
            .map(|input| input.key.clone())
            .collect();
        let random = &self.context.random;
        retry_forever("remove expired files", random, || {
            self.lake.delete_many(&keys)
        })
        .await
    }

    /// Reads the layout records that were added since.
    async fn read_layout(&mut self) -> Result<()> {
        let slots = self.layout.slots().await?.into_iter();
        for slot in slots.filter(|slot| *slot > self.known).collect::<Vec<_>>() {
            if let Some(record) = self.layout.record(slot).await? {
                let inputs = record.inputs.iter().map(|input| key_digest(&input.key));
                self.named.extend(inputs);
            }
            self.known = self.known.max(slot);
        }
        Ok(())
    }

    /// Removes the uploads that dead owners left: those of intervals before the part of a chain that may be unfinished.
    async fn clean_up(&mut self, chains: &[Chain]) -> Result<()> {
        let leftovers = Arc::new(Leftovers::default());
        for chain in chains {
            let finished = match chain.tip().await? {
                ChainTip::Record(tip) if tip.is_finished => tip.commit.interval().to,
                ChainTip::Record(tip) => tip.commit.interval().from,
                ChainTip::Genesis(genesis) => genesis.start,
                ChainTip::None => continue,
            };
            self.done.uploads += leftovers.clean(chain, finished).await?;
        }
        Ok(())
    }
}
