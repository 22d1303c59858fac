//! Dead letters as rows of a file.
//!
//! Owns the columns of `_hydrant/<table>/dead-letters/`. Promises that a dead letter of an earlier stage has no
//! payload, because the payload was never scanned, that a dead letter of this sink has the payload as it was read
//! from the stream, and that no footer has a minimum or maximum of keys, details and payloads. Refuses nothing: a record that cannot become a row of the table can always become a row here.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::ArrowError;
use bytes::Bytes;
use hydrant_core::origin::DeadLetter;

use crate::lake::position_hash::PositionHash;

/// The value of `stage` in this sink's dead letters.
pub(crate) const STAGE: &str = "sink";

/// The columns whose values do not get into a footer: nobody who reads metadata only should find parts of records.
pub(crate) const DEAD_LETTER_TEXTS: &[&str] = &["key", "detail", "payload"];

/// The memory that a dead letter takes beside its texts and its payload: 192 bytes, as much again for what it points
/// to, and its columns when it becomes a row, which grow by doubling.
const DEAD_LETTER_BYTES: u64 = 640;
/// How often text and payload are in memory when a dead letter is published: in itself, in the columns, and in the
/// file, once being encoded and once as a whole.
const DEAD_LETTER_COPIES: u64 = 4;

/// A dead letter as the table stores it, with the payload when this sink refused the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Position and reason.
    pub entry: DeadLetter,
    /// The payload of the record. For a record that was decoded before it was refused, the row as JSON.
    pub payload: Option<Bytes>,
}

impl StoredDeadLetter {
    /// The memory that the dead letter takes, with what publishing it will take.
    pub fn bytes(&self) -> u64 {
        let payload = self.payload.as_ref().map_or(0, Bytes::len);
        StoredDeadLetter::bytes_of(&self.entry) + payload as u64 * DEAD_LETTER_COPIES
    }

    /// The same for a dead letter without payload.
    pub(crate) fn bytes_of(dead_letter: &DeadLetter) -> u64 {
        let key = dead_letter.key.as_ref().map_or(0, |key| key.len());
        DEAD_LETTER_BYTES + (key + dead_letter.detail.len()) as u64 * DEAD_LETTER_COPIES
    }

    /// Removes everything but position and reason.
    pub(crate) fn strip(&mut self) {
        self.payload = None;
        self.entry.key = None;
        self.entry.detail.clear();
    }

    /// Whether there is nothing to strip.
    pub(crate) fn is_bare(&self) -> bool {
        self.payload.is_none() && self.entry.key.is_none() && self.entry.detail.is_empty()
    }
}

/// Makes one batch of dead letters, in their order.
///
/// # Errors
/// Arrow refuses the arrays, which their construction rules out.
pub fn dead_letter_batch(dead_letters: &[StoredDeadLetter]) -> Result<RecordBatch, ArrowError> {
    let may_have_payload = |letter: &StoredDeadLetter| *letter.entry.stage == *STAGE;
    debug_assert!(
        dead_letters
            .iter()
            .all(|letter| letter.payload.is_none() || may_have_payload(letter)),
        "the payload of an earlier stage was never scanned"
    );
    let entries = || dead_letters.iter().map(|dead_letter| &dead_letter.entry);
    let text = |read: &dyn Fn(&DeadLetter) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(entries().map(read)))
    };
    let integer = |read: &dyn Fn(&DeadLetter) -> u64| -> ArrayRef {
        let values = entries().map(|entry| i64::try_from(read(entry)).unwrap_or(i64::MAX));
        Arc::new(Int64Array::from_iter_values(values))
    };
    let keys: StringArray = entries().map(|entry| entry.key.as_deref()).collect();
    let payloads = dead_letters.iter().map(|letter| letter.payload.as_deref());
    let payloads: BinaryArray = payloads.collect();
    let times = TimestampMicrosecondArray::from_iter_values(entries().map(|entry| entry.time));
    let columns: [(&str, ArrayRef, bool); 11] = [
        ("stream", text(&|letter| letter.stream.to_string()), false),
        ("shard", text(&|letter| letter.shard.to_string()), false),
        (
            "sequence",
            text(&|letter| letter.sequence.to_string()),
            false,
        ),
        ("sub", integer(&|letter| u64::from(letter.sub)), false),
        ("key", Arc::new(keys), true),
        ("stage", text(&|letter| letter.stage.to_string()), false),
        ("reason", text(&|letter| letter.reason.to_string()), false),
        ("detail", text(&|letter| letter.detail.clone()), false),
        ("length", integer(&|letter| letter.length), false),
        ("payload", Arc::new(payloads), true),
        ("time", Arc::new(times.with_timezone("UTC")), false),
    ];
    RecordBatch::try_from_iter_with_nullable(columns)
}

/// The digest of the positions of dead letters, in their order.
pub fn dead_letter_hash(dead_letters: &[StoredDeadLetter]) -> String {
    let mut hash = PositionHash::default();
    for StoredDeadLetter { entry, .. } in dead_letters {
        hash.text(&entry.stream);
        hash.text(entry.shard.as_str());
        hash.position(entry.sequence, entry.sub);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use arrow_array::Array as _;
    use arrow_array::cast::AsArray as _;
    use hydrant_core::Sequence;

    use super::*;

    fn dead_letter(n: u64, payload: Option<&'static [u8]>) -> StoredDeadLetter {
        StoredDeadLetter {
            entry: DeadLetter {
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
    fn dead_letters_become_rows_with_payload_only_where_it_was_scanned() {
        let dead_letters = [dead_letter(1, None), dead_letter(2, Some(b"\xff{}"))];
        let batch = dead_letter_batch(&dead_letters).unwrap();
        assert_eq!(batch.num_rows(), 2);
        let column = |name: &str| batch.column_by_name(name).unwrap();
        assert!(column("payload").is_null(0) && column("key").is_null(0));
        assert_eq!(column("payload").as_binary::<i32>().value(1), b"\xff{}");
        assert_eq!(
            column("sequence").as_string::<i32>().value(1),
            Sequence::from_parts(1, 2).to_string()
        );
        assert_ne!(
            dead_letter_hash(&dead_letters),
            dead_letter_hash(&dead_letters[..1])
        );
        let swapped = [dead_letters[1].clone(), dead_letters[0].clone()];
        assert_ne!(dead_letter_hash(&dead_letters), dead_letter_hash(&swapped));
    }
}
