//! Which encoding a column gets.
//!
//! A sample of its values decides: what repeats goes into a dictionary; doubles that do not are
//! split into streams of bytes, integers that do not are stored as differences, and text that does
//! not is stored plainly. All of these are read by DuckDB, Polars, pyarrow and Spark.

use std::collections::HashSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use parquet::basic::Encoding;
use parquet::schema::types::ColumnPath;

/// How many values of a column are looked at.
const SAMPLE_VALUES: usize = 4_096;

/// The share of distinct values, in percent, above which a dictionary does not pay.
const DISTINCT_PERCENT_MAX: usize = 50;

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Dictionary,
    Encoding(Encoding),
}

/// The choice for every leaf of the batch.
pub(super) fn choose(batch: &RecordBatch) -> Vec<(ColumnPath, Choice)> {
    let mut choices = Vec::new();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        visit(array, vec![field.name().clone()], &mut choices);
    }
    choices
}

fn visit(array: &ArrayRef, path: Vec<String>, choices: &mut Vec<(ColumnPath, Choice)>) {
    let choice = match array.data_type() {
        DataType::Struct(fields) => {
            for (field, child) in fields.iter().zip(array.as_struct().columns()) {
                let mut path = path.clone();
                path.push(field.name().clone());
                visit(child, path, choices);
            }
            return;
        }
        DataType::List(item) => {
            let mut path = path;
            path.extend(["list".to_owned(), item.name().clone()]);
            return visit(array.as_list::<i32>().values(), path, choices);
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            pick(
                values.iter().flatten().map(f64::to_bits),
                Encoding::BYTE_STREAM_SPLIT,
            )
        }
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            pick(values.iter().flatten(), Encoding::DELTA_BINARY_PACKED)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            pick(values.iter().flatten(), Encoding::DELTA_BINARY_PACKED)
        }
        DataType::Utf8 => pick(array.as_string::<i32>().iter().flatten(), Encoding::PLAIN),
        _ => Choice::Dictionary,
    };
    choices.push((ColumnPath::new(path), choice));
}

fn pick<T: Eq + std::hash::Hash>(values: impl Iterator<Item = T>, otherwise: Encoding) -> Choice {
    let mut sampled = 0;
    let mut distinct = HashSet::new();
    for value in values.take(SAMPLE_VALUES) {
        sampled += 1;
        distinct.insert(value);
    }
    if distinct.len() * 100 > sampled * DISTINCT_PERCENT_MAX && sampled > 1 {
        Choice::Encoding(otherwise)
    } else {
        Choice::Dictionary
    }
}
