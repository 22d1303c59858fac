//! The limit of a record that can be scanned; inputs refuse records beyond it.

/// How deep objects and arrays may nest, the record itself included.
pub const DEPTH_MAX: usize = 64;
