//! Columns, their types and the schema of a table.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use hydrant_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The largest magnitude up to which every integer is exact in a DOUBLE: 2^53.
pub const INTEGER_EXACT_MAX: i64 = 1 << 53;

/// The columns that provenance adds behind the record's own, in this order, with their types for people.
pub const PROVENANCE_COLUMNS: [(&str, &str); 5] = [
    ("_stream", "VARCHAR"),
    ("_shard", "VARCHAR"),
    ("_sequence", "VARCHAR"),
    ("_sub", "BIGINT"),
    ("_stamp", "TIMESTAMP"),
];

/// The column of the values that no other column takes: JSON text in the shape of the record.
pub const RESCUED_COLUMN: &str = "_rescued";

/// Whether a folded name is that of a provenance column.
fn is_of_provenance(folded: &str) -> bool {
    PROVENANCE_COLUMNS.iter().any(|(name, _)| *name == folded)
}

/// The name under which readers that ignore case would find a column.
pub fn fold_name(name: &str) -> String {
    name.to_lowercase()
}

/// The type of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Nothing but nulls so far. Never part of a stored schema.
    Unknown,
    /// Integers of 64 bits.
    Bigint,
    /// IEEE 754 double precision.
    Double,
    /// Exact decimals. Only ever declared, never inferred.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// `true` or `false`. Joins with nothing else.
    Boolean,
    /// UTF-8 text. Where it is declared, any value as its text.
    Varchar,
    /// Days. Only ever declared.
    Date,
    /// Instants in UTC, to the microsecond. Only ever declared.
    Timestamp(EpochUnit),
    /// Any value as JSON text. Only ever declared.
    Json,
    /// A JSON object: named columns.
    Struct(Vec<Column>),
    /// A JSON array; the item's name is always `element`.
    List(Box<Column>),
    /// A JSON object whose keys are data; the name of the column of its values is always `value`.
    Map(Box<Column>),
}

/// The unit of numbers in a TIMESTAMP column, counted since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EpochUnit {
    /// The one that fits the size of the number.
    #[default]
    BySize,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// A named column, a field of a struct, or the item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The key of the record, unchanged.
    pub name: String,
    /// The type.
    pub kind: ColumnType,
    /// Whether a BIGINT column holds, in any file, an integer beyond 2^53 in magnitude. Such a
    /// column can never become DOUBLE.
    pub integers_beyond_2_53: bool,
    /// Whether the configuration declared the type. A declared BIGINT never becomes DOUBLE; a
    /// declared struct may still gain fields, as a table may gain columns.
    pub declared: bool,
    /// Why the column is a map, if the records decided that.
    pub why: Option<String>,
}

/// A column of the directory names, fixed for the table's life with its first schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionColumn {
    /// The name in the path, such as `date`.
    pub name: String,
    /// What it is computed from: `date`, `hour` or `field:NAME`.
    pub source: String,
    /// The type under which readers see it.
    pub kind: PartitionKind,
    /// Whether the configuration declared the type. A declared VARCHAR takes numbers and truth values as their texts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
}

/// The type of a partition column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PartitionKind {
    /// The values of the first interval decide. Never part of a stored schema.
    #[serde(skip)]
    Undecided,
    /// Days.
    Date,
    /// Integers of 64 bits.
    Bigint,
    /// `true` or `false`.
    Boolean,
    /// Text.
    Varchar,
}

impl fmt::Display for PartitionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PartitionKind::Date => "DATE",
            PartitionKind::Bigint => "BIGINT",
            PartitionKind::Boolean => "BOOLEAN",
            PartitionKind::Undecided | PartitionKind::Varchar => "VARCHAR",
        })
    }
}

/// The schema of a table: ordered columns, the partition columns and a number.
///
/// Number 0 is the schema of a table that has none yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSchema {
    /// The number; 0 for none stored yet.
    pub number: u64,
    /// The columns of the records, in the order in which they were first seen.
    pub columns: Vec<Column>,
    /// The columns of the directory names; empty until the first schema is decided.
    pub partition_columns: Vec<PartitionColumn>,
    /// Whether rows carry [`PROVENANCE_COLUMNS`].
    pub provenance: bool,
}

impl Column {
    /// An inferred column of the given type.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Self {
            name: name.into(),
            kind,
            integers_beyond_2_53: false,
            declared: false,
            why: None,
        }
    }

    /// A column whose type the configuration fixes, with everything nested in it.
    pub fn declared(name: impl Into<String>, kind: ColumnType) -> Self {
        let mut column = Self::new(name, kind);
        column.mark_declared();
        column
    }

    fn mark_declared(&mut self) {
        self.declared = true;
        match &mut self.kind {
            ColumnType::Struct(fields) => fields.iter_mut().for_each(Column::mark_declared),
            ColumnType::List(item) | ColumnType::Map(item) => item.mark_declared(),
            _ => {}
        }
    }

    /// How many columns this one counts for: itself and everything nested in it.
    pub fn width(&self) -> usize {
        1 + match &self.kind {
            ColumnType::Struct(fields) => fields.iter().map(Column::width).sum(),
            ColumnType::List(item) | ColumnType::Map(item) => item.width(),
            _ => 0,
        }
    }

    /// The column without what has no type yet, or `None` if nothing is left.
    ///
    /// An object that was always empty and an array that never held a typed item have no form that
    /// every reader understands, so they are left out until a value gives them a type.
    pub fn typed(&self) -> Option<Column> {
        let kind = match &self.kind {
            ColumnType::Unknown => return None,
            ColumnType::Struct(fields) => {
                let fields: Vec<Column> = fields.iter().filter_map(Column::typed).collect();
                if fields.is_empty() {
                    return None;
                }
                ColumnType::Struct(fields)
            }
            ColumnType::List(item) => ColumnType::List(Box::new(item.typed()?)),
            ColumnType::Map(value) => ColumnType::Map(Box::new(value.typed()?)),
            scalar => scalar.clone(),
        };
        Some(Column {
            kind,
            ..self.clone()
        })
    }
}

impl TableSchema {
    /// A schema of these columns.
    ///
    /// # Errors
    /// Names that clash or are unusable, and types that are out of range.
    pub fn try_new(columns: Vec<Column>) -> Result<Self> {
        let schema = Self {
            columns,
            ..Self::default()
        };
        schema.validate()?;
        Ok(schema)
    }

    /// The same schema under another number.
    pub fn with_number(mut self, number: u64) -> Self {
        self.number = number;
        self
    }

    /// The same schema with or without [`PROVENANCE_COLUMNS`].
    ///
    /// # Errors
    /// A column of the records already has the name of a provenance column.
    pub fn with_provenance(mut self, provenance: bool) -> Result<Self> {
        self.provenance = provenance;
        self.validate()?;
        Ok(self)
    }

    /// Adds the paths of DOUBLE columns that are BIGINT in an older schema of the table.
    pub(super) fn add_widened(&self, older: &Self, paths: &mut BTreeSet<String>) {
        add_widened(&self.columns, &older.columns, "", paths);
    }

    /// Whether both describe the same files; the number does not count.
    pub fn same_content(&self, other: &Self) -> bool {
        self.columns == other.columns
            && self.partition_columns == other.partition_columns
            && self.provenance == other.provenance
    }

    /// How many columns there are, nested ones and their containers included.
    pub fn width(&self) -> usize {
        self.columns.iter().map(Column::width).sum()
    }

    /// Whether a key of a record may not be used at top level, because readers would see it twice.
    pub fn is_reserved(&self, name: &str) -> bool {
        let folded = fold_name(name);
        folded == RESCUED_COLUMN
            || self
                .partition_columns
                .iter()
                .any(|column| fold_name(&column.name) == folded)
            || (self.provenance && is_of_provenance(&folded))
    }

    pub(super) fn validate(&self) -> Result<()> {
        validate_columns(&self.columns, "")?;
        let is_provenance = |name: &&String| {
            let folded = fold_name(name);
            folded == RESCUED_COLUMN || (self.provenance && is_of_provenance(&folded))
        };
        let partitions = self.partition_columns.iter().map(|column| &column.name);
        let columns = self.columns.iter().map(|column| &column.name);
        let columns = columns.filter(|name| self.is_reserved(name));
        match partitions.filter(is_provenance).chain(columns).next() {
            Some(name) => Err(refused(
                name,
                " has the name of a partition column, a provenance column or `_rescued`: rename it, or turn provenance off",
            )),
            None => Ok(()),
        }
    }
}

fn add_widened(newer: &[Column], older: &[Column], parent: &str, paths: &mut BTreeSet<String>) {
    // A column never changes its place.
    for (newer, older) in newer.iter().zip(older) {
        debug_assert_eq!(newer.name, older.name, "columns are only added at the end");
        let path = format!("{parent}{}", newer.name);
        match (&newer.kind, &older.kind) {
            (ColumnType::Double, ColumnType::Bigint) => {
                paths.insert(path);
            }
            (ColumnType::Struct(newer), ColumnType::Struct(older)) => {
                add_widened(newer, older, &format!("{path}."), paths);
            }
            (ColumnType::List(newer), ColumnType::List(older))
            | (ColumnType::Map(newer), ColumnType::Map(older)) => {
                let (newer, older) = (
                    std::slice::from_ref(&**newer),
                    std::slice::from_ref(&**older),
                );
                add_widened(newer, older, &format!("{path}."), paths);
            }
            _ => {}
        }
    }
}

fn refused(column: &str, why: &str) -> Error {
    Error::refused(format!("column `{column}`{why}"))
}

/// The error for a column without a type.
pub(super) fn untyped(column: &str) -> Error {
    refused(column, " has no type")
}

fn validate_columns(columns: &[Column], parent: &str) -> Result<()> {
    let mut seen = HashSet::new();
    for column in columns {
        let path = format!("{parent}{}", column.name);
        if column.name.is_empty() || !seen.insert(fold_name(&column.name)) {
            let why = ": the name is empty or taken (case does not count)";
            return Err(refused(&path, why));
        }
        validate_type(&column.kind, &path)?;
    }
    Ok(())
}

fn validate_type(kind: &ColumnType, path: &str) -> Result<()> {
    match kind {
        ColumnType::Unknown => Err(untyped(path)),
        ColumnType::Struct(fields) if fields.is_empty() => Err(untyped(path)),
        ColumnType::Decimal { precision, scale }
            if !(1..=38).contains(precision) || scale > precision =>
        {
            let why = ": DECIMAL needs 1 to 38 digits and no larger scale";
            Err(refused(path, why))
        }
        ColumnType::Struct(fields) => validate_columns(fields, &format!("{path}.")),
        ColumnType::List(item) => validate_type(&item.kind, &format!("{path}[]")),
        ColumnType::Map(value) => validate_type(&value.kind, &format!("{path}{{}}")),
        _ => Ok(()),
    }
}

impl ColumnType {
    /// The word for the type: that of DuckDB, `LIST` for a list and `MAP` for a map.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unknown => "NULL",
            Self::Bigint => "BIGINT",
            Self::Double => "DOUBLE",
            Self::Decimal { .. } => "DECIMAL",
            Self::Boolean => "BOOLEAN",
            Self::Varchar => "VARCHAR",
            Self::Date => "DATE",
            Self::Timestamp(_) => "TIMESTAMP",
            Self::Json => "JSON",
            Self::Struct(_) => "STRUCT",
            Self::List(_) => "LIST",
            Self::Map(_) => "MAP",
        }
    }

    /// The type without what is nested in it.
    pub fn outermost(&self) -> String {
        match self {
            Self::Decimal { .. } | Self::Timestamp(_) => self.to_string(),
            other => other.word().to_owned(),
        }
    }
}
