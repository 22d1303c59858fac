//! A lake whose steps are wrong: records, reveals, uploads and rebuilds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::Result;
use hydrant_core::lake::{Lake, Put, Reveal, Sealed, SharedLake, Upload};
use hydrant_sink::lake::Commit;
use hydrant_testing::layer::LakeLayer;

use super::{BrokenVariant, lock};

#[derive(Debug)]
pub(super) struct VariantLake {
    pub(super) how: BrokenVariant,
    pub(super) inner: SharedLake,
    /// The uploads of this process.
    pub(super) uploads: Arc<Mutex<BTreeSet<String>>>,
    /// Files that become visible after the next commit record.
    pub(super) late: Mutex<Vec<Sealed>>,
}

fn is_record(key: &str) -> bool {
    key.contains("/commits/") && key.contains("/r/") && key.ends_with(".json")
}

#[async_trait]
impl LakeLayer for VariantLake {
    fn below(&self) -> &dyn Lake {
        &*self.inner
    }

    async fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        if self.how == BrokenVariant::RebuiltUnclaimed && key.contains("/rebuild/") {
            return Ok(Put::Created);
        }
        if !is_record(key) {
            return self.inner.put_new(key, body).await;
        }
        let ours = Commit::from_body(key, &body)?;
        if self.how == BrokenVariant::PublishedBeforeRecord {
            for file in &ours.files {
                self.inner.reveal(&file.sealed).await?;
            }
        }
        let put = self.inner.put_new(key, body).await?;
        let late = std::mem::take(&mut *lock(&self.late));
        for sealed in late {
            self.inner.reveal(&sealed).await?;
        }
        match &put {
            Put::Exists(found) if self.how == BrokenVariant::MineByInterval => {
                let found = Commit::from_body(key, found)?;
                Ok(if found.interval() == ours.interval() {
                    Put::Created
                } else {
                    put
                })
            }
            _ => Ok(put),
        }
    }

    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>> {
        Ok(Box::new(VariantUpload {
            how: self.how,
            inner: self.inner.upload(key).await?,
            lake: SharedLake::clone(&self.inner),
            uploads: Arc::clone(&self.uploads),
        }))
    }

    async fn reveal(&self, sealed: &Sealed) -> Result<Reveal> {
        let is_mine = lock(&self.uploads).contains(&sealed.upload);
        match self.how {
            BrokenVariant::FoundUnfinished if !is_mine => Ok(Reveal::Already),
            BrokenVariant::CleanedBeforeFinish if !is_mine => {
                self.inner.discard(&sealed.upload).await?;
                self.inner.reveal(sealed).await
            }
            BrokenVariant::LedgerBeforeReveal if is_mine => {
                lock(&self.late).push(sealed.clone());
                Ok(Reveal::Revealed)
            }
            BrokenVariant::RebuiltWithoutLook => match self.inner.reveal(sealed).await? {
                Reveal::Already => Ok(Reveal::Vanished),
                other => Ok(other),
            },
            _ => self.inner.reveal(sealed).await,
        }
    }
}

#[derive(Debug)]
struct VariantUpload {
    how: BrokenVariant,
    inner: Box<dyn Upload>,
    lake: SharedLake,
    uploads: Arc<Mutex<BTreeSet<String>>>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for VariantUpload {
    fn id(&self) -> &str {
        self.inner.id()
    }
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.inner.write(bytes).await
    }
    async fn seal(self: Box<Self>) -> Result<Sealed> {
        let sealed = self.inner.seal().await?;
        lock(&self.uploads).insert(sealed.upload.clone());
        if self.how == BrokenVariant::PartitionAlone {
            self.lake.reveal(&sealed).await?;
        }
        Ok(sealed)
    }
}
