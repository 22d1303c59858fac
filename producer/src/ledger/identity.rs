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
        let keys = |was: &Option<String>, is: &Option<String>| {
            let shown = |key: &Option<String>| {
                key.as_ref().map_or("without `--key`".to_owned(), |key| {
                    format!("with `--key {key}`")
                })
            };
            (was != is).then(|| format!("it was made {}, not {}", shown(was), shown(is)))
        };
        match (self, now) {
            (Simulator { key: was, .. }, Simulator { key: is, .. }) if self != now => {
                Some(keys(was, is).unwrap_or_else(|| {
                    "it was made for another simulated fleet; give the same `--seed`, `--devices`, \
                     `--malformed`, `--late`, `--pii` and `--start-time`"
                        .to_owned()
                }))
            }
            (Simulator { .. }, Simulator { .. }) => None,
            (
                Records {
                    key: was_key,
                    format: was,
                },
                Records { key, format },
            ) => keys(was_key, key).or_else(|| {
                (was != format).then(|| {
                    format!(
                        "it was made with `--format {}`, not `--format {}`",
                        was.name(),
                        format.name()
                    )
                })
            }),
            (was, is) => Some(format!("its input is {}, not {}", was.kind(), is.kind())),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            InputIdentity::Simulator { .. } => "the simulator",
            InputIdentity::Records { .. } => "files or standard input",
        }
    }
}
