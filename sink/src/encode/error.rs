//! Why a file cannot be written or read.

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The output refuses bytes, or the input is not a Parquet file.
    #[error("cannot write or read the Parquet file")]
    Parquet(#[from] ParquetError),
    /// The rows cannot be handled.
    #[error("cannot process the rows of the Parquet file")]
    Arrow(#[from] ArrowError),
    /// An option is out of range.
    #[error("zstd level {0} is not within 1 to 22")]
    ZstdLevel(i32),
}
