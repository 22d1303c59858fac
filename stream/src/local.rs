//! The embedded log: a stream in a directory, for the processes of one machine.
//!
//! # What it promises
//!
//! - An acknowledged append survives a power cut, and no reader sees an append that a power cut could take back. So an
//!   offset that was ever read never holds another record.
//! - Appends that carry origins are stored once, even if several processes send them several times, cut into different
//!   intervals, across splits and merges ([dedup state](format::dedup_state)).
//! - Any number of processes append and read. `kill -9` of one of them frees its locks at once; one that stands still in
//!   an append holds the others up for some seconds ([`end::fence`]).
//! - Corrupt bytes are reported with file and offset, each time, until an operator skips them; they are never skipped
//!   silently. Bytes that were never durable are no corruption: they are cut.
//! - A full disk refuses appends, stays readable, and takes appends again when there is room.
//!
//! It refuses to be a network service: file locks order the appends, and a network file system without them, or one
//! whose sync does not reach the disk, breaks the first promise.
//!
//! # The directory
//!
//! ```text
//! DIR/manifest.json              identity, settings, routing secret, shards ([`format::manifest`]); replaced as a whole
//! DIR/manifest.lock              held for that
//! DIR/stream-0f3a9c02b71e        the home of everything else, HOME below; each stream has one of its own ([`format::home`])
//! HOME/shards/time.json          the time by which data ages ([`stream_time`])
//! HOME/shards/000000/fence       there once the shard was closed because a holder stood still ([`end::fence`])
//! HOME/shards/000000/lock        held by the process that appends, for one group of appends
//! HOME/shards/000000/turn, pulse  held by the next to append, and by a slow holder now and then (`write/turn.rs`, [`write::pulse`])
//! HOME/shards/000000/control     the durable end ([`format::control`])
//! HOME/shards/000000/NNNNNNNNNN-BBBBBBBBBBBBBBBBBBBB.seg    segment N, whose first slot has offset B ([`format::segment`])
//! HOME/shards/000000/skips.json  corrupt places that an operator has skipped ([`format::skips`])
//! HOME/_apps/APP/..              leases and progress of the apps that read ([`leases`])
//! HOME/_generations/APP.json     what `reprocess` has moved ([`leases::generations`])
//! HOME/_runs/..                  which producers without a ledger live ([`producer_locks`])
//! ```
//!
//! # Offsets
//!
//! A shard counts *slots* from 0. A record takes one; an account takes one more, the last of its frame, where it
//! counts. A frame without records and account takes none: it only moves marks.
//!
//! # Segments and frames
//!
//! ```text
//! segment:  head (88 bytes)  marks  frame  frame  ..
//! head:     "HYDs"  version u32  incarnation u128  number u64  base u64  previous bytes u64  previous newest i64
//!           records before u64  0 u64  marks length u32  marks crc u32  0 u32  crc u32
//! frame:    header (64 bytes)  origin entry  body
//! header:   "HYDf"  version u8  codec u8  flags u16  base u64  records u32  arrival i64  entry length u32
//!           body length u32  raw length u32  entry crc u32  body crc u32  salt u64  0 u32  crc u32
//! ```
//!
//! Numbers are little-endian, checksums CRC32C. The flags say whether the last slot is an account (1) and what the body
//! holds beside what each one has: route hashes (2), headers (4), tombstones (8); a build that does not know a flag refuses
//! the frame. The origin entry is `hydrant_core::origin`'s byte form; the body is [`format::columns`]. The
//! salt is a part of the incarnation, so that no payload can pass for a frame. A segment's head holds the marks at its
//! base, so that they survive the removal of older segments, without those of dead processes' own runs; and the valid
//! bytes of the segment before it: what follows there was never durable.
//!
//! # An append
//!
//! Encoded, queued with others, then under the shard's lock: learn what other processes appended, judge by the marks,
//! write, sync, write the control file, release the lock, acknowledge. The lock is held throughout. The next holder
//! that finds bytes past the durable end therefore knows that the previous one died or could not sync:
//!
//! - Intact frames there are *rewritten* into a new segment and synced; a torn rest is cut (`write/recovery.rs`).
//! - A segment gets its name after its first bytes were synced. A newer segment than the control file names is
//!   therefore complete, and proves that everything below its base is durable.
//! - The control file is synced when it names another segment, so that after a power cut it is behind within the newest
//!   segment only. If both its slots are torn, the newest segment's head stands in.
//! - A failed sync or write: what was written does not count; the group goes once into a new segment; a second failure
//!   is fatal. A full disk fails the group and what is queued behind it.
//! - A process that acts on a name that another one made syncs the directory first: its maker may have died before it
//!   did.
//!
//! The next segment starts when one would outgrow its limit or has become old; retention removes old ones
//! (`write/retention.rs`). Splits and merges: `admin/reshard.rs`.
//!
//! # Tasks and bounds
//!
//! ```text
//! submit --(8 MiB or 1024 appends per shard)--> committer of the shard --> tickets
//!    \--(64 at once)--> worker threads, encoding what is not small --/
//! ```
//!
//! A wait for a lock is one for a holder that makes progress (`write/turn.rs`). A reader has no task: it reads a chunk (at most
//! 1 MiB, or one larger frame) when asked, within its budget.
//!
//! A stream may have hundreds of shards, each with few records. So one thread makes all the calls of a group of appends,
//! and all those of a look at what is new. The files of a shard are open only meanwhile, which bounds what a process has
//! open by its threads. A shard that nothing is appended to costs its readers nothing.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the format is documented for its maintainers"
)]

mod admin;
mod end;
mod format;
mod leases;
mod metrics;
mod producer_locks;
mod read;
mod shard_files;
mod stream;
mod stream_dir;
mod stream_time;
mod write;

pub use admin::create::{CreateOptions, create};
pub use format::frame::Codec;

pub(crate) use admin::create::delete;
pub(crate) use stream::LocalStream;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
