//! The lake: objects, commit chains, and recovery after a crash.
//!
//! Owns the names of all objects in the lake ([`TableNames`], [`ChainNames`]), the lake in a directory ([`FileLake`]),
//! the commit records and their chain ([`Commit`], [`Chain`]), the steps by which an interval becomes visible exactly
//! once ([`Publisher`], [`Finisher`]), and the identity of a table. Refuses to decide by intervals or by time which of
//! two owners is right: creating a record under its name is the compare-and-set, and each process that finds a record
//! finishes it.

mod chain;
mod clean_up;
mod commit;
mod error;
mod file;
pub(crate) mod finisher;
mod identity;
mod lakes;
pub(crate) mod layout;
mod names;
pub(crate) mod position_hash;
mod publisher;
mod rebuild_record;
pub(crate) mod requests;
mod retention;
pub(crate) mod slots;

pub(crate) use chain::PRODUCT;
pub use chain::{Chain, ChainTip, Genesis, TipRecord};
pub use clean_up::Leftovers;
pub use commit::{
    COMMIT_VERSION, Commit, CommitCounts, CommitFile, FileKind, Gap, OriginSum, RescuedCount,
    ShardInterval, TimeRange, UntimedRows, seal_body, unseal_body,
};
pub(crate) use commit::{checksum, digest, sealed_crc};
pub use error::ObjectError;
pub use file::FileLake;
pub use finisher::{Finisher, Rebuild, Remade};
pub(crate) use identity::identify;
pub use lakes::{LakeLocation, Lakes};
pub use layout::{AbsentValue, ExpiredFiles, GivenUpFiles, WhatExpires, expire, give_up_missing};
pub use names::{ChainNames, SYSTEM, TableNames, generation_key};
pub use publisher::{ChainProgress, Publisher};
pub use rebuild_record::{GivenUp, LostRows, RebuildOutcome, RebuildRecord};
pub use retention::TableRetention;
