//! The lake: objects, commit chains, and what happens after a crash.
//!
//! Owns the names of everything in the lake ([`TableNames`], [`ChainNames`]), the lake in a directory ([`FileLake`]), the
//! commit records and their chain ([`Commit`], [`Chain`]), the steps by which an interval becomes visible exactly once
//! ([`Publisher`]), and what tells a table from others. Promises what these say of themselves. Refuses to judge by
//! intervals or by time which of two owners is right: the name of a record is the compare-and-set, and whoever finds a
//! record finishes it.

mod chain;
mod clean_up;
mod commit;
mod error;
mod file;
mod finisher;
mod identity;
mod names;
mod open;
pub(crate) mod position_hash;
mod publisher;

pub(crate) use chain::PRODUCT;
pub use chain::{Chain, ChainTip, Genesis};
pub(crate) use clean_up::Leftovers;
pub(crate) use commit::digest;
pub use commit::{
    COMMIT_VERSION, Commit, CommitCounts, CommitFile, FileKind, Gap, OriginSum, ShardInterval,
    TimeRange, seal_body, unseal_body,
};
pub use error::ObjectError;
pub use file::FileLake;
pub use finisher::{Finisher, Rebuild, RebuildRecord};
pub(crate) use identity::identify;
pub use names::{ChainNames, SYSTEM, TableNames, generation_key};
pub use open::{LakeLocation, open, open_read, place};
pub use publisher::{ChainProgress, Publisher};
