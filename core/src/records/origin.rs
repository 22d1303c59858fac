//! Where a record of a stream came from, in the stream before.
//!
//! Every append that Hydrant makes for an upstream shard carries an [`OriginEntry`]: who wrote, which upstream shard,
//! the interval `(from, to]` of it that this append completes for the receiving hash range, and the origin of each
//! record. A log or a reader that keeps a *mark* per (writer, upstream shard) can so drop what it has seen. Beside the
//! records travels an [`Account`]: how many units came in, and what became of those that are not records any more. The byte
//! form written by [`OriginEntry::encode`] is that of a log that checks at append: it holds one `from`, where a log that
//! does not check keeps every claim with its hash range.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::hash;
use crate::position::{Position, Sequence};
use crate::shard::{ShardId, StreamId};
use crate::varint::{self, Malformed, Reader};

/// Who writes: a digest of app name, app generation and the incarnation of the stream it reads.
///
/// A re-created input, a second app into the same stream, or an operator's `reprocess` (which bumps the generation)
/// is another writer, so that its records are not mistaken for old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(pub u128);

/// Where a writer says that it is one run.
const RUN_BITS: u128 = u64::MAX as u128;
const RUN: u128 = u64::from_be_bytes(*b"one run.") as u128;

impl WriterId {
    /// The writer that an app is while it reads `input`.
    pub fn of_app(app: &str, generation: u64, input: &StreamId) -> Self {
        WriterId(hash::identity(&[
            b"app",
            app.as_bytes(),
            &generation.to_be_bytes(),
            input.incarnation.as_bytes(),
        ]))
    }

    /// The writer id of a named producer, the same across restarts.
    pub fn of_name(name: &str) -> Self {
        WriterId(hash::identity(&[b"name", name.as_bytes()]))
    }

    /// A writer id for one run of a process, derived from a random nonce. No other process ever sends as this writer, and
    /// its process keeps the stream open until it has sent everything, so a log may forget it once that process is dead.
    pub fn of_run(drawn: &str) -> Self {
        let digest = hash::identity(&[b"run", drawn.as_bytes()]);
        WriterId((digest & !RUN_BITS) | RUN)
    }

    /// Whether it is [`WriterId::of_run`]; another digest passes for one with a chance of 2^-64.
    pub fn is_run(self) -> bool {
        self.0 & RUN_BITS == RUN
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for WriterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WriterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // One writer has one name: as it is written, and no other way.
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let number = (text.len() == 32 && text.bytes().all(digit))
            .then(|| u128::from_str_radix(&text, 16).ok())
            .flatten();
        number.map(WriterId).ok_or_else(|| {
            serde::de::Error::custom("a writer is not 32 hexadecimal digits in small letters")
        })
    }
}

/// The upstream position of one record, and which of that record's outputs it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The upstream sequence number.
    pub sequence: Sequence,
    /// The upstream sub-sequence number.
    pub sub: u32,
    /// 0 for the first output of the upstream record, 1 for its second, ...
    pub index: u32,
}

impl Origin {
    /// The upstream position.
    pub fn position(&self) -> Position {
        Position::at(self.sequence, self.sub)
    }
}

/// The origins of consecutive records, delta-coded: 1 to 2 bytes each where upstream counts by ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginColumn {
    bytes: Bytes,
    count: u32,
}

impl OriginColumn {
    /// From its parts as they were stored; refused when they do not hold `count` origins.
    pub fn try_new(bytes: Bytes, count: u32) -> Result<Self, Malformed> {
        let column = OriginColumn { bytes, count };
        let mut origins = column.iter();
        for _ in 0..count {
            origins.try_next()?;
        }
        if origins.reader.is_empty() {
            Ok(column)
        } else {
            Err(Malformed)
        }
    }

    /// How many origins it holds.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The coded bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The origins in record order.
    pub fn iter(&self) -> OriginIter<'_> {
        OriginIter {
            reader: Reader::new(&self.bytes),
            left: self.count,
            previous: Sequence::ZERO,
        }
    }
}

/// Codes origins one by one.
#[derive(Debug, Default)]
pub struct OriginColumnBuilder {
    out: Vec<u8>,
    previous: Sequence,
    count: u32,
}

impl OriginColumnBuilder {
    /// Adds the origin of the next record.
    pub fn push(&mut self, origin: Origin) {
        const SUB: u64 = 1;
        const INDEX: u64 = 2;
        const ABSOLUTE: u64 = 4;
        let out = &mut self.out;
        let mut flags = 0;
        if origin.sub != 0 {
            flags |= SUB;
        }
        if origin.index != 0 {
            flags |= INDEX;
        }
        match origin
            .sequence
            .distance(self.previous)
            .filter(|delta| *delta < 1 << 60)
        {
            Some(delta) => varint::put_u64(out, (delta << 3) | flags),
            None => {
                varint::put_u64(out, flags | ABSOLUTE);
                varint::put_u128(out, origin.sequence.high());
                varint::put_u128(out, origin.sequence.low());
            }
        }
        if origin.sub != 0 {
            varint::put_u64(out, u64::from(origin.sub));
        }
        if origin.index != 0 {
            varint::put_u64(out, u64::from(origin.index));
        }
        self.previous = origin.sequence;
        self.count += 1;
    }

    /// The column.
    pub fn finish(mut self) -> OriginColumn {
        self.out.shrink_to_fit();
        OriginColumn {
            bytes: self.out.into(),
            count: self.count,
        }
    }
}

impl FromIterator<Origin> for OriginColumn {
    fn from_iter<I: IntoIterator<Item = Origin>>(origins: I) -> Self {
        let mut column = OriginColumnBuilder::default();
        origins.into_iter().for_each(|origin| column.push(origin));
        column.finish()
    }
}

/// Iterates the origins of a column.
#[derive(Debug, Clone)]
pub struct OriginIter<'a> {
    reader: Reader<'a>,
    left: u32,
    previous: Sequence,
}

impl OriginIter<'_> {
    fn try_next(&mut self) -> Result<Origin, Malformed> {
        let head = self.reader.u64()?;
        let sequence = if head & 4 != 0 {
            Sequence::from_parts(self.reader.u128()?, self.reader.u128()?)
        } else {
            self.previous.saturating_add(head >> 3)
        };
        let sub = if head & 1 != 0 { self.reader.u32()? } else { 0 };
        let index = if head & 2 != 0 { self.reader.u32()? } else { 0 };
        self.previous = sequence;
        Ok(Origin {
            sequence,
            sub,
            index,
        })
    }
}

impl Iterator for OriginIter<'_> {
    type Item = Origin;

    fn next(&mut self) -> Option<Origin> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        self.try_next().ok()
    }
}

/// A record that cannot be processed: its place and why, never its payload unless that was scanned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The stream in which it failed, `name@incarnation`.
    pub stream: Arc<str>,
    /// The shard in which it failed.
    pub shard: ShardId,
    /// Its sequence number there.
    pub sequence: Sequence,
    /// Its sub-sequence number there.
    pub sub: u32,
    /// Its partition key after redaction; `None` when it had none.
    pub key: Option<Arc<str>>,
    /// The stage that gave up: `transform`, `sink`, `consumer`.
    pub stage: Arc<str>,
    /// A code from a fixed list, such as `malformed_json`.
    pub reason: Arc<str>,
    /// What a person needs to find the fault; holds no byte of the record's values.
    pub detail: String,
    /// The payload's length in bytes.
    pub length: u64,
    /// When it was given up, microseconds since 1970.
    pub time: i64,
}

impl DeadLetter {
    /// The bytes that it takes in memory beside the texts that it may share with others.
    pub fn memory_bytes(&self) -> u64 {
        let key = self.key.as_ref().map_or(0, |key| key.len());
        (size_of::<Self>() + self.detail.len() + key) as u64
    }

    /// The bytes that it takes at most in an encoded account.
    pub fn encoded_bytes_max(&self) -> u64 {
        let key = self.key.as_deref().unwrap_or_default();
        let shard = self.shard.as_str();
        let texts = [&*self.stream, shard, key, &self.stage, &self.reason];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        (LETTER_NUMBERS_MAX + texts + self.detail.len()) as u64
    }
}

/// What a letter's numbers and the lengths of its texts take at most in their byte form.
const LETTER_NUMBERS_MAX: usize = 1 + 2 * 19 + 5 + 1 + 2 * 10 + 6 * 10;
/// No letter takes less: one byte each of six numbers and texts, of a text that is not there, and three of a position.
const LETTER_BYTES_MIN: usize = 10;

/// The texts that dead letters say again and again, such as their reasons, each once in memory.
#[derive(Debug, Default)]
pub struct Texts {
    known: Vec<Arc<str>>,
}

impl Texts {
    /// As many are kept: looking for one costs less than a copy of it, and all that may come is from short lists.
    const KEPT_MAX: usize = 32;

    /// This text, in the memory of the last one like it.
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.iter().find(|known| ***known == *text) {
            return Arc::clone(known);
        }
        let new = Arc::from(text);
        if self.known.len() < Self::KEPT_MAX {
            self.known.push(Arc::clone(&new));
        }
        new
    }
}

/// Records dropped by a named rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The rule.
    pub rule: Arc<str>,
    /// How many.
    pub count: u64,
}

/// What became of the upstream units (records, dead letters, drops) that one append or one batch answers for.
///
/// `input = records + dead_letters + dropped` holds for each account; `input` is counted before the work is done, the rest
/// after it, so that the sum proves something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Upstream units that this account answers for.
    pub input: u64,
    /// Upstream units that are records beside this account.
    pub records: u64,
    /// Dead letters of this stage, and those handed on from stages before it.
    pub dead_letters: Vec<DeadLetter>,
    /// Drops by rule, of this stage and of stages before it.
    pub dropped: Vec<Dropped>,
}

impl Account {
    /// The bytes that it takes in memory beside itself.
    pub fn memory_bytes(&self) -> u64 {
        let dead_letters: u64 = self.dead_letters.iter().map(DeadLetter::memory_bytes).sum();
        dead_letters + size_of_val(&self.dropped[..]) as u64
    }

    /// Whether the sum holds.
    pub fn balances(&self) -> bool {
        let dropped = self.dropped.iter().map(|d| d.count);
        let parts = [self.records, self.dead_letters.len() as u64].into_iter();
        let sum = parts.chain(dropped).try_fold(0u64, u64::checked_add);
        sum == Some(self.input)
    }

    /// Counts one drop by `rule`.
    pub fn drop_by(&mut self, rule: &str, count: u64) {
        match self.dropped.iter_mut().find(|d| &*d.rule == rule) {
            Some(dropped) => dropped.count = dropped.count.saturating_add(count),
            None => self.dropped.push(Dropped {
                rule: rule.into(),
                count,
            }),
        }
    }
}

/// The origin part of one append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginEntry {
    /// Who writes.
    pub writer: WriterId,
    /// The upstream shard.
    pub shard: ShardId,
    /// A checkpoint of the writer: everything of the origin up to here is in the log, before this append.
    /// [`Position::Begin`] when none is old enough for that.
    pub low: Position,
    /// Everything of the origin up to here that routes into the shard is in the log: the least of the append's claims.
    pub from: Position,
    /// After this append, all of `(from, to]` that routes here is in the log.
    pub to: Position,
    /// The origin of each record of the append.
    pub origins: OriginColumn,
    /// Where the writer began to read the upstream shard: what lies before was never sent. [`Position::Begin`] when it
    /// read from the beginning or does not say.
    pub start: Position,
    /// What became of the upstream units; absent for a producer, which has no upstream.
    pub account: Option<Account>,
}

impl OriginEntry {
    /// Appends the byte form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_with(self.account.as_ref(), [].iter(), out);
    }

    /// Appends the byte form with this account in place of its own. `dead_letters` follow those of the account, as if they
    /// lay in it: they are read where they are.
    pub fn encode_with<'a>(
        &self,
        account: Option<&'a Account>,
        dead_letters: impl Iterator<Item = &'a DeadLetter> + Clone,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(&self.writer.0.to_be_bytes());
        varint::put_bytes(out, self.shard.as_str().as_bytes());
        varint::put_position(out, self.low);
        varint::put_position(out, self.from);
        varint::put_position(out, self.to);
        varint::put_u64(out, u64::from(self.origins.count));
        varint::put_bytes(out, &self.origins.bytes);
        let has = |part: u8, is_there: bool| if is_there { part } else { 0 };
        let starts = self.start != Position::Begin;
        out.push(has(HAS_ACCOUNT, account.is_some()) | has(HAS_START, starts));
        if let Some(account) = account {
            encode_account(account, dead_letters, out);
        }
        if starts {
            varint::put_position(out, self.start);
        }
    }

    /// Reads the byte form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let writer: [u8; 16] = reader.take(16)?.try_into().map_err(|_| Malformed)?;
        let shard = ShardId::new(reader.text()?);
        let (low, from, to) = (reader.position()?, reader.position()?, reader.position()?);
        let count = reader.u32()?;
        let origins = OriginColumn::try_new(Bytes::copy_from_slice(reader.bytes()?), count)?;
        let parts = reader.byte()?;
        if parts & !(HAS_ACCOUNT | HAS_START) != 0 {
            return Err(Malformed);
        }
        let account = match parts & HAS_ACCOUNT {
            0 => None,
            _ => Some(decode_account(reader)?),
        };
        let start = match parts & HAS_START {
            0 => Position::Begin,
            _ => reader.position()?,
        };
        let writer = WriterId(u128::from_be_bytes(writer));
        Ok(OriginEntry {
            writer,
            shard,
            low,
            from,
            to,
            origins,
            start,
            account,
        })
    }
}

/// The optional parts of an entry's byte form.
const HAS_ACCOUNT: u8 = 1;
const HAS_START: u8 = 2;

fn encode_account<'a>(
    account: &'a Account,
    dead_letters: impl Iterator<Item = &'a DeadLetter> + Clone,
    out: &mut Vec<u8>,
) {
    varint::put_u64(out, account.input);
    varint::put_u64(out, account.records);
    varint::put_u64(out, account.dropped.len() as u64);
    for dropped in &account.dropped {
        varint::put_bytes(out, dropped.rule.as_bytes());
        varint::put_u64(out, dropped.count);
    }
    let count = account.dead_letters.len() + dead_letters.clone().count();
    varint::put_u64(out, count as u64);
    for letter in account.dead_letters.iter().chain(dead_letters) {
        varint::put_bytes(out, letter.stream.as_bytes());
        varint::put_bytes(out, letter.shard.as_str().as_bytes());
        varint::put_position(out, Position::at(letter.sequence, letter.sub));
        match &letter.key {
            None => out.push(0),
            Some(key) => {
                out.push(1);
                varint::put_bytes(out, key.as_bytes());
            }
        }
        varint::put_bytes(out, letter.stage.as_bytes());
        varint::put_bytes(out, letter.reason.as_bytes());
        varint::put_bytes(out, letter.detail.as_bytes());
        varint::put_u64(out, letter.length);
        varint::put_i64(out, letter.time);
    }
}

fn decode_account(reader: &mut Reader<'_>) -> Result<Account, Malformed> {
    let mut account = Account {
        input: reader.u64()?,
        records: reader.u64()?,
        ..Account::default()
    };
    for _ in 0..reader.u64()? {
        account.dropped.push(Dropped {
            rule: reader.text()?.into(),
            count: reader.u64()?,
        });
    }
    let dead_letters = reader.u64()?;
    // As many as may follow: a number that says more is found out below.
    let room = reader.rest().len() / LETTER_BYTES_MIN;
    account
        .dead_letters
        .reserve_exact(room.min(dead_letters as usize));
    let mut texts = Texts::default();
    for _ in 0..dead_letters {
        let stream = texts.share(reader.text()?);
        let shard = reader.text()?;
        let shard = match account.dead_letters.last() {
            Some(letter) if letter.shard.as_str() == shard => letter.shard.clone(),
            _ => ShardId::new(shard),
        };
        let Position::At { sequence, sub } = reader.position()? else {
            return Err(Malformed);
        };
        let key = match reader.byte()? {
            0 => None,
            1 => Some(reader.text()?.into()),
            _ => return Err(Malformed),
        };
        let stage = texts.share(reader.text()?);
        let reason = texts.share(reader.text()?);
        account.dead_letters.push(DeadLetter {
            stream,
            shard,
            sequence,
            sub,
            key,
            stage,
            reason,
            detail: reader.text()?.to_owned(),
            length: reader.u64()?,
            time: reader.i64()?,
        });
    }
    Ok(account)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin() -> impl Strategy<Value = Origin> {
        let sequence = prop_oneof![
            (0u64..1000).prop_map(Sequence::from),
            (any::<u128>(), any::<u128>()).prop_map(|(h, l)| Sequence::from_parts(h, l)),
        ];
        (sequence, 0u32..3, 0u32..3).prop_map(|(sequence, sub, index)| Origin {
            sequence,
            sub,
            index,
        })
    }

    proptest! {
        #[test]
        fn a_column_gives_its_origins_back(origins in prop::collection::vec(origin(), 0..40)) {
            let column: OriginColumn = origins.iter().copied().collect();
            prop_assert_eq!(column.iter().collect::<Vec<_>>(), origins);
            let again = OriginColumn::try_new(column.bytes().clone(), column.len()).unwrap();
            prop_assert_eq!(again, column);
        }

        #[test]
        fn arbitrary_bytes_are_no_entry(bytes in any::<Vec<u8>>()) {
            drop(OriginEntry::decode(&mut Reader::new(&bytes)));
        }
    }

    #[test]
    fn a_run_is_told_from_what_others_continue() {
        let run = WriterId::of_run("a");
        assert!(run.is_run() && run != WriterId::of_run("b"));
        assert!(!WriterId::of_name("a").is_run());
        assert!(!WriterId::of_app("a", 1, &StreamId::new("raw", "1")).is_run());
    }

    #[test]
    fn an_entry_gives_itself_back() {
        let letter = DeadLetter {
            stream: "raw@1".into(),
            shard: "000001".into(),
            sequence: Sequence::from(7),
            sub: 2,
            key: Some("[EMAIL]".into()),
            stage: "transform".into(),
            reason: "malformed_json".into(),
            detail: "at byte 3".to_owned(),
            length: 99,
            time: -5,
        };
        let mut account = Account {
            input: 4,
            records: 1,
            dead_letters: vec![letter],
            ..Account::default()
        };
        account.drop_by("noise", 1);
        account.drop_by("noise", 1);
        assert!(account.balances());
        let entry = OriginEntry {
            writer: WriterId::of_app("t", 1, &StreamId::new("raw", "1")),
            shard: "000001".into(),
            low: Position::Begin,
            from: Position::offset(3),
            to: Position::End,
            origins: [Origin {
                sequence: Sequence::from(9),
                sub: 0,
                index: 1,
            }]
            .into_iter()
            .collect(),
            start: Position::Begin,
            account: Some(account),
        };
        let started = OriginEntry {
            start: Position::offset(2),
            ..entry.clone()
        };
        let alone = OriginEntry {
            account: None,
            ..started.clone()
        };
        for entry in [entry, started, alone] {
            let mut out = Vec::new();
            entry.encode(&mut out);
            let mut reader = Reader::new(&out);
            assert_eq!(OriginEntry::decode(&mut reader), Ok(entry));
            assert!(reader.is_empty());
            for cut in 0..out.len() {
                assert!(
                    OriginEntry::decode(&mut Reader::new(&out[..cut])).is_err(),
                    "cut at {cut}"
                );
            }
        }
    }
}
