//! Malformed records, as broken devices send them: not JSON objects, but still of one device.
//!
//! Owns the malformed share. Each fault keeps the device's id readable, so that the record keeps
//! its partition key, and leaves no line end in the record.

use std::ops::Range;

use super::draw::Draw;
use super::json::JsonWriter;

/// Breaks the record that begins at `start` and whose device id lies at `key`; says where the id
/// lies then.
pub(super) fn spoil(
    draw: &mut Draw,
    out: &mut Vec<u8>,
    start: usize,
    key: Range<usize>,
) -> Range<usize> {
    match draw.below(3) {
        0 => {
            // Anything shorter than the whole lacks the closing brace.
            let kept = key.end + draw.below((out.len() - key.end) as u64) as usize;
            out.truncate(kept);
            key
        }
        1 => {
            // 0xFF occurs in no UTF-8 text.
            let place = key.end + draw.below((out.len() - key.end) as u64) as usize;
            out[place] = 0xFF;
            key
        }
        _ => {
            const LEAD: &[u8] = b"panic on ";
            let length = key.len();
            out.copy_within(key, start);
            out.truncate(start + length);
            out.splice(start..start, LEAD.iter().copied());
            out.extend_from_slice(b": watchdog timeout, pc=0x");
            JsonWriter::new(out, None).hex(draw.word(), 8);
            start + LEAD.len()..start + LEAD.len() + length
        }
    }
}
