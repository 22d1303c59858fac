use super::*;
use crate::class::Class;

fn keys() -> TokenKeys {
    let mut keys = TokenKeys::none();
    keys.insert("a", &[7; 32]).unwrap();
    keys
}

fn compiled(rules: &str) -> Result<Policy, PolicyProblems> {
    Policy::from_toml(
        &format!("[policy]\nname = \"test\"\nkey = \"a\"\n{rules}"),
        &keys(),
    )
}

/// The problems of rules, as text.
fn problems(rules: &str) -> String {
    compiled(rules)
        .map(|policy| policy.name().to_owned())
        .unwrap_err()
        .to_string()
}

#[test]
fn the_built_in_policy_compiles_and_has_a_rule_for_every_class() {
    let policy = Policy::strict();
    assert_eq!(policy.name(), "strict");
    assert!(policy.key_id().is_none());
    for class in Class::all() {
        assert!(
            policy.rule_for(class, &PathEffect::NONE).is_some(),
            "{class:?}"
        );
    }
    assert_eq!(policy.limits(), RecordLimits::default());
}

#[test]
fn a_policy_without_rules_is_strict() {
    let policy = compiled("").unwrap();
    assert_eq!(
        policy.rule_name(policy.rule_for(Class::Ip, &PathEffect::NONE).unwrap()),
        "strict-ip"
    );
    assert_eq!(policy.key_id(), Some("a"));
}

#[test]
fn unreachable_rules_are_refused() {
    let rule = |scope: &str| format!("[[rule]]\n{scope}\naction = \"label\"\n");
    for (first, second) in [
        ("class = [\"email\", \"ip\"]", "class = \"email\""),
        ("path = \"$.a\"", "path = \"$.a.b\""),
        ("path = \"$.*\"", "path = \"$.a\""),
        ("key = \"nickName\"", "key = \"nick_name\""),
        (
            "path = \"$.a\"\nclass = \"email\"",
            "path = \"$.a[*]\"\nclass = \"email\"",
        ),
    ] {
        let refusal = problems(&(rule(first) + &rule(second)));
        assert!(
            refusal.contains("rule 2") && refusal.contains("never reached: rule 1"),
            "{refusal}"
        );
        assert!(
            compiled(&(rule(second) + &rule(first))).is_ok() || first.contains("nick"),
            "{first}"
        );
    }
}

#[test]
fn nothing_that_must_be_redacted_may_pass() {
    for (rules, says) in [
        (
            "[[rule]]\nclass = \"card\"\naction = \"keep\"",
            "must be redacted",
        ),
        (
            "[[rule]]\nclass = \"jwt\"\naction = \"partial\"\nkeep_last = 4",
            "must be redacted",
        ),
        (
            "[[rule]]\nclass = \"card\"\naction = \"partial\"\nkeep_last = 8",
            "must be redacted",
        ),
        (
            "[[rule]]\npath = \"$.a\"\nclass = \"ssn\"\naction = \"keep\"",
            "must be redacted",
        ),
        (
            "[[rule]]\npath = \"$.a\"\naction = \"keep\"",
            "it keeps every value",
        ),
        (
            "[[allow]]\nclass = [\"ip\", \"card\"]\npath = \"$.a\"",
            "exempt `card`",
        ),
        (
            "[[allow]]\nclass = \"aws-key\"\nvalue = \"AKIAIOSFODNN7EXAMPLE\"",
            "exempt `aws-key`",
        ),
        (
            "[[allow]]\nclass = \"ip\"\npath = \"$..*\"",
            "whole classes",
        ),
        ("[[allow]]\nclass = \"ip\"\npath = \"$\"", "whole classes"),
        (
            "[[allow]]\nclass = \"ip\"\nprefix = \"1\"",
            "most of a class",
        ),
        ("[[allow]]\nclass = \"ip\"", "none or several"),
        (
            "[[rule]]\nclass = \"card\"\naction = \"token\"\n\
             [[rule]]\npath = \"$.a\"\nclass = \"card\"\naction = \"partial\"\nkeep_last = 4",
            "reveal the number",
        ),
    ] {
        let refusal = problems(rules);
        assert!(refusal.contains(says), "{rules}: {refusal}");
    }
    let refusal = Policy::from_toml(
        "[policy]\nname = \"x\"\nbase = \"none\"",
        &TokenKeys::none(),
    )
    .unwrap_err();
    assert_eq!(refusal.0.len(), 4, "{refusal}");
}

#[test]
fn replacements_that_are_findings_are_refused() {
    for label in [
        "jane@x.org",
        "10.1.2.3",
        "+49 171 1234567",
        "4111111111111111",
        "536-90-4399",
    ] {
        let refusal = problems(&format!(
            "[[rule]]\nclass = \"name\"\naction = \"label\"\nlabel = \"{label}\""
        ));
        assert!(refusal.contains("is itself found by"), "{label}: {refusal}");
    }
    assert!(
        compiled("[[rule]]\nclass = \"email\"\naction = \"label\"\nlabel = \"<mail>\"").is_ok()
    );
}

#[test]
fn a_class_that_does_not_exist_is_one_problem() {
    for path in ["", "path = \"$.a\"\n"] {
        let rule =
            |class: &str| format!("[[rule]]\n{path}class = \"{class}\"\naction = \"label\"\n");
        let refusal = compiled(&(rule("email") + &rule("mail"))).unwrap_err();
        assert_eq!(refusal.0.len(), 1, "{refusal}");
    }
}

#[test]
fn tokens_need_a_key() {
    let token = "[[rule]]\nclass = \"email\"\naction = \"token\"";
    let policy = compiled(token).unwrap();
    assert!(policy.key_id().is_some());
    let refusal =
        Policy::from_toml(&format!("[policy]\nname = \"x\"\n{token}"), &keys()).unwrap_err();
    assert!(refusal.to_string().contains("has no key"), "{refusal}");
    let refusal = Policy::from_toml(
        &format!("[policy]\nname = \"x\"\nkey = \"b\"\n{token}"),
        &keys(),
    )
    .unwrap_err();
    assert!(
        refusal.to_string().contains("no key has the id `b`"),
        "{refusal}"
    );
    assert_eq!(refusal.0.len(), 1, "{refusal}");
}

#[test]
fn actions_have_to_fit_their_class_and_fields_their_action() {
    for (rule, says) in [
        ("class = \"email\"\naction = \"prefix\"", "does not fit"),
        ("class = \"email\"\naction = \"round\"", "does not fit"),
        ("class = \"name\"\naction = \"year\"", "does not fit"),
        ("path = \"$.a\"\naction = \"year\"", "does not fit"),
        (
            "class = \"geo\"\naction = \"round\"\ndecimals = 3",
            "too fine",
        ),
        (
            "class = \"ip\"\naction = \"prefix\"\nprefix_v4 = 32",
            "out of range",
        ),
        (
            "class = \"email\"\naction = \"label\"\nmask = \"*\"",
            "has no effect",
        ),
        (
            "class = \"email\"\naction = \"mask\"\nmask = \"1\"",
            "not allowed",
        ),
        (
            "class = \"email\"\naction = \"mask\"\nmask = \"\\\"\"",
            "not allowed",
        ),
        (
            "class = \"email\"\naction = \"label\"\nlabel = \"a\\\"b\"",
            "not allowed",
        ),
        (
            "class = \"email\"\naction = \"label\"\nlabel = \"é\"",
            "not allowed",
        ),
        ("class = \"email\"\naction = \"partial\"", "keeps nothing"),
        ("class = \"email\"\naction = \"erase\"", "is not an action"),
        ("class = \"e-mail\"\naction = \"label\"", "is not a class"),
        ("class = []\naction = \"label\"", "is empty"),
        ("action = \"label\"", "matches nothing"),
        ("path = \"a.b\"\naction = \"label\"", "starts with `$`"),
        (
            "path = \"$\"\naction = \"label\"",
            "every value of every record",
        ),
        ("key = \"-\"\naction = \"label\"", "no letter or digit"),
        ("key = \"x\"\npath = \"$.a\"\naction = \"label\"", "beside"),
    ] {
        let refusal = problems(&format!("[[rule]]\n{rule}"));
        assert!(refusal.contains(says), "{rule}: {refusal}");
    }
}

#[test]
fn all_problems_are_reported_at_once_with_place_and_remedy() {
    let refusal = compiled(
        "[limits]\ndepth = 0\nrecord_bytes = 999999999\n\
         [[rule]]\nname = \"cards\"\nclass = \"card\"\naction = \"keep\"\n\
         [[rule]]\nclass = \"nonsense\"\naction = \"label\"\n\
         [[allow]]\nclass = \"jwt\"\nvalue = \"x\"",
    )
    .unwrap_err();
    let places: Vec<_> = refusal
        .0
        .iter()
        .map(|problem| problem.place.as_str())
        .collect();
    for place in ["limits", "rule 1 (`cards`)", "rule 2 (`rule-2`)", "allow 1"] {
        assert!(places.contains(&place), "{place}: {refusal}");
    }
    assert!(refusal.0.len() >= 5);
    assert!(refusal.0.iter().all(|problem| !problem.remedy.is_empty()));
}

#[test]
fn wrong_files_name_the_line() {
    let refusal =
        Policy::from_toml("[policy]\nname = \"x\"\nunknown = 1\n", &TokenKeys::none()).unwrap_err();
    assert_eq!(refusal.0[0].place, "line 3");
    assert!(refusal.0[0].problem.contains("unknown"), "{refusal}");
    assert!(Policy::from_toml("", &TokenKeys::none()).is_err());
    assert!(Policy::from_toml("[policy", &TokenKeys::none()).is_err());
}

#[test]
fn the_digest_differs_between_policies_and_ignores_layout() {
    let digest = |rules: &str| compiled(rules).unwrap().digest().to_owned();
    let rule = "[[rule]]\nclass = \"email\"\naction = \"mask\"";
    assert_eq!(digest(rule), digest(&format!("# a comment\n\n{rule}\n")));
    assert_ne!(digest(rule), digest(""));
    assert_ne!(
        digest(rule),
        digest("[[rule]]\nclass = \"email\"\naction = \"null\"")
    );
    assert_ne!(digest(""), Policy::strict().digest());
}
