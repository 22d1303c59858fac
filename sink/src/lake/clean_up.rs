//! The uploads that dead owners left behind, and when they may be removed.
//!
//! Owns the listing of the uploads of a table, which is made again when a shard is cleaned up and the last one is older than
//! a minute, and the uploads of its own dropped publishes.
//! Promises to remove an upload of a shard only when no record can name it any more: its interval starts before the end
//! of what is published and finished, or it was meant to replace a vanished file and another upload was chosen, or this
//! process made it and never put the record that would have named it. Refuses to judge by age or by owner: an upload
//! whose interval starts where the chain ends may belong to a record that lands late.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hydrant_core::clock::Instant;
use hydrant_core::lake::SharedLake;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Position, Result, clock};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::chain::Chain;
use super::names::{DataFileName, TableNames};
use super::rebuild_record::RebuildRecord;

/// How old a listing of uploads may be when a shard is cleaned up.
const LISTING_AGE_MAX: Duration = Duration::from_secs(60);

/// An upload that may be one that a dead owner left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Leftover {
    upload: String,
    key: String,
    /// The stem of the file's name, which identifies the chain.
    stem: String,
    name: DataFileName,
}

impl Leftover {
    fn of(upload: String, key: String) -> Option<Self> {
        let (stem, name) = DataFileName::of(&key)?;
        Some(Leftover {
            upload,
            key,
            stem,
            name,
        })
    }
}

/// The uploads of a table that were found or left behind.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// When the uploads of the table were listed.
    listed: tokio::sync::Mutex<Option<Instant>>,
    found: Mutex<Vec<Leftover>>,
    /// The tasks that begin uploads and throw them away; they end with these.
    tasks: Mutex<JoinSet<()>>,
}

impl Leftovers {
    /// Removes the uploads of a chain that no record can name any more, now that everything up to `to` is published and
    /// finished. Returns how many.
    ///
    /// # Errors
    /// Those of the lake; the next owner tries again.
    pub(crate) async fn clean(&self, chain: &Chain, to: Position) -> Result<u64> {
        self.list(chain).await?;
        let lake = &chain.lake;
        lake.tidy(&chain.names.dir).await?;
        let is_ours = |leftover: &&Leftover| leftover.stem == chain.names.file_stem;
        let found: Vec<Leftover> = self.lock().iter().filter(is_ours).cloned().collect();
        let mut removed = 0;
        // One by one: what is not removed when this fails or is dropped is still known.
        for leftover in found {
            if Self::is_done(chain, &leftover, to).await? {
                debug_assert!(leftover.name.from <= to);
                lake.discard(&leftover.upload).await?;
                self.forget(&leftover.upload);
                removed += 1;
            }
        }
        if removed > 0 {
            let shard = &chain.shard;
            tracing::info!(%shard, removed, "removed uploads of dead owners");
        }
        Ok(removed)
    }

    /// Adds an upload that no record names yet, and that nothing else looks after.
    pub(crate) fn add(&self, upload: String, key: String) {
        self.lock().extend(Leftover::of(upload, key));
    }

    /// Forgets an upload that a record names, or that was thrown away.
    pub(super) fn forget(&self, upload: &str) {
        self.lock().retain(|known| known.upload != upload);
    }

    /// Throws away uploads of a dropped publish which no record can name, given as ids and keys. What drops them cannot
    /// wait, so this happens in a task of its own; what it cannot throw away stays for the clean-up.
    pub(crate) fn abandon(self: &Arc<Self>, lake: &SharedLake, uploads: Vec<(String, String)>) {
        let Ok(runtime) = Handle::try_current() else {
            return uploads
                .into_iter()
                .for_each(|(upload, key)| self.add(upload, key));
        };
        let (lake, leftovers) = (SharedLake::clone(lake), Arc::downgrade(self));
        let abandoning = async move {
            for (upload, key) in uploads {
                let Err(error) = lake.discard(&upload).await else {
                    continue;
                };
                let error = error.report();
                tracing::warn!(upload, %error, "cannot remove an upload; the next owner of the shard does");
                if let Some(leftovers) = leftovers.upgrade() {
                    leftovers.add(upload, key);
                }
            }
        };
        self.spawn_on(&runtime, abandoning);
    }

    /// Runs a task that ends with the process, and not with what asked for it.
    pub(crate) fn spawn_on(
        &self,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, runtime);
    }

    /// Lists the uploads of the table, unless that was done a short time ago: workers die at any time. Among them are those
    /// that this process works on, which begin where their chains end.
    async fn list(&self, chain: &Chain) -> Result<()> {
        let mut listed = self.listed.lock().await;
        let now = clock::now();
        if listed.is_some_and(|at| now.saturating_duration_since(at) < LISTING_AGE_MAX) {
            return Ok(());
        }
        let uploads = |all: &[Leftover]| -> HashSet<String> {
            all.iter().map(|known| known.upload.clone()).collect()
        };
        let table: &TableNames = &chain.names.table;
        let (data, dead_letters) = (table.data(), table.dead_letters());
        let before = uploads(&self.lock());
        chain.lake.tidy(&table.system()).await?;
        let all = chain.lake.list_uploads().await?;
        let mut found = self.lock();
        // What is left of these was listed.
        found.retain(|known| !before.contains(&known.upload));
        let added = uploads(&found);
        let ours = all.into_iter().filter(|(upload, key)| {
            let is_ours = key.starts_with(&data) || key.starts_with(&dead_letters);
            is_ours && !added.contains(upload)
        });
        found.extend(ours.filter_map(|(upload, key)| Leftover::of(upload, key)));
        *listed = Some(now);
        Ok(())
    }

    async fn is_done(chain: &Chain, leftover: &Leftover, to: Position) -> Result<bool> {
        let is_at_tip = leftover.name.from == to && !mutant::is(Mutant::CleanedAtTip);
        if leftover.name.from > to || is_at_tip {
            return Ok(false);
        }
        if leftover.name.generation == 0 {
            return Ok(true);
        }
        let rebuilds = &chain.names.rebuilds;
        for object in chain.lake.list(rebuilds).await? {
            let Some(body) = chain.lake.get(&object.key).await? else {
                continue;
            };
            let record = RebuildRecord::from_body(&object.key, &body)?;
            if record.key == leftover.key {
                let chosen = record.sealed().map(|sealed| &sealed.upload);
                return Ok(chosen != Some(&leftover.upload));
            }
        }
        Ok(false)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Leftover>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
