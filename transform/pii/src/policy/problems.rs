//! The problems of a policy that is refused.

use std::fmt;

/// One thing that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// Where: the rule, the allowance or the line.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {}; {}",
            self.place, self.problem, self.remedy
        )
    }
}

impl std::error::Error for PolicyProblem {}

/// Everything that is wrong with a policy; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblems(pub Vec<PolicyProblem>);

impl fmt::Display for PolicyProblems {
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

impl std::error::Error for PolicyProblems {}

/// Collects problems.
#[derive(Default)]
pub(super) struct Collected(pub(super) Vec<PolicyProblem>);

impl Collected {
    pub(super) fn add(
        &mut self,
        place: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(PolicyProblem {
            place: place.to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }
}
