//! A lake in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use hydrant_core::error::{Error, Result};
use hydrant_core::lake::{Lake, Object, Put, Reveal, Sealed, Upload};

#[derive(Debug, Default)]
struct LakeState {
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, (String, BytesMut)>,
    next_upload: u64,
}

/// A lake in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryLake {
    state: Arc<Mutex<LakeState>>,
}

impl MemoryLake {
    /// An empty lake.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, LakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct MemoryUpload {
    lake: MemoryLake,
    key: String,
    upload: String,
}

#[async_trait]
impl Upload for MemoryUpload {
    fn id(&self) -> &str {
        &self.upload
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match self.lake.lock().uploads.get_mut(&self.upload) {
            Some((_, collected)) => {
                collected.extend_from_slice(&bytes);
                Ok(())
            }
            None => Err(discarded(&self.upload)),
        }
    }

    async fn seal(self: Box<Self>) -> Result<Sealed> {
        let state = self.lake.lock();
        let Some((_, collected)) = state.uploads.get(&self.upload) else {
            return Err(discarded(&self.upload));
        };
        Ok(Sealed {
            key: self.key.clone(),
            upload: self.upload.clone(),
            parts: Vec::new(),
            size: collected.len() as u64,
            crc: crc32c::crc32c(collected),
        })
    }
}

fn object(key: &str, body: &Bytes) -> Object {
    Object {
        key: key.to_owned(),
        size: body.len() as u64,
    }
}

/// A new upload may succeed.
fn discarded(upload: &str) -> Error {
    Error::Unavailable {
        message: format!("upload `{upload}` was discarded while it was written"),
        after: Duration::ZERO,
    }
}

#[async_trait]
impl Lake for MemoryLake {
    fn url(&self) -> &str {
        "memory:"
    }

    async fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        let mut state = self.lock();
        if let Some(there) = state.objects.get(key) {
            return Ok(Put::Exists(there.clone()));
        }
        state.objects.insert(key.to_owned(), body);
        Ok(Put::Created)
    }

    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>> {
        let mut state = self.lock();
        let upload = format!("upload-{:08}", state.next_upload);
        state.next_upload += 1;
        let collected = (key.to_owned(), BytesMut::new());
        state.uploads.insert(upload.clone(), collected);
        Ok(Box::new(MemoryUpload {
            lake: self.clone(),
            key: key.to_owned(),
            upload,
        }))
    }

    async fn reveal(&self, sealed: &Sealed) -> Result<Reveal> {
        let mut state = self.lock();
        if let Some(there) = state.objects.get(&sealed.key) {
            if there.len() as u64 != sealed.size || crc32c::crc32c(there) != sealed.crc {
                let key = &sealed.key;
                return Err(Error::fatal(format!(
                    "`{key}` holds another file than was sealed"
                )));
            }
            state.uploads.remove(&sealed.upload);
            return Ok(Reveal::Already);
        }
        match state.uploads.remove(&sealed.upload) {
            Some((key, collected)) => {
                state.objects.insert(key, collected.freeze());
                Ok(Reveal::Revealed)
            }
            None => Ok(Reveal::Vanished),
        }
    }

    async fn discard(&self, upload: &str) -> Result<()> {
        self.lock().uploads.remove(upload);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.lock().objects.get(key).cloned())
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let state = self.lock();
        Ok(state.objects.get(key).map(|body| {
            let at = |offset: u64| {
                usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(body.len())
            };
            body.slice(at(range.start)..at(range.end).max(at(range.start)))
        }))
    }

    async fn head(&self, key: &str) -> Result<Option<Object>> {
        let state = self.lock();
        Ok(state.objects.get(key).map(|body| object(key, body)))
    }

    async fn page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<Object>> {
        let state = self.lock();
        let found = state
            .objects
            .range(prefix.max(after).to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_empty() || key.as_str() > after)
            .take(most)
            .map(|(key, body)| object(key, body));
        Ok(found.collect())
    }

    async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>> {
        let objects = self.list(prefix).await?;
        let dirs: BTreeSet<String> = objects
            .iter()
            .filter_map(|object| object.key.strip_prefix(prefix)?.split_once('/'))
            .map(|(dir, _)| dir.to_owned())
            .collect();
        Ok(dirs.into_iter().collect())
    }

    async fn list_uploads(&self) -> Result<Vec<(String, String)>> {
        let state = self.lock();
        let uploads = state.uploads.iter();
        Ok(uploads
            .map(|(upload, (key, _))| (upload.clone(), key.clone()))
            .collect())
    }

    async fn tidy(&self, _prefix: &str) -> Result<()> {
        // A put leaves nothing but the object.
        Ok(())
    }

    async fn delete_many(&self, keys: &[String]) -> Result<()> {
        let mut state = self.lock();
        for key in keys {
            state.objects.remove(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance_lake;
    use hydrant_core::lake::SharedLake;

    #[tokio::test]
    async fn it_conforms() {
        conformance_lake::conforms(async || Arc::new(MemoryLake::new()) as SharedLake).await;
    }
}
