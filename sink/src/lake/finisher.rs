//! How the files of a commit record become visible, also those that vanished.
//!
//! Owns the reveal of the files that a record names, and the rebuild of files that vanished before they were visible.
//! Promises that finishing is repeatable, and that a vanished file is rebuilt from the stream by the recorded rules.
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
    /// Reads the interval of `commit` again by its recorded rules and uploads its file number `file` for `key`. `from` is
    /// where the interval begins, as the record before it or the genesis says: position, marks, and how reading began.
    /// `leftovers` gets the uploads that cannot be thrown away.
    async fn rebuild(
        &self,
        commit: &Commit,
        from: Progress,
        file: usize,
        key: &str,
        leftovers: &Arc<Leftovers>,
    ) -> Result<CommitFile>;
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
        let files = (0..commit.files.len()).map(|index| self.finish_file(chain, commit, index));
        // Collected, because the compiler cannot follow a lazy iterator of borrowing futures across threads.
        let files: Vec<_> = files.collect();
        stream::iter(files)
            .buffer_unordered(REVEALS_MAX)
            .try_collect::<()>()
            .await
    }

    async fn finish_file(&self, chain: &Chain, commit: &Commit, index: usize) -> Result<()> {
        let file = &commit.files[index];
        let mut sealed = file.sealed.clone();
        for generation in 1..=GENERATIONS_MAX {
            let what = "make a file visible";
            let reveal = retry_forever(what, &self.random, || async {
                let _one = one_of(&self.requests.reveals).await?;
                chain.lake.reveal(&sealed).await
            });
            match reveal.await? {
                Reveal::Revealed | Reveal::Already => return Ok(()),
                Reveal::Vanished => {}
            }
            // A compaction may have merged the file and removed it. The check follows the reveal, so that it sees a
            // compaction in between.
            self.check_layout(chain, &sealed).await?;
            let rebuilt = self.generation(chain, commit, index, generation).await?;
            sealed = rebuilt.sealed;
        }
        Err(Error::fatal(format!(
            "`{}` vanished {GENERATIONS_MAX} times before it could be made visible: find out what removes files below \
             `_hydrant/`",
            file.sealed.key,
        )))
    }

    async fn check_layout(&self, chain: &Chain, sealed: &Sealed) -> Result<()> {
        let prefix = chain.names.table.layout();
        if chain.lake.page(&prefix, "", 1).await?.is_empty() {
            return Ok(());
        }
        Err(Error::refused(format!(
            "`{}` is missing and the table was compacted by a newer version: run that version",
            sealed.key,
        )))
    }

    /// Returns the upload that replaces the file the `generation`-th time; rebuilds the file when there is none.
    async fn generation(
        &self,
        chain: &Chain,
        commit: &Commit,
        index: usize,
        generation: u32,
    ) -> Result<CommitFile> {
        let wanted = &commit.files[index];
        let record_key = chain.names.rebuild(commit.slot, index, generation);
        if let Some(body) = chain.lake.get(&record_key).await? {
            return Self::replacement(&record_key, &body, wanted);
        }
        let Some(rebuild) = &self.rebuild else {
            return Err(Error::fatal(format!(
                "`{}` vanished before it was visible, and this process has no stream to rebuild it from: start the sink, \
                 which rebuilds it",
                wanted.sealed.key,
            )));
        };
        tracing::warn!(key = %wanted.sealed.key, generation, "rebuilding a vanished file");
        let key = generation_key(&wanted.sealed.key, generation);
        let from = Self::from_of(chain, commit).await?;
        let rebuilding = rebuild.rebuild(commit, from, index, &key, &self.leftovers);
        let file = rebuilding.await?;
        if (file.rows, &file.position_hash) != (wanted.rows, &wanted.position_hash) {
            chain.lake.discard(&file.sealed.upload).await?;
            return Err(Error::fatal(format!(
                "cannot rebuild `{}`: its {} rows became {} or different ones; the stream no longer holds the same records",
                wanted.sealed.key, wanted.rows, file.rows,
            )));
        }
        let record = RebuildRecord {
            version: REBUILD_VERSION,
            slot: commit.slot,
            index,
            generation,
            file: file.clone(),
        };
        let body = seal_body(&record);
        let put = retry_forever("put a rebuild record", &self.random, || {
            chain.lake.put_new(&record_key, body.clone())
        });
        match put.await? {
            Put::Created => Ok(file),
            Put::Exists(found) if found == body => Ok(file),
            Put::Exists(found) => {
                chain.lake.discard(&file.sealed.upload).await?;
                Self::replacement(&record_key, &found, wanted)
            }
        }
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
