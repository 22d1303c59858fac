//! One shard in memory: its frames and the marks of its origins.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use hydrant_core::batch::{
    AccountOf, AccountSpan, Batch, Entry, OriginSpan, RunBuilder, Span, Step,
};
use hydrant_core::error::{Error, Result, Rewound};
use hydrant_core::lease::Progress;
use hydrant_core::origin::{Account, OriginEntry, WriterId};
use hydrant_core::position::{Position, Sequence};
use hydrant_core::shard::{HashRange, Shard, ShardId};
use hydrant_core::stream::{
    Append, Appended, Begun, Behind, OpenAt, ShardState, Start, Unit, UnitKind,
};

/// A batch holds no more bytes than this, but at least one frame's rest.
const BATCH_BYTES: usize = 64 * 1024;

/// How far each origin is known in one hash segment.
pub(super) type AppendMarks = BTreeMap<(WriterId, ShardId), (Position, Position)>;

#[derive(Debug)]
struct Record {
    key: Option<Span>,
    /// `None` for a tombstone.
    payload: Option<Span>,
    stamp: i64,
    route: u128,
    headers: Span,
}

/// What one append stored. Its account takes the slot after its records.
#[derive(Debug)]
struct MemoryFrame {
    first: u64,
    bytes: Bytes,
    records: Vec<Record>,
    explicit: bool,
    entry: Option<Arc<OriginEntry>>,
    arrival: i64,
}

impl MemoryFrame {
    fn account(&self) -> Option<(&OriginEntry, &Account)> {
        let entry = self.entry.as_deref()?;
        Some((entry, entry.account.as_ref()?))
    }

    fn next(&self) -> u64 {
        self.first + self.records.len() as u64 + u64::from(self.account().is_some())
    }
}

#[derive(Debug)]
pub(super) struct MemoryShard {
    pub(super) shard: Shard,
    /// Never joined when shards are, so that no origin's mark covers a hash it was not seen in.
    pub(super) segments: Vec<(HashRange, AppendMarks)>,
    frames: Vec<MemoryFrame>,
    next: u64,
    /// The first slot that is kept.
    kept: u64,
}

impl MemoryShard {
    pub(super) fn new(shard: Shard, segments: Vec<(HashRange, AppendMarks)>) -> Self {
        MemoryShard {
            shard,
            segments,
            frames: Vec::new(),
            next: 0,
            kept: 0,
        }
    }

    pub(super) fn state(&self) -> ShardState {
        ShardState {
            shard: self.shard.clone(),
            tip: Some(self.tip()),
            kept_after: self.kept_after(),
            records: Some(self.records()),
            bytes: Some(self.bytes()),
            newest_arrival: self.newest_arrival(),
        }
    }

    /// The origins that began beyond the beginning of their upstream shard.
    pub(super) fn begun(&self) -> Vec<Begun> {
        let parts = self.segments.iter().flat_map(|(_, marks)| marks);
        let begun = parts.filter(|(_, (start, _))| *start > Position::Begin);
        begun
            .map(|((writer, upstream), (start, _))| Begun {
                writer: *writer,
                upstream: upstream.clone(),
                start: *start,
            })
            .collect()
    }

    /// The slot that the next record takes.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Appends a record that arrives at the time that its offset says.
    pub(super) fn put(&mut self, payload: impl FnOnce(u64) -> Bytes) {
        let bytes = payload(self.next);
        self.frames.push(MemoryFrame {
            first: self.next,
            records: vec![Record {
                key: None,
                payload: Some(Span::new(0, bytes.len() as u32)),
                stamp: 0,
                route: self.shard.range.first,
                headers: Span::default(),
            }],
            bytes,
            explicit: false,
            entry: None,
            arrival: self.next as i64,
        });
        self.next += 1;
    }

    /// The last position taken.
    pub(super) fn tip(&self) -> Position {
        before(self.next)
    }

    /// Reading after this position loses nothing.
    pub(super) fn kept_after(&self) -> Position {
        before(self.kept)
    }

    fn records(&self) -> u64 {
        self.frames
            .iter()
            .map(|frame| frame.records.len() as u64)
            .sum()
    }

    fn bytes(&self) -> u64 {
        self.frames
            .iter()
            .map(|frame| frame.bytes.len() as u64)
            .sum()
    }

    fn newest_arrival(&self) -> Option<i64> {
        self.frames.last().map(|frame| frame.arrival)
    }

    /// The position to read after for an app that starts now.
    pub(super) fn start(&self, start: Start) -> Position {
        match start {
            Start::Earliest => self.kept_after(),
            Start::Latest => self.tip(),
            Start::At(micros) => {
                let frame = self.frames.iter().find(|frame| frame.arrival >= micros);
                frame.map_or(self.tip(), |frame| before(frame.first))
            }
        }
    }

    /// The position to read after for a reader that is opened there.
    pub(super) fn place_of(&self, at: &OpenAt) -> Position {
        match at {
            OpenAt::After { progress, .. } => match (progress.to, progress.began) {
                (Position::Begin, Some(start)) => self.start(start),
                (to, _) => to,
            },
            OpenAt::At(record) => record
                .sequence()
                .and_then(Sequence::offset)
                .map_or(*record, before),
        }
    }

    /// How far an app with this progress is behind.
    pub(super) fn behind(&self, after: &Progress) -> Behind {
        let to = self.place_of(&OpenAt::progress(after.clone()));
        if to == Position::End || (to >= self.tip() && !self.shard.closed) {
            return Behind::Done;
        }
        let done = to.max(self.kept_after()).next_offset().unwrap_or(u64::MAX);
        Behind::Records(self.next.saturating_sub(done))
    }

    /// Drops the frames at the old end of which `can_go` holds; answers their bytes.
    pub(super) fn trim(&mut self, mut can_go: impl FnMut(Position, i64, u64) -> bool) -> u64 {
        let mut freed = 0;
        while let Some(frame) = self.frames.first() {
            let (last, left) = (before(frame.next()), self.bytes());
            if !can_go(last, frame.arrival, left) {
                break;
            }
            let frame = self.frames.remove(0);
            self.kept = frame.next();
            freed += frame.bytes.len() as u64;
        }
        freed
    }

    /// Appends what the shard does not have yet; see the rules of the embedded log.
    pub(super) fn append(&mut self, append: Append, now: i64) -> Result<Appended> {
        if self.shard.closed {
            let shard = self.shard.id.clone();
            return Err(Error::Sealed { shard });
        }
        let Some(entry) = append.entry.clone() else {
            let all: Vec<usize> = (0..append.record_indexes.len()).collect();
            let last = self.store(&append, &all, None, now);
            return Ok(Appended {
                shard: self.shard.id.clone(),
                last,
                duplicates: 0,
            });
        };
        let known = self.known(&entry)?;
        let part = |route: u128| {
            let segment = known.iter().find(|(range, _)| range.contains(route));
            segment.map_or((Position::Begin, Position::Begin), |(_, part)| *part)
        };
        let is_known = |route: u128, position: Position| position <= part(route).1;
        let origins: Vec<_> = entry.origins.iter().collect();
        let records = append.routes.iter().zip(&origins);
        let places = records.map(|(route, origin)| (*route, origin.position()));
        let units = append.units.iter();
        let places = places.chain(units.map(|unit| (unit.route, unit.origin.position())));
        for (route, at) in places {
            let (start, _) = part(route);
            if start > Position::Begin && at <= start {
                let shard = self.shard.id.clone();
                return Err(Error::Rewound(Box::new(Rewound { shard, start, at })));
            }
        }
        let kept: Vec<usize> = (0..append.record_indexes.len())
            .filter(|n| !is_known(append.routes[*n], origins[*n].position()))
            .collect();
        let duplicates = (append.record_indexes.len() - kept.len()) as u64;
        let (new, old): (Vec<&Unit>, Vec<&Unit>) = append
            .units
            .iter()
            .partition(|unit| !is_known(unit.route, unit.origin.position()));
        let account = append.input.map(|input| {
            let known: u64 = old.iter().map(|unit| unit.count()).sum();
            account(input.saturating_sub(known + duplicates), kept.len(), &new)
        });
        let stored = OriginEntry {
            origins: kept.iter().map(|n| origins[*n]).collect(),
            account: account.filter(|account| account.input > 0),
            ..entry.clone()
        };
        let last = self.store(&append, &kept, Some(stored), now);
        for (_, marks) in &mut self.segments {
            let part = marks
                .entry((entry.writer, entry.shard.clone()))
                .or_default();
            let (start, to) = raised(*part, &entry);
            *part = (start, to.max(entry.to));
        }
        Ok(Appended {
            shard: self.shard.id.clone(),
            last,
            duplicates,
        })
    }

    /// Which part of the origin is known in each segment.
    fn known(&self, entry: &OriginEntry) -> Result<Vec<(HashRange, (Position, Position))>> {
        let origin = (entry.writer, entry.shard.clone());
        let known = self.segments.iter().map(|(range, marks)| {
            let part = raised(marks.get(&origin).copied().unwrap_or_default(), entry);
            let (_, mark) = part;
            if entry.from > mark {
                return Err(Error::OutOfOrder {
                    shard: self.shard.id.clone(),
                    mark,
                    from: entry.from,
                });
            }
            Ok((*range, part))
        });
        known.collect()
    }

    fn store(
        &mut self,
        append: &Append,
        kept: &[usize],
        entry: Option<OriginEntry>,
        now: i64,
    ) -> Option<Position> {
        let mut bytes = BytesMut::new();
        let mut put = |part: &[u8]| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(part);
            Span::new(start, part.len() as u32)
        };
        let records = kept.iter().map(|n| {
            let pick = append.record_indexes[*n] as usize;
            let record = &append.batch.records[pick];
            let tombstone = append.batch.is_tombstone(pick);
            Record {
                key: append.batch.key(record).map(&mut put),
                payload: (!tombstone).then(|| put(append.batch.payload(record))),
                stamp: record.stamp,
                route: append.routes[*n],
                headers: put(append.batch.headers(pick)),
            }
        });
        let frame = MemoryFrame {
            first: self.next,
            records: records.collect(),
            bytes: bytes.freeze(),
            explicit: append.explicit,
            entry: entry.map(Arc::new),
            arrival: now,
        };
        if frame.next() == self.next {
            return None;
        }
        self.next = frame.next();
        self.frames.push(frame);
        Some(self.tip())
    }

    /// The next batch of a reader that has read all slots before `next`, of `appends_max` appends at most, without its
    /// permit.
    pub(super) fn batch(&self, next: u64, appends_max: usize) -> Batch {
        let first = self.frames.partition_point(|frame| frame.next() <= next);
        let mut batch = Batch::default();
        let (mut segments, mut runs) = (Vec::new(), RunBuilder::default());
        let (mut hashes, mut explicit, mut bytes) = (Vec::new(), false, 0);
        let mut headers = Vec::new();
        for frame in self.frames[first..].iter().take(appends_max) {
            if !segments.is_empty() && bytes + frame.bytes.len() > BATCH_BYTES {
                break;
            }
            let skip = next.saturating_sub(frame.first) as usize;
            let segment = segments.len() as u32;
            let start = batch.records.len() as u32;
            for (n, record) in frame.records.iter().enumerate().skip(skip) {
                let slot = frame.first + n as u64;
                runs.push(Sequence::from(slot), 0, Step::Sequence, frame.arrival);
                hashes.push(record.route);
                headers.push(record.headers);
                if record.payload.is_none() {
                    batch.tombstones.push(batch.records.len() as u32);
                }
                batch.records.push(Entry {
                    segment,
                    key: record.key,
                    payload: record.payload.unwrap_or_default(),
                    stamp: record.stamp,
                });
            }
            let end = batch.records.len() as u32;
            if let (Some(entry), true) = (&frame.entry, start < end) {
                batch.origins.push(OriginSpan {
                    records: start..end,
                    skip: skip as u32,
                    entry: Arc::clone(entry),
                });
            }
            batch.to = before(frame.next());
            if let Some((entry, account)) = frame.account() {
                batch.accounts.push(AccountSpan {
                    at: batch.to,
                    entry: AccountOf {
                        writer: entry.writer,
                        shard: entry.shard.clone(),
                    },
                    account: account.clone(),
                });
            }
            explicit |= frame.explicit;
            bytes += frame.bytes.len();
            segments.push(frame.bytes.clone());
        }
        batch.segments = segments.into();
        batch.runs = runs.finish();
        if explicit {
            batch.hashes = hashes;
        }
        if headers.iter().any(|block| block.len > 0) {
            batch.headers = headers;
        }
        batch
    }
}

/// The part `(start, to]` that is known by what an append says of the time before it.
fn raised((start, to): (Position, Position), entry: &OriginEntry) -> (Position, Position) {
    if entry.start > to {
        (entry.start, entry.start.max(entry.low))
    } else {
        (start, to.max(entry.low))
    }
}

fn account(input: u64, records: usize, units: &[&Unit]) -> Account {
    let mut account = Account {
        input,
        records: records as u64,
        ..Account::default()
    };
    for unit in units {
        match &unit.what {
            UnitKind::DeadLetter(letter) => account.dead_letters.push(letter.clone()),
            UnitKind::Dropped { rule, count } => account.drop_by(rule, *count),
        }
    }
    account
}

fn before(slot: u64) -> Position {
    slot.checked_sub(1)
        .map_or(Position::Begin, Position::offset)
}
