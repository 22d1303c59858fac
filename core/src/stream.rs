//! The seam of streams: shards to read, appends to make, an administration.
//!
//! What fits behind it was argued against three systems: an embedded log and Kinesis, where readers share shards by
//! leases, and Kafka, whose broker hands partitions out ([`Assignment`] is the difference). Readers prefetch against a
//! [`Budget`]; writers acknowledge only what is stored durably.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde::Serialize;

use crate::admin::Admin;
use crate::batch::Batch;
use crate::budget::{Budget, Permit};
use crate::error::Result;
use crate::hash::Routing;
use crate::lease::{Lease, LeaseStore};
use crate::origin::{DeadLetter, Origin, OriginEntry, WriterId};
use crate::position::Position;
use crate::shard::{HashRange, ShardId, ShardMap, StreamId};
use crate::subscription::Subscription;

/// What a reader gives.
#[derive(Debug)]
pub enum Read {
    /// Records, accounts, or both.
    Batch(Batch),
    /// Nothing more for now.
    Idle {
        /// Done up to here when everything before is: lets holes pass that hold no record.
        through: Position,
    },
    /// Records that are lost to this reader: retention passed, or an operator skipped corrupt data.
    Gap {
        /// What was done before.
        from: Position,
        /// Where reading goes on: the last position that is lost.
        to: Position,
        /// Why, in words.
        why: String,
    },
    /// The shard has ended and everything was read.
    End {
        /// Who took over.
        children: Vec<ShardId>,
    },
}

/// Reads one shard in order.
#[async_trait]
pub trait ShardReader: Send + fmt::Debug {
    /// Starts after `after`, once, before the first [`ShardReader::next`].
    async fn open(&mut self, after: Position) -> Result<()>;
    /// Waits for what comes next. A batch holds its bytes' permit. [`Read::Idle`] comes once each time the tip is
    /// reached; the next call then waits for an append. Cancel-safe: a dropped call has read nothing.
    async fn next(&mut self) -> Result<Read>;
}

/// An upstream unit of an append that is not a record.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Where it came from: the log cuts units like records, by origin and route.
    pub origin: Origin,
    /// Its route hash.
    pub route: u128,
    /// What it is.
    pub what: UnitKind,
}

/// What a [`Unit`] is.
#[derive(Clone, Debug)]
pub enum UnitKind {
    /// A dead letter: one unit.
    Letter(DeadLetter),
    /// Drops by one rule: `count` units.
    Dropped {
        /// The rule.
        rule: Arc<str>,
        /// How many.
        count: u64,
    },
}

impl Unit {
    /// How many upstream units it counts for.
    pub fn count(&self) -> u64 {
        match &self.what {
            UnitKind::Letter(_) => 1,
            UnitKind::Dropped { count, .. } => *count,
        }
    }

    /// The bytes that it takes in memory.
    pub fn memory_bytes(&self) -> u64 {
        let texts = match &self.what {
            UnitKind::Letter(letter) => letter.memory_bytes() - size_of::<DeadLetter>() as u64,
            UnitKind::Dropped { .. } => 0,
        };
        size_of::<Self>() as u64 + texts
    }
}

/// How far an origin is confirmed in a part of a shard.
///
/// With [`OriginEntry::to`] it is a claim: of that origin, in that range, nothing in `(from, to]` is outside of the
/// append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedRange {
    /// The part.
    pub range: HashRange,
    /// Everything of the origin up to here that routes into the part is in the log.
    pub from: Position,
}

/// One append to a shard.
#[derive(Debug, Default)]
pub struct Append {
    /// Where the bytes are.
    pub batch: Arc<Batch>,
    /// Which records of the batch, in order.
    pub picks: Arc<[u32]>,
    /// The route hash of each pick.
    pub routes: Arc<[u128]>,
    /// Whether the route hashes are stored: a reader cannot compute them from the keys.
    pub explicit: bool,
    /// The origins; `None` for records of which nobody keeps track, which may be doubled by a retry. Its `account` is
    /// filled by the writer from `input` and what it kept.
    pub entry: Option<OriginEntry>,
    /// What the sender claims of the entry's origin. The parts tile the range of the shard as the sender knows it, each
    /// with a value of its own: the least one would deny what was confirmed in the others. A log that checks at append
    /// goes by the least all the same, which is the entry's `from`. Empty without an entry.
    pub claims: Vec<ClaimedRange>,
    /// Upstream units that this append answers for, counted before the work was done; `None` for a producer. What the
    /// shard has already is subtracted, so that each unit is accounted for once however batches are cut.
    pub input: Option<u64>,
    /// The units that are not records, by origin. Who submits them counts what they take in memory.
    pub units: Arc<Vec<Unit>>,
    /// The bytes that the append holds until it is stored.
    pub permit: Permit,
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The shard that took it. Another one than the append was handed in for says that the sender's map is old, and that
    /// everything that was stored with the append lies in this shard's range; the claims hold in that range only.
    pub shard: ShardId,
    /// The last position that the append took; `None` when it was a duplicate as a whole.
    pub last: Option<Position>,
    /// Records that the shard had already.
    pub duplicates: u64,
}

/// The keys that the records of a stream can have. Every stream takes records without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// Any bytes.
    Any,
    /// Text in UTF-8 of at least one character.
    Text {
        /// The most characters.
        chars_max: usize,
    },
}

impl KeyRule {
    /// Why no record can have this key, by a code of dead letters; `None` when one can.
    pub fn misfit(self, key: &[u8]) -> Option<&'static str> {
        let KeyRule::Text { chars_max } = self else {
            return None;
        };
        match std::str::from_utf8(key) {
            Err(_) => Some("key_not_text"),
            Ok("") => Some("key_empty"),
            // A text has no more characters than bytes.
            Ok(text) if text.len() > chars_max && text.chars().count() > chars_max => {
                Some("key_too_long")
            }
            Ok(_) => None,
        }
    }
}

/// Where an origin began in a part of a shard, beyond the beginning of its upstream shard.
///
/// What lies at or before the start was passed over: an append that holds something of it is refused
/// ([`crate::Error::Rewound`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Who writes.
    pub writer: WriterId,
    /// The upstream shard.
    pub upstream: ShardId,
    /// Where it began.
    pub start: Position,
}

/// Resolves when the append is durable, or was found to be and is durable.
pub type Ticket = BoxFuture<'static, Result<Appended>>;

/// Appends to a stream's shards.
#[async_trait]
pub trait StreamWriter: Send + Sync + fmt::Debug {
    /// Hands an append in; waits for room in this shard, never for another one. The order of calls for one shard is the
    /// order in the log, and an append whose predecessor of the same origin failed is refused
    /// ([`crate::Error::OutOfOrder`]).
    async fn submit(&self, shard: &ShardId, append: Append) -> Result<Ticket>;
    /// The origins that began in a shard beyond the beginning of their upstream shard. Waits for no writer; empty where
    /// appends are not checked.
    async fn begun(&self, shard: &ShardId) -> Result<Vec<Begun>>;
    /// For how long after its answer an append may still be placed behind one that another client handed in later; zero
    /// for a log in the order of its answers. A checkpoint is claimed ([`OriginEntry::low`]) when it is as old.
    fn reorders_within(&self) -> Duration;
    /// How keys route, for as long as the stream exists.
    fn routing(&self) -> Routing;
    /// The keys that a record can have.
    fn keys(&self) -> KeyRule;
    /// The largest sum of key and payload bytes of one record.
    fn record_bytes_max(&self) -> usize;
    /// The largest sum of key and payload bytes of one append, and the size worth aiming at.
    fn append_bytes_target(&self) -> usize;
}

/// Where an app starts that has no progress yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record kept.
    Earliest,
    /// After the newest record.
    Latest,
    /// At the first record that arrived at this time or later, microseconds since 1970.
    At(i64),
}

/// The text says no start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a start: write `earliest`, `latest` or a time such as `2026-11-21T08:00:00Z`"
)]
pub struct ParseStartError(String);

impl FromStr for Start {
    type Err = ParseStartError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => return Ok(Start::Earliest),
            "latest" => return Ok(Start::Latest),
            _ => {}
        }
        let bad = || ParseStartError(text.to_owned());
        let time = humantime::parse_rfc3339_weak(text).map_err(|_| bad())?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| bad())?;
        let micros = i64::try_from(since.as_micros()).map_err(|_| bad())?;
        Ok(Start::At(micros))
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Earliest => f.write_str("earliest"),
            Start::Latest => f.write_str("latest"),
            Start::At(micros) => {
                let since = Duration::from_micros(u64::try_from(*micros).unwrap_or_default());
                let time = humantime::format_rfc3339_micros(UNIX_EPOCH + since);
                write!(f, "{time}")
            }
        }
    }
}

/// How the shards of a stream come to a worker.
pub enum Assignment {
    /// Workers share them by leases.
    Leases(Arc<dyn LeaseStore>),
    /// The stream's broker hands them out.
    Broker(Box<dyn Subscription>),
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Assignment::Leases(_) => "Leases",
            Assignment::Broker(_) => "Broker",
        })
    }
}

/// How full a shard is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardState {
    /// The shard.
    pub shard: crate::shard::Shard,
    /// The last durable position; `Begin` for an empty shard.
    pub tip: Position,
    /// The oldest position still kept, exclusive: reading after it loses nothing.
    pub kept_after: Position,
    /// Records appended over the shard's life, where the stream counts them.
    pub records: Option<u64>,
    /// Bytes on disk or in the service, where known.
    pub bytes: Option<u64>,
    /// When the newest record was stored, microseconds since 1970.
    pub newest_arrival: Option<i64>,
}

/// A sharded stream.
#[async_trait]
pub trait Stream: Send + Sync + fmt::Debug {
    /// Name and incarnation.
    fn id(&self) -> &StreamId;
    /// The URL that opens it, without secrets.
    fn url(&self) -> &str;
    /// The shards now.
    async fn shards(&self) -> Result<ShardMap>;
    /// Resolves when the shard map may have changed. Cancel-safe.
    async fn shards_changed(&self) -> Result<()>;
    /// How full each shard is, by shard name.
    async fn states(&self) -> Result<Vec<ShardState>>;
    /// How full one shard is, at a cost that does not grow with the number of shards.
    async fn state(&self, shard: &ShardId) -> Result<ShardState>;
    /// The position to read after, for an app without progress.
    async fn start(&self, shard: &ShardId, start: Start) -> Result<Position>;
    /// A reader of one shard that prefetches within `budget`.
    async fn reader(&self, shard: &ShardId, budget: &Budget) -> Result<Box<dyn ShardReader>>;
    /// A writer; clones of the `Arc` share its connections and its order.
    async fn writer(&self) -> Result<Arc<dyn StreamWriter>>;
    /// How an app's workers share the shards.
    async fn assignment(&self, app: &str) -> Result<Assignment>;
    /// The apps that keep progress in this stream, where it can tell; none where it cannot.
    async fn apps(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// How far an app is, a row for each shard that it has progress in, without joining it: nothing is made or moved. A
    /// row of an earlier generation than its shard's has no progress.
    async fn app_progress(&self, _app: &str) -> Result<Vec<Lease>> {
        Ok(Vec::new())
    }
    /// What an operator can do with it from here.
    fn admin(&self) -> Admin {
        Admin::default()
    }
}

/// A shared stream.
pub type SharedStream = Arc<dyn Stream>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_judged_by_its_characters() {
        let text = KeyRule::Text { chars_max: 3 };
        for (key, misfit) in [
            ("abc".as_bytes(), None),
            ("äöü".as_bytes(), None),
            (b"abcd", Some("key_too_long")),
            ("äöüß".as_bytes(), Some("key_too_long")),
            (b"", Some("key_empty")),
            (b"a\xff", Some("key_not_text")),
        ] {
            assert_eq!(text.misfit(key), misfit, "{key:?}");
            assert_eq!(KeyRule::Any.misfit(key), None);
        }
    }

    #[test]
    fn a_start_is_read_from_what_it_shows() {
        for start in [
            Start::Earliest,
            Start::Latest,
            Start::At(1_795_248_000_250_000),
        ] {
            assert_eq!(start.to_string().parse::<Start>(), Ok(start));
        }
        assert_eq!(
            "2026-11-21 08:00:00".parse(),
            Ok(Start::At(1_795_248_000_000_000))
        );
        for text in ["", "now", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert!(text.parse::<Start>().is_err(), "{text}");
        }
    }
}
