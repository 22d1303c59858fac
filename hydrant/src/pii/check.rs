//! What a policy does, and what can be found.

use hydrant_core::Result;
use hydrant_pii::Policy;
use serde::Serialize;

use crate::output::{Output, table};

#[derive(Serialize)]
struct Checked<'a> {
    policy: &'a str,
    digest: String,
    key: Option<&'a str>,
    record_bytes_max: usize,
}

/// Prints what a policy is that was loaded, and so proved.
pub(super) fn check(policy: &Policy, output: &Output) -> Result<()> {
    let digest: String = policy
        .digest()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let checked = Checked {
        policy: policy.name(),
        digest,
        key: policy.key_id(),
        record_bytes_max: policy.limits().record_bytes,
    };
    output.print(&checked, || {
        let key = checked.key.map_or_else(
            || "needs no key".to_owned(),
            |id| format!("makes tokens with key `{id}`"),
        );
        format!(
            "policy `{}` is good: it {key}\ndigest {}",
            checked.policy, checked.digest
        )
    })
}

/// Lists the detectors.
pub(super) fn detectors(output: &Output) -> Result<()> {
    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        class: &'static str,
        description: &'static str,
    }
    let rows: Vec<Row> = hydrant_pii::detectors()
        .map(|info| Row {
            name: info.name,
            class: info.class.name(),
            description: info.description,
        })
        .collect();
    output.print(&rows, || {
        let mut text = table(&["detector", "class", "finds"]);
        for row in &rows {
            text.add_row(vec![row.name, row.class, row.description]);
        }
        text.to_string()
    })
}
