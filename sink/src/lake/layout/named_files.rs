//! The files that the commit chains of a table name, each as it counts now.
//!
//! Owns the walk over all chains and records, a few records at a time, the newest first. Promises that of a file which was made
//! again the newest generation is shown, and that one which was given up is not.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use hydrant_core::Result;
use hydrant_core::lake::SharedLake;

use crate::lake::chain::{Chain, Genesis};
use crate::lake::commit::{CommitFile, TimeRange, unseal_body};
use crate::lake::names::TableNames;
use crate::lake::rebuild_record::{LostRows, RebuildOutcome, RebuildRecord};

/// How many records are read at a time.
const RECORDS_AT_ONCE: usize = 16;

/// A file that a chain names.
#[derive(Clone, Debug)]
pub(crate) struct NamedFile {
    pub(crate) slot: u64,
    pub(crate) index: usize,
    /// How often it was made again.
    pub(crate) generation: u32,
    /// As its newest upload says.
    pub(crate) file: CommitFile,
    /// As the commit record says.
    pub(crate) recorded: CommitFile,
    /// The rows that it lacks since it was made again.
    pub(crate) lost: Option<LostRows>,
    /// The times of what its record holds.
    pub(crate) times: TimeRange,
    /// When its record was made.
    pub(crate) made: i64,
}

/// The chains of a table.
///
/// # Errors
/// Those of the lake; fatal when the beginning of a chain is damaged.
pub(crate) async fn chains(lake: &SharedLake, names: &TableNames) -> Result<Vec<Chain>> {
    let mut chains = Vec::new();
    let commits = names.commits();
    for stream in lake.list_dirs(&commits).await? {
        let prefix = format!("{commits}{stream}/");
        for shard in lake.list_dirs(&prefix).await? {
            let key = format!("{prefix}{shard}/genesis.json");
            let Some(body) = lake.get(&key).await? else {
                continue;
            };
            let genesis: Genesis = unseal_body(&key, &body, 1)?;
            chains.push(Chain::new(lake, names, &genesis.stream, &genesis.shard));
        }
    }
    Ok(chains)
}

/// The walk over one chain.
#[derive(Debug)]
pub(crate) struct ChainFiles<'a> {
    chain: &'a Chain,
    /// The slots that are left, the next one last.
    slots: Vec<u64>,
    rebuilt: BTreeMap<(u64, usize), RebuildRecord>,
}

impl<'a> ChainFiles<'a> {
    pub(crate) async fn of(chain: &'a Chain) -> Result<Self> {
        let mut slots = chain.slots.slots().await?;
        slots.reverse();
        // Read after the slots, and once: what is made again later is of the newest record only.
        let mut rebuilt = BTreeMap::<_, RebuildRecord>::new();
        for object in chain.lake.list(&chain.names.rebuilds).await? {
            let Some(body) = chain.lake.get(&object.key).await? else {
                continue;
            };
            let record = RebuildRecord::from_body(&object.key, &body)?;
            let place = (record.slot, record.index);
            let known = rebuilt.get(&place);
            if known.is_none_or(|known| known.generation < record.generation) {
                rebuilt.insert(place, record);
            }
        }
        Ok(ChainFiles {
            chain,
            slots,
            rebuilt,
        })
    }

    /// The files of the next records; `None` behind the oldest one.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<NamedFile>>> {
        if self.slots.is_empty() {
            return Ok(None);
        }
        let at = self.slots.len().saturating_sub(RECORDS_AT_ONCE);
        let slots = self.slots.split_off(at);
        let records = slots.into_iter().rev();
        let records = try_join_all(records.map(|slot| self.chain.record(slot))).await?;
        let mut files = Vec::new();
        for commit in records.into_iter().flatten() {
            let times = commit.times();
            for (index, recorded) in commit.files.into_iter().enumerate() {
                let (generation, file, lost) = match self.rebuilt.get(&(commit.slot, index)) {
                    None => (0, recorded.clone(), None),
                    Some(record) => match &record.outcome {
                        RebuildOutcome::GivenUp { .. } => continue,
                        RebuildOutcome::Replaced { file, lost } => {
                            (record.generation, file.clone(), lost.clone())
                        }
                    },
                };
                files.push(NamedFile {
                    slot: commit.slot,
                    index,
                    generation,
                    file,
                    recorded,
                    lost,
                    times,
                    made: commit.made,
                });
            }
        }
        Ok(Some(files))
    }
}
