//! The byte form of a reader's marks: what lies beside a position in a checkpoint or a commit record.
//!
//! A version; the position; the range; then each origin: writer (once for a row of shards), shard, segments. Of a segment:
//! its last hash (but for the last one, which ends with the range), when the origin ended, and its set. Places are coded
//! as distances from the place before, so that a set takes a few bytes more than its first place.
//!
//! The range is that of the shard whose reader knows this. A child begins with the marks of parents that the map may no
//! longer have, so nothing else says it.

use super::known::{Edge, KnownSet};
use super::{HashSegment, OriginName, ReaderMarks};
use crate::origin::WriterId;
use crate::position::{Position, Sequence};
use crate::shard::{HashRange, ShardId};
use crate::varint::{self, Malformed, Reader};

/// The byte form that is written and read.
const FORMAT: u8 = 2;

/// The writer is that of the origin before.
const SAME_WRITER: u8 = 0;
/// The writer follows.
const OTHER_WRITER: u8 = 1;

/// What the lowest bits of an edge say.
const AT_BEGIN: u64 = 0;
const AT_END: u64 = 1;
const ABSOLUTE: u64 = 2;
const DISTANCE: u64 = 3;
const KIND: u64 = 3;
const HAS_SUB: u64 = 4;
const HAS_OUTPUTS: u64 = 8;
const FLAG_BITS: u32 = 4;

impl ReaderMarks {
    /// Appends the byte form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        varint::put_position(out, self.at);
        varint::put_u128(out, self.range.first);
        varint::put_u128(out, self.range.last);
        varint::put_u64(out, self.origins.len() as u64);
        let mut writer = None;
        for ((writer_of, shard), segments) in &self.origins {
            if writer == Some(writer_of) {
                out.push(SAME_WRITER);
            } else {
                out.push(OTHER_WRITER);
                out.extend_from_slice(&writer_of.0.to_be_bytes());
                writer = Some(writer_of);
            }
            varint::put_bytes(out, shard.as_str().as_bytes());
            varint::put_u64(out, segments.len() as u64);
            let mut first = self.range.first;
            let mut previous = Sequence::ZERO;
            for segment in segments {
                if segment.last != self.range.last {
                    varint::put_u128(out, segment.last - first);
                    first = segment.last + 1;
                }
                let islands = segment.known.islands.len() as u64;
                varint::put_u64(out, islands << 1 | u64::from(segment.ended.is_some()));
                if let Some(ended) = segment.ended {
                    varint::put_i64(out, ended);
                }
                put_edge(out, segment.known.to, &mut previous);
                for (from, to) in &segment.known.islands {
                    put_edge(out, *from, &mut previous);
                    put_edge(out, *to, &mut previous);
                }
            }
        }
    }

    /// Reads the byte form.
    ///
    /// Fails when the bytes are of another version, are cut short or go on behind the marks, or hold what no marks hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != FORMAT {
            return Err(Malformed);
        }
        let at = reader.position()?;
        let (first, last) = (reader.u128()?, reader.u128()?);
        if last < first {
            return Err(Malformed);
        }
        let range = HashRange { first, last };
        let mut marks = ReaderMarks::new(range);
        marks.at = at;
        let mut last: Option<OriginName> = None;
        for _ in 0..reader.u64()? {
            let writer = match (reader.byte()?, &last) {
                (SAME_WRITER, Some((writer, _))) => *writer,
                (OTHER_WRITER, _) => {
                    let writer = reader.take(16)?.try_into().map_err(|_| Malformed)?;
                    WriterId(u128::from_be_bytes(writer))
                }
                _ => return Err(Malformed),
            };
            let name = (writer, ShardId::new(reader.text()?));
            if last.as_ref().is_some_and(|last| name <= *last) {
                return Err(Malformed);
            }
            let segments = segments(&mut reader, range)?;
            marks.origins.insert(name.clone(), segments);
            last = Some(name);
        }
        if !reader.is_empty() {
            return Err(Malformed);
        }
        marks.find_first_end();
        Ok(marks)
    }
}

fn segments(reader: &mut Reader<'_>, range: HashRange) -> Result<Vec<HashSegment>, Malformed> {
    let mut segments: Vec<HashSegment> = Vec::new();
    let mut first = range.first;
    let mut previous = Sequence::ZERO;
    let count = reader.u64()?;
    for n in 1..=count {
        let mut last = range.last;
        if n < count {
            last = first.checked_add(reader.u128()?).ok_or(Malformed)?;
            if last >= range.last {
                return Err(Malformed);
            }
            first = last + 1;
        }
        let head = reader.u64()?;
        let ended = match head & 1 {
            0 => None,
            _ => Some(reader.i64()?),
        };
        let mut known = KnownSet {
            to: edge(reader, &mut previous)?,
            islands: Vec::new(),
        };
        for _ in 0..head >> 1 {
            let island = (edge(reader, &mut previous)?, edge(reader, &mut previous)?);
            if island.0 <= known.top() || island.1 <= island.0 {
                return Err(Malformed);
            }
            known.islands.push(island);
        }
        if let Some(before) = segments.last()
            && before.known == known
            && before.ended == ended
        {
            return Err(Malformed);
        }
        segments.push(HashSegment { last, known, ended });
    }
    match &segments[..] {
        [] => Err(Malformed),
        [one] if one.is_unknown() => Err(Malformed),
        _ => Ok(segments),
    }
}

fn put_edge(out: &mut Vec<u8>, edge: Edge, previous: &mut Sequence) {
    let (sequence, sub) = match edge.position {
        Position::Begin => return varint::put_u64(out, AT_BEGIN),
        Position::End => return varint::put_u64(out, AT_END),
        Position::At { sequence, sub } => (sequence, sub),
    };
    let mut flags = 0;
    if sub != 0 {
        flags |= HAS_SUB;
    }
    if edge.outputs != Edge::ALL {
        flags |= HAS_OUTPUTS;
    }
    let distance = sequence.distance(*previous);
    match distance.filter(|distance| distance >> (u64::BITS - FLAG_BITS) == 0) {
        Some(distance) => varint::put_u64(out, distance << FLAG_BITS | flags | DISTANCE),
        None => {
            varint::put_u64(out, flags | ABSOLUTE);
            varint::put_u128(out, sequence.high());
            varint::put_u128(out, sequence.low());
        }
    }
    if sub != 0 {
        varint::put_u64(out, u64::from(sub));
    }
    if edge.outputs != Edge::ALL {
        varint::put_u64(out, edge.outputs);
    }
    *previous = sequence;
}

fn edge(reader: &mut Reader<'_>, previous: &mut Sequence) -> Result<Edge, Malformed> {
    let head = reader.u64()?;
    let sequence = match (head & KIND, head) {
        (_, AT_BEGIN) => return Ok(Edge::after(Position::Begin)),
        (_, AT_END) => return Ok(Edge::after(Position::End)),
        (DISTANCE, _) => previous.saturating_add(head >> FLAG_BITS),
        (ABSOLUTE, _) if head >> FLAG_BITS == 0 => {
            Sequence::from_parts(reader.u128()?, reader.u128()?)
        }
        _ => return Err(Malformed),
    };
    *previous = sequence;
    let sub = match head & HAS_SUB {
        0 => 0,
        _ => reader.u32()?,
    };
    let outputs = match head & HAS_OUTPUTS {
        0 => Edge::ALL,
        _ => reader.u64()?,
    };
    if outputs > Edge::ALL {
        return Err(Malformed);
    }
    Ok(Edge {
        position: Position::at(sequence, sub),
        outputs,
    })
}
