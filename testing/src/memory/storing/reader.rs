//! The reader of a shard that stores what comes: it filters by range, then by what it knows.

use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::batch::{
    AccountOf, AccountSpan, Batch, Entry, MarksAt, OriginSpan, RunBuilder, Step,
};
use hydrant_core::budget::Budget;
use hydrant_core::clock;
use hydrant_core::error::{Error, Result};
use hydrant_core::marks::{ItemVerdict, ReaderMarks, StoredRecord};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::origin::{Account, OriginEntry};
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId};
use hydrant_core::stream::{OpenAt, Read, ShardReader, Start, UnitKind};

use super::super::state::StreamShared;
use super::ENDED_KEPT;
use super::log::{StoredLog, StoredPut};

/// A batch holds no more bytes than this, but at least one put.
const BATCH_BYTES: u64 = 64 * 1024;

/// Where reading is.
#[derive(Clone, Debug)]
struct Cursor {
    /// Everything up to here is done.
    after: Position,
    /// What is known at the end of the last put; `None` for a look, which knows nothing.
    marks: Option<ReaderMarks>,
    /// What was known before the last put, for the mutant that believes it.
    before: Option<ReaderMarks>,
}

impl Cursor {
    /// The marks as they are stored with the place.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(marks) = &self.marks {
            marks.encode(&mut bytes);
        }
        bytes
    }
}

/// Reads one shard.
#[derive(Debug)]
pub(in crate::memory) struct SiftingReader {
    shared: Arc<StreamShared>,
    shard: ShardId,
    budget: Budget,
    cursor: Cursor,
    /// Reading begins with this record.
    first: Position,
    /// What arrived before is passed over as if it had never been.
    since: Option<i64>,
    said_idle: bool,
}

/// The marks of each boundary of a batch, its beginning included.
///
/// A place inside a put has the marks of the put's beginning: who goes on from there reads the whole put again, and hands
/// on what lies after the place.
#[derive(Debug)]
struct MarksTrail(Vec<(Position, ReaderMarks)>);

impl MarksAt for MarksTrail {
    fn at(&self, to: Position) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut boundaries = self.0.iter().rev().filter(|(at, _)| *at <= to);
        let mut boundary = boundaries.next();
        if mutant::is(Mutant::MarksAhead) {
            boundary = self.0.last();
        } else if mutant::is(Mutant::MarksBehind) {
            boundary = boundaries.next().or(boundary);
        }
        if let Some((_, marks)) = boundary {
            marks.encode(&mut bytes);
        }
        bytes
    }
}

impl SiftingReader {
    pub(in crate::memory) fn open(
        shared: &Arc<StreamShared>,
        shard: &Shard,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Self> {
        let (mut first, mut since) = (Position::Begin, None);
        let readable = |id: &ShardId, marks: Result<ReaderMarks, _>| {
            marks.map_err(|error| {
                Error::fatal(format!("the marks of shard `{id}` are damaged: {error}"))
            })
        };
        let cursor = match at {
            OpenAt::At(record) => {
                first = record;
                Cursor {
                    after: Position::Begin,
                    marks: None,
                    before: None,
                }
            }
            OpenAt::After { progress, parents } => {
                let marks = if progress.to == Position::Begin {
                    since = match progress.began {
                        None | Some(Start::Earliest) => None,
                        Some(Start::Latest) => Some(shared.now()),
                        Some(Start::At(micros)) => Some(micros),
                    };
                    let map = shared.lock().map();
                    debug_assert!(
                        parents.iter().all(|(id, progress)| {
                            progress.to == Position::End || map.get(id).is_none()
                        }),
                        "a parent that is there has ended"
                    );
                    let parents = parents
                        .iter()
                        .filter(|(_, progress)| !progress.marks.is_empty())
                        .map(|(id, progress)| readable(id, ReaderMarks::decode(&progress.marks)));
                    ReaderMarks::of_child(shard.range, &parents.collect::<Result<Vec<_>>>()?)
                } else {
                    let marks = ReaderMarks::restored(&progress.marks, shard.range, progress.to);
                    readable(&shard.id, marks)?
                };
                Cursor {
                    after: progress.to,
                    marks: Some(marks),
                    before: None,
                }
            }
        };
        Ok(SiftingReader {
            shared: Arc::clone(shared),
            shard: shard.id.clone(),
            budget: budget.clone(),
            cursor,
            first,
            since,
            said_idle: false,
        })
    }

    /// What comes next, where reading is then, and the bytes it takes; `None` when there is nothing to tell.
    fn look(&self) -> Result<Option<(Read, Cursor, u64)>> {
        let mut state = self.shared.landed();
        state.fail_read(&self.shard)?;
        let map = state.map();
        let log = state.stored(&self.shard)?;
        let at = |after: Position| Cursor {
            after,
            ..self.cursor.clone()
        };
        let (after, kept) = (self.cursor.after, log.kept_after());
        if after < kept && self.first <= kept {
            let gap = Read::Gap {
                from: after,
                to: kept,
                why: "retention passed".to_owned(),
                marks: self.cursor.bytes(),
            };
            return Ok(Some((gap, at(kept), 0)));
        }
        if let Some((batch, cursor, bytes)) = self.batch(log) {
            return Ok(Some((Read::Batch(batch), cursor, bytes)));
        }
        if log.shard.closed {
            let children = map.children(&self.shard).map(|child| child.id.clone());
            let children = children.collect();
            let mut end = self.cursor.clone();
            end.marks = end.before.take().or(end.marks);
            return Ok(Some((
                Read::End {
                    children,
                    marks: end.bytes(),
                },
                at(after),
                0,
            )));
        }
        let idle = Read::Idle { through: after };
        Ok((!self.said_idle).then_some((idle, at(after), 0)))
    }

    fn batch(&self, log: &StoredLog) -> Option<(Batch, Cursor, u64)> {
        let next = log.puts.partition_point(|stored| {
            let is_passed = self.since.is_some_and(|since| stored.arrival < since);
            stored.end() <= self.cursor.after || stored.end() < self.first || is_passed
        });
        let mut cursor = self.cursor.clone();
        let mut sifter = Sifter::default();
        let begin = cursor.marks.clone().map(|marks| (cursor.after, marks));
        sifter.trail.extend(begin);
        let mut bytes = 0;
        for stored in &log.puts[next..] {
            if bytes > 0 && bytes + stored.put.bytes() > BATCH_BYTES {
                break;
            }
            let verdicts = match &mut cursor.marks {
                Some(marks) => {
                    let record = StoredRecord {
                        at: stored.end(),
                        arrival: stored.arrival,
                        entries: &stored.put.tag,
                        items: &stored.put.items,
                    };
                    if mutant::is(Mutant::MarksBeforeTheEnd) {
                        cursor.before = Some(marks.clone());
                    }
                    let mut sifted = marks.read(&record, ENDED_KEPT);
                    if sifted.origin_gaps > 0 && mutant::is(Mutant::GapHeld) {
                        sifted.verdicts.fill(ItemVerdict::Elsewhere);
                    }
                    sifter.trail.push((stored.end(), marks.clone()));
                    self.shared.count_gaps(sifted.origin_gaps);
                    sifted.verdicts
                }
                None => {
                    let items = stored.put.items.iter();
                    let verdict = |route| match log.shard.range.contains(route) {
                        true => ItemVerdict::Kept,
                        false => ItemVerdict::Elsewhere,
                    };
                    items.map(|item| verdict(item.route)).collect()
                }
            };
            let is_wanted = |at: Position| self.cursor.after < at && self.first <= at;
            sifter.take(stored, &verdicts, is_wanted);
            bytes += stored.put.bytes();
            cursor.after = stored.end();
        }
        (cursor.after > self.cursor.after).then(|| (sifter.finish(cursor.after), cursor, bytes))
    }
}

#[async_trait]
impl ShardReader for SiftingReader {
    async fn next(&mut self) -> Result<Read> {
        loop {
            let shared = Arc::clone(&self.shared);
            let changed = shared.changed();
            let Some((mut read, cursor, bytes)) = self.look()? else {
                let due = shared.next_due();
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = clock::sleep_until(due) => {}
                }
                continue;
            };
            if let Read::Batch(batch) = &mut read {
                // Dropped while it waits, the call has taken nothing.
                batch.permit = self.budget.acquire(bytes).await;
            }
            self.said_idle = matches!(read, Read::Idle { .. });
            self.cursor = cursor;
            return Ok(read);
        }
    }
}

/// Builds a batch of what is kept. Accounts and numbers of copies count at the end of their put, for all of it.
#[derive(Default)]
struct Sifter {
    batch: Batch,
    segments: Vec<bytes::Bytes>,
    runs: RunBuilder,
    hashes: Vec<u128>,
    is_explicit: bool,
    trail: Vec<(Position, ReaderMarks)>,
}

impl Sifter {
    fn take(
        &mut self,
        stored: &StoredPut,
        verdicts: &[ItemVerdict],
        is_wanted: impl Fn(Position) -> bool,
    ) {
        let put = &stored.put;
        let records: usize = put.parts.iter().map(|part| part.records.len()).sum();
        let (mut record, mut unit) = (0, records);
        let mut duplicates = 0;
        for part in &put.parts {
            let segment = self.segments.len() as u32;
            self.segments.push(part.bytes.clone());
            let first = self.batch.records.len() as u32;
            let mut origins = Vec::new();
            let mut account = Account::default();
            for item in &part.records {
                let (sub, verdict) = (record, verdicts[record]);
                record += 1;
                duplicates += u64::from(verdict == ItemVerdict::Duplicate);
                if verdict != ItemVerdict::Kept {
                    continue;
                }
                account.records += 1;
                if !is_wanted(Position::at(stored.sequence, sub as u32)) {
                    continue;
                }
                self.runs
                    .push(stored.sequence, sub as u32, Step::Sub, stored.arrival);
                self.hashes.push(item.route);
                self.is_explicit |= part.explicit;
                origins.push(put.items[sub].origin);
                self.batch.records.push(Entry {
                    segment,
                    key: item.key,
                    payload: item.payload,
                    stamp: item.stamp,
                });
            }
            for one in part.units.iter() {
                let verdict = verdicts[unit];
                unit += 1;
                if verdict != ItemVerdict::Kept {
                    continue;
                }
                account.input += one.count();
                match &one.what {
                    UnitKind::DeadLetter(letter) => account.dead_letters.push(letter.clone()),
                    UnitKind::Dropped { rule, count } => account.drop_by(rule, *count),
                }
            }
            account.input += account.records;
            let Some(entry) = &part.entry else {
                continue;
            };
            let end = self.batch.records.len() as u32;
            if first < end {
                self.batch.origins.push(OriginSpan {
                    records: first..end,
                    skip: 0,
                    entry: Arc::new(OriginEntry {
                        origins: origins.into_iter().collect(),
                        ..(**entry).clone()
                    }),
                });
            }
            if part.is_counted && account.input > 0 {
                self.batch.accounts.push(AccountSpan {
                    at: stored.end(),
                    entry: AccountOf {
                        writer: entry.writer,
                        shard: entry.shard.clone(),
                    },
                    account,
                });
            }
        }
        if duplicates > 0 {
            self.batch.duplicates.push((stored.end(), duplicates));
        }
    }

    fn finish(mut self, to: Position) -> Batch {
        self.batch.segments = self.segments.into();
        self.batch.runs = self.runs.finish();
        if self.is_explicit {
            self.batch.hashes = self.hashes;
        }
        self.batch.to = to;
        if !self.trail.is_empty() {
            self.batch.marks = Some(Arc::new(MarksTrail(self.trail)));
        }
        self.batch
    }
}
