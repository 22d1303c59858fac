//! Describes a policy, and lists the detectors.

use hydrant_core::Result;
use hydrant_pii::Policy;
use serde::Serialize;

use crate::output::{CommandOutput, table};

#[derive(Serialize)]
struct PolicySummary<'a> {
    policy: &'a str,
    digest: &'a str,
    key: Option<&'a str>,
    record_bytes_max: usize,
}

/// Prints name, key and digest of a policy. Loading it has validated it.
pub(super) fn check(policy: &Policy, output: &CommandOutput) -> Result<()> {
    let checked = PolicySummary {
        policy: policy.name(),
        digest: policy.digest(),
        key: policy.key_id(),
        record_bytes_max: policy.limits().record_bytes,
    };
    output.print(&checked, || {
        let key = checked.key.map_or_else(
            || "needs no key".to_owned(),
            |id| format!("makes tokens with key `{id}`"),
        );
        format!(
            "policy `{}` is valid: it {key}\ndigest {}",
            checked.policy, checked.digest
        )
    })
}

/// Lists the detectors.
pub(super) fn detectors(output: &CommandOutput) -> Result<()> {
    #[derive(Serialize)]
    struct DetectorRow {
        name: &'static str,
        class: &'static str,
        description: &'static str,
    }
    let rows: Vec<DetectorRow> = hydrant_pii::detectors()
        .iter()
        .map(|detector| DetectorRow {
            name: detector.name,
            class: detector.class.name(),
            description: detector.description,
        })
        .collect();
    output.print(&rows, || {
        let rows = rows.iter();
        let rows = rows.map(|row| {
            [row.name, row.class, row.description]
                .map(str::to_owned)
                .to_vec()
        });
        table(&["detector", "class", "finds"], rows)
    })
}
