//! How an interval becomes visible exactly once.
//!
//! Owns the order of steps once all files are uploaded and invisible: put the record under the next slot (the atomic
//! point), make every file visible that the record names, and only then continue. Promises that only the newest record
//! of a chain can be unfinished, and that a publisher that finds an unfinished record finishes it, even if the record's
//! owner is alive. Refuses to publish after losing a slot, and to decide by the interval whether a record is its own.

use hydrant_core::lake::Put;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::retry::retry_forever;
use hydrant_core::stream::Start;
use hydrant_core::{Error, Position, Result};

use super::chain::{Chain, ChainTip};
use super::commit::{Commit, sealed_crc};
use super::finisher::Finisher;

/// How far a chain has come. All of its files are visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainProgress {
    /// The slot of the newest record; 0 without a record.
    pub slot: u64,
    /// The position up to which everything is published.
    pub to: Position,
    /// What the reader knew at that position.
    pub marks: Vec<u8>,
    /// Where reading began, as it was asked for, while nothing was read.
    pub began: Option<Start>,
}

/// Publishes the intervals of one shard, one after another.
#[derive(Debug)]
pub struct Publisher {
    pub(crate) chain: Chain,
    finisher: Finisher,
    slot: u64,
    /// The position up to which everything is published.
    pub(crate) to: Position,
    /// The reader's marks at `to`.
    pub(crate) marks: Vec<u8>,
    /// The end of the record with which another owner took our slot.
    lost: Option<Position>,
    /// Whether uploads of dead owners are still to be cleaned up after the first record.
    cleans: bool,
    /// The checksum of the newest record, which is finished and has no mark that says so.
    unmarked: Option<String>,
}

impl Publisher {
    /// Finishes the newest record of the chain and returns how far the chain has come; `None` when it has not begun.
    ///
    /// # Errors
    /// Those of finishing.
    pub async fn resume(chain: &Chain, finisher: &Finisher) -> Result<Option<ChainProgress>> {
        let tip = chain.tip().await?;
        let (marks, began) = match &tip {
            ChainTip::Record(tip) => {
                if !tip.is_finished {
                    finisher.finish(chain, &tip.commit).await?;
                    chain.mark(tip.commit.slot, &tip.crc).await;
                }
                (tip.commit.marks.clone(), None)
            }
            ChainTip::Genesis(genesis) => (Vec::new(), genesis.began),
            ChainTip::None => (Vec::new(), None),
        };
        Ok(tip.to().map(|to| ChainProgress {
            slot: tip.slot(),
            to,
            marks,
            began,
        }))
    }

    /// Starts to publish after `after`; a chain that has not begun begins at `start`, and as `began` where the stream has
    /// no position for that. `resumed` is what [`Self::resume`] has just returned, if it was called: it spares finding the newest record again, and if another
    /// owner has continued the chain since, the first record collides.
    ///
    /// # Errors
    /// [`Error::Superseded`] when the chain ends elsewhere: open again after its position.
    pub async fn open(
        chain: Chain,
        finisher: Finisher,
        start: Position,
        began: Option<Start>,
        after: Position,
        resumed: Option<ChainProgress>,
    ) -> Result<Self> {
        let found = match resumed {
            Some(progress) => Some(progress),
            None => Self::resume(&chain, &finisher).await?,
        };
        let progress = match found {
            Some(progress) => progress,
            None => {
                let genesis = chain.begin(start, began).await?;
                ChainProgress {
                    slot: 0,
                    to: genesis.start,
                    marks: Vec::new(),
                    began: genesis.began,
                }
            }
        };
        let from = if mutant::is(Mutant::FromOfReader) {
            after
        } else {
            progress.to
        };
        if from != after || (progress.slot == 0 && progress.began != began) {
            return Err(Error::Superseded {
                shard: chain.shard.clone(),
                after: progress.to,
            });
        }
        Ok(Publisher {
            chain,
            finisher,
            slot: progress.slot,
            to: from,
            marks: progress.marks,
            lost: None,
            cleans: false,
            unmarked: None,
        })
    }

    /// Removes the uploads of dead owners: now that the newest record is finished, and once more after the first record
    /// of this owner.
    pub(crate) async fn clean_up(&mut self) {
        self.cleans = true;
        self.clean().await;
    }

    async fn clean(&self) {
        // An upload that stays only takes room; nothing waits for it.
        if let Err(error) = self.finisher.leftovers.clean(&self.chain, self.to).await {
            let shard = &self.chain.shard;
            tracing::warn!(%shard, error = %error.report(), "cannot remove uploads of dead owners");
        }
    }

    /// The slot that the next record takes.
    pub fn next_slot(&self) -> u64 {
        self.slot + 1
    }

    /// Checks that no other owner took a slot of this publisher.
    ///
    /// # Errors
    /// [`Error::Superseded`] once another owner did.
    pub fn check_owner(&self) -> Result<()> {
        match self.lost {
            None => Ok(()),
            Some(after) => Err(Error::Superseded {
                shard: self.chain.shard.clone(),
                after,
            }),
        }
    }

    /// Puts the record under the next slot and makes its files visible.
    ///
    /// # Errors
    /// [`Error::Superseded`] when another owner took the slot: its record is finished, and nothing of ours is visible.
    /// Fatal when the record does not follow the chain or its sums are wrong.
    pub async fn publish(&mut self, commit: &Commit) -> Result<()> {
        let key = self.chain.names.record(self.next_slot());
        let interval = commit.interval();
        let follows = commit.slot == self.next_slot() && interval.from == self.to;
        if !follows || self.to == Position::End {
            return Err(Error::fatal(format!(
                "the record of ({}, {}] for slot {} does not follow {} in slot {} of shard `{}`",
                interval.from, interval.to, commit.slot, self.to, self.slot, self.chain.shard,
            )));
        }
        self.check_owner()?;
        commit.counts.check(&key)?;
        let body = commit.to_body();
        let crc = sealed_crc(&body);
        let put = retry_forever("put a commit record", &self.finisher.random, async || {
            let put = self.chain.lake.put_new(&key, body.clone()).await;
            if put.is_err() && mutant::is(Mutant::UnknownPutForgotten) {
                self.forget(commit, &key).await?;
            }
            put
        });
        match put.await? {
            Put::Created => {}
            // The answer to an earlier attempt was lost: only this publisher has the nonce in the body.
            Put::Exists(found) if found == body => {}
            Put::Exists(found) => {
                let winner = self.chain.read(commit.slot, &found)?;
                self.lost = Some(winner.interval().to);
                self.discard_unnamed(commit, &winner).await?;
                self.finisher.finish(&self.chain, &winner).await?;
                if mutant::is(Mutant::RanAheadKept) {
                    (self.slot, self.to, self.lost) = (commit.slot, interval.to, None);
                }
                return self.check_owner();
            }
        }
        if mutant::is(Mutant::MarkedEarly) {
            self.chain.mark(commit.slot, &crc).await;
        }
        self.finisher.finish(&self.chain, commit).await?;
        self.unmarked = (!commit.files.is_empty()).then_some(crc);
        debug_assert!(self.to < interval.to);
        self.slot = commit.slot;
        self.to = interval.to;
        self.marks.clone_from(&commit.marks);
        if std::mem::take(&mut self.cleans) {
            self.clean().await;
        }
        Ok(())
    }

    /// The mark that is missing beside the newest record, to be put when nothing follows for a while. None is missing where
    /// the next owner has nothing to finish.
    pub(crate) fn take_mark(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (crc, slot) = (self.unmarked.take()?, self.slot);
        let chain = self.chain.clone();
        Some(async move { chain.mark(slot, &crc).await })
    }

    /// What [`Mutant::UnknownPutForgotten`] does.
    async fn forget(&self, commit: &Commit, key: &str) -> Result<()> {
        if self.chain.lake.get(key).await?.is_some() {
            return Ok(());
        }
        for file in &commit.files {
            self.chain.lake.discard(&file.sealed.upload).await?;
        }
        Err(Error::Superseded {
            shard: self.chain.shard.clone(),
            after: self.to,
        })
    }

    async fn discard_unnamed(&self, ours: &Commit, winner: &Commit) -> Result<()> {
        for file in &ours.files {
            let upload = &file.sealed.upload;
            if !winner
                .files
                .iter()
                .any(|named| named.sealed.upload == *upload)
            {
                self.chain.lake.discard(upload).await?;
            }
        }
        Ok(())
    }
}
