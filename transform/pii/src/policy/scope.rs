//! The scope and the place of each rule, for the proofs.

use super::compiled::ClassSet;
use super::path::JsonPath;

/// What a rule holds for.
#[derive(Debug)]
pub(super) enum RuleScope {
    Classes(ClassSet),
    Key(Vec<u8>),
    Path(JsonPath),
    PathClasses(JsonPath, ClassSet),
}

impl RuleScope {
    /// The classes that it is bounded to, if it is.
    pub(super) fn classes(&self) -> Option<ClassSet> {
        match self {
            Self::Classes(classes) | Self::PathClasses(_, classes) => Some(*classes),
            Self::Key(_) | Self::Path(_) => None,
        }
    }
}

/// A rule with its scope and place, for the proofs.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) place: String,
    pub(super) scope: RuleScope,
    pub(super) rule: u16,
}
