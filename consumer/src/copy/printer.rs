//! The thread that writes the text of a copy, because a slow or absent reader blocks the call.
//!
//! The queue of the thread holds one job, so that a slow reader slows the stream. A job is done even if its caller
//! was dropped.

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
    fn write_dead_letters(&mut self, dead_letters: &[DeadLetter]) -> Result<()> {
        for letter in dead_letters {
            tracing::warn!(
                shard = %letter.shard, sequence = %letter.sequence, sub = letter.sub, reason = %letter.reason,
                "a record could not be printed; it counts as a dead letter"
            );
        }
        Ok(())
    }

    /// Makes everything written so far survive a power cut, if the output can.
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

impl TextOutput for Stdout {
    fn write(&mut self, text: &[u8]) -> Result<bool> {
        self.bytes(text)?;
        Ok(!self.is_closed())
    }
}

type PrintJob = Box<dyn FnOnce(&mut dyn TextOutput) + Send>;

/// The handle of the thread that owns a [`TextOutput`].
#[derive(Clone, Debug)]
pub struct Printer {
    queue: mpsc::Sender<PrintJob>,
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
        let (queue, mut jobs) = mpsc::channel::<PrintJob>(JOBS_WAITING);
        let (opened_sender, opened) = oneshot::channel();
        // A send fails if the caller was dropped meanwhile, which changes nothing for the output.
        workers::spawn_named("printer", move || {
            let mut output = match open() {
                Ok(output) => output,
                Err(error) => return drop(opened_sender.send(Err(error))),
            };
            opened_sender.send(Ok(())).ok();
            while let Some(job) = jobs.blocking_recv() {
                job(&mut output);
            }
        })?;
        opened.await.map_err(|_| ended())??;
        Ok(Printer { queue })
    }

    /// Runs a job on the thread. If the call is dropped half way, the job may still be done.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn TextOutput) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, done) = oneshot::channel();
        let job = Box::new(move |output: &mut dyn TextOutput| drop(sender.send(job(output))));
        self.queue.send(job).await.map_err(|_| ended())?;
        done.await.map_err(|_| ended())?
    }

    /// Writes the text and the dead letters of a batch; returns `false` when the reader has gone away.
    pub(super) async fn write(&self, text: Vec<u8>, dead_letters: Vec<DeadLetter>) -> Result<bool> {
        let write = move |output: &mut dyn TextOutput| {
            if !dead_letters.is_empty() {
                output.write_dead_letters(&dead_letters)?;
            }
            Ok(text.is_empty() || output.write(&text)?)
        };
        self.run(write).await
    }

    /// Makes everything written so far durable.
    pub(super) async fn sync(&self) -> Result<()> {
        self.run(|output| output.sync()).await
    }
}

fn ended() -> Error {
    Error::fatal("the printing thread has ended")
}
