//! What the reader of a shard knows of each origin, in a stream that stores what comes as it comes.
//!
//! Such a stream refuses no append: copies of what it holds already land in it, late, reordered, in another shard than
//! the writer meant. So its readers deduplicate. A stored record carries a tag that says which interval of each origin it
//! completes ([`TagClaim`]), and the origin of each item in it; [`ReaderMarks`] hold, for each part of the shard's hash
//! range and each origin, the set of what was read: everything up to a place, and islands beyond it.
//!
//! Reading is a function (marks, stored record) -> (what is kept, marks): no clock, no chance, nothing held back. An
//! interval that is read again from its stored marks gives the same records. Two rules guard that nothing is lost:
//! items are filtered by the shard's range *before* the marks are asked, and what was filtered adds nothing; a claim
//! first cuts the segments that it covers in part. Marks travel with a position in one write ([`ReaderMarks::at`]).
//!
//! | what a stored record says | what the marks do |
//! |---|---|
//! | an item whose route lies outside the shard's range | [`ItemVerdict::Elsewhere`]: nothing is added |
//! | an item in the set of its segment | [`ItemVerdict::Duplicate`] |
//! | an item not in the set | [`ItemVerdict::Kept`], and added |
//! | the same, below the top of its set, and a record | kept, and counted as a gap of its origin |
//! | `low` | before the items: everything up to it is known in the ranges of the entry's claims |
//! | a claim `(from, to]` of a range | after the items: everything in it is known in that range, what lies before `from` is not |
//! | a claim to [`Position::End`] | the origin has ended there; its set is pruned by a much later arrival |

mod bytes;
mod known;
#[cfg(test)]
mod tests;
mod wrong;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::mutant::{self, Mutant};
use crate::origin::{Origin, WriterId};
use crate::position::Position;
use crate::shard::{HashRange, ShardId};
use crate::varint::Malformed;

use known::{Edge, KnownSet};

/// Whose marks: who writes, and which shard it reads.
type OriginName = (WriterId, ShardId);

/// No record or unit of the entry's origin that routes into `range` and lies in `(from, to]` is outside this record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagClaim {
    /// The route hashes that it speaks of.
    pub range: HashRange,
    /// Exclusive start.
    pub from: Position,
    /// Inclusive end.
    pub to: Position,
}

/// What the tag of a stored record says of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// Who wrote.
    pub writer: WriterId,
    /// The shard that the writer read.
    pub shard: ShardId,
    /// A checkpoint of the writer that is old enough: everything up to it is placed. `None` when there is none yet.
    pub low: Option<Position>,
    /// Claims that tile the range of the writer's lane.
    pub claims: Vec<TagClaim>,
}

/// A record or a unit inside a stored record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagItem {
    /// Index of its entry in the tag; beyond the last one for an append without an origin.
    pub entry: usize,
    /// Which output of which upstream record it is.
    pub origin: Origin,
    /// Its route hash.
    pub route: u128,
    /// Whether it is a record, whose order counts, and not a dead letter or a drop.
    pub is_record: bool,
}

/// One record as a stream stores it: a tag, and the items that the tag speaks of.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord<'a> {
    /// The position of the last item in it.
    pub at: Position,
    /// When the stream stored it, microseconds since 1970.
    pub arrival: i64,
    /// The tag; empty for a record of a writer that keeps no track.
    pub entries: &'a [TagEntry],
    /// What it holds, in order.
    pub items: &'a [TagItem],
}

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemVerdict {
    /// The reader hands it on.
    Kept,
    /// The reader drops it: it was read before.
    Duplicate,
    /// The reader drops it: its route belongs to another shard.
    Elsewhere,
}

/// What becomes of a stored record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sifted {
    /// What becomes of each item.
    pub verdicts: Vec<ItemVerdict>,
    /// Records that are kept although a later one of their origin came before them.
    pub origin_gaps: u64,
}

/// A part of the hash range in which the same is known of an origin. It begins where the one before it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HashSegment {
    /// The largest hash inside.
    last: u128,
    known: KnownSet,
    /// When the end of the origin arrived last.
    ended: Option<i64>,
}

impl HashSegment {
    fn unknown(last: u128) -> Self {
        HashSegment {
            last,
            known: KnownSet::default(),
            ended: None,
        }
    }

    fn is_unknown(&self) -> bool {
        self.known.is_empty() && self.ended.is_none()
    }
}

/// The marks of one reader: what it knows of each origin in the range of its shard.
///
/// The segments of each origin cover the range; neighbours differ.
///
/// ```
/// use std::time::Duration;
/// use hydrant_core::marks::{ItemVerdict, ReaderMarks, StoredRecord, TagClaim, TagEntry, TagItem};
/// use hydrant_core::origin::{Origin, WriterId};
/// use hydrant_core::{HashRange, Position, Sequence, ShardId};
///
/// // A writer says that this stored record completes what it has read up to offset 5, and holds record 5.
/// let claim = TagClaim { range: HashRange::ALL, from: Position::Begin, to: Position::offset(5) };
/// let entry = TagEntry {
///     writer: WriterId::of_name("transform"),
///     shard: ShardId::new("000000"),
///     low: None,
///     claims: vec![claim],
/// };
/// let origin = Origin { sequence: Sequence::from(5), sub: 0, index: 0 };
/// let item = TagItem { entry: 0, origin, route: 7, is_record: true };
///
/// // The answer to the first put was lost, so the writer put it again.
/// let mut marks = ReaderMarks::new(HashRange::ALL);
/// for (offset, verdict) in [(1, ItemVerdict::Kept), (2, ItemVerdict::Duplicate)] {
///     let (entries, items) = (std::slice::from_ref(&entry), &[item]);
///     let stored = StoredRecord { at: Position::offset(offset), arrival: 0, entries, items };
///     assert_eq!(marks.read(&stored, Duration::from_secs(86_400)).verdicts, [verdict]);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderMarks {
    at: Position,
    range: HashRange,
    origins: BTreeMap<OriginName, Vec<HashSegment>>,
    /// The oldest arrival of an end, so that it is seldom looked for.
    first_end: Option<i64>,
}

impl ReaderMarks {
    /// The marks of a reader that knows nothing.
    pub fn new(range: HashRange) -> Self {
        ReaderMarks {
            at: Position::Begin,
            range,
            origins: BTreeMap::new(),
            first_end: None,
        }
    }

    /// The marks of a child that begins, from the final marks of its parents. A split restricts them, a merge puts them
    /// side by side; nothing is known of what no parent covers.
    pub fn of_child(range: HashRange, parents: &[ReaderMarks]) -> Self {
        let mut child = ReaderMarks::new(range);
        if mutant::is(Mutant::ChildrenWithoutMarks) {
            return child;
        }
        let mut parents: Vec<&ReaderMarks> = parents.iter().collect();
        parents.sort_by_key(|parent| parent.range.first);
        debug_assert!(
            parents
                .windows(2)
                .all(|two| two[0].range.last < two[1].range.first),
            "the ranges of parents do not overlap"
        );
        for origin in parents.iter().flat_map(|parent| parent.origins.keys()) {
            if child.origins.contains_key(origin) {
                continue;
            }
            let mut segments = Vec::new();
            let mut next = range.first;
            for parent in &parents {
                let Some(part) = parent.range.intersect(range) else {
                    continue;
                };
                if next < part.first {
                    segments.push(HashSegment::unknown(part.first - 1));
                }
                match parent.origins.get(origin) {
                    None => segments.push(HashSegment::unknown(part.last)),
                    Some(known) => segments.extend(restricted(known, part)),
                }
                next = part.last.saturating_add(1);
            }
            if segments
                .last()
                .is_none_or(|segment| segment.last < range.last)
            {
                segments.push(HashSegment::unknown(range.last));
            }
            wrong::merge(&mut segments);
            child.keep(origin.clone(), segments);
        }
        child.find_first_end();
        child
    }

    /// The marks that were stored with `position`, read again. They are discarded when they were stored with a later
    /// one: the reader was set back, and what it knew would hide what it is to read again.
    ///
    /// Fails when the bytes are not marks of a shard of this range.
    pub fn restored(
        stored: &[u8],
        range: HashRange,
        position: Position,
    ) -> Result<Self, Malformed> {
        if stored.is_empty() || mutant::is(Mutant::MarksNotStored) {
            return Ok(ReaderMarks::new(range));
        }
        let marks = ReaderMarks::decode(stored)?;
        if marks.range != range {
            return Err(Malformed);
        }
        let is_rewound = position < marks.at && !mutant::is(Mutant::MarksKeptOverRewind);
        Ok(match is_rewound {
            true => ReaderMarks::new(range),
            false => marks,
        })
    }

    /// The position that they belong to: all up to it was read.
    pub fn at(&self) -> Position {
        self.at
    }

    /// How many origins are known.
    pub fn origins(&self) -> usize {
        self.origins.len()
    }

    /// Takes one stored record in, and says what of it is kept. `ended_kept` is how long an ended origin is remembered,
    /// by arrivals: the retention of the stream that it is a shard of, and at least a day.
    pub fn read(&mut self, record: &StoredRecord<'_>, ended_kept: Duration) -> Sifted {
        debug_assert!(self.at < record.at, "records are read in their order");
        let mut touched = self.touch(record);
        for (entry, origin) in &touched.entries {
            touched.origins[*origin].begin(entry, self.range);
        }
        touched.note_tops();
        let mut sifted = Sifted {
            verdicts: Vec::with_capacity(record.items.len()),
            origin_gaps: 0,
        };
        for item in record.items {
            let verdict = match record.entries.get(item.entry) {
                Some(entry) => {
                    let origin = &mut touched.origins[touched.entries[item.entry].1];
                    origin.take(item, entry, self.range, &mut sifted.origin_gaps)
                }
                None if self.range.contains(item.route) => ItemVerdict::Kept,
                None => ItemVerdict::Elsewhere,
            };
            sifted.verdicts.push(verdict);
        }
        let mut has_ended = false;
        for (entry, origin) in &touched.entries {
            has_ended |= touched.origins[*origin].finish(entry, self.range, record.arrival);
        }
        for origin in touched.origins {
            self.keep(origin.name, origin.segments);
        }
        if has_ended {
            self.find_first_end();
        }
        self.prune(record.arrival, ended_kept);
        self.at = record.at;
        sifted
    }

    /// Takes the origins of a record's tag out.
    fn touch<'a>(&mut self, record: &StoredRecord<'a>) -> Touched<'a> {
        let mut touched = Touched {
            origins: Vec::with_capacity(record.entries.len()),
            entries: Vec::with_capacity(record.entries.len()),
        };
        for entry in record.entries {
            let is_it = |one: &Touch| one.name.0 == entry.writer && one.name.1 == entry.shard;
            let found = touched.origins.iter().position(is_it);
            let origin = found.unwrap_or_else(|| {
                let name = (entry.writer, entry.shard.clone());
                let known = self.origins.remove(&name);
                touched.origins.push(Touch {
                    name,
                    segments: known.unwrap_or_else(|| vec![HashSegment::unknown(self.range.last)]),
                    tops: Vec::new(),
                    rises: true,
                    previous: None,
                    judged_as: None,
                });
                touched.origins.len() - 1
            });
            touched.entries.push((entry, origin));
        }
        for item in record.items {
            if let Some((_, origin)) = touched.entries.get(item.entry) {
                touched.origins[*origin].note(item, self.range);
            }
        }
        touched
    }

    fn keep(&mut self, name: OriginName, mut segments: Vec<HashSegment>) {
        segments.dedup_by(|later, earlier| {
            let same = earlier.known == later.known && earlier.ended == later.ended;
            if same {
                earlier.last = later.last;
            }
            same
        });
        debug_assert_eq!(
            segments.last().map(|segment| segment.last),
            Some(self.range.last),
            "the segments of an origin cover the range"
        );
        if segments.len() > 1 || !segments[0].is_unknown() {
            self.origins.insert(name, segments);
        }
    }

    fn find_first_end(&mut self) {
        let segments = self.origins.values().flatten();
        self.first_end = segments.filter_map(|segment| segment.ended).min();
    }

    /// Forgets the origins that have ended so long before this arrival that nothing of them can arrive any more.
    fn prune(&mut self, arrival: i64, ended_kept: Duration) {
        let kept = i64::try_from(ended_kept.as_micros()).unwrap_or(i64::MAX);
        let oldest = match mutant::is(Mutant::EndedPrunedAtOnce) {
            true => i64::MAX,
            false => arrival.saturating_sub(kept),
        };
        if self.first_end.is_none_or(|end| end >= oldest) {
            return;
        }
        let mut origins = std::mem::take(&mut self.origins);
        for segment in origins.values_mut().flatten() {
            if segment.ended.is_some_and(|end| end < oldest) {
                *segment = HashSegment::unknown(segment.last);
            }
        }
        for (name, segments) in origins {
            self.keep(name, segments);
        }
        self.find_first_end();
    }
}

/// The origins that one stored record speaks of, taken out of the marks.
struct Touched<'a> {
    origins: Vec<Touch>,
    /// Each entry of the tag, and the index of its origin.
    entries: Vec<(&'a TagEntry, usize)>,
}

impl Touched<'_> {
    fn note_tops(&mut self) {
        for origin in &mut self.origins {
            let tops = origin.segments.iter().map(|segment| segment.known.top());
            origin.tops = tops.collect();
        }
    }
}

/// One origin while a stored record is read.
struct Touch {
    name: OriginName,
    segments: Vec<HashSegment>,
    /// The top of each segment's set before the record.
    tops: Vec<Edge>,
    /// Whether the items of the origin rise: then none is there twice, and those that a claim covers need not be added
    /// one by one.
    rises: bool,
    previous: Option<Origin>,
    /// What all items are taken for, in a broken variant.
    judged_as: Option<Origin>,
}

impl Touch {
    /// Looks at an item before any is judged.
    fn note(&mut self, item: &TagItem, range: HashRange) {
        self.rises &= self.previous.is_none_or(|previous| previous < item.origin);
        self.previous = Some(item.origin);
        if mutant::is(Mutant::OriginPerStoredRecord) && range.contains(item.route) {
            self.judged_as = self.judged_as.max(Some(item.origin));
        }
    }

    /// Cuts the segments that a claim covers in part, and adds what is known by `low`.
    fn begin(&mut self, entry: &TagEntry, range: HashRange) {
        for claim in &entry.claims {
            let Some(part) = claim.range.intersect(range) else {
                continue;
            };
            if !mutant::is(Mutant::ClaimOfWholeSegments) {
                self.cut(part, range.first);
            }
            for segment in covered(&mut self.segments, part, range.first) {
                wrong::first_sight(segment, claim);
                if let Some(low) = entry.low {
                    segment.known.add(Edge::BEGIN, Edge::after(low));
                }
            }
        }
    }

    /// Lets segments begin and end where `part` does; `first` is the first hash of them all.
    fn cut(&mut self, part: HashRange, first: u128) {
        let before = (part.first > first).then(|| part.first - 1);
        for last in before.into_iter().chain([part.last]) {
            let at = self.segments.partition_point(|segment| segment.last < last);
            if self.segments[at].last > last {
                let lower = HashSegment {
                    last,
                    ..self.segments[at].clone()
                };
                self.segments.insert(at, lower);
            }
        }
    }

    /// What becomes of an item.
    fn take(
        &mut self,
        item: &TagItem,
        entry: &TagEntry,
        range: HashRange,
        origin_gaps: &mut u64,
    ) -> ItemVerdict {
        if !item.is_record
            && let Some(verdict) = wrong::unit_by_lane(&mut self.segments, item, entry, range)
        {
            return verdict;
        }
        if !range.contains(item.route) {
            return wrong::foreign(&mut self.segments, item).unwrap_or(ItemVerdict::Elsewhere);
        }
        let mut origin = self.judged_as.unwrap_or(item.origin);
        if mutant::is(Mutant::OutputIndexIgnored) {
            origin.index = 0;
        }
        let (edge, past) = (Edge::before(origin), Edge::past(origin));
        let at = self
            .segments
            .partition_point(|segment| segment.last < item.route);
        let segment = &mut self.segments[at];
        if segment.known.contains(edge) {
            return ItemVerdict::Duplicate;
        }
        *origin_gaps += u64::from(item.is_record && edge < self.tops[at]);
        match &entry.claims[..] {
            _ if mutant::is(Mutant::HighWaterMark) => segment.known.add(Edge::BEGIN, past),
            _ if self.judged_as.is_some() => {}
            [claim] if self.rises && claim.covers(item) => {}
            _ => segment.known.add(edge, past),
        }
        ItemVerdict::Kept
    }

    /// Adds what the claims of an entry cover; answers whether the origin ends there.
    fn finish(&mut self, entry: &TagEntry, range: HashRange, arrival: i64) -> bool {
        let mut has_ended = false;
        for claim in &entry.claims {
            let Some(part) = claim.range.intersect(range) else {
                continue;
            };
            let from = match mutant::is(Mutant::HighWaterMark) {
                true => Edge::BEGIN,
                false => Edge::after(claim.from),
            };
            for segment in covered(&mut self.segments, part, range.first) {
                segment.known.add(from, Edge::after(claim.to));
                if claim.to == Position::End {
                    segment.ended = Some(arrival);
                    has_ended = true;
                }
            }
        }
        has_ended
    }
}

impl TagClaim {
    fn covers(&self, item: &TagItem) -> bool {
        let position = item.origin.position();
        self.range.contains(item.route) && self.from < position && position <= self.to
    }
}

/// The segments that have a hash in common with `part`; `first` is the first hash of them all.
fn covered(
    segments: &mut [HashSegment],
    part: HashRange,
    first: u128,
) -> impl Iterator<Item = &mut HashSegment> {
    debug_assert!(first <= part.first, "a part lies within the range");
    let from = segments.partition_point(|segment| segment.last < part.first);
    let to = segments.partition_point(|segment| segment.last < part.last);
    segments[from..=to].iter_mut()
}

/// The parts of segments that lie in `part`.
fn restricted(segments: &[HashSegment], part: HashRange) -> impl Iterator<Item = HashSegment> {
    let from = segments.partition_point(|segment| segment.last < part.first);
    let to = segments.partition_point(|segment| segment.last < part.last);
    segments[from..=to].iter().map(move |segment| HashSegment {
        last: segment.last.min(part.last),
        ..segment.clone()
    })
}
