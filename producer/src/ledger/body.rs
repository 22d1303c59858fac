//! The JSON of a ledger, and how ledgers of older versions are read.

use std::path::{Path, PathBuf};

use hydrant_core::{Error, Result, StreamId};
use serde::{Deserialize, Serialize};

use super::entry::{FileEntry, Former};
use super::identity::InputIdentity;
use crate::input::RecordFormat;

/// The version of the file that is written.
pub(super) const VERSION: u32 = 2;

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

/// Version 1: one input, and a count of lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyOfVersion1 {
    #[serde(rename = "version")]
    _version: u32,
    name: String,
    id: String,
    stream: StreamId,
    input: InputOfVersion1,
    next_index: u64,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum InputOfVersion1 {
    Simulator {
        seed: u64,
        devices: u64,
        fleet: String,
        key: Option<String>,
    },
    File {
        path: PathBuf,
        first_line: Option<String>,
        key: Option<String>,
    },
    Stdin {
        first_line: Option<String>,
        key: Option<String>,
    },
}

impl From<BodyOfVersion1> for Body {
    fn from(was: BodyOfVersion1) -> Self {
        let (input, file) = match was.input {
            InputOfVersion1::Simulator {
                seed,
                devices,
                fleet,
                key,
            } => (
                InputIdentity::Simulator {
                    seed,
                    devices,
                    fleet,
                    key,
                },
                None,
            ),
            InputOfVersion1::File {
                path,
                first_line,
                key,
            } => (
                InputIdentity::Records {
                    key,
                    format: RecordFormat::Auto,
                },
                Some((path, first_line)),
            ),
            InputOfVersion1::Stdin { first_line, key } => (
                InputIdentity::Records {
                    key,
                    format: RecordFormat::Auto,
                },
                Some((PathBuf::from("-"), first_line)),
            ),
        };
        let file = file.map(|(path, first_line)| FileEntry {
            index: was.next_index,
            former: Some(Former { first_line }),
            ..FileEntry::new(0, path, None)
        });
        Body {
            version: VERSION,
            name: was.name,
            id: was.id,
            stream: was.stream,
            input,
            next_index: was.next_index,
            files: file.into_iter().collect(),
        }
    }
}

pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Body> {
    let refuse = |why: String| {
        Err(Error::refused(format!(
            "`{}` is not a ledger that this version reads: {why}; restore it from a copy, or give \
             another `--ledger` to send the input again from its start",
            path.display()
        )))
    };
    let read = match serde_json::from_slice::<AnyVersion>(text) {
        Ok(AnyVersion { version: 1 }) => {
            serde_json::from_slice::<BodyOfVersion1>(text).map(Body::from)
        }
        Ok(AnyVersion { version: VERSION }) => serde_json::from_slice(text),
        Ok(any) => return refuse(format!("its version is {}, not {VERSION}", any.version)),
        Err(error) => Err(error),
    };
    read.or_else(|error| refuse(error.to_string()))
}

pub(super) fn misfit(path: &Path, why: &str) -> Error {
    Error::refused(format!(
        "the ledger `{}` does not fit: {why}; give the one that does, or a new `--ledger` to begin again",
        path.display()
    ))
}
