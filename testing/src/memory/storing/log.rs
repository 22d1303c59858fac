//! The puts of one shard, and those that are still under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hydrant_core::batch::Span;
use hydrant_core::clock::Instant;
use hydrant_core::lease::Progress;
use hydrant_core::marks::{TagClaim, TagEntry, TagItem};
use hydrant_core::origin::OriginEntry;
use hydrant_core::position::{Position, Sequence};
use hydrant_core::random::Random;
use hydrant_core::shard::Shard;
use hydrant_core::stream::{Append, Behind, ShardState, Start, Unit};

/// The item of an append without an entry: nobody keeps track of it.
const UNTRACKED: usize = usize::MAX;

/// A record of a put.
#[derive(Debug)]
pub(super) struct PutItem {
    pub(super) key: Option<Span>,
    pub(super) payload: Span,
    pub(super) stamp: i64,
    pub(super) route: u128,
}

/// One append inside a put.
#[derive(Debug)]
pub(super) struct PutPart {
    pub(super) bytes: Bytes,
    pub(super) records: Vec<PutItem>,
    pub(super) explicit: bool,
    pub(super) entry: Option<Arc<OriginEntry>>,
    pub(super) units: Arc<Vec<Unit>>,
    /// Whether the sender answers for upstream units.
    pub(super) is_counted: bool,
}

/// What a client sends at once.
#[derive(Debug)]
pub(in crate::memory) struct ShardPut {
    /// Who sends.
    pub(super) client: u64,
    /// Where it goes: to the shard that owns this hash when it lands.
    pub(in crate::memory) hash: u128,
    pub(super) parts: Vec<PutPart>,
    pub(super) tag: Vec<TagEntry>,
    /// Records part by part, then units part by part: item `n` is sub-record `n`.
    pub(super) items: Vec<TagItem>,
}

impl ShardPut {
    pub(super) fn new(client: u64, hash: u128, appends: &[&Append]) -> Self {
        let (mut tag, mut items, mut units) = (Vec::new(), Vec::new(), Vec::new());
        let parts = appends.iter().map(|append| {
            let entry = append.entry.as_ref().map_or(UNTRACKED, |_| tag.len());
            if let Some(entry) = &append.entry {
                let claims = append.claims.iter().map(|claim| TagClaim {
                    range: claim.range,
                    from: claim.from,
                    to: entry.to,
                });
                tag.push(TagEntry {
                    writer: entry.writer,
                    shard: entry.shard.clone(),
                    low: (entry.low > Position::Begin).then_some(entry.low),
                    claims: claims.collect(),
                });
            }
            let origins = append.entry.iter().flat_map(|entry| entry.origins.iter());
            let origins = origins.chain(std::iter::repeat(Default::default()));
            items.extend(
                append
                    .routes
                    .iter()
                    .zip(origins)
                    .map(|(route, origin)| TagItem {
                        entry,
                        origin,
                        route: *route,
                        is_record: true,
                    }),
            );
            units.extend(append.units.iter().map(|unit| TagItem {
                entry,
                origin: unit.origin,
                route: unit.route,
                is_record: false,
            }));
            PutPart::new(append)
        });
        let parts = parts.collect();
        items.extend(units);
        ShardPut {
            client,
            hash,
            parts,
            tag,
            items,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }
}

impl PutPart {
    fn new(append: &Append) -> Self {
        let mut bytes = BytesMut::new();
        let mut put = |part: &[u8]| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(part);
            Span::new(start, part.len() as u32)
        };
        let records = append.record_indexes.iter().zip(append.routes.iter());
        let records = records.map(|(pick, route)| {
            let record = &append.batch.records[*pick as usize];
            PutItem {
                key: append.batch.key(record).map(&mut put),
                payload: put(append.batch.payload(record)),
                stamp: record.stamp,
                route: *route,
            }
        });
        PutPart {
            records: records.collect(),
            bytes: bytes.freeze(),
            explicit: append.explicit,
            entry: append.entry.clone().map(Arc::new),
            units: Arc::clone(&append.units),
            is_counted: append.input.is_some(),
        }
    }
}

/// A put in its place.
#[derive(Clone, Debug)]
pub(super) struct StoredPut {
    pub(super) sequence: Sequence,
    pub(super) arrival: i64,
    pub(super) put: Arc<ShardPut>,
}

impl StoredPut {
    /// The position of its last item.
    pub(super) fn end(&self) -> Position {
        let last = self.put.items.len().saturating_sub(1);
        Position::at(self.sequence, last as u32)
    }
}

/// A put that was given up by its client, and lands all the same.
#[derive(Debug)]
pub(in crate::memory) struct Landing {
    pub(in crate::memory) due: Instant,
    pub(in crate::memory) put: Arc<ShardPut>,
}

/// The puts of one shard.
#[derive(Debug)]
pub(in crate::memory) struct StoredLog {
    pub(in crate::memory) shard: Shard,
    pub(super) puts: Vec<StoredPut>,
    /// Acknowledged under these numbers, and not to be seen before its time.
    reserved: BTreeMap<Sequence, (Instant, Arc<ShardPut>)>,
    /// The last number that was given to a put in its place.
    last: Sequence,
    kept_after: Position,
}

impl StoredLog {
    pub(in crate::memory) fn new(shard: Shard, random: &Random) -> Self {
        // As long as the numbers of Kinesis, and nothing like the beginning of another shard.
        let high = 1 << 57 | u128::from(random.below(1 << 40));
        StoredLog {
            shard,
            puts: Vec::new(),
            reserved: BTreeMap::new(),
            last: Sequence::from_parts(high, u128::from(random.u64())),
            kept_after: Position::Begin,
        }
    }

    pub(in crate::memory) fn kept_after(&self) -> Position {
        self.kept_after
    }

    pub(in crate::memory) fn tags(&self) -> impl Iterator<Item = &TagEntry> {
        self.puts.iter().flat_map(|stored| &stored.put.tag)
    }

    fn bytes(&self) -> u64 {
        self.puts.iter().map(|stored| stored.put.bytes()).sum()
    }

    fn newest_arrival(&self) -> Option<i64> {
        self.puts.last().map(|stored| stored.arrival)
    }

    /// Places a put now, behind everything that its client was answered before.
    pub(in crate::memory) fn place(
        &mut self,
        put: Arc<ShardPut>,
        random: &Random,
        now: i64,
    ) -> Sequence {
        let mut reserved = self.reserved.iter().rev();
        let own = reserved.find(|(_, (_, one))| one.client == put.client);
        if let Some(sequence) = own.map(|(sequence, _)| *sequence) {
            self.place_up_to(sequence, now);
        }
        self.last = self.last.saturating_add(2 + random.below(1 << 20));
        self.push(self.last, put, now);
        self.last
    }

    /// Acknowledges a put under a number that leaves room for what others put until then.
    pub(in crate::memory) fn reserve(
        &mut self,
        put: Arc<ShardPut>,
        random: &Random,
        due: Instant,
    ) -> Sequence {
        let after = self
            .reserved
            .last_key_value()
            .map_or(self.last, |(n, _)| *n);
        let sequence = after.saturating_add((1 << 50) + random.below(1 << 40));
        self.reserved.insert(sequence, (due, put));
        sequence
    }

    /// Places what was acknowledged and is due; answers whether something was.
    pub(in crate::memory) fn land(&mut self, moment: Instant, now: i64) -> bool {
        let mut reserved = self.reserved.iter().rev();
        let due = reserved.find(|(_, (due, _))| *due <= moment);
        let due = due.map(|(sequence, _)| *sequence);
        if let Some(sequence) = due {
            self.place_up_to(sequence, now);
        }
        due.is_some()
    }

    /// Places everything that was acknowledged: the shard closes.
    pub(in crate::memory) fn land_all(&mut self, now: i64) {
        self.place_up_to(Sequence::MAX, now);
    }

    /// When something is due.
    pub(in crate::memory) fn next_due(&self) -> Option<Instant> {
        self.reserved.values().map(|(due, _)| *due).min()
    }

    fn place_up_to(&mut self, sequence: Sequence, now: i64) {
        while let Some(first) = self.reserved.first_entry()
            && *first.key() <= sequence
        {
            let (sequence, (_, put)) = first.remove_entry();
            self.last = sequence;
            self.push(sequence, put, now);
        }
    }

    fn push(&mut self, sequence: Sequence, put: Arc<ShardPut>, now: i64) {
        // Arrivals rise, also when the clock is set back.
        let arrival = self.newest_arrival().map_or(now, |newest| newest.max(now));
        debug_assert!(
            self.puts.last().is_none_or(|last| last.sequence < sequence),
            "sequence numbers rise"
        );
        self.puts.push(StoredPut {
            sequence,
            arrival,
            put,
        });
    }

    /// Drops the puts at the old end of which `can_go` holds; answers their bytes.
    pub(in crate::memory) fn trim(
        &mut self,
        mut can_go: impl FnMut(Position, i64, u64) -> bool,
    ) -> u64 {
        let mut freed = 0;
        while let Some(first) = self.puts.first() {
            if !can_go(first.end(), first.arrival, self.bytes()) {
                break;
            }
            let first = self.puts.remove(0);
            self.kept_after = first.end();
            freed += first.put.bytes();
        }
        freed
    }

    pub(in crate::memory) fn state(&self) -> ShardState {
        ShardState {
            shard: self.shard.clone(),
            tip: None,
            kept_after: self.kept_after,
            records: None,
            bytes: Some(self.bytes()),
            newest_arrival: self.newest_arrival(),
        }
    }

    /// How far an app with this progress is behind.
    pub(in crate::memory) fn behind(&self, after: &Progress, now: i64) -> Behind {
        let since = match (after.to, after.began) {
            (Position::End, _) => return Behind::Done,
            (Position::Begin, Some(Start::At(since))) => since,
            _ => i64::MIN,
        };
        let left = self.puts.iter();
        let mut left = left.filter(|one| after.to < one.end() && since <= one.arrival);
        match left.next() {
            Some(next) => Behind::Time(Duration::from_micros((now - next.arrival).max(0) as u64)),
            None if self.shard.closed => Behind::Time(Duration::ZERO),
            None => Behind::Done,
        }
    }
}
