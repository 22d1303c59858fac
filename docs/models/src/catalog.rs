//! The list of everything that is checked.

use crate::search::{Model, Outcome, search};

/// A model with its bounds, or a mutant of it.
pub(crate) struct Check {
    pub(crate) model: &'static str,
    /// The bounds of a model; the rule that a mutant lacks.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) run: Box<dyn Fn() -> Outcome + Send + Sync>,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Must keep every promise.
    Model,
    /// Must break one.
    Mutant,
}

impl Check {
    pub(crate) fn is_called(&self, part: &str) -> bool {
        self.model.contains(part) || self.name.contains(part)
    }
}

/// States at which a search gives up: far above what any check here needs.
const STATES_MAX: usize = 1_600_000;

pub(crate) fn model<M>(model: &'static str, name: &'static str, config: M) -> Check
where
    M: Model + Send + Sync + 'static,
{
    let run = Box::new(move || search(&config, STATES_MAX));
    Check {
        model,
        name,
        kind: Kind::Model,
        run,
    }
}

pub(crate) fn mutant<M>(model: &'static str, name: &'static str, config: M) -> Check
where
    M: Model + Send + Sync + 'static,
{
    let run = Box::new(move || search(&config, STATES_MAX));
    Check {
        model,
        name,
        kind: Kind::Mutant,
        run,
    }
}

pub(crate) fn all() -> Vec<Check> {
    let mut all = Vec::new();
    all.extend(crate::append::checks());
    all.extend(crate::chain::checks());
    all.extend(crate::claims::checks());
    all.extend(crate::disk::checks());
    all.extend(crate::transactions::checks());
    all.extend(crate::leases::checks());
    all
}
