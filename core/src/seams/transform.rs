//! The seam of transforms: a batch goes in; a batch, dead letters and drops come out.
//!
//! A transform is pure and synchronous; it runs on [`crate::Workers`]. No record passes unseen: each input record is in
//! the output because its scan completed, or it is a dead letter, or a named rule dropped it.

use std::fmt;
use std::sync::Arc;

use crate::batch::{AccountOf, AccountSpan, Batch, Run, Step, position_in_runs};
use crate::error::Result;
use crate::origin::{Account, DeadLetter};
use crate::position::Position;
use crate::shard::{ShardId, StreamId};

/// The result of a transform for one batch.
#[derive(Debug, Default)]
pub struct Transformed {
    /// The records that remain, at the positions of their inputs. Unchanged ones point into the old segments. The batch
    /// has the input's `to`, permit and accounts, and no origins.
    pub batch: Batch,
    /// For each record that remains: the index of its input record.
    pub sources: Vec<u32>,
    /// For each record that remains: whether its key was changed.
    pub rekeyed: Vec<bool>,
    /// The dead letters of input records that cannot be processed, with the index of each.
    pub dead_letters: Vec<(u32, DeadLetter)>,
    /// The dropped input records in order: the index of each, and the rule that dropped it.
    pub dropped: Vec<(u32, Arc<str>)>,
    /// The number of input records.
    pub input: u32,
}

impl Transformed {
    /// The batch with accounts for the dead letters and drops, for a stage that follows in the same process. `runs`
    /// holds the positions of the input records. A dead letter counts at the position of its record. Drops between two
    /// remaining records, of one sequence number where several records have one, count at the position of the last one
    /// dropped. The records account for themselves, one by one ([`Batch::accounts_records`]). So an interval accounts for
    /// the same units however its records were cut into batches, and one that ends at a record ends between two accounts.
    pub fn into_batch(self, of: AccountOf, runs: &[Run]) -> Batch {
        let Transformed {
            mut batch,
            sources,
            dead_letters,
            dropped,
            input,
            ..
        } = self;
        debug_assert_eq!(
            batch.len() + dead_letters.len() + dropped.len(),
            input as usize,
            "each input record is a record, a dead letter or dropped"
        );
        if input == 0 {
            return batch;
        }
        let span = |at, account| AccountSpan {
            at,
            entry: of.clone(),
            account,
        };
        batch.accounts.reserve_exact(dead_letters.len());
        batch
            .accounts
            .extend(dead_letters.into_iter().map(|(_, letter)| {
                let at = Position::at(letter.sequence, letter.sub);
                let account = Account {
                    input: 1,
                    dead_letters: vec![letter],
                    ..Account::default()
                };
                span(at, account)
            }));
        let kept_before = |index: u32| sources.partition_point(|source| *source < index);
        // What was dropped of an aggregate counts in it, so that an interval can end behind the aggregate.
        let has_aggregates = runs.iter().any(|run| run.step == Step::Sub);
        let of_one_aggregate = |a: u32, b: u32| {
            let sequence = |index: u32| position_in_runs(runs, index as usize).0;
            !has_aggregates || sequence(a) == sequence(b)
        };
        for together in dropped
            .chunk_by(|a, b| kept_before(a.0) == kept_before(b.0) && of_one_aggregate(a.0, b.0))
        {
            let Some((last, _)) = together.last() else {
                continue;
            };
            let mut account = Account {
                input: together.len() as u64,
                ..Account::default()
            };
            for (_, rule) in together {
                account.drop_by(rule, 1);
            }
            let (sequence, sub) = position_in_runs(runs, *last as usize);
            batch
                .accounts
                .push(span(Position::at(sequence, sub), account));
        }
        // An interval may end between any two records.
        batch.accounts_records = Some(Arc::new(of));
        // Sorting takes as much memory again, even for sorted accounts.
        if !batch.accounts.is_sorted_by_key(|span| span.at) {
            batch.accounts.sort_by_key(|span| span.at);
        }
        batch
    }
}

/// The origin of a batch, for its dead letters.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The stream.
    pub stream: &'a StreamId,
    /// The shard.
    pub shard: &'a ShardId,
    /// Wall time in microseconds since 1970.
    pub now: i64,
}

/// Applies rules to batches.
///
/// ```
/// use hydrant_core::{Batch, Result, ShardId, StreamId};
/// use hydrant_core::transform::{Source, Transform, Transformed};
///
/// /// Passes all records.
/// #[derive(Debug)]
/// struct PassAll;
///
/// impl Transform for PassAll {
///     fn apply(&self, batch: Batch, _source: Source<'_>) -> Result<Transformed> {
///         Ok(Transformed {
///             sources: (0..batch.len() as u32).collect(),
///             rekeyed: vec![false; batch.len()],
///             input: batch.len() as u32,
///             batch,
///             ..Transformed::default()
///         })
///     }
///     fn digest(&self) -> &str {
///         "pass-all-1"
///     }
/// }
///
/// let source = Source { stream: &StreamId::new("raw", "1"), shard: &ShardId::new("000000"), now: 0 };
/// let transformed = PassAll.apply(Batch::default(), source).unwrap();
/// assert_eq!(transformed.sources.len() + transformed.dead_letters.len(), transformed.input as usize);
/// ```
pub trait Transform: Send + Sync + fmt::Debug {
    /// Applies the rules. The output is a function of the input records; `source` is for dead letters only.
    ///
    /// # Errors
    /// Where the rules say that the shard waits at a record, or that the run ends with it.
    fn apply(&self, batch: Batch, source: Source<'_>) -> Result<Transformed>;
    /// The digest of the rules, in hex: two workers with the same digest make the same output of a record.
    fn digest(&self) -> &str;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Entry, RunBuilder, Span, Step};
    use crate::origin::WriterId;

    /// `k` remains, `l` is a dead letter, and the rules `a` and `b` drop the others.
    fn transformed(fates: &str) -> (Transformed, Vec<Run>) {
        let entry = Entry {
            segment: 0,
            key: None,
            payload: Span::default(),
            stamp: 0,
        };
        let (mut all, mut kept) = (RunBuilder::default(), RunBuilder::default());
        let mut done = Transformed {
            input: fates.len() as u32,
            ..Transformed::default()
        };
        for (index, fate) in (0_u32..).zip(fates.chars()) {
            // A hole after every third record.
            let sequence = (u64::from(index) + u64::from(index) / 3).into();
            all.push(sequence, 0, Step::Sequence, 0);
            done.batch.to = Position::at(sequence, 0);
            match fate {
                'k' => {
                    kept.push(sequence, 0, Step::Sequence, 0);
                    done.batch.records.push(entry);
                    done.sources.push(index);
                    done.rekeyed.push(false);
                }
                'l' => {
                    let letter = DeadLetter {
                        stream: "s@1".into(),
                        shard: "0".into(),
                        sequence,
                        sub: 0,
                        key: None,
                        stage: "t".into(),
                        reason: "r".into(),
                        detail: String::new(),
                        length: 0,
                        time: 0,
                    };
                    done.dead_letters.push((index, letter));
                }
                rule => done.dropped.push((index, rule.to_string().into())),
            }
        }
        done.batch.runs = kept.finish();
        (done, all.finish())
    }

    #[test]
    fn accounts_up_to_any_record_count_the_letters_and_drops_before_it() {
        let of = AccountOf {
            writer: WriterId(1),
            shard: "0".into(),
        };
        for fates in [
            "kkk",
            "aka",
            "kabkllakab",
            "abab",
            "llkl",
            "kakakakaka",
            "bkbbkalakk",
        ] {
            let (done, runs) = transformed(fates);
            let positions: Vec<Position> = (0..fates.len())
                .map(|index| {
                    let (sequence, sub) = position_in_runs(&runs, index);
                    Position::at(sequence, sub)
                })
                .collect();
            let batch = done.into_batch(of.clone(), &runs);
            assert!(batch.accounts.iter().all(|span| span.account.balances()));
            for (index, fate) in fates.char_indices() {
                let ends_here = fate == 'k' || index + 1 == fates.len();
                if !ends_here {
                    continue;
                }
                let sum = |of: &dyn Fn(&Account) -> u64| -> u64 {
                    let spans = batch.accounts.iter();
                    let before = spans.filter(|span| span.at <= positions[index]);
                    before.map(|span| of(&span.account)).sum()
                };
                let so_far = &fates[..=index];
                let count = |wanted: &str| so_far.chars().filter(|c| wanted.contains(*c)).count();
                let drops = sum(&|account| account.dropped.iter().map(|d| d.count).sum());
                assert_eq!(drops, count("ab") as u64, "{fates} up to {index}");
                let dead_letters = sum(&|account| account.dead_letters.len() as u64);
                assert_eq!(dead_letters, count("l") as u64, "{fates} up to {index}");
                let records = batch.records_up_to(positions[index]);
                let input = sum(&|account| account.input) + records as u64;
                assert_eq!(input, so_far.len() as u64, "{fates} up to {index}");
            }
            assert_eq!(batch.accounts_records.as_deref(), Some(&of), "{fates}");
        }
    }
}
