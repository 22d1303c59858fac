//! How an interval becomes visible exactly once, and how a dead owner's half is finished.
//!
//! Owns the order of steps: stage everything invisibly, put the record under the next slot (the atomic point), make
//! every file visible that the record names, and only then go on. Promises that only the newest record of a chain can be
//! unfinished, that whoever finds a record finishes it, also against a live owner, and that a vanished file is made
//! again from the source by the recorded rules. Refuses to publish after it lost a slot, to judge by the interval
//! whether a record is its own, and to take up files that differ from what the record says.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hydrant_core::lake::{Put, Reveal, Sealed};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::retry::{Backoff, is_logged};
use hydrant_core::{Disposition, Error, Position, Random, Result, clock};
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Tip};
use super::clean_up::Leftovers;
use super::commit::{Commit, CommitFile, seal_body, unseal_body};
use super::names::generation_key;

/// Files of one record that are made visible at a time.
const REVEALS_MAX: usize = 8;

/// How often a file may vanish before somebody must look why.
const GENERATIONS_MAX: u32 = 9;

/// The version of the form of [`RebuildRecord`].
const REBUILD_VERSION: u32 = 1;

/// Makes a file of a committed interval again.
#[async_trait]
pub trait Rebuild: Send + Sync + fmt::Debug {
    /// Reads the interval of `commit` again by its recorded rules and stages its file number `file` under `key`.
    async fn rebuild(&self, commit: &Commit, file: usize, key: &str) -> Result<CommitFile>;
}

/// Says which staging stands for a vanished file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildRecord {
    /// The version of this form.
    pub version: u32,
    /// The slot of the record that names the file.
    pub slot: u64,
    /// The file's index in it.
    pub index: usize,
    /// How often the file was made again before and with this.
    pub generation: u32,
    /// The file as it was staged.
    pub file: CommitFile,
}

impl RebuildRecord {
    /// Reads the stored form.
    ///
    /// # Errors
    /// Damaged bytes or a newer version.
    pub fn from_body(key: &str, body: &[u8]) -> Result<Self, crate::error::ObjectError> {
        unseal_body(key, body, REBUILD_VERSION)
    }
}

/// Repeats `operation` while it may yet succeed: a full disk frees up, a store answers again. Whoever cannot wait drops
/// the call, which is safe at every await: nothing is half done that a successor could not finish.
pub(crate) async fn persist<T, F, A>(what: &str, random: &Random, mut operation: F) -> Result<T>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T>>,
{
    let backoff = Backoff::default();
    for n in 0.. {
        match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => match error.disposition() {
                Disposition::Retry { after } => {
                    if is_logged(n) {
                        tracing::warn!(what, attempt = n, error = %error.report(), "trying again");
                    }
                    clock::sleep(after.max(backoff.delay(n, random))).await;
                }
                _ => return Err(error),
            },
        }
    }
    unreachable!("the loop has no end of its own")
}

/// Makes the files of records visible.
#[derive(Clone, Debug)]
pub struct Finisher {
    rebuild: Option<Arc<dyn Rebuild>>,
    random: Random,
}

impl Finisher {
    /// Without `rebuild` a vanished file is fatal.
    pub fn new(rebuild: Option<Arc<dyn Rebuild>>, random: &Random) -> Self {
        Finisher {
            rebuild,
            random: random.clone(),
        }
    }

    /// Makes every file visible that the record names; done already is done.
    ///
    /// # Errors
    /// Fatal when a file under a name differs from the record, or cannot be made again.
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
            let reveal = persist(what, &self.random, || chain.lake().reveal(&sealed));
            match reveal.await? {
                Reveal::Revealed | Reveal::Already => return Ok(()),
                Reveal::Vanished => {}
            }
            // A compaction may have taken the file up and removed it: only after the file was found missing, so that
            // a compaction in between is seen.
            self.check_layout(chain, &sealed).await?;
            let rebuilt = self.generation(chain, commit, index, generation).await?;
            sealed = rebuilt.sealed;
        }
        Err(Error::fatal(format!(
            "`{}` vanished {GENERATIONS_MAX} times before it could be made visible: find out who removes files below \
             `_hydrant/`",
            file.sealed.key,
        )))
    }

    async fn check_layout(&self, chain: &Chain, sealed: &Sealed) -> Result<()> {
        let prefix = chain.names().table().layout();
        if chain.lake().list(&prefix, Some(1)).await?.is_empty() {
            return Ok(());
        }
        Err(Error::refused(format!(
            "`{}` is missing and the table was compacted by a newer version: run that version",
            sealed.key,
        )))
    }

    /// The staging that stands for the file the `generation`-th time; claims it when nobody has.
    async fn generation(
        &self,
        chain: &Chain,
        commit: &Commit,
        index: usize,
        generation: u32,
    ) -> Result<CommitFile> {
        let wanted = &commit.files[index];
        let record_key = chain.names().rebuild(commit.slot, index, generation);
        if let Some(body) = chain.lake().get(&record_key).await? {
            return self.claimed(&record_key, &body, wanted);
        }
        let Some(rebuild) = &self.rebuild else {
            return Err(Error::fatal(format!(
                "`{}` vanished before it was visible, and there is no source here to make it again from: start the \
                 sink, which does that",
                wanted.sealed.key,
            )));
        };
        tracing::warn!(key = %wanted.sealed.key, generation, "making a vanished file again");
        let key = generation_key(&wanted.sealed.key, generation);
        let file = rebuild.rebuild(commit, index, &key).await?;
        if (file.rows, &file.position_hash) != (wanted.rows, &wanted.position_hash) {
            chain.lake().discard(&file.sealed.upload).await?;
            return Err(Error::fatal(format!(
                "`{}` cannot be made again: its {} rows became {} or others; the source does not hold what it held",
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
        let put = persist("put a rebuild record", &self.random, || {
            chain.lake().put_new(&record_key, body.clone())
        });
        match put.await? {
            Put::Created => Ok(file),
            Put::Exists(found) if found == body => Ok(file),
            Put::Exists(found) => {
                chain.lake().discard(&file.sealed.upload).await?;
                self.claimed(&record_key, &found, wanted)
            }
        }
    }

    fn claimed(&self, key: &str, body: &[u8], wanted: &CommitFile) -> Result<CommitFile> {
        let record = RebuildRecord::from_body(key, body)?;
        if (record.file.rows, &record.file.position_hash) == (wanted.rows, &wanted.position_hash) {
            Ok(record.file)
        } else {
            Err(Error::fatal(format!(
                "`{key}` stands for other rows than the record's"
            )))
        }
    }
}

/// How far a chain is, with everything of it visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The slot of the newest record, 0 without one.
    pub slot: u64,
    /// What is done.
    pub to: Position,
    /// What the reader had seen of its origins.
    pub marks: Vec<u8>,
}

/// Publishes the intervals of one shard, one after another.
#[derive(Debug)]
pub struct Publisher {
    chain: Chain,
    finisher: Finisher,
    slot: u64,
    to: Position,
    /// Where another owner's record ends that took our slot.
    lost: Option<Position>,
    /// What dead owners left, until it was cleaned up after the first record.
    leftovers: Option<Arc<Leftovers>>,
}

impl Publisher {
    /// Finishes the newest record of the chain and answers how far it is; `None` when it has not begun.
    ///
    /// # Errors
    /// Those of finishing.
    pub async fn resume(chain: &Chain, finisher: &Finisher) -> Result<Option<Claimed>> {
        let tip = chain.tip().await?;
        let marks = match &tip {
            Tip::Record(commit) => {
                finisher.finish(chain, commit).await?;
                commit.marks.clone()
            }
            _ => Vec::new(),
        };
        Ok(tip.to().map(|to| Claimed {
            slot: tip.slot(),
            to,
            marks,
        }))
    }

    /// Begins to publish after `after`; a chain that has not begun begins at `start`. `resumed` is what [`Self::resume`]
    /// has just answered, where it did: it spares finding the newest record again, and if another owner has gone on since,
    /// the first record collides.
    ///
    /// # Errors
    /// [`Error::Superseded`] when the chain is elsewhere: open again after its position.
    pub async fn open(
        chain: Chain,
        finisher: Finisher,
        start: Position,
        after: Position,
        resumed: Option<Claimed>,
    ) -> Result<Self> {
        let claimed = match resumed {
            Some(claimed) => Some(claimed),
            None => Self::resume(&chain, &finisher).await?,
        };
        let claimed = match claimed {
            Some(claimed) => claimed,
            None => {
                let genesis = chain.begin(start).await?;
                Claimed {
                    slot: 0,
                    to: genesis.start,
                    marks: Vec::new(),
                }
            }
        };
        let from = if mutant::is(Mutant::FromOfReader) {
            after
        } else {
            claimed.to
        };
        if from != after {
            return Err(Error::Superseded {
                shard: chain.shard().clone(),
                after: claimed.to,
            });
        }
        Ok(Publisher {
            chain,
            finisher,
            slot: claimed.slot,
            to: from,
            lost: None,
            leftovers: None,
        })
    }

    /// Removes what dead owners left: now, when the newest record is finished, and once more after the first record of
    /// this owner.
    pub(crate) async fn clean_up(&mut self, leftovers: &Arc<Leftovers>) {
        self.leftovers = Some(Arc::clone(leftovers));
        self.clean().await;
    }

    async fn clean(&self) {
        let Some(leftovers) = &self.leftovers else {
            return;
        };
        // What is left only takes room: nothing waits for it.
        if let Err(error) = leftovers.clean(&self.chain, self.to).await {
            let shard = self.chain.shard();
            tracing::warn!(%shard, error = %error.report(), "cannot clean up what dead owners left");
        }
    }

    /// The chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What is published.
    pub fn to(&self) -> Position {
        self.to
    }

    /// The slot that the next record takes.
    pub fn next_slot(&self) -> u64 {
        self.slot + 1
    }

    /// That no other owner took a slot of this publisher.
    ///
    /// # Errors
    /// [`Error::Superseded`] once it happened.
    pub fn check_owner(&self) -> Result<()> {
        match self.lost {
            None => Ok(()),
            Some(after) => Err(Error::Superseded {
                shard: self.chain.shard().clone(),
                after,
            }),
        }
    }

    /// Puts the record under the next slot and makes its files visible.
    ///
    /// # Errors
    /// [`Error::Superseded`] when another owner took the slot: his record was finished, nothing of ours is visible.
    /// Fatal when the record does not follow the chain or its sums are wrong.
    pub async fn publish(&mut self, commit: &Commit) -> Result<()> {
        let key = self.chain.names().record(self.next_slot());
        let interval = commit.interval(&key)?;
        let follows = commit.slot == self.next_slot() && interval.from == self.to;
        if !follows || self.to == Position::End {
            return Err(Error::fatal(format!(
                "a record of ({}, {}] for slot {} does not follow {} in slot {} of shard `{}`",
                interval.from,
                interval.to,
                commit.slot,
                self.to,
                self.slot,
                self.chain.shard(),
            )));
        }
        self.check_owner()?;
        commit.counts.check(&key)?;
        let body = commit.to_body();
        let put = persist("put a commit record", &self.finisher.random, || {
            self.chain.lake().put_new(&key, body.clone())
        });
        match put.await? {
            Put::Created => {}
            // The answer to an earlier attempt was lost: the nonce in the body is nobody else's.
            Put::Exists(found) if found == body => {}
            Put::Exists(found) => {
                let winner = self.chain.read(commit.slot, &found)?;
                self.lost = Some(winner.interval(&key)?.to);
                self.discard_unnamed(commit, &winner).await?;
                self.finisher.finish(&self.chain, &winner).await?;
                return self.check_owner();
            }
        }
        self.finisher.finish(&self.chain, commit).await?;
        self.slot = commit.slot;
        self.to = interval.to;
        self.clean().await;
        self.leftovers = None;
        Ok(())
    }

    async fn discard_unnamed(&self, ours: &Commit, winner: &Commit) -> Result<()> {
        for file in &ours.files {
            let upload = &file.sealed.upload;
            if !winner
                .files
                .iter()
                .any(|named| named.sealed.upload == *upload)
            {
                self.chain.lake().discard(upload).await?;
            }
        }
        Ok(())
    }
}
