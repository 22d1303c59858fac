//! Criterion benchmarks per stage.
