//! The values of columns as JSON: those of JSON columns as they are, in whatever they lie.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array as _, ArrayRef, StringArray};
use arrow_schema::ArrowError;

use crate::encode::{write_json_text, write_json_value};
use crate::schema::ColumnType;

/// Writes one value of a column as JSON. Nulls are left out of objects.
///
/// # Errors
/// A type that no table has.
pub(super) fn write_column_value(
    kind: &ColumnType,
    array: &ArrayRef,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    if array.is_null(row) {
        return write_json_value(array, row, out);
    }
    match kind {
        ColumnType::Json => out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes()),
        ColumnType::Struct(fields) => {
            let values = fields.iter().zip(array.as_struct().columns());
            let values = values.filter(|(field, values)| {
                field.kind != ColumnType::Unknown && !values.is_null(row)
            });
            out.push(b'{');
            for (at, (field, values)) in values.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_json_text(&field.name, out)?;
                out.push(b':');
                write_column_value(&field.kind, values, row, out)?;
            }
            out.push(b'}');
        }
        ColumnType::List(item) => {
            let items = array.as_list::<i32>().value(row);
            out.push(b'[');
            for at in 0..items.len() {
                if at > 0 {
                    out.push(b',');
                }
                write_column_value(&item.kind, &items, at, out)?;
            }
            out.push(b']');
        }
        ColumnType::Map(value) => {
            let map = array.as_map();
            let ends = &map.value_offsets()[row..row + 2];
            let keys = map.keys().as_string::<i32>();
            out.push(b'{');
            for entry in ends[0] as usize..ends[1] as usize {
                if entry > ends[0] as usize {
                    out.push(b',');
                }
                write_json_text(keys.value(entry), out)?;
                out.push(b':');
                write_column_value(&value.kind, map.values(), entry, out)?;
            }
            out.push(b'}');
        }
        _ => write_json_value(array, row, out)?,
    }
    Ok(())
}

/// Whether values of the first type are values of the second as they are: the same kinds at the same places.
pub(super) fn are_the_same(ours: &ColumnType, target: &ColumnType) -> bool {
    use ColumnType as T;
    match (ours, target) {
        (T::Unknown, _) => false,
        (T::Timestamp(_), T::Timestamp(_)) => true,
        (T::Struct(ours), T::Struct(target)) => {
            let mut pairs = ours.iter().zip(target);
            ours.len() == target.len()
                && pairs.all(|(ours, target)| {
                    ours.name == target.name && are_the_same(&ours.kind, &target.kind)
                })
        }
        (T::List(ours), T::List(target)) | (T::Map(ours), T::Map(target)) => {
            are_the_same(&ours.kind, &target.kind)
        }
        (ours, target) => ours == target,
    }
}

/// The values as JSON.
pub(super) fn json_of(kind: &ColumnType, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let nulls = array.logical_nulls();
    let mut texts = Vec::with_capacity(array.len());
    for index in 0..array.len() {
        let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(index));
        texts.push(if is_null {
            None
        } else {
            let mut json = Vec::new();
            write_column_value(kind, array, index, &mut json)?;
            String::from_utf8(json).ok()
        });
    }
    Ok(Arc::new(StringArray::from(texts)))
}

/// JSON as a declared VARCHAR takes it: strings as their text.
pub(super) fn texts_of_json(array: &ArrayRef) -> ArrayRef {
    let texts = array.as_string::<i32>().iter();
    let texts = texts.map(|json| {
        json.map(|json| serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()))
    });
    Arc::new(texts.collect::<StringArray>())
}
