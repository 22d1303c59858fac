//! A segment that has no name yet: it gets one when its first bytes are durable.
//!
//! Its temporary name is its own: a holder of the shard's lock and a process that fences the shard may be making the same
//! segment. A draft that fails removes its file; what cannot be removed is a leftover.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::disk::{DiskFile, Open, SharedDisk};
use hydrant_core::error::OrCannot;
use hydrant_core::{Context, Result};

use super::segment::{Head, Segment, name};

/// A segment file under a temporary name.
#[derive(Debug)]
pub(crate) struct Draft {
    disk: SharedDisk,
    file: Arc<dyn DiskFile>,
    dir: PathBuf,
    temporary: PathBuf,
    head: Head,
    len: u64,
}

impl Draft {
    /// A file with a head.
    pub(crate) async fn begin(ctx: &Context, dir: &Path, head: Head, bytes: Bytes) -> Result<Self> {
        let name = name(head.number, head.base);
        let temporary = dir.join(format!(".{name}.{}.tmp", ctx.random.identity()));
        let file = ctx.disk.open(&temporary, Open::Create).await;
        let mut draft = Draft {
            disk: SharedDisk::clone(&ctx.disk),
            file: file.or_cannot("create", &temporary)?,
            dir: dir.to_owned(),
            temporary,
            head,
            len: 0,
        };
        draft.append(vec![bytes]).await?;
        Ok(draft)
    }

    /// Bytes of the head.
    pub(crate) fn head_len(&self) -> u64 {
        self.head.len
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Adds frames.
    pub(crate) async fn append(&mut self, parts: Vec<Bytes>) -> Result<()> {
        let len: usize = parts.iter().map(Bytes::len).sum();
        let written = self.file.write_at(self.len, parts).await;
        if written.is_err() {
            self.remove().await;
        }
        written.or_cannot("write", &self.temporary)?;
        self.len += len as u64;
        Ok(())
    }

    /// Gives it up.
    pub(crate) async fn remove(&self) {
        drop(self.disk.remove(&self.temporary).await);
    }

    /// Makes the bytes durable, then the name.
    pub(crate) async fn publish(self) -> Result<Segment> {
        let path = self.dir.join(name(self.head.number, self.head.base));
        let publish = async {
            self.file.sync().await.or_cannot("sync", &self.temporary)?;
            let named = self.disk.rename_new(&self.temporary, &path).await;
            named.or_cannot("name", &path)?;
            self.disk
                .sync_dir(&self.dir)
                .await
                .or_cannot("sync", &self.dir)
        };
        if let Err(error) = publish.await {
            // It is not there any more when only its name could not be made durable.
            self.remove().await;
            return Err(error);
        }
        Ok(Segment {
            file: self.file,
            path,
            number: self.head.number,
            base: self.head.base,
        })
    }
}
