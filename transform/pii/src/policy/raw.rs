//! The policy file as it is written.

use serde::{Deserialize, Serialize};

use super::compiled::RecordLimits;

/// A whole file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    pub(super) policy: RawHead,
    #[serde(default)]
    pub(super) limits: RecordLimits,
    #[serde(default, rename = "rule")]
    pub(super) rules: Vec<RawRule>,
    #[serde(default, rename = "allow")]
    pub(super) allows: Vec<RawAllow>,
}

/// The table `[policy]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHead {
    pub(super) name: String,
    #[serde(default)]
    pub(super) base: Base,
    pub(super) key: Option<String>,
    #[serde(default = "yes")]
    pub(super) rescan: bool,
}

fn yes() -> bool {
    true
}

/// What a policy starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Base {
    #[default]
    Strict,
    None,
}

/// One name or several.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// A table `[[rule]]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) name: Option<String>,
    pub(super) class: Option<OneOrMany>,
    pub(super) path: Option<String>,
    pub(super) key: Option<String>,
    pub(super) action: String,
    pub(super) label: Option<String>,
    pub(super) mask: Option<String>,
    pub(super) keep_first: Option<usize>,
    pub(super) keep_last: Option<usize>,
    pub(super) prefix_v4: Option<u8>,
    pub(super) prefix_v6: Option<u8>,
    pub(super) decimals: Option<usize>,
}

/// A table `[[allow]]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAllow {
    pub(super) class: OneOrMany,
    pub(super) path: Option<String>,
    pub(super) value: Option<String>,
    pub(super) prefix: Option<String>,
}
