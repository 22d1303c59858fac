//! Reads files and standard input on a thread that decompresses, splits and finds keys.
//!
//! The thread runs ahead by [`AHEAD_CHUNKS`] chunks and then waits. A pipe may block it without end; the process ends
//! without it. It begins when it has the files of the ledger.

use hydrant_core::{Budget, Context, Random, Result, workers};
use tokio::sync::{mpsc, oneshot};

use super::files::open_file::ChunkSender;
use super::files::own_files::OwnFiles;
use super::files::walk::InputWalk;
use super::indexer::Indexer;
use super::{LINE_BYTES_MAX_DEFAULT, ReadOptions};
use crate::batcher::InputChunk;
use crate::config::{Config, Files};
use crate::ledger::FileEntry;

/// Chunks that the thread may have ready beside the one in its hand, which the budget does not know
/// yet. A chunk is what one read brings (256 KiB, with its index up to 4 MiB) or one longest line.
const AHEAD_CHUNKS: usize = 1;

/// What is read at once when records are sent at a rate: little, since places are known behind what was read only.
const READ_BYTES_PACED: usize = 4 << 10;

/// Records that come from a thread.
pub(crate) struct LineSource {
    start: Option<oneshot::Sender<Option<Vec<FileEntry>>>>,
    chunks: mpsc::Receiver<Result<InputChunk>>,
    /// The part of a chunk for which no record was due yet.
    rest: Option<InputChunk>,
    budget: Budget,
}

impl LineSource {
    pub(crate) fn open(
        files: &Files,
        config: &Config,
        context: &Context,
        indexer: Indexer,
    ) -> Result<Self> {
        let (start, starts) = oneshot::channel::<Option<Vec<FileEntry>>>();
        let (sender, chunks) = mpsc::channel(AHEAD_CHUNKS);
        let reading = ReadOptions {
            format: files.format,
            record_bytes_max: LINE_BYTES_MAX_DEFAULT.min(indexer.limits.record_bytes_max),
            at_end: config.at_end(),
            grows: files.follow,
            remembers: files.follow || config.remembered.is_some(),
            memory_bytes: context.budget.total_bytes(),
            read_bytes: config
                .rate
                .and(std::num::NonZeroUsize::new(READ_BYTES_PACED)),
        };
        // Of its own: the thread draws when it comes to it, which must not change what others draw.
        let random = Random::seeded(context.random.u64());
        let inputs = files.inputs.clone();
        let own = OwnFiles::of(config);
        workers::spawn_named("input", move || {
            // The other end may be gone: the process stops.
            let Ok(known) = starts.blocking_recv() else {
                return;
            };
            let sender = ChunkSender::new(indexer, random, sender, known.is_some());
            let known = known.unwrap_or_default();
            InputWalk::new(inputs, own, reading, known, sender).run();
        })?;
        Ok(LineSource {
            start: Some(start),
            chunks,
            rest: None,
            budget: context.budget.clone(),
        })
    }

    /// Starts the thread with the files of the ledger, if the producer has one.
    pub(crate) fn start(&mut self, known: Option<Vec<FileEntry>>) {
        if let Some(start) = self.start.take() {
            // A thread that is gone has ended with an error, which the first `take` returns.
            let _gone = start.send(known);
        }
    }

    pub(crate) async fn take(&mut self, most: u64) -> Result<Option<InputChunk>> {
        let mut chunk = match self.rest.take() {
            Some(rest) => rest,
            None => match self.chunks.recv().await {
                Some(chunk) => chunk?,
                None => return Ok(None),
            },
        };
        if let Some(front) = chunk.split_front(usize::try_from(most).unwrap_or(usize::MAX)) {
            self.rest = Some(std::mem::replace(&mut chunk, front));
        }
        chunk.permit = self.budget.acquire(chunk.memory_bytes()).await;
        Ok(Some(chunk))
    }
}
