//! Record batches to Parquet bytes.

use std::io::Write;

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression as ParquetCompression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::choice::{Choice, choose};

/// The rows handed to the writer at a time: it looks at a row group's bytes between two writes only.
const ROWS_PER_WRITE: usize = 4_096;

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

/// The bytes to which minima and maxima of text are cut in statistics.
const STATISTICS_BYTES: usize = 32;

/// How files are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Default: zstd at level 1.
    pub compression: Compression,
    /// The encoded bytes after which a row group ends. Default: 64 MiB. Raise it when files are
    /// read whole. Cost: that much memory per encoder.
    pub row_group_bytes: usize,
    /// The dotted paths of the columns with bloom filters, which are looked up by equality. Default: none.
    pub bloom_filters: Vec<String>,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            compression: Compression::Zstd(1),
            row_group_bytes: 64 << 20,
            bloom_filters: Vec::new(),
        }
    }
}

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The output refuses bytes, or the input is not a Parquet file.
    #[error("cannot write or read the Parquet file")]
    Parquet(#[from] ParquetError),
    /// The rows cannot be handled.
    #[error("cannot process the rows of the Parquet file")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// An option is out of range.
    #[error("zstd level {0} is not within 1 to 22")]
    ZstdLevel(i32),
}

/// Writes the rows of one partition as one Parquet file, in the order given. Synchronous and
/// CPU-bound: it belongs on a worker thread. `metadata` goes into the footer in the order given. Returns the number of
/// rows.
///
/// # Errors
/// The output refuses bytes, or an option is out of range.
pub fn encode<W: Write + Send>(
    rows: &RecordBatch,
    options: &EncodeOptions,
    metadata: &[(String, String)],
    out: W,
) -> Result<u64, EncodeError> {
    FileEncoder::try_new(rows, options, metadata, out)?.finish()
}

/// A Parquet file that is written piece by piece; the whole of it is what [`encode`] writes. Its memory is one row
/// group and what was not taken out of `W`.
pub struct FileEncoder<W: Write + Send> {
    writer: ArrowWriter<W>,
    /// The rows that are not written yet.
    rest: RecordBatch,
    rows: u64,
}

impl<W: Write + Send> FileEncoder<W> {
    /// Begins a file; nothing of the rows is written yet.
    ///
    /// # Errors
    /// The output refuses bytes, or an option is out of range.
    pub fn try_new(
        rows: &RecordBatch,
        options: &EncodeOptions,
        metadata: &[(String, String)],
        out: W,
    ) -> Result<Self, EncodeError> {
        #[cfg(test)]
        for column in rows.columns() {
            for marker in ["fault:encode", "fault:first+fault:second", "fault:letter"] {
                crate::tests::fault::in_column(marker, column);
            }
        }
        let properties = properties(rows, options, metadata)?;
        // The Arrow schema in the footer says nothing that Parquet's own does not.
        let writer_options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        Ok(FileEncoder {
            writer: ArrowWriter::try_new_with_options(out, rows.schema(), writer_options)?,
            rest: rows.clone(),
            rows: 0,
        })
    }

    /// Writes some thousand rows, and returns whether there were any left to write.
    ///
    /// # Errors
    /// The output refuses bytes.
    pub fn write_some(&mut self) -> Result<bool, EncodeError> {
        let left = self.rest.num_rows();
        let written = ROWS_PER_WRITE.min(left);
        self.writer.write(&self.rest.slice(0, written))?;
        self.rows += written as u64;
        self.rest = self.rest.slice(written, left - written);
        Ok(written > 0)
    }

    /// What was written so far. Bytes may be taken out, but none added.
    pub fn output(&mut self) -> &mut W {
        self.writer.inner_mut()
    }

    /// Writes all rows that are left and the footer, and returns the number of all rows.
    ///
    /// # Errors
    /// Those of [`FileEncoder::write_some`].
    pub fn finish(&mut self) -> Result<u64, EncodeError> {
        while self.write_some()? {}
        let footer = self.writer.finish()?;
        let rows = footer.file_metadata().num_rows();
        debug_assert_eq!(u64::try_from(rows).ok(), Some(self.rows));
        Ok(self.rows)
    }
}

fn properties(
    rows: &RecordBatch,
    options: &EncodeOptions,
    metadata: &[(String, String)],
) -> Result<WriterProperties, EncodeError> {
    let compression = match options.compression {
        Compression::None => ParquetCompression::UNCOMPRESSED,
        Compression::Snappy => ParquetCompression::SNAPPY,
        Compression::Lz4 => ParquetCompression::LZ4_RAW,
        Compression::Zstd(level @ 1..=22) => ParquetCompression::ZSTD(
            ZstdLevel::try_new(level).map_err(|_| EncodeError::ZstdLevel(level))?,
        ),
        Compression::Zstd(level) => return Err(EncodeError::ZstdLevel(level)),
    };
    let entries = metadata
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let entries: Vec<KeyValue> = entries.collect();
    let truncate = Some(STATISTICS_BYTES);
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("hydrant ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata((!entries.is_empty()).then_some(entries))
        .set_compression(compression)
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(Some(options.row_group_bytes.max(1)))
        .set_statistics_truncate_length(truncate)
        .set_column_index_truncate_length(truncate);
    for (path, choice) in choose(rows) {
        builder = match choice {
            Choice::Dictionary => builder.set_column_dictionary_enabled(path, true),
            Choice::Encoding(encoding) => builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, encoding),
        };
    }
    for column in &options.bloom_filters {
        let path = ColumnPath::new(column.split('.').map(str::to_owned).collect());
        builder = builder.set_column_bloom_filter_enabled(path, true);
    }
    Ok(builder.build())
}
