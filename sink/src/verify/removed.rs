//! The files that the layout chain of a table took away.
//!
//! Holds eight bytes a file. It may be read further while a table is verified: records are never removed or changed.

use std::collections::HashSet;

use hydrant_core::Result;
use hydrant_core::lake::{Object, SharedLake};

use super::report::{ProblemKind, TableReport};
use super::slots::Slots;
use crate::lake::TableNames;
use crate::lake::layout::{LayoutChain, key_digest};

/// What the records of a layout chain named as gone.
#[derive(Debug, Default)]
pub(super) struct RemovedFiles {
    named: HashSet<u64>,
    /// What the newest record names, while nothing says that it is all removed.
    pending: HashSet<u64>,
    /// The newest slot that was read.
    read: u64,
}

impl RemovedFiles {
    /// Whether a record names the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.named.contains(&key_digest(key))
    }

    /// Whether the file may still be there: the newest record names it, and its removal is not done.
    pub(super) fn is_pending(&self, key: &str) -> bool {
        self.pending.contains(&key_digest(key))
    }

    /// Reads the records that were added since. Returns whether there were any.
    pub(super) async fn read_on(
        &mut self,
        lake: &SharedLake,
        names: &TableNames,
        report: &mut TableReport,
    ) -> Result<bool> {
        let (prefix, chain) = (names.layout(), LayoutChain::new(lake, names));
        let (mut slots, mut marked) = (Slots::default(), None);
        let (first, from) = (self.read == 0, self.read);
        let mut seen = |object: Object| match TableNames::slot_of(&prefix, &object.key) {
            Some(slot) if slot > 0 => slots.insert(slot),
            _ => match TableNames::marked_slot_of(&prefix, &object.key) {
                Some(slot) if slot > 0 => marked = marked.max(Some(slot)),
                _ if first => {
                    let detail = "it is not a layout record";
                    report.problem(ProblemKind::Foreign, object.key, detail);
                }
                _ => {}
            },
        };
        lake.visit(&prefix, &mut seen).await?;
        let (mut next, mut newest) = (1, None);
        for (start, last) in slots.ranges() {
            if next < start && first {
                let key = format!("{prefix}{}", TableNames::record_name(next));
                let detail = format!("layout record {start} exists, and {next} does not");
                report.problem(ProblemKind::Missing, key, detail);
            }
            next = last.saturating_add(1);
            for slot in start.max(from.saturating_add(1))..=last {
                let key = format!("{prefix}{}", TableNames::record_name(slot));
                let record = match chain.record(slot).await {
                    Ok(Some(record)) => record,
                    Ok(None) => continue,
                    Err(error) => {
                        report.problem(ProblemKind::Damaged, key, error.report());
                        continue;
                    }
                };
                let inputs = record.inputs.iter().map(|input| key_digest(&input.key));
                let inputs: HashSet<u64> = inputs.collect();
                self.named.extend(&inputs);
                self.read = self.read.max(slot);
                newest = Some((slot, inputs));
            }
        }
        if let Some((slot, inputs)) = newest {
            self.pending = match marked == Some(slot) {
                true => HashSet::new(),
                false => inputs,
            };
        }
        Ok(self.read > from)
    }
}
