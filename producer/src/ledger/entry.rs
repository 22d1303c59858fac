//! A file of a ledger and how far it is stored.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::input::files::file::FileIdentity;
use crate::input::{Digest, InputPosition, PrefixDigest};

/// A file, or standard input, and how far it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Part of the origins of its records: never used again by this ledger.
    pub number: u32,
    /// The other part, since an older copy of this ledger may use the number again.
    pub drawn: u32,
    /// Where it was seen last, without links; `-` is standard input.
    #[serde(with = "super::path")]
    pub path: PathBuf,
    /// What it keeps when it is renamed; pipes have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FileIdentity>,
    /// The index of its first record that may not be stored.
    pub index: u64,
    /// The line of that record, from 1.
    pub line: u64,
    /// The bytes before that record, decompressed and as UTF-8.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
    /// What it began with when its first records were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<PrefixDigest>,
    /// What it began with when it had twice as much each time: of a copy that ends before its place, this proves the
    /// most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<PrefixDigest>,
    /// The path at which an input led to it.
    #[serde(with = "super::path")]
    pub input: PathBuf,
    /// When it was seen first, microseconds since 1970: copies of it were made later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// Whether it is not at an input's path any more, or is the copy of what was: its writer may still have it open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
    /// Whether it was left for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// Its size then: one that has grown is read on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl FileEntry {
    /// One of which nothing is stored.
    pub fn new(number: u32, path: PathBuf, id: Option<FileIdentity>) -> Self {
        FileEntry {
            number,
            input: path.clone(),
            path,
            id,
            line: 1,
            ..FileEntry::default()
        }
    }

    /// How far it is stored.
    pub fn position(&self) -> InputPosition {
        InputPosition {
            index: self.index,
            line: self.line,
            bytes: self.bytes,
            digest: self.digest,
        }
    }

    /// The part of its records' origins that no other file of this ledger has.
    pub fn origin(&self) -> String {
        format!("-{}-{:08x}", self.number, self.drawn)
    }

    /// What is known of its content before its place, in order.
    pub fn checks(&self) -> impl Iterator<Item = PrefixDigest> {
        let last = (self.bytes > 0).then(|| self.position().prefix());
        let first = self.first.filter(|first| first.bytes <= self.bytes);
        let marks = self.marks.iter().copied();
        first.into_iter().chain(marks).chain(last)
    }

    /// Moves to `place`.
    pub fn advance(&mut self, place: InputPosition) {
        debug_assert!(
            place.index >= self.index && place.bytes >= self.bytes,
            "a file is never less far than it was: {self:?}, {place:?}"
        );
        let known = self.marks.last().or(self.first.as_ref());
        if known.is_some_and(|known| place.bytes / 2 >= known.bytes.max(1)) {
            self.marks.push(place.prefix());
        }
        self.index = place.index;
        self.line = place.line;
        self.bytes = place.bytes;
        self.digest = place.digest;
    }
}
