//! The record that says which upload replaces a vanished file.
//!
//! Owns its form. Refuses damaged records and records of a newer version.

use serde::{Deserialize, Serialize};

use super::commit::{CommitFile, unseal_body};
use super::error::ObjectError;

/// The newest version of [`RebuildRecord`].
pub(super) const REBUILD_VERSION: u32 = 1;

/// The claim of an upload that replaces a vanished file.
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
    /// The file as it was uploaded.
    pub file: CommitFile,
}

impl RebuildRecord {
    /// Reads the stored form.
    ///
    /// # Errors
    /// Damaged bytes or a newer version.
    pub fn from_body(key: &str, body: &[u8]) -> Result<Self, ObjectError> {
        unseal_body(key, body, REBUILD_VERSION)
    }
}
