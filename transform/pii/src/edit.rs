//! Collects the edits of a record, joins and applies them.
//!
//! Promises: bytes outside the edits are copied as they are; the result does not depend on the
//! order in which edits were found; and every byte that some edit covers is gone, because an edit
//! that reaches into another one is joined with it.

use std::ops::Range;

/// Replaces a range of the record by a range of the replacements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) text: (usize, usize),
}

impl Edit {
    fn order(&self) -> (usize, std::cmp::Reverse<usize>, (usize, usize)) {
        (self.start, std::cmp::Reverse(self.end), self.text)
    }
}

/// The edits of one record with their replacements.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    list: Vec<Edit>,
    texts: Vec<u8>,
}

impl Edits {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.texts.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets all edits after the first `count`. Their texts stay until the record is done.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.list.truncate(count);
    }

    /// Appends `within` of the record with the edits after the first `count` to `out`. Returns
    /// whether all of them lie within.
    pub(crate) fn apply_within(
        &mut self,
        count: usize,
        record: &[u8],
        within: Range<usize>,
        out: &mut Vec<u8>,
    ) -> bool {
        let edits = &mut self.list[count..];
        edits.sort_by_key(Edit::order);
        if !edits
            .iter()
            .all(|edit| within.start <= edit.start && edit.end <= within.end)
        {
            return false;
        }
        joined(edits, &self.texts, record, within, out);
        true
    }

    /// Adds an edit whose replacement `write` appends.
    pub(crate) fn add(&mut self, range: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.texts.len();
        write(&mut self.texts);
        self.list.push(Edit {
            start: range.start,
            end: range.end,
            text: (start, self.texts.len()),
        });
    }

    /// Appends `record` with all edits to `out`.
    pub(crate) fn apply(&mut self, record: &[u8], out: &mut Vec<u8>) {
        self.list.sort_unstable_by_key(Edit::order);
        joined(&self.list, &self.texts, record, 0..record.len(), out);
    }
}

/// Appends `within` of `record` with these edits, which are in order.
fn joined(edits: &[Edit], texts: &[u8], record: &[u8], within: Range<usize>, out: &mut Vec<u8>) {
    debug_assert!(edits.is_sorted_by_key(Edit::order));
    let mut copied = within.start;
    for edit in edits {
        if edit.start >= copied {
            out.extend_from_slice(&record[copied..edit.start]);
            out.extend_from_slice(&texts[edit.text.0..edit.text.1]);
        }
        copied = copied.max(edit.end);
    }
    out.extend_from_slice(&record[copied..within.end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(record: &str, edits: &[(usize, usize, &str)]) -> String {
        let mut all = Edits::default();
        for &(start, end, text) in edits {
            all.add(start..end, |out| out.extend_from_slice(text.as_bytes()));
        }
        let mut out = Vec::new();
        all.apply(record.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn edits_apply_in_any_order_and_overlaps_join() {
        assert_eq!(edited("abcdef", &[(4, 5, "E"), (1, 2, "BB")]), "aBBcdEf");
        assert_eq!(edited("abcdef", &[(2, 3, "x"), (1, 5, "")]), "af");
        assert_eq!(edited("abcdef", &[(3, 6, "x"), (1, 4, "y")]), "ay");
        assert_eq!(edited("abcdef", &[]), "abcdef");
    }
}
