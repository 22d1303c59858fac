//! Writes progress to the ledger while the producer sends.

use std::time::Duration;

use futures::future::BoxFuture;
use hydrant_core::clock::{self, Instant};
use hydrant_core::{Disposition, Error, Result, Shutdown};

use super::{CADENCE, FileEntry, LedgerProgress, ProducerLedger};

/// How long a full disk is tried again once the process is to end.
const PATIENCE: Duration = Duration::from_secs(5);

type LedgerWriting = BoxFuture<'static, (ProducerLedger, LedgerProgress, Result<()>)>;

/// Writes progress to the ledger while the producer sends, not more often than [`CADENCE`].
pub(crate) struct LedgerWriter {
    ledger: Option<ProducerLedger>,
    writing: Option<LedgerWriting>,
    wanted: LedgerProgress,
    due: Option<Instant>,
    last: Instant,
    /// Files that were opened before they are sent: how many, how many of them are being written, and are written.
    opened: u64,
    writing_opened: u64,
    written: u64,
    /// Whether one of them is waited for.
    is_urgent: bool,
    /// Why the last attempt failed, where another one may not.
    failure: Option<Error>,
}

impl LedgerWriter {
    pub(crate) fn new(ledger: ProducerLedger) -> Self {
        LedgerWriter {
            wanted: LedgerProgress::default(),
            ledger: Some(ledger),
            writing: None,
            due: None,
            last: clock::now(),
            opened: 0,
            writing_opened: 0,
            written: 0,
            is_urgent: false,
            failure: None,
        }
    }

    /// Notes how far everything of the simulator is stored.
    pub(crate) fn note(&mut self, next_index: u64) {
        if next_index > self.wanted.index {
            self.wanted.index = next_index;
            self.due.get_or_insert(self.last + CADENCE);
        }
    }

    /// Notes how far a file is stored.
    pub(crate) fn note_file(&mut self, entry: FileEntry) {
        self.wanted.files.insert(entry.number, entry);
        self.due.get_or_insert(self.last + CADENCE);
    }

    /// Notes that files need not be remembered any more.
    pub(crate) fn forget(&mut self, numbers: &[u32]) {
        self.wanted.forgotten.extend(numbers);
        self.due.get_or_insert(self.last + CADENCE);
    }

    /// Notes a file of which nothing was sent yet; answers by what [`LedgerWriter::has_written`] knows it.
    pub(crate) fn open_file(&mut self, entry: FileEntry) -> u64 {
        self.note_file(entry);
        self.opened += 1;
        self.opened
    }

    /// Writes down what was noted as soon as may be, since a file that was opened by this note waits for it: now, or behind
    /// what is being written.
    pub(crate) fn hurry(&mut self, opened: u64) {
        let is_being_written = self.writing.is_some() && opened <= self.writing_opened;
        if !is_being_written && !self.is_urgent {
            self.is_urgent = true;
            if self.failure.is_none() {
                self.due = Some(clock::now());
            }
        }
    }

    /// Whether the file that was opened by this note is in the ledger durably.
    pub(crate) const fn has_written(&self, opened: u64) -> bool {
        self.written >= opened
    }

    /// Writes what is due; never returns when nothing was noted. Cancel-safe.
    ///
    /// # Errors
    /// When writing failed for good; a full disk is tried again.
    pub(crate) async fn turn(&mut self) -> Result<()> {
        if self.writing.is_none() {
            clock::sleep_until(self.due).await;
            self.start();
        }
        self.written().await
    }

    /// Writes down everything that was noted; a full disk is tried again until there is room, or until the process has
    /// drained for [`PATIENCE`].
    ///
    /// # Errors
    /// When writing failed for good.
    pub(crate) async fn finish(&mut self, shutdown: &Shutdown) -> Result<()> {
        let mut patience = None;
        loop {
            if self.writing.is_some() {
                self.written().await?;
            }
            if self.ledger.is_none() {
                return Err(lost());
            }
            if self.due.is_none() {
                return Ok(());
            }
            if self.failure.is_some() {
                if shutdown.is_draining() {
                    let ends = *patience.get_or_insert_with(|| clock::now() + PATIENCE);
                    if clock::now() >= ends {
                        return Err(self.behind());
                    }
                    clock::sleep_until(Some(ends.min(clock::now() + CADENCE))).await;
                } else {
                    // Cancel-safe: neither holds anything.
                    tokio::select! {
                        biased;
                        () = shutdown.draining() => {}
                        () = clock::sleep_until(self.due) => {}
                    }
                }
            }
            self.start();
        }
    }

    /// Nothing is lost, since the ledger never runs ahead of the stream.
    fn behind(&mut self) -> Error {
        let path = self
            .ledger
            .as_ref()
            .map(|ledger| ledger.path.display().to_string());
        let why = self.failure.take().map(|error| error.report());
        Error::fatal(format!(
            "the ledger `{}` could not be written before the process ended, and lags behind the stream: make room \
             and start again with it, which sends what it does not record and stores nothing twice: {}",
            path.unwrap_or_default(),
            why.unwrap_or_default()
        ))
    }

    fn start(&mut self) {
        if let Some(mut ledger) = self.ledger.take() {
            let wanted = std::mem::take(&mut self.wanted);
            self.wanted.index = wanted.index;
            self.due = None;
            self.is_urgent = false;
            self.writing_opened = self.opened;
            self.writing = Some(Box::pin(async move {
                let result = ledger.advance(&wanted).await;
                (ledger, wanted, result)
            }));
        }
    }

    async fn written(&mut self) -> Result<()> {
        let Some(writing) = &mut self.writing else {
            return Err(lost());
        };
        let (ledger, tried, result) = writing.await;
        self.writing = None;
        self.last = clock::now();
        self.ledger = Some(ledger);
        match result {
            Ok(()) => {
                self.failure = None;
                self.written = self.writing_opened;
                if self.due.is_some() {
                    let rest = if self.is_urgent {
                        Duration::ZERO
                    } else {
                        CADENCE
                    };
                    self.due = Some(self.last + rest);
                }
                Ok(())
            }
            Err(error) => {
                // What was noted meanwhile is newer.
                self.wanted.index = self.wanted.index.max(tried.index);
                self.wanted.forgotten.extend(tried.forgotten);
                for (number, entry) in tried.files {
                    self.wanted.files.entry(number).or_insert(entry);
                }
                let Disposition::Retry { after } = error.disposition() else {
                    return Err(error);
                };
                if self.failure.is_none() {
                    tracing::warn!(
                        error = error.report(),
                        "the ledger could not be written: the producer tries again"
                    );
                }
                self.due = Some(self.last + CADENCE + after);
                self.failure = Some(error);
                Ok(())
            }
        }
    }
}

fn lost() -> Error {
    Error::fatal("the ledger was dropped while it was written, which is a fault of hydrant")
}
