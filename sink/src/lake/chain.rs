//! The chain of commit records of one shard.
//!
//! Owns how a chain begins and how its newest record is found: names sort newest first, so one page of a few names
//! is enough, and no more of them are held, however long the chain. Promises that what it returns is durable, and that a foreign name is logged and
//! never mistaken for a record. Refuses to guess where records were removed.

use bytes::Bytes;
use hydrant_core::lake::{Put, SharedLake};
use hydrant_core::stream::Start;
use hydrant_core::{Error, Position, Result, ShardId, StreamId};
use serde::{Deserialize, Serialize};

use super::commit::{Commit, seal_body, unseal_body};
use super::error::ObjectError;
use super::names::{ChainNames, TableNames};

/// The newest version of [`Genesis`].
const GENESIS_VERSION: u32 = 1;

/// The version of the rule that makes keys of data files.
const KEY_FORMAT: u32 = 1;

/// How many names are listed to find the newest record, so that a few foreign names do not hide it.
const TIP_NAMES: usize = 8;

/// The program, as records name it.
pub(crate) const PRODUCT: &str = concat!("hydrant ", env!("CARGO_PKG_VERSION"));

/// The object that says where a chain begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The version of the object.
    pub version: u32,
    /// The stream.
    pub stream: StreamId,
    /// The shard.
    pub shard: ShardId,
    /// The position after which reading began: `from` of the first record.
    pub start: Position,
    /// Where reading began, as it was asked for, in a stream that had no position for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Start>,
    /// The version of the rule that makes keys of data files.
    pub key_format: u32,
    /// The program that wrote the object.
    pub product: String,
}

/// The newest object of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainTip {
    /// The chain has not begun.
    None,
    /// The chain has begun and has no record yet.
    Genesis(Genesis),
    /// The newest record; the only one that may be unfinished.
    Record(Box<Commit>),
}

impl ChainTip {
    /// The slot of the newest record; 0 without a record.
    pub fn slot(&self) -> u64 {
        match self {
            ChainTip::Record(commit) => commit.slot,
            _ => 0,
        }
    }

    /// How far the chain has come; `None` when it has not begun.
    pub fn to(&self) -> Option<Position> {
        match self {
            ChainTip::None => None,
            ChainTip::Genesis(genesis) => Some(genesis.start),
            ChainTip::Record(commit) => Some(commit.interval().to),
        }
    }
}

/// The chain of one shard.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(crate) lake: SharedLake,
    pub(crate) names: ChainNames,
    stream: StreamId,
    pub(crate) shard: ShardId,
}

/// Logs an object among the records that is not one of them.
fn log_foreign(key: &str) {
    tracing::warn!(
        key,
        "ignoring an object that is not a commit record of this chain; move it away"
    );
}

impl Chain {
    /// The chain of `shard` of `stream` in the table.
    pub fn new(lake: &SharedLake, table: &TableNames, stream: &StreamId, shard: &ShardId) -> Self {
        Chain {
            lake: SharedLake::clone(lake),
            names: table.chain(stream, shard),
            stream: stream.clone(),
            shard: shard.clone(),
        }
    }

    /// Finds the newest record, or where the chain begins.
    ///
    /// # Errors
    /// Fatal when the newest record is damaged or names were tampered with.
    pub async fn tip(&self) -> Result<ChainTip> {
        let newest = self.lake.page(&self.names.records(), "", TIP_NAMES).await?;
        let slots: Vec<Option<u64>> = newest
            .iter()
            .map(|object| self.names.slot(&object.key).filter(|slot| *slot > 0))
            .collect();
        for (at, slot) in slots.iter().enumerate() {
            let key = &newest[at].key;
            let Some(slot) = *slot else {
                log_foreign(key);
                continue;
            };
            // Slots have no holes: a record without a predecessor is not the newest of this chain.
            let before = slot - 1;
            let follows = before == 0
                || slots[at + 1..].contains(&Some(before))
                || self.lake.head(&self.names.record(before)).await?.is_some();
            let Some(body) = self.lake.get(key).await? else {
                return Err(Error::fatal(format!(
                    "`{key}` was removed while it was being read: commit records are never removed; restore it",
                )));
            };
            match self.read(slot, &body) {
                Ok(commit) if follows => return Ok(ChainTip::Record(Box::new(commit))),
                Ok(_) => {
                    return Err(Error::fatal(format!(
                        "`{}` is missing and the record after it exists: commit records are never removed; restore it",
                        self.names.record(before),
                    )));
                }
                Err(error) if follows => return Err(error.into()),
                Err(_) => log_foreign(key),
            }
        }
        if newest.len() < TIP_NAMES {
            return Ok(self
                .genesis()
                .await?
                .map_or(ChainTip::None, ChainTip::Genesis));
        }
        Err(Error::fatal(format!(
            "`{}` holds {TIP_NAMES} names or more that are not commit records, such as `{}`: move them away",
            self.names.records(),
            newest[0].key,
        )))
    }

    /// Begins the chain at `start`, and as `began`, unless it has begun, and returns where it begins.
    ///
    /// # Errors
    /// Those of the lake; fatal when the object is damaged.
    pub async fn begin(&self, start: Position, began: Option<Start>) -> Result<Genesis> {
        let genesis = Genesis {
            version: GENESIS_VERSION,
            stream: self.stream.clone(),
            shard: self.shard.clone(),
            start,
            began,
            key_format: KEY_FORMAT,
            product: PRODUCT.to_owned(),
        };
        let key = self.names.genesis();
        match self.lake.put_new(&key, seal_body(&genesis)).await? {
            Put::Created => Ok(genesis),
            Put::Exists(body) => Ok(self.read_genesis(&key, &body)?),
        }
    }

    /// Reads where the chain begins; `None` when it has not begun.
    ///
    /// # Errors
    /// Those of the lake; fatal when the object is damaged.
    pub async fn genesis(&self) -> Result<Option<Genesis>> {
        let key = self.names.genesis();
        let Some(body) = self.lake.get(&key).await? else {
            return Ok(None);
        };
        Ok(Some(self.read_genesis(&key, &body)?))
    }

    fn read_genesis(&self, key: &str, body: &[u8]) -> Result<Genesis, ObjectError> {
        let genesis: Genesis = unseal_body(key, body, GENESIS_VERSION)?;
        if genesis.key_format > KEY_FORMAT {
            return Err(ObjectError::Newer {
                key: key.to_owned(),
                found: genesis.key_format,
                known: KEY_FORMAT,
            });
        }
        if (&genesis.stream, &genesis.shard) == (&self.stream, &self.shard) {
            Ok(genesis)
        } else {
            Err(ObjectError::damaged(key, "it belongs to another chain"))
        }
    }

    /// Reads the record of `slot`.
    ///
    /// # Errors
    /// Those of the lake; fatal when the record is damaged.
    pub async fn record(&self, slot: u64) -> Result<Option<Commit>> {
        let key = self.names.record(slot);
        match self.lake.get(&key).await? {
            Some(body) => Ok(Some(self.read(slot, &body)?)),
            None => Ok(None),
        }
    }

    /// Reads the body of the record of `slot`.
    ///
    /// # Errors
    /// The body is damaged or belongs to another chain or slot.
    pub fn read(&self, slot: u64, body: &Bytes) -> Result<Commit, ObjectError> {
        let key = self.names.record(slot);
        let commit = Commit::from_body(&key, body)?;
        if commit.slot != slot
            || commit.stream != self.stream
            || commit.interval().shard != self.shard
        {
            return Err(ObjectError::damaged(
                &key,
                "it belongs to another chain or slot",
            ));
        }
        Ok(commit)
    }
}
