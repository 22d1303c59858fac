//! A row of a batch as a line of JSON.

use std::io::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{ArrowError, DataType, Fields, TimeUnit};
use chrono::{DateTime, NaiveDate, SecondsFormat};

/// Writes one row as a JSON object, without a line end. Nulls are left out of objects and kept in
/// arrays; times are RFC 3339.
///
/// # Errors
/// A type that no table has.
pub fn write_json_row(
    fields: &Fields,
    arrays: &[ArrayRef],
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    out.push(b'{');
    let mut first = true;
    for (field, array) in fields.iter().zip(arrays) {
        if array.is_null(row) || *array.data_type() == DataType::Null {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_json_text(field.name(), out)?;
        out.push(b':');
        write_json_value(array, row, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// Writes one value as JSON.
///
/// # Errors
/// A type that no table has.
pub(crate) fn write_json_value(
    array: &ArrayRef,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => out.extend_from_slice(b"null"),
        DataType::Int64 => write!(out, "{}", array.as_primitive::<Int64Type>().value(row))?,
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            serde_json::to_writer(&mut *out, &value).map_err(external)?;
        }
        DataType::Decimal128(..) => {
            out.extend_from_slice(
                array
                    .as_primitive::<Decimal128Type>()
                    .value_as_string(row)
                    .as_bytes(),
            );
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let text = DateTime::from_timestamp_micros(micros)
                .map(|instant| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true));
            write!(out, "\"{}\"", text.unwrap_or_default())?;
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            let text = NaiveDate::from_epoch_days(days).map(|date| date.to_string());
            write!(out, "\"{}\"", text.unwrap_or_default())?;
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (keys, values) = (map.keys().as_string::<i32>(), map.values());
            let ends = &map.value_offsets()[row..row + 2];
            out.push(b'{');
            for entry in ends[0] as usize..ends[1] as usize {
                if entry > ends[0] as usize {
                    out.push(b',');
                }
                write_json_text(keys.value(entry), out)?;
                out.push(b':');
                write_json_value(values, entry, out)?;
            }
            out.push(b'}');
        }
        DataType::Boolean => write!(out, "{}", array.as_boolean().value(row))?,
        DataType::Utf8 => write_json_text(array.as_string::<i32>().value(row), out)?,
        DataType::Struct(fields) => {
            write_json_row(fields, array.as_struct().columns(), row, out)?;
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push(b'[');
            for index in 0..items.len() {
                if index > 0 {
                    out.push(b',');
                }
                write_json_value(&items, index, out)?;
            }
            out.push(b']');
        }
        other => {
            return Err(ArrowError::NotYetImplemented(format!(
                "`{other}` is not a column type"
            )));
        }
    }
    Ok(())
}

/// Writes a text as JSON.
///
/// # Errors
/// None: a text can always be written.
pub(crate) fn write_json_text(text: &str, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    serde_json::to_writer(out, text).map_err(external)
}

fn external(error: serde_json::Error) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}
