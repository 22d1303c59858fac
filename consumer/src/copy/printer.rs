//! The thread that writes the text of a copy, because a slow or absent reader blocks the call.
//!
//! The queue of the thread holds one job, so that a slow reader slows the stream. A job is done even if its caller
//! was dropped.

use std::fmt;

use hydrant_core::error::{Error, Result};
use hydrant_core::origin::DeadLetter;
use hydrant_core::workers;
use hydrant_process::Stdout;
use tokio::sync::{mpsc, oneshot};

/// Jobs that wait for the thread.
const JOBS_WAITING: usize = 1;

/// An output for text. Its calls may block.
pub trait TextOutput: Send + 'static {
    /// Writes the text of a batch; returns `false` when the reader has gone away and did not get it.
    fn write(&mut self, text: &[u8]) -> Result<bool>;

    /// Records the dead letters of a batch. By default each one is logged.
    fn write_dead_letters(&mut self, letters: &[DeadLetter]) -> Result<()> {
        for letter in letters {
            tracing::warn!(
                shard = %letter.shard, sequence = %letter.sequence, sub = letter.sub, reason = %letter.reason,
                "a record was not printed"
            );
        }
        Ok(())
    }

    /// Makes everything written so far survive a power cut, if the output can.
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

enum PrintJob {
    Write {
        text: Vec<u8>,
        letters: Vec<DeadLetter>,
        done: oneshot::Sender<Result<bool>>,
    },
    Sync {
        done: oneshot::Sender<Result<()>>,
    },
}

/// The handle of the thread that owns a [`TextOutput`].
pub struct Printer {
    queue: mpsc::Sender<PrintJob>,
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Printer")
    }
}

impl Printer {
    /// Starts the thread, which first opens its output with `open`.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    pub async fn start<O: TextOutput>(
        open: impl FnOnce() -> Result<O> + Send + 'static,
    ) -> Result<Self> {
        let (queue, mut jobs) = mpsc::channel(JOBS_WAITING);
        let (opened_sender, opened) = oneshot::channel();
        // A send fails if the caller was dropped meanwhile, which changes nothing for the output.
        workers::spawn_named("printer", move || {
            let mut output = match open() {
                Ok(output) => output,
                Err(error) => return drop(opened_sender.send(Err(error))),
            };
            opened_sender.send(Ok(())).ok();
            while let Some(job) = jobs.blocking_recv() {
                match job {
                    PrintJob::Write {
                        text,
                        letters,
                        done,
                    } => drop(done.send(write(&mut output, &text, &letters))),
                    PrintJob::Sync { done } => drop(done.send(output.sync())),
                }
            }
        })?;
        opened.await.map_err(|_| ended())??;
        Ok(Printer { queue })
    }

    /// Prints to standard output.
    pub async fn stdout(stdout: Stdout) -> Result<Self> {
        Printer::start(move || Ok(StdoutText(stdout))).await
    }

    /// Writes the text and the dead letters of a batch; returns `false` when the reader has gone away. If the call is
    /// dropped half way, they may still be written.
    pub(super) async fn write(&self, text: Vec<u8>, letters: Vec<DeadLetter>) -> Result<bool> {
        let (done, written) = oneshot::channel();
        let job = PrintJob::Write {
            text,
            letters,
            done,
        };
        self.queue.send(job).await.map_err(|_| ended())?;
        written.await.map_err(|_| ended())?
    }

    /// Makes everything written so far durable.
    pub(super) async fn sync(&self) -> Result<()> {
        let (done, synced) = oneshot::channel();
        let job = PrintJob::Sync { done };
        self.queue.send(job).await.map_err(|_| ended())?;
        synced.await.map_err(|_| ended())?
    }
}

fn ended() -> Error {
    Error::fatal("the printing thread has ended")
}

fn write(output: &mut impl TextOutput, text: &[u8], letters: &[DeadLetter]) -> Result<bool> {
    if !letters.is_empty() {
        output.write_dead_letters(letters)?;
    }
    Ok(text.is_empty() || output.write(text)?)
}

/// Standard output as text.
struct StdoutText(Stdout);

impl TextOutput for StdoutText {
    fn write(&mut self, text: &[u8]) -> Result<bool> {
        self.0.bytes(text)?;
        Ok(!self.0.is_closed())
    }
}
