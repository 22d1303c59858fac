//! The identity of an input in a ledger.

use serde::{Deserialize, Serialize};

use crate::input::RecordFormat;

/// Which records an index stands for. Equal inputs give equal records at equal indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum InputIdentity {
    /// The simulator.
    Simulator {
        /// Its seed.
        seed: u64,
        /// Its devices.
        devices: u64,
        /// A digest of everything else that shapes its records.
        fleet: String,
        /// The partition key, where it is not the device's id.
        key: Option<String>,
    },
    /// Files or standard input.
    Records {
        /// The partition key.
        key: Option<String>,
        /// What a record is.
        format: RecordFormat,
    },
}

impl InputIdentity {
    /// Why records of `now` cannot continue where those of `self` ended.
    pub(super) fn conflict(&self, now: &InputIdentity) -> Option<String> {
        use InputIdentity::{Records, Simulator};
        let shown = |key: &Option<String>| match key {
            Some(key) => format!("with `--key {key}`"),
            None => "without `--key`".to_owned(),
        };
        Some(match (self, now) {
            _ if self == now => return None,
            (Simulator { key: was, .. }, Simulator { key: is, .. })
            | (Records { key: was, .. }, Records { key: is, .. })
                if was != is =>
            {
                format!("it was made {}, not {}", shown(was), shown(is))
            }
            (Simulator { .. }, Simulator { .. }) => {
                "it was made for another simulated fleet; give the same `--seed`, `--devices`, \
                 `--malformed`, `--late`, `--pii` and `--start-time`"
                    .to_owned()
            }
            (Records { format: was, .. }, Records { format: is, .. }) => format!(
                "it was made with `--format {}`, not `--format {}`",
                was.name(),
                is.name()
            ),
            (was, is) => format!("its input is {}, not {}", was.kind(), is.kind()),
        })
    }

    const fn kind(&self) -> &'static str {
        match self {
            InputIdentity::Simulator { .. } => "the simulator",
            InputIdentity::Records { .. } => "files or standard input",
        }
    }
}
