//! The seam of streams: shards to read, appends to make, an administration.
//!
//! What fits behind it was argued against three systems: an embedded log and Kinesis, where readers share shards by
//! leases, and Kafka, whose broker hands partitions out ([`Assignment`] is the difference). Readers prefetch against a
//! [`Budget`]; writers acknowledge only what is stored durably.
//!
//! Positions are compared and never computed: a stream may give numbers that are not dense, and may know neither its last
//! position nor the one before a record. So callers ask how far a place is [behind](Stream::behind), open a reader
//! [at a record](OpenAt::At), and keep a start as it was asked for until a record was read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde::Serialize;

use crate::admin::Admin;
use crate::batch::Batch;
use crate::budget::{Budget, Permit};
use crate::error::Result;
use crate::hash::Routing;
use crate::lease::{Lease, LeaseStore, Progress};
use crate::origin::{DeadLetter, Origin, OriginEntry, WriterId};
use crate::position::Position;
use crate::shard::{HashRange, ShardId, ShardMap, StreamId};
use crate::subscription::Subscription;

pub use crate::read::{OpenAt, Read, Readers, ShardReader};
pub use crate::start::{ParseStartError, Start};

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
    DeadLetter(DeadLetter),
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
            UnitKind::DeadLetter(_) => 1,
            UnitKind::Dropped { count, .. } => *count,
        }
    }

    /// The bytes that it takes in memory.
    pub fn memory_bytes(&self) -> u64 {
        let texts = match &self.what {
            UnitKind::DeadLetter(letter) => letter.memory_bytes() - size_of::<DeadLetter>() as u64,
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
    pub record_indexes: Arc<[u32]>,
    /// The route hash of each pick.
    pub routes: Arc<[u128]>,
    /// Whether the route hashes are stored: a reader cannot compute them from the keys.
    pub explicit: bool,
    /// The origins; `None` for records without origins, which a retry may double. Its `account` is
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
    /// ([`crate::Error::OutOfOrder`]). A call that is dropped before it answers has handed nothing in.
    async fn submit(&self, shard: &ShardId, append: Append) -> Result<Ticket>;
    /// The origins that began in a shard beyond the beginning of their upstream shard. Waits for no writer; empty where
    /// appends are not checked.
    async fn begun(&self, shard: &ShardId) -> Result<Vec<Begun>>;
    /// Whether the log drops what it has already when it takes an append: then the first fate of a record is kept, be it a
    /// record, a dead letter or a drop, where all of them have one route. Elsewhere readers drop copies.
    fn checks_appends(&self) -> bool;
    /// For how long after its answer an append may still be placed behind one that another client handed in later; zero
    /// for a log in the order of its answers. A checkpoint is claimed ([`OriginEntry::low`]) when it is as old.
    fn reorders_within(&self) -> Duration;
    /// How keys route, for as long as the stream exists.
    fn routing(&self) -> Routing;
    /// The keys that a record can have.
    fn keys(&self) -> KeyRule;
    /// Whether a record keeps its headers here, and a tombstone stays one. Where not, a sender leaves headers out, and makes
    /// a dead letter of a tombstone, which would become an empty record.
    fn keeps_headers(&self) -> bool;
    /// The largest sum of key, payload and header bytes of one record.
    fn record_bytes_max(&self) -> usize;
    /// The largest sum of key, payload and header bytes of one append, and the size worth aiming at.
    fn append_bytes_target(&self) -> usize;
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

/// Who joins an app.
#[derive(Clone, Debug)]
pub struct Join {
    /// The app, whose workers share the shards.
    pub app: String,
    /// The worker: no other one has this name, also on another host.
    pub worker: String,
    /// The memory that its readers take.
    pub budget: Budget,
}

impl Join {
    /// As `worker` of an app, with readers that take memory of `budget`.
    pub fn new(app: impl Into<String>, worker: impl Into<String>, budget: &Budget) -> Self {
        Join {
            app: app.into(),
            worker: worker.into(),
            budget: budget.clone(),
        }
    }
}

/// How far a place in a shard is behind the newest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Nothing comes after it now. In a closed shard only [`Position::End`] is done.
    Done,
    /// So many records come after it; 0 when only the end of a closed shard does.
    Records(u64),
    /// Records come after it, over so much time, in a stream that cannot count them.
    Time(Duration),
}

/// How often [`Stream::states`] may be asked unless a stream says otherwise.
const STATES_EVERY: Duration = Duration::from_secs(5);

/// How full a shard is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardState {
    /// The shard.
    pub shard: crate::shard::Shard,
    /// The last durable position; `Begin` for an empty shard, `None` where the stream does not know it.
    pub tip: Option<Position>,
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
    /// How often asking for [`Stream::states`] and for [`Stream::behind`] of each shard is cheap enough.
    fn states_every(&self) -> Duration {
        STATES_EVERY
    }
    /// How far an app with this progress is behind in one shard.
    async fn behind(&self, shard: &ShardId, after: &Progress) -> Result<Behind>;
    /// Where an app without progress begins: a position to read after. A stream without positions for times answers
    /// [`Position::Begin`] with [`Progress::began`], in which the latest record is the time of this call: so it is kept
    /// until the first record is read.
    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress>;
    /// The position before a record, where the stream knows it by the record's own.
    fn before(&self, _record: Position) -> Option<Position> {
        None
    }
    /// A reader of one shard that prefetches within `budget`, for what has no claim.
    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>>;
    /// A writer; clones of the `Arc` share its connections and its order.
    async fn writer(&self) -> Result<Arc<dyn StreamWriter>>;
    /// How an app's workers share the shards.
    async fn assignment(&self, join: &Join) -> Result<Assignment>;
    /// The apps that keep progress in this stream; none where the stream does not know them.
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
}
