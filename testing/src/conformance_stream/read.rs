//! Order, resumption, tips, cancellation, budget and start positions.

use futures::FutureExt;

use super::scenario::*;
use super::{Harness, PATIENCE};
use crate::must;
use hydrant_core::budget::Budget;
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{Behind, OpenAt, Read, Start};

/// Batches of a shard come back in the order of their appends, with keys, payloads and stamps.
pub(super) async fn records_come_back_in_order_as_they_were_sent(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    assert!(!stream.url().is_empty() && !stream.id().name.is_empty());
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    assert!(writer.record_bytes_max() > 0 && writer.append_bytes_target() > 0);
    let mut all = messages("a", 40);
    all.push(Message {
        payload: String::new(),
        ..all[0].clone()
    });
    all.push(Message {
        payload: "x".repeat(20_000),
        ..all[1].clone()
    });
    if harness.keeps_keyless() {
        all.push(Message {
            key: None,
            ..all[2].clone()
        });
    }
    if !harness.keeps_stamps() {
        all.iter_mut().for_each(|message| message.stamp = 0);
    }
    let mut last = Position::Begin;
    for part in all.chunks(7) {
        let appended = send(&*writer, &shard, append(part)).await;
        let at = appended.last.expect("a new append takes a position");
        assert!(last < at, "positions fall: {last}, {at}");
        last = at;
    }
    let budget = Budget::new(AMPLE_BYTES);
    let mut reader = reader_with(&stream, &shard, Position::Begin, &budget).await;
    let (found, _) = read(&mut *reader, Some(all.len())).await;
    let mut read_back = sent(&found);
    if !harness.keeps_stamps() {
        read_back.iter_mut().for_each(|message| message.stamp = 0);
    }
    assert_eq!(read_back, all);
    for pair in found.windows(2) {
        assert!(pair[0].position < pair[1].position && pair[0].arrival <= pair[1].arrival);
    }
    assert_eq!(
        found[found.len() - 1].position,
        last,
        "the acknowledgement names another position"
    );
    let state = must(stream.states().await, "read states");
    assert_eq!(state[0].tip, harness.has_tips().then_some(last));
    let alone = must(stream.state(&state[0].shard.id).await, "read a state");
    assert_eq!(alone, state[0]);
    let unknown = stream.state(&ShardId::new("unknown")).await;
    assert!(unknown.is_err(), "a shard that is not there has a state");
    drop(reader);
    drop(found);
    assert_eq!(
        budget.held_bytes(),
        0,
        "a reader that was dropped holds bytes"
    );
}

/// A reader that is opened after the position of any record goes on with the next one, also inside an append.
pub(super) async fn reading_resumes_after_any_position(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    for name in ["a", "b"] {
        send(&*writer, &shard, append(&messages(name, 6))).await;
    }
    let all = read_all(&stream, &shard, Position::Begin).await;
    assert_eq!(all.len(), 12);
    for (n, record) in all.iter().enumerate() {
        let rest = read_all(&stream, &shard, record.position).await;
        assert_eq!(
            sent(&rest),
            sent(&all[n + 1..]),
            "after {}",
            record.position
        );
        let positions = |found: &[Found]| found.iter().map(|one| one.position).collect::<Vec<_>>();
        assert_eq!(positions(&rest), positions(&all[n + 1..]));
        let at = OpenAt::At(record.position);
        let budget = Budget::new(AMPLE_BYTES);
        let opened = stream.reader(&shard, at, &budget).await;
        let mut reader = must(opened, "open a reader at a record");
        let (found, _) = read(&mut *reader, Some(1)).await;
        assert_eq!(found[0].position, record.position);
    }
}

/// What is left behind a place is said as long as something is, also of a closed shard whose end was not read.
pub(super) async fn a_place_is_behind_until_everything_is_read(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let behind = async |to| {
        let progress = Progress {
            to,
            ..Progress::default()
        };
        must(stream.behind(&shard, &progress).await, "measure a lag")
    };
    assert_eq!(behind(Position::Begin).await, Behind::Done);
    send(&*writer, &shard, append(&messages("a", 6))).await;
    let all = read_all(&stream, &shard, Position::Begin).await;
    let (mut reader, mut to) = (
        reader(&stream, &shard, Position::Begin).await,
        Position::Begin,
    );
    for record in &all[..5] {
        assert_ne!(behind(to).await, Behind::Done, "after {to}");
        if let Behind::Records(left) = behind(to).await {
            let unread = all.iter().filter(|one| one.position > to).count() as u64;
            assert!(left >= unread, "{left} records are left after {to}");
        }
        to = record.position;
    }
    let through = loop {
        match next(&mut *reader).await {
            Read::Idle { through } => break through,
            Read::Batch(_) => {}
            other => panic!("a shard with records gave {other:?}"),
        }
    };
    assert_eq!(behind(through).await, Behind::Done);
    let Some(reshard) = stream.admin().reshard else {
        return;
    };
    must(reshard.split(&shard, None).await, "split a shard");
    assert_ne!(behind(through).await, Behind::Done, "its end was not read");
    assert_eq!(behind(Position::End).await, Behind::Done);
}

/// At the tip a reader says so once, with the place behind what it handed out, and then waits; an append wakes it.
pub(super) async fn idle_is_told_once_a_tip_and_then_waits(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let mut reader = reader(&stream, &shard, Position::Begin).await;
    let first = next(&mut *reader).await;
    let begin = Position::Begin;
    assert!(
        matches!(first, Read::Idle { through } if through == begin),
        "an empty shard gave {first:?}"
    );
    for round in ["a", "b", "c"] {
        let wanted = messages(round, 3);
        let (woken, appended) =
            tokio::join!(next(&mut *reader), send(&*writer, &shard, append(&wanted)),);
        let Read::Batch(batch) = woken else {
            panic!("a reader at the tip gave {woken:?} instead of what was appended");
        };
        let (mut got, mut to) = (found(&batch), batch.to);
        let through = loop {
            match next(&mut *reader).await {
                Read::Batch(batch) => {
                    got.extend(found(&batch));
                    to = batch.to;
                }
                Read::Idle { through } => break through,
                other => panic!("the tip was answered as {other:?}"),
            }
        };
        assert_eq!(got.len(), 3);
        assert_eq!(through, to, "idle at a place that was not handed out");
        assert!(Some(through) >= appended.last, "{through}");
    }
}

/// Calls that are dropped at any moment neither lose nor double a record.
pub(super) async fn a_dropped_call_has_read_nothing(harness: &dyn Harness) {
    const DROPPED_MAX: usize = 300;
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let mut all = Vec::new();
    for n in 0..20 {
        let some = messages(&format!("w{n}"), 5);
        send(&*writer, &shard, append(&some)).await;
        all.extend(some.into_iter().map(|message| message.payload));
    }
    let mut reader = reader(&stream, &shard, Position::Begin).await;
    let (mut got, mut dropped) = (Vec::new(), 0);
    while got.len() < all.len() {
        let read = if dropped < DROPPED_MAX {
            let polls = dropped % 4;
            let gave_up = async {
                for _ in 0..polls {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = gave_up => {
                    dropped += 1;
                    continue;
                }
                read = reader.next() => must(read, "read"),
            }
        } else {
            next(&mut *reader).await
        };
        if let Read::Batch(batch) = read {
            got.extend(found(&batch).into_iter().map(|one| one.message.payload));
        }
    }
    assert_eq!(got, all);
}

/// While nobody frees bytes a reader stops within the budget and says that it waits; freed bytes let it go on.
pub(super) async fn unread_bytes_stay_within_the_budget(harness: &dyn Harness) {
    const BUDGET: u64 = 64 << 10;
    const RECORDS: usize = 64;
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let pad = "x".repeat(8 << 10);
    for (n, message) in messages("a", RECORDS).into_iter().enumerate() {
        let payload = format!("{n:04}{pad}");
        send(&*writer, &shard, append(&[Message { payload, ..message }])).await;
    }
    let budget = Budget::new(BUDGET);
    let mut reader = reader_with(&stream, &shard, Position::Begin, &budget).await;
    let (mut held, mut read_back, mut waits) = (Vec::new(), 0, 0);
    while read_back < RECORDS {
        let has_batches = !held.is_empty();
        let read = tokio::select! {
            biased;
            read = tokio::time::timeout(PATIENCE, reader.next()) => Some(read.expect("a reader is stuck")),
            () = budget.pressure(), if has_batches => None,
        };
        match read {
            None => {
                waits += 1;
                held.clear();
            }
            Some(read) => {
                if let Read::Batch(batch) = must(read, "read") {
                    assert!(
                        batch.permit.bytes() > 0,
                        "a batch holds no bytes of the budget"
                    );
                    read_back += batch.len();
                    held.push(batch);
                }
            }
        }
        let held = budget.held_bytes();
        assert!(
            held <= BUDGET + writer.append_bytes_target() as u64,
            "{held} bytes are held"
        );
    }
    assert!(
        waits > 1,
        "the whole stream was read although nobody freed its bytes"
    );
    drop((held, reader));
    assert_eq!(budget.held_bytes(), 0);
}

/// Earliest reads everything, Latest only what comes later, At begins at the first record of that time.
pub(super) async fn start_positions_are_where_they_say(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let start = async |start| must(stream.start(&shard, start).await, "find a start");
    let from = async |progress: &Progress| {
        let at = OpenAt::progress(progress.clone());
        let mut reader = open(&stream, &shard, at, &Budget::new(AMPLE_BYTES)).await;
        read(&mut *reader, None).await.0
    };
    // Whatever the clock's resolution, what is appended and what is asked for have different times.
    let tick = || hydrant_core::clock::sleep(std::time::Duration::from_millis(2));
    let empty = start(Start::Latest).await;
    for name in ["a", "b", "c"] {
        tick().await;
        send(&*writer, &shard, append(&messages(name, 3))).await;
    }
    tick().await;
    let latest = start(Start::Latest).await;
    let earliest = start(Start::Earliest).await;
    if harness.has_tips() {
        assert!(latest.to > Position::Begin, "{latest:?}");
    }
    let all = from(&earliest).await;
    assert_eq!(all.len(), 9);
    assert_eq!(from(&empty).await.len(), 9);
    assert!(from(&latest).await.is_empty());
    for record in &all {
        let found = from(&start(Start::At(record.arrival)).await).await;
        let wanted: Vec<_> = all
            .iter()
            .filter(|one| one.arrival >= record.arrival)
            .collect();
        assert_eq!(found.len(), wanted.len(), "from {}", record.arrival);
        assert_eq!(found[0].position, wanted[0].position);
    }
    let future = start(Start::At(all[8].arrival + 1)).await;
    assert!(from(&future).await.is_empty());
    tick().await;
    send(&*writer, &shard, append(&messages("d", 2))).await;
    assert_eq!(sent(&from(&latest).await).len(), 2);
    tick().await;
    let at = OpenAt::progress(start(Start::Latest).await);
    let mut idle = open(&stream, &shard, at, &Budget::new(AMPLE_BYTES)).await;
    assert!(matches!(next(&mut *idle).await, Read::Idle { .. }));
    assert!(idle.next().now_or_never().is_none());
}
