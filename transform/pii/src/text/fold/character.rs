//! Reads characters as a source writes them.

use super::reading::Notation;

/// What starts the colours of terminals.
pub(super) const ESCAPE: char = '\u{1b}';

/// The character at the start of `source` and how many bytes write it.
pub(super) fn character(source: &[u8], writing: Notation) -> (Option<char>, usize) {
    match source.first() {
        Some(b'\\') if writing == Notation::Escaped => escaped(source),
        Some(&byte) if byte < 0x80 => (Some(char::from(byte)), 1),
        _ => utf8(source),
    }
}

/// The character of the escape at the start of `source`, and how many bytes it takes. The walker
/// has checked it.
fn escaped(source: &[u8]) -> (Option<char>, usize) {
    match hydrant_json::escape(source, 0) {
        Ok((character, width)) => (Some(character), width),
        Err(_) => (None, source.len().min(2)),
    }
}

/// The character at the start of `source`, which starts with a byte beyond ASCII, and its width.
fn utf8(source: &[u8]) -> (Option<char>, usize) {
    let mut chunks = source[..source.len().min(4)].utf8_chunks();
    match chunks.next().and_then(|chunk| chunk.valid().chars().next()) {
        Some(character) => (Some(character), character.len_utf8()),
        None => (None, 1),
    }
}
