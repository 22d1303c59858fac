//! Judges a run by the contents of the log.

use std::collections::BTreeMap;

use hydrant_core::stream::ShardState;
use hydrant_core::{Position, ShardId};

use super::super::witness::StoredRecords;
use super::fleet::{AckedThrough, record_of, route};

/// The contents of the log.
#[derive(Debug, Default)]
pub(super) struct FinalLog {
    pub(super) stored: StoredRecords,
    pub(super) states: Vec<ShardState>,
}

/// A record: its origin, and its number there.
pub(super) type RecordNumber = (usize, u64);

/// Answers what is wrong; `may_be_gone` says which records retention may have removed.
pub(super) fn judge(
    acked: &AckedThrough,
    found: &FinalLog,
    may_be_gone: impl Fn(RecordNumber) -> bool,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut places: BTreeMap<RecordNumber, Vec<(&ShardId, Position)>> = BTreeMap::new();
    let mut newest: BTreeMap<(&ShardId, usize), u64> = BTreeMap::new();
    let mut oldest: BTreeMap<(&ShardId, usize), u64> = BTreeMap::new();
    for ((_, shard, position), seen) in &found.stored {
        let Some((origin, n)) = record_of(&seen.payload) else {
            faults.push(format!(
                "{shard} {position} holds a record that no process sent"
            ));
            continue;
        };
        let place = (shard, *position);
        places.entry((origin, n)).or_default().push(place);
        oldest.entry((shard, origin)).or_insert(n);
        if let Some(before) = newest.insert((shard, origin), n)
            && before >= n
        {
            faults.push(format!(
                "record {n} of {origin} is at {shard} {position}, after {before}"
            ));
        }
    }
    for (record, places) in &places {
        if places.len() > 1 {
            faults.push(format!(
                "record {record:?} appears more than once: {places:?}"
            ));
        }
    }
    // Retention removes the front of a shard, never a record that is younger than a kept one of the same origin.
    let is_trimmed = |(origin, n): RecordNumber| {
        may_be_gone((origin, n))
            && found.states.iter().any(|state| {
                let oldest = oldest.get(&(&state.shard.id, origin));
                state.kept_after > Position::Begin
                    && state.shard.range.contains(route(origin, n))
                    && oldest.is_none_or(|oldest| n < *oldest)
            })
    };
    for (origin, to) in acked {
        let missing = |n: &u64| !places.contains_key(&(*origin, *n)) && !is_trimmed((*origin, *n));
        if let Some(n) = (1..=*to).find(missing) {
            faults.push(format!(
                "record {n} of {origin} was acknowledged, as all up to {to}, and is lost"
            ));
        }
    }
    faults
}
