//! Policies: which action replaces which finding.
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
mod compiled;
mod path;
mod problems;
mod proof;
mod raw;
mod scope;
mod secrets;

pub use compile::STRICT;
pub(crate) use compiled::PathEffect;
pub use compiled::{Policy, RecordLimits};
pub(crate) use path::PathChild;
pub use problems::{PolicyProblem, PolicyProblems};
pub use secrets::{SECRET_BYTES_MIN, TokenKeys};

#[cfg(test)]
mod tests;
