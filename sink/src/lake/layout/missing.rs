//! How files are given up that somebody removed without a record.
//!
//! Owns the order of looks: a file is given up only if its upload is gone, it cannot be seen *after* that, and the
//! layout chain does not name it *after* that. The rebuild record decides, so that a sink which makes the file again at the
//! same time and this command agree on one fate. Refuses to decide by the layout chain: a rebuild may be under way.

use std::collections::HashSet;

use hydrant_core::lake::{Object, Put, SharedLake};
use hydrant_core::retry::retry_forever;
use hydrant_core::{Context, Result};
use serde::Serialize;

use super::named_files::{ChainFiles, NamedFile, chains};
use super::{LayoutChain, key_digest};
use crate::lake::chain::Chain;
use crate::lake::commit::{FileKind, seal_body};
use crate::lake::names::{TableNames, generation_key};
use crate::lake::rebuild_record::{GivenUp, REBUILD_VERSION, RebuildOutcome, RebuildRecord};
use crate::lake::retention::TableRetention;

/// How many missing files are looked at together.
const FILES_AT_ONCE: usize = 10_000;

/// What was given up, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GivenUpFiles {
    /// Files.
    pub files: u64,
    /// Rows.
    pub rows: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Files that are not visible yet: a sink makes them visible.
    pub unfinished_files: u64,
    /// Files that a sink makes again at this moment.
    pub rebuilt_files: u64,
}

/// Gives up all missing files of a table; with `dry_run` only counts them.
///
/// # Errors
/// Those of the lake; fatal when a record is damaged.
pub async fn give_up_missing(
    lake: &SharedLake,
    names: &TableNames,
    dry_run: bool,
    context: &Context,
) -> Result<GivenUpFiles> {
    let retention = TableRetention::read(lake, names).await?;
    let mut hunt = MissingFiles {
        lake,
        dry_run,
        context,
        layout: LayoutChain::new(lake, names),
        seen: HashSet::new(),
        done: GivenUpFiles::default(),
    };
    for prefix in [names.data(), names.dead_letters()] {
        let seen = &mut hunt.seen;
        let mut add = |object: Object| {
            seen.insert(key_digest(&object.key));
        };
        lake.visit(&prefix, &mut add).await?;
    }
    let now = context.clock.wall_micros();
    for chain in chains(lake, names).await? {
        let mut files = ChainFiles::of(&chain).await?;
        let mut missing = Vec::new();
        while let Some(files) = files.next().await? {
            let unseen = files.into_iter().filter(|file| {
                let is_seen = hunt.seen.contains(&key_digest(&file.file.sealed.key));
                !is_seen && !retention.is_past(file.times.max, file.made, now)
            });
            missing.extend(unseen);
            if missing.len() >= FILES_AT_ONCE {
                hunt.give_up(&chain, std::mem::take(&mut missing)).await?;
            }
        }
        hunt.give_up(&chain, missing).await?;
    }
    Ok(hunt.done)
}

struct MissingFiles<'a> {
    lake: &'a SharedLake,
    dry_run: bool,
    context: &'a Context,
    layout: LayoutChain,
    /// The files that were listed, by digest.
    seen: HashSet<u64>,
    done: GivenUpFiles,
}

impl MissingFiles<'_> {
    async fn give_up(&mut self, chain: &Chain, missing: Vec<NamedFile>) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let uploads = self.lake.list_uploads().await?;
        let uploads: HashSet<String> = uploads.into_iter().map(|(upload, _)| upload).collect();
        let mut gone = Vec::new();
        for file in missing {
            let sealed = &file.file.sealed;
            if uploads.contains(&sealed.upload) {
                self.done.unfinished_files += 1;
            } else if self.lake.head(&sealed.key).await?.is_none() {
                if !self.dry_run {
                    // That it is gone may not be durable yet.
                    self.lake.discard(&sealed.upload).await?;
                }
                gone.push(file);
            }
        }
        let keys = gone.iter().map(|file| file.file.sealed.key.as_str());
        let expired = self.layout.naming(keys.collect()).await?;
        for file in gone {
            if !expired.contains(&file.file.sealed.key) {
                self.decide(chain, &file).await?;
            }
        }
        Ok(())
    }

    async fn decide(&mut self, chain: &Chain, file: &NamedFile) -> Result<()> {
        let generation = file.generation + 1;
        let key = chain.names.rebuild(file.slot, file.index, generation);
        let body = seal_body(&RebuildRecord {
            version: REBUILD_VERSION,
            slot: file.slot,
            index: file.index,
            generation,
            key: generation_key(&file.recorded.sealed.key, generation),
            outcome: RebuildOutcome::GivenUp {
                why: GivenUp::Operator,
                rows: file.recorded.rows,
                lost: file.lost.clone(),
            },
        });
        if !self.dry_run {
            let put = retry_forever("put a rebuild record", &self.context.random, || {
                self.lake.put_new(&key, body.clone())
            });
            if matches!(put.await?, Put::Exists(found) if found != body) {
                self.done.rebuilt_files += 1;
                return Ok(());
            }
        }
        self.done.files += 1;
        let rows = file.file.rows;
        match file.recorded.kind {
            FileKind::Rows => self.done.rows += rows,
            FileKind::DeadLetters => self.done.dead_letters += rows,
        }
        Ok(())
    }
}
