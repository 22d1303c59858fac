//! The table's types as Arrow types, and back.

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
    /// An Arrow type that no table of ours has.
    #[error("column `{column}`: `{kind}` is not a column type")]
    Arrow {
        /// The column's path.
        column: String,
        /// The Arrow type.
        kind: String,
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

    /// The schema of a file's Arrow schema. Whether integers lie beyond 2^53 is not in a file's
    /// schema, so every BIGINT is taken to hold some.
    ///
    /// # Errors
    /// A type that no table has.
    pub fn from_arrow(schema: &Schema) -> Result<Self, SchemaError> {
        let own = provenance_fields();
        let provenance = own.iter().all(|field| {
            schema
                .field_with_name(field.name())
                .is_ok_and(|found| found.data_type() == field.data_type())
        });
        let columns = schema
            .fields()
            .iter()
            .filter(|field| !(provenance && PROVENANCE_COLUMNS.contains(&field.name().as_str())))
            .map(|field| column_of(field, field.name()))
            .collect::<Result<_, _>>()?;
        Self::try_new(columns)?.with_provenance(provenance)
    }
}

fn column_of(field: &Field, path: &str) -> Result<Column, SchemaError> {
    let kind = match field.data_type() {
        DataType::Int64 => ColumnType::Bigint,
        DataType::Float64 => ColumnType::Double,
        DataType::Boolean => ColumnType::Boolean,
        DataType::Utf8 => ColumnType::Varchar,
        DataType::Decimal128(precision, scale) if *scale >= 0 => ColumnType::Decimal {
            precision: *precision,
            scale: scale.unsigned_abs(),
        },
        DataType::Struct(fields) => ColumnType::Struct(
            fields
                .iter()
                .map(|field| column_of(field, &format!("{path}.{}", field.name())))
                .collect::<Result<_, _>>()?,
        ),
        DataType::List(item) => {
            let mut item = column_of(item, &format!("{path}[]"))?;
            "element".clone_into(&mut item.name);
            ColumnType::List(Box::new(item))
        }
        other => {
            return Err(SchemaError::Arrow {
                column: path.to_owned(),
                kind: other.to_string(),
            });
        }
    };
    let mut column = Column::new(field.name(), kind);
    column.integers_beyond_2_53 = column.kind == ColumnType::Bigint;
    Ok(column)
}
