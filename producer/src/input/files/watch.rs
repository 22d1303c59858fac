//! Waits until something changes in the directories of inputs.
//!
//! Owns the watcher of the operating system, and how often files are looked at where it reports nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// How often files are looked at when the system reports changes.
const POLL: Duration = Duration::from_secs(1);

/// How often when it does not.
const POLL_BLIND: Duration = Duration::from_millis(250);

/// A watcher of directories.
pub(super) struct DirectoryWatch {
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    woken: Receiver<()>,
    /// Keeps the channel open without a watcher.
    _wake: SyncSender<()>,
}

impl DirectoryWatch {
    pub(super) fn new() -> Self {
        let (wake, woken) = sync_channel(1);
        let on_event = wake.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Looking at a directory is an event too.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                // One that waits already is enough.
                let _full = on_event.try_send(());
            }
        });
        DirectoryWatch {
            watcher: watcher.map_err(|error| blind(&error)).ok(),
            directories: BTreeSet::new(),
            woken,
            _wake: wake,
        }
    }

    pub(super) fn add(&mut self, directories: Vec<PathBuf>) {
        for directory in directories {
            if let Some(watcher) = &mut self.watcher
                && !self.directories.contains(&directory)
            {
                match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                    Ok(()) => {
                        self.directories.insert(directory);
                    }
                    // It does not exist yet, or may not be listed, which the walk reports.
                    Err(_) if std::fs::read_dir(&directory).is_err() => {}
                    Err(error) => {
                        blind(&error);
                        self.watcher = None;
                    }
                }
            }
        }
        self.directories.retain(|directory| directory.exists());
    }

    pub(super) fn wait(&self) {
        let poll = if self.watcher.is_some() {
            POLL
        } else {
            POLL_BLIND
        };
        match self.woken.recv_timeout(poll) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

fn blind(error: &notify::Error) {
    tracing::warn!(%error, "the system does not report changes to files: the producer looks at them four times a second");
}
