//! Dead letters as rows of a file.
//!
//! Owns the columns of `_hydrant/<table>/dead-letters/`. Promises that a letter of an earlier stage has no payload (it
//! was never scanned) and that one of this sink has it, as it was read from the stream. Refuses nothing: what cannot
//! become a row of the table can always become a row here.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use hydrant_core::origin::DeadLetter;

use crate::lake::position_hash::PositionHash;

/// What a letter costs in memory beside its texts and its payload: 192 bytes, what it points to, which is as much, and
/// its columns when it becomes a row, which grow by doubling.
const LETTER_BYTES: u64 = 640;
/// How often text and payload are in memory when a letter is published: in the letter, in the columns, and in the file,
/// once as it is encoded and once as a whole.
const LETTER_COPIES: u64 = 4;

/// A dead letter, with the payload when this sink gave the record up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Place and reason.
    pub letter: DeadLetter,
    /// The record's payload; of a record that was decoded before it was refused, the row as JSON.
    pub payload: Option<Bytes>,
}

impl StoredDeadLetter {
    /// What it takes in memory, with what publishing it will take.
    pub fn bytes(&self) -> u64 {
        let payload = self.payload.as_ref().map_or(0, Bytes::len);
        StoredDeadLetter::bytes_of(&self.letter) + payload as u64 * LETTER_COPIES
    }

    /// The same of a letter without payload.
    pub(crate) fn bytes_of(letter: &DeadLetter) -> u64 {
        let key = letter.key.as_ref().map_or(0, |key| key.len());
        LETTER_BYTES + (key + letter.detail.len()) as u64 * LETTER_COPIES
    }

    /// Leaves place and reason only.
    pub(crate) fn strip(&mut self) {
        self.payload = None;
        self.letter.key = None;
        self.letter.detail.clear();
    }

    /// Whether there is nothing to strip.
    pub(crate) fn is_bare(&self) -> bool {
        self.payload.is_none() && self.letter.key.is_none() && self.letter.detail.is_empty()
    }
}

/// The columns of a file of dead letters.
pub fn letter_schema() -> Arc<Schema> {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        text("stream", false),
        text("shard", false),
        text("sequence", false),
        Field::new("sub", DataType::Int64, false),
        text("key", true),
        text("stage", false),
        text("reason", false),
        text("detail", false),
        Field::new("length", DataType::Int64, false),
        Field::new("payload", DataType::Binary, true),
        Field::new("time", time, false),
    ]))
}

/// The letters as one batch, in their order.
///
/// # Errors
/// Arrow refuses the arrays, which their construction rules out.
pub fn letter_batch(letters: &[StoredDeadLetter]) -> Result<RecordBatch, ArrowError> {
    let text = |read: &dyn Fn(&DeadLetter) -> String| -> ArrayRef {
        let mut column = StringBuilder::new();
        letters
            .iter()
            .for_each(|letter| column.append_value(read(&letter.letter)));
        Arc::new(column.finish())
    };
    let integer = |read: &dyn Fn(&DeadLetter) -> u64| -> ArrayRef {
        let values = letters
            .iter()
            .map(|l| i64::try_from(read(&l.letter)).unwrap_or(i64::MAX));
        Arc::new(Int64Array::from_iter_values(values))
    };
    let mut keys = StringBuilder::new();
    let mut payloads = BinaryBuilder::new();
    for letter in letters {
        keys.append_option(letter.letter.key.as_deref());
        payloads.append_option(letter.payload.as_deref());
    }
    let times = letters.iter().map(|letter| letter.letter.time);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    RecordBatch::try_new(
        letter_schema(),
        vec![
            text(&|letter| letter.stream.to_string()),
            text(&|letter| letter.shard.to_string()),
            text(&|letter| letter.sequence.to_string()),
            integer(&|letter| u64::from(letter.sub)),
            Arc::new(keys.finish()),
            text(&|letter| letter.stage.to_string()),
            text(&|letter| letter.reason.to_string()),
            text(&|letter| letter.detail.clone()),
            integer(&|letter| letter.length),
            Arc::new(payloads.finish()),
            Arc::new(times),
        ],
    )
}

/// The digest of the places of letters, in their order.
pub fn letter_hash(letters: &[StoredDeadLetter]) -> String {
    let mut hash = PositionHash::default();
    for StoredDeadLetter { letter, .. } in letters {
        hash.text(&letter.stream);
        hash.text(letter.shard.as_str());
        hash.position(letter.sequence, letter.sub);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use arrow_array::Array as _;
    use arrow_array::cast::AsArray as _;
    use hydrant_core::Sequence;

    use super::*;

    fn letter(n: u64, payload: Option<&'static [u8]>) -> StoredDeadLetter {
        StoredDeadLetter {
            letter: DeadLetter {
                stream: "clean@1".into(),
                shard: "000000".into(),
                sequence: Sequence::from_parts(1, u128::from(n)),
                sub: 2,
                key: payload.map(|_| "device-1".into()),
                stage: "sink".into(),
                reason: "not_utf8".into(),
                detail: "at byte 3".to_owned(),
                length: 7,
                time: 1_700_000_000_000_000,
            },
            payload: payload.map(Bytes::from_static),
        }
    }

    #[test]
    fn letters_become_rows_with_payload_only_where_it_was_scanned() {
        let letters = [letter(1, None), letter(2, Some(b"\xff{}"))];
        let batch = letter_batch(&letters).unwrap();
        assert_eq!(batch.num_rows(), 2);
        let column = |name: &str| batch.column_by_name(name).unwrap();
        assert!(column("payload").is_null(0) && column("key").is_null(0));
        assert_eq!(column("payload").as_binary::<i32>().value(1), b"\xff{}");
        assert_eq!(
            column("sequence").as_string::<i32>().value(1),
            Sequence::from_parts(1, 2).to_string()
        );
        assert_ne!(letter_hash(&letters), letter_hash(&letters[..1]));
        let swapped = [letters[1].clone(), letters[0].clone()];
        assert_ne!(letter_hash(&letters), letter_hash(&swapped));
    }
}
