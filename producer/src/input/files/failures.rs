//! The failures of inputs during a walk.
//!
//! Promises: each failure is reported: in the log at once when the walk continues, and the last one as the error of the
//! whole walk.

use hydrant_core::{Disposition, Error};

/// The failures of a walk.
#[derive(Default)]
pub(super) struct Failures {
    /// The last one, if it was not logged.
    last: Option<Error>,
    /// The last one that was logged.
    logged: String,
    logged_count: usize,
    /// Whether one of them is more than a refusal.
    is_fatal: bool,
}

impl Failures {
    pub(super) fn add(&mut self, error: Error) {
        self.log_last();
        self.is_fatal |= error.disposition() != Disposition::Refused;
        self.last = Some(error);
    }

    /// Logs the last failure: the walk continues.
    pub(super) fn log_last(&mut self) {
        if let Some(error) = self.last.take() {
            self.logged = error.report();
            tracing::error!("an input cannot be read to its end: {}", self.logged);
            self.logged_count += 1;
        }
    }

    /// What ends the whole; refused means that nothing was done.
    pub(super) fn end(&mut self, has_sent: bool) -> Option<Error> {
        if self.logged_count > 0 {
            self.log_last();
        }
        let is_fatal = self.is_fatal || has_sent;
        let ending = |text: String| match is_fatal {
            true => Error::fatal(text),
            false => Error::refused(text),
        };
        match (self.last.take(), self.logged_count) {
            (Some(error), _) if has_sent => Some(ending(error.report())),
            (Some(error), _) => Some(error),
            (None, 0) => None,
            (None, 1) => Some(ending(format!(
                "one input was not read to its end, all others were: {}",
                self.logged
            ))),
            (None, logged_count) => Some(ending(format!(
                "{logged_count} inputs were not read to their ends, all others were; the last failure: {}",
                self.logged
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_the_end_and_of_several_there_is_a_count() {
        let mut failures = Failures::default();
        assert!(failures.end(true).is_none());
        failures.add(Error::refused("a"));
        assert_eq!(failures.end(false).unwrap().to_string(), "a");
        failures.add(Error::refused("b"));
        let end = failures.end(true).unwrap();
        assert_eq!(
            (end.to_string().as_str(), end.disposition()),
            ("b", Disposition::Fatal)
        );
        failures.add(Error::refused("c"));
        failures.add(Error::refused("d"));
        let end = failures.end(false).unwrap();
        assert!(
            end.to_string().starts_with("2 inputs were not read")
                && end.to_string().ends_with(": d"),
            "{end}"
        );
        assert_eq!(end.disposition(), Disposition::Refused);
        let mut failures = Failures::default();
        failures.add(Error::fatal("e"));
        failures.log_last();
        let end = failures.end(false).unwrap();
        assert!(
            end.to_string().starts_with("one input was not read")
                && end.to_string().ends_with(": e"),
            "{end}"
        );
        assert_eq!(end.disposition(), Disposition::Fatal);
    }
}
