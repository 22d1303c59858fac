//! Marks: which part of each origin is known to a shard, by hash segment.
//!
//! A segment's mark says that everything of the origin in the interval `(start, to]` that routes into the segment is in
//! the log. It says nothing of what lies at or before `start`, where the writer began: an append that holds something of
//! that is refused, because it is not known, and once written it would look like what is known. A split
//! restricts the segments, a merge puts them side by side; neither ever joins two segments with different marks, whose
//! maximum would lose records and whose minimum would double them.

use std::collections::{BTreeMap, BTreeSet};

use hydrant_core::mutant::{self, Mutant};
use hydrant_core::origin::{OriginEntry, WriterId};
use hydrant_core::stream::Begun;
use hydrant_core::varint::{self, Malformed, Reader};
use hydrant_core::{HashRange, Position, ShardId};

/// Whose marks.
pub(crate) type OriginKey = (WriterId, ShardId);

/// One hash segment and which part of an origin is known in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OriginMark {
    /// The hash segment.
    pub(crate) range: HashRange,
    /// Everything after this,
    pub(crate) start: Position,
    /// up to here, is in the log.
    pub(crate) to: Position,
}

impl OriginMark {
    /// What is known by what a claim says of the time before it.
    fn raised(self, claim: &OriginInterval) -> OriginMark {
        if claim.start > self.to {
            // The writer began again beyond what is known, and passed over what lies between.
            return OriginMark {
                start: claim.start,
                to: claim.start.max(claim.low),
                ..self
            };
        }
        OriginMark {
            to: self.to.max(claim.low),
            ..self
        }
    }
}

/// The byte form of marks.
pub(crate) const FORMAT: u32 = 2;
/// A stored origin with one mark, but for the name of its shard.
const ENTRY_BYTES_MAX: u64 = 112;

/// What an append says of its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginInterval {
    /// Whose origin.
    pub(crate) origin: OriginKey,
    /// Where the writer began to read.
    pub(crate) start: Position,
    /// Confirmed before the writer's session.
    pub(crate) low: Position,
    /// Exclusive start.
    pub(crate) from: Position,
    /// Inclusive end.
    pub(crate) to: Position,
}

impl From<&OriginEntry> for OriginInterval {
    fn from(entry: &OriginEntry) -> Self {
        OriginInterval {
            origin: (entry.writer, entry.shard.clone()),
            start: entry.start,
            low: entry.low,
            from: entry.from,
            to: entry.to,
        }
    }
}

/// How an append stands to the marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DedupVerdict {
    /// None of it is known.
    New,
    /// All of it is known.
    Duplicate,
    /// Each of its records and units has to be looked at by these marks.
    Partial(Vec<OriginMark>),
    /// It starts after this mark.
    OutOfOrder(Position),
}

/// The marks of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DedupState {
    range: HashRange,
    origins: BTreeMap<OriginKey, Vec<OriginMark>>,
}

/// What takes one change of the marks back.
#[derive(Debug)]
pub(crate) struct Undo {
    origin: OriginKey,
    before: Option<Vec<OriginMark>>,
}

impl DedupState {
    /// A shard that knows nothing.
    pub(crate) fn new(range: HashRange) -> Self {
        DedupState {
            range,
            origins: BTreeMap::new(),
        }
    }

    /// How many origins are known.
    pub(crate) fn len(&self) -> usize {
        self.origins.len()
    }

    /// Bytes of the form in which they are stored.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let mut out = Vec::new();
        self.encode(&mut out);
        out.len() as u64
    }

    /// Bytes that a claim adds at most, when its origin is new.
    pub(crate) fn added_by(&self, claim: &OriginInterval) -> u64 {
        match self.origins.contains_key(&claim.origin) {
            true => 0,
            false => ENTRY_BYTES_MAX + claim.origin.1.as_str().len() as u64,
        }
    }

    /// The origins that began beyond the beginning of their upstream shard.
    pub(crate) fn begun(&self) -> Vec<Begun> {
        let parts = self.origins.iter().flat_map(|(origin, marks)| {
            let began = marks.iter().filter(|mark| mark.start > Position::Begin);
            began.map(move |mark| (origin, mark))
        });
        parts
            .map(|((writer, upstream), mark)| Begun {
                writer: *writer,
                upstream: upstream.clone(),
                start: mark.start,
            })
            .collect()
    }

    /// The origins that end with their process.
    pub(crate) fn runs(&self) -> BTreeSet<WriterId> {
        let writers = self.origins.keys().map(|(writer, _)| *writer);
        writers.filter(|writer| writer.is_run()).collect()
    }

    /// Forgets origins that send nothing any more.
    pub(crate) fn forget(&mut self, over: &BTreeSet<WriterId>) {
        self.origins.retain(|(writer, _), _| !over.contains(writer));
    }

    fn of(&self, origin: &OriginKey) -> Vec<OriginMark> {
        self.origins.get(origin).cloned().unwrap_or_else(|| {
            vec![OriginMark {
                range: self.range,
                start: Position::Begin,
                to: Position::Begin,
            }]
        })
    }

    /// How an append stands to the marks, raised by what it says of the time before it; one that reaches back holds
    /// something before its interval. The first line that holds decides:
    ///
    /// | of the marks of its origin | it is |
    /// |---|---|
    /// | one ends before `from` | out of order |
    /// | one starts after `from`, or, if it reaches back, after the beginning | partial: each item is looked at |
    /// | all end at `to` or later | a duplicate |
    /// | one ends after `from`, or it reaches back | partial |
    /// | all end at `from` | new |
    pub(crate) fn judge(&self, claim: &OriginInterval, reaches_back: bool) -> DedupVerdict {
        let mut marks = self.of(&claim.origin);
        marks.iter_mut().for_each(|mark| *mark = mark.raised(claim));
        let begins = |mark: &OriginMark| mark.start > Position::Begin;
        let may_be_before = marks
            .iter()
            .any(|mark| claim.from < mark.start || (reaches_back && begins(mark)));
        let lowest = marks.iter().map(|mark| mark.to).min();
        let highest = marks.iter().map(|mark| mark.to).max();
        match (lowest, highest) {
            (Some(lowest), _) if claim.from > lowest && !mutant::is(Mutant::OutOfOrderAccepted) => {
                DedupVerdict::OutOfOrder(lowest)
            }
            _ if may_be_before => DedupVerdict::Partial(marks),
            (Some(lowest), _) if claim.to <= lowest => DedupVerdict::Duplicate,
            (_, Some(highest)) if highest > claim.from || reaches_back => {
                DedupVerdict::Partial(marks)
            }
            _ => DedupVerdict::New,
        }
    }

    /// Takes in what an append completes.
    pub(crate) fn apply(&mut self, claim: &OriginInterval) -> Undo {
        let before = self.origins.get(&claim.origin).cloned();
        let marks = self
            .of(&claim.origin)
            .into_iter()
            .map(|mark| {
                let mark = mark.raised(claim);
                let to = mark.to.max(claim.to);
                OriginMark { to, ..mark }
            })
            .collect();
        self.origins.insert(claim.origin.clone(), joined(marks));
        Undo {
            origin: claim.origin.clone(),
            before,
        }
    }

    /// Takes changes back; the last one first.
    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo.before {
            Some(before) => self.origins.insert(undo.origin, before),
            None => self.origins.remove(&undo.origin),
        };
    }

    /// The marks of a child that owns a part of the range.
    pub(crate) fn restricted(&self, range: HashRange) -> DedupState {
        if mutant::is(Mutant::ChildrenWithoutMarks) {
            return DedupState::new(range);
        }
        let origins = self.origins.iter().map(|(origin, marks)| {
            let part = marks.iter().filter_map(|mark| {
                let range = mark.range.intersect(range)?;
                Some(OriginMark { range, ..*mark })
            });
            (origin.clone(), joined(part.collect()))
        });
        DedupState {
            range,
            origins: origins.collect(),
        }
    }

    /// The marks of a child that owns two neighbouring ranges; `None` when they are no neighbours.
    pub(crate) fn concatenated(&self, other: &DedupState) -> Option<DedupState> {
        let range = self.range.join(other.range)?;
        let (low, high) = if self.range.first <= other.range.first {
            (self, other)
        } else {
            (other, self)
        };
        let mut origins = BTreeMap::new();
        for origin in low.origins.keys().chain(high.origins.keys()) {
            if !origins.contains_key(origin) {
                let mut marks = low.of(origin);
                marks.extend(high.of(origin));
                let wrong = match () {
                    () if mutant::is(Mutant::MergedByMax) => marks.iter().map(|mark| mark.to).max(),
                    () if mutant::is(Mutant::MergedByMin) => marks.iter().map(|mark| mark.to).min(),
                    () => None,
                };
                marks
                    .iter_mut()
                    .for_each(|mark| mark.to = wrong.unwrap_or(mark.to));
                origins.insert(origin.clone(), joined(marks));
            }
        }
        Some(DedupState { range, origins })
    }

    /// Appends the byte form.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        if mutant::is(Mutant::MarksNotStored) {
            return varint::put_u64(out, 0);
        }
        varint::put_u64(out, self.origins.len() as u64);
        for ((writer, shard), marks) in &self.origins {
            out.extend_from_slice(&writer.0.to_be_bytes());
            varint::put_bytes(out, shard.as_str().as_bytes());
            varint::put_u64(out, marks.len() as u64);
            for mark in marks {
                varint::put_u128(out, mark.range.last);
                varint::put_position(out, mark.start);
                varint::put_position(out, mark.to);
            }
        }
    }

    /// Reads a byte form of a shard that owns `range`.
    pub(crate) fn decode(
        reader: &mut Reader<'_>,
        range: HashRange,
    ) -> Result<DedupState, Malformed> {
        let mut marks = DedupState::new(range);
        for _ in 0..reader.u64()? {
            let writer: [u8; 16] = reader.take(16)?.try_into().map_err(|_| Malformed)?;
            let shard = ShardId::new(reader.text()?);
            let mut first = Some(range.first);
            let mut list = Vec::new();
            for _ in 0..reader.u64()? {
                let range = HashRange {
                    first: first.ok_or(Malformed)?,
                    last: reader.u128()?,
                };
                if range.last < range.first {
                    return Err(Malformed);
                }
                let (start, to) = (reader.position()?, reader.position()?);
                list.push(OriginMark { range, start, to });
                first = range.last.checked_add(1);
            }
            if list.last().map(|mark| mark.range.last) != Some(range.last) {
                return Err(Malformed);
            }
            let writer = WriterId(u128::from_be_bytes(writer));
            marks.origins.insert((writer, shard), list);
        }
        Ok(marks)
    }
}

/// Joins neighbours whose marks are equal.
fn joined(marks: Vec<OriginMark>) -> Vec<OriginMark> {
    let mut out: Vec<OriginMark> = Vec::with_capacity(marks.len());
    for mark in marks {
        match out.last_mut() {
            Some(last) if (last.start, last.to) == (mark.start, mark.to) => {
                last.range.last = mark.range.last;
            }
            _ => out.push(mark),
        }
    }
    out
}

/// How one record or unit stands to the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is not in the log.
    New,
    /// It is in the log.
    Known,
    /// Its writer began after it, here.
    Before(Position),
}

/// How the record with this route and origin position stands to these marks.
pub(crate) fn standing(marks: &[OriginMark], route: u128, position: Position) -> Standing {
    let after = marks.partition_point(|mark| mark.range.last < route);
    match marks.get(after).filter(|mark| mark.range.contains(route)) {
        Some(mark) if position > mark.to => Standing::New,
        Some(mark) if position > mark.start => Standing::Known,
        Some(mark) => Standing::Before(mark.start),
        None => Standing::New,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hashes 0..8 stand for the hash space; the model knows each (hash, position) that the log holds.
    const HASHES: u128 = 8;

    fn range(first: u128, last: u128) -> HashRange {
        HashRange { first, last }
    }

    fn key(origin: u8) -> OriginKey {
        (WriterId(u128::from(origin)), "s".into())
    }

    fn p(n: u64) -> Position {
        match n {
            0 => Position::Begin,
            n => Position::offset(n),
        }
    }

    fn claim(origin: u8, low: u64, from: u64, to: u64) -> OriginInterval {
        OriginInterval {
            origin: key(origin),
            start: Position::Begin,
            low: p(low),
            from: p(from),
            to: p(to),
        }
    }

    #[derive(Clone, Debug)]
    enum DedupOp {
        /// The writer of an origin begins again here.
        Begin {
            origin: u8,
            at: u64,
        },
        /// The writer of an origin sends (from, from + len] to the shard that owns this hash.
        Append {
            origin: u8,
            hash: u128,
            back: u64,
            len: u64,
        },
        Split {
            hash: u128,
            at: u128,
        },
        Merge {
            hash: u128,
        },
    }

    fn op() -> impl Strategy<Value = DedupOp> {
        prop_oneof![
            6 => (0u8..2, 0..HASHES, 0u64..4, 0u64..5)
                .prop_map(|(origin, hash, back, len)| DedupOp::Append { origin, hash, back, len }),
            1 => (0u8..2, 0u64..20).prop_map(|(origin, at)| DedupOp::Begin { origin, at }),
            1 => (0..HASHES, 0..HASHES).prop_map(|(hash, at)| DedupOp::Split { hash, at }),
            1 => (0..HASHES).prop_map(|hash| DedupOp::Merge { hash }),
        ]
    }

    proptest! {
        /// Against a set of what was stored: nothing twice, nothing that a mark covers missing, whatever was split and
        /// wherever writers began; and nothing is refused but what was passed over.
        #[test]
        fn marks_know_exactly_what_was_stored(ops in prop::collection::vec(op(), 1..80)) {
            let mut shards = vec![DedupState::new(range(0, HASHES - 1))];
            let mut stored: BTreeSet<(u8, u128, u64)> = BTreeSet::new();
            let mut tops: BTreeMap<(u8, u128), u64> = BTreeMap::new();
            let (mut starts, mut latest) = ([0u64; 2], [0u64; 2]);
            for op in ops {
                match op {
                    DedupOp::Begin { origin, at } => {
                        starts[usize::from(origin)] = at;
                        latest[usize::from(origin)] = latest[usize::from(origin)].max(at);
                    }
                    DedupOp::Append { origin, hash, back, len } => {
                        let shard = shards.iter_mut().find(|s| s.range.contains(hash)).unwrap();
                        let start = starts[usize::from(origin)];
                        let hashes = shard.range.first..=shard.range.last;
                        let top = |h: u128| tops.get(&(origin, h)).copied().unwrap_or(0).max(start);
                        let least = hashes.clone().map(top).min().unwrap();
                        let from = (least + 1).saturating_sub(back).max(start);
                        let to = from + len;
                        let claim = OriginInterval { start: p(start), ..claim(origin, start, from, to) };
                        let units: Vec<_> = hashes
                            .clone()
                            .flat_map(|h| (from + 1..=to).map(move |n| (h, n)))
                            .collect();
                        let is_stored = |(h, n): (u128, u64)| stored.contains(&(origin, h, n));
                        let mut refused = false;
                        match shard.judge(&claim, false) {
                            DedupVerdict::OutOfOrder(mark) => {
                                prop_assert!(from > least);
                                prop_assert_eq!(mark, p(least));
                                continue;
                            }
                            DedupVerdict::Duplicate => {
                                prop_assert!(units.iter().all(|unit| is_stored(*unit)));
                                continue;
                            }
                            DedupVerdict::New => {
                                prop_assert!(!units.iter().any(|unit| is_stored(*unit)));
                            }
                            DedupVerdict::Partial(marks) => {
                                for &(h, n) in &units {
                                    match standing(&marks, h, p(n)) {
                                        Standing::New => prop_assert!(!is_stored((h, n))),
                                        Standing::Known => prop_assert!(is_stored((h, n))),
                                        Standing::Before(passed) => {
                                            refused = true;
                                            prop_assert!(p(n) <= passed);
                                            prop_assert!(passed <= p(latest[usize::from(origin)]));
                                        }
                                    }
                                }
                            }
                        }
                        if refused {
                            continue;
                        }
                        let before = shard.clone();
                        let undo = shard.apply(&claim);
                        let after = shard.clone();
                        shard.undo(undo);
                        prop_assert_eq!(&*shard, &before);
                        *shard = after;
                        stored.extend(units.into_iter().map(|(h, n)| (origin, h, n)));
                        for h in hashes {
                            let top = tops.entry((origin, h)).or_default();
                            *top = (*top).max(start).max(to);
                        }
                    }
                    DedupOp::Split { hash, at } => {
                        let n = shards.iter().position(|s| s.range.contains(hash)).unwrap();
                        if let Some((low, high)) = shards[n].range.split(at) {
                            let parent = shards.remove(n);
                            shards.push(parent.restricted(low));
                            shards.push(parent.restricted(high));
                        }
                    }
                    DedupOp::Merge { hash } => {
                        let n = shards.iter().position(|s| s.range.contains(hash)).unwrap();
                        let a = shards.remove(n);
                        match shards.iter().position(|s| s.range.join(a.range).is_some()) {
                            Some(m) => {
                                let b = shards.remove(m);
                                shards.push(a.concatenated(&b).unwrap());
                            }
                            None => shards.push(a),
                        }
                    }
                }
                for shard in &shards {
                    let mut out = Vec::new();
                    shard.encode(&mut out);
                    let again = DedupState::decode(&mut Reader::new(&out), shard.range);
                    prop_assert_eq!(again.as_ref(), Ok(shard));
                }
            }
        }

        #[test]
        fn arbitrary_bytes_are_no_marks(bytes in any::<Vec<u8>>()) {
            drop(DedupState::decode(&mut Reader::new(&bytes), range(0, HASHES)));
        }
    }

    /// The lines of the table at [`DedupState::judge`], in a shard that knows (4, 10] of its lower half and (4, 20] of its
    /// upper one.
    #[test]
    fn an_append_is_judged_by_the_first_line_that_holds() {
        let known = |last: u128, to: u64| {
            let mut marks = DedupState::new(range(last - 3, last));
            let from = OriginInterval {
                start: p(4),
                ..claim(1, 4, 4, to)
            };
            marks.apply(&from);
            marks
        };
        let marks = known(3, 10).concatenated(&known(7, 20)).unwrap();
        let partial = DedupVerdict::Partial(marks.of(&key(1)));
        for (from, to, reaches_back, verdict) in [
            (11, 30, false, DedupVerdict::OutOfOrder(p(10))),
            (11, 30, true, DedupVerdict::OutOfOrder(p(10))),
            (3, 4, false, partial.clone()),
            (3, 30, false, partial.clone()),
            (5, 10, true, partial.clone()),
            (4, 10, false, DedupVerdict::Duplicate),
            (5, 9, false, DedupVerdict::Duplicate),
            (9, 11, false, partial.clone()),
            (10, 30, false, partial),
        ] {
            let claim = OriginInterval {
                start: p(4),
                ..claim(1, 4, from, to)
            };
            let judged = marks.judge(&claim, reaches_back);
            assert_eq!(judged, verdict, "({from}, {to}], {reaches_back}");
        }
        // One that began where its input begins.
        let mut marks = DedupState::new(range(0, 7));
        marks.apply(&claim(2, 0, 0, 10));
        for (from, to, reaches_back, verdict) in [
            (0, 10, true, DedupVerdict::Duplicate),
            (10, 30, false, DedupVerdict::New),
            (10, 30, true, DedupVerdict::Partial(marks.of(&key(2)))),
            (9, 30, false, DedupVerdict::Partial(marks.of(&key(2)))),
        ] {
            let judged = marks.judge(&claim(2, 0, from, to), reaches_back);
            assert_eq!(judged, verdict, "({from}, {to}], {reaches_back}");
        }
    }

    #[test]
    fn low_raises_marks_and_opens_what_was_never_seen() {
        let mut marks = DedupState::new(range(0, 7));
        assert_eq!(
            marks.judge(&claim(1, 0, 5, 9), false),
            DedupVerdict::OutOfOrder(Position::Begin)
        );
        assert_eq!(marks.judge(&claim(1, 5, 5, 9), false), DedupVerdict::New);
        marks.apply(&claim(1, 5, 5, 9));
        assert_eq!(
            marks.judge(&claim(1, 5, 5, 9), false),
            DedupVerdict::Duplicate
        );
        assert_eq!(marks.judge(&claim(1, 12, 12, 14), false), DedupVerdict::New);
        assert!(matches!(
            marks.judge(&claim(1, 0, 9, 14), true),
            DedupVerdict::Partial(_)
        ));
    }
}
