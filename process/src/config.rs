//! Configuration in layers: flag over environment over file over default.
//!
//! A TOML file configures everything; each binary reads its own table and knows the names of the other tables. A key is
//! `flush-interval` in the file (or `flush_interval`), `--flush-interval` as a flag and `HYDRANT_SINK_FLUSH_INTERVAL`
//! in the environment, where an empty value counts as absent. Keys outside of tables ([`ROOT`]) come first in the file.
//!
//! Reading never stops at the first mistake: a [`Section`] answers each request with a usable value and keeps the
//! mistakes, and [`Problems`] lists all of them with their places and what to write instead. Unknown tables and keys
//! are refused with the nearest known name; so are unknown variables of a section that is read. Variables of no section
//! only cause a warning. Values behind [`Secret`] are never printed.

mod effective;
mod layers;
mod names;
mod problems;
mod section;
mod settings;
mod values;

pub use effective::Effective;
pub use layers::{Flags, Layers, SECTIONS};
pub use names::{ROOT, nearest};
pub use problems::Problems;
pub use section::Section;
pub use values::{ValueError, parse_bytes, parse_duration, parse_duration_within, parse_whole};

use std::fmt;

/// A value that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub fn new(value: T) -> Self {
        Secret(value)
    }

    /// The value. The caller is responsible for where it goes.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests;
