//! What a Parquet file of ours holds.

use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;

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
