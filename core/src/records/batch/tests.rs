use proptest::prelude::*;

use super::*;
use crate::headers::{is_block, put_header, read_headers};

#[test]
fn runs_give_each_record_its_position() {
    let mut runs = RunBuilder::default();
    let wanted = [
        (5u64, 0u32, Step::Sequence),
        (6, 0, Step::Sequence),
        (9, 0, Step::Sequence),
        (10, 0, Step::Sub),
        (10, 1, Step::Sub),
    ];
    for (sequence, sub, step) in wanted {
        runs.push(Sequence::from(sequence), sub, step, 1);
    }
    let entry = Entry {
        segment: 0,
        key: None,
        payload: Span::default(),
        stamp: 0,
    };
    let batch = Batch {
        records: vec![entry; 5],
        runs: runs.finish(),
        ..Batch::default()
    };
    assert_eq!(batch.runs.len(), 3);
    let all: Vec<_> = batch
        .positions()
        .map(|(s, sub, _)| (s.offset().unwrap(), sub))
        .collect();
    assert_eq!(all, wanted.map(|(s, sub, _)| (s, sub)));
    for (index, (sequence, sub)) in all.iter().enumerate() {
        assert_eq!(batch.position(index), (Sequence::from(*sequence), *sub));
    }
}

/// A record as it went in, or came out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whole {
    key: Option<Vec<u8>>,
    /// `None` for a tombstone.
    payload: Option<Vec<u8>>,
    stamp: i64,
    hash: Option<u128>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    arrival: i64,
    position: (Sequence, u32),
}

/// What may be known of a record.
type Known = (
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Option<Vec<u8>>)>,
    u8,
    u8,
);

fn known() -> impl Strategy<Value = Known> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..4);
    let header = ("[a-c]{0,2}", prop::option::of(bytes()));
    let headers = prop::collection::vec(header, 0..3);
    let (key, payload) = (prop::option::of(bytes()), prop::option::of(bytes()));
    (key, payload, headers, any::<u8>(), any::<u8>())
}

/// The batch of these records, and what it says of each. `columns` says which of the columns it has.
fn batch(known: Vec<Known>, columns: [bool; 4]) -> (Batch, Vec<Whole>) {
    let [hashes, headers, tombstones, arrivals] = columns;
    let mut runs = match arrivals {
        true => RunBuilder::whatever_the_arrival(),
        false => RunBuilder::default(),
    };
    let (mut batch, mut segments, mut wholes) = (Batch::default(), Vec::new(), Vec::new());
    let mut sequence = 0u64;
    for (n, (key, payload, all, gap, late)) in known.into_iter().enumerate() {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(part);
            Span::new(start, part.len() as u32)
        };
        let payload = match tombstones {
            true => payload,
            false => Some(payload.unwrap_or_default()),
        };
        let entry = Entry {
            segment: n as u32,
            key: key.as_deref().map(&mut put),
            payload: put(payload.as_deref().unwrap_or_default()),
            stamp: n as i64,
        };
        sequence += u64::from(gap % 2) + 1;
        let arrival = match arrivals {
            true => i64::from(late),
            false => i64::from(late % 2),
        };
        runs.push(sequence.into(), 0, Step::Sequence, arrival);
        let mut block = Vec::new();
        for (name, value) in all.iter().filter(|_| headers) {
            put_header(&mut block, name, value.as_deref());
        }
        if headers {
            batch.headers.push(put(&block));
        }
        if arrivals {
            batch.arrivals.push(arrival);
        }
        if payload.is_none() {
            batch.tombstones.push(n as u32);
        }
        if hashes {
            batch.hashes.push(n as u128);
        }
        wholes.push(Whole {
            key,
            payload,
            stamp: n as i64,
            hash: hashes.then_some(n as u128),
            headers: if headers { all } else { Vec::new() },
            arrival,
            position: (sequence.into(), 0),
        });
        batch.records.push(entry);
        segments.push(Bytes::from(bytes));
    }
    batch.segments = segments.into();
    batch.runs = runs.finish();
    (batch, wholes)
}

fn wholes(batch: &Batch) -> Vec<Whole> {
    assert!(batch.is_aligned());
    let positions: Vec<_> = batch.positions().collect();
    assert_eq!(positions.len(), batch.len());
    assert_eq!(
        batch.last_arrival(),
        positions.last().map(|(.., arrival)| *arrival)
    );
    (0..batch.len())
        .map(|index| {
            let entry = &batch.records[index];
            let payload = batch.payload(entry).to_vec();
            let block = batch.headers(index);
            assert!(is_block(block));
            let (sequence, sub, arrival) = positions[index];
            assert_eq!(batch.arrival(index), arrival);
            assert_eq!(batch.position(index), (sequence, sub));
            Whole {
                key: batch.key(entry).map(<[u8]>::to_vec),
                payload: (!batch.is_tombstone(index)).then_some(payload),
                stamp: entry.stamp,
                hash: batch.hashes.get(index).copied(),
                headers: read_headers(block)
                    .map(|header| {
                        let header = header.unwrap();
                        (header.name.to_owned(), header.value.map(<[u8]>::to_vec))
                    })
                    .collect(),
                arrival,
                position: (sequence, sub),
            }
        })
        .collect()
}

fn picked(wholes: &[Whole], picks: &[u32]) -> Vec<Whole> {
    let picked = picks.iter().map(|pick| wholes[*pick as usize].clone());
    picked.collect()
}

proptest! {
    #[test]
    fn whatever_is_picked_keeps_all_that_is_known_of_it(
        known in prop::collection::vec(known(), 0..12), columns in any::<[bool; 4]>(), picks in any::<u16>(),
    ) {
        let (whole, all) = batch(known.clone(), columns);
        prop_assert_eq!(wholes(&whole), all.clone());
        let picks: Vec<u32> = (0..all.len() as u32).filter(|n| picks >> n & 1 == 1).collect();

        let mut kept = batch(known.clone(), columns).0;
        kept.keep(&picks);
        prop_assert_eq!(wholes(&kept), picked(&all, &picks));

        let (mut cut, len) = (batch(known.clone(), columns).0, picks.len());
        cut.truncate(len);
        prop_assert_eq!(&wholes(&cut)[..], &all[..len]);

        // Made again elsewhere, without headers.
        let mut replaced = batch(known, columns).0;
        let records = picks.iter().map(|pick| whole.records[*pick as usize]).collect();
        replaced.replace(&picks, records);
        let mut wanted = picked(&all, &picks);
        wanted.iter_mut().for_each(|one| one.headers.clear());
        prop_assert_eq!(wholes(&replaced), wanted);
    }
}

#[test]
fn a_batch_that_is_cut_keeps_the_origins_of_what_is_left() {
    let known = |n: u8| (None, Some(vec![n]), Vec::new(), 0, 0);
    let entry = Arc::new(OriginEntry {
        writer: crate::origin::WriterId(1),
        shard: "up".into(),
        low: Position::Begin,
        from: Position::Begin,
        to: Position::offset(9),
        origins: (0..4u64)
            .map(|n| Origin {
                sequence: n.into(),
                sub: 0,
                index: 0,
            })
            .collect(),
        start: Position::Begin,
        account: None,
    });
    let span = |records| OriginSpan {
        records,
        skip: 0,
        entry: Arc::clone(&entry),
    };
    let (mut batch, _) = batch((0..6).map(known).collect(), [false; 4]);
    batch.origins = vec![span(0..3), span(3..5), span(5..6)];
    batch.truncate(4);
    let left: Vec<_> = batch.origins.iter().map(|of| of.records.clone()).collect();
    assert_eq!(left, [0..3, 3..4]);
    assert_eq!(batch.origin(3).unwrap().1.sequence, 0u64.into());
}

/// Arrivals of their own cost a record its eight bytes, not a run.
#[test]
fn columns_cost_what_they_hold() {
    let known = |n: u8| (None, Some(vec![n]), Vec::new(), 0, n);
    let all: Vec<Known> = (0..100).map(known).collect();
    let (without, _) = batch(all.clone(), [false; 4]);
    let (mut with, _) = batch(all, [false, false, false, true]);
    assert_eq!(with.runs.len(), 1);
    assert!(without.headers.is_empty() && without.tombstones.is_empty());
    let one_run = size_of::<Run>() as u64;
    let runs = without.runs.len() as u64 * one_run;
    assert_eq!(
        with.memory_bytes() - one_run,
        without.memory_bytes() - runs + 8 * 100
    );
    let before = with.memory_bytes();
    with.duplicates = vec![(Position::offset(1), 3); 10];
    let one = size_of::<(Position, u64)>() as u64;
    assert_eq!(with.memory_bytes(), before + 10 * one);
    with.headers = vec![Span::default(); 100];
    with.tombstones = vec![1, 2];
    assert_eq!(with.memory_bytes(), before + 10 * one + 8 * 100 + 4 * 2);
}
