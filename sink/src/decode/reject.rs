//! Why a record was refused.

use std::fmt;

use hydrant_json::JsonFault;

use crate::schema::ColumnType;

/// The reason of a reject, by its stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RejectReason {
    /// The bytes are not JSON.
    MalformedJson,
    /// The bytes are not UTF-8.
    NotUtf8,
    /// The JSON is not an object.
    NotAnObject,
    /// Objects and arrays nest deeper than a table's may.
    TooDeep,
    /// The value is of another kind than the column.
    TypeConflict,
    /// The integer does not fit the column exactly.
    IntegerOverflow,
    /// The number is beyond what a DOUBLE can hold.
    NumberOutOfRange,
    /// A key occurs twice in one object.
    DuplicateKey,
    /// A key differs from another one of the table in case only.
    KeyCaseConflict,
    /// A key is empty, too long or holds control characters.
    BadKey,
    /// A key has the name of a partition or provenance column.
    ReservedColumn,
    /// A new key, and the table has as many columns as it may.
    TooManyColumns,
    /// A new key, and the table's columns are fixed.
    UnknownColumn,
    /// The payload is larger than any decoder takes.
    TooLarge,
    /// The records with its sequence number are too many for one interval, which may not end among them.
    AggregateTooLarge,
    /// The record holds no value with a type, and the table has no column yet: no file could hold
    /// the row.
    EmptyRecord,
    /// The record has no payload: it says that its key is gone, which a table of events cannot.
    Tombstone,
    /// Computing it panicked: a fault of hydrant, not of the record.
    InternalFault,
}

impl RejectReason {
    /// The code, as dead letters and metrics carry it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::NotUtf8 => "not_utf8",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::TypeConflict => "type_conflict",
            Self::IntegerOverflow => "integer_overflow",
            Self::NumberOutOfRange => "number_out_of_range",
            Self::DuplicateKey => "duplicate_key",
            Self::KeyCaseConflict => "key_case_conflict",
            Self::BadKey => "bad_key",
            Self::ReservedColumn => "reserved_column",
            Self::TooManyColumns => "too_many_columns",
            Self::UnknownColumn => "unknown_column",
            Self::TooLarge => "too_large",
            Self::AggregateTooLarge => "aggregate_too_large",
            Self::EmptyRecord => "empty_record",
            Self::Tombstone => "tombstone",
            Self::InternalFault => hydrant_core::workers::INTERNAL_FAULT,
        }
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
        Reject::malformed(fault.kind.found(), fault.at)
    }
}

impl Reject {
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
            RejectReason::InternalFault,
            "a value that hydrant cannot compute",
            0,
        )
    }

    /// The reject of a record without payload.
    pub(crate) fn tombstone() -> Box<Self> {
        Self::new(RejectReason::Tombstone, "a record without payload", 0)
    }

    /// The reject of a record for which no interval has room.
    pub(crate) fn aggregate_too_large() -> Box<Self> {
        let found = "more records with one sequence number than an interval takes";
        Self::new(RejectReason::AggregateTooLarge, found, 0)
    }

    pub(super) fn malformed(found: &'static str, offset: usize) -> Box<Self> {
        Self::new(RejectReason::MalformedJson, found, offset)
    }

    pub(super) fn conflict(wanted: &ColumnType, found: &'static str, offset: usize) -> Box<Self> {
        Self::new(RejectReason::TypeConflict, found, offset).wanting(wanted.outermost())
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
