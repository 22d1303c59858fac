//! The client of a consumer group: one task reads all partitions, and a reader is a seek in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use hydrant_core::budget::Budget;
use hydrant_core::error::{Error, Result};
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{OpenAt, Read, Readers, ShardReader, SharedStream};
use tokio::sync::mpsc;

/// What is counted of a client.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts {
    /// Clients that were made: that of the group, and one for each reader without a claim.
    pub(crate) clients: AtomicU64,
    /// Readers that were opened on the group's client.
    pub(crate) seeks: AtomicU64,
    /// Readers that exist.
    pub(crate) readers: AtomicU64,
    /// Partitions that the client reads now.
    pub(crate) partitions: AtomicU64,
}

/// A count that lives as long as what it counts.
#[derive(Debug)]
struct Counted {
    counts: Arc<ClientCounts>,
    of: fn(&ClientCounts) -> &AtomicU64,
}

impl Counted {
    fn new(counts: &Arc<ClientCounts>, of: fn(&ClientCounts) -> &AtomicU64) -> Self {
        of(counts).fetch_add(1, Ordering::SeqCst);
        let counts = Arc::clone(counts);
        Counted { counts, of }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.counts).fetch_sub(1, Ordering::SeqCst);
    }
}

/// A partition to read from a place on.
#[derive(Debug)]
pub(crate) struct Seek {
    shard: ShardId,
    at: OpenAt,
    reads: mpsc::Sender<Result<Read>>,
}

/// Opens the readers of one partition.
#[derive(Debug)]
pub(crate) struct SeekingReaders {
    pub(crate) shard: ShardId,
    pub(crate) seeks: mpsc::Sender<Seek>,
    pub(crate) counts: Arc<ClientCounts>,
}

#[async_trait]
impl Readers for SeekingReaders {
    async fn open(&self, at: OpenAt) -> Result<Box<dyn ShardReader>> {
        let (sender, reads) = mpsc::channel(1);
        let seek = Seek {
            shard: self.shard.clone(),
            at,
            reads: sender,
        };
        let sought = self.seeks.send(seek).await;
        sought.map_err(|_| Error::fatal("the client has ended"))?;
        self.counts.seeks.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(SeekingReader {
            reads,
            _counted: Counted::new(&self.counts, |counts| &counts.readers),
        }))
    }
}

#[derive(Debug)]
struct SeekingReader {
    reads: mpsc::Receiver<Result<Read>>,
    _counted: Counted,
}

#[async_trait]
impl ShardReader for SeekingReader {
    async fn next(&mut self) -> Result<Read> {
        let read = self.reads.recv().await;
        read.unwrap_or_else(|| Err(Error::fatal("the client has ended")))
    }
}

/// Reads every partition that was sought, until its reader is dropped.
pub(crate) async fn serve(
    stream: SharedStream,
    budget: Budget,
    mut seeks: mpsc::Receiver<Seek>,
    counts: Arc<ClientCounts>,
) {
    counts.clients.fetch_add(1, Ordering::SeqCst);
    let mut partitions: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        // Both arms only receive; what is read stays in `partitions`.
        tokio::select! {
            biased;
            seek = seeks.recv() => {
                let Some(seek) = seek else { return };
                let counted = Counted::new(&counts, |counts| &counts.partitions);
                partitions.push(partition(&stream, &budget, seek, counted).boxed());
            }
            Some(()) = partitions.next() => {}
        }
    }
}

async fn partition(stream: &SharedStream, budget: &Budget, seek: Seek, _counted: Counted) {
    let Seek { shard, at, reads } = seek;
    let reading = async {
        let mut reader = match stream.reader(&shard, at, budget).await {
            Ok(reader) => reader,
            Err(error) => return drop(reads.send(Err(error)).await),
        };
        while let Ok(room) = reads.reserve().await {
            room.send(reader.next().await);
        }
    };
    // Both arms only wait.
    tokio::select! {
        biased;
        () = reads.closed() => {}
        () = reading => {}
    }
}
