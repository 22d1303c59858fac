//! The layout chain of a table: which files were taken away on purpose.
//!
//! Owns the form of its records and how they are found. A record is put *before* its files are removed, so that a file which is
//! gone is known to have been visible once and removed: nobody makes it again. Promises that only the newest record can have
//! files that are still there. Refuses damaged records and records of a newer version.

pub(crate) mod expire;
pub(crate) mod missing;
mod named_files;
mod what_expires;

use std::collections::HashSet;

use bytes::Bytes;
use hydrant_core::lake::{Put, SharedLake};
use hydrant_core::{Result, hash};
use serde::{Deserialize, Serialize};

use super::commit::{FileKind, seal_body, sealed_crc, unseal_body};
use super::error::ObjectError;
use super::names::TableNames;
use super::slots::{NewestSlot, SlotChain};

pub use expire::{ExpiredFiles, expire};
pub use missing::{GivenUpFiles, give_up_missing};
pub use what_expires::{AbsentValue, WhatExpires};

/// The newest version of [`LayoutRecord`].
pub(crate) const LAYOUT_VERSION: u32 = 1;

/// A file that a layout record takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayoutInput {
    /// Its key.
    pub(crate) key: String,
    /// The kind of its rows.
    pub(crate) kind: FileKind,
    /// Its rows.
    pub(crate) rows: u64,
    /// Its bytes.
    pub(crate) size: u64,
}

/// A record of the layout chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayoutRecord {
    /// The version of the record.
    pub(crate) version: u32,
    /// The slot, from 1.
    pub(crate) slot: u64,
    /// A random text that distinguishes this attempt from all others.
    pub(crate) nonce: String,
    /// Why the files go, in words.
    pub(crate) why: String,
    /// The files that go.
    pub(crate) inputs: Vec<LayoutInput>,
    /// When the record was made, in microseconds since 1970.
    pub(crate) made: i64,
    /// The program that wrote the record.
    pub(crate) product: String,
}

/// A digest of a key, in eight bytes.
pub(crate) fn key_digest(key: &str) -> u64 {
    (hash::identity(&[key.as_bytes()]) >> 64) as u64
}

/// The layout chain of a table.
#[derive(Clone, Debug)]
pub(crate) struct LayoutChain {
    slots: SlotChain,
}

impl LayoutChain {
    pub(crate) fn new(lake: &SharedLake, names: &TableNames) -> Self {
        LayoutChain {
            slots: SlotChain::new(lake, names.layout(), "layout records"),
        }
    }

    fn read(&self, slot: u64, body: &Bytes) -> Result<LayoutRecord, ObjectError> {
        let key = self.slots.key(slot);
        let record: LayoutRecord = unseal_body(&key, body, LAYOUT_VERSION)?;
        match record.slot == slot {
            true => Ok(record),
            false => Err(ObjectError::damaged(&key, "it belongs to another slot")),
        }
    }

    /// The newest record; the only one whose files may still be there.
    ///
    /// # Errors
    /// Those of the lake; fatal when it is damaged.
    pub(crate) async fn newest(&self) -> Result<Option<NewestSlot<LayoutRecord>>> {
        self.slots.newest(|slot, body| self.read(slot, body)).await
    }

    /// The record in `slot`.
    ///
    /// # Errors
    /// Those of the lake; fatal when it is damaged.
    pub(crate) async fn record(&self, slot: u64) -> Result<Option<LayoutRecord>> {
        match self.slots.get(slot).await? {
            Some(body) => Ok(Some(self.read(slot, &body)?)),
            None => Ok(None),
        }
    }

    /// The slots of all records, the newest first.
    ///
    /// # Errors
    /// Those of the lake.
    pub(crate) async fn slots(&self) -> Result<Vec<u64>> {
        self.slots.slots().await
    }

    /// Those of `keys` that a record names. The newest records are read first, and no more than it takes.
    ///
    /// # Errors
    /// Those of the lake; fatal when a record is damaged.
    pub(crate) async fn naming(&self, keys: HashSet<&str>) -> Result<HashSet<String>> {
        let mut named = HashSet::new();
        if keys.is_empty() {
            return Ok(named);
        }
        for slot in self.slots().await? {
            let Some(record) = self.record(slot).await? else {
                continue;
            };
            let inputs = record.inputs.into_iter().map(|input| input.key);
            named.extend(inputs.filter(|key| keys.contains(key.as_str())));
            if named.len() == keys.len() {
                break;
            }
        }
        Ok(named)
    }

    /// Puts a record; returns its checksum, or `None` when another one has its slot.
    pub(crate) async fn put(&self, record: &LayoutRecord) -> Result<Option<String>> {
        let body = seal_body(record);
        let crc = sealed_crc(&body);
        match self.slots.put_new(record.slot, body.clone()).await? {
            Put::Exists(found) if found != body => Ok(None),
            _ => Ok(Some(crc)),
        }
    }

    /// Says that all files of the record in `slot` are gone.
    pub(crate) async fn mark(&self, slot: u64, crc: &str) -> Result<()> {
        self.slots.mark(slot, crc).await
    }
}
