//! File descriptors: the process asks for as many as it may have, and says at start when they are too few.
//!
//! A process needs the same number for any number of shards: a shard's files are open only while a thread works on them.
//! The usual soft limit of 1,024 would do; it is raised all the same.

use rustix::process::{Resource, getrlimit, setrlimit};

use hydrant_core::error::{Error, Result};

/// Beside the files that threads work on: standard streams, runtime, watcher, inputs, files of a lake on their way,
/// connections of the metrics, locks.
const BASE: u64 = 80;
/// What a thread has open at most: lock, pulse, control file, two segments and a directory.
const FILES_PER_THREAD: u64 = 6;

/// The fewest threads for disk calls with which a process is of use.
const THREADS_MIN: usize = 8;

/// Raises the soft limit to the hard one, which needs no rights, and answers for how many threads that make disk calls
/// it suffices, up to `threads`.
pub(super) fn threads_within_limit(threads: usize) -> Result<usize> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            // The limit that there is may do; what follows counts what there is.
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
            "this process may have {files} files open and needs {needed}: raise the hard limit with `ulimit -Hn 1024`, or \
             with `LimitNOFILE=1024` in a unit of systemd"
        )));
    }
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
