//! The detectors: one file per family, one row of `table` per detector.
//!
//! A row says what a detector is called, which byte classes, length or key evidence have to be
//! there before it looks, where it is anchored, and texts that it proves itself on. A new detector
//! is one file and one row. Matchers promise linear time over all their calls on one text.
//! Refuses to act: hits are spans of the shadow text.

mod detector;
mod families;
mod number;
mod pair;
mod rows;
mod scan;
mod table;
mod triggers;

pub use detector::Detector;
pub(crate) use detector::{BY_RULE, FoldedText, Hit, Hits, TextKind};
pub(crate) use families::geo::{DECIMALS as DECIMALS_KEPT, rounded_numbers};
pub(crate) use families::ip::{Address, carried, parse_address};
pub(crate) use families::person::year_of;
pub(crate) use number::plain_integer;
pub(crate) use pair::{pair, pair_value};
pub(crate) use scan::{scan, scan_all};
pub(crate) use table::{TABLE, class_of};
pub(crate) use triggers::{NOTED, WHOLE_VALUES, is_timestamp, number_is_short, worth_a_look};

/// All detectors, in the order of the table.
pub fn detectors() -> &'static [Detector] {
    TABLE
}

#[cfg(test)]
mod tests;
