//! What a table is configured to be, and where its rows and dead letters go.
//!
//! Owns the layout of the table's directories ([`partition`], `layout_text`, `partition_value`, `path_text`), the event time of a row
//! ([`event_time`]), how times and their zones are written (`time_text`, [`zone`]), the rules by which records become
//! rows and their durable form ([`spec`]), and the form of dead letters ([`dead_letter`]).

pub mod dead_letter;
pub mod event_time;
pub(crate) mod layout_text;
pub mod partition;
pub(crate) mod partition_path;
pub(crate) mod partition_value;
pub(crate) mod path_text;
pub mod spec;
mod time_text;
pub mod zone;
