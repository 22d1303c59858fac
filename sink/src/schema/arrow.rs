//! The table's types as Arrow types.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use super::types::{Column, ColumnType, PROVENANCE_COLUMNS, TableSchema};

/// Why something is not a schema of a table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The bytes are not the JSON of a schema.
    #[error("cannot read the schema object")]
    Json(#[from] serde_json::Error),
    /// A newer program wrote the schema.
    #[error(
        "the schema object has version {found}, but this program reads versions up to {known}: upgrade it"
    )]
    Version {
        /// The version in the object.
        found: u32,
        /// The version this program writes.
        known: u32,
    },
    /// An empty name, or two names that differ in case only.
    #[error("column `{column}`: the name is empty or taken (case does not count)")]
    Name {
        /// The column's path.
        column: String,
    },
    /// A column without a type.
    #[error("column `{column}` has no type")]
    Untyped {
        /// The column's path.
        column: String,
    },
    /// A decimal out of range.
    #[error("column `{column}`: DECIMAL needs 1 to 38 digits and no larger scale")]
    Decimal {
        /// The column's path.
        column: String,
    },
    /// A record's column with the name of a partition or provenance column.
    #[error(
        "column `{column}` has the name of a partition or provenance column: rename it, or turn provenance off"
    )]
    Reserved {
        /// The column's name.
        column: String,
    },
    /// The table is partitioned otherwise than configured.
    #[error(
        "the table is partitioned by {stored}, not by {configured}: leave `partition` as it was, or write into another table"
    )]
    Partitioning {
        /// What the schema says.
        stored: String,
        /// What the configuration says.
        configured: String,
    },
}

/// The Arrow type of a column type. Unknown becomes `Null`, list items are named `element`.
#[must_use]
pub fn arrow_type(kind: &ColumnType) -> DataType {
    match kind {
        ColumnType::Unknown => DataType::Null,
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))
        }
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Varchar => DataType::Utf8,
        ColumnType::Struct(fields) => {
            DataType::Struct(fields.iter().map(arrow_field).collect::<Fields>())
        }
        ColumnType::List(item) => DataType::List(Arc::new(Field::new(
            "element",
            arrow_type(&item.kind),
            true,
        ))),
    }
}

/// The Arrow field of a column; always nullable.
#[must_use]
pub fn arrow_field(column: &Column) -> Field {
    Field::new(&column.name, arrow_type(&column.kind), true)
}

/// The Arrow fields of the provenance columns, in their order.
pub(crate) fn provenance_fields() -> Vec<Field> {
    let types = [
        DataType::Utf8,
        DataType::Utf8,
        DataType::Utf8,
        DataType::Int64,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    ];
    PROVENANCE_COLUMNS
        .into_iter()
        .zip(types)
        .map(|(name, kind)| Field::new(name, kind, true))
        .collect()
}

impl TableSchema {
    /// The schema of the table's files: its typed columns, then the provenance columns if on.
    #[must_use]
    pub fn to_arrow(&self) -> Schema {
        let mut fields: Vec<Field> = self
            .columns
            .iter()
            .filter_map(Column::typed)
            .map(|column| arrow_field(&column))
            .collect();
        if self.provenance {
            fields.extend(provenance_fields());
        }
        Schema::new(fields)
    }
}
