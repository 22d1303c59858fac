//! The seam of transforms: a batch in, a batch and what became of the rest out.
//!
//! A transform is pure and synchronous; it runs on [`crate::Workers`]. There is no way to pass a record through
//! unseen: every input record is in the output because a scan of it completed, or it is a dead letter, or a named rule
//! dropped it.

use std::fmt;
use std::sync::Arc;

use crate::batch::{AccountOf, AccountSpan, Batch};
use crate::origin::{Account, DeadLetter, Dropped};
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
    /// Input records dropped, by index, and by which rule.
    pub dropped: Vec<(u32, Arc<str>)>,
    /// How many records came in.
    pub input: u32,
}

impl Transformed {
    /// The batch with accounts for everything of it that is no record now, for a stage that follows in the same process.
    /// A dead letter counts at the position of its record, so that an interval holds the same letters however its
    /// records were cut into batches; all else counts at the end.
    pub fn into_batch(mut self, of: AccountOf) -> Batch {
        if self.input == 0 {
            return self.batch;
        }
        let mut account = Account {
            input: u64::from(self.input) - self.letters.len() as u64,
            records: self.batch.len() as u64,
            letters: Vec::new(),
            dropped: Vec::<Dropped>::new(),
        };
        for (_, rule) in &self.dropped {
            account.drop_by(rule, 1);
        }
        let mut spans: Vec<AccountSpan> = self
            .letters
            .into_iter()
            .map(|(_, letter)| AccountSpan {
                at: Position::at(letter.sequence, letter.sub),
                entry: of.clone(),
                account: Account {
                    input: 1,
                    letters: vec![letter],
                    ..Account::default()
                },
            })
            .collect();
        spans.push(AccountSpan {
            at: self.batch.to,
            entry: of,
            account,
        });
        self.batch.accounts.append(&mut spans);
        self.batch.accounts.sort_by_key(|span| span.at);
        self.batch
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
