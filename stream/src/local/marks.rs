//! Marks: how far each origin is known to a shard, by hash segment.
//!
//! A segment's mark says that everything of the origin up to it that routes into the segment is in the log. A split
//! restricts the segments, a merge puts them side by side; neither ever joins two segments with different marks, whose
//! maximum would lose records and whose minimum would double them.

use std::collections::{BTreeMap, BTreeSet};

use hydrant_core::mutant::{self, Mutant};
use hydrant_core::origin::{OriginEntry, WriterId};
use hydrant_core::varint::{self, Malformed, Reader};
use hydrant_core::{HashRange, Position, ShardId};

/// Whose marks.
pub(super) type OriginKey = (WriterId, ShardId);

/// One hash segment and how far an origin is known in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The hash segment.
    pub(super) range: HashRange,
    /// Everything up to here is in the log.
    pub(super) to: Position,
}

/// What an append says of its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Whose origin.
    pub(super) origin: OriginKey,
    /// Confirmed before the writer's session.
    pub(super) low: Position,
    /// Exclusive start.
    pub(super) from: Position,
    /// Inclusive end.
    pub(super) to: Position,
}

impl From<&OriginEntry> for Claim {
    fn from(entry: &OriginEntry) -> Self {
        Claim {
            origin: (entry.writer, entry.shard.clone()),
            low: entry.low,
            from: entry.from,
            to: entry.to,
        }
    }
}

/// How an append stands to the marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// None of it is known.
    New,
    /// All of it is known.
    Duplicate,
    /// Known up to these marks.
    Partial(Vec<Mark>),
    /// It starts after this mark.
    OutOfOrder(Position),
}

/// The marks of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    range: HashRange,
    origins: BTreeMap<OriginKey, Vec<Mark>>,
}

/// What takes one change of the marks back.
#[derive(Debug)]
pub(super) struct Undo {
    origin: OriginKey,
    before: Option<Vec<Mark>>,
}

impl Marks {
    /// A shard that knows nothing.
    pub(super) fn new(range: HashRange) -> Self {
        Marks {
            range,
            origins: BTreeMap::new(),
        }
    }

    /// How many origins are known.
    pub(super) fn len(&self) -> usize {
        self.origins.len()
    }

    /// The origins that end with their process.
    pub(super) fn runs(&self) -> BTreeSet<WriterId> {
        let writers = self.origins.keys().map(|(writer, _)| *writer);
        writers.filter(|writer| writer.is_run()).collect()
    }

    /// Forgets origins that send nothing any more.
    pub(super) fn forget(&mut self, over: &BTreeSet<WriterId>) {
        self.origins.retain(|(writer, _), _| !over.contains(writer));
    }

    fn of(&self, origin: &OriginKey) -> Vec<Mark> {
        self.origins.get(origin).cloned().unwrap_or_else(|| {
            vec![Mark {
                range: self.range,
                to: Position::Begin,
            }]
        })
    }

    /// How an append stands to the marks, raised by its `low`; one that reaches back holds something before its
    /// interval.
    pub(super) fn judge(&self, claim: &Claim, reaches_back: bool) -> Verdict {
        let marks: Vec<Mark> = self
            .of(&claim.origin)
            .into_iter()
            .map(|mark| Mark {
                to: mark.to.max(claim.low),
                ..mark
            })
            .collect();
        let lowest = marks.iter().map(|mark| mark.to).min();
        let highest = marks.iter().map(|mark| mark.to).max();
        match (lowest, highest) {
            (Some(lowest), _) if claim.from > lowest && !mutant::is(Mutant::OutOfOrderAccepted) => {
                Verdict::OutOfOrder(lowest)
            }
            (Some(lowest), _) if claim.to <= lowest => Verdict::Duplicate,
            (_, Some(highest)) if highest > claim.from || reaches_back => Verdict::Partial(marks),
            _ => Verdict::New,
        }
    }

    /// Takes in what an append completes.
    pub(super) fn apply(&mut self, claim: &Claim) -> Undo {
        let before = self.origins.get(&claim.origin).cloned();
        let marks = self
            .of(&claim.origin)
            .into_iter()
            .map(|mark| Mark {
                to: mark.to.max(claim.low).max(claim.to),
                ..mark
            })
            .collect();
        self.origins.insert(claim.origin.clone(), joined(marks));
        Undo {
            origin: claim.origin.clone(),
            before,
        }
    }

    /// Takes changes back; the last one first.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo.before {
            Some(before) => self.origins.insert(undo.origin, before),
            None => self.origins.remove(&undo.origin),
        };
    }

    /// The marks of a child that owns a part of the range.
    pub(super) fn restricted(&self, range: HashRange) -> Marks {
        if mutant::is(Mutant::ChildrenWithoutMarks) {
            return Marks::new(range);
        }
        let origins = self.origins.iter().map(|(origin, marks)| {
            let part = marks.iter().filter_map(|mark| {
                let range = mark.range.intersect(range)?;
                Some(Mark { range, ..*mark })
            });
            (origin.clone(), joined(part.collect()))
        });
        Marks {
            range,
            origins: origins.collect(),
        }
    }

    /// The marks of a child that owns two neighbouring ranges; `None` when they are no neighbours.
    pub(super) fn concatenated(&self, other: &Marks) -> Option<Marks> {
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
        Some(Marks { range, origins })
    }

    /// Appends the byte form.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
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
                varint::put_position(out, mark.to);
            }
        }
    }

    /// Reads the byte form of a shard that owns `range`.
    pub(super) fn decode(reader: &mut Reader<'_>, range: HashRange) -> Result<Marks, Malformed> {
        let mut marks = Marks::new(range);
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
                let to = reader.position()?;
                list.push(Mark { range, to });
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
fn joined(marks: Vec<Mark>) -> Vec<Mark> {
    let mut out: Vec<Mark> = Vec::with_capacity(marks.len());
    for mark in marks {
        match out.last_mut() {
            Some(last) if last.to == mark.to => last.range.last = mark.range.last,
            _ => out.push(mark),
        }
    }
    out
}

/// Whether the record with this route and origin position is known by these marks.
pub(super) fn is_known(marks: &[Mark], route: u128, position: Position) -> bool {
    let after = marks.partition_point(|mark| mark.range.last < route);
    marks
        .get(after)
        .is_some_and(|mark| mark.range.contains(route) && position <= mark.to)
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

    fn claim(origin: u8, low: u64, from: u64, to: u64) -> Claim {
        let p = |n: u64| {
            if n == 0 {
                Position::Begin
            } else {
                Position::offset(n)
            }
        };
        Claim {
            origin: key(origin),
            low: p(low),
            from: p(from),
            to: p(to),
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
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

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0u8..2, 0..HASHES, 0u64..4, 0u64..5)
                .prop_map(|(origin, hash, back, len)| Op::Append { origin, hash, back, len }),
            1 => (0..HASHES, 0..HASHES).prop_map(|(hash, at)| Op::Split { hash, at }),
            1 => (0..HASHES).prop_map(|hash| Op::Merge { hash }),
        ]
    }

    proptest! {
        /// Against a set of what was stored: nothing twice, nothing that a mark covers missing, whatever was split.
        #[test]
        fn marks_know_exactly_what_was_stored(ops in prop::collection::vec(op(), 1..60)) {
            let mut shards = vec![Marks::new(range(0, HASHES - 1))];
            let mut stored: BTreeSet<(u8, u128, u64)> = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Append { origin, hash, back, len } => {
                        let shard = shards.iter_mut().find(|s| s.range.contains(hash)).unwrap();
                        let known = |hash: u128| stored.iter()
                            .filter(|(o, h, _)| (*o, *h) == (origin, hash))
                            .map(|(_, _, n)| *n)
                            .max()
                            .unwrap_or(0);
                        let hashes = shard.range.first..=shard.range.last;
                        let least = hashes.clone().map(known).min().unwrap();
                        let from = (least + 1).saturating_sub(back);
                        let to = from + len;
                        let claim = claim(origin, 0, from, to);
                        let news: Vec<_> = hashes
                            .flat_map(|h| (from + 1..=to).map(move |n| (origin, h, n)))
                            .filter(|unit| !stored.contains(unit))
                            .collect();
                        match shard.judge(&claim, false) {
                            Verdict::OutOfOrder(mark) => {
                                prop_assert!(from > least);
                                prop_assert_eq!(mark, if least == 0 { Position::Begin } else { Position::offset(least) });
                                continue;
                            }
                            Verdict::Duplicate => {
                                prop_assert!(news.is_empty());
                                continue;
                            }
                            Verdict::New => {
                                let all = (shard.range.last - shard.range.first + 1) as u64 * len;
                                prop_assert_eq!(news.len() as u64, all);
                            }
                            Verdict::Partial(marks) => {
                                for h in shard.range.first..=shard.range.last {
                                    for n in from + 1..=to {
                                        let is_new = news.contains(&(origin, h, n));
                                        prop_assert_eq!(is_known(&marks, h, Position::offset(n)), !is_new);
                                    }
                                }
                            }
                        }
                        let before = shard.clone();
                        let undo = shard.apply(&claim);
                        let after = shard.clone();
                        shard.undo(undo);
                        prop_assert_eq!(&*shard, &before);
                        *shard = after;
                        stored.extend(news);
                    }
                    Op::Split { hash, at } => {
                        let n = shards.iter().position(|s| s.range.contains(hash)).unwrap();
                        if let Some((low, high)) = shards[n].range.split(at) {
                            let parent = shards.remove(n);
                            shards.push(parent.restricted(low));
                            shards.push(parent.restricted(high));
                        }
                    }
                    Op::Merge { hash } => {
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
                    let again = Marks::decode(&mut Reader::new(&out), shard.range);
                    prop_assert_eq!(again.as_ref(), Ok(shard));
                }
            }
        }

        #[test]
        fn arbitrary_bytes_are_no_marks(bytes in any::<Vec<u8>>()) {
            drop(Marks::decode(&mut Reader::new(&bytes), range(0, HASHES)));
        }
    }

    #[test]
    fn low_raises_marks_and_opens_what_was_never_seen() {
        let mut marks = Marks::new(range(0, 7));
        assert_eq!(
            marks.judge(&claim(1, 0, 5, 9), false),
            Verdict::OutOfOrder(Position::Begin)
        );
        assert_eq!(marks.judge(&claim(1, 5, 5, 9), false), Verdict::New);
        marks.apply(&claim(1, 5, 5, 9));
        assert_eq!(marks.judge(&claim(1, 5, 5, 9), false), Verdict::Duplicate);
        assert_eq!(marks.judge(&claim(1, 12, 12, 14), false), Verdict::New);
        assert!(matches!(
            marks.judge(&claim(1, 0, 9, 14), true),
            Verdict::Partial(_)
        ));
    }
}
