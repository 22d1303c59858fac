//! Where a record goes: a function of its *input* key and of nothing that a policy decides.
//!
//! A record that is sent again, by a successor or after a change of policy, must reach the shard that has its first
//! copy; no rule of the output could mend it otherwise. A hash that the input record carries outranks its key: it was
//! the hash of the key before an earlier stage replaced that.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hydrant_core::batch::Run;
use hydrant_core::hash::{self, Router, Routing};
use hydrant_core::{Batch, Error, HashRange, Result, Sequence, Shard, ShardId, ShardMap};

/// What a stage does with the keys of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// It may replace them. The hash of a key is always stored beside the record: a stage that stored only those of
    /// replaced keys would give one key two hashes when the policy changes, and the stage after it would lose the key's
    /// order.
    Replaced,
    /// It leaves them alone. A hash is stored only when the input record carries one.
    Kept,
}

/// The rule of one output stream for the records of one upstream shard; cheap to clone.
#[derive(Clone, Debug)]
pub struct RouteRule {
    router: Router,
    pub(super) keys: Keys,
    /// Whether the output stores hashes: the partition of a record says its own.
    stores_hashes: bool,
    shard: ShardId,
}

/// The routes and positions of a batch's records, noted before a transform takes the batch.
#[derive(Debug)]
pub struct Routes {
    pub(super) hashes: Vec<u128>,
    /// Whether a reader of the output could not compute the hash of some record from its key.
    pub(super) explicit: bool,
    positions: Batch,
}

impl RouteRule {
    pub(super) fn new(keys: Keys, routing: &Routing, shard: ShardId) -> Self {
        let stores_hashes = !matches!(routing, Routing::Murmur2 { .. });
        RouteRule {
            router: match keys {
                Keys::Replaced => Router::of_replaced_keys(routing),
                Keys::Kept => Router::of_kept_keys(routing),
            },
            keys,
            stores_hashes,
            shard,
        }
    }

    /// The routes of the input batch's records; computation only, fit for a worker thread.
    pub fn routes(&self, batch: &Batch) -> Routes {
        let mut explicit = self.stores_hashes && !batch.hashes.is_empty();
        let hashes = if batch.hashes.len() == batch.len() {
            batch.hashes.clone()
        } else {
            let mut memo = RouteMemo::new(batch.len());
            let positions = batch.positions();
            let entries = batch.records.iter();
            entries
                .zip(positions)
                .map(|(entry, (sequence, sub, _))| match batch.key(entry) {
                    None => hash::route_of_origin(self.shard.as_str(), sequence, sub),
                    Some(key) => {
                        // No reader of the output could compute it.
                        explicit |= self.stores_hashes && self.keys == Keys::Replaced;
                        match &self.router {
                            // A look into the memo would take as long.
                            Router::Md5 => hash::route_of_key(key),
                            router => memo.get(key, |key| router.route(key)),
                        }
                    }
                })
                .collect()
        };
        Routes {
            hashes,
            explicit,
            positions: Batch {
                runs: batch.runs.clone(),
                ..Batch::default()
            },
        }
    }

    /// The route of what an account that counts at this position holds, where the output checks appends.
    pub(super) fn of_account(&self, sequence: Sequence, sub: u32) -> u128 {
        hash::route_of_origin(self.shard.as_str(), sequence, sub)
    }
}

impl Routes {
    /// The runs that give the positions of the input's records.
    pub fn runs(&self) -> &[Run] {
        &self.positions.runs
    }

    pub(super) fn position(&self, index: u32) -> (Sequence, u32) {
        self.positions.position(index as usize)
    }
}

/// Remembers hashes of keys within a batch: a fleet's devices send many records each, and a keyed hash costs far more
/// than a look.
struct RouteMemo<'a> {
    slots: Vec<Option<(&'a [u8], u128)>>,
}

/// Slots of a memo at most: a few thousand keys fit the second-level cache.
const MEMO_SLOTS_MAX: usize = 4096;

impl<'a> RouteMemo<'a> {
    fn new(records: usize) -> Self {
        let slots = records.clamp(1, MEMO_SLOTS_MAX).next_power_of_two();
        RouteMemo {
            slots: vec![None; slots],
        }
    }

    fn get(&mut self, key: &'a [u8], compute: impl FnOnce(&[u8]) -> u128) -> u128 {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let slot = hasher.finish() as usize & (self.slots.len() - 1);
        match self.slots[slot] {
            Some((known, route)) if known == key => route,
            _ => {
                let route = compute(key);
                self.slots[slot] = Some((key, route));
                route
            }
        }
    }
}

/// The open shards of one reading of the map, for lookups per record.
#[derive(Debug)]
pub(super) struct Table {
    map: ShardMap,
    open: Vec<(HashRange, ShardId)>,
}

impl Table {
    /// # Errors
    /// Refused when the map has not as many partitions as keys are routed over: the records of a key would part.
    pub(super) fn new(map: ShardMap, routing: &Routing) -> Result<Arc<Self>> {
        let mut open: Vec<_> = map
            .open()
            .map(|shard| (shard.range, shard.id.clone()))
            .collect();
        open.sort_by_key(|(range, _)| range.first);
        if let Routing::Murmur2 { partitions } = routing
            && open.len() != *partitions as usize
        {
            return Err(Error::refused(format!(
                "the output has {} partitions, and keys were routed over {partitions} when it was opened: wait until \
                 its readers have read everything, then start again",
                open.len()
            )));
        }
        Ok(Arc::new(Table { map, open }))
    }

    /// The number of the open shard that owns `hash`; `None` when the map has a hole.
    pub(super) fn find(&self, hash: u128) -> Option<usize> {
        let at = self.open.partition_point(|(range, _)| range.last < hash);
        self.open
            .get(at)
            .filter(|(range, _)| range.contains(hash))
            .map(|_| at)
    }

    /// The open shard of this number.
    pub(super) fn shard(&self, number: usize) -> &(HashRange, ShardId) {
        &self.open[number]
    }

    /// The range of the shard of this name, open or not.
    pub(super) fn range_of(&self, id: &ShardId) -> Option<HashRange> {
        self.map.get(id).map(|shard| shard.range)
    }

    /// The shard of this name when it is open.
    pub(super) fn get_open(&self, id: &ShardId) -> Option<&Shard> {
        self.map.get(id).filter(|shard| !shard.closed)
    }
}
