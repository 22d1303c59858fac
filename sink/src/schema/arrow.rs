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
pub fn arrow_field(column: &Column) -> Field {
    Field::new(&column.name, arrow_type(&column.kind), true)
}

/// The Arrow fields of the provenance columns, in their order.
fn provenance_fields() -> impl Iterator<Item = Field> {
    PROVENANCE_COLUMNS.into_iter().map(|(name, kind)| {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let kind = kind.parse().map_or(stamp, |kind| arrow_type(&kind));
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
