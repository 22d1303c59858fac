//! The exit codes of every binary, and the last line that a failed one prints.

use hydrant_core::error::{Disposition, Error};

use crate::output;

/// The process succeeded.
pub(crate) const DONE: u8 = 0;
/// The process failed.
pub(crate) const FAILED: u8 = 1;
/// Arguments, configuration or input were refused.
pub(crate) const REFUSED: u8 = 64;
/// A second signal ended the process.
pub(crate) const ABORTED: u8 = 130;

/// Prints an error and answers its exit code.
pub(crate) fn failed(error: &Error) -> u8 {
    complain(&error.report());
    match error.disposition() {
        Disposition::Refused => REFUSED,
        _ => FAILED,
    }
}

/// Prints an error.
pub(crate) fn complain(message: &str) {
    output::to_stderr(&format!("error: {message}"));
}
