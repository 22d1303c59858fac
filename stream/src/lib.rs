//! The logs behind the seams of hydrant-core, opened by URL.

pub mod delivery;
