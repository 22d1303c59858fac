//! The record that says what becomes of a vanished file: which upload replaces it, or that it is given up.
//!
//! Owns its form. Promises that the rows of the file that vanished are all accounted for: as rows of the file that replaces it,
//! or as lost ones. Refuses damaged records and records of a newer version.

use std::fmt;

use hydrant_core::lake::Sealed;
use serde::{Deserialize, Serialize};

use super::commit::{CommitFile, Gap, unseal_body};
use super::error::ObjectError;

/// The newest version of [`RebuildRecord`].
pub(super) const REBUILD_VERSION: u32 = 1;

/// Why a file is not made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GivenUp {
    /// Its rows were past the declared retention.
    Retention,
    /// The stream no longer has its records.
    Source,
    /// An operator removed it.
    Operator,
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GivenUp::Retention => "retention",
            GivenUp::Source => "source",
            GivenUp::Operator => "operator",
        })
    }
}

/// What became of a file that vanished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebuildOutcome {
    /// Another upload replaces it.
    Replaced {
        /// The file as it was uploaded.
        file: CommitFile,
        /// How many rows it lacks, because the stream no longer has their records.
        #[serde(default)]
        lost: u64,
        /// The records that the stream no longer has.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gaps: Vec<Gap>,
    },
    /// It stays away.
    GivenUp {
        /// Why.
        why: GivenUp,
        /// Its rows.
        rows: u64,
    },
}

/// What became of one file of a commit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildRecord {
    /// The version of the record.
    pub version: u32,
    /// The slot of the record that names the file.
    pub slot: u64,
    /// The index of the file in that record.
    pub index: usize,
    /// How often the file was rebuilt, this time included.
    pub generation: u32,
    /// The key that the file of this generation has.
    pub key: String,
    /// What became of it.
    pub outcome: RebuildOutcome,
}

impl RebuildRecord {
    /// Reads the stored form.
    ///
    /// # Errors
    /// Damaged bytes or a newer version.
    pub fn from_body(key: &str, body: &[u8]) -> Result<Self, ObjectError> {
        unseal_body(key, body, REBUILD_VERSION)
    }

    /// The upload that replaces the file; `None` when it is given up.
    pub fn sealed(&self) -> Option<&Sealed> {
        match &self.outcome {
            RebuildOutcome::Replaced { file, .. } => Some(&file.sealed),
            RebuildOutcome::GivenUp { .. } => None,
        }
    }

    /// Whether it accounts for all rows of the file that a commit record names.
    pub(crate) fn accounts_for(&self, wanted: &CommitFile) -> bool {
        match &self.outcome {
            RebuildOutcome::GivenUp { rows, .. } => *rows == wanted.rows,
            RebuildOutcome::Replaced { file, lost: 0, .. } => {
                (file.rows, &file.position_hash) == (wanted.rows, &wanted.position_hash)
            }
            RebuildOutcome::Replaced { file, lost, .. } => {
                file.rows.checked_add(*lost) == Some(wanted.rows)
            }
        }
    }
}
