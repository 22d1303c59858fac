//! Collects all problems of a configuration, to report them at once.

use std::fmt;

use super::effective::Effective;
use hydrant_core::error::{Error, Result};
use hydrant_core::settings::SettingProblem;

/// All problems of a configuration, and the effective values of the sections that were read.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    pub(super) found: Vec<SettingProblem>,
    pub(super) effective: Vec<Effective>,
}

impl Problems {
    /// No problems yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a problem: its place, and a message that says what to write instead.
    pub fn push(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.found.push(SettingProblem {
            place: place.into(),
            message: message.into(),
        });
    }

    /// Adds the problems of `other`.
    pub fn extend(&mut self, other: Problems) {
        self.found.extend(other.found);
        self.effective.extend(other.effective);
    }

    /// The effective values of each section that was read.
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// Whether there are no problems.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The number of problems.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// An [`Error::Refused`] that lists all problems; `Ok` without any.
    pub fn into_result(self) -> Result<()> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.into())
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.found.as_slice() {
            return write!(f, "{}: {}", only.place, only.message);
        }
        write!(f, "{} problems in the configuration", self.len())?;
        for problem in &self.found {
            write!(f, "\n  {}: {}", problem.place, problem.message)?;
        }
        Ok(())
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Error::refused(problems.to_string())
    }
}
