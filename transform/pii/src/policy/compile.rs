//! Compiles the file of a policy, and collects all its problems.

use sha2::{Digest, Sha256};

use super::compiled::{
    ClassSet, Exempt, FINDINGS_MAX, PathTarget, Policy, PolicyRule, RecordLimits,
};
use super::path::{JsonPath, JsonPaths, STEPS_MAX};
use super::problems::{PolicyProblem, PolicyProblems, ProblemsAt};
use super::proof;
use super::raw::{Base, OneOrMany, RawAllow, RawPolicy, RawRule};
use super::scope::{Placed, RuleScope};
use super::secrets::TokenKeys;
use crate::action::Action;
use crate::class::Class;
use crate::detect::TABLE;
use crate::keys::normal_form;

/// Most rules and allowances of a file.
const RULES_MAX: usize = 1000;

/// The source of the built-in policy.
pub const STRICT: &str = include_str!("../../policies/strict.toml");

impl Policy {
    /// The built-in policy. It needs no key.
    pub fn strict() -> Self {
        Self::from_toml(STRICT, &TokenKeys::none()).expect("a test compiles the built-in policy")
    }

    /// Compiles and proves a policy.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place and what to write instead.
    pub fn from_toml(text: &str, keys: &TokenKeys) -> Result<Self, PolicyProblems> {
        compile(text, keys)
    }
}

fn parse(text: &str) -> Result<RawPolicy, PolicyProblems> {
    toml::from_str(text).map_err(|error| {
        let before = error
            .span()
            .map_or("", |span| text.get(..span.start).unwrap_or(text));
        PolicyProblems(vec![PolicyProblem {
            place: format!("line {}", before.matches('\n').count() + 1),
            problem: error.message().trim().replace('\n', ", "),
            remedy: "docs/policy.md describes the format".to_owned(),
        }])
    })
}

fn compile(text: &str, keys: &TokenKeys) -> Result<Policy, PolicyProblems> {
    let raw = parse(text)?;
    let mut problems = Vec::new();
    check_limits(&raw.limits, at("limits", &mut problems));
    let mut policy = Policy {
        name: raw.policy.name.clone(),
        rules: Vec::new(),
        by_class: [None; Class::COUNT],
        by_key: Vec::new(),
        paths: JsonPaths::default(),
        targets: Vec::new(),
        exempt: Vec::new(),
        labels: Vec::new(),
        limits: raw.limits,
        key: None,
        rescan: raw.policy.rescan,
        enabled: 0,
        digest: digest(&raw),
    };
    if raw.rules.len() + raw.allows.len() > RULES_MAX {
        let problem = format!("more than {RULES_MAX} rules and allowances");
        at("policy", &mut problems).add(problem, "join rules by class or path");
        return Err(PolicyProblems(problems));
    }
    if let Some(id) = &raw.policy.key {
        policy.key = keys.get(id).cloned();
        if policy.key.is_none() {
            at("policy", &mut problems).add(
                format!("no key has the id `{id}`"),
                "give the key with HYDRANT_PII_KEY_FILE or in `[pii.keys]`",
            );
        }
    }
    let mut placed = Vec::new();
    let mut paths = Vec::new();
    for (index, raw_rule) in raw.rules.iter().enumerate() {
        let number = index + 1;
        let name = raw_rule.name.clone();
        let name = name.unwrap_or_else(|| format!("rule-{number}"));
        let place = format!("rule {number} (`{name}`)");
        let mut problems = at(&place, &mut problems);
        let action = action(raw_rule, &mut problems);
        let scope = scope(raw_rule, &mut problems);
        let (Some(action), Some(scope)) = (action, scope) else {
            continue;
        };
        let rule = narrow(policy.rules.len());
        policy.rules.push(PolicyRule { name, action });
        match &scope {
            RuleScope::Classes(classes) => {
                for class in classes.iter() {
                    policy.by_class[class as usize].get_or_insert(rule);
                }
            }
            RuleScope::Key(key) => policy.by_key.push((key.clone(), rule)),
            RuleScope::Path(path) => {
                paths.push(path.clone());
                policy.targets.push(PathTarget::Values(rule));
            }
            RuleScope::PathClasses(path, classes) => {
                paths.push(path.clone());
                policy.targets.push(PathTarget::Classes(rule, *classes));
            }
        }
        placed.push(Placed { place, scope, rule });
    }
    for (index, allow) in raw.allows.iter().enumerate() {
        let place = format!("allow {}", index + 1);
        let mut problems = at(&place, &mut problems);
        allowance(allow, &mut policy, &mut paths, &mut problems);
    }
    if raw.policy.base == Base::Strict {
        add_base(&mut policy);
    }
    if paths.iter().map(JsonPath::len).sum::<usize>() > STEPS_MAX {
        let problem = format!("more than {STEPS_MAX} steps in all paths");
        at("policy", &mut problems).add(problem, "use wildcards");
        return Err(PolicyProblems(problems));
    }
    policy.paths = JsonPaths::new(&paths);
    finish(&mut policy);
    proof::prove(&policy, &placed, raw.policy.key.is_some(), &mut problems);
    if problems.is_empty() {
        Ok(policy)
    } else {
        Err(PolicyProblems(problems))
    }
}

fn at<'a>(place: &'a str, problems: &'a mut Vec<PolicyProblem>) -> ProblemsAt<'a> {
    ProblemsAt { place, problems }
}

fn add_base(policy: &mut Policy) {
    let base = compile(STRICT, &TokenKeys::none()).expect("a test compiles the built-in policy");
    let offset = policy.rules.len();
    policy.rules.extend(base.rules);
    for (slot, rule) in policy.by_class.iter_mut().zip(base.by_class) {
        *slot = slot.or(rule.map(|rule| narrow(offset + usize::from(rule))));
    }
}

/// Fills what follows from the rules.
fn finish(policy: &mut Policy) {
    let mut at_paths = ClassSet::default();
    for target in &policy.targets {
        if let PathTarget::Classes(_, classes) = target {
            at_paths.join(*classes);
        }
    }
    for (index, row) in TABLE.iter().enumerate() {
        let class = row.class;
        if policy.by_class[class as usize].is_some() || at_paths.has(class) {
            policy.enabled |= 1 << index;
        }
    }
    let own = policy.rules.iter().filter_map(|rule| match &rule.action {
        Action::Label(label) => label.clone(),
        _ => None,
    });
    let labels = Class::all().map(|class| class.label().to_owned());
    policy.labels = labels.chain(own).collect();
}

/// Covers what a policy does: its rules, the base, the detectors, and the id of its key.
fn digest(raw: &RawPolicy) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"hydrant-pii policy 2\0");
    hasher.update(env!("CARGO_PKG_VERSION"));
    if raw.policy.base == Base::Strict {
        hasher.update(STRICT);
    }
    for row in TABLE {
        hasher.update(row.name);
        hasher.update([0]);
    }
    let rules = serde_json::to_vec(raw).expect("a policy has only texts and numbers");
    hasher.update(rules);
    let bytes = hasher.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_limits(limits: &RecordLimits, mut problems: ProblemsAt<'_>) {
    let bounds = [
        ("record_bytes", limits.record_bytes, 64..=64 << 20),
        ("depth", limits.depth, 1..=1024),
        ("nested_json", limits.nested_json, 0..=8),
        ("findings", limits.findings, 1..=FINDINGS_MAX),
    ];
    for (name, value, range) in bounds {
        if !range.contains(&value) {
            problems.add(
                format!("`{name} = {value}` is out of range"),
                format!("use {} to {}", range.start(), range.end()),
            );
        }
    }
}

fn classes(names: &OneOrMany, problems: &mut ProblemsAt<'_>) -> ClassSet {
    let mut set = ClassSet::default();
    for name in names.names() {
        match Class::by_name(name) {
            Some(class) => set.join(ClassSet::of(class)),
            None => {
                let known: Vec<_> = Class::all().map(Class::name).collect();
                problems.add(
                    format!("`{name}` is not a class"),
                    format!("use one of {}", known.join(", ")),
                );
            }
        }
    }
    if names.names().is_empty() {
        problems.add("`class` is empty", "name a class, or leave `class` out");
    }
    set
}

fn path(text: &str, problems: &mut ProblemsAt<'_>) -> Option<JsonPath> {
    JsonPath::parse(text)
        .map_err(|error| {
            problems.add(
                format!("path `{text}`: {error}"),
                "write it like `$.a.b[*].c`",
            )
        })
        .ok()
}

fn scope(raw: &RawRule, problems: &mut ProblemsAt<'_>) -> Option<RuleScope> {
    let set = raw.class.as_ref().map(|names| classes(names, problems));
    match (set, &raw.path, &raw.key) {
        (_, Some(_), Some(_)) | (Some(_), None, Some(_)) => {
            problems.add(
                "`key` stands beside `class` or `path`",
                "make it a rule of its own",
            );
            None
        }
        (Some(set), None, None) => Some(RuleScope::Classes(set)),
        (Some(set), Some(text), None) => Some(RuleScope::PathClasses(path(text, problems)?, set)),
        (None, Some(text), None) => {
            let path = path(text, problems)?;
            if path.is_root() {
                problems.add(
                    "the path `$` names every value of every record",
                    "name a part of it",
                );
            }
            Some(RuleScope::Path(path))
        }
        (None, None, Some(key)) => {
            let form = normal_form(key.as_bytes());
            if form.is_empty() {
                problems.add(format!("`{key}` holds no letter or digit"), "name a key");
            }
            Some(RuleScope::Key(form))
        }
        (None, None, None) => {
            problems.add("it matches nothing", "add `class`, `path` or `key`");
            None
        }
    }
}

/// Longest replacement text.
const LABEL_BYTES_MAX: usize = 64;

fn action(raw: &RawRule, problems: &mut ProblemsAt<'_>) -> Option<Action> {
    let fields = [
        ("label", raw.label.is_some(), &["label"][..]),
        ("mask", raw.mask.is_some(), &["mask", "partial"]),
        ("keep_first", raw.keep_first.is_some(), &["partial"]),
        ("keep_last", raw.keep_last.is_some(), &["partial"]),
        ("prefix_v4", raw.prefix_v4.is_some(), &["prefix"]),
        ("prefix_v6", raw.prefix_v6.is_some(), &["prefix"]),
        ("decimals", raw.decimals.is_some(), &["round"]),
    ];
    for (field, given, actions) in fields {
        if given && !actions.contains(&raw.action.as_str()) {
            problems.add(
                format!("`{field}` has no effect with the action `{}`", raw.action),
                format!("remove it, or use the action `{}`", actions.join("` or `")),
            );
        }
    }
    let mut character = || {
        let mask = raw.mask.as_deref().unwrap_or("*");
        match mask.as_bytes() {
            [byte]
                if byte.is_ascii_punctuation() && !b"\"\\@:/.-+".contains(byte)
                    || matches!(byte, b'X' | b'x') =>
            {
                *byte
            }
            _ => {
                problems.add(
                    format!("`mask = {mask:?}` is not allowed"),
                    "use one of `*`, `#`, `_`, `X`, `x`",
                );
                b'*'
            }
        }
    };
    let action = match raw.action.as_str() {
        "keep" => Action::Keep,
        "label" => {
            let shown = |byte| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
            let fits = |label: &String| {
                (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(shown)
            };
            if let Some(label) = raw.label.as_ref().filter(|label| !fits(label)) {
                problems.add(
                    format!("`label = {label:?}` is not allowed"),
                    format!("use 1 to {LABEL_BYTES_MAX} printable ASCII characters without `\"` and `\\`"),
                );
            }
            Action::Label(raw.label.clone())
        }
        "mask" => Action::Mask {
            character: character(),
        },
        "partial" => {
            let character = character();
            let (first, last) = (raw.keep_first.unwrap_or(0), raw.keep_last.unwrap_or(0));
            if first + last == 0 || first > 64 || last > 64 {
                problems.add(
                    "`partial` keeps nothing, or too much",
                    "set `keep_first` or `keep_last` to 1 to 64",
                );
            }
            Action::Partial {
                character,
                first,
                last,
            }
        }
        "token" => Action::Token,
        "prefix" => {
            let (v4, v6) = (raw.prefix_v4.unwrap_or(24), raw.prefix_v6.unwrap_or(48));
            if !(8..=24).contains(&v4) || !(16..=64).contains(&v6) {
                problems.add(
                    "a prefix is out of range",
                    "use 8 to 24 for `prefix_v4` and 16 to 64 for `prefix_v6`",
                );
            }
            Action::Prefix { v4, v6 }
        }
        "round" => {
            let decimals = raw.decimals.unwrap_or(crate::detect::DECIMALS_KEPT);
            if decimals > crate::detect::DECIMALS_KEPT {
                problems.add(
                    format!("`decimals = {decimals}` is too fine"),
                    "use 0, 1 or 2",
                );
            }
            // The proofs write such numbers, also of a policy that is refused.
            Action::Round {
                decimals: decimals.min(crate::detect::DECIMALS_KEPT),
            }
        }
        "year" => Action::Year,
        "null" => Action::Null,
        "drop-field" => Action::DropField,
        "drop-record" => Action::DropRecord,
        other => {
            problems.add(format!("`{other}` is not an action"),
                "use keep, label, mask, partial, token, prefix, round, year, null, drop-field or drop-record",
            );
            return None;
        }
    };
    Some(action)
}

/// Shortest prefix that an allowance may name.
const PREFIX_BYTES_MIN: usize = 3;

fn allowance(
    raw: &RawAllow,
    policy: &mut Policy,
    paths: &mut Vec<JsonPath>,
    problems: &mut ProblemsAt<'_>,
) {
    let set = classes(&raw.class, problems);
    for class in set.iter().filter(|class| class.must_redact()) {
        problems.add(
            format!("it would exempt `{}`, which must be redacted", class.name()),
            "remove the class; use a rule with another action if the label does not fit",
        );
    }
    let mut exempt = |text: &str, whole| {
        policy.exempt.push(Exempt {
            classes: set,
            text: text.as_bytes().to_vec(),
            whole,
        });
    };
    match (&raw.path, &raw.value, &raw.prefix) {
        (Some(text), None, None) => {
            let Some(path) = path(text, problems) else {
                return;
            };
            if path.names_everything() {
                problems.add(
                    format!("the path `{text}` would exempt whole classes"),
                    "name the members that are exempt, or use a rule with the action `keep`",
                );
            }
            paths.push(path);
            policy.targets.push(PathTarget::Allow(set));
        }
        (None, Some(value), None) if !value.is_empty() => exempt(value, true),
        (None, None, Some(prefix)) => {
            if prefix.len() < PREFIX_BYTES_MIN {
                problems.add(
                    format!("the prefix `{prefix}` would exempt most of a class"),
                    format!("use at least {PREFIX_BYTES_MIN} bytes"),
                );
            }
            exempt(prefix, false);
        }
        _ => problems.add(
            "it gives none or several of `path`, `value` and `prefix`",
            "give exactly one of them",
        ),
    }
}

pub(super) fn narrow(index: usize) -> u16 {
    u16::try_from(index).expect("a policy has at most 1000 rules, which is checked first")
}
