//! File descriptors: the process asks for as many as it may have.
//!
//! A shard that is read and written holds about ten; the usual soft limit of 1,024 is for programs that call `select`,
//! which this one does not.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, which needs no rights.
pub(super) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        // The limit that there is may do; a file that cannot be opened says what to raise.
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}
