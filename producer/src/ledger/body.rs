//! The JSON of a ledger.

use std::path::Path;

use hydrant_core::{Error, Result, StreamId};
use serde::{Deserialize, Serialize};

use super::entry::FileEntry;
use super::identity::InputIdentity;

/// The version of the file that is written.
pub(super) const VERSION: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    pub(super) version: u32,
    pub(super) name: String,
    pub(super) id: String,
    pub(super) stream: StreamId,
    pub(super) input: InputIdentity,
    pub(super) next_index: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) files: Vec<FileEntry>,
}

impl Body {
    /// Refuses a ledger of another producer or kind of input.
    pub(super) fn check(&self, path: &Path, name: &str, input: &InputIdentity) -> Result<()> {
        if self.name != name {
            let why = format!("it belongs to the producer `{}`, not `{name}`", self.name);
            return Err(misfit(path, &why));
        }
        match self.input.conflict(input) {
            Some(why) => Err(misfit(path, &why)),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Body> {
    let refuse = |why: String| {
        Err(Error::refused(format!(
            "`{}` is not a ledger that this version reads: {why}; restore it from a copy, or give \
             another `--ledger` to send the input again from its start",
            path.display()
        )))
    };
    match serde_json::from_slice::<AnyVersion>(text) {
        Ok(any) if any.version != VERSION => {
            refuse(format!("its version is {}, not {VERSION}", any.version))
        }
        _ => serde_json::from_slice(text).or_else(|error| refuse(error.to_string())),
    }
}

pub(super) fn misfit(path: &Path, why: &str) -> Error {
    Error::refused(format!(
        "the ledger `{}` does not belong to this run: {why}; name the right one, or a new `--ledger` to start over",
        path.display()
    ))
}
