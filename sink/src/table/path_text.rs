//! Texts as parts of paths.
//!
//! Owns which characters have percent signs, and what stands for a text that is too long.

use std::fmt::Write as _;

use hydrant_core::hash;

/// The directory value of rows without a value, as Hive, DuckDB, Polars and pyarrow write it.
pub(crate) const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// What stands for the tail of a text that is too long: `~` and 16 hex digits.
const TAIL_BYTES: usize = 17;

/// A text as a part of a path. Percent signs are those that Spark writes and every reader takes back; other characters
/// stay as they are, because Spark takes them back byte by byte.
pub(crate) fn encode(text: &str, is_plain: fn(char) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if is_plain(c) && !(at == 0 && c == '.') {
            encoded.push(c);
        } else {
            write!(encoded, "%{:02X}", u32::from(c)).expect("writing to a string cannot fail");
        }
    }
    encoded
}

/// The text, or its start and a digest of the whole of it, whose encoded form has at most `bytes_max` bytes; `None` when
/// it is short enough by itself.
pub(super) fn shortened(
    text: &str,
    encoded: &str,
    bytes_max: usize,
    is_plain: fn(char) -> bool,
) -> Option<String> {
    if encoded.len() <= bytes_max {
        return None;
    }
    // A leading `.` takes two bytes more.
    let mut room = bytes_max - TAIL_BYTES - 2;
    let head = text.chars().take_while(|c| {
        let len = if is_plain(*c) { c.len_utf8() } else { 3 };
        let fits = len <= room;
        room = room.saturating_sub(if fits { len } else { room });
        fits
    });
    let head: String = head.collect();
    Some(format!("{head}~{}", tail_of(text)))
}

/// The digest of a text that is too long.
fn tail_of(text: &str) -> String {
    format!("{:016x}", hash::identity(&[text.as_bytes()]) >> 64)
}

/// Whether `short` stands for the whole of `text`.
pub(crate) fn is_short_for(short: &str, text: &str) -> bool {
    let parts = short.rsplit_once('~');
    parts.is_some_and(|(head, tail)| text.starts_with(head) && tail == tail_of(text))
}

/// Characters of a value that need no percent sign.
pub(super) fn is_plain_in_value(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~')
}

/// Characters of a column's name that need no percent sign: as many as possible, because DuckDB and Polars take names
/// as they are.
pub(crate) fn is_plain_in_name(c: char) -> bool {
    !c.is_ascii_control() && !matches!(c, '/' | '\\' | '=' | '%' | ':' | '*' | '?' | '"' | '#')
}
