//! What can go wrong at a seam, and what the caller does about it.
//!
//! A variant is an outcome; its fields say where. Callers match on [`Error::disposition`], never on text. A bad record
//! is data and no error: it becomes a [`crate::origin::DeadLetter`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::position::Position;
use crate::shard::ShardId;

/// The result of a seam's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try again, not before the delay.
    Retry {
        /// The shortest useful delay.
        after: Duration,
    },
    /// Another owner has published: throw buffers away and open again after its position.
    Superseded {
        /// What is done.
        after: Position,
    },
    /// The right to work on the shard is gone: stop the shard's task and write nothing more.
    Fenced,
    /// Read the shard map again and route by it.
    Reroute,
    /// The user must change input or configuration; nothing was done.
    Refused,
    /// The process cannot go on with this shard.
    Fatal,
}

/// An error at one of the seams.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another owner published first.
    #[error("shard `{shard}` was published up to {after} by another owner")]
    Superseded {
        /// The shard.
        shard: ShardId,
        /// What is done.
        after: Position,
    },
    /// A lease or ledger write found a newer owner.
    #[error("the lease of shard `{shard}` of app `{app}` now belongs to `{owner}`")]
    Fenced {
        /// The app.
        app: String,
        /// The shard.
        shard: ShardId,
        /// Who holds it.
        owner: String,
    },
    /// The shard takes no more appends.
    #[error("shard `{shard}` is closed: read the shard map again")]
    Sealed {
        /// The shard.
        shard: ShardId,
    },
    /// An append starts after what the shard has of its origin.
    #[error(
        "append to shard `{shard}` starts at {from} but the shard has its origin only up to {mark}"
    )]
    OutOfOrder {
        /// The shard.
        shard: ShardId,
        /// What the shard has.
        mark: Position,
        /// Where the append starts.
        from: Position,
    },
    /// An append goes back to records that its origin passed over when it began in the shard: the shard does not have
    /// them, and could not tell them from what it has if they were appended now.
    #[error("{0}")]
    Rewound(Box<Rewound>),
    /// The disk is full; stored data stays readable.
    #[error("no space left to write `{}`: free some space, and writing continues by itself", path.display())]
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
        /// What does not fit.
        detail: String,
    },
    /// What the user asked for cannot be done as asked.
    #[error("{message}")]
    Refused {
        /// What is wrong, where, and what to write or run instead.
        message: String,
    },
    /// The thing does not exist.
    #[error("{message}")]
    NotFound {
        /// What does not exist, and how to make it.
        message: String,
    },
    /// The process was asked to end before it had begun: nothing was done, and nothing is wrong.
    #[error("{message}")]
    Stopped {
        /// What it was about to do.
        message: String,
    },
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// The operation, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A remote answer or a timeout that may pass.
    #[error("{message}")]
    Unavailable {
        /// What did not answer.
        message: String,
        /// The shortest useful delay.
        after: Duration,
    },
    /// A broken invariant or a state that no retry can mend.
    #[error("{message}")]
    Fatal {
        /// What happened, and what to do.
        message: String,
    },
}

/// What an append holds that its origin passed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "append to shard `{shard}` holds a record at {at} of an origin that the shard has only after {start}: let the app \
     send its records as new ones with `hydrant stream reprocess`"
)]
pub struct Rewound {
    /// The shard of the append.
    pub shard: ShardId,
    /// The shard has everything of the origin after this, up to its mark.
    pub start: Position,
    /// Where the record lies upstream.
    pub at: Position,
}

/// The delay before an operation on a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);

impl Error {
    /// A refusal with this message.
    pub fn refused(message: impl Into<String>) -> Self {
        Error::Refused {
            message: message.into(),
        }
    }

    /// A state that no retry can mend.
    pub fn fatal(message: impl Into<String>) -> Self {
        Error::Fatal {
            message: message.into(),
        }
    }

    /// From a failed file operation; a full disk becomes [`Error::Full`], and a lack of descriptors says what to raise.
    pub fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let lacking = rustix::io::Errno::MFILE.raw_os_error();
        let source = match source.raw_os_error() {
            Some(code) if code == lacking => std::io::Error::other(format!(
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
                source,
            },
        }
    }

    /// As [`Error::io`], where a directory is named in which something is to be made or found: refused when it is a file,
    /// or its path leads through one.
    pub fn directory(action: &'static str, dir: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{AlreadyExists, NotADirectory};
        match source.kind() {
            AlreadyExists | NotADirectory => Error::refused(format!(
                "`{}` is not a directory: it is a file, or its path leads through one: name another place",
                dir.display()
            )),
            _ => Error::io(action, dir, source),
        }
    }

    /// What the caller does about it.
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
