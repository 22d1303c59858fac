//! The problems of a policy that is refused.

use thiserror::Error;

/// One thing that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {problem}; {remedy}")]
pub struct PolicyProblem {
    /// Where: the rule, the allowance or the line.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

/// Everything that is wrong with a policy; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", .0.iter().map(PolicyProblem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PolicyProblems(pub Vec<PolicyProblem>);

/// Collects what is wrong at one place.
pub(super) struct ProblemsAt<'a> {
    pub(super) place: &'a str,
    pub(super) problems: &'a mut Vec<PolicyProblem>,
}

impl ProblemsAt<'_> {
    pub(super) fn add(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(PolicyProblem {
            place: self.place.to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }
}
