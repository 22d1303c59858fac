//! The seam of lakes: an object store reduced to what exactly-once needs.
//!
//! Two ways to make an object. [`Lake::put_new`] is atomic and never replaces: the commit records. [`Lake::upload`]
//! collects a file invisibly; [`Lake::reveal`] makes it visible under its key, once: an upload that was revealed is gone,
//! so that a late second reveal finds nothing to show. Keys are relative to the lake's root, with `/`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// How many objects a listing asks for at once: as many as object stores give.
const PAGE_OBJECTS: usize = 1_000;

/// What a conditional put found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is new and durable.
    Created,
    /// The key was taken; this is what is there, and it is durable.
    Exists(Bytes),
}

/// A file that is complete and durable but not visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The key under which it will be visible.
    pub key: String,
    /// The id of the upload: a path locally, an upload id on S3. Used once.
    pub upload: String,
    /// The parts, for stores that complete an upload from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Bytes.
    pub size: u64,
    /// CRC-32C of the whole file.
    pub crc: u32,
}

/// One uploaded part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// CRC-32C of the part.
    pub crc: u32,
    /// What the store answered.
    pub etag: String,
}

/// What became of a reveal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reveal {
    /// The file is visible and durable.
    Revealed,
    /// It was visible already, with the same size and checksum.
    Already,
    /// Neither the upload nor the file exists.
    Vanished,
}

/// One listed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The key.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// A file being collected. What is left of one that is dropped before it is sealed is listed, or is gone.
#[async_trait]
pub trait Upload: Send + fmt::Debug {
    /// What [`Lake::discard`] takes to throw it away.
    fn id(&self) -> &str;
    /// Appends bytes, in pieces of any size: a store whose parts have a least or an equal size collects them. What may yet
    /// succeed it tries again by itself, from where it stands. An error that may be retried says that the upload is gone:
    /// another one has to be made from the first byte.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;
    /// Makes it durable.
    async fn seal(self: Box<Self>) -> Result<Sealed>;
}

/// Where tables live.
#[async_trait]
pub trait Lake: Send + Sync + fmt::Debug {
    /// The URL that opens it, without secrets.
    fn url(&self) -> &str;
    /// Makes an object unless its key is taken. After a lost answer the same body may be put again; finding it there is
    /// `Created` or `Exists` with that body, never a second object.
    async fn put_new(&self, key: &str, body: Bytes) -> Result<Put>;
    /// Starts to collect a file for `key`.
    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>>;
    /// Makes a sealed file visible; see [`Reveal`]. A file under the key with other content is an alarm.
    async fn reveal(&self, sealed: &Sealed) -> Result<Reveal>;
    /// Throws an upload away; no error when it is gone. From then on it is gone for good.
    async fn discard(&self, upload: &str) -> Result<()>;
    /// An object's bytes.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;
    /// The bytes of an object in a range, fewer where the object ends before it does; `None` without the object.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>>;
    /// What a listing says of one object; `None` without the object.
    async fn head(&self, key: &str) -> Result<Option<Object>>;
    /// The first objects by key whose keys start with `prefix` and come behind `after`, which is empty for the first page:
    /// `most` of them, fewer only where no more follow. Where names count down these are the newest ones; no more are held
    /// in memory, however many there are.
    async fn page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<Object>>;
    /// All objects whose keys start with `prefix`, by key.
    async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let mut all = Vec::new();
        self.visit(prefix, &mut |object| all.push(object)).await?;
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }
    /// Shows every object whose key starts with `prefix` to `seen`, in any order, without holding them all.
    async fn visit(&self, prefix: &str, seen: &mut (dyn FnMut(Object) + Send)) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = self.page(prefix, &after, PAGE_OBJECTS).await?;
            let is_last = page.len() < PAGE_OBJECTS;
            if let Some(last) = page.last() {
                after.clone_from(&last.key);
            }
            page.into_iter().for_each(&mut *seen);
            if is_last {
                return Ok(());
            }
        }
    }
    /// The names of the "directories" directly below `prefix`, which ends with `/`.
    async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>>;
    /// The uploads that exist: their ids and the keys they are for.
    async fn list_uploads(&self) -> Result<Vec<(String, String)>>;
    /// Removes what dead processes left of their puts of objects whose keys start with `prefix` and exist by now.
    async fn tidy(&self, prefix: &str) -> Result<()>;
    /// Removes objects, as many as a store takes at once in each request; no error for those that are gone. After an
    /// error some are removed. They are gone for good, and so are their uploads if they have just become visible.
    async fn delete_many(&self, keys: &[String]) -> Result<()>;
    /// Removes an object; no error when it is gone.
    async fn delete(&self, key: &str) -> Result<()> {
        self.delete_many(&[key.to_owned()]).await
    }
}

/// A shared lake.
pub type SharedLake = Arc<dyn Lake>;
