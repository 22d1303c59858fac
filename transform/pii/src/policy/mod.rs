//! Policies: what is done with which finding.
//!
//! A policy is a TOML file that is compiled once and proved before it is used; [`Policy::from_toml`]
//! reports everything that is wrong at once. The format:
//!
//! ```toml
//! [policy]
//! name = "fleet"        # shown in reports
//! base = "strict"       # what holds where no rule below does: "strict" (default) or "none"
//! key = "2026-11"       # id of the key for tokens; the secret is not part of the file
//! rescan = true         # scan what was redacted again, and quarantine what still holds findings
//!
//! [limits]
//! record_bytes = 1048576  # longer records are quarantined; at most 64 MiB
//! depth = 128             # containers inside each other; at most 1024
//! nested_json = 4         # strings that hold JSON inside each other; at most 8
//! findings = 10000        # findings in one record; default: as many as there are
//!
//! [[rule]]
//! name = "cards"          # shown in reports and verdicts; default: `rule-1`, `rule-2`, ...
//! class = "card"          # one class or several: ["card", "ssn"]
//! path = "$.orders[*]"    # only at or beneath this path; without `class`: every value there
//! key = "nick name"       # without `class` and `path`: every value under keys of this name
//! action = "partial"
//! mask = "*"              # for `mask` and `partial`: the character that replaces others
//! keep_first = 0          # for `partial`
//! keep_last = 4           # for `partial`
//!
//! [[allow]]               # exempts what must not be redacted by class
//! class = "ip"            # never card, ssn, jwt or aws-key
//! path = "$.gateway"      # one of: at or beneath this path,
//! value = "192.0.2.1"     # exactly this value,
//! prefix = "192.0.2."     # values that start like this
//! ```
//!
//! Actions: `keep` (report only), `label` (with `label = "[X]"`, default by class), `mask`,
//! `partial`, `token` (needs `key`), `prefix` (`prefix_v4 = 24`, `prefix_v6 = 48`; class `ip`),
//! `round` (`decimals = 2`; class `geo`), `year` (class `birth-date`), `null`, `drop-field`,
//! `drop-record`. A number keeps its type: where an action would write text, it becomes `null`.
//!
//! Order: a rule with a path beats a rule with a key, which beats a rule with a class alone, which
//! beats the base; among rules of the same kind the first in the file.

mod compile;
mod path;
mod proof;
mod raw;
mod secrets;

pub(crate) use path::Child;
pub use secrets::{Keys, SECRET_BYTES_MIN};

use std::fmt;

use crate::action::{Action, TokenKey, is_masked, is_token};
use crate::audit::Class;
use path::Paths;

/// More findings than a record of the longest length can hold.
const FINDINGS_MAX: usize = 64 << 20;

/// Bounds of the work on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest record, in bytes. Default: 1 MiB. Cost: memory of about eleven times as much for
    /// a record that is made to need it.
    pub record_bytes: usize,
    /// Most containers inside each other. Default: 128.
    pub depth: usize,
    /// Most strings with JSON inside each other. Default: 4. Cost: each level reads its text again.
    pub nested_json: usize,
    /// Most findings in one record. Default: no bound but that of the record's length, because a
    /// track has a coordinate every few bytes. Cost: about 100 bytes of memory each.
    pub findings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            record_bytes: 1 << 20,
            depth: 128,
            nested_json: 4,
            findings: FINDINGS_MAX,
        }
    }
}

/// A set of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClassSet(u16);

impl ClassSet {
    pub(crate) fn insert(&mut self, class: Class) {
        self.0 |= 1 << class as u16;
    }

    pub(crate) fn has(self, class: Class) -> bool {
        self.0 & 1 << class as u16 != 0
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |&class| self.has(class))
    }
}

/// A rule, compiled.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) action: Action,
}

/// What a path is for.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// Every value.
    Values(u16),
    /// Findings of these classes.
    Classes(u16, ClassSet),
    /// An exemption.
    Allow(ClassSet),
}

/// What the paths that a value lies beneath do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) values: Option<u16>,
    by_class: [Option<u16>; Class::ALL.len()],
    pub(crate) allow: ClassSet,
}

impl Effect {
    pub(crate) const NONE: Self = Self {
        values: None,
        by_class: [None; Class::ALL.len()],
        allow: ClassSet(0),
    };
}

/// A value that is exempt.
#[derive(Debug)]
struct Exempt {
    classes: ClassSet,
    text: Vec<u8>,
    whole: bool,
}

/// A compiled and proved policy.
#[derive(Debug)]
pub struct Policy {
    name: String,
    rules: Vec<Rule>,
    by_class: [Option<u16>; Class::ALL.len()],
    by_key: Vec<(Vec<u8>, u16)>,
    paths: Paths,
    targets: Vec<Target>,
    exempt: Vec<Exempt>,
    labels: Vec<String>,
    limits: Limits,
    key: Option<TokenKey>,
    rescan: bool,
    enabled: u64,
    digest: [u8; 32],
}

impl Policy {
    /// The built-in policy. It needs no key.
    pub fn strict() -> Self {
        Self::from_toml(STRICT, &Keys::none()).expect("a test compiles the built-in policy")
    }

    /// Compiles and proves a policy.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place and what to write instead.
    pub fn from_toml(text: &str, keys: &Keys) -> Result<Self, Problems> {
        compile::compile(text, keys)
    }

    /// The name of the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same for all workers with the same rules and key id; another one says that something
    /// else runs. Secrets are not part of it.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whether the policy makes tokens, and so needs its key.
    pub fn needs_key(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Token)
    }

    /// The id of the key, if the policy has one.
    pub fn key_id(&self) -> Option<&str> {
        self.key.as_ref().map(TokenKey::id)
    }

    /// The bounds.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The name of a rule in a finding or verdict.
    pub fn rule_name(&self, rule: u16) -> &str {
        self.rules
            .get(usize::from(rule))
            .map_or("", |rule| &rule.name)
    }

    pub(crate) fn rule(&self, rule: u16) -> &Rule {
        &self.rules[usize::from(rule)]
    }

    pub(crate) fn key(&self) -> Option<&TokenKey> {
        self.key.as_ref()
    }

    pub(crate) fn rescans(&self) -> bool {
        self.rescan
    }

    /// The rows of detectors that have a rule.
    pub(crate) fn enabled(&self) -> u64 {
        self.enabled
    }

    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The rule for a finding of `class`.
    pub(crate) fn rule_for(&self, class: Class, effect: &Effect) -> Option<u16> {
        effect.by_class[class as usize].or(self.by_class[class as usize])
    }

    /// The rule for values under a key, by the key's normal form.
    pub(crate) fn rule_for_key(&self, normal_form: &[u8]) -> Option<u16> {
        self.by_key
            .iter()
            .find(|(key, _)| key == normal_form)
            .map(|&(_, rule)| rule)
    }

    /// Whether rules name keys.
    pub(crate) fn names_keys(&self) -> bool {
        !self.by_key.is_empty()
    }

    /// Joins what a path does into an effect. The first rule of the file wins.
    pub(crate) fn join(&self, effect: &mut Effect, path: u16) {
        let first = |old: Option<u16>, new: u16| Some(old.map_or(new, |old| old.min(new)));
        match self.targets[usize::from(path)] {
            Target::Values(rule) => effect.values = first(effect.values, rule),
            Target::Classes(rule, classes) => {
                for class in classes.iter() {
                    let slot = &mut effect.by_class[class as usize];
                    *slot = first(*slot, rule);
                }
            }
            Target::Allow(classes) => effect.allow.join(classes),
        }
    }

    /// Whether a list exempts the value.
    pub(crate) fn exempts(&self, class: Class, value: &[u8]) -> bool {
        self.exempt.iter().any(|exempt| {
            exempt.classes.has(class)
                && if exempt.whole {
                    value == exempt.text
                } else {
                    value.starts_with(&exempt.text)
                }
        })
    }

    /// Whether a whole value is what `rule`, or another rule, put in its place.
    pub(crate) fn is_replacement(&self, rule: u16, value: &[u8]) -> bool {
        let own = match self.rule(rule).action {
            Action::Mask { character } | Action::Partial { character, .. } => {
                is_masked(value, character)
            }
            _ => false,
        };
        own || is_token(value) || self.is_label(value)
    }

    /// Whether a rule may have written `value` in the place of a finding. No detector takes it for
    /// data: that is proved when the policy is loaded.
    pub(crate) fn is_label(&self, value: &[u8]) -> bool {
        self.labels.iter().any(|label| label.as_bytes() == value)
    }

    /// Whether a rule may have written a part of `text`.
    pub(crate) fn holds_label(&self, text: &[u8]) -> bool {
        self.labels.iter().any(|label| {
            let first = label.as_bytes().first();
            first.is_some_and(|first| text.contains(first))
                && memchr::memmem::find(text, label.as_bytes()).is_some()
        })
    }
}

/// The source of the built-in policy.
pub const STRICT: &str = include_str!("../../policies/strict.toml");

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

#[cfg(test)]
mod tests;
