//! Which partition a row lies in.

use std::collections::HashMap;

use hydrant_json::{JsonString, unescape};

use super::provenance::RowOrigin;
use super::row::Captures;
use crate::table::event_time::{TimeReader, UntimedReason, is_late};
use crate::table::partition::{PartitionKey, PartitionSpec};
use crate::table::partition_value::ReadValue;

/// The longest field values, as written, whose partition is remembered.
const WRITTEN_BYTES_MAX: usize = 1_024;

/// When the remembered field values take more bytes, they are forgotten: values that rarely repeat are not worth it.
const SEEN_BYTES_MAX: usize = 1 << 20;

/// What a remembered field value takes beside its bytes.
const SEEN_BYTES: usize = 48;

/// What a partition takes beside its key, from its first row until its file is visible: the plan of the file, the names
/// that it has in the lake, and its part of the commit record.
const PARTITION_BYTES: usize = 2_048;

/// The partitions of a decoder's rows, numbered as they come.
#[derive(Debug)]
pub(super) struct PartitionRouter {
    spec: PartitionSpec,
    times: TimeReader,
    /// In microseconds.
    lateness_max: Option<i64>,
    keys: Vec<PartitionKey>,
    ids: HashMap<PartitionKey, u32>,
    /// The bucket and partition of the last row, where time alone decides.
    last: Option<(Option<i64>, u32)>,
    /// Field values as written, to their partitions; spares building the key of every row.
    seen: HashMap<Vec<u8>, u32>,
    seen_bytes: usize,
    /// The bytes of the keys.
    key_bytes: usize,
    written: Vec<u8>,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routed {
    /// The number of the partition.
    pub(super) partition: u32,
    /// The event time, if it names a partition.
    pub(super) time: Result<i64, UntimedReason>,
}

impl PartitionRouter {
    pub(super) fn new(spec: PartitionSpec, times: TimeReader, lateness_max: Option<i64>) -> Self {
        Self {
            spec,
            times,
            lateness_max,
            keys: Vec::new(),
            ids: HashMap::new(),
            last: None,
            seen: HashMap::new(),
            seen_bytes: 0,
            key_bytes: 0,
            written: Vec::new(),
        }
    }

    pub(super) fn keys(self) -> (Vec<PartitionKey>, PartitionSpec) {
        (self.keys, self.spec)
    }

    /// How many partitions there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Forgets the partitions from number `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        let is_kept = |id: &u32| (*id as usize) < len;
        self.keys.truncate(len);
        self.key_bytes = self.keys.iter().map(PartitionKey::bytes).sum();
        self.ids.retain(|_, id| is_kept(id));
        self.seen.retain(|_, id| is_kept(id));
        self.last = self.last.filter(|(_, id)| is_kept(id));
    }

    /// The bytes that the partitions take, with what planning and naming a file for each will take.
    pub(super) fn bytes(&self) -> u64 {
        let held = self.seen_bytes + 2 * self.key_bytes + self.keys.len() * PARTITION_BYTES;
        held as u64
    }

    /// The partition of a row.
    pub(super) fn route(
        &mut self,
        payload: &[u8],
        captures: &Captures,
        origin: &RowOrigin<'_>,
    ) -> Routed {
        let arrival_micros = origin.arrival_micros;
        let fallback_micros = origin.stamp_micros.unwrap_or(arrival_micros);
        let time = self.time(payload, captures, fallback_micros);
        let bucket = time.ok().and_then(|micros| {
            let late = self
                .lateness_max
                .is_some_and(|max| is_late(micros, max, arrival_micros));
            match late {
                true => self.spec.month(micros),
                false => self.spec.bucket(micros),
            }
        });
        #[cfg(test)]
        crate::tests::fault::in_text("fault:route", payload);
        let partition = if captures.fields.is_empty() {
            match self.last {
                Some((last, id)) if last == bucket => id,
                _ => {
                    let id = self.id_of(PartitionKey {
                        bucket,
                        values: Vec::new(),
                    });
                    self.last = Some((bucket, id));
                    id
                }
            }
        } else {
            self.route_by_fields(payload, captures, bucket)
        };
        Routed { partition, time }
    }

    fn time(
        &self,
        payload: &[u8],
        captures: &Captures,
        fallback_micros: i64,
    ) -> Result<i64, UntimedReason> {
        let mut candidates = captures.times.iter().flatten().peekable();
        if candidates.peek().is_none() {
            let stamp = self.times.in_window(fallback_micros);
            return stamp.map_err(|_| UntimedReason::Missing);
        }
        let micros =
            candidates.find_map(|(start, end)| event_time(&payload[*start..*end], &self.times));
        self.times
            .in_window(micros.ok_or(UntimedReason::Unreadable)?)
    }

    fn route_by_fields(&mut self, payload: &[u8], captures: &Captures, bucket: Option<i64>) -> u32 {
        let mut written = std::mem::take(&mut self.written);
        written.clear();
        written.extend_from_slice(&bucket.unwrap_or(i64::MIN).to_le_bytes());
        for range in &captures.fields {
            if let Some((start, end)) = *range {
                written.extend_from_slice(&payload[start..end]);
            }
            // No JSON value holds this byte, so two rows of values cannot be written alike.
            written.push(0xff);
        }
        let known = self.seen.get(written.as_slice()).copied();
        let id = known.unwrap_or_else(|| {
            let values = captures.fields.iter().enumerate().map(|(slot, range)| {
                let (start, end) = (*range)?;
                let bytes_max = self.spec.value_bytes_max(slot);
                ReadValue::of(&payload[start..end], bytes_max).value
            });
            let values = values.collect();
            let id = self.id_of(PartitionKey { bucket, values });
            if self.seen_bytes > SEEN_BYTES_MAX {
                self.seen.clear();
                self.seen_bytes = 0;
            }
            if written.len() <= WRITTEN_BYTES_MAX {
                self.seen_bytes += written.len() + SEEN_BYTES;
                self.seen.insert(written.clone(), id);
            }
            id
        });
        self.written = written;
        id
    }

    fn id_of(&mut self, key: PartitionKey) -> u32 {
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        // A decoder takes fewer rows than numbers.
        let id = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.key_bytes += key.bytes();
        self.keys.push(key.clone());
        self.ids.insert(key, id);
        id
    }
}

/// The text of a string that lies from `start` to `end`, quotes included.
fn inside(start: usize, end: usize) -> JsonString {
    JsonString {
        start: start + 1,
        end: end - 1,
        plain: false,
    }
}

/// Reads a JSON value as an event time.
fn event_time(token: &[u8], times: &TimeReader) -> Option<i64> {
    match token.first()? {
        b'"' => {
            let inner = token.get(1..token.len() - 1)?;
            if !inner.contains(&b'\\') {
                return times.event_time(inner);
            }
            let mut text = Vec::new();
            unescape(token, inside(0, token.len()), &mut text).ok()?;
            times.event_time(&text)
        }
        b'-' | b'0'..=b'9' => times.number(token),
        _ => None,
    }
}
