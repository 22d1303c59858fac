//! Which encoding a column gets.
//!
//! A sample of its values decides: what repeats goes into a dictionary, which every reader knows. What does not is stored
//! plainly; for readers of the modern profile doubles are split into streams of bytes, and integers are stored as
//! differences. The vectorised reader of Spark refuses split doubles, in all versions up to 4.1.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, PrimitiveArray};
use arrow_schema::{DataType, TimeUnit};
use parquet::basic::Encoding;
use parquet::schema::types::ColumnPath;
use xxhash_rust::xxh3::xxh3_64;

use super::rows::FileRows;

/// How many values of a column are looked at.
const SAMPLE_VALUES: usize = 4_096;

/// The share of distinct values, in percent, above which a dictionary does not pay.
const DISTINCT_PERCENT_MAX: usize = 50;

/// Which readers a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParquetProfile {
    /// All: values are stored plainly or by dictionary.
    Compatible,
    /// Those of DuckDB, Polars, pyarrow and Trino, and later ones of Spark than 4.1: doubles may be split into streams
    /// of bytes, and integers be stored as differences, which makes files smaller.
    Modern,
}

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Dictionary,
    Plain,
    /// Of the modern profile.
    Encoding(Encoding),
}

/// The choice for every leaf of the rows, and whether few of them have a value there.
pub(super) fn choose(rows: &FileRows, profile: ParquetProfile) -> Vec<(ColumnPath, Choice, bool)> {
    let mut choices = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let mut of_column = Vec::new();
        visit(column.values(), vec![field.name().clone()], &mut of_column);
        let of_column = of_column.into_iter();
        choices.extend(of_column.map(|(path, choice)| (path, choice, column.is_sparse())));
    }
    for (_, choice, _) in &mut choices {
        if profile == ParquetProfile::Compatible && matches!(choice, Choice::Encoding(_)) {
            *choice = Choice::Plain;
        }
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
        DataType::Map(entries, _) => {
            let mut path = path;
            path.push(entries.name().clone());
            let entries: ArrayRef = Arc::new(array.as_map().entries().clone());
            return visit(&entries, path, choices);
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            let hashes = values.iter().flatten().map(|value| mixed(value.to_bits()));
            pick(hashes, Choice::Encoding(Encoding::BYTE_STREAM_SPLIT))
        }
        DataType::Int64 => integers(array.as_primitive::<Int64Type>()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            integers(array.as_primitive::<TimestampMicrosecondType>())
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>().iter().flatten();
            pick(values.map(|text| xxh3_64(text.as_bytes())), Choice::Plain)
        }
        _ => Choice::Dictionary,
    };
    choices.push((ColumnPath::new(path), choice));
}

fn integers<T: ArrowPrimitiveType<Native = i64>>(values: &PrimitiveArray<T>) -> Choice {
    let values = values.iter().flatten();
    let hashes = values.map(|value| mixed(value.cast_unsigned()));
    pick(hashes, Choice::Encoding(Encoding::DELTA_BINARY_PACKED))
}

/// Spreads the difference of two numbers over all bits. Twice, because once leaves numbers that are evenly spaced
/// evenly spaced, which collide less often than chance has it.
fn mixed(value: u64) -> u64 {
    let folded = |value: u64| {
        let product = u128::from(value ^ 0x9e37_79b9_7f4a_7c15) * 0xbf58_476d_1ce4_e5b9;
        (product ^ (product >> 64)) as u64
    };
    folded(folded(value))
}

/// Chooses by the hashes of the values.
fn pick(hashes: impl Iterator<Item = u64>, otherwise: Choice) -> Choice {
    let mut sampled = 0;
    let mut distinct = Distinct::default();
    for hash in hashes.take(SAMPLE_VALUES) {
        sampled += 1;
        distinct.add(hash);
    }
    if distinct.estimate() * 100 > sampled * DISTINCT_PERCENT_MAX && sampled > 1 {
        otherwise
    } else {
        Choice::Dictionary
    }
}

/// How many different hashes there were, by linear counting: a bit for each place that one fell on. Off by less than
/// two percent of a sample.
struct Distinct {
    places: [u64; Distinct::PLACES / 64],
    taken: usize,
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct {
            places: [0; Distinct::PLACES / 64],
            taken: 0,
        }
    }
}

impl Distinct {
    const PLACES: usize = 1 << 15;

    fn add(&mut self, hash: u64) {
        let place = hash as usize % Self::PLACES;
        let (word, bit) = (&mut self.places[place / 64], 1 << (place % 64));
        self.taken += usize::from(*word & bit == 0);
        *word |= bit;
    }

    /// The beginning of the series of `-places * ln(1 - taken / places)`, in whole numbers, so that every machine
    /// chooses the same.
    fn estimate(&self) -> usize {
        let (places, taken) = (Self::PLACES, self.taken);
        taken + taken.pow(2) / (2 * places) + taken.pow(3) / (3 * places.pow(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_different_values_is_told_to_two_percent_of_a_sample() {
        for distinct in [1, 2, 7, 100, 1_000, 2_000, 2_048, 3_000, 4_096] {
            let kinds: [&dyn Fn(usize) -> u64; 4] = [
                &|n| mixed(n as u64),
                &|n| mixed(n as u64 * 1_000_000),
                &|n| mixed((n as f64 / 8.0).to_bits()),
                &|n| xxh3_64(format!("device-{n}").as_bytes()),
            ];
            for kind in kinds {
                let mut sketch = Distinct::default();
                (0..SAMPLE_VALUES).for_each(|n| sketch.add(kind(n % distinct)));
                let off = sketch.estimate().abs_diff(distinct);
                assert!(
                    off * 50 <= SAMPLE_VALUES,
                    "{distinct}: {}",
                    sketch.estimate()
                );
            }
        }
    }
}
