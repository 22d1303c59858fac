//! Records to Arrow to Parquet to a lake, exactly once.
