//! Panics that tests ask for by the text of a value; no other build has them.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

/// Panics when `text` holds `marker`.
pub(crate) fn in_text(marker: &str, text: &[u8]) {
    assert!(!holds(text, marker), "a fault that a test asked for");
}

/// Panics when a text of a column holds `marker`; with a `+` in it, when texts hold each of the two parts. Payloads of
/// dead letters are looked at for `fault:letter` only.
pub(crate) fn in_column(marker: &str, column: &ArrayRef) {
    let found = |marker: &str| match column.data_type() {
        DataType::Utf8 => {
            let mut texts = column.as_string::<i32>().iter().flatten();
            texts.any(|text| holds(text.as_bytes(), marker))
        }
        DataType::Binary => {
            let mut texts = column.as_binary::<i32>().iter().flatten();
            texts.any(|text| marker == "fault:letter" && holds(text, marker))
        }
        _ => false,
    };
    let all = marker.split('+').all(found);
    assert!(!all, "a fault that a test asked for");
}

fn holds(text: &[u8], marker: &str) -> bool {
    memchr::memmem::find(text, marker.as_bytes()).is_some()
}
