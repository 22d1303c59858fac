//! The JSON form of the numbered schema object, as it lies in the lake as `schema/<n>.json`.
//!
//! Columns are a flat list in which `depth` says how far one is nested below the last column that
//! is less deep, so that no nesting of a table can exceed what a JSON reader takes. The form is
//! versioned, refuses unknown keys and is validated when read.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::types::{Column, ColumnType, PartitionColumn, TableSchema, untyped};

/// The version of the JSON form that this code writes.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// How deep columns may be nested: as deep as records may.
const DEPTH_MAX: usize = crate::decode::COLUMN_DEPTH_MAX;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSchema {
    version: u32,
    number: u64,
    columns: Vec<StoredColumn>,
    #[serde(default)]
    partition_columns: Vec<PartitionColumn>,
    #[serde(default)]
    provenance: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredColumn {
    #[serde(default, skip_serializing_if = "is_zero")]
    depth: usize,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    integers_beyond_2_53: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    declared: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

fn is_zero(depth: &usize) -> bool {
    *depth == 0
}

impl Serialize for TableSchema {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut columns = Vec::new();
        for column in self.columns.iter().filter_map(Column::typed) {
            flatten(&column, 0, &mut columns);
        }
        let stored = StoredSchema {
            version: SCHEMA_VERSION,
            number: self.number,
            columns,
            partition_columns: self.partition_columns.clone(),
            provenance: self.provenance,
        };
        stored.serialize(to)
    }
}

impl<'de> Deserialize<'de> for TableSchema {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let stored = StoredSchema::deserialize(from)?;
        read(stored).map_err(D::Error::custom)
    }
}

fn read(stored: StoredSchema) -> hydrant_core::Result<TableSchema> {
    if stored.version != SCHEMA_VERSION {
        return Err(hydrant_core::Error::refused(format!(
            "its version is {}, not {SCHEMA_VERSION}",
            stored.version
        )));
    }
    let mut entries = stored.columns.into_iter().peekable();
    let columns = nest(&mut entries, 0)?;
    if let Some(entry) = entries.next() {
        return Err(untyped(&entry.name));
    }
    let schema = TableSchema {
        number: stored.number,
        columns,
        partition_columns: stored.partition_columns,
        provenance: stored.provenance,
    };
    schema.validate()?;
    Ok(schema)
}

fn flatten(column: &Column, depth: usize, columns: &mut Vec<StoredColumn>) {
    let nested = match &column.kind {
        ColumnType::Struct(fields) => fields.as_slice(),
        ColumnType::List(item) | ColumnType::Map(item) => std::slice::from_ref(&**item),
        _ => &[],
    };
    columns.push(StoredColumn {
        depth,
        name: column.name.clone(),
        kind: column.kind.outermost(),
        integers_beyond_2_53: column.integers_beyond_2_53,
        declared: column.declared,
        why: column.why.clone(),
    });
    for column in nested {
        flatten(column, depth + 1, columns);
    }
}

fn nest(
    entries: &mut Peekable<IntoIter<StoredColumn>>,
    depth: usize,
) -> hydrant_core::Result<Vec<Column>> {
    let mut columns = Vec::new();
    while let Some(entry) = entries.next_if(|entry| entry.depth == depth) {
        let untyped = || untyped(&entry.name);
        let kind = match entry.kind.as_str() {
            "STRUCT" | "LIST" | "MAP" if depth >= DEPTH_MAX => return Err(untyped()),
            "STRUCT" => ColumnType::Struct(nest(entries, depth + 1)?),
            "LIST" | "MAP" => {
                let items = <[Column; 1]>::try_from(nest(entries, depth + 1)?);
                let [item] = items.map_err(|_| untyped())?;
                match entry.kind.as_str() {
                    "LIST" => ColumnType::List(Box::new(item)),
                    _ => ColumnType::Map(Box::new(item)),
                }
            }
            scalar => match scalar.parse() {
                Ok(ColumnType::Struct(_) | ColumnType::List(_) | ColumnType::Map(_)) | Err(_) => {
                    return Err(untyped());
                }
                Ok(scalar) => scalar,
            },
        };
        let mut column = Column::new(entry.name, kind);
        column.integers_beyond_2_53 = entry.integers_beyond_2_53;
        column.declared = entry.declared;
        column.why = entry.why;
        columns.push(column);
    }
    Ok(columns)
}
