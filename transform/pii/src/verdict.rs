//! The outcome of a record, and its reason.

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ScanVerdict {
    /// All of it was scanned and nothing has to change: the caller passes its own bytes on.
    Clean,
    /// All of it was scanned; the redacted bytes were appended to `out`.
    Redacted,
    /// It could not be processed and must not be passed on.
    Quarantined {
        /// Why.
        reason: QuarantineReason,
    },
    /// A rule of the policy drops such records.
    Dropped {
        /// The rule, for [`crate::Policy::rule_name`].
        rule: u16,
    },
}

/// Why a record could not be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum QuarantineReason {
    /// Longer than the limit.
    TooLarge,
    /// No UTF-8.
    InvalidUtf8,
    /// No JSON, or cut off.
    Malformed,
    /// It holds half of a surrogate pair, which no text can be made of.
    LoneSurrogate,
    /// More containers inside each other than the limit.
    TooDeep,
    /// More strings with JSON inside each other than the limit.
    NestedTooDeep,
    /// More findings than the limit.
    TooManyFindings,
    /// What was redacted still held findings when it was scanned again.
    Residual,
}

impl QuarantineReason {
    /// The code in dead letters and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::InvalidUtf8 => "not_utf8",
            Self::Malformed => "malformed_json",
            Self::LoneSurrogate => "lone_surrogate",
            Self::TooDeep => "too_deep",
            Self::NestedTooDeep => "nested_too_deep",
            Self::TooManyFindings => "too_many_findings",
            Self::Residual => "residual_findings",
        }
    }
}

/// What ends a walk early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Quarantine(QuarantineReason),
    Drop(u16),
}

impl From<QuarantineReason> for Stop {
    fn from(reason: QuarantineReason) -> Self {
        Self::Quarantine(reason)
    }
}

impl From<Stop> for ScanVerdict {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Quarantine(reason) => Self::Quarantined { reason },
            Stop::Drop(rule) => Self::Dropped { rule },
        }
    }
}
