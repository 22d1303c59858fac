//! The commit record: what one publish of one shard put into the lake.
//!
//! Owns the form of the record. Promises that a record proves itself: it holds its own checksum, and its input equals
//! the sum of rows, dead letters, drops and duplicates. Refuses damaged records and records of a newer version.

use std::collections::BTreeMap;

use bytes::Bytes;
use hydrant_core::lake::{Lake, Sealed};
use hydrant_core::origin::{Dropped, WriterId};
use hydrant_core::{Interval, Position, Result, ShardId, StreamId, hash};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ObjectError;
use crate::table::event_time::UntimedReason;

/// The version of the records that this program writes.
pub const COMMIT_VERSION: u32 = 1;

/// The length of `,"crc":"01234567"}` and a line feed.
const SEAL_BYTES: usize = 19;

/// Writes an object with its own checksum as its last field.
pub fn seal_body<T: Serialize>(object: &T) -> Bytes {
    let mut body = serde_json::to_vec(object).expect("records hold nothing that JSON lacks");
    let crc = crc32c::crc32c(&body);
    debug_assert!(body.len() > 2 && body.ends_with(b"}"));
    body.pop();
    body.extend_from_slice(format!(",\"crc\":\"{crc:08x}\"}}\n").as_bytes());
    body.into()
}

/// The checksum that an object ends with, in hex; empty for what [`seal_body`] did not write.
pub(crate) fn sealed_crc(body: &[u8]) -> String {
    let digits = body
        .len()
        .checked_sub(11)
        .and_then(|at| body.get(at..at + 8));
    String::from_utf8_lossy(digits.unwrap_or_default()).into_owned()
}

/// Reads an object that [`seal_body`] wrote.
///
/// # Errors
/// Damaged bytes, or a version above `version_known`.
pub fn unseal_body<T: DeserializeOwned>(
    key: &str,
    body: &[u8],
    version_known: u32,
) -> Result<T, ObjectError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let damaged = |detail: String| ObjectError::damaged(key, detail);
    let (object, seal) = body
        .len()
        .checked_sub(SEAL_BYTES)
        .and_then(|at| body.split_at_checked(at))
        .ok_or_else(|| damaged(format!("{} bytes are too few", body.len())))?;
    let mut object = object.to_vec();
    object.push(b'}');
    let crc = crc32c::crc32c(&object);
    if seal != format!(",\"crc\":\"{crc:08x}\"}}\n").as_bytes() {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    let unread = |error: serde_json::Error| damaged(format!("its JSON cannot be read: {error}"));
    let versioned: Versioned = serde_json::from_slice(&object).map_err(unread)?;
    if versioned.version > version_known {
        return Err(ObjectError::Newer {
            key: key.to_owned(),
            found: versioned.version,
            known: version_known,
        });
    }
    serde_json::from_slice(&object).map_err(unread)
}

/// How many bytes of a file are read at once.
const RANGE_BYTES: u64 = 8 << 20;

/// The checksum of a file of `size` bytes, which is read range by range; `None` without the file.
pub(crate) async fn checksum(lake: &dyn Lake, key: &str, size: u64) -> Result<Option<u32>> {
    let (mut at, mut crc) = (0, 0);
    while at < size {
        let end = (at + RANGE_BYTES).min(size);
        let Some(part) = lake.get_range(key, at..end).await? else {
            return Ok(None);
        };
        crc = crc32c::crc32c_append(crc, &part);
        at = end;
    }
    Ok(Some(crc))
}

/// An interval of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInterval {
    /// The shard.
    pub shard: ShardId,
    /// Exclusive lower end: `to` of the record before.
    pub from: Position,
    /// Inclusive upper end.
    pub to: Position,
}

/// The kind of rows that a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Rows of the table.
    Rows,
    /// Dead letters.
    DeadLetters,
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitFile {
    /// The kind of its rows.
    pub kind: FileKind,
    /// The file as it was uploaded.
    #[serde(flatten)]
    pub sealed: Sealed,
    /// The number of rows.
    pub rows: u64,
    /// Digest of the positions of its rows, in their order, in hex.
    pub position_hash: String,
}

/// How many rows have no believable event time, by reason.
pub type UntimedRows = BTreeMap<UntimedReason, u64>;

/// The number of units of an interval, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitCounts {
    /// Units that came in: the records read, and the units that earlier stages dropped or made dead letters.
    pub input: u64,
    /// Rows.
    pub rows: u64,
    /// Records that this sink refused.
    #[serde(rename = "own_letters")]
    pub own_dead_letters: u64,
    /// Dead letters of earlier stages.
    #[serde(rename = "upstream_letters")]
    pub upstream_dead_letters: u64,
    /// Drops of earlier stages, by rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Dropped>,
    /// Records that the reader had returned before.
    pub duplicates: u64,
    /// Rows without a believable event time, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub untimed_rows: UntimedRows,
}

impl CommitCounts {
    /// Dead letters in all.
    pub fn dead_letters(&self) -> u64 {
        self.own_dead_letters
            .saturating_add(self.upstream_dead_letters)
    }

    /// Drops in all.
    pub fn dropped_units(&self) -> u64 {
        let counts = self.dropped.iter().map(|dropped| dropped.count);
        counts.fold(0, u64::saturating_add)
    }

    /// Checks that `input = rows + dead letters + dropped + duplicates`.
    ///
    /// # Errors
    /// [`ObjectError::Unbalanced`] with the sums of `key`.
    pub fn check(&self, key: &str) -> Result<(), ObjectError> {
        let [input, rows, duplicates] = [self.input, self.rows, self.duplicates];
        let [dead_letters, dropped] = [self.dead_letters(), self.dropped_units()];
        let mut parts = [rows, dead_letters, dropped, duplicates].into_iter();
        if parts.try_fold(0u64, u64::checked_add) == Some(input) {
            return Ok(());
        }
        Err(ObjectError::Unbalanced {
            key: key.to_owned(),
            sums: format!(
                "{input} in, but {rows} rows + {dead_letters} dead letters + {dropped} dropped + {duplicates} duplicates"
            ),
        })
    }
}

/// How many values of an interval's rows lie in `_rescued`, by where they were and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescuedCount {
    /// The path in the record, such as `a.b[].c`; `*` for all that have one path too many.
    pub path: String,
    /// Why the column did not take them.
    pub reason: String,
    /// How many values.
    pub values: u64,
}

/// The accounts of one upstream shard, summed over an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginSum {
    /// The writer of the stream.
    pub writer: WriterId,
    /// The upstream shard.
    pub shard: ShardId,
    /// Upstream units.
    pub input: u64,
    /// Units that are records of the stream.
    pub records: u64,
    /// Units that are dead letters.
    #[serde(rename = "letters")]
    pub dead_letters: u64,
    /// Units that were dropped.
    pub dropped: u64,
}

impl OriginSum {
    /// Whether `input = records + dead_letters + dropped`.
    pub fn balances(&self) -> bool {
        let sum = self.records.checked_add(self.dead_letters);
        sum.and_then(|sum| sum.checked_add(self.dropped)) == Some(self.input)
    }
}

/// An interval of records that were lost before they could be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The last position before the gap.
    pub from: Position,
    /// The last position of the gap.
    pub to: Position,
    /// The reason, as the stream gives it.
    pub why: String,
}

/// The first and the last time of something, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// The earliest.
    pub min: i64,
    /// The latest.
    pub max: i64,
}

impl TimeRange {
    /// Extends `range` to hold `time`.
    pub fn with(range: Option<TimeRange>, time: i64) -> TimeRange {
        range.map_or(
            TimeRange {
                min: time,
                max: time,
            },
            |range| TimeRange {
                min: range.min.min(time),
                max: range.max.max(time),
            },
        )
    }
}

/// One record of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The version of the record.
    pub version: u32,
    /// The slot, from 1.
    pub slot: u64,
    /// The stream.
    pub stream: StreamId,
    /// The interval that the record commits: a list of one, which a later version may lengthen.
    pub intervals: [ShardInterval; 1],
    /// A random text that distinguishes this attempt to publish from all others.
    pub nonce: String,
    /// Whether the shard has ended: nothing follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
    /// The files; the index of a file is the number in its name.
    #[serde(default)]
    pub files: Vec<CommitFile>,
    /// The units, by what became of them.
    pub counts: CommitCounts,
    /// The values that no column took, by path and reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rescued: Vec<RescuedCount>,
    /// The units of earlier stages by upstream shard, from the accounts in the stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<OriginSum>,
    /// The gaps: records that were lost before they could be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The positions of records whose computation panicked. They stay dead letters when the interval is rebuilt, also
    /// by a later program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Position>,
    /// The digest of the rules by which records became rows.
    pub spec: String,
    /// The number of the schema that the files have; 0 without files of rows.
    pub schema: u64,
    /// The dedup state of the reader, in the form of the stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<u8>,
    /// The range of the believable event times of the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_times: Option<TimeRange>,
    /// The range of the producers' stamps of the rows; a row without a stamp counts with its arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamps: Option<TimeRange>,
    /// When the interval was opened, in microseconds since 1970; event times are judged against it.
    pub opened: i64,
    /// When the record was made, in microseconds since 1970.
    pub made: i64,
    /// The program that wrote the record.
    pub product: String,
}

impl Commit {
    /// Writes the stored form.
    pub fn to_body(&self) -> Bytes {
        seal_body(self)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Damaged bytes, a newer version, or more than one interval.
    pub fn from_body(key: &str, body: &[u8]) -> Result<Self, ObjectError> {
        let commit: Commit = unseal_body(key, body, COMMIT_VERSION)?;
        let interval = commit.interval();
        let empty = Interval::new(interval.from, interval.to).is_empty();
        if empty && !(commit.end && interval.to == Position::End) {
            return Err(ObjectError::damaged(
                key,
                "its interval ends before it starts",
            ));
        }
        if commit.end != (interval.to == Position::End) {
            return Err(ObjectError::damaged(
                key,
                "it ends the shard at another position than its end",
            ));
        }
        Ok(commit)
    }

    /// The interval that the record commits.
    pub fn interval(&self) -> &ShardInterval {
        &self.intervals[0]
    }

    /// The files of this kind.
    pub fn files_of(&self, kind: FileKind) -> impl Iterator<Item = &CommitFile> {
        self.files.iter().filter(move |file| file.kind == kind)
    }

    /// The oldest and the newest time of what the record holds, in microseconds since 1970: of its event times, and the
    /// time of the record itself for what has none.
    pub(crate) fn times(&self) -> TimeRange {
        let own = TimeRange {
            min: self.opened.min(self.made),
            max: self.made,
        };
        let untimed = self.counts.untimed_rows.values().any(|count| *count > 0);
        match self.event_times {
            None => own,
            Some(times) if untimed || self.counts.dead_letters() > 0 => TimeRange {
                min: times.min.min(own.min),
                max: times.max.max(own.max),
            },
            Some(times) => times,
        }
    }

    /// The values in the column of rescued values.
    pub(crate) fn rescued_values(&self) -> u64 {
        let values = self.rescued.iter().map(|rescued| rescued.values);
        values.fold(0, u64::saturating_add)
    }

    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.sealed.size).sum()
    }

    /// The rows that the files do not hold as many of as are counted: what they are, how many the files hold, and how many
    /// are counted.
    pub(crate) fn miscounted(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let counts = [
            (FileKind::Rows, "rows", self.counts.rows),
            (
                FileKind::DeadLetters,
                "dead letters",
                self.counts.dead_letters(),
            ),
        ];
        let counts = counts.into_iter().map(|(kind, what, counted)| {
            let rows = self.files_of(kind).map(|file| file.rows);
            (what, rows.fold(0, u64::saturating_add), counted)
        });
        counts.filter(|(_, held, counted)| held != counted)
    }
}

/// The digest that names stored rules, in hex.
pub(crate) fn digest(body: &[u8]) -> String {
    format!("{:032x}", hash::identity(&[body]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit() -> Commit {
        Commit {
            version: COMMIT_VERSION,
            slot: 3,
            stream: StreamId::new("clean", "7"),
            intervals: [ShardInterval {
                shard: "000001".into(),
                from: Position::Begin,
                to: Position::offset(9),
            }],
            nonce: "n".to_owned(),
            end: false,
            files: vec![CommitFile {
                kind: FileKind::Rows,
                sealed: Sealed {
                    key: "t/x.parquet".to_owned(),
                    upload: "_hydrant/staging/t/x.parquet~1".to_owned(),
                    parts: Vec::new(),
                    size: 9,
                    crc: 7,
                },
                rows: 8,
                position_hash: "00".to_owned(),
            }],
            counts: CommitCounts {
                input: 10,
                rows: 8,
                own_dead_letters: 2,
                untimed_rows: [(UntimedReason::TooEarly, 3)].into(),
                ..CommitCounts::default()
            },
            rescued: vec![RescuedCount {
                path: "a.b".to_owned(),
                reason: "type_conflict".to_owned(),
                values: 3,
            }],
            origins: Vec::new(),
            gaps: vec![Gap {
                from: Position::offset(2),
                to: Position::offset(3),
                why: "retention".to_owned(),
            }],
            faults: vec![Position::offset(4)],
            spec: "d".to_owned(),
            schema: 1,
            marks: vec![1, 2],
            event_times: Some(TimeRange { min: 3, max: 4 }),
            stamps: Some(TimeRange { min: -1, max: 5 }),
            opened: 7,
            made: 8,
            product: "hydrant 0".to_owned(),
        }
    }

    #[test]
    fn a_record_gives_itself_back_and_no_damaged_one_is_read() {
        let commit = commit();
        let body = commit.to_body();
        assert_eq!(Commit::from_body("k", &body).unwrap(), commit);
        serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        for at in 0..body.len() {
            let mut damaged = body.to_vec();
            damaged[at] ^= 1;
            assert!(Commit::from_body("k", &damaged).is_err(), "byte {at}");
            assert!(Commit::from_body("k", &body[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_version_is_refused_with_what_to_do() {
        let newer = Commit {
            version: COMMIT_VERSION + 1,
            ..commit()
        };
        let error = Commit::from_body("k", &newer.to_body()).unwrap_err();
        assert!(matches!(error, ObjectError::Newer { .. }));
        assert!(error.to_string().contains("upgrade"), "{error}");
    }

    #[test]
    fn a_record_of_none_or_several_intervals_is_damage() {
        let body = commit().to_body();
        let object: serde_json::Value = serde_json::from_slice(&body).unwrap();
        for times in [0, 1, 2] {
            let mut object = object.clone();
            object.as_object_mut().unwrap().remove("crc");
            let one = object["intervals"][0].clone();
            object["intervals"] = vec![one; times].into();
            let read = Commit::from_body("k", &seal_body(&object));
            assert_eq!(read.is_ok(), times == 1, "{read:?}");
        }
    }

    #[test]
    fn intervals_that_go_backwards_are_damage() {
        let mut bad = commit();
        bad.intervals[0].to = Position::Begin;
        assert!(Commit::from_body("k", &bad.to_body()).is_err());
        let mut bad = commit();
        bad.end = true;
        assert!(Commit::from_body("k", &bad.to_body()).is_err());
    }

    #[test]
    fn counts_balance_or_say_why_not() {
        let mut counts = commit().counts;
        counts.check("k").unwrap();
        counts.dropped.push(Dropped {
            rule: "noise".into(),
            count: 1,
        });
        let error = counts.check("k").unwrap_err();
        assert!(error.to_string().contains("10 in"), "{error}");
        counts.dropped[0].count = u64::MAX;
        assert!(counts.check("k").is_err());
    }
}
