//! The chain of commit records of one shard.
//!
//! Owns how a chain begins, what its newest record is, and the mark that says that this record is finished. Promises that
//! what it returns is durable, and that a record belongs to this chain and slot. Refuses damaged records.

use bytes::Bytes;
use hydrant_core::lake::{Put, SharedLake};
use hydrant_core::stream::Start;
use hydrant_core::{Position, Result, ShardId, StreamId};
use serde::{Deserialize, Serialize};

use super::commit::{Commit, seal_body, unseal_body};
use super::error::ObjectError;
use super::names::{ChainNames, TableNames};
use super::slots::SlotChain;

/// The newest version of [`Genesis`].
const GENESIS_VERSION: u32 = 1;

/// The version of the rule that makes keys of data files.
const KEY_FORMAT: u32 = 1;

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
    Record(Box<TipRecord>),
}

/// The newest record of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TipRecord {
    /// The record.
    pub commit: Commit,
    /// Whether all its files are known to have been visible once.
    pub is_finished: bool,
    /// The checksum of the record, for its mark.
    pub(crate) crc: String,
}

impl ChainTip {
    /// The slot of the newest record; 0 without a record.
    pub fn slot(&self) -> u64 {
        match self {
            ChainTip::Record(tip) => tip.commit.slot,
            _ => 0,
        }
    }

    /// How far the chain has come; `None` when it has not begun.
    pub fn to(&self) -> Option<Position> {
        match self {
            ChainTip::None => None,
            ChainTip::Genesis(genesis) => Some(genesis.start),
            ChainTip::Record(tip) => Some(tip.commit.interval().to),
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
    pub(crate) slots: SlotChain,
}

impl Chain {
    /// The chain of `shard` of `stream` in the table.
    pub fn new(lake: &SharedLake, table: &TableNames, stream: &StreamId, shard: &ShardId) -> Self {
        let names = table.chain(stream, shard);
        Chain {
            slots: SlotChain::new(lake, names.records(), "commit records"),
            lake: SharedLake::clone(lake),
            names,
            stream: stream.clone(),
            shard: shard.clone(),
        }
    }

    /// Finds the newest record, or where the chain begins.
    ///
    /// # Errors
    /// Fatal when the newest record is damaged or names were tampered with.
    pub async fn tip(&self) -> Result<ChainTip> {
        let newest = self.slots.newest(|slot, body| self.read(slot, body));
        if let Some(newest) = newest.await? {
            let commit = newest.object;
            return Ok(ChainTip::Record(Box::new(TipRecord {
                is_finished: newest.is_marked || commit.files.is_empty(),
                commit,
                crc: newest.crc,
            })));
        }
        let genesis = self.genesis().await?;
        Ok(genesis.map_or(ChainTip::None, ChainTip::Genesis))
    }

    /// Says in the lake that every file which the record of `slot` names was visible once: the next owner has nothing to
    /// finish. `crc` is the checksum of the record. What fails is logged: it saves work only.
    pub(crate) async fn mark(&self, slot: u64, crc: &str) {
        if let Err(error) = self.slots.mark(slot, crc).await {
            let (shard, error) = (&self.shard, error.report());
            tracing::warn!(%shard, slot, error, "cannot mark a record as finished; the next owner finishes it again");
        }
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
