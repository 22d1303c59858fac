//! How the files of a commit record become visible, also those that vanished.
//!
//! Owns the reveal of the files that a record names, and the rebuild of files that vanished before they were visible.
//! Promises that finishing is repeatable, that vanished files are rebuilt from the stream by the recorded rules, all from one
//! reading, and that a file of a record that has a successor stays removed: it was visible once.
//! Refuses files that differ from what the record says.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hydrant_core::lake::{Put, Reveal, Sealed};
use hydrant_core::lease::Progress;
use hydrant_core::retry::retry_forever;
use hydrant_core::{Error, Random, Result};

use super::chain::Chain;
use super::clean_up::Leftovers;
use super::commit::{Commit, CommitFile, seal_body};
use super::names::generation_key;
use super::rebuild_record::{REBUILD_VERSION, RebuildRecord};
use super::requests::{REVEALS_MAX, Requests, one_of};

/// How often a file may vanish before an operator must find out why.
const GENERATIONS_MAX: u32 = 9;

/// Rebuilds files of committed intervals.
#[async_trait]
pub trait Rebuild: Send + Sync + fmt::Debug {
    /// Reads the interval of `commit` again by its recorded rules and uploads those of its files that `files` names, in
    /// order, each under its key there. `from` is where the interval begins, as the record before it or the genesis says:
    /// position, marks, and how reading began. `leftovers` gets the uploads that cannot be thrown away.
    async fn rebuild(
        &self,
        commit: &Commit,
        from: Progress,
        files: &[(usize, String)],
        leftovers: &Arc<Leftovers>,
    ) -> Result<Vec<CommitFile>>;
}

/// Makes the files of records visible.
#[derive(Clone, Debug)]
pub struct Finisher {
    rebuild: Option<Arc<dyn Rebuild>>,
    pub(super) random: Random,
    /// The requests of this process, shared with its uploads.
    pub(crate) requests: Requests,
    /// The uploads that owners left behind in the table.
    pub(crate) leftovers: Arc<Leftovers>,
}

impl Finisher {
    /// Makes a finisher. Without `rebuild` a vanished file is fatal.
    pub fn new(rebuild: Option<Arc<dyn Rebuild>>, random: &Random) -> Self {
        Finisher {
            rebuild,
            random: random.clone(),
            requests: Requests::default(),
            leftovers: Arc::default(),
        }
    }

    /// Makes every file visible that the record names. Files that are visible already stay so.
    ///
    /// # Errors
    /// Fatal when a visible file differs from the record, or a vanished file cannot be rebuilt.
    pub async fn finish(&self, chain: &Chain, commit: &Commit) -> Result<()> {
        let sealed = commit.files.iter().map(|file| file.sealed.clone());
        let mut hidden: Vec<(usize, Sealed)> = sealed.enumerate().collect();
        for generation in 1..=GENERATIONS_MAX {
            hidden = self.reveal_all(chain, hidden).await?;
            let Some((_, Sealed { key, .. })) = hidden.first() else {
                return Ok(());
            };
            // A compaction may have merged the file and removed it. The check follows the reveal, so that it sees a
            // compaction in between.
            self.check_layout(chain, key).await?;
            if chain.record(commit.slot + 1).await?.is_some() {
                let shard = &chain.shard;
                tracing::warn!(%shard, key, "another program removed a file that was visible: it stays removed");
                return Ok(());
            }
            hidden = self.replace(chain, commit, hidden, generation).await?;
        }
        let vanished = hidden.first().map(|(_, sealed)| sealed.key.as_str());
        Err(Error::fatal(format!(
            "`{}` vanished {GENERATIONS_MAX} times before it could be made visible: find out what removes files below \
             `_hydrant/`",
            vanished.unwrap_or_default(),
        )))
    }

    /// Makes files visible, and returns those that vanished, by their numbers.
    async fn reveal_all(
        &self,
        chain: &Chain,
        files: Vec<(usize, Sealed)>,
    ) -> Result<Vec<(usize, Sealed)>> {
        let reveals = files.into_iter().map(|file| self.reveal(chain, file));
        // Collected, because the compiler cannot follow a lazy iterator of borrowing futures across threads.
        let reveals: Vec<_> = reveals.collect();
        let outcomes = stream::iter(reveals).buffer_unordered(REVEALS_MAX);
        let outcomes: Vec<_> = outcomes.try_collect().await?;
        let mut vanished: Vec<_> = outcomes.into_iter().flatten().collect();
        vanished.sort_by_key(|(index, _)| *index);
        Ok(vanished)
    }

    async fn reveal(
        &self,
        chain: &Chain,
        file: (usize, Sealed),
    ) -> Result<Option<(usize, Sealed)>> {
        let reveal = retry_forever("make a file visible", &self.random, || async {
            let _one = one_of(&self.requests.reveals).await?;
            chain.lake.reveal(&file.1).await
        });
        Ok(match reveal.await? {
            Reveal::Revealed | Reveal::Already => None,
            Reveal::Vanished => Some(file),
        })
    }

    async fn check_layout(&self, chain: &Chain, key: &str) -> Result<()> {
        let prefix = chain.names.table.layout();
        if chain.lake.page(&prefix, "", 1).await?.is_empty() {
            return Ok(());
        }
        Err(Error::refused(format!(
            "`{key}` is missing and the table was compacted by a newer version: run that version",
        )))
    }

    /// Returns the uploads that replace these files the `generation`-th time; rebuilds the files that have none.
    async fn replace(
        &self,
        chain: &Chain,
        commit: &Commit,
        vanished: Vec<(usize, Sealed)>,
        generation: u32,
    ) -> Result<Vec<(usize, Sealed)>> {
        let (mut replaced, mut lacking) = (Vec::new(), Vec::new());
        let count = vanished.len();
        for (index, _) in vanished {
            let record_key = chain.names.rebuild(commit.slot, index, generation);
            match chain.lake.get(&record_key).await? {
                Some(body) => {
                    let file = Self::replacement(&record_key, &body, &commit.files[index])?;
                    replaced.push((index, file.sealed));
                }
                None => lacking.push(index),
            }
        }
        if !lacking.is_empty() {
            let rebuilt = self.rebuild(chain, commit, &lacking, generation).await?;
            for (index, file) in lacking.into_iter().zip(rebuilt) {
                let chosen = self.choose(chain, commit, (index, file), generation);
                replaced.push((index, chosen.await?.sealed));
            }
        }
        debug_assert_eq!(replaced.len(), count);
        Ok(replaced)
    }

    /// Rebuilds files of a record from one reading of its interval.
    async fn rebuild(
        &self,
        chain: &Chain,
        commit: &Commit,
        files: &[usize],
        generation: u32,
    ) -> Result<Vec<CommitFile>> {
        let key_of = |index: &usize| &commit.files[*index].sealed.key;
        let key = files.first().map(key_of);
        let Some(rebuild) = &self.rebuild else {
            return Err(Error::fatal(format!(
                "`{}` vanished before it was visible, and this process has no stream to rebuild it from: start the sink, \
                 which rebuilds it",
                key.map_or("", |key| key),
            )));
        };
        tracing::warn!(
            key,
            files = files.len(),
            generation,
            "rebuilding vanished files"
        );
        let names = files
            .iter()
            .map(|index| (*index, generation_key(key_of(index), generation)));
        let names: Vec<(usize, String)> = names.collect();
        let from = Self::from_of(chain, commit).await?;
        let rebuilding = rebuild.rebuild(commit, from, &names, &self.leftovers);
        let rebuilt = rebuilding.await?;
        debug_assert_eq!(rebuilt.len(), files.len());
        for file in &rebuilt {
            let Sealed { upload, key, .. } = &file.sealed;
            self.leftovers.add(upload.clone(), key.clone());
        }
        for (index, file) in files.iter().zip(&rebuilt) {
            let wanted = &commit.files[*index];
            if (file.rows, &file.position_hash) != (wanted.rows, &wanted.position_hash) {
                for file in &rebuilt {
                    chain.lake.discard(&file.sealed.upload).await?;
                }
                return Err(Error::fatal(format!(
                    "cannot rebuild `{}`: its {} rows became {} or different ones; the stream no longer holds the same records",
                    wanted.sealed.key, wanted.rows, file.rows,
                )));
            }
        }
        Ok(rebuilt)
    }

    /// Puts the record that chooses a rebuilt file, and returns the file that was chosen.
    async fn choose(
        &self,
        chain: &Chain,
        commit: &Commit,
        (index, file): (usize, CommitFile),
        generation: u32,
    ) -> Result<CommitFile> {
        let record_key = chain.names.rebuild(commit.slot, index, generation);
        let record = RebuildRecord {
            version: REBUILD_VERSION,
            slot: commit.slot,
            index,
            generation,
            file,
        };
        let body = seal_body(&record);
        let put = retry_forever("put a rebuild record", &self.random, || {
            chain.lake.put_new(&record_key, body.clone())
        });
        let chosen = match put.await? {
            Put::Exists(found) if found != body => {
                chain.lake.discard(&record.file.sealed.upload).await?;
                Self::replacement(&record_key, &found, &commit.files[index])?
            }
            _ => record.file.clone(),
        };
        self.leftovers.forget(&record.file.sealed.upload);
        Ok(chosen)
    }

    /// Where the interval of a record begins, with what the reader knew there.
    async fn from_of(chain: &Chain, commit: &Commit) -> Result<Progress> {
        let mut from = Progress {
            to: commit.interval().from,
            ..Progress::default()
        };
        if let Some(before) = commit.slot.checked_sub(1).filter(|slot| *slot > 0) {
            let Some(before) = chain.record(before).await? else {
                return Err(Error::fatal(format!(
                    "`{}` is missing: commit records are never removed; restore it",
                    chain.names.record(before),
                )));
            };
            from.marks = before.marks;
        } else if let Some(genesis) = chain.genesis().await? {
            from.began = genesis.began;
        }
        Ok(from)
    }

    fn replacement(key: &str, body: &[u8], wanted: &CommitFile) -> Result<CommitFile> {
        let record = RebuildRecord::from_body(key, body)?;
        if (record.file.rows, &record.file.position_hash) == (wanted.rows, &wanted.position_hash) {
            Ok(record.file)
        } else {
            Err(Error::fatal(format!(
                "`{key}` names a file with other rows than the commit record says"
            )))
        }
    }
}
