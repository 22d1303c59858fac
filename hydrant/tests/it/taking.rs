//! Operators who take files of a table away, beside sinks that are killed, and what was in the files.
//!
//! Whatever is taken is kept first, so that an oracle can count its records: each is in the table or in a taken file, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::lake::{Lake, SharedLake};
use hydrant_core::{Context, Result};
use hydrant_sink::lake::{Commit, Lakes, TableNames, WhatExpires, expire, give_up_missing};
use hydrant_testing::layer::{LakeLayer, Layered};

/// How files are taken away.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taking {
    /// All of a partition are expired.
    Partition,
    /// All that are older than the present are expired, dead letters too.
    Before,
    /// One is removed by hand that is proven to have been visible.
    ByHand,
    /// What was removed by hand is given up.
    Missing,
}

/// The files that were taken, by key; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct TakenFiles(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl TakenFiles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files below a prefix, with their contents.
    pub(crate) fn below(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let files = self.lock().clone().into_iter();
        files.filter(|(key, _)| key.starts_with(prefix)).collect()
    }
}

/// A lake that keeps what is removed from it.
#[derive(Debug)]
struct KeepingLake {
    below: SharedLake,
    taken: TakenFiles,
}

#[async_trait]
impl LakeLayer for KeepingLake {
    fn below(&self) -> &dyn Lake {
        &*self.below
    }

    async fn delete_many(&self, keys: &[String]) -> Result<()> {
        for key in keys {
            if let Some(body) = self.below.get(key).await? {
                self.taken.lock().insert(key.clone(), body);
            }
        }
        self.below.delete_many(keys).await
    }
}

/// An operator of one table.
pub(crate) struct TableOperator {
    lake: SharedLake,
    names: TableNames,
    context: Context,
    taken: TakenFiles,
}

impl TableOperator {
    pub(crate) async fn open(
        url: &str,
        names: TableNames,
        context: &Context,
        taken: &TakenFiles,
    ) -> Result<Self> {
        let below = Lakes::default().open(url, context).await?;
        Ok(TableOperator {
            lake: Arc::new(Layered(KeepingLake {
                below,
                taken: taken.clone(),
            })),
            names,
            context: context.clone(),
            taken: taken.clone(),
        })
    }

    /// Takes files away; `which` draws them.
    pub(crate) async fn take(&self, how: Taking, which: usize) -> Result<()> {
        match how {
            Taking::Partition => {
                let data = self.names.data();
                let files = self.lake.list(&data).await?;
                let Some(file) = files.get(which % files.len().max(1)) else {
                    return Ok(());
                };
                let columns = file.key[data.len()..].split('/');
                let columns = columns.filter_map(|part| part.split_once('='));
                let columns = columns.map(|(name, value)| (name.to_owned(), value.to_owned()));
                self.expire(WhatExpires::Partition(columns.collect())).await
            }
            Taking::Before => {
                let now = self.context.clock.wall_micros();
                self.expire(WhatExpires::Before(now)).await
            }
            Taking::ByHand => self.remove_by_hand(which).await,
            Taking::Missing => {
                let (lake, names) = (&self.lake, &self.names);
                let given_up = give_up_missing(lake, names, false, &self.context);
                given_up.await.map(drop)
            }
        }
    }

    /// Completes what operators began, and gives up what is missing.
    pub(crate) async fn complete(&self) -> Result<()> {
        let taken = self.taken.below("").into_iter();
        let taken: Vec<String> = taken.map(|(key, _)| key).collect();
        self.lake.delete_many(&taken).await?;
        // Rolls the layout chain forward, and nothing else.
        self.expire(WhatExpires::Before(0)).await?;
        self.take(Taking::Missing, 0).await
    }

    async fn expire(&self, what: WhatExpires) -> Result<()> {
        let (lake, names) = (&self.lake, &self.names);
        let expired = expire(lake, names, &what, false, &self.context);
        expired.await.map(drop)
    }

    /// A successor or a mark proves that all files of a record were visible.
    async fn remove_by_hand(&self, which: usize) -> Result<()> {
        let listed = self.lake.list(&self.names.commits()).await?;
        let keys: BTreeSet<&str> = listed.iter().map(|object| object.key.as_str()).collect();
        let is_proven = |key: &&str| {
            let Some((dir, _)) = key.rsplit_once('/') else {
                return false;
            };
            let records = format!("{dir}/");
            TableNames::slot_of(&records, key).is_some_and(|slot| {
                let next = records + &TableNames::record_name(slot + 1);
                keys.contains(&*next) || keys.contains(&*key.replace(".json", ".done"))
            })
        };
        let proven: Vec<&str> = keys.iter().copied().filter(is_proven).collect();
        let Some(key) = proven.get(which % proven.len().max(1)) else {
            return Ok(());
        };
        let Some(body) = self.lake.get(key).await? else {
            return Ok(());
        };
        let commit = Commit::from_body(key, &body)?;
        match commit.files.get(which % commit.files.len().max(1)) {
            Some(file) => {
                let key = file.sealed.key.clone();
                self.lake.delete_many(&[key]).await
            }
            None => Ok(()),
        }
    }
}
