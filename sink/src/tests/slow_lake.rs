//! A lake whose every change takes its time and leaves an event.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::Result;
use hydrant_core::clock;
use hydrant_core::lake::{Lake, Put, Reveal, Sealed, SharedLake, Upload};
use hydrant_core::stream::{OpenAt, SharedStream};
use hydrant_testing::layer::{LakeLayer, Layered};

use super::support::*;
use crate::lake::{Commit, SYSTEM};
use crate::shard::flush_rules::FlushRules;
use crate::table::spec::TableRules;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LakeEvent {
    /// A reader was opened here.
    Opened(Box<OpenAt>),
    /// A reader returned the batch that begins with this record.
    Read(u64),
    /// The whole object under this key was read.
    Got(String),
    /// An upload for this key began.
    Began(String),
    /// So many bytes were written for this key.
    Wrote(String, usize),
    /// The record of this slot was put.
    Recorded(u64),
    /// A reveal of the file under this key began.
    Revealing(String),
    /// The file under this key became visible.
    Revealed(String),
}

/// Events in the order in which they happened; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    all: Arc<Mutex<Vec<LakeEvent>>>,
}

impl Events {
    pub(crate) fn add(&self, event: LakeEvent) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(event);
    }

    pub(crate) fn all(&self) -> Vec<LakeEvent> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    /// The intervals in which files were uploaded, in order; one that goes on after another one comes again.
    pub(crate) fn uploading(&self) -> Vec<String> {
        let interval = |key: &str| {
            let name = key.rsplit('/').next()?;
            Some(name.rsplit_once('_')?.0.to_owned())
        };
        let keys = self.all().into_iter().filter_map(|event| match event {
            LakeEvent::Began(key) | LakeEvent::Wrote(key, _) => interval(&key),
            _ => None,
        });
        let mut intervals: Vec<String> = keys.collect();
        intervals.dedup();
        intervals
    }

    /// Where readers of the source were opened.
    pub(crate) fn opened(&self) -> Vec<OpenAt> {
        let opened = self.all().into_iter().filter_map(|event| match event {
            LakeEvent::Opened(at) => Some(*at),
            _ => None,
        });
        opened.collect()
    }
}

/// A lake before another one that takes `delay` for each write, put and reveal.
#[derive(Debug)]
pub(crate) struct SlowLake {
    inner: SharedLake,
    delay: Duration,
    events: Events,
}

/// The same process, with a lake that takes its time.
pub(crate) async fn slowed(process: &mut SinkProcess, delay: Duration) -> Events {
    let stream = stream_of(1);
    slowed_over(
        process,
        delay,
        stream,
        TableRules::default(),
        FlushRules::default(),
    )
    .await
}

/// The same, with a stream to rebuild from and other rules.
pub(crate) async fn slowed_over(
    process: &mut SinkProcess,
    delay: Duration,
    stream: SharedStream,
    rules: TableRules,
    flush: FlushRules,
) -> Events {
    let events = Events::default();
    process.lake = Arc::new(Layered(SlowLake {
        inner: SharedLake::clone(&process.lake),
        delay,
        events: events.clone(),
    }));
    process.stage = process.stage_with(stream, rules, flush).await.unwrap();
    events
}

#[derive(Debug)]
struct SlowUpload {
    inner: Box<dyn Upload>,
    delay: Duration,
    key: String,
    events: Events,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for SlowUpload {
    fn id(&self) -> &str {
        self.inner.id()
    }
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        clock::sleep(self.delay).await;
        let wrote = LakeEvent::Wrote(self.key.clone(), bytes.len());
        self.inner.write(bytes).await?;
        self.events.add(wrote);
        Ok(())
    }
    async fn seal(self: Box<Self>) -> Result<Sealed> {
        self.inner.seal().await
    }
}

#[async_trait]
impl LakeLayer for SlowLake {
    fn below(&self) -> &dyn Lake {
        &*self.inner
    }

    async fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        clock::sleep(self.delay).await;
        let put = self.inner.put_new(key, body.clone()).await?;
        if key.starts_with(SYSTEM) && key.contains("/r/") && key.ends_with(".json") {
            let slot = Commit::from_body(key, &body).unwrap().slot;
            self.events.add(LakeEvent::Recorded(slot));
        }
        Ok(put)
    }

    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>> {
        let inner = self.inner.upload(key).await?;
        self.events.add(LakeEvent::Began(key.to_owned()));
        Ok(Box::new(SlowUpload {
            inner,
            delay: self.delay,
            key: key.to_owned(),
            events: self.events.clone(),
        }))
    }

    async fn reveal(&self, sealed: &Sealed) -> Result<Reveal> {
        self.events.add(LakeEvent::Revealing(sealed.key.clone()));
        clock::sleep(self.delay).await;
        let reveal = self.inner.reveal(sealed).await?;
        self.events.add(LakeEvent::Revealed(sealed.key.clone()));
        Ok(reveal)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.events.add(LakeEvent::Got(key.to_owned()));
        self.inner.get(key).await
    }
}
