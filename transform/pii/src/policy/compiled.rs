//! A compiled policy: its rules by class, key and path, and what it exempts.

use serde::{Deserialize, Serialize};

use super::path::JsonPaths;
use crate::action::{Action, TokenKey, is_masked, is_token};
use crate::class::Class;
use crate::keys::normal_form;

/// More findings than a record of the longest length can hold.
pub(super) const FINDINGS_MAX: usize = 64 << 20;

/// Bounds of the work on one record: the table `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordLimits {
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

impl Default for RecordLimits {
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
    pub(super) const fn of(class: Class) -> Self {
        Self(1 << class as u16)
    }

    pub(crate) fn has(self, class: Class) -> bool {
        self.0 & 1 << class as u16 != 0
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Class> {
        Class::all().filter(move |&class| self.has(class))
    }
}

/// A rule, compiled.
#[derive(Debug)]
pub(crate) struct PolicyRule {
    pub(crate) name: String,
    pub(crate) action: Action,
}

/// What a path is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum PathTarget {
    /// Every value.
    Values(u16),
    /// Findings of these classes.
    Classes(u16, ClassSet),
    /// An exemption.
    Allow(ClassSet),
}

/// What the paths that a value lies beneath do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathEffect {
    pub(crate) values: Option<u16>,
    by_class: [Option<u16>; Class::COUNT],
    pub(crate) allow: ClassSet,
}

impl PathEffect {
    pub(crate) const NONE: Self = Self {
        values: None,
        by_class: [None; Class::COUNT],
        allow: ClassSet(0),
    };
}

/// A value that is exempt.
#[derive(Debug)]
pub(super) struct Exempt {
    pub(super) classes: ClassSet,
    pub(super) text: Vec<u8>,
    pub(super) whole: bool,
}

/// A compiled and proved policy.
#[derive(Debug)]
pub struct Policy {
    pub(super) name: String,
    pub(super) rules: Vec<PolicyRule>,
    pub(super) by_class: [Option<u16>; Class::COUNT],
    /// The rules for values under keys, by the normal form of the key.
    pub(super) by_key: Vec<(Vec<u8>, u16)>,
    pub(crate) paths: JsonPaths,
    pub(super) targets: Vec<PathTarget>,
    pub(super) exempt: Vec<Exempt>,
    pub(super) labels: Vec<String>,
    pub(super) limits: RecordLimits,
    pub(crate) key: Option<TokenKey>,
    /// Whether what was redacted is scanned again.
    pub(crate) rescan: bool,
    /// The rows of detectors that have a rule.
    pub(crate) enabled: u64,
    pub(super) digest: String,
}

impl Policy {
    /// The name of the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// In hexadecimal digits: the same for all workers with the same rules and key id; another one says that something
    /// else runs. Secrets are not part of it.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The id of the key, if the policy has one.
    pub fn key_id(&self) -> Option<&str> {
        self.key.as_ref().map(TokenKey::id)
    }

    /// The bounds.
    pub fn limits(&self) -> RecordLimits {
        self.limits
    }

    /// The name of a rule in a finding or verdict.
    pub fn rule_name(&self, rule: u16) -> &str {
        self.rules
            .get(usize::from(rule))
            .map_or("", |rule| &rule.name)
    }

    pub(crate) fn rule(&self, rule: u16) -> &PolicyRule {
        &self.rules[usize::from(rule)]
    }

    /// The rule for a finding of `class`.
    pub(crate) fn rule_for(&self, class: Class, effect: &PathEffect) -> Option<u16> {
        effect.by_class[class as usize].or(self.by_class[class as usize])
    }

    /// The rule for values under a key.
    pub(crate) fn rule_for_key(&self, key: &[u8]) -> Option<u16> {
        if self.by_key.is_empty() {
            return None;
        }
        let form = normal_form(key);
        let rule = self.by_key.iter().find(|(key, _)| *key == form);
        rule.map(|&(_, rule)| rule)
    }

    /// Joins what a path does into an effect. The first rule of the file wins.
    pub(crate) fn join(&self, effect: &mut PathEffect, path: u16) {
        let first = |old: Option<u16>, new: u16| Some(old.map_or(new, |old| old.min(new)));
        match self.targets[usize::from(path)] {
            PathTarget::Values(rule) => effect.values = first(effect.values, rule),
            PathTarget::Classes(rule, classes) => {
                for class in classes.iter() {
                    let slot = &mut effect.by_class[class as usize];
                    *slot = first(*slot, rule);
                }
            }
            PathTarget::Allow(classes) => effect.allow.join(classes),
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
