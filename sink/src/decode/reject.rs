//! Why a record was refused.

use std::fmt;

use hydrant_json::{FaultKind, JsonFault};

/// Why a column does not take a value, or a table a record: its stable code, as commit records, dead letters and metrics
/// carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RejectReason(&'static str);

impl RejectReason {
    /// The bytes are not JSON.
    pub const MALFORMED_JSON: Self = Self("malformed_json");
    /// The bytes are not UTF-8.
    pub const NOT_UTF8: Self = Self("not_utf8");
    /// The JSON is not an object.
    pub const NOT_AN_OBJECT: Self = Self("not_an_object");
    /// Objects and arrays nest deeper than columns may; a record deeper than [`hydrant_json::DEPTH_MAX`] is refused.
    pub const TOO_DEEP: Self = Self("too_deep");
    /// The value is of another kind than the column.
    pub const TYPE_CONFLICT: Self = Self("type_conflict");
    /// The integer does not fit the column exactly.
    pub const INTEGER_OVERFLOW: Self = Self("integer_overflow");
    /// The number is beyond what a DOUBLE can hold.
    pub const NUMBER_OUT_OF_RANGE: Self = Self("number_out_of_range");
    /// A key occurs twice in one object.
    pub const DUPLICATE_KEY: Self = Self("duplicate_key");
    /// A key differs from another one of the table in case only.
    pub const KEY_CASE_CONFLICT: Self = Self("key_case_conflict");
    /// A key is empty, too long or holds control characters.
    pub const BAD_KEY: Self = Self("bad_key");
    /// The value of a field that names directories, which its path does not give back.
    pub const PARTITION_VALUE: Self = Self("partition_value");
    /// A key has the name of a partition or provenance column.
    pub const RESERVED_COLUMN: Self = Self("reserved_column");
    /// An empty object or array under a key that never held anything else: nothing says what its column would be.
    pub const NO_TYPE: Self = Self("no_type");
    /// A new key, and the table has as many columns as it may.
    pub const TOO_MANY_COLUMNS: Self = Self("too_many_columns");
    /// A key that becomes no column: the table's columns are fixed, another sink used them up, or the key is data.
    pub const UNKNOWN_COLUMN: Self = Self("unknown_column");
    /// The payload is larger than any decoder takes.
    pub const TOO_LARGE: Self = Self("too_large");
    /// The records with its sequence number are too many for one interval, which may not end among them.
    pub const AGGREGATE_TOO_LARGE: Self = Self("aggregate_too_large");
    /// The record has no payload: it says that its key is gone, which a table of events cannot.
    pub const TOMBSTONE: Self = Self("tombstone");
    /// Computing it panicked: a fault of hydrant, not of the record.
    pub const INTERNAL_FAULT: Self = Self(hydrant_core::workers::INTERNAL_FAULT);

    /// Whether the table has a column or a place that does not take the value, and not only none for it yet.
    pub(crate) fn is_conflict(self) -> bool {
        !matches!(
            self,
            Self::NO_TYPE | Self::UNKNOWN_COLUMN | Self::TOO_MANY_COLUMNS
        )
    }

    /// The code.
    pub fn code(self) -> &'static str {
        self.0
    }
}

/// A refused record. Never holds a value of the record, only kinds and the column's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// The column's path, such as `a.b[].c`; empty where no column is concerned.
    pub column: String,
    /// What would have been taken; empty where that says nothing.
    pub wanted: String,
    /// The kind of what was found.
    pub found: &'static str,
    /// Where in the payload, in bytes. 0 for a row that was refused after it had been decoded.
    pub offset: usize,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.code())?;
        if !self.column.is_empty() {
            write!(f, " in column `{}`", self.column)?;
        }
        if !self.wanted.is_empty() {
            write!(f, ", wanted {}", self.wanted)?;
        }
        if !self.found.is_empty() {
            write!(f, ", found {}", self.found)?;
        }
        write!(f, ", at byte {}", self.offset)
    }
}

/// The outcome of reading a part of a record.
pub(super) type DecodeResult<T> = Result<T, Box<Reject>>;

impl From<JsonFault> for Box<Reject> {
    #[cold]
    fn from(fault: JsonFault) -> Self {
        if fault.kind == FaultKind::TOO_DEEP {
            let reject = Reject::new(RejectReason::TOO_DEEP, "deeper nesting", fault.at);
            return reject.wanting(format!("at most {} levels", hydrant_json::DEPTH_MAX));
        }
        Reject::malformed(fault.kind.found(), fault.at)
    }
}

impl Reject {
    /// Of a record that begins as what JSON has beside objects.
    pub(super) fn of_no_object(record: &[u8], found: &'static str, at: usize) -> Box<Self> {
        match serde_json::from_slice::<serde::de::IgnoredAny>(record) {
            Ok(_) => Self::new(RejectReason::NOT_AN_OBJECT, found, at),
            Err(_) => Self::malformed("text that is no JSON", at),
        }
    }

    pub(super) fn new(reason: RejectReason, found: &'static str, offset: usize) -> Box<Self> {
        Box::new(Self {
            reason,
            column: String::new(),
            wanted: String::new(),
            found,
            offset,
        })
    }

    /// The reject of a record whose computation panicked.
    pub(crate) fn internal_fault() -> Box<Self> {
        Self::new(
            RejectReason::INTERNAL_FAULT,
            "a value that hydrant cannot compute",
            0,
        )
    }

    /// The reject of a record without payload.
    pub(crate) fn tombstone() -> Box<Self> {
        Self::new(RejectReason::TOMBSTONE, "a record without payload", 0)
    }

    /// The reject of a record for which no interval has room.
    pub(crate) fn aggregate_too_large() -> Box<Self> {
        let found = "more records with one sequence number than an interval takes";
        Self::new(RejectReason::AGGREGATE_TOO_LARGE, found, 0)
    }

    pub(super) fn malformed(found: &'static str, offset: usize) -> Box<Self> {
        Self::new(RejectReason::MALFORMED_JSON, found, offset)
    }

    /// The reject of a record with an object that has the key `name` twice.
    #[cold]
    pub(super) fn repeated(name: &str, offset: usize) -> Box<Self> {
        Self::new(RejectReason::DUPLICATE_KEY, "a repeated key", offset).within(name)
    }

    pub(super) fn wanting(mut self: Box<Self>, wanted: impl Into<String>) -> Box<Self> {
        self.wanted = wanted.into();
        self
    }

    /// The reject as seen from the object that holds `name`.
    pub(super) fn within(mut self: Box<Self>, name: &str) -> Box<Self> {
        let dot = if self.column.is_empty() || self.column.starts_with('[') {
            ""
        } else {
            "."
        };
        self.column = format!("{name}{dot}{}", self.column);
        self
    }
}
