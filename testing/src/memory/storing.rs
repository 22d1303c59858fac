//! A log that stores what comes as it comes, as Kinesis does: its readers deduplicate.
//!
//! Each put is stored as one record with its appends inside, in the shard that owns the put's hash when it lands.
//! Sequence numbers rise by steps that nobody can guess. What may happen to a put is data ([`StreamFaults`]): it is lost,
//! or only its answer is; it lands long after it was given up, wherever its hash belongs by then; it is acknowledged and
//! placed after what another client puts later. What one client is answered stays in order.

mod lane;
mod log;
mod reader;

pub(super) use lane::{PutAnswer, StoringWriter};
pub(super) use log::{Landing, ShardPut, StoredLog};
pub(super) use reader::SiftingReader;

use std::time::Duration;

/// How long what was acknowledged may take to be placed behind what other clients put later.
pub(super) const REORDERS_WITHIN: Duration = Duration::from_secs(5);

/// How long readers remember an ended origin.
const ENDED_KEPT: Duration = Duration::from_secs(24 * 3600);
