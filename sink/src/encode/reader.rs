//! What a Parquet file of ours holds.

use std::sync::Arc;

use bytes::buf::Reader;
use bytes::{Buf as _, Bytes};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::error::EncodeError;
use super::json::write_json_row;

/// How many rows are read at once.
const ROWS_AT_ONCE: usize = 1_024;

/// How many bytes at the end of a file say how long its footer is.
pub(crate) const FOOTER_END_BYTES: u64 = 8;

/// The footer of a file of `size` bytes, or how many of its last bytes that takes when `tail` are too few.
///
/// # Errors
/// The input is not a Parquet file.
pub(crate) fn footer(tail: &Bytes, size: u64) -> Result<Result<ParquetMetaData, u64>, EncodeError> {
    let mut reader = ParquetMetaDataReader::new();
    match reader.try_parse_sized(tail, size) {
        Err(ParquetError::NeedMoreData(bytes)) => Ok(Err(bytes as u64)),
        parsed => {
            parsed?;
            Ok(Ok(reader.finish()?))
        }
    }
}

/// The number of rows of a file of `size` bytes, as [`footer`] finds them.
///
/// # Errors
/// The input is not a Parquet file.
pub(crate) fn count_rows(tail: &Bytes, size: u64) -> Result<Result<u64, u64>, EncodeError> {
    let rows = |metadata: ParquetMetaData| metadata.file_metadata().num_rows();
    let rows = footer(tail, size)?.map(|metadata| u64::try_from(rows(metadata)).unwrap_or(0));
    Ok(rows)
}

/// The bytes of a column chunk, at their place in the file.
struct ChunkBytes {
    from: u64,
    bytes: Bytes,
}

impl Length for ChunkBytes {
    fn len(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

impl ChunkReader for ChunkBytes {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Reader<Bytes>, ParquetError> {
        let length = usize::try_from(self.len().saturating_sub(start))?;
        Ok(self.get_bytes(start, length)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let start = start
            .checked_sub(self.from)
            .map(usize::try_from)
            .transpose()?;
        let end = start.and_then(|start| start.checked_add(length));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.bytes.len() => Ok(self.bytes.slice(start..end)),
            _ => Err(ParquetError::EOF(
                "a page lies outside its column chunk".to_owned(),
            )),
        }
    }
}

/// How many values a column chunk of `rows` rows has, nulls not counted, from its `bytes`.
///
/// # Errors
/// The bytes are not those of the chunk.
pub(crate) fn count_values(
    chunk: &ColumnChunkMetaData,
    rows: usize,
    bytes: Bytes,
) -> Result<u64, EncodeError> {
    let (from, _) = chunk.byte_range();
    let bytes = Arc::new(ChunkBytes { from, bytes });
    let pages = SerializedPageReader::new(bytes, chunk, rows, None)?;
    match get_column_reader(chunk.column_descr_ptr(), Box::new(pages)) {
        ColumnReader::BoolColumnReader(reader) => count(reader),
        ColumnReader::Int32ColumnReader(reader) => count(reader),
        ColumnReader::Int64ColumnReader(reader) => count(reader),
        ColumnReader::Int96ColumnReader(reader) => count(reader),
        ColumnReader::FloatColumnReader(reader) => count(reader),
        ColumnReader::DoubleColumnReader(reader) => count(reader),
        ColumnReader::ByteArrayColumnReader(reader) => count(reader),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => count(reader),
    }
}

fn count<T: DataType>(mut reader: ColumnReaderImpl<T>) -> Result<u64, EncodeError> {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut count = 0;
    loop {
        let levels = (Some(&mut definitions), Some(&mut repetitions));
        let (rows, found, _) =
            reader.read_records(ROWS_AT_ONCE, levels.0, levels.1, &mut values)?;
        if rows == 0 {
            return Ok(count);
        }
        count += found as u64;
        definitions.clear();
        repetitions.clear();
        values.clear();
    }
}

/// Gives the rows of a file to `take`, as JSON without a line end, until that returns false.
///
/// # Errors
/// The input is not a Parquet file, or not one of a table.
pub(crate) fn each_row<R: ChunkReader + 'static>(
    file: R,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), EncodeError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?
        .with_batch_size(ROWS_AT_ONCE)
        .build()?;
    let mut line = Vec::new();
    for batch in reader {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            line.clear();
            write_json_row(batch.schema().fields(), batch.columns(), row, &mut line)?;
            if !take(&line) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads the first rows of a file as lines of JSON, without line ends.
#[cfg(test)]
pub(crate) fn head<R: ChunkReader + 'static>(
    file: R,
    rows_max: usize,
) -> Result<Vec<Vec<u8>>, EncodeError> {
    let mut lines = Vec::new();
    let mut take = |line: &[u8]| {
        if lines.len() < rows_max {
            lines.push(line.to_vec());
        }
        lines.len() < rows_max
    };
    each_row(file, &mut take)?;
    Ok(lines)
}
