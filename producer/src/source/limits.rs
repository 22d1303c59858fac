//! The limits that later stages set, asked before a record is accepted.
//!
//! Owns the decision that a record cannot become a row because it nests too deep or has a name that is too long. A
//! record is first looked at in strides, which costs next to nothing; only one that may break a limit is read.

use hydrant_core::limits::{DEPTH_MAX, NAME_BYTES_MAX};
use serde::de::IgnoredAny;

use crate::batcher::Refusal;

/// What is looked at at once. A name that is too long covers several strides without a quote.
const STRIDE: usize = 64;

/// The limit that `record` breaks. What is not JSON breaks none: that is told by those who read it.
pub(super) fn broken(record: &[u8]) -> Option<Refusal> {
    if record.len() <= DEPTH_MAX.min(NAME_BYTES_MAX) || !may_break(record) {
        return None;
    }
    read(record).filter(|_| is_json(record))
}

/// Reads the whole record, however deep, without recursion.
fn is_json(record: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(record).is_ok()
}

/// Whether a limit may be broken: more brackets than levels, or a long run without a quote.
fn may_break(record: &[u8]) -> bool {
    let (strides, rest) = record.as_chunks::<STRIDE>();
    let mut opened = 0;
    let mut quiet = 0;
    let mut escaped = false;
    for stride in strides {
        let (mut brackets, mut quotes, mut escapes) = (0u8, 0u8, 0u8);
        for &byte in stride {
            brackets += u8::from(byte | 0x20 == b'{');
            quotes += u8::from(byte == b'"');
            escapes += u8::from(byte == b'\\');
        }
        opened += usize::from(brackets);
        quiet = if quotes == 0 || escapes > 0 || escaped {
            quiet + 1
        } else {
            0
        };
        escaped = stride[STRIDE - 1] == b'\\';
        if quiet >= NAME_BYTES_MAX / STRIDE - 1 {
            return true;
        }
    }
    opened + rest.len() > DEPTH_MAX
}

fn read(record: &[u8]) -> Option<Refusal> {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(&byte) = record.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Some(Refusal::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let (end, length) = string(record, at)?;
                at = end;
                let behind = record[end..]
                    .iter()
                    .find(|byte| !byte.is_ascii_whitespace());
                if length > NAME_BYTES_MAX && behind == Some(&b':') {
                    return Some(Refusal::NameTooLong);
                }
            }
            _ => {}
        }
    }
    None
}

/// Behind the string that begins at `at`, and its length as UTF-8; `None` when it has no end.
fn string(record: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut length = 0;
    loop {
        let run = memchr::memchr2(b'"', b'\\', &record[at..])?;
        length += run;
        at += run + 1;
        if record[at - 1] == b'"' {
            return Some((at, length));
        }
        let escape = *record.get(at)?;
        at += 1;
        length += 1;
        if escape == b'u' {
            let digits = record.get(at..at + 4)?;
            let unit = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            at += 4;
            length += match unit {
                0..0x80 => 0,
                // A pair of surrogates makes four bytes.
                0x80..0x800 | 0xD800..0xE000 => 1,
                _ => 2,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_within_the_limits_passes_and_one_beyond_is_refused_by_its_limit() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let lists = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let named = |length: usize| format!("{{\"n\":1, \"{}\" : 2}}", "k".repeat(length));
        for (text, wanted) in [
            (nested(DEPTH_MAX), None),
            (nested(DEPTH_MAX + 1), Some(Refusal::TooDeep)),
            (lists(DEPTH_MAX), None),
            (lists(DEPTH_MAX + 1), Some(Refusal::TooDeep)),
            (format!("[{}]", ["{}"; 200].join(",")), None),
            (format!("{{\"s\":\"{}\"}}", "{".repeat(1_000)), None),
            (named(NAME_BYTES_MAX), None),
            (named(NAME_BYTES_MAX + 1), Some(Refusal::NameTooLong)),
            (format!("{{\"{}\":1}}", "\\\"".repeat(NAME_BYTES_MAX)), None),
            (
                format!("{{\"{}\":1}}", "\\\"".repeat(NAME_BYTES_MAX + 1)),
                Some(Refusal::NameTooLong),
            ),
            (
                format!("{{\"{}\":1}}", "\\u00e4".repeat(NAME_BYTES_MAX / 2)),
                None,
            ),
            (
                format!("{{\"{}\":1}}", "\\u00e4".repeat(NAME_BYTES_MAX / 2 + 1)),
                Some(Refusal::NameTooLong),
            ),
            (
                format!("{{\"{}\":1}}", "\\ud83d\\ude00".repeat(NAME_BYTES_MAX / 4)),
                None,
            ),
            (
                format!(
                    "{{\"{}\":1}}",
                    "\\ud83d\\ude00".repeat(NAME_BYTES_MAX / 4 + 1)
                ),
                Some(Refusal::NameTooLong),
            ),
            (format!("{{\"n\":\"{}\"}}", "v".repeat(5_000)), None),
            (format!("{{\"n\":\"{}", "v".repeat(5_000)), None),
            ("x".repeat(5_000), None),
            ("{".repeat(300), None),
            (format!("{}1", "[".repeat(5_000)), None),
            (lists(5_000), Some(Refusal::TooDeep)),
            (format!("said: {}", named(NAME_BYTES_MAX + 1)), None),
        ] {
            assert_eq!(broken(text.as_bytes()), wanted, "{:.80}", text);
        }
    }

    #[test]
    fn a_long_name_is_seen_wherever_it_lies() {
        for before in 0..200 {
            let text = format!(
                "{{\"a\":\"{}\",\"{}\":2}}",
                "v".repeat(before),
                "k".repeat(NAME_BYTES_MAX + 1)
            );
            assert_eq!(
                broken(text.as_bytes()),
                Some(Refusal::NameTooLong),
                "{before}"
            );
        }
    }
}
