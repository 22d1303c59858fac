//! What is wrong with a policy.

use std::fmt;

/// One thing that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: the rule, the allowance or the line.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {}; {}",
            self.place, self.problem, self.remedy
        )
    }
}

impl std::error::Error for Problem {}

/// Everything that is wrong with a policy; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems.
#[derive(Default)]
pub(super) struct Collected(pub(super) Vec<Problem>);

impl Collected {
    pub(super) fn add(
        &mut self,
        place: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Problem {
            place: place.to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }
}
