//! Splits a batch into the records that are copied, those that a filter drops, and those that cannot be copied.
//!
//! Poison is a record that a filter cannot read, that a format cannot express, or over which either of them panics.
//! Unless the user chooses otherwise it becomes a dead letter. It never ends a copy silently, and never blocks one
//! without the user's choice.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::batch::Batch;
use hydrant_core::error::{Error, Result};
use hydrant_core::hash;
use hydrant_core::origin::{DeadLetter, Texts};
use hydrant_core::transform::{Source, Transform, Transformed};
use hydrant_core::workers::{INTERNAL_FAULT, contain_each};

use super::STAGE;
use super::filter::{Filter, all_hold};
use super::format::{CopyFormat, PoisonReason};
use super::tally::{CopyCounts, CopyTally};

/// What to do with a record that cannot be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPoison {
    /// The shard waits at the batch that holds the record and tries again: for formats and filters that are about to
    /// be changed.
    Retry,
    /// The record becomes a dead letter with its position and the reason and without payload, and the copy continues.
    /// The dead letter goes into the stream, into `FILE.dead-letters.ndjson` beside a file, or into the log beside
    /// standard output.
    DeadLetter,
    /// The copy ends with an error that names the position.
    Stop,
}

impl OnPoison {
    /// The choices by name.
    pub const CHOICES: &[(&str, OnPoison)] = &[
        ("retry", OnPoison::Retry),
        ("dead-letter", OnPoison::DeadLetter),
        ("stop", OnPoison::Stop),
    ];
}

/// How long a shard waits at a record that cannot be copied before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The rule that accounts for records that no filter takes.
const FILTER_RULE: &str = "filter";

/// The filters of a copy and what to do with poison.
#[derive(Clone, Debug)]
pub struct RecordFilter {
    filters: Vec<Filter>,
    on_poison: OnPoison,
    /// The digest of the rules in hex; a copy into a stream is pinned to it.
    digest: String,
    /// Counts the records that were copied; shared by all clones.
    pub(crate) tally: Arc<CopyTally>,
}

/// The verdicts of the filters on the records of a batch, by index.
#[derive(Debug, Default)]
struct FilteredBatch {
    accepted: Vec<u32>,
    poison: Vec<(u32, PoisonReason)>,
    dropped: Vec<u32>,
}

/// Records as text, and those that became dead letters.
#[derive(Debug, Default)]
pub(crate) struct CopiedText {
    pub(crate) text: Vec<u8>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    pub(crate) counts: CopyCounts,
}

impl RecordFilter {
    /// Creates a filter that takes the records that match all `filters`.
    pub fn new(filters: Vec<Filter>, on_poison: OnPoison) -> Self {
        let texts: Vec<_> = filters.iter().map(Filter::to_string).collect();
        let mut parts: Vec<&[u8]> = vec![b"copy", on_poison.name().as_bytes()];
        parts.extend(texts.iter().map(String::as_bytes));
        RecordFilter {
            digest: format!("{:032x}", hash::identity(&parts)),
            filters,
            on_poison,
            tally: Arc::default(),
        }
    }

    /// Sorts the records of a batch into accepted, dropped and poison.
    fn judge(&self, batch: &Batch) -> FilteredBatch {
        let mut filtered = FilteredBatch::default();
        let step = |filtered: &mut FilteredBatch, index: usize| {
            let entry = &batch.records[index];
            let payload = (!batch.is_tombstone(index)).then(|| batch.payload(entry));
            let holds = all_hold(&self.filters, batch.key(entry), payload);
            let index = index as u32;
            match holds {
                Ok(true) => filtered.accepted.push(index),
                Ok(false) => filtered.dropped.push(index),
                Err(reason) => filtered.poison.push((index, reason)),
            }
            ControlFlow::<()>::Continue(())
        };
        let faulted = |filtered: &mut FilteredBatch, index| {
            filtered.poison.push((index as u32, INTERNAL_FAULT));
        };
        let _all = contain_each(&mut filtered, 0..batch.len(), step, faulted);
        filtered
    }

    fn dead_letters(
        &self,
        batch: &Batch,
        poison: Vec<(u32, PoisonReason)>,
        source: Source<'_>,
    ) -> Result<Vec<(u32, DeadLetter)>> {
        let stream: Arc<str> = source.stream.to_string().into();
        let mut texts = Texts::default();
        let mut dead_letters = Vec::with_capacity(poison.len());
        for (index, reason) in poison {
            let entry = &batch.records[index as usize];
            let (sequence, sub) = batch.position(index as usize);
            let place = || format!("the record at {sequence}.{sub} of shard `{}`", source.shard);
            if reason == INTERNAL_FAULT {
                tracing::error!(
                    shard = %source.shard, %sequence, sub,
                    "a filter or format panicked on a record, which is a fault of hydrant: the record cannot be \
                     copied, please report this",
                );
            }
            match self.on_poison {
                OnPoison::DeadLetter => {}
                OnPoison::Retry => {
                    return Err(Error::Unavailable {
                        message: format!("{} cannot be copied: {reason}", place()),
                        after: RETRY_AFTER,
                    });
                }
                OnPoison::Stop => {
                    return Err(Error::fatal(format!(
                        "{} cannot be copied: {reason}; look at it with `hydrant stream get`, or continue with \
                         `--on-poison dead-letter`",
                        place()
                    )));
                }
            }
            dead_letters.push((
                index,
                DeadLetter {
                    stream: Arc::clone(&stream),
                    shard: source.shard.clone(),
                    sequence,
                    sub,
                    // The key was not scanned and may be personal.
                    key: None,
                    stage: texts.share(STAGE),
                    reason: texts.share(reason),
                    detail: String::new(),
                    length: u64::from(entry.payload.len),
                    time: source.now,
                },
            ));
        }
        Ok(dead_letters)
    }

    /// Returns the accepted records as text, in order.
    pub(crate) fn text(
        &self,
        batch: &Batch,
        format: CopyFormat,
        source: Source<'_>,
    ) -> Result<CopiedText> {
        let FilteredBatch {
            accepted,
            mut poison,
            dropped,
        } = self.judge(batch);
        let place = (source.stream, source.shard);
        let mut text = Vec::with_capacity(batch.payload_len() as usize + accepted.len());
        poison.extend(format.write(batch, &accepted, place, &mut text));
        poison.sort_unstable();
        let dead_letters = self.dead_letters(batch, poison, source)?;
        let (filtered, refused) = (dropped.len() as u64, dead_letters.len() as u64);
        Ok(CopiedText {
            counts: CopyCounts {
                written: batch.len() as u64 - filtered - refused,
                filtered,
                dead_letters: refused,
                duplicates: 0,
            },
            text,
            dead_letters: dead_letters.into_iter().map(|(_, letter)| letter).collect(),
        })
    }
}

impl Transform for RecordFilter {
    /// Returns the accepted records as a batch, with the account of all others.
    fn apply(&self, mut batch: Batch, source: Source<'_>) -> Result<Transformed> {
        let FilteredBatch {
            accepted: sources,
            poison,
            dropped,
        } = self.judge(&batch);
        let input = batch.len() as u32;
        let dead_letters = self.dead_letters(&batch, poison, source)?;
        batch.keep(&sources);
        debug_assert_eq!(
            input as usize,
            sources.len() + dead_letters.len() + dropped.len(),
            "each record is accounted for once"
        );
        let rule: Arc<str> = FILTER_RULE.into();
        Ok(Transformed {
            rekeyed: vec![false; sources.len()],
            sources,
            dead_letters,
            dropped: dropped
                .into_iter()
                .map(|index| (index, Arc::clone(&rule)))
                .collect(),
            input,
            batch,
        })
    }

    fn digest(&self) -> &str {
        &self.digest
    }
}

impl OnPoison {
    fn name(self) -> &'static str {
        Self::CHOICES
            .iter()
            .find(|(_, choice)| *choice == self)
            .map_or("", |(name, _)| name)
    }
}
