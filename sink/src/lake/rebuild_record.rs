//! The record that says what becomes of a vanished file: which upload replaces it, or that it is given up.
//!
//! Owns its form. Promises that the rows of the file that vanished are all accounted for: as rows of the file that replaces it,
//! or as lost ones. Refuses damaged records and records of a newer version.

use std::fmt;

use hydrant_core::lake::Sealed;
use serde::{Deserialize, Serialize};

use super::commit::{CommitFile, Gap, unseal_body};
use super::error::ObjectError;
use super::names::generation_key;

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

/// Rows that are gone because the stream no longer had their records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRows {
    /// How many.
    pub rows: u64,
    /// The records that the stream no longer had.
    pub gaps: Vec<Gap>,
}

/// What became of a file that vanished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebuildOutcome {
    /// Another upload replaces it.
    Replaced {
        /// The file as it was uploaded.
        file: CommitFile,
        /// The rows that it lacks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lost: Option<LostRows>,
    },
    /// It stays away.
    GivenUp {
        /// Why.
        why: GivenUp,
        /// Its rows.
        rows: u64,
        /// Those of its rows that were lost before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lost: Option<LostRows>,
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

    /// The rows that are gone for good, with it or before it: those that somebody gave up, and those that are lost.
    pub(crate) fn gone_rows(&self) -> (u64, u64) {
        let rows = |lost: &Option<LostRows>| lost.as_ref().map_or(0, |lost| lost.rows);
        match &self.outcome {
            RebuildOutcome::Replaced { lost, .. } => (0, rows(lost)),
            RebuildOutcome::GivenUp {
                why: GivenUp::Source,
                rows,
                ..
            } => (0, *rows),
            RebuildOutcome::GivenUp {
                rows: all, lost, ..
            } => (all.saturating_sub(rows(lost)), rows(lost)),
        }
    }

    /// What it says is lost, while other rows are not.
    pub(crate) fn lost(&self) -> Option<&LostRows> {
        let (RebuildOutcome::Replaced { lost, .. } | RebuildOutcome::GivenUp { lost, .. }) =
            &self.outcome;
        lost.as_ref()
    }

    /// Whether it is about the file that a commit record names.
    pub(crate) fn is_about(&self, wanted: &CommitFile) -> bool {
        let replaces = match &self.outcome {
            RebuildOutcome::GivenUp { .. } => true,
            RebuildOutcome::Replaced { file, .. } => {
                (&file.sealed.key, file.kind) == (&self.key, wanted.kind)
            }
        };
        replaces && self.key == generation_key(&wanted.sealed.key, self.generation)
    }

    /// Whether it accounts for all rows of the file that a commit record names.
    pub(crate) fn accounts_for(&self, wanted: &CommitFile) -> bool {
        match &self.outcome {
            RebuildOutcome::GivenUp { rows, lost, .. } => {
                *rows == wanted.rows && lost.as_ref().is_none_or(|lost| lost.rows <= *rows)
            }
            RebuildOutcome::Replaced { file, lost: None } => {
                (file.rows, &file.position_hash) == (wanted.rows, &wanted.position_hash)
            }
            RebuildOutcome::Replaced {
                file,
                lost: Some(lost),
            } => file.rows.checked_add(lost.rows) == Some(wanted.rows),
        }
    }
}
