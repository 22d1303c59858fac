//! Marks: how far each origin is known to a shard, by hash segment.
//!
//! A segment's mark says that everything of the origin up to it that routes into the segment is in the log. A split
//! restricts the segments, a merge puts them side by side; neither ever joins two segments with different marks, whose
//! maximum would lose records and whose minimum would double them.

use std::collections::BTreeMap;

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
            (Some(lowest), _) if claim.from > lowest => Verdict::OutOfOrder(lowest),
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
                origins.insert(origin.clone(), joined(marks));
            }
        }
        Some(Marks { range, origins })
    }

    /// Appends the byte form.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
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
