//! Objects in numbered slots that are never freed, and the marks beside them.
//!
//! Owns how the newest object of such a chain is found: names sort newest first, so one page of a few names is enough,
//! however long the chain. The mark of a slot sorts just before its object, so the same page says whether the newest object is
//! done. Promises that a foreign name is logged and never mistaken for an object of the chain. Refuses to guess where
//! objects were removed.

use std::collections::HashSet;

use bytes::Bytes;
use hydrant_core::lake::{Put, SharedLake};
use hydrant_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::commit::{seal_body, sealed_crc};
use super::error::ObjectError;
use super::names::TableNames;

/// The newest version of [`DoneMark`].
const MARK_VERSION: u32 = 1;

/// How many names are listed to find the newest object, so that a few foreign names do not hide it.
const NEWEST_NAMES: usize = 8;

/// What the mark beside an object holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DoneMark {
    pub(crate) version: u32,
    /// The checksum that the object ends with.
    pub(crate) record: String,
}

impl DoneMark {
    /// Reads the stored form.
    pub(crate) fn from_body(key: &str, body: &[u8]) -> Result<Self, ObjectError> {
        super::commit::unseal_body(key, body, MARK_VERSION)
    }
}

/// The newest object of a chain.
#[derive(Clone, Debug)]
pub(crate) struct NewestSlot<T> {
    pub(crate) object: T,
    /// Whether a mark says that all that the object asks for was done.
    pub(crate) is_marked: bool,
    /// The checksum that the object ends with, for its mark.
    pub(crate) crc: String,
}

/// A chain of objects below a prefix.
#[derive(Clone, Debug)]
pub(crate) struct SlotChain {
    lake: SharedLake,
    prefix: String,
    /// What its objects are, in messages.
    what: &'static str,
}

impl SlotChain {
    pub(crate) fn new(lake: &SharedLake, prefix: String, what: &'static str) -> Self {
        SlotChain {
            lake: SharedLake::clone(lake),
            prefix,
            what,
        }
    }

    /// The key of the object in `slot`.
    pub(crate) fn key(&self, slot: u64) -> String {
        format!("{}{}", self.prefix, TableNames::record_name(slot))
    }

    fn mark_key(&self, slot: u64) -> String {
        format!("{}{}", self.prefix, TableNames::mark_name(slot))
    }

    /// The body of the object in `slot`.
    pub(crate) async fn get(&self, slot: u64) -> Result<Option<Bytes>> {
        self.lake.get(&self.key(slot)).await
    }

    /// Makes the object in `slot` unless there is one.
    pub(crate) async fn put_new(&self, slot: u64, body: Bytes) -> Result<Put> {
        self.lake.put_new(&self.key(slot), body).await
    }

    /// Says that all that the object in `slot` asks for was done. Anybody may say so, late, twice or never.
    pub(crate) async fn mark(&self, slot: u64, crc: &str) -> Result<()> {
        let mark = DoneMark {
            version: MARK_VERSION,
            record: crc.to_owned(),
        };
        let key = self.mark_key(slot);
        self.lake.put_new(&key, seal_body(&mark)).await.map(drop)
    }

    /// Whether `slot` has a mark, or an object follows it: either proves that all that the object in `slot` asks for was
    /// done.
    pub(crate) async fn is_done(&self, slot: u64) -> Result<bool> {
        Ok(self.get(slot + 1).await?.is_some()
            || self.lake.get(&self.mark_key(slot)).await?.is_some())
    }

    /// All slots that have an object, the newest first.
    pub(crate) async fn slots(&self) -> Result<Vec<u64>> {
        let mut slots = Vec::new();
        let mut seen = |object: hydrant_core::lake::Object| {
            slots.extend(TableNames::slot_of(&self.prefix, &object.key).filter(|slot| *slot > 0));
        };
        self.lake.visit(&self.prefix, &mut seen).await?;
        slots.sort_unstable_by(|a, b| b.cmp(a));
        Ok(slots)
    }

    /// Finds the newest object and reads it.
    ///
    /// # Errors
    /// Fatal when the newest object is damaged or names were tampered with.
    pub(crate) async fn newest<T>(
        &self,
        read: impl Fn(u64, &Bytes) -> Result<T, ObjectError>,
    ) -> Result<Option<NewestSlot<T>>> {
        let (prefix, what) = (&self.prefix, self.what);
        let page = self.lake.page(prefix, "", NEWEST_NAMES).await?;
        let marks = page.iter().map(|object| &object.key);
        let marks = marks.filter_map(|key| TableNames::marked_slot_of(prefix, key));
        let marks: HashSet<u64> = marks.collect();
        let is_mark = |key: &str| TableNames::marked_slot_of(prefix, key).is_some();
        let names = page.iter().filter(|object| !is_mark(&object.key));
        let names: Vec<(&str, Option<u64>)> = names
            .map(|object| {
                let slot = TableNames::slot_of(prefix, &object.key);
                (object.key.as_str(), slot.filter(|slot| *slot > 0))
            })
            .collect();
        for (at, (key, slot)) in names.iter().enumerate() {
            let Some(slot) = *slot else {
                log_foreign(key, what);
                continue;
            };
            // Slots have no holes: an object without a predecessor is not the newest of this chain.
            let before = slot - 1;
            let follows = before == 0
                || names[at + 1..]
                    .iter()
                    .any(|(_, other)| *other == Some(before))
                || self.lake.head(&self.key(before)).await?.is_some();
            let Some(body) = self.lake.get(key).await? else {
                return Err(Error::fatal(format!(
                    "`{key}` was removed while it was being read: {what} are never removed; restore it",
                )));
            };
            match read(slot, &body) {
                Ok(object) if follows => {
                    return Ok(Some(NewestSlot {
                        object,
                        is_marked: marks.contains(&slot),
                        crc: sealed_crc(&body),
                    }));
                }
                Ok(_) => {
                    return Err(Error::fatal(format!(
                        "`{}` is missing and the record after it exists: {what} are never removed; restore it",
                        self.key(before),
                    )));
                }
                Err(error) if follows => return Err(error.into()),
                Err(_) => log_foreign(key, what),
            }
        }
        if page.len() < NEWEST_NAMES {
            return Ok(None);
        }
        Err(Error::fatal(format!(
            "`{prefix}` holds {NEWEST_NAMES} names or more that are not {what}, such as `{}`: move them away",
            page[0].key,
        )))
    }
}

/// Logs an object in a chain that is not one of its objects.
fn log_foreign(key: &str, what: &str) {
    tracing::warn!(
        key,
        "ignoring an object among {what} that is not one of this chain; move it away"
    );
}
