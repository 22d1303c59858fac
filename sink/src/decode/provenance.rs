//! The provenance columns of an interval: where each row came from in the stream.

use super::column::end_of;

/// The growing provenance columns; empty with provenance off.
#[derive(Debug, Default)]
pub(super) struct ProvenanceColumns {
    pub(super) sequences: String,
    pub(super) sequence_ends: Vec<i32>,
    pub(super) subs: Vec<i64>,
    pub(super) stamps: Vec<i64>,
}

impl ProvenanceColumns {
    /// Drops the rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.sequence_ends.truncate(rows);
        self.sequences.truncate(end_of(&self.sequence_ends));
        self.subs.truncate(rows);
        self.stamps.truncate(rows);
    }

    /// Those of some rows, in their order.
    pub(super) fn take(&self, rows: &[u32]) -> Self {
        let mut taken = Self::default();
        if self.subs.is_empty() {
            return taken;
        }
        let end = |row: usize| usize::try_from(self.sequence_ends[row]).unwrap_or(0);
        for row in rows.iter().map(|row| *row as usize) {
            let start = row.checked_sub(1).map_or(0, end);
            taken.sequences.push_str(&self.sequences[start..end(row)]);
            taken
                .sequence_ends
                .push(i32::try_from(taken.sequences.len()).unwrap_or(i32::MAX));
            taken.subs.push(self.subs[row]);
            taken.stamps.push(self.stamps[row]);
        }
        taken
    }
}
