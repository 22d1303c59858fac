//! The limits of a record that can become a row; inputs refuse records beyond them.

/// How deep objects and arrays may nest, the record itself included.
pub const DEPTH_MAX: usize = 64;

/// The longest name of a field, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
