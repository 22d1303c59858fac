//! Blocks of records: ranges into bytes that all records of a block share.

use std::ops::Range;

use bytes::Bytes;

/// A record's place in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRange {
    /// The record's bytes in [`LineBlock::bytes`], without the space around it.
    pub range: Range<usize>,
    /// The number of the line that it begins in, from 1.
    pub number: u64,
    /// Its index in the input, from 0; empty lines and refused records count.
    pub index: u64,
}

/// A record that was longer than allowed, or a document that is damaged, and that is not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedLine {
    /// The number of the line that it begins in, from 1.
    pub number: u64,
    /// Its index in the input, from 0.
    pub index: u64,
    /// Its length in bytes, without `\n` behind it.
    pub length: u64,
    /// Whether it is a document that is damaged.
    pub is_damaged: bool,
}

/// Some consecutive records, at least one of `lines` and `refused` being filled.
#[derive(Clone, Debug, Default)]
pub struct LineBlock {
    /// The shared bytes that `lines` points into.
    pub bytes: Bytes,
    /// The records, in order.
    pub lines: Vec<RecordRange>,
    /// The records that were too long or damaged.
    pub refused: Vec<RefusedLine>,
    /// Which of `lines` hold line ends.
    pub(super) spanning: Vec<usize>,
}
