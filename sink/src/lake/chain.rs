//! The chain of commit records of one shard.
//!
//! Owns how a chain begins and how its newest record is found: names sort newest first, so one listing of a few names
//! is enough, however long the chain. Promises that what it answers is durable, and that a foreign name is reported and never
//! taken for a record. Refuses to guess where records were removed.

use bytes::Bytes;
use hydrant_core::lake::{Put, SharedLake};
use hydrant_core::{Error, Position, Result, ShardId, StreamId};
use serde::{Deserialize, Serialize};

use super::commit::{Commit, seal_body, unseal_body};
use super::error::ObjectError;
use super::names::{ChainNames, TableNames};

/// The version of the form of [`Genesis`].
const GENESIS_VERSION: u32 = 1;

/// The version of the rule by which keys of data files are made.
const KEY_FORMAT: u32 = 1;

/// How many names are listed to find the newest record, so that a few foreign ones hide none.
const TIP_NAMES: usize = 8;

/// The program, as records and footers name it.
pub(crate) const PRODUCT: &str = concat!("hydrant ", env!("CARGO_PKG_VERSION"));

/// Where a chain begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The version of this form.
    pub version: u32,
    /// The stream.
    pub stream: StreamId,
    /// The shard.
    pub shard: ShardId,
    /// Where reading really began: the FROM of the first record.
    pub start: Position,
    /// The rule by which keys of data files are made.
    pub key_format: u32,
    /// The program that wrote it.
    pub product: String,
}

/// The newest that a chain has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainTip {
    /// Nothing: the chain has not begun.
    None,
    /// No record yet.
    Genesis(Genesis),
    /// The newest record; the only one that may be unfinished.
    Record(Box<Commit>),
}

impl ChainTip {
    /// The slot of the newest record, 0 without one.
    pub fn slot(&self) -> u64 {
        match self {
            ChainTip::Record(commit) => commit.slot,
            _ => 0,
        }
    }

    /// How far the chain is.
    pub fn to(&self) -> Option<Position> {
        match self {
            ChainTip::None => None,
            ChainTip::Genesis(genesis) => Some(genesis.start),
            ChainTip::Record(commit) => commit.intervals.last().map(|interval| interval.to),
        }
    }
}

/// The chain of one shard.
#[derive(Clone, Debug)]
pub struct Chain {
    lake: SharedLake,
    names: ChainNames,
    stream: StreamId,
    shard: ShardId,
}

/// Tells of a name that somebody else put among the records.
fn ignored(key: &str) {
    tracing::warn!(
        key,
        "not a commit record of this chain: it is ignored; move it away"
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

    /// The lake.
    pub fn lake(&self) -> &SharedLake {
        &self.lake
    }

    /// The names of the chain's objects.
    pub fn names(&self) -> &ChainNames {
        &self.names
    }

    /// The stream.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The shard.
    pub fn shard(&self) -> &ShardId {
        &self.shard
    }

    /// The newest record, else where the chain begins.
    ///
    /// # Errors
    /// Fatal when the newest record is damaged or names were tampered with.
    pub async fn tip(&self) -> Result<ChainTip> {
        let newest = self
            .lake
            .list(&self.names.records(), Some(TIP_NAMES))
            .await?;
        let slots: Vec<Option<u64>> = newest
            .iter()
            .map(|object| self.names.slot(&object.key).filter(|slot| *slot > 0))
            .collect();
        for (at, slot) in slots.iter().enumerate() {
            let key = &newest[at].key;
            let Some(slot) = *slot else {
                ignored(key);
                continue;
            };
            // Slots have no holes: what has no predecessor is not the newest of this chain.
            let before = slot - 1;
            let follows = before == 0
                || slots[at + 1..].contains(&Some(before))
                || self.lake.size(&self.names.record(before)).await?.is_some();
            let Some(body) = self.lake.get(key).await? else {
                return Err(Error::fatal(format!(
                    "`{key}` was removed while it was being read: commit records are never removed",
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
                Err(_) => ignored(key),
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

    /// Begins the chain at `start` unless it has begun, and answers where it begins.
    ///
    /// # Errors
    /// Those of the lake; fatal when the object is damaged.
    pub async fn begin(&self, start: Position) -> Result<Genesis> {
        let genesis = Genesis {
            version: GENESIS_VERSION,
            stream: self.stream.clone(),
            shard: self.shard.clone(),
            start,
            key_format: KEY_FORMAT,
            product: PRODUCT.to_owned(),
        };
        let key = self.names.genesis();
        match self.lake.put_new(&key, seal_body(&genesis)).await? {
            Put::Created => Ok(genesis),
            Put::Exists(body) => Ok(self.read_genesis(&key, &body)?),
        }
    }

    /// Where the chain begins; `None` when it has not begun.
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
            Err(ObjectError::damaged(key, "it is of another chain"))
        }
    }

    /// The record of `slot`.
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
    /// It is damaged or belongs elsewhere.
    pub fn read(&self, slot: u64, body: &Bytes) -> Result<Commit, ObjectError> {
        let key = self.names.record(slot);
        let commit = Commit::from_body(&key, body)?;
        if commit.slot != slot
            || commit.stream != self.stream
            || commit.interval(&key)?.shard != self.shard
        {
            return Err(ObjectError::damaged(&key, "it is of another chain or slot"));
        }
        Ok(commit)
    }
}
