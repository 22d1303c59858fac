//! What batching may not change: the order, the bytes, the indexes.

use hydrant_core::batch::Span;
use hydrant_core::{Budget, clock};
use proptest::prelude::*;

use super::*;

/// Records as (index, payload), cut into chunks.
fn chunk(records: &[(u64, Vec<u8>)], end: u64) -> InputChunk {
    let mut bytes = Vec::new();
    let mut entries = Vec::new();
    let mut runs: Vec<(u32, u64)> = Vec::new();
    for (n, (index, payload)) in records.iter().enumerate() {
        let n = n as u32;
        if runs
            .last()
            .is_none_or(|(first, start)| start + u64::from(n - first) != *index)
        {
            runs.push((n, *index));
        }
        entries.push(Entry {
            segment: 0,
            key: None,
            payload: Span::new(bytes.len() as u32, payload.len() as u32),
            stamp: 0,
        });
        bytes.extend_from_slice(payload);
    }
    InputChunk {
        segments: vec![bytes.into()],
        records: entries,
        runs,
        refused: Vec::new(),
        end,
        produced: clock::now(),
        permit: Permit::default(),
        part: FilePart::default(),
    }
}

fn contents(batch: &Batch) -> Vec<(u64, Vec<u8>)> {
    batch
        .positions()
        .zip(&batch.records)
        .map(|((sequence, _, _), entry)| {
            (sequence.offset().unwrap(), batch.payload(entry).to_vec())
        })
        .collect()
}

/// Rising indexes with gaps, each with a payload.
fn records() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let record = (
        prop_oneof![4 => Just(1u64), 1 => 2u64..5],
        prop::collection::vec(any::<u8>(), 0..20),
    );
    prop::collection::vec(record, 0..120).prop_map(|records| {
        let mut next = 0;
        records
            .into_iter()
            .map(|(step, payload)| {
                next += step;
                (next - 1, payload)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn batcher_does_not_reorder_lose_or_renumber(
        records in records(),
        sizes in prop::collection::vec(1usize..20, 1..6),
        target in 1u64..300,
        lingers in prop::collection::vec(any::<bool>(), 1..6),
    ) {
        let mut batcher = Batcher::new(target, Duration::from_millis(20), 4);
        let mut seen = Vec::new();
        let mut ends = Vec::new();
        let mut rest = &records[..];
        let mut turn = 0;
        while !rest.is_empty() {
            let size = sizes[turn % sizes.len()].min(rest.len());
            let (now, later) = rest.split_at(size);
            let end = later.first().map_or(now[size - 1].0 + 1, |next| next.0);
            let mut ready = batcher.push(chunk(now, end));
            if ready.is_none() && lingers[turn % lingers.len()] {
                ready = batcher.flush();
            }
            if let Some(ready) = ready {
                prop_assert_eq!(ready.flight.records, ready.batch.len() as u64);
                prop_assert_eq!(ready.batch.to.next_offset(), Some(ready.flight.end));
                ends.push(ready.flight.end);
                seen.extend(contents(&ready.batch));
                prop_assert_eq!(seen.last().map(|last| last.0 < ready.flight.end), Some(true));
            }
            rest = later;
            turn += 1;
        }
        if let Some(ready) = batcher.flush() {
            seen.extend(contents(&ready.batch));
        }
        prop_assert!(ends.is_sorted());
        prop_assert_eq!(seen, records);
        prop_assert!(batcher.deadline().is_none());
    }

    #[test]
    fn a_chunk_cut_in_two_is_the_same_chunk(records in records(), at in 0usize..130) {
        let end = records.last().map_or(0, |last| last.0 + 1);
        let mut back = chunk(&records, end);
        let mut batcher = Batcher::new(u64::MAX, Duration::ZERO, 4);
        let front = back.split_front(at);
        prop_assert_eq!(front.is_some(), at < records.len());
        if let Some(front) = front {
            prop_assert_eq!(front.records.len(), at);
            prop_assert_eq!(front.end, records[at].0);
            prop_assert!(batcher.push(front).is_none());
        }
        prop_assert!(batcher.push(back).is_none());
        let ready = batcher.flush().unwrap();
        prop_assert_eq!(ready.flight.end, end);
        prop_assert_eq!(contents(&ready.batch), records);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_its_linger_time_from_its_first_record() {
    let linger = Duration::from_millis(20);
    let mut batcher = Batcher::new(1_000, linger, 4);
    assert_eq!(batcher.deadline(), None);
    let start = clock::now();
    assert!(batcher.push(chunk(&[(0, vec![0; 10])], 1)).is_none());
    clock::sleep(Duration::from_millis(15)).await;
    assert!(batcher.push(chunk(&[(1, vec![0; 10])], 2)).is_none());
    assert_eq!(batcher.deadline(), Some(start + linger));
    let busy = start + Duration::from_secs(1);
    assert_eq!(batcher.deadline_while_busy(), Some(busy));
    assert_eq!(batcher.flush().unwrap().batch.len(), 2);
    assert_eq!(batcher.deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_what_the_one_before_costs_many_shards() {
    let ms = Duration::from_millis;
    let all: Vec<_> = (0..700).map(|n| (n, vec![0; 10])).collect();
    for (shards, records, pause) in [(600, 700, 600), (600, 40, 40), (8, 700, 20), (5_000, 1, 20)] {
        let mut batcher = Batcher::new(u64::MAX, ms(20), shards);
        assert!(batcher.push(chunk(&all[..records], 700)).is_none());
        assert_eq!(batcher.deadline(), Some(clock::now() + ms(20)));
        batcher.flush().unwrap();
        let start = clock::now();
        assert!(batcher.push(chunk(&[(700, vec![0; 10])], 701)).is_none());
        assert_eq!(batcher.deadline(), Some(start + ms(pause)));
        clock::sleep(ms(2_000)).await;
        batcher.flush().unwrap();
        clock::sleep(ms(10)).await;
        // What is long over counts no more.
        assert!(batcher.push(chunk(&[(701, vec![0; 10])], 702)).is_none());
        assert_eq!(batcher.deadline(), Some(clock::now() + ms(20)));
    }
    // Who wants each record at once gets that.
    let mut batcher = Batcher::new(u64::MAX, Duration::ZERO, 600);
    for n in 0..2 {
        assert!(batcher.push(chunk(&[(n, vec![0; 10])], n + 1)).is_none());
        assert_eq!(batcher.deadline(), Some(clock::now()));
        batcher.flush().unwrap();
    }
}

#[tokio::test]
async fn a_batch_holds_the_memory_of_its_chunks() {
    let budget = Budget::new(1 << 20);
    let mut batcher = Batcher::new(30, Duration::ZERO, 4);
    for n in 0..2 {
        let mut one = chunk(&[(n, vec![0; 15])], n + 1);
        one.permit = budget.acquire(2_048).await;
        if let Some(ready) = batcher.push(one) {
            assert_eq!((n, budget.held_bytes()), (1, 4_096));
            drop(ready);
            assert_eq!(budget.held_bytes(), 0);
            return;
        }
    }
    panic!("the batch was not full");
}

#[test]
fn an_input_without_records_still_moves_on() {
    let mut batcher = Batcher::new(30, Duration::ZERO, 4);
    assert!(batcher.push(chunk(&[], 12)).is_none());
    let ready = batcher.flush().unwrap();
    assert!(ready.batch.is_empty());
    assert_eq!(ready.batch.to, Position::offset(11));
}
