//! A segment that has no name yet: it gets one when its first bytes are durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::disk::{Disk, DiskFile, Open};
use hydrant_core::{Context, Error, Result};

use super::segment::{Head, Segment, name};

/// A segment file under a temporary name.
#[derive(Debug)]
pub(crate) struct Draft {
    file: Arc<dyn DiskFile>,
    dir: PathBuf,
    temporary: PathBuf,
    head: Head,
    len: u64,
}

impl Draft {
    /// A file with a head; the caller holds the lock under which segments are made.
    pub(crate) async fn begin(ctx: &Context, dir: &Path, head: Head, bytes: Bytes) -> Result<Self> {
        let temporary = dir.join(format!(".{}.tmp", name(head.number, head.base)));
        Self::begin_at(ctx, dir, temporary, head, bytes).await
    }

    /// As [`Draft::begin`], beside others who make the same segment without a lock.
    pub(crate) async fn begin_as(
        ctx: &Context,
        dir: &Path,
        nonce: &str,
        head: Head,
        bytes: Bytes,
    ) -> Result<Self> {
        let temporary = dir.join(format!(".{}.{nonce}.tmp", name(head.number, head.base)));
        Self::begin_at(ctx, dir, temporary, head, bytes).await
    }

    async fn begin_at(
        ctx: &Context,
        dir: &Path,
        temporary: PathBuf,
        head: Head,
        bytes: Bytes,
    ) -> Result<Self> {
        let io = |error| Error::io("create", &temporary, error);
        let file = ctx.disk.open(&temporary, Open::Create).await.map_err(io)?;
        let len = bytes.len() as u64;
        let written = async {
            file.truncate(0).await?;
            file.write_at(0, vec![bytes]).await
        };
        let written = written.await.map_err(io);
        let draft = Draft {
            file,
            dir: dir.to_owned(),
            temporary,
            head,
            len,
        };
        if let Err(error) = written {
            draft.remove(&*ctx.disk).await;
            return Err(error);
        }
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
        written.map_err(|e| Error::io("write", &self.temporary, e))?;
        self.len += len as u64;
        Ok(())
    }

    /// As [`Draft::publish`], for those who are not followed by one that [removes leftovers](remove_leftovers).
    pub(crate) async fn publish_or_remove(self, disk: &dyn Disk) -> Result<Segment> {
        let temporary = self.temporary.clone();
        let published = self.publish(disk).await;
        if published.is_err() {
            // It is not there any more when only its name could not be made durable.
            drop(disk.remove(&temporary).await);
        }
        published
    }

    /// Gives it up. What cannot be removed is a leftover.
    pub(crate) async fn remove(self, disk: &dyn Disk) {
        drop(disk.remove(&self.temporary).await);
    }

    /// Makes the bytes durable, then the name.
    pub(crate) async fn publish(self, disk: &dyn Disk) -> Result<Segment> {
        let path = self.dir.join(name(self.head.number, self.head.base));
        let synced = self.file.sync().await;
        synced.map_err(|e| Error::io("sync", &self.temporary, e))?;
        let named = disk.rename_new(&self.temporary, &path).await;
        named.map_err(|e| Error::io("name", &path, e))?;
        let synced = disk.sync_dir(&self.dir).await;
        synced.map_err(|e| Error::io("sync", &self.dir, e))?;
        Ok(Segment {
            file: self.file,
            path,
            number: self.head.number,
            base: self.head.base,
        })
    }
}
