//! Proves a policy before it is used.
//!
//! Every rule can be reached; nothing that must be redacted is kept, wholly or too much of it;
//! every action fits its class; and no detector of the policy finds anything in what the policy writes.

use super::compiled::{ClassSet, Policy};
use super::problems::{PolicyProblem, ProblemsAt};
use super::scope::{Placed, RuleScope};
use crate::action::{self, Action};
use crate::class::Class;
use crate::detect::{self, FoldedText, Hits, TABLE, TextKind};
use crate::keys;
use crate::text::byte_classes;

/// Adds what does not hold. A policy that `names_key` for which there is no secret is a problem already.
pub(super) fn prove(
    policy: &Policy,
    placed: &[Placed],
    names_key: bool,
    problems: &mut Vec<PolicyProblem>,
) {
    for (index, one) in placed.iter().enumerate() {
        let place = &one.place;
        let mut problems = ProblemsAt { place, problems };
        reached(one, &placed[..index], &mut problems);
        let action = &policy.rule(one.rule).action;
        if *action == Action::Token && policy.key.is_none() && !names_key {
            problems.add(
                "it makes tokens, and the policy has no key",
                "set `key` in `[policy]` to the id of a key of at least 32 bytes",
            );
        }
        let classes = one.scope.classes();
        for class in classes.unwrap_or(ClassSet::of(Class::Custom)).iter() {
            fits(class, action, &mut problems);
            rewritten(policy, class, action, &mut problems);
        }
    }
    one_form_of_a_card(policy, placed, problems);
    for class in Class::all().filter(|class| class.must_redact()) {
        if policy.by_class[class as usize].is_none() {
            let place = "policy";
            ProblemsAt { place, problems }.add(
                format!("no rule redacts `{}` everywhere", class.name()),
                "add a rule with this class and no path, or use `base = \"strict\"`",
            );
        }
    }
}

/// Refuses a rule that an earlier one leaves nothing.
fn reached(one: &Placed, earlier: &[Placed], problems: &mut ProblemsAt<'_>) {
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
                format!("it is never reached: {} holds for all of it", other.place),
                "remove it, or put it first",
            );
            return;
        }
    }
}

fn fits(class: Class, action: &Action, problems: &mut ProblemsAt<'_>) {
    let name = class.name();
    let wrong_class = match action {
        Action::Prefix { .. } => class != Class::Ip,
        Action::Round { .. } => class != Class::Geo,
        Action::Year => class != Class::BirthDate,
        _ => false,
    };
    if wrong_class {
        problems.add(
            format!(
                "the action `{}` does not fit the class `{name}`",
                action.name()
            ),
            "use `label`, or the class that the action is for",
        );
    }
    if class == Class::Custom && *action == Action::Keep {
        problems.add("it keeps every value", "use `[[allow]]` with a class");
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
fn one_form_of_a_card(policy: &Policy, placed: &[Placed], problems: &mut Vec<PolicyProblem>) {
    let of_cards = |does: fn(&Action) -> bool| {
        placed.iter().find(|one| {
            let classes = one.scope.classes();
            classes.is_some_and(|classes| classes.has(Class::Card))
                && does(&policy.rule(one.rule).action)
        })
    };
    let token = of_cards(|action| *action == Action::Token);
    let cut = of_cards(|action| matches!(action, Action::Partial { .. }));
    if let (Some(token), Some(cut)) = (token, cut) {
        let (place, token) = (&cut.place, &token.place);
        ProblemsAt { place, problems }.add(
            format!(
                "{token} makes tokens of cards, and the two outputs together reveal the number"
            ),
            "use one of them for all cards",
        );
    }
}

/// Refuses replacements that are findings again, by scanning what the action makes of the samples
/// of its class.
fn rewritten(policy: &Policy, class: Class, action: &Action, problems: &mut ProblemsAt<'_>) {
    if matches!(
        action,
        Action::Keep | Action::Null | Action::DropField | Action::DropRecord
    ) {
        return;
    }
    let rows = TABLE.iter().filter(|row| row.class == class);
    let mut samples: Vec<_> = rows.flat_map(|row| row.samples).collect();
    if class == Class::Custom {
        samples.push(&("", "sample"));
    }
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
