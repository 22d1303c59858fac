//! What a Parquet file of ours holds.

use arrow_schema::Field;
use bytes::{Buf as _, Bytes};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use super::json::write_json_row;
use super::writer::EncodeError;

/// How many bytes at the end of a file say how long its footer is.
pub(crate) const FOOTER_END_BYTES: u64 = 8;

/// How many bytes at the end of a file its footer takes, by the last bytes of the file.
pub(crate) fn footer_bytes(end: &[u8]) -> u64 {
    let end = end.last_chunk::<8>().copied().unwrap_or_default();
    let [a, b, c, d, ..] = end;
    FOOTER_END_BYTES + u64::from(u32::from_le_bytes([a, b, c, d]))
}

/// The last bytes of a file, which are enough to read its footer.
#[derive(Debug)]
pub(crate) struct ParquetTail {
    size: u64,
    tail: Bytes,
}

impl ParquetTail {
    /// The last bytes of a file of `size` bytes.
    pub(crate) fn new(size: u64, tail: Bytes) -> Self {
        debug_assert!(tail.len() as u64 <= size);
        ParquetTail { size, tail }
    }

    fn from(&self, start: u64) -> ParquetResult<Bytes> {
        let before = self.size - self.tail.len() as u64;
        let at = start
            .checked_sub(before)
            .and_then(|at| usize::try_from(at).ok());
        match at.filter(|at| *at <= self.tail.len()) {
            Some(at) => Ok(self.tail.slice(at..)),
            None => Err(ParquetError::EOF("outside of the footer".to_owned())),
        }
    }
}

impl Length for ParquetTail {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for ParquetTail {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let found = self.from(start)?;
        if found.len() < length {
            return Err(ParquetError::EOF("outside of the file".to_owned()));
        }
        Ok(found.slice(..length))
    }
}

/// The number of rows of a file, from its footer.
///
/// # Errors
/// The input is not a Parquet file.
pub fn count_rows<R: ChunkReader + 'static>(file: R) -> Result<u64, EncodeError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let rows = builder.metadata().file_metadata().num_rows();
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// Reads the first rows of a file as lines of JSON, without line ends.
///
/// # Errors
/// The input is not a Parquet file, or not one of a table.
pub fn head<R: ChunkReader + 'static>(
    file: R,
    rows_max: usize,
) -> Result<Vec<Vec<u8>>, EncodeError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?
        .with_batch_size(rows_max.clamp(1, 1_024))
        .with_limit(rows_max)
        .build()?;
    let mut lines = Vec::new();
    for batch in reader {
        let batch = batch?;
        let fields: Vec<Field> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| field.as_ref().clone())
            .collect();
        for row in 0..batch.num_rows() {
            let mut line = Vec::new();
            write_json_row(&fields, batch.columns(), row, &mut line)?;
            lines.push(line);
        }
    }
    Ok(lines)
}
