//! The limit that later stages set, asked before a record is accepted.
//!
//! Owns the decision that a record cannot be scanned because it nests too deep. Every record is looked at, so that must
//! cost next to nothing: its brackets are counted many at a time. Only a record that may break the limit is read byte by
//! byte.

use hydrant_core::limits::DEPTH_MAX;
use hydrant_json as json;
use serde::de::IgnoredAny;

use crate::batcher::Refusal;

/// Bytes whose brackets are counted at once, in a byte, so that the compiler makes it a few instructions.
const STRIDE: usize = 192;

/// The limit that `record` breaks. A record that is not JSON breaks none: its readers report that.
pub(super) fn broken(record: &[u8]) -> Option<Refusal> {
    if record.len() <= DEPTH_MAX || !may_nest_too_deep(record) {
        return None;
    }
    read(record).filter(|_| is_json(record))
}

/// Reads the whole record, however deep, without recursion.
fn is_json(record: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(record).is_ok()
}

/// Whether it has more opening brackets than there are levels.
fn may_nest_too_deep(record: &[u8]) -> bool {
    let count = |stride: &[u8]| {
        stride
            .iter()
            .fold(0u8, |opened, byte| opened + u8::from(opens(*byte)))
    };
    let opened: usize = record
        .chunks(STRIDE)
        .map(|stride| usize::from(count(stride)))
        .sum();
    opened > DEPTH_MAX
}

/// Whether the byte is `{` or `[`.
const fn opens(byte: u8) -> bool {
    byte | 0x20 == b'{'
}

/// The first limit that it breaks; none where a string of it cannot be read, wherever that stands.
fn read(record: &[u8]) -> Option<Refusal> {
    let (mut at, mut depth, mut broken) = (0, 0usize, None);
    while let Some(&byte) = record.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    broken.get_or_insert(Refusal::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                at = json::string(record, at - 1).ok()?.end + 1;
            }
            _ => {}
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_within_the_limits_passes_and_one_beyond_is_refused_by_its_limit() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let lists = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (text, wanted) in [
            (nested(DEPTH_MAX), None),
            (nested(DEPTH_MAX + 1), Some(Refusal::TooDeep)),
            (lists(DEPTH_MAX), None),
            (lists(DEPTH_MAX + 1), Some(Refusal::TooDeep)),
            (format!("[{}]", ["{}"; 200].join(",")), None),
            (format!("{{\"s\":\"{}\"}}", "{".repeat(1_000)), None),
            (format!("{{\"{}\":1}}", "k".repeat(5_000)), None),
            (format!("{{\"n\":\"{}\"}}", "v".repeat(5_000)), None),
            (format!("{{\"n\":\"{}", "v".repeat(5_000)), None),
            ("x".repeat(5_000), None),
            ("{".repeat(300), None),
            (format!("{}1", "[".repeat(5_000)), None),
            (lists(5_000), Some(Refusal::TooDeep)),
        ] {
            assert_eq!(broken(text.as_bytes()), wanted, "{:.80}", text);
        }
    }

    #[test]
    fn half_a_surrogate_pair_leaves_a_record_to_its_readers_wherever_it_stands() {
        let nested = format!("{}1{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        let beyond = format!("\"a\":{nested}");
        let whole = format!("{{{beyond}}}");
        assert_eq!(broken(whole.as_bytes()), Some(Refusal::TooDeep));
        for half in [r#""s":"\ud83d""#, r#""\ude00":1"#] {
            for text in [
                format!("{{{beyond},{half}}}"),
                format!("{{{half},{beyond}}}"),
            ] {
                assert_eq!(broken(text.as_bytes()), None, "{text}");
            }
        }
    }

    /// What strings hold that may be taken for something else.
    fn piece() -> impl Strategy<Value = String> {
        (
            prop_oneof![
                Just("x"),
                Just(r#"\""#),
                Just(r"\\"),
                Just(r"\u0022"),
                Just("[{"),
                Just(r#"\":"#),
            ],
            0..300usize,
        )
            .prop_map(|(piece, count)| piece.repeat(count))
    }

    proptest! {
        #[test]
        fn what_is_looked_at_in_leaps_is_what_is_read_byte_by_byte(
            levels in proptest::collection::vec(
                (piece(), piece(), "[ \t\n]{0,3}", 0..4usize, any::<bool>()),
                0..40,
            ),
        ) {
            let wrap = |inner: String, (name, value, space, lists, is_list)| {
                let inner = "[".repeat(lists) + &inner + &"]".repeat(lists);
                if is_list {
                    format!("[\"{name}\",{space}\"{value}\"{space},{inner}]")
                } else {
                    format!("{{\"v\":\"{value}\",{space}\"{name}\"{space}:{inner}}}")
                }
            };
            let text = levels.into_iter().fold("1".to_owned(), wrap);
            prop_assert!(is_json(text.as_bytes()), "{text}");
            prop_assert_eq!(broken(text.as_bytes()), read(text.as_bytes()));
        }
    }
}
