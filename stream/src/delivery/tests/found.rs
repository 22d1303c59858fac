//! What the readers of a stream hand on, held against what was sent.

use std::collections::{BTreeMap, BTreeSet};

use hydrant_core::lease::Progress;
use hydrant_core::stream::{OpenAt, Read, Stream};
use hydrant_core::{Budget, Position, Shard, ShardId};
use hydrant_testing::memory::MemoryStream;

use super::{Fate, LETTERS, STREAM, UNITS, fate, key};

/// The upstream shards.
pub(super) const SHARDS: [&str; 2] = ["a", "b"];

/// A record as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FoundRecord {
    /// Where it came from.
    shard: ShardId,
    sequence: u64,
    /// Where it is, and by which hash.
    output: ShardId,
    route: Option<u128>,
}

/// What the readers of a stream hand on.
#[derive(Default)]
pub(super) struct FoundRecords {
    /// In the order of shards after their parents.
    pub(super) records: Vec<FoundRecord>,
    dead_letters: BTreeMap<String, u32>,
    dropped: BTreeMap<String, u64>,
    /// The records whose keys were replaced: from which shard, and their sequence numbers.
    redacted: BTreeSet<(ShardId, u64)>,
    /// Copies that they dropped.
    pub(super) duplicates: u64,
}

/// Reads a stream that keeps the order of keys, and checks it.
pub(super) async fn check(stream: &MemoryStream, seed: u64, sent: [u64; 2]) {
    FoundRecords::read(stream).await.check(seed, sent, true);
}

impl FoundRecords {
    /// Reads each shard to its tip or end, with what the readers of its parents knew.
    pub(super) async fn read(stream: &MemoryStream) -> Self {
        let mut found = FoundRecords::default();
        let budget = Budget::new(1 << 30);
        let mut ends: BTreeMap<ShardId, Progress> = BTreeMap::new();
        let shards = stream.states().await.unwrap();
        // Children are named after their parents.
        for shard in shards.iter().map(|state| &state.shard) {
            let parents = shard.parents.iter();
            let parents = parents.map(|parent| (parent.clone(), ends[parent].clone()));
            let at = OpenAt::After {
                progress: Progress::default(),
                parents: parents.collect(),
            };
            let mut reader = stream.reader(&shard.id, at, &budget).await.unwrap();
            loop {
                match reader.next().await.unwrap() {
                    Read::Batch(batch) => found.take(&batch, shard),
                    Read::Idle { .. } => break,
                    Read::End { marks, .. } => {
                        let end = Progress {
                            to: Position::End,
                            marks,
                            ..Progress::default()
                        };
                        ends.insert(shard.id.clone(), end);
                        break;
                    }
                    gap @ Read::Gap { .. } => panic!("{gap:?}"),
                }
            }
        }
        found
    }

    fn take(&mut self, batch: &hydrant_core::Batch, shard: &Shard) {
        for n in 0..batch.len() {
            let (entry, origin) = batch.origin(n).expect("each record has an origin");
            let (stored, sequence) = (&batch.records[n], origin.sequence.offset().unwrap());
            if let Some(key) = batch.key(stored) {
                let route = batch
                    .hashes
                    .get(n)
                    .copied()
                    .expect("the routes of keys are stored");
                assert!(shard.range.contains(route));
                let redacted = (entry.shard.clone(), sequence);
                self.redacted
                    .extend((key == b"[EMAIL]").then_some(redacted));
            }
            self.records.push(FoundRecord {
                shard: entry.shard.clone(),
                sequence,
                output: shard.id.clone(),
                route: batch.hashes.get(n).copied(),
            });
        }
        for span in &batch.accounts {
            assert!(span.account.balances(), "{:?}", span.account);
            for letter in &span.account.dead_letters {
                let (stream, shard) = (&letter.stream, &letter.shard);
                let place = format!("{stream} {shard} {} {}", letter.sequence, letter.reason);
                *self.dead_letters.entry(place).or_default() += 1;
            }
            for dropped in &span.account.dropped {
                let rule = dropped.rule.to_string();
                *self.dropped.entry(rule).or_default() += dropped.count;
            }
        }
        self.duplicates += batch.duplicates.iter().map(|(_, count)| count).sum::<u64>();
    }

    /// Each unit at most once, those before these places once, and a key's records in their order.
    pub(super) fn check(&self, seed: u64, sent: [u64; 2], keeps_order: bool) {
        let mut counts: BTreeMap<(&str, u64), u32> = BTreeMap::new();
        let mut last: BTreeMap<(&str, String), u64> = BTreeMap::new();
        for FoundRecord {
            shard, sequence, ..
        } in &self.records
        {
            *counts.entry((shard.as_str(), *sequence)).or_default() += 1;
            if let Some(key) = key(*sequence, shard.as_str()) {
                let before = last.insert((shard.as_str(), key), *sequence);
                let in_order = before.is_none_or(|before| before < *sequence);
                assert!(
                    in_order || !keeps_order,
                    "{seed}: {sequence} after {before:?}"
                );
            }
        }
        for record in &self.records {
            let sequence = record.sequence;
            let is_redacted = fate(seed, sequence) == Fate::Rekeyed && sequence % 7 != 3;
            let found = self.redacted.contains(&(record.shard.clone(), sequence));
            assert_eq!(is_redacted, found, "{seed}");
        }
        let (mut noise, mut early) = (0, 0);
        let letter = |place: String| {
            assert_eq!(self.dead_letters.get(&place), Some(&1), "{seed}: {place}");
        };
        for (shard, sent) in SHARDS.iter().zip(sent) {
            for sequence in 0..sent {
                let count = counts.get(&(*shard, sequence)).copied().unwrap_or_default();
                let fate = fate(seed, sequence);
                let wanted = u32::from(matches!(fate, Fate::Kept | Fate::Rekeyed));
                assert_eq!(count, wanted, "{seed}: {shard} {sequence}");
                match fate {
                    Fate::Kept | Fate::Rekeyed => {}
                    Fate::Letter => letter(format!("{STREAM} {shard} {sequence} malformed_json")),
                    Fate::TooLarge => {
                        letter(format!("{STREAM}@1 {shard} {sequence} record_too_large"));
                    }
                    Fate::Dropped => noise += 1,
                    Fate::Account => {
                        for n in 0..LETTERS {
                            letter(format!("raw {shard} {sequence} reason-{n}"));
                        }
                        early += 2;
                    }
                }
            }
        }
        assert!(counts.values().all(|count| *count == 1), "{seed}");
        assert!(
            self.dead_letters.values().all(|count| *count == 1),
            "{seed}"
        );
        let dropped = |rule| self.dropped.get(rule).copied().unwrap_or_default();
        let (found_noise, found_early) = (dropped("noise"), dropped("early"));
        assert!(found_noise >= noise && found_early >= early, "{seed}");
        if sent == [UNITS; 2] {
            assert_eq!((found_noise, found_early), (noise, early), "{seed}");
        }
    }
}
