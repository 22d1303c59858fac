//! The reading half of the seam of streams: what a reader gives, and where it begins.
//!
//! A position travels with its marks: what the reader had seen of the origins there. Streams that check at append have
//! none; where copies are dropped while reading, a reader that is opened after a stored place, with the marks of that
//! place, reads on as the one before it would have. So each read that moves the place brings the marks behind it.

use std::fmt;

use async_trait::async_trait;

use crate::batch::Batch;
use crate::error::Result;
use crate::lease::Progress;
use crate::position::Position;
use crate::shard::ShardId;

/// What a reader gives.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every one is a batch, and it is moved a few times"
)]
pub enum Read {
    /// Records, accounts, or both.
    Batch(Batch),
    /// Nothing more for now.
    Idle {
        /// Done up to here when everything before is: the position of a record, or what the reader was opened after. A
        /// reader that keeps marks names the end of what it handed out last.
        through: Position,
    },
    /// Records that are lost to this reader: retention passed, or an operator skipped corrupt data.
    Gap {
        /// What was done before.
        from: Position,
        /// The last lost position: reading continues after it.
        to: Position,
        /// Why, in words.
        why: String,
        /// The marks behind it; none where the stream checks at append.
        marks: Vec<u8>,
    },
    /// The shard has ended and everything was read.
    End {
        /// Who took over.
        children: Vec<ShardId>,
        /// The final marks, also of a shard without records, whose parents had some; none where the stream checks at
        /// append.
        marks: Vec<u8>,
    },
}

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "it is made once a reader")]
pub enum OpenAt {
    /// After the position of this progress, with the marks of the same place. Progress at [`Position::Begin`] begins where
    /// [`Progress::began`] says.
    After {
        /// How far reading is, and what its reader knew there.
        progress: Progress,
        /// The last progress of the shard's parents when nothing of the shard was read yet: the reader begins with their
        /// marks, restricted to the range of its shard. A parent has ended, or is gone from the map with what was not read.
        parents: Vec<(ShardId, Progress)>,
    },
    /// At this record, which is the first one read. Such a reader knows nothing of what came before: it is for a look.
    At(Position),
}

impl OpenAt {
    /// After a position, without marks: for a look, and for streams that check at append.
    pub fn after(to: Position) -> Self {
        OpenAt::progress(Progress {
            to,
            ..Progress::default()
        })
    }

    /// After progress, in a shard without parents or in which records were read.
    pub fn progress(progress: Progress) -> Self {
        OpenAt::After {
            progress,
            parents: Vec::new(),
        }
    }
}

/// Opens the readers of one shard under one claim.
#[async_trait]
pub trait Readers: Send + Sync + fmt::Debug {
    /// A reader, any number of times; the one before was dropped. With leases it is the stream's own, with a broker the
    /// group's own client seeks: nothing is left of a reader that was dropped.
    async fn open(&self, at: OpenAt) -> Result<Box<dyn ShardReader>>;
}

/// Reads one shard in order, from where it was opened. What an app reads twice by two readers that were opened at the same
/// place is the same: dedup lies in the reader and rests on the marks it was opened with.
#[async_trait]
pub trait ShardReader: Send + fmt::Debug {
    /// Waits for what comes next. A batch holds its bytes' permit. [`Read::Idle`] comes once each time the tip is
    /// reached; the next call then waits for an append. Cancel-safe: a dropped call has read nothing.
    async fn next(&mut self) -> Result<Read>;
}
