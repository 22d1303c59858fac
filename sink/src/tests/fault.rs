//! Panics that tests ask for by the text of a value; no other build has them.

use std::cell::Cell;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

thread_local! {
    static ENCODED: Cell<u64> = const { Cell::new(0) };
}

/// How many columns this thread has begun to encode.
pub(crate) fn columns_encoded() -> u64 {
    ENCODED.get()
}

/// Panics when `text` holds `marker`.
pub(crate) fn in_text(marker: &str, text: &[u8]) {
    assert!(!holds(text, marker), "a fault that a test asked for");
}

/// Panics when a text of a column holds `marker`; with a `+` in it, when texts hold each of the two parts. Payloads of
/// dead letters are looked at for `fault:letter` only.
pub(crate) fn in_column(marker: &str, column: &ArrayRef) {
    if marker == "fault:encode" {
        ENCODED.set(ENCODED.get() + 1);
    }
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
