//! Stops a process: the first signal drains, the second one ends it at once.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock;

/// Signals within this time count as one: `timeout`, a terminal and service managers signal a process and its group.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// The phase of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The process works.
    Running,
    /// Intake has stopped; work under way is finished and published.
    Draining,
    /// The process ends at once.
    Aborting,
}

/// Asks all parts of a process to stop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    phase: watch::Sender<Phase>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown {
            phase: watch::Sender::new(Phase::Running),
        }
    }
}

impl Shutdown {
    /// Starts in [`Phase::Running`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves to `phase`, unless it has been reached; phases never go back.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
        debug_assert!(self.phase() >= phase, "phases only advance");
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether intake has stopped.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Resolves at `phase` or a later one. Cancel-safe.
    pub async fn reached(&self, phase: Phase) {
        let mut watch = self.phase.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        drop(watch.wait_for(|current| *current >= phase).await);
    }

    /// Resolves when draining starts. Cancel-safe.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Listens for SIGTERM and SIGINT until the process ends: the first drains, a second one aborts.
    #[cfg(unix)]
    pub async fn listen(self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut first = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let now = clock::now();
            let is_second = match first {
                Some(first) => now.saturating_duration_since(first) >= ONE_SIGNAL,
                None => self.is_draining(),
            };
            first.get_or_insert(now);
            self.advance(if is_second {
                Phase::Aborting
            } else {
                Phase::Draining
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_advance() {
        let shutdown = Shutdown::new();
        shutdown.advance(Phase::Draining);
        shutdown.draining().await;
        shutdown.advance(Phase::Running);
        assert!(shutdown.is_draining());
        shutdown.clone().advance(Phase::Aborting);
        shutdown.reached(Phase::Aborting).await;
    }
}
