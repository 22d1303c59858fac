//! The table's types as Arrow types.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use super::types::{Column, ColumnType, PROVENANCE_COLUMNS, RESCUED_COLUMN, TableSchema};

/// The Arrow type of a column type. Unknown becomes `Null`, list items are named `element`.
pub fn arrow_type(kind: &ColumnType) -> DataType {
    match kind {
        ColumnType::Unknown => DataType::Null,
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))
        }
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Varchar | ColumnType::Json => DataType::Utf8,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp(_) => instant(),
        ColumnType::Struct(fields) => {
            DataType::Struct(fields.iter().map(arrow_field).collect::<Fields>())
        }
        ColumnType::List(item) => DataType::List(Arc::new(Field::new(
            "element",
            arrow_type(&item.kind),
            true,
        ))),
        ColumnType::Map(value) => DataType::Map(
            Arc::new(Field::new("key_value", map_entry(value), false)),
            false,
        ),
    }
}

/// The type of the entries of a map, named as the Parquet format asks.
pub(crate) fn map_entry(value: &Column) -> DataType {
    let key = Field::new("key", DataType::Utf8, false);
    let value = Field::new("value", arrow_type(&value.kind), true);
    DataType::Struct(Fields::from(vec![key, value]))
}

/// The type of an instant.
fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Arrow field of a column; always nullable.
pub fn arrow_field(column: &Column) -> Field {
    Field::new(&column.name, arrow_type(&column.kind), true)
}

/// The Arrow fields of the provenance columns, in their order.
fn provenance_fields() -> impl Iterator<Item = Field> {
    PROVENANCE_COLUMNS.into_iter().map(|(name, kind)| {
        let kind = kind
            .parse()
            .map_or(DataType::Null, |kind| arrow_type(&kind));
        Field::new(name, kind, true)
    })
}

impl TableSchema {
    /// The schema of the table's files: its typed columns, then [`RESCUED_COLUMN`], then the provenance columns if on.
    pub fn to_arrow(&self) -> Schema {
        let mut fields: Vec<Field> = self
            .columns
            .iter()
            .filter_map(Column::typed)
            .map(|column| arrow_field(&column))
            .collect();
        fields.push(Field::new(RESCUED_COLUMN, DataType::Utf8, true));
        if self.provenance {
            fields.extend(provenance_fields());
        }
        Schema::new(fields)
    }
}
