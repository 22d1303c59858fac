//! Rows to Parquet bytes.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::Schema;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::properties::EnabledStatistics;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnDescPtr;

use super::error::EncodeError;
use super::options::{EncodeOptions, properties};
use super::pages::{Chunk, ChunkStores, SharedChunk};
use super::rows::FileRows;

/// The rows handed to the writer at a time: it looks at a row group's bytes between two writes only.
const ROWS_PER_WRITE: usize = 4_096;

/// Writes the rows of one partition as one Parquet file, in the order given. Synchronous and
/// CPU-bound: it belongs on a worker thread. `metadata` goes into the footer in the order given. Returns the number of
/// rows.
///
/// # Errors
/// The output refuses bytes, or an option is out of range.
pub fn encode<W: Write + Send>(
    rows: &FileRows,
    options: &EncodeOptions,
    metadata: &[(String, String)],
    out: W,
) -> Result<u64, EncodeError> {
    FileEncoder::try_new(rows, options, metadata, out)?.finish()
}

/// A Parquet file that is written piece by piece; the whole of it is what [`encode`] writes. Its memory is one row
/// group and what was not taken out of `W`. A column without any value takes none.
pub struct FileEncoder<W: Write + Send> {
    file: SerializedFileWriter<W>,
    /// Makes the writers of the columns that have values.
    writers: ArrowRowGroupWriterFactory,
    stores: Arc<ChunkStores>,
    /// The leaves of all columns, and whether their column has a value.
    leaves: Vec<(ColumnDescPtr, bool)>,
    group: Option<RowGroup>,
    group_bytes_max: usize,
    /// The columns that have values.
    filled: FileRows,
    /// The bytes of their values in memory.
    filled_bytes: usize,
    /// How many rows are written.
    rows: usize,
}

/// A row group that is being written.
struct RowGroup {
    columns: Vec<(ArrowColumnWriter, SharedChunk)>,
    rows: usize,
}

impl RowGroup {
    fn bytes(&self) -> usize {
        let columns = self.columns.iter();
        let bytes = columns.map(|(writer, chunk)| {
            let estimate = writer.get_estimated_total_bytes();
            estimate.saturating_sub(chunk.saved_bytes())
        });
        bytes.sum()
    }

    /// Writes a part of the rows, of one column after the other, so that no more than that is spread.
    fn write(&mut self, rows: &FileRows, range: &Range<usize>) -> Result<(), ParquetError> {
        self.rows += range.len();
        let mut columns = self.columns.iter_mut();
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            let array = column.array(range.clone())?;
            for leaf in compute_leaves(field, &array)? {
                let column = columns.next();
                let missing = || ParquetError::General("a leaf has no writer".to_owned());
                column.ok_or_else(missing)?.0.write(&leaf)?;
            }
        }
        Ok(())
    }
}

impl<W: Write + Send> FileEncoder<W> {
    /// Begins a file; nothing of the rows is written yet.
    ///
    /// # Errors
    /// The output refuses bytes, or an option is out of range.
    pub fn try_new(
        rows: &FileRows,
        options: &EncodeOptions,
        metadata: &[(String, String)],
        out: W,
    ) -> Result<Self, EncodeError> {
        #[cfg(test)]
        for column in rows.columns() {
            for marker in ["fault:encode", "fault:first+fault:second", "fault:letter"] {
                crate::tests::fault::in_column(marker, column.values());
            }
        }
        let has_values: Vec<bool> = rows
            .columns()
            .iter()
            .map(|column| !column.is_null())
            .collect();
        let filled = rows.filled()?;
        let properties = Arc::new(properties(&filled, options, metadata)?);
        let convert = |schema: &Schema| ArrowSchemaConverter::new().convert(schema);
        let stores = Arc::new(ChunkStores::try_new(options.compression.zstd_level()?)?);
        // A file of the columns with values alone, for their writers.
        let narrow = SerializedFileWriter::new(
            std::io::sink(),
            convert(filled.schema())?.root_schema_ptr(),
            Arc::clone(&properties),
        )?;
        let factory = Arc::clone(&stores);
        let writers = ArrowRowGroupWriterFactory::new(&narrow, Arc::clone(filled.schema()))
            .with_page_store_factory(factory);
        let schema = convert(rows.schema())?;
        let leaves = (0..).zip(schema.columns()).map(|(leaf, column)| {
            let column_has_values = has_values[schema.get_column_root_idx(leaf)];
            (Arc::clone(column), column_has_values)
        });
        Ok(FileEncoder {
            leaves: leaves.collect(),
            file: SerializedFileWriter::new(out, schema.root_schema_ptr(), properties)?,
            writers,
            stores,
            group: None,
            group_bytes_max: options.row_group_bytes.max(1),
            filled_bytes: usize::try_from(filled.bytes()).unwrap_or(usize::MAX),
            filled,
            rows: 0,
        })
    }

    /// Writes some thousand rows, and returns whether there were any left to write.
    ///
    /// # Errors
    /// The output refuses bytes.
    pub fn write_some(&mut self) -> Result<bool, EncodeError> {
        let left = self.filled.num_rows() - self.rows;
        if left == 0 {
            return Ok(false);
        }
        let group = match &mut self.group {
            Some(group) => group,
            none => {
                let writers = self.writers.create_column_writers(0)?;
                none.insert(RowGroup {
                    columns: writers.into_iter().zip(self.stores.take()).collect(),
                    rows: 0,
                })
            }
        };
        // As many as the group has room for, going by those that it has, or by what they take in memory.
        let (rows, bytes) = match group.rows {
            0 => (self.filled.num_rows(), self.filled_bytes),
            rows => (rows, group.bytes()),
        };
        let room = self.group_bytes_max.saturating_sub(group.bytes());
        let fits = room.saturating_mul(rows) / bytes.max(1);
        let written = ROWS_PER_WRITE.min(left).min(fits.max(1));
        let written = self.rows..self.rows + written;
        group.write(&self.filled, &written)?;
        let is_full = group.bytes() >= self.group_bytes_max;
        self.rows = written.end;
        if is_full {
            self.end_group()?;
        }
        Ok(true)
    }

    /// Writes the row group that is open.
    fn end_group(&mut self) -> Result<(), EncodeError> {
        let Some(RowGroup { columns, rows }) = self.group.take() else {
            return Ok(());
        };
        let properties = Arc::clone(self.file.properties());
        let mut columns = columns.into_iter();
        let mut group = self.file.next_row_group()?;
        for (column, has_values) in &self.leaves {
            let chunk = match has_values {
                true => {
                    let missing = || ParquetError::General("a chunk has no writer".to_owned());
                    let (writer, pages) = columns.next().ok_or_else(missing)?;
                    pages.finish(writer.close()?.close())?
                }
                false => {
                    let statistics = properties.statistics_enabled(column.path());
                    Chunk::of_nulls(column, rows, statistics == EnabledStatistics::Page)?
                }
            };
            group.append_column(&chunk.bytes, chunk.close)?;
        }
        group.close()?;
        Ok(())
    }

    /// What was written so far. Bytes may be taken out, but none added.
    pub fn output(&mut self) -> &mut W {
        self.file.inner_mut()
    }

    /// Writes all rows that are left and the footer, and returns the number of all rows.
    ///
    /// # Errors
    /// Those of [`FileEncoder::write_some`].
    pub fn finish(&mut self) -> Result<u64, EncodeError> {
        while self.write_some()? {}
        self.end_group()?;
        let footer = self.file.finish()?;
        let rows = footer.file_metadata().num_rows();
        debug_assert_eq!(usize::try_from(rows).ok(), Some(self.rows));
        Ok(self.rows as u64)
    }
}
