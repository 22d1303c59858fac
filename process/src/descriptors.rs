//! File descriptors: raises the limit of the process, and refuses to start when it is too low.
//!
//! A process needs the same number of descriptors for any number of shards: a shard's files are open only while a
//! thread works on them. The usual soft limit of 1,024 is enough; a lower one is raised.

use rustix::process::{Resource, getrlimit, setrlimit};

use hydrant_core::error::{Error, Result};

/// Descriptors beside those of the disk threads: standard streams, runtime, watcher, inputs, uploads to a lake,
/// connections for metrics, locks.
const BASE: u64 = 80;
/// The most files that a thread has open: lock, pulse, control file, two segments and a directory.
const FILES_PER_THREAD: u64 = 6;

/// The fewest disk threads with which a process can work.
const THREADS_MIN: usize = 8;

/// Raises the soft limit to the hard one, which needs no privilege, and answers how many disk threads the limit allows,
/// up to `threads`.
pub(super) fn threads_within_limit(threads: usize) -> Result<usize> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            // The present limit may be enough: it is checked below.
            tracing::debug!(%error, "cannot raise the limit of open files");
        }
    }
    match getrlimit(Resource::Nofile).current {
        Some(files) => threads_for(files, threads),
        None => Ok(threads),
    }
}

fn threads_for(files: u64, threads: usize) -> Result<usize> {
    let fit = files.saturating_sub(BASE) / FILES_PER_THREAD;
    let fit = usize::try_from(fit).unwrap_or(usize::MAX).min(threads);
    if fit < THREADS_MIN.min(threads) {
        let needed = BASE + FILES_PER_THREAD * THREADS_MIN as u64;
        return Err(Error::refused(format!(
            "this process may open {files} files and needs {needed}: raise the hard limit with `ulimit -Hn 1024`, or \
             with `LimitNOFILE=1024` in a unit of systemd"
        )));
    }
    debug_assert!(fit as u64 * FILES_PER_THREAD + BASE <= files);
    Ok(fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_make_few_threads_and_too_few_are_refused() {
        assert_eq!(threads_for(1024, 64).unwrap(), 64);
        assert_eq!(threads_for(256, 64).unwrap(), 29);
        assert_eq!(threads_for(128, 64).unwrap(), 8);
        let refused = threads_for(127, 64).unwrap_err().report();
        for word in ["127 files", "needs 128", "ulimit -Hn"] {
            assert!(refused.contains(word), "{refused}");
        }
    }
}
