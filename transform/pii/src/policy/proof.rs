//! Proves a policy before it is used.
//!
//! Every rule can be reached; nothing that must be redacted is kept, wholly or too much of it;
//! every action fits its class; and no detector of the policy finds anything in what the policy writes.

use super::compiled::{ClassSet, Policy};
use super::problems::Collected;
use super::scope::{Placed, RuleScope};
use crate::action::{self, Action};
use crate::class::Class;
use crate::detect::{self, FoldedText, Hits, TABLE, TextKind};
use crate::keys;
use crate::text::byte_classes;

/// Adds what does not hold. A policy that `names_key` for which there is no secret is a problem already.
pub(super) fn prove(policy: &Policy, placed: &[Placed], names_key: bool, problems: &mut Collected) {
    for (index, one) in placed.iter().enumerate() {
        reached(one, &placed[..index], problems);
        let action = &policy.rule(one.rule).action;
        if *action == Action::Token && policy.key.is_none() && !names_key {
            problems.add(
                &one.place,
                "it makes tokens, and the policy has no key",
                "set `key` in `[policy]` to the id of a key of at least 32 bytes",
            );
        }
        match &one.scope {
            RuleScope::Classes(classes) | RuleScope::PathClasses(_, classes) => {
                for class in classes.iter() {
                    fits(class, action, &one.place, problems);
                    rewritten(policy, class, action, &one.place, problems);
                }
            }
            RuleScope::Path(_) | RuleScope::Key(_) => {
                fits(Class::Custom, action, &one.place, problems);
                rewritten(policy, Class::Custom, action, &one.place, problems);
            }
        }
    }
    one_form_of_a_card(policy, placed, problems);
    for class in Class::ALL.into_iter().filter(|class| class.must_redact()) {
        if policy.by_class[class as usize].is_none() {
            problems.add(
                "policy",
                format!("no rule redacts `{}` everywhere", class.name()),
                "add a rule with this class and no path, or use `base = \"strict\"`",
            );
        }
    }
}

/// Refuses a rule that an earlier one leaves nothing.
fn reached(one: &Placed, earlier: &[Placed], problems: &mut Collected) {
    let mut taken = ClassSet::default();
    for other in earlier {
        let hidden = match (&other.scope, &one.scope) {
            (RuleScope::Classes(theirs), RuleScope::Classes(mine)) => {
                taken.join(*theirs);
                // Without a class that exists, the rule has its problem already.
                taken.contains(*mine) && !mine.is_empty()
            }
            (RuleScope::Key(theirs), RuleScope::Key(mine)) => theirs == mine,
            (RuleScope::Path(theirs), RuleScope::Path(mine)) => theirs.covers(mine),
            (RuleScope::PathClasses(theirs, more), RuleScope::PathClasses(mine, less)) => {
                more.contains(*less) && !less.is_empty() && theirs.covers(mine)
            }
            _ => false,
        };
        if hidden {
            problems.add(
                &one.place,
                format!("it is never reached: {} holds for all of it", other.place),
                "remove it, or put it first",
            );
            return;
        }
    }
}

fn fits(class: Class, action: &Action, place: &str, problems: &mut Collected) {
    let name = class.name();
    let wrong_class = match action {
        Action::Prefix { .. } => class != Class::Ip,
        Action::Round { .. } => class != Class::Geo,
        Action::Year => class != Class::BirthDate,
        _ => false,
    };
    if wrong_class {
        problems.add(
            place,
            format!(
                "the action `{}` does not fit the class `{name}`",
                action.name()
            ),
            "use `label`, or the class that the action is for",
        );
    }
    if class == Class::Custom && *action == Action::Keep {
        problems.add(
            place,
            "it keeps every value",
            "use `[[allow]]` with a class",
        );
    }
    if !class.must_redact() {
        return;
    }
    let shows_too_much = match action {
        Action::Keep => true,
        // PCI DSS 3.4.1 lets the first six and the last four digits be shown.
        Action::Partial { first, last, .. } => match class {
            Class::Card => *first > 6 || *last > 4,
            Class::Ssn => *first > 0 || *last > 4,
            _ => true,
        },
        _ => false,
    };
    if shows_too_much {
        problems.add(
            place,
            format!(
                "`{name}` must be redacted, and `{}` leaves too much of it",
                action.name()
            ),
            "use `label`; a card may keep 6 first and 4 last digits, an SSN 4 last",
        );
    }
}

/// Refuses tokens and cut forms of cards side by side: together they give the number away
/// (PCI DSS 3.5.1).
fn one_form_of_a_card(policy: &Policy, placed: &[Placed], problems: &mut Collected) {
    let card = |one: &&Placed| match &one.scope {
        RuleScope::Classes(classes) | RuleScope::PathClasses(_, classes) => {
            classes.has(Class::Card)
        }
        _ => false,
    };
    let action = |one: &Placed| &policy.rule(one.rule).action;
    let token = placed
        .iter()
        .filter(card)
        .find(|one| *action(one) == Action::Token);
    let cut = placed
        .iter()
        .filter(card)
        .find(|one| matches!(action(one), Action::Partial { .. }));
    if let (Some(token), Some(cut)) = (token, cut) {
        problems.add(
            &cut.place,
            format!(
                "{} makes tokens of cards, and both together give the number away",
                token.place
            ),
            "use one of them for all cards",
        );
    }
}

/// Refuses replacements that are findings again, by scanning what the action makes of the samples
/// of its class.
fn rewritten(
    policy: &Policy,
    class: Class,
    action: &Action,
    place: &str,
    problems: &mut Collected,
) {
    if matches!(
        action,
        Action::Keep | Action::Null | Action::DropField | Action::DropRecord
    ) {
        return;
    }
    let samples = TABLE
        .iter()
        .filter(|row| row.class == class)
        .flat_map(|row| row.samples);
    let none = [("", "sample")];
    let samples: Vec<_> = samples
        .chain(none.iter().filter(|_| class == Class::Custom))
        .collect();
    for (key, sample) in samples {
        let mut written = Vec::new();
        action::replace(
            action,
            class,
            sample.as_bytes(),
            policy.key.as_ref(),
            &mut written,
        );
        let mut hits = Hits::default();
        // Under the same key a detector of whole values would find its own replacement, which the
        // engine knows by its form; all others may not find it under any key.
        for evidence in [keys::Evidence::NONE, keys::evidence(key.as_bytes())] {
            let text = FoldedText {
                bytes: &written,
                evidence,
                kind: TextKind::Text,
                edited: false,
            };
            detect::scan(&text, byte_classes::of(&written), policy.enabled, &mut hits);
        }
        let found = hits
            .list
            .iter()
            .map(|hit| &TABLE[usize::from(hit.detector)])
            .find(|row| !row.takes_whole_values());
        if let Some(row) = found {
            problems.add(
                place,
                format!(
                    "what it writes for `{}` is itself found by the detector `{}`",
                    class.name(),
                    row.name
                ),
                "use another label, mask or key id",
            );
            return;
        }
    }
}
