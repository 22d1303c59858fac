//! Reads a lake as any reader would: every Parquet file below a table's prefix.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// A row with the numbers of the simulator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableRow {
    /// Shard and interval, from the file's name: they sort in reading order.
    pub(crate) file: (String, String),
    /// The row in the file.
    pub(crate) number: usize,
    pub(crate) seq: i64,
    pub(crate) index: i64,
}

/// The Parquet files below `dir`, sorted.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(dir) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("the directory reads").path();
            if path.is_dir() {
                todo.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "parquet")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The batches of one file.
pub(crate) fn batches(path: &Path) -> Vec<RecordBatch> {
    let file = File::open(path).expect("the file opens");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("the footer reads");
    let reader = reader.build().expect("the file reads");
    reader
        .map(|batch| batch.expect("the batch reads"))
        .collect()
}

/// A text column.
pub(crate) fn texts<'a>(batch: &'a RecordBatch, name: &str) -> &'a StringArray {
    column(batch, name)
        .as_any()
        .downcast_ref()
        .expect("a text column")
}

fn integers<'a>(batch: &'a RecordBatch, name: &str) -> &'a Int64Array {
    column(batch, name)
        .as_any()
        .downcast_ref()
        .expect("an integer column")
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch
        .column_by_name(name)
        .unwrap_or_else(|| panic!("column `{name}` in {:?}", batch.schema()))
}

/// Every simulated row of a table.
pub(crate) fn rows(table: &Path) -> Vec<TableRow> {
    let mut rows = Vec::new();
    for path in files(table) {
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let mut parts = name.splitn(3, '_');
        let file = (
            parts.next().expect("a shard").to_owned(),
            parts.next().expect("a start").to_owned(),
        );
        let mut number = 0;
        for batch in batches(&path) {
            let (seqs, indexes) = (integers(&batch, "seq"), integers(&batch, "index"));
            for row in 0..batch.num_rows() {
                rows.push(TableRow {
                    file: file.clone(),
                    number,
                    seq: seqs.value(row),
                    index: indexes.value(row),
                });
                number += 1;
            }
        }
    }
    rows
}
