//! Findings as they are reported: where they lie and of which class they are, never the value.
//!
//! Owns findings and the counters over many records. A pointer
//! shows keys as they leave the engine: a key that holds personal data appears redacted.

use serde::Serialize;

use crate::action::Action;
use crate::class::Class;
use crate::detect::TABLE;

/// One finding in the last record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Index of the detector.
    pub(crate) detector: u8,
    /// The class whose rule acted.
    pub class: Class,
    /// Name of the action, as policies write it.
    pub action: &'static str,
    /// Name of the rule, as an index for [`crate::Policy::rule_name`].
    pub rule: u16,
    /// Whether it lies in a key and not in a value.
    pub in_key: bool,
    /// Offset in the decoded value (or key), in bytes.
    pub offset: u32,
    /// Length in the decoded value (or key), in bytes.
    pub length: u32,
    /// Where the pointer lies in the engine's arena.
    pub(crate) pointer: (u32, u32),
}

impl Finding {
    /// Name of the detector.
    pub fn detector(&self) -> &'static str {
        TABLE[usize::from(self.detector)].name
    }

    /// Whether the value was changed, and not only reported.
    pub(crate) fn acted(&self) -> bool {
        self.action != Action::Keep.name()
    }
}

/// A finding with its pointer, ready for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FindingReport<'a> {
    /// RFC 6901 pointer; behind `#` it continues inside a string that holds JSON.
    pub pointer: &'a str,
    /// `key` if the finding lies in the key that the pointer names, and nothing for a value.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub place: Option<&'static str>,
    /// Name of the detector.
    pub detector: &'static str,
    /// Class of the finding.
    pub class: Class,
    /// Name of the action.
    pub action: &'static str,
    /// Name of the rule of the policy.
    pub rule: &'a str,
    /// Offset in the decoded value, in bytes.
    pub offset: u32,
    /// Length in the decoded value, in bytes.
    pub length: u32,
}

/// Counters over many records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingCounts {
    /// Records that left unchanged.
    pub clean: u64,
    /// Records that left changed.
    pub redacted: u64,
    /// Records that could not be processed.
    pub quarantined: u64,
    /// Records that a rule dropped.
    pub dropped: u64,
    by_detector: Vec<u64>,
}

impl FindingCounts {
    /// Counts a record with its findings.
    pub fn add(&mut self, verdict: crate::ScanVerdict, findings: &[Finding]) {
        match verdict {
            crate::ScanVerdict::Clean => self.clean += 1,
            crate::ScanVerdict::Redacted => self.redacted += 1,
            crate::ScanVerdict::Quarantined { .. } => self.quarantined += 1,
            crate::ScanVerdict::Dropped { .. } => self.dropped += 1,
        }
        self.by_detector.resize(TABLE.len(), 0);
        for finding in findings {
            self.by_detector[usize::from(finding.detector)] += 1;
        }
    }

    /// Findings per detector, of those that found something.
    pub fn findings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = self.by_detector.iter().zip(TABLE);
        named
            .filter(|(count, _)| **count > 0)
            .map(|(&count, row)| (row.name, count))
    }
}

/// An offset in a record as findings hold it: the limit of a record is far below 4 GiB.
pub(crate) fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
