//! Shards, the hash ranges they own, and how a stream is identified.
//!
//! A [`ShardMap`] lists a stream's shards, open and closed, at one moment. Open shards cover the hash space without gap
//! or overlap; a closed shard has children that took over its range. A [`StreamId`] distinguishes a re-created stream from its
//! predecessor by its incarnation: every durable name holds both.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a shard, unique in its stream's incarnation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(Arc<str>);

impl ShardId {
    /// The id of the shard with this name.
    pub fn new(name: impl AsRef<str>) -> Self {
        ShardId(Arc::from(name.as_ref()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ShardId {
    fn from(name: &str) -> Self {
        ShardId::new(name)
    }
}

/// A stream's name, and the incarnation that distinguishes it from a predecessor of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// The name, fit for a path segment.
    pub name: Arc<str>,
    /// Changes when a stream is deleted and created again (a uuid locally, Kinesis' creation time, Kafka's topic id).
    pub incarnation: Arc<str>,
}

impl StreamId {
    /// The id with this name and incarnation.
    pub fn new(name: impl AsRef<str>, incarnation: impl AsRef<str>) -> Self {
        StreamId {
            name: Arc::from(name.as_ref()),
            incarnation: Arc::from(incarnation.as_ref()),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.incarnation)
    }
}

/// A range of route hashes with inclusive ends.
///
/// ```
/// use hydrant_core::HashRange;
///
/// let (low, high) = HashRange::ALL.split(1 << 127).unwrap();
/// assert!(low.contains(0) && high.contains(u128::MAX));
/// assert_eq!(low.intersect(high), None);
/// assert_eq!(low.join(high), Some(HashRange::ALL));
/// assert_eq!(HashRange::even(2), [low, high]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashRange {
    /// The smallest hash inside.
    pub first: u128,
    /// The largest hash inside.
    pub last: u128,
}

impl HashRange {
    /// The whole hash space.
    pub const ALL: HashRange = HashRange {
        first: 0,
        last: u128::MAX,
    };

    /// Whether `hash` lies inside.
    pub fn contains(self, hash: u128) -> bool {
        self.first <= hash && hash <= self.last
    }

    /// The part that it shares with `other`; `None` without one.
    pub fn intersect(self, other: HashRange) -> Option<HashRange> {
        let range = HashRange {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        };
        (range.first <= range.last).then_some(range)
    }

    /// Splits it in two, with `at` as the first hash of the second part; `None` when a part would be empty.
    pub fn split(self, at: u128) -> Option<(HashRange, HashRange)> {
        (self.first < at && at <= self.last).then(|| {
            (
                HashRange {
                    first: self.first,
                    last: at - 1,
                },
                HashRange {
                    first: at,
                    last: self.last,
                },
            )
        })
    }

    /// The first hash of its upper half; `None` for a range of one hash.
    pub fn middle(self) -> Option<u128> {
        (self.first < self.last).then(|| self.first + (self.last - self.first) / 2 + 1)
    }

    /// The union of two adjacent ranges; `None` when they are not adjacent.
    pub fn join(self, other: HashRange) -> Option<HashRange> {
        let (low, high) = if self.first <= other.first {
            (self, other)
        } else {
            (other, self)
        };
        (low.last.checked_add(1) == Some(high.first)).then_some(HashRange {
            first: low.first,
            last: high.last,
        })
    }

    /// `n` ranges of (nearly) equal size that cover the whole space; `n` of 0 counts as 1.
    pub fn even(n: u32) -> Vec<HashRange> {
        let n = u128::from(n.max(1));
        let step = u128::MAX / n;
        let ranges: Vec<HashRange> = (0..n)
            .map(|i| HashRange {
                first: i * step + u128::from(i > 0),
                last: if i + 1 == n {
                    u128::MAX
                } else {
                    (i + 1) * step
                },
            })
            .collect();
        debug_assert!(
            ranges.windows(2).all(|two| two[0].last + 1 == two[1].first),
            "the ranges leave no gap and do not overlap"
        );
        ranges
    }
}

#[derive(Serialize, Deserialize)]
struct HashRangeText {
    first: String,
    last: String,
}

impl Serialize for HashRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        HashRangeText {
            first: self.first.to_string(),
            last: self.last.to_string(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HashRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = HashRangeText::deserialize(deserializer)?;
        let parse = |number: String| number.parse().map_err(serde::de::Error::custom);
        let (first, last) = (parse(text.first)?, parse(text.last)?);
        if last < first {
            return Err(serde::de::Error::custom(
                "a hash range ends before it begins",
            ));
        }
        Ok(HashRange { first, last })
    }
}

/// One shard of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its name.
    pub id: ShardId,
    /// The hashes routed to it while it is open.
    pub range: HashRange,
    /// The shards whose range it took over; empty for a shard made with the stream.
    pub parents: Vec<ShardId>,
    /// Whether it is closed to appends.
    pub closed: bool,
}

/// All shards of a stream at one moment, including closed ones whose data is kept.
///
/// ```
/// use hydrant_core::{HashRange, Shard, ShardId, ShardMap};
///
/// let shard = |id: &str, range, parents: &[&str], closed| Shard {
///     id: ShardId::new(id),
///     range,
///     parents: parents.iter().map(ShardId::new).collect(),
///     closed,
/// };
/// let (low, high) = HashRange::ALL.split(1 << 127).unwrap();
/// // Shard 0 was split in two.
/// let map = ShardMap::new(vec![
///     shard("2", high, &["0"], false),
///     shard("0", HashRange::ALL, &[], true),
///     shard("1", low, &["0"], false),
/// ]);
/// assert_eq!(map.route(7).unwrap().id, ShardId::new("1"));
/// assert_eq!(map.children(&ShardId::new("0")).count(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredShards")]
pub struct ShardMap {
    shards: Vec<Shard>,
}

/// The shards as they are stored, in any order.
#[derive(Deserialize)]
struct StoredShards {
    shards: Vec<Shard>,
}

impl TryFrom<StoredShards> for ShardMap {
    type Error = String;

    fn try_from(stored: StoredShards) -> Result<Self, String> {
        let map = ShardMap::new(stored.shards);
        let mut pairs = map.shards.windows(2);
        match pairs.find(|pair| pair[0].id == pair[1].id) {
            Some(pair) => Err(format!("shard `{}` appears twice", pair[0].id)),
            None => Ok(map),
        }
    }
}

impl ShardMap {
    /// Creates a map of shards given in any order.
    pub fn new(mut shards: Vec<Shard>) -> Self {
        shards.sort_by(|a, b| a.id.cmp(&b.id));
        ShardMap { shards }
    }

    /// All shards, sorted by name.
    pub fn all(&self) -> &[Shard] {
        &self.shards
    }

    /// The open shards, sorted by name.
    pub fn open(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(|shard| !shard.closed)
    }

    /// The shard of this name.
    pub fn get(&self, id: &ShardId) -> Option<&Shard> {
        self.shards
            .binary_search_by(|shard| shard.id.cmp(id))
            .ok()
            .map(|i| &self.shards[i])
    }

    /// The shards that took over the range of `id`.
    pub fn children<'a>(&'a self, id: &'a ShardId) -> impl Iterator<Item = &'a Shard> {
        self.shards
            .iter()
            .filter(move |shard| shard.parents.contains(id))
    }

    /// The open shard that owns `hash`.
    pub fn route(&self, hash: u128) -> Option<&Shard> {
        self.open().find(|shard| shard.range.contains(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_ranges_cover_the_space_once() {
        for n in [1, 2, 3, 7, 64, 1000] {
            let ranges = HashRange::even(n);
            assert_eq!(ranges.len(), n as usize);
            assert_eq!(ranges[0].first, 0);
            assert_eq!(ranges[n as usize - 1].last, u128::MAX);
            assert!(ranges.windows(2).all(|w| w[0].last + 1 == w[1].first));
        }
    }

    #[test]
    fn split_and_join_undo_each_other() {
        let range = HashRange {
            first: 10,
            last: 20,
        };
        let (low, high) = range.split(range.middle().unwrap()).unwrap();
        assert_eq!((low.last, high.first), (15, 16));
        assert_eq!(high.join(low), Some(range));
        assert_eq!(range.split(10), None);
        assert_eq!(
            low.join(HashRange {
                first: 17,
                last: 20
            }),
            None
        );
    }
}
