//! The seam of transforms: a batch in, a batch and what became of the rest out.
//!
//! A transform is pure and synchronous; it runs on [`crate::Workers`]. There is no way to pass a record through
//! unseen: every input record is in the output because a scan of it completed, or it is a dead letter, or a named rule
//! dropped it.

use std::fmt;
use std::sync::Arc;

use crate::batch::{AccountOf, AccountSpan, Batch, Run, position_in_runs};
use crate::origin::{Account, DeadLetter};
use crate::position::Position;
use crate::shard::{ShardId, StreamId};

/// What a transform made of a batch.
#[derive(Debug, Default)]
pub struct Transformed {
    /// The records that go on, with the positions of their inputs. Unchanged ones point into the old segments. It has
    /// the input's `to` and permit, no origins, and the accounts that came in.
    pub batch: Batch,
    /// For each record that goes on: the index of its input record.
    pub sources: Vec<u32>,
    /// For each record that goes on: whether its key was changed.
    pub rekeyed: Vec<bool>,
    /// Input records that cannot be processed, by index.
    pub letters: Vec<(u32, DeadLetter)>,
    /// Input records dropped, by index in their order, and by which rule.
    pub dropped: Vec<(u32, Arc<str>)>,
    /// How many records came in.
    pub input: u32,
}

impl Transformed {
    /// The batch with accounts for everything of it that is not a record any more, for a stage that follows in the same process.
    /// `runs` are the positions of the records that came in. A dead letter counts at the position of its record, and what
    /// was dropped between two records that go on at the last position dropped: so an interval holds the same letters and
    /// drops however its records were cut into batches, and one that ends at a record ends between two accounts.
    pub fn into_batch(self, of: AccountOf, runs: &[Run]) -> Batch {
        let Transformed {
            mut batch,
            sources,
            letters,
            dropped,
            input,
            ..
        } = self;
        if input == 0 {
            return batch;
        }
        let span = |at, account| AccountSpan {
            at,
            entry: of.clone(),
            account,
        };
        batch.accounts.reserve_exact(letters.len() + 1);
        batch
            .accounts
            .extend(letters.into_iter().map(|(_, letter)| {
                let at = Position::at(letter.sequence, letter.sub);
                let account = Account {
                    input: 1,
                    letters: vec![letter],
                    ..Account::default()
                };
                span(at, account)
            }));
        // The records that go on and are in no account yet start with this one.
        let mut counted = 0;
        let kept_before = |index: u32| sources.partition_point(|source| *source < index);
        for together in dropped.chunk_by(|a, b| kept_before(a.0) == kept_before(b.0)) {
            let Some((last, _)) = together.last() else {
                continue;
            };
            let kept = kept_before(*last) as u64;
            let mut account = Account {
                input: kept - counted + together.len() as u64,
                records: kept - counted,
                ..Account::default()
            };
            counted = kept;
            for (_, rule) in together {
                account.drop_by(rule, 1);
            }
            let (sequence, sub) = position_in_runs(runs, *last as usize);
            batch
                .accounts
                .push(span(Position::at(sequence, sub), account));
        }
        let kept = batch.len() as u64 - counted;
        let account = Account {
            input: kept,
            records: kept,
            ..Account::default()
        };
        batch.accounts.push(span(batch.to, account));
        // Sorting takes as much memory again, whatever there is to sort.
        if !batch.accounts.is_sorted_by_key(|span| span.at) {
            batch.accounts.sort_by_key(|span| span.at);
        }
        batch
    }
}

/// Where a batch came from, for the dead letters of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The stream.
    pub stream: &'a StreamId,
    /// The shard.
    pub shard: &'a ShardId,
    /// Wall time in microseconds since 1970.
    pub now: i64,
}

/// Rules applied to batches.
pub trait Transform: Send + Sync + fmt::Debug {
    /// Applies the rules. The records that come out are a function of the records that went in; `source` is for dead
    /// letters only.
    fn apply(&self, batch: Batch, source: Source<'_>) -> Transformed;
    /// The digest of the rules, in hex: it tells whether two workers would make the same of a record.
    fn digest(&self) -> &str;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Entry, RunBuilder, Span, Step};
    use crate::origin::WriterId;

    /// `k` goes on, `l` is a letter, `a` and `b` are dropped by these rules.
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
                    done.letters.push((index, letter));
                }
                rule => done.dropped.push((index, rule.to_string().into())),
            }
        }
        done.batch.runs = kept.finish();
        (done, all.finish())
    }

    #[test]
    fn whatever_record_an_interval_ends_at_its_accounts_are_those_of_what_came_before() {
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
                let letters = sum(&|account| account.letters.len() as u64);
                assert_eq!(letters, count("l") as u64, "{fates} up to {index}");
            }
            let input: u64 = batch.accounts.iter().map(|span| span.account.input).sum();
            assert_eq!(input, fates.len() as u64, "{fates}");
        }
    }
}
