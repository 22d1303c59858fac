//! Files as inputs: patterns, what identifies a file, and the walk over all of them.

pub mod file;
pub mod glob;

mod failures;
mod known_files;
mod listing;
pub(super) mod open_file;
pub(crate) mod own_files;
mod rotation;
pub(super) mod walk;
mod watch;
