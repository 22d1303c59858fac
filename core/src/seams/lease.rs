//! The seam of lease stores: rows that are read together and written by compare-and-swap.
//!
//! A lease is the right to work on a shard. Its `epoch` rises each time the owner changes and fences the old owner's
//! ledger writes; its `counter` rises with each renewal, so that an observer sees by its own clock that a holder has
//! gone silent. The progress of the shard lies in the same row. Epochs are compared only inside a store: the output is
//! what protects the data.
//!
//! Beside the rows lie the [`Generations`] of the app's outputs, which only an operator's `reprocess` moves and which
//! outlive the rows. A row of an earlier generation than its shard's counts for nothing.
//!
//! A store may be a table that other programs and other streams write, too, and that answers slowly and for money. So each
//! row names its stream and incarnation, and one of another stream is refused, never taken over; a store says at which
//! [`Pace`] it is to be used; and rows of shards that are gone are removed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::position::Position;
use crate::shard::{ShardId, StreamId};
use crate::start::Start;

/// Which rules an app's outputs were made by, and from where on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Digest of the policy, in hex.
    pub digest: String,
    /// The policy holds for records after this position.
    pub after: Position,
}

/// The longest [`OutputId::name`] in characters: an identity lies in every row, and some ledgers hold 4 KiB a shard.
const OUTPUT_NAME_MAX: usize = 300;

/// Identifies an output, also against an earlier one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputId {
    /// Equal for the same output only.
    pub id: String,
    /// What people call it, such as ``table `events` of file:/data/lake``.
    pub name: String,
}

impl OutputId {
    /// From an identity and a name; of a very long name the end is kept.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        let name = name.into();
        let skipped = name.chars().count().saturating_sub(OUTPUT_NAME_MAX);
        OutputId {
            id: id.into(),
            name: name.chars().skip(skipped).collect(),
        }
    }
}

/// How the identity of a stream begins.
const STREAM: &str = "stream ";
/// How the identity of a device begins.
const DEVICE: &str = "device:";
/// The identity of standard output.
const STDOUT: &str = "stdout";

impl OutputId {
    /// Of a stream with this identity.
    pub(crate) fn of_stream(id: &impl fmt::Display, url: &str) -> Self {
        OutputId::new(format!("{STREAM}{id}"), format!("{STREAM}{url}"))
    }

    /// Of standard output.
    pub fn stdout() -> Self {
        OutputId::new(STDOUT, "standard output")
    }

    /// Of the device or pipe at `path`.
    pub fn of_device(path: &str) -> Self {
        OutputId::new(format!("{DEVICE}{path}"), path)
    }

    /// Whether it takes records again that an app sends it under another generation: a stream, where they are new ones,
    /// and what keeps nothing. Other outputs know by themselves what they have.
    pub fn takes_records_again(&self) -> bool {
        self.id == STDOUT
            || [STREAM, DEVICE]
                .iter()
                .any(|kind| self.id.starts_with(kind))
    }
}

/// In which generation of an app's outputs a shard is: records of another one are other records to the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Rises with each `reprocess` of the shard.
    pub number: u64,
    /// Where this generation begins in the shard; `None` for the first one, which begins where the app does.
    pub start: Option<Position>,
    /// The same as it was asked for, in a stream that has no position for it; see [`Progress::began`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Start>,
}

impl Generation {
    /// Where this generation begins in the shard, if that is not where the app does.
    pub fn beginning(&self) -> Option<Progress> {
        self.start.map(|start| Progress {
            began: self.began,
            ..Progress::starting(start)
        })
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.start, self.began) {
            (Some(_), Some(began)) => write!(f, "from {began}"),
            (Some(start), None) => write!(f, "after {start}"),
            (None, _) => f.write_str("where the app does"),
        }
    }
}

/// The generations of an app's outputs, shard by shard.
///
/// ```
/// use std::collections::BTreeMap;
/// use hydrant_core::lease::{Generations, Progress, Reprocess};
/// use hydrant_core::{Position, ShardId};
///
/// let (one, other) = (ShardId::new("000000"), ShardId::new("000001"));
/// let first = Generations::default();
/// assert_eq!(first.of(&one).start, None, "it begins where the app does");
/// // An operator has the records of one shard sent again, after position 9.
/// let after_9 = Progress::starting(Position::offset(9));
/// let starts = BTreeMap::from([(one.clone(), after_9)]);
/// let second = first.after(&Reprocess::Only(starts)).unwrap();
/// assert_eq!(second.of(&one).start, Some(Position::offset(9)));
/// assert!(second.of(&one).number > first.of(&one).number);
/// assert_eq!(second.of(&other), first.of(&other));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generations {
    /// That of the shards that are not named, which it begins at their beginnings.
    others: u64,
    /// Those that are named.
    #[serde(default)]
    shards: BTreeMap<ShardId, Generation>,
}

/// From where on an operator has an app's records sent again, as new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reprocess {
    /// All shards: those named from where this progress begins, others from their beginnings.
    All(BTreeMap<ShardId, Progress>),
    /// Only the shards named, from where this progress begins; the others go on where they are.
    Only(BTreeMap<ShardId, Progress>),
}

impl Generations {
    /// Of a shard.
    pub fn of(&self, shard: &ShardId) -> Generation {
        self.shards.get(shard).copied().unwrap_or(Generation {
            number: self.others,
            start: (self.others > 0).then_some(Position::Begin),
            began: None,
        })
    }

    /// Whether a row is of its shard's generation.
    pub fn count(&self, row: &Lease) -> bool {
        row.generation >= self.of(&row.shard).number
    }

    /// What they are after `reprocess`. No number is used twice; `None` when there is none left, which no app lives to
    /// see unless the file was changed by hand.
    #[must_use]
    pub fn after(&self, reprocess: &Reprocess) -> Option<Generations> {
        let used = self.shards.values().map(|generation| generation.number);
        let newest = used.chain([self.others]).max().unwrap_or_default();
        let number = newest.checked_add(1)?;
        let named = |starts: &BTreeMap<ShardId, Progress>| {
            let named = starts.iter().map(|(shard, progress)| {
                let generation = Generation {
                    number,
                    start: Some(progress.to),
                    began: progress.began,
                };
                (shard.clone(), generation)
            });
            named.collect::<BTreeMap<_, _>>()
        };
        Some(match reprocess {
            Reprocess::All(starts) => Generations {
                others: number,
                shards: named(starts),
            },
            Reprocess::Only(starts) => {
                let mut next = self.clone();
                next.shards.extend(named(starts));
                next
            }
        })
    }
}

/// How far an app is in a shard, with one output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Done up to here; [`Position::End`] when the shard's end was published.
    pub to: Position,
    /// Where the app began in the shard; what lies before was never meant for the output. `None` is the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Position>,
    /// Where the app began, as it was asked for, in a stream that has no position for it; only progress at
    /// [`Position::Begin`] is still read from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Start>,
    /// The output that is this far. For another one it says nothing; `None` was written before outputs had identities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputId>,
    /// The rules the outputs were made by; a successor works by the same or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// What the reader has seen of its origins at `to`, in the stream's own form; streams that check at append have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<u8>,
    /// When the stream stored the newest record known to lie at or before `to`, microseconds since 1970: says in time how
    /// much is lost where sequence numbers do not count records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<i64>,
}

impl Progress {
    /// That of an app which begins after `start`.
    pub fn starting(start: Position) -> Self {
        Progress {
            to: start,
            start: (start != Position::Begin).then_some(start),
            ..Progress::default()
        }
    }
}

/// One row of a lease store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The shard.
    pub shard: ShardId,
    /// Who works on it; `None` when it is free.
    pub owner: Option<String>,
    /// Rises when the owner changes.
    pub epoch: u64,
    /// Rises with each write.
    pub counter: u64,
    /// How far the app is; `None` before its first checkpoint.
    pub progress: Option<Progress>,
    /// Which generation of the app's outputs this is; see [`crate::origin::WriterId::of_app`].
    pub generation: u64,
    /// Who asks the owner to hand the shard over, or for whom a free one is kept for a moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// The stream and incarnation that the shard is of; `None` was written before rows said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
}

impl Lease {
    /// A free lease without progress.
    pub fn new(shard: ShardId) -> Self {
        Lease {
            shard,
            owner: None,
            epoch: 0,
            counter: 0,
            progress: None,
            generation: 0,
            wanted: None,
            stream: None,
        }
    }

    /// The output that its owner works for, where the row says so.
    pub fn output(&self) -> Option<&OutputId> {
        self.progress.as_ref()?.output.as_ref()
    }

    /// Whether the shard's end was published.
    pub fn has_ended(&self) -> bool {
        self.progress
            .as_ref()
            .is_some_and(|progress| progress.to == Position::End)
    }
}

/// How often a store is to be asked. What a user sets outranks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// A holder that is silent for this long loses its lease. A lease is renewed each third of it.
    pub lease_time: Duration,
    /// The longest time between two readings of all rows: changes that the store does not report are seen this late.
    pub observe: Duration,
    /// The shortest time between two writes of a shard's progress. Cost: what is read again after a death.
    pub checkpoint: Duration,
}

impl Pace {
    /// Of a store in the same machine, whose reads cost nothing.
    pub const LOCAL: Pace = Pace {
        lease_time: Duration::from_secs(10),
        observe: Duration::from_secs(1),
        checkpoint: Duration::from_secs(1),
    };
}

/// What a compare-and-swap found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is made once a swap and never stored"
)]
pub enum Swap {
    /// The row is now what was written.
    Swapped,
    /// The row was another one and is unchanged; `None` without a row.
    Conflict(Option<Lease>),
}

/// The leases of one app on one stream.
///
/// ```
/// use hydrant_core::lease::{Lease, LeaseStore, Swap};
/// use hydrant_core::{Result, ShardId};
///
/// /// Takes a shard that has no owner; of two workers that try at once, one succeeds.
/// async fn take(store: &dyn LeaseStore, shard: &ShardId, worker: &str) -> Result<bool> {
///     let rows = store.list().await?;
///     let seen = rows.iter().find(|row| row.shard == *shard);
///     let mut next = match seen {
///         Some(row) if row.owner.is_some() => return Ok(false),
///         Some(row) => Lease { counter: row.counter + 1, ..row.clone() },
///         None => Lease::new(shard.clone()),
///     };
///     next.owner = Some(worker.to_owned());
///     next.epoch += 1;
///     Ok(store.swap(seen, &next).await? == Swap::Swapped)
/// }
/// ```
#[async_trait]
pub trait LeaseStore: Send + Sync + fmt::Debug {
    /// Announces a worker and keeps it alive until the answer is dropped or the process dies, where the store can
    /// tell; see [`LeaseStore::is_gone`].
    async fn register(&self, worker: &str) -> Result<Box<dyn WorkerRegistration>>;
    /// Every row, by shard name.
    async fn list(&self) -> Result<Vec<Lease>>;
    /// Writes `next` if the row is still `seen` (same epoch and counter; `None`: no row). Durable when it answers.
    /// `next.counter` is one more than that of `seen`, and 0 in a new row. A row that was written and at once written over
    /// may answer as a conflict. Swaps of different rows are asked for at the same time where there are many: a store makes
    /// them together as far as it can.
    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap>;
    /// Removes the row of a shard that is gone for good, if it is still `seen` (same epoch and counter); `Swapped` says that
    /// there is none now. Durable when it answers.
    async fn remove(&self, seen: &Lease) -> Result<Swap>;
    /// How often it is to be asked.
    fn pace(&self) -> Pace;
    /// The generations of the app's outputs. They move only while no worker is registered.
    async fn generations(&self) -> Result<Generations>;
    /// Moves the generations, durably and at once; refused while a worker of the app is registered.
    async fn reprocess(&self, what: &Reprocess) -> Result<Generations>;
    /// Whether the store knows that this worker is dead; `false` when it cannot know.
    async fn is_gone(&self, worker: &str) -> Result<bool>;
    /// Resolves when a row may have changed or a worker may have died; may never resolve where the store cannot tell.
    /// Cancel-safe.
    async fn changed(&self);
}

/// Rows of an app whose generations are these; one of an earlier generation than its shard's has no progress, since the app
/// begins there again.
pub fn rows_that_count(generations: &Generations, mut rows: Vec<Lease>) -> Vec<Lease> {
    for row in rows.iter_mut().filter(|row| !generations.count(row)) {
        row.progress = None;
    }
    rows
}

/// A worker's presence in a lease store.
pub trait WorkerRegistration: Send + Sync + fmt::Debug {}

impl<T: Send + Sync + fmt::Debug> WorkerRegistration for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_an_output_is_read_and_written_as_it_was() {
        let text = r#"{"shard":"a","owner":null,"epoch":1,"counter":2,"progress":{"to":"End"},"generation":0}"#;
        let row: Lease = serde_json::from_str(
            &text.replace(r#""End""#, &serde_json::to_string(&Position::End).unwrap()),
        )
        .unwrap();
        assert!(row.has_ended() && row.output().is_none());
        assert!(!serde_json::to_string(&row).unwrap().contains("output"));
    }

    #[test]
    fn reprocessing_uses_no_generation_twice() {
        let at = |shard: &str, offset| {
            let start = Progress::starting(Position::offset(offset));
            BTreeMap::from([(shard.into(), start)])
        };
        let numbers = |all: &Generations| ["a", "b", "new"].map(|id| all.of(&id.into()).number);
        let none = Generations::default();
        assert_eq!(none.of(&"a".into()), Generation::default());
        let one = none.after(&Reprocess::Only(at("a", 7))).unwrap();
        assert_eq!(numbers(&one), [1, 0, 0]);
        assert_eq!(one.of(&"a".into()).start, Some(Position::offset(7)));
        let all = one.after(&Reprocess::All(at("b", 9))).unwrap();
        assert_eq!(numbers(&all), [2, 2, 2]);
        let starts = ["a", "b"].map(|id| all.of(&id.into()).start);
        assert_eq!(starts, [Some(Position::Begin), Some(Position::offset(9))]);
        let again = all.after(&Reprocess::Only(at("b", 1))).unwrap();
        assert_eq!(numbers(&again), [2, 3, 2]);
        let text = serde_json::to_string(&again).unwrap();
        assert_eq!(serde_json::from_str::<Generations>(&text).unwrap(), again);
        let mut row = Lease::new("b".into());
        assert!(none.count(&row) && !again.count(&row));
        row.generation = 3;
        assert!(again.count(&row));
    }

    #[test]
    fn a_generation_keeps_a_start_as_it_was_asked_for() {
        let asked = Progress {
            began: Some(Start::At(7)),
            ..Progress::default()
        };
        let all = Reprocess::All(BTreeMap::from([("a".into(), asked.clone())]));
        let next = Generations::default().after(&all).unwrap();
        let text = serde_json::to_string(&next).unwrap();
        let next: Generations = serde_json::from_str(&text).unwrap();
        assert_eq!(next.of(&"a".into()).beginning(), Some(asked));
        assert_eq!(next.of(&"b".into()).beginning(), Some(Progress::default()));
        assert_eq!(Generation::default().beginning(), None);
    }

    #[test]
    fn there_is_no_generation_after_the_last_one() {
        let text = format!("{{\"others\":{}}}", u64::MAX);
        let last: Generations = serde_json::from_str(&text).unwrap();
        assert_eq!(last.after(&Reprocess::All(BTreeMap::new())), None);
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        let name = format!("{}/lake", "ä".repeat(5000));
        let id = OutputId::new("1", name);
        assert!(id.name.ends_with("ä/lake") && id.name.chars().count() == OUTPUT_NAME_MAX);
    }
}
