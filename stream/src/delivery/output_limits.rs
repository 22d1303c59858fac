//! What an output takes, of one record and at once, and where it wants units that are not records.
//!
//! A record that the output cannot hold becomes a dead letter by reason, never another record: a tombstone would come out
//! as an empty payload. Headers that it has no room for are left out, and counted.

use hydrant_core::batch::Batch;
use hydrant_core::stream::{KeyRule, StreamWriter};

/// The limits of an output.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputLimits {
    /// Bytes of key, payload and headers of one record.
    pub(super) record_bytes_max: usize,
    /// The bytes worth sending at once.
    pub(super) append_bytes: usize,
    pub(super) keys: KeyRule,
    pub(super) keeps_headers: bool,
    /// Whether the output drops copies by what it has of a route: a unit then goes where its record would.
    pub(super) checks_appends: bool,
}

/// Why an output cannot hold a record; no value of the record is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// The code of its dead letter.
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

impl OutputLimits {
    pub(super) fn of(writer: &dyn StreamWriter) -> Self {
        OutputLimits {
            record_bytes_max: writer.record_bytes_max(),
            append_bytes: writer.append_bytes_target(),
            keys: writer.keys(),
            keeps_headers: writer.keeps_headers(),
            checks_appends: writer.checks_appends(),
        }
    }

    /// Leaves out headers that the output has no room for, and counts the records that lose some.
    pub(super) fn fit_headers(&self, batch: &mut Batch) {
        if self.keeps_headers || batch.headers.is_empty() {
            return;
        }
        let headers = std::mem::take(&mut batch.headers);
        let lost = headers.iter().filter(|span| span.len > 0).count();
        metrics::counter!("hydrant_lanes_headers_dropped_total").increment(lost as u64);
    }

    /// Why the output cannot hold a record of the batch; `None` when it can.
    pub(super) fn misfit(&self, batch: &Batch, index: usize) -> Option<Misfit> {
        let (bytes, max) = (batch.record_bytes(index), self.record_bytes_max);
        if bytes > max {
            return Some(Misfit {
                reason: "record_too_large",
                detail: format!(
                    "{bytes} bytes of key, payload and headers; the output takes {max}"
                ),
            });
        }
        if !self.keeps_headers && batch.is_tombstone(index) {
            return Some(Misfit {
                reason: "tombstone",
                detail: "the output cannot hold a record without payload".to_owned(),
            });
        }
        let KeyRule::Text { chars_max } = self.keys else {
            return None;
        };
        let reason = self.keys.misfit(batch.key(&batch.records[index])?)?;
        Some(Misfit {
            reason,
            detail: format!("the output takes keys of 1 to {chars_max} characters of UTF-8"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use hydrant_core::batch::{Entry, RunBuilder, Span, Step};
    use hydrant_core::hash::Routing;
    use hydrant_core::headers::put_header;
    use hydrant_core::origin::DeadLetter;
    use hydrant_core::shard::{HashRange, Shard, ShardMap};
    use hydrant_core::stream::{Unit, UnitKind};
    use hydrant_core::transform::Transformed;
    use hydrant_core::{Position, ShardId};

    use super::super::plan::AppendSlice;
    use super::super::route::{RouteRule, Table};
    use super::super::tests::upstream;
    use super::super::{Keys, Planner};
    use super::*;

    /// Records with these keys, a header each; 1 and 3 are tombstones.
    fn batch(keys: &[Option<&[u8]>]) -> Batch {
        let (mut bytes, mut runs) = (Vec::new(), RunBuilder::default());
        let mut batch = Batch::default();
        for (n, key) in (0..).zip(keys) {
            let mut put = |part: &[u8]| {
                let start = bytes.len() as u32;
                bytes.extend_from_slice(part);
                Span::new(start, part.len() as u32)
            };
            let mut block = Vec::new();
            put_header(&mut block, "h", None);
            let tombstone = n == 1 || n == 3;
            if tombstone {
                batch.tombstones.push(n);
            }
            batch.records.push(Entry {
                segment: 0,
                key: key.map(&mut put),
                payload: put(if tombstone { b"" } else { b"{}" }),
                stamp: 0,
            });
            batch.headers.push(put(&block));
            runs.push(u64::from(n).into(), 0, Step::Sequence, 0);
            batch.to = Position::offset(u64::from(n));
        }
        batch.segments = [Bytes::from(bytes)].into();
        batch.runs = runs.finish();
        assert!(batch.is_aligned());
        batch
    }

    /// The position and the reason of a dead letter.
    type Refused = (u64, String);

    /// What becomes of such records in an output: the positions of those that go on, whether each has headers, and the reasons
    /// of the others by position.
    fn planned(
        keeps_headers: bool,
        keys: KeyRule,
        of: &[Option<&[u8]>],
    ) -> (Vec<(u64, bool)>, Vec<Refused>) {
        let (mut kept, mut refused) = (Vec::new(), Vec::new());
        for (_, piece) in pieces(Keys::Kept, keeps_headers, keys, of) {
            let record_indexes = piece.record_indexes.iter().zip(piece.origins.iter());
            kept.extend(record_indexes.map(|(pick, origin)| {
                let headers = piece.batch.headers(*pick as usize);
                (origin.sequence.offset().unwrap(), !headers.is_empty())
            }));
            for unit in piece.units.iter() {
                let at = unit.origin.sequence.offset().unwrap();
                refused.push((at, letter(unit).reason.to_string()));
            }
        }
        (kept, refused)
    }

    fn letter(unit: &Unit) -> &DeadLetter {
        match &unit.what {
            UnitKind::DeadLetter(letter) => letter,
            dropped => panic!("{dropped:?}"),
        }
    }

    fn pieces(
        stage: Keys,
        keeps_headers: bool,
        keys: KeyRule,
        of: &[Option<&[u8]>],
    ) -> Vec<(ShardId, AppendSlice)> {
        let shard = Shard {
            id: "0".into(),
            range: HashRange::ALL,
            parents: Vec::new(),
            closed: false,
        };
        let planner = Planner {
            rule: RouteRule::new(stage, &Routing::Md5, "a".into()),
            upstream: Arc::new(upstream("a", Position::Begin)),
            table: Table::new(ShardMap::new(vec![shard]), &Routing::Md5).unwrap(),
            limits: OutputLimits {
                record_bytes_max: 100,
                append_bytes: 1000,
                keys,
                keeps_headers,
                checks_appends: true,
            },
        };
        let batch = batch(of);
        let routes = planner.routes(&batch);
        let all = Transformed {
            sources: (0..batch.len() as u32).collect(),
            rekeyed: vec![false; batch.len()],
            input: batch.len() as u32,
            batch,
            ..Transformed::default()
        };
        planner.plan(all, &routes, 0).unwrap().pieces
    }

    /// A stage that replaces keys has scanned this one; a copy has not, and its dead letters are handed on as they are.
    #[test]
    fn a_key_that_was_not_scanned_is_in_no_dead_letter() {
        let named: &[u8] = b"ann@example.com";
        for (stage, shown) in [
            (Keys::Replaced, Some("ann@example.com")),
            (Keys::Kept, None),
        ] {
            let text = KeyRule::Text { chars_max: 3 };
            let pieces = pieces(stage, true, text, &[Some(named)]);
            let unit = &pieces[0].1.units[0];
            assert_eq!(letter(unit).key.as_deref(), shown, "{stage:?}");
        }
    }

    #[test]
    fn what_an_output_cannot_hold_is_a_dead_letter_by_reason() {
        let long = [b'k'; 101];
        let keys: [Option<&[u8]>; 7] = [
            Some(b"k"),
            Some(b"k"),
            None,
            None,
            Some(b"\xff"),
            Some(b""),
            Some(&long),
        ];
        let (kept, refused) = planned(true, KeyRule::Any, &keys);
        assert_eq!(kept, [0, 1, 2, 3, 4, 5].map(|at| (at, true)));
        assert_eq!(refused, [(6, "record_too_large".to_owned())]);

        let text = KeyRule::Text { chars_max: 256 };
        let (kept, refused) = planned(false, text, &keys);
        assert_eq!(kept, [0, 2].map(|at| (at, false)));
        let reasons = [
            (1, "tombstone"),
            (3, "tombstone"),
            (4, "key_not_text"),
            (5, "key_empty"),
            (6, "record_too_large"),
        ];
        assert_eq!(refused, reasons.map(|(at, reason)| (at, reason.to_owned())));
    }

    #[test]
    fn headers_count_in_the_size_of_a_record() {
        let key = [b'k'; 96];
        // 96 of the key, 2 of the payload, 3 of the headers.
        let (kept, refused) = planned(true, KeyRule::Any, &[Some(&key)]);
        assert_eq!((kept.len(), refused.len()), (0, 1));
        let (kept, refused) = planned(false, KeyRule::Any, &[Some(&key)]);
        assert_eq!((kept.len(), refused.len()), (1, 0));
    }
}
