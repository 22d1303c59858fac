//! The names of a table's objects in the lake.
//!
//! Owns every key that the sink writes or looks for. Promises that a key identifies the table, the stream with its
//! incarnation, and the shard that it belongs to, that keys sort by position and by slot, and that no two intervals of
//! one table ever share a data key. Refuses table names that readers or file systems cannot handle.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use hydrant_core::mutant::{self, Mutant};
use hydrant_core::places::LAKE_SYSTEM;
use hydrant_core::{Error, Position, Result, ShardId, StreamId, hash};

use super::commit::{CommitFile, FileKind};

/// The prefix of all keys that are not a table's data.
pub const SYSTEM: &str = LAKE_SYSTEM;

/// The directory in which a lake in a directory collects uploads.
pub(crate) const STAGING: &str = "_hydrant/staging";

/// The directory in which a lake in a directory writes objects before they get their names. No table has such a name.
pub(crate) const TEMPORARY: &str = "_hydrant/.temporary";

/// The name that a table must not have, because a lake in a directory uses it.
const RESERVED: &str = "staging";

/// The ending of the marks beside records.
const MARK: &str = ".done";

/// The ending of data files.
const PARQUET: &str = ".parquet";

/// Distinguishes the names that [`Mutant::NamesDrawn`] draws.
static DRAWN: AtomicU64 = AtomicU64::new(0);

/// The longest name of a table.
const TABLE_NAME_BYTES_MAX: usize = 100;

/// The names of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNames {
    table: String,
}

impl TableNames {
    /// The names of the table `table`, which has letters, digits, `_`, `-` and `.`, starts with a letter or a digit,
    /// and has at most 100 bytes.
    ///
    /// # Errors
    /// Refused with what is wrong with the name.
    pub fn try_new(table: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if table.is_empty()
            || table.len() > TABLE_NAME_BYTES_MAX
            || table.starts_with(['_', '.', '-'])
            || !table.chars().all(fits)
        {
            return Err(Error::refused(format!(
                "`{table}` is not a valid table name: write letters, digits, `_`, `-` and `.`, starting with a letter or \
                 digit, at most {TABLE_NAME_BYTES_MAX}"
            )));
        }
        // On a file system that ignores case, `Staging` would be the same directory.
        if table.eq_ignore_ascii_case(RESERVED) {
            return Err(Error::refused(format!(
                "`{table}` is reserved for files that are being uploaded: choose another table name"
            )));
        }
        Ok(TableNames {
            table: table.to_owned(),
        })
    }

    /// The name of the table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The prefix of the table's data.
    pub fn data(&self) -> String {
        format!("{}/", self.table)
    }

    /// The prefix of everything else of the table.
    pub fn system(&self) -> String {
        format!("{SYSTEM}/{}/", self.table)
    }

    /// The object that holds the identity of the table.
    pub fn identity(&self) -> String {
        format!("{}table.json", self.system())
    }

    /// The prefix of all commit chains.
    pub fn commits(&self) -> String {
        format!("{}commits/", self.system())
    }

    /// The prefix of all records of what became of vanished files.
    pub(crate) fn rebuilds(&self) -> String {
        format!("{}rebuild/", self.system())
    }

    /// The prefix of the commit chains of `stream`.
    pub(crate) fn commits_of(&self, stream: &StreamId) -> String {
        format!("{}{}/", self.commits(), segment(&stream.to_string()))
    }

    /// The prefix of the numbered schemas.
    pub fn schemas(&self) -> String {
        format!("{}schema/", self.system())
    }

    /// Schema `number`.
    pub fn schema(&self, number: u64) -> String {
        format!("{}{number}.json", self.schemas())
    }

    /// The number of the schema with this key; `None` for other keys.
    pub fn schema_number(&self, key: &str) -> Option<u64> {
        let number = key.strip_prefix(&self.schemas())?.strip_suffix(".json")?;
        number
            .parse()
            .ok()
            .filter(|n: &u64| n.to_string() == number)
    }

    /// The prefix of the specs.
    pub(crate) fn specs(&self) -> String {
        format!("{}specs/", self.system())
    }

    /// The rules with this digest.
    pub fn spec(&self, digest: &str) -> String {
        format!("{}{digest}.json", self.specs())
    }

    /// The prefix of the layout chain.
    pub fn layout(&self) -> String {
        format!("{}layout/", self.system())
    }

    /// The prefix of the dead letters.
    pub fn dead_letters(&self) -> String {
        format!("{}dead-letters/", self.system())
    }

    /// The prefix of the chain of the table's declared settings.
    pub(crate) fn settings(&self) -> String {
        format!("{}settings/", self.system())
    }

    /// The slot of the record with this key, below the prefix `records` of its chain; `None` for other keys.
    pub fn slot_of(records: &str, key: &str) -> Option<u64> {
        Self::slot_named(records, key, ".json")
    }

    /// The slot of the record whose mark has this key; `None` for other keys.
    pub(crate) fn marked_slot_of(records: &str, key: &str) -> Option<u64> {
        Self::slot_named(records, key, MARK)
    }

    fn slot_named(records: &str, key: &str, ending: &str) -> Option<u64> {
        let digits = key.strip_prefix(records)?.strip_suffix(ending)?;
        if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits: u128 = digits.parse().ok()?;
        u64::try_from(NINES.checked_sub(digits)?).ok()
    }

    /// The last part of the key of the record of `slot`. Newer slots sort first, so that listing one name finds the
    /// newest.
    pub fn record_name(slot: u64) -> String {
        format!("{:020}.json", NINES - u128::from(slot))
    }

    /// The last part of the key of the mark beside the record of `slot`. It sorts just before the record.
    pub(crate) fn mark_name(slot: u64) -> String {
        format!("{:020}{MARK}", NINES - u128::from(slot))
    }

    /// The names of the chain of one shard.
    pub fn chain(&self, stream: &StreamId, shard: &ShardId) -> ChainNames {
        let commits = self.commits_of(stream);
        let stream_name = segment(&stream.to_string());
        let shard_name = segment(shard.as_str());
        let digest = hash::identity(&[stream.name.as_bytes(), stream.incarnation.as_bytes()]) >> 80;
        ChainNames {
            dir: format!("{commits}{shard_name}/"),
            rebuilds: format!("{}{stream_name}/{shard_name}/", self.rebuilds()),
            file_stem: format!("s{}-{digest:012x}", short(&shard_name)),
            table: self.clone(),
        }
    }
}

/// The names of one commit chain and of the files that its records name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainNames {
    pub(crate) table: TableNames,
    /// The prefix of the chain.
    pub(crate) dir: String,
    /// The prefix of the records that say which uploads replace vanished files.
    pub(crate) rebuilds: String,
    /// The start of the names of the chain's files.
    pub(crate) file_stem: String,
}

impl ChainNames {
    /// The object that says where the chain begins.
    pub fn genesis(&self) -> String {
        format!("{}genesis.json", self.dir)
    }

    /// The prefix of the records.
    pub fn records(&self) -> String {
        Self::records_in(&self.dir)
    }

    /// The prefix of the records of the chain whose prefix is `dir`.
    pub(crate) fn records_in(dir: &str) -> String {
        format!("{dir}r/")
    }

    /// The record of `slot`.
    pub fn record(&self, slot: u64) -> String {
        format!("{}{}", self.records(), TableNames::record_name(slot))
    }

    /// The slot of the record with this key; `None` for other keys.
    pub fn slot(&self, key: &str) -> Option<u64> {
        TableNames::slot_of(&self.records(), key)
    }

    /// The record that says which upload replaces a vanished file of `slot`.
    pub fn rebuild(&self, slot: u64, file: usize, generation: u32) -> String {
        Self::rebuild_in(&self.rebuilds, slot, file, generation)
    }

    /// The same, where the prefix of the chain's is `rebuilds`.
    pub(crate) fn rebuild_in(rebuilds: &str, slot: u64, file: usize, generation: u32) -> String {
        format!("{rebuilds}{slot}/{file}-g{generation}.json")
    }

    /// Data file number `file` of `(from, to]` in `partition`, a path below the table that may be empty.
    pub fn rows(&self, partition: &str, from: Position, to: Position, file: usize) -> String {
        let slash = if partition.is_empty() { "" } else { "/" };
        format!(
            "{}{partition}{slash}{}",
            self.table.data(),
            self.file(from, to, file)
        )
    }

    /// The dead letters of `(from, to]`.
    pub fn dead_letters(&self, from: Position, to: Position, file: usize) -> String {
        format!("{}{}", self.table.dead_letters(), self.file(from, to, file))
    }

    /// Whether `file` has the name of file number `index` of `(from, to]`.
    pub(crate) fn is_file(
        &self,
        file: &CommitFile,
        from: Position,
        to: Position,
        index: usize,
    ) -> bool {
        let (dir, name) = match file.sealed.key.rsplit_once('/') {
            Some((dir, name)) => (format!("{dir}/"), name),
            None => return false,
        };
        let below = match file.kind {
            FileKind::Rows => dir.starts_with(&self.table.data()),
            FileKind::DeadLetters => dir == self.table.dead_letters(),
        };
        below && name == self.file_named("", from, to, index)
    }

    fn file(&self, from: Position, to: Position, file: usize) -> String {
        debug_assert!(from < to);
        let drawn = match mutant::is(Mutant::NamesDrawn) {
            true => format!("-{}", DRAWN.fetch_add(1, Ordering::Relaxed)),
            false => String::new(),
        };
        self.file_named(&drawn, from, to, file)
    }

    fn file_named(&self, drawn: &str, from: Position, to: Position, file: usize) -> String {
        format!(
            "{}{drawn}_{}_{}_{file:04}{PARQUET}",
            self.file_stem,
            from.name(),
            to.name()
        )
    }
}

/// The parts of the name of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataFileName {
    /// The start of its interval.
    pub(crate) from: Position,
    /// How often the file was rebuilt.
    pub(crate) generation: u32,
}

impl DataFileName {
    /// Reads the name in a key, and the stem that identifies its chain; `None` for other keys.
    pub(crate) fn of(key: &str) -> Option<(String, Self)> {
        let name = key.rsplit('/').next()?.strip_suffix(PARQUET)?;
        let mut parts = name.rsplitn(4, '_');
        let (number, to, from) = (parts.next()?, parts.next()?, parts.next()?);
        let stem = parts.next()?.to_owned();
        let (number, generation) = match number.split_once(".g") {
            Some((number, generation)) => (number, generation.parse().ok()?),
            None => (number, 0),
        };
        number.parse::<u32>().ok()?;
        Position::from_name(to)?;
        let from = Position::from_name(from)?;
        Some((stem, DataFileName { from, generation }))
    }
}

/// The key of a file that was rebuilt `generation` times.
pub fn generation_key(key: &str, generation: u32) -> String {
    match (generation, key.strip_suffix(PARQUET)) {
        (0, _) | (_, None) => key.to_owned(),
        (generation, Some(stem)) => format!("{stem}.g{generation}{PARQUET}"),
    }
}

/// The name of a slot is this number minus the slot.
const NINES: u128 = 99_999_999_999_999_999_999;

/// One segment of a key that no name leaves.
fn segment(text: &str) -> String {
    percent_encode(text, b"=@:")
}

/// The most bytes of a shard's name in the names of its files.
const SHARD_NAME_BYTES_MAX: usize = 48;

/// The name of a shard for file names: one that is too long keeps its beginning and gets a digest. No encoded name has a
/// `+`.
fn short(segment: &str) -> String {
    if segment.len() <= SHARD_NAME_BYTES_MAX {
        return segment.to_owned();
    }
    let digest = hash::identity(&[segment.as_bytes()]) >> 64;
    format!("{}+{digest:016x}", &segment[..SHARD_NAME_BYTES_MAX - 17])
}

/// A text as a segment of a path: letters, digits, `-`, `_`, the bytes of `plain` and dots behind the first byte stay,
/// all else is percent-encoded.
fn percent_encode(text: &str, plain: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_')
            || (byte == b'.' && index > 0)
            || plain.contains(&byte);
        if is_plain {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain() -> ChainNames {
        let names = TableNames::try_new("devices").unwrap();
        names.chain(&StreamId::new("clean", "7f"), &ShardId::new("000001"))
    }

    proptest! {
        #[test]
        fn a_newer_slot_sorts_before_an_older_one(a in any::<u64>(), b in any::<u64>()) {
            let chain = chain();
            prop_assert_eq!(b.cmp(&a), chain.record(a).cmp(&chain.record(b)));
            prop_assert_eq!(chain.slot(&chain.record(a)), Some(a));
            let mark = format!("{}{}", chain.records(), TableNames::mark_name(a));
            prop_assert_eq!(TableNames::marked_slot_of(&chain.records(), &mark), Some(a));
            prop_assert_eq!(chain.slot(&mark), None);
            prop_assert!(mark < chain.record(a));
            prop_assert_eq!(a < b, chain.record(b) < mark);
        }

        #[test]
        fn any_name_stays_in_its_segment(text in "\\PC{0,20}") {
            let key = segment(&text);
            prop_assert!(!key.contains('/') && key != "." && key != "..");
        }
    }

    #[test]
    fn names_are_those_of_the_protocol() {
        let chain = chain();
        assert_eq!(
            chain.record(1),
            "_hydrant/devices/commits/clean@7f/000001/r/99999999999999999998.json"
        );
        assert_eq!(
            chain.genesis(),
            "_hydrant/devices/commits/clean@7f/000001/genesis.json"
        );
        assert_eq!(
            chain.rebuild(3, 0, 1),
            "_hydrant/devices/rebuild/clean@7f/000001/3/0-g1.json"
        );
        let key = chain.rows("date=2026-11-21", Position::Begin, Position::End, 2);
        assert!(key.starts_with("devices/date=2026-11-21/s000001-"), "{key}");
        assert!(key.ends_with("_b_z_0002.parquet"), "{key}");
        assert!(generation_key(&key, 1).ends_with("_b_z_0002.g1.parquet"));
        let (stem, name) = DataFileName::of(&generation_key(&key, 1)).unwrap();
        assert_eq!(stem, chain.file_stem);
        assert_eq!((name.from, name.generation), (Position::Begin, 1));
        let key_at = chain.rows("", Position::offset(7), Position::offset(9), 0);
        let digits = ["p00000000000000000007", "p00000000000000000009"];
        let name = format!("/{}_{}_{}_0000.parquet", stem, digits[0], digits[1]);
        assert!(key_at.ends_with(&name), "{key_at}");
        assert_eq!(
            DataFileName::of(&key_at).unwrap().1.from,
            Position::offset(7)
        );
        for other in [
            "",
            "devices/x.parquet",
            "devices/a_b_z.parquet",
            "devices/s_b_z_1.csv",
        ] {
            assert_eq!(DataFileName::of(other), None, "{other}");
        }
        assert_eq!(generation_key(&key, 0), key);
        assert!(
            chain
                .dead_letters(Position::Begin, Position::End, 3)
                .starts_with("_hydrant/devices/dead-letters/s")
        );
        for slot in [
            "1.json",
            "99999999999999999998",
            "x9999999999999999998.json",
        ] {
            assert_eq!(chain.slot(&format!("{}{slot}", chain.records())), None);
        }
    }

    /// The names of an interval's files sort by position, are read back, and stay far below the 255 bytes of a name.
    #[test]
    fn the_longest_names_of_files_are_short_and_tell_shards_apart() {
        let names = TableNames::try_new("devices").unwrap();
        let stream = StreamId::new("clean", "7f");
        let (long, longer) = ("シ".repeat(80), "シ".repeat(81));
        let kinesis = "49543463076570308322303623326179887152428262250726293588";
        let at = |sub| Position::at(kinesis.parse().unwrap(), sub);
        let mut keys = Vec::new();
        for shard in ["shardId-000000000012", "a_b.c", &long, &longer] {
            let chain = names.chain(&stream, &ShardId::new(shard));
            let positions = [Position::Begin, at(0), at(1), at(9), at(10), Position::End];
            let before = keys.len();
            for interval in positions.windows(2) {
                let key = chain.rows("", interval[0], interval[1], 12_345);
                let rebuilt = generation_key(&key, 3);
                assert!(rebuilt.len() - names.data().len() < 220, "{rebuilt}");
                let (stem, name) = DataFileName::of(&rebuilt).unwrap();
                assert_eq!(stem, chain.file_stem);
                assert_eq!((name.from, name.generation), (interval[0], 3));
                keys.push(key);
            }
            assert!(keys[before..].is_sorted(), "{:?}", &keys[before..]);
        }
        let distinct: std::collections::HashSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn the_same_shard_of_a_new_incarnation_shares_no_key() {
        let names = TableNames::try_new("devices").unwrap();
        let shard = ShardId::new("000000");
        let (old, new) = (
            names.chain(&StreamId::new("clean", "1"), &shard),
            names.chain(&StreamId::new("clean", "2"), &shard),
        );
        let key = |chain: &ChainNames| chain.rows("", Position::Begin, Position::offset(9), 0);
        assert_ne!(key(&old), key(&new));
        assert_ne!(old.genesis(), new.genesis());
    }

    #[test]
    fn table_names_are_refused_with_the_rule() {
        for name in [
            "",
            "_hydrant",
            ".x",
            "-x",
            "a/b",
            "a b",
            "ä",
            "staging",
            "Staging",
            &"x".repeat(101),
        ] {
            assert!(TableNames::try_new(name).is_err(), "{name}");
        }
        assert!(TableNames::try_new("a.b-c_9").is_ok());
    }
}
