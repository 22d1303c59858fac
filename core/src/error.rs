//! The errors of the seams, and what a caller does about each.
//!
//! A variant is an outcome; its fields say where. Callers match on [`Error::disposition`], never on text. A bad record
//! is data, not an error: it becomes a [`crate::origin::DeadLetter`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::position::Position;
use crate::shard::ShardId;

/// The result of an operation of a seam.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try again after the delay.
    Retry {
        /// The shortest useful delay.
        after: Duration,
    },
    /// Another owner has published: discard the buffers and open again after its position.
    Superseded {
        /// The position up to which the other owner has published.
        after: Position,
    },
    /// The lease is lost: stop the shard's task and write nothing more.
    Fenced,
    /// Read the shard map again and route by it.
    Reroute,
    /// The user must change input or configuration; nothing was done.
    Refused,
    /// The process cannot continue with this shard.
    Fatal,
}

/// An error at one of the seams. Clones are for those who wait for one call together.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another owner published first.
    #[error("shard `{shard}` was published up to {after} by another owner")]
    Superseded {
        /// The shard.
        shard: ShardId,
        /// The position up to which that owner has published.
        after: Position,
    },
    /// A lease or ledger write found a newer owner.
    #[error("the lease of shard `{shard}` of app `{app}` was lost to {owner}")]
    Fenced {
        /// The app.
        app: String,
        /// The shard.
        shard: ShardId,
        /// The present owner.
        owner: String,
    },
    /// The shard takes no more appends.
    #[error("shard `{shard}` is closed: read the shard map again")]
    Sealed {
        /// The shard.
        shard: ShardId,
    },
    /// An append starts after the last record that the shard has of its origin.
    #[error(
        "append to shard `{shard}` starts after {from}, but the shard has its origin only up to {mark}: a predecessor \
         is missing"
    )]
    OutOfOrder {
        /// The shard.
        shard: ShardId,
        /// The last record that the shard has of the origin.
        mark: Position,
        /// Where the append starts.
        from: Position,
    },
    /// An append goes back to records that its origin skipped when it began in the shard. The shard does not have them,
    /// and if they were appended now they would look like records that it has.
    #[error("{0}")]
    Rewound(Box<Rewound>),
    /// The disk is full; stored data stays readable.
    #[error("no space left to write `{}`: free some space, and writing continues", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Stored bytes are not what was written.
    #[error("corrupt data in `{}` at byte {offset}: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The byte offset in it.
        offset: u64,
        /// What is wrong with the bytes.
        detail: String,
    },
    /// The user must change the input or the configuration.
    #[error("{message}")]
    Refused {
        /// What is wrong, where, and what to write or run instead.
        message: String,
    },
    /// Something that the user named does not exist.
    #[error("{message}")]
    NotFound {
        /// What does not exist, and how to make it.
        message: String,
    },
    /// A signal stopped the process before it had begun: it did nothing, and nothing is wrong.
    #[error("{message}")]
    Stopped {
        /// What the process was about to do.
        message: String,
    },
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// The operation, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: Arc<io::Error>,
    },
    /// A remote service did not answer, which may pass.
    #[error("{message}")]
    Unavailable {
        /// What did not answer.
        message: String,
        /// The shortest useful delay.
        after: Duration,
    },
    /// A broken invariant, or a state that no retry can repair.
    #[error("{message}")]
    Fatal {
        /// What happened, and what to do.
        message: String,
    },
}

/// The record of an append that its origin skipped before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "append to shard `{shard}` holds a record at {at} of an origin that the shard has only after {start}: make the app \
     send its records as new ones with `hydrant stream reprocess`"
)]
pub struct Rewound {
    /// The shard of the append.
    pub shard: ShardId,
    /// The shard has all records of the origin after this position, up to its mark.
    pub start: Position,
    /// The position of the record in the upstream shard.
    pub at: Position,
}

/// Says in a failed file operation what was done and where.
pub trait OrCannot<T> {
    /// Converts the error as [`Error::io`] does.
    fn or_cannot(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> OrCannot<T> for io::Result<T> {
    fn or_cannot(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::io(action, path, error))
    }
}

/// The delay before an operation on a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);

impl Error {
    /// Creates a refusal with this message.
    pub fn refused(message: impl Into<String>) -> Self {
        Error::Refused {
            message: message.into(),
        }
    }

    /// Creates a fatal error with this message.
    pub fn fatal(message: impl Into<String>) -> Self {
        Error::Fatal {
            message: message.into(),
        }
    }

    /// Creates the error of a task that panicked. The message of a panic may quote a record, so it is not part of it.
    pub fn panicked(what: impl fmt::Display) -> Self {
        Error::fatal(format!("{what} panicked, which is a fault of hydrant"))
    }

    /// Stored bytes of this file are not what was written.
    pub fn corrupt(path: &Path, offset: u64, detail: impl Into<String>) -> Self {
        Error::Corrupt {
            path: path.to_owned(),
            offset,
            detail: detail.into(),
        }
    }

    /// Converts the error of a file operation. A full disk becomes [`Error::Full`]; a lack of file descriptors says
    /// which limit to raise.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let lacking = rustix::io::Errno::MFILE.raw_os_error();
        let source = match source.raw_os_error() {
            Some(code) if code == lacking => io::Error::other(format!(
                "{source}: raise the hard limit with `ulimit -Hn 1024`, or with `LimitNOFILE=1024` in a unit of systemd"
            )),
            _ => source,
        };
        match source.kind() {
            StorageFull | QuotaExceeded => Error::Full {
                path: path.to_owned(),
            },
            _ => Error::Io {
                action,
                path: path.to_owned(),
                source: Arc::new(source),
            },
        }
    }

    /// Converts the error of an operation in a directory, as [`Error::io`] does. A directory that is a file, or whose
    /// path leads through one, is a refusal.
    pub fn directory(action: &'static str, dir: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{AlreadyExists, NotADirectory};
        match source.kind() {
            AlreadyExists | NotADirectory => Error::refused(format!(
                "`{}` is not a directory: it is a file, or its path leads through one: name another directory",
                dir.display()
            )),
            _ => Error::io(action, dir, source),
        }
    }

    /// What the caller does about this error.
    ///
    /// ```
    /// use std::path::Path;
    /// use hydrant_core::{Disposition, Error};
    ///
    /// // Callers match on what to do, never on a message.
    /// let full = Error::Full { path: Path::new("data/raw").to_owned() };
    /// assert!(matches!(full.disposition(), Disposition::Retry { .. }));
    /// let mistake = Error::refused("`local:` names no directory: write `local:data/raw`");
    /// assert_eq!(mistake.disposition(), Disposition::Refused);
    /// ```
    pub fn disposition(&self) -> Disposition {
        match self {
            Error::Superseded { after, .. } => Disposition::Superseded { after: *after },
            Error::Fenced { .. } => Disposition::Fenced,
            Error::Sealed { .. } => Disposition::Reroute,
            Error::Full { .. } => Disposition::Retry { after: FULL_RETRY },
            Error::Unavailable { after, .. } => Disposition::Retry { after: *after },
            Error::Refused { .. }
            | Error::NotFound { .. }
            | Error::Stopped { .. }
            | Error::Rewound(_) => Disposition::Refused,
            Error::OutOfOrder { .. }
            | Error::Corrupt { .. }
            | Error::Io { .. }
            | Error::Fatal { .. } => Disposition::Fatal,
        }
    }

    /// The message with its causes, for people.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
