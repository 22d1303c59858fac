//! How files are written, and what that means for the Parquet library.
//!
//! Owns codecs, encodings, statistics and bloom filters of each column. Promises that the statistics of a footer hold
//! no more than the first bytes of a text, and nothing at all of the columns that are kept out of them. Refuses
//! encodings that a reader of the profile cannot read.

use std::collections::HashSet;

use arrow_schema::{DataType, Field};
use parquet::basic::Compression as ParquetCompression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{DEFAULT_CREATED_BY, EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::choice::{Choice, ParquetProfile, choose};
use super::error::EncodeError;
use super::rows::FileRows;
use crate::schema::RESCUED_COLUMN;

/// How pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Snappy: a little faster than zstd at level 1, and larger.
    Snappy,
    /// LZ4, as `LZ4_RAW`.
    Lz4,
    /// Zstandard at a level of 1 to 22.
    Zstd(i32),
}

impl Compression {
    /// The level of Zstandard, if that is it.
    pub(super) fn zstd_level(self) -> Result<Option<i32>, EncodeError> {
        match self {
            Compression::Zstd(level @ 1..=22) => Ok(Some(level)),
            Compression::Zstd(level) => Err(EncodeError::ZstdLevel(level)),
            _ => Ok(None),
        }
    }
}

/// The bytes to which minima and maxima of text are cut in statistics.
const STATISTICS_BYTES: usize = 32;

/// The most rows of a page of which few have a value: a page takes memory however little it holds.
const SPARSE_PAGE_ROWS: usize = 1 << 20;

/// The most distinct values of a row group that a bloom filter is made for.
const BLOOM_FILTER_VALUES_MAX: u64 = 1 << 20;

/// How files are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Default: all readers.
    pub profile: ParquetProfile,
    /// Default: zstd at level 1.
    pub compression: Compression,
    /// The encoded bytes after which a row group ends. Default: 64 MiB. Raise it when files are
    /// read whole. Cost: that much memory per encoder.
    pub row_group_bytes: usize,
    /// The dotted paths of the columns with bloom filters, which are looked up by equality. Default: none.
    pub bloom_filters: Vec<String>,
    /// The names of the columns whose values do not get into the footer. Default: `_rescued`, whose minimum says
    /// nothing.
    pub without_statistics: &'static [&'static str],
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            profile: ParquetProfile::Compatible,
            compression: Compression::Zstd(1),
            row_group_bytes: 64 << 20,
            bloom_filters: Vec::new(),
            without_statistics: &[RESCUED_COLUMN],
        }
    }
}

/// The properties of a file of these rows.
pub(super) fn properties(
    rows: &FileRows,
    options: &EncodeOptions,
    metadata: &[(String, String)],
) -> Result<WriterProperties, EncodeError> {
    let compression = match options.compression {
        Compression::Snappy => ParquetCompression::SNAPPY,
        Compression::Lz4 => ParquetCompression::LZ4_RAW,
        // Of zstd, the pages are compressed on their way into the file.
        Compression::None | Compression::Zstd(_) => ParquetCompression::UNCOMPRESSED,
    };
    let entries = metadata
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let entries: Vec<KeyValue> = entries.collect();
    let truncate = Some(STATISTICS_BYTES);
    // The form that the readers of the Java library understand.
    let version = env!("CARGO_PKG_VERSION");
    let program = format!("hydrant version {version} (build {DEFAULT_CREATED_BY})");
    let mut builder = WriterProperties::builder()
        .set_created_by(program)
        .set_key_value_metadata((!entries.is_empty()).then_some(entries))
        .set_compression(compression)
        .set_statistics_truncate_length(truncate)
        .set_column_index_truncate_length(truncate);
    for (path, choice, is_sparse) in choose(rows, options.profile) {
        if is_sparse {
            let path = path.clone();
            builder = builder.set_column_data_page_row_count_limit(path, SPARSE_PAGE_ROWS);
        }
        builder = match choice {
            Choice::Dictionary => builder.set_column_dictionary_enabled(path, true),
            Choice::Plain => builder.set_column_dictionary_enabled(path, false),
            Choice::Encoding(encoding) => builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, encoding),
        };
    }
    for name in options.without_statistics {
        let path = ColumnPath::from(*name);
        builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    if !options.bloom_filters.is_empty() {
        let values_max = (rows.num_rows() as u64).clamp(1, BLOOM_FILTER_VALUES_MAX);
        let wanted: HashSet<&str> = options.bloom_filters.iter().map(String::as_str).collect();
        for field in rows.schema().fields() {
            leaves(field, Vec::new(), field.name(), &mut |path, dotted| {
                if wanted.contains(dotted) {
                    let path = ColumnPath::new(path);
                    builder = std::mem::take(&mut builder)
                        .set_column_bloom_filter_max_ndv(path, values_max);
                }
            });
        }
    }
    Ok(builder.build())
}

/// Visits the leaves of a field: the path of each in the file, and the dotted path by which a table's columns are
/// named, in which lists and maps leave no trace.
fn leaves(
    field: &Field,
    mut path: Vec<String>,
    dotted: &str,
    visit: &mut dyn FnMut(Vec<String>, &str),
) {
    path.push(field.name().clone());
    match field.data_type() {
        DataType::Struct(fields) => {
            for child in fields {
                let dotted = format!("{dotted}.{}", child.name());
                leaves(child, path.clone(), &dotted, visit);
            }
        }
        DataType::List(item) => {
            path.push("list".to_owned());
            leaves(item, path, dotted, visit);
        }
        DataType::Map(entries, _) => {
            path.push(entries.name().clone());
            if let DataType::Struct(fields) = entries.data_type() {
                for child in fields {
                    let dotted = format!("{dotted}.{}", child.name());
                    leaves(child, path.clone(), &dotted, visit);
                }
            }
        }
        _ => visit(path, dotted),
    }
}
