//! Rules with what they hold for and where they stand, for the proofs.

use super::compiled::ClassSet;
use super::path::Path;

/// What a rule holds for.
#[derive(Debug)]
pub(super) enum Scope {
    Classes(ClassSet),
    Key(Vec<u8>),
    Path(Path),
    PathClasses(Path, ClassSet),
}

/// A rule with its scope and place, for the proofs.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) place: String,
    pub(super) scope: Scope,
    pub(super) rule: u16,
}
