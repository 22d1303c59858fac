//! Splitting and merging under appends.

use std::time::Duration;

use hydrant_core::stream::{Read, SharedStream};
use hydrant_core::{Error, Position, clock};
use hydrant_testing::disk::SimWorld;

use super::fixture::*;

#[tokio::test]
async fn appends_queued_at_a_split_are_stored_or_refused_and_never_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let stream = create(&url(&dir), options(1), &context(1)).await.unwrap();
    let writer = stream.writer().await.unwrap();
    let mut tickets = Vec::new();
    for n in 0..20u64 {
        let from = if n == 0 {
            Position::Begin
        } else {
            Position::offset(n * 2)
        };
        let to = Position::offset(n * 2 + 2);
        let numbers = [n * 2 + 1, n * 2 + 2];
        let append = tracked("w", Position::Begin, from, to, &numbers);
        tickets.push(writer.submit(&first(), append).await.unwrap());
    }
    let children = stream.admin().split(&first(), None).await.unwrap();
    let mut done = 0;
    for ticket in tickets {
        match ticket.await {
            Ok(_) => done += 2,
            Err(error) => assert!(matches!(error, Error::Sealed { .. }), "{error}"),
        }
    }
    assert_eq!(
        stored(&stream, &first()).await,
        (1..=done).collect::<Vec<_>>()
    );
    // A successor sends everything again, cut otherwise, into the children.
    let map = stream.shards().await.unwrap();
    let mut rest = Vec::new();
    for child in &children {
        let range = map.get(child).unwrap().range;
        let here: Vec<u64> = (1..=40).filter(|n| range.contains(route(*n))).collect();
        let again = tracked(
            "w",
            Position::Begin,
            Position::Begin,
            Position::offset(40),
            &here,
        );
        append(&writer, child, again).await.unwrap();
        rest.extend(stored(&stream, child).await);
    }
    rest.sort_unstable();
    assert_eq!(rest, (done + 1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_end_names_the_children_and_is_told_to_a_waiting_reader() {
    let dir = tempfile::tempdir().unwrap();
    let stream = create(&url(&dir), options(2), &context(1)).await.unwrap();
    let mut waiting = reader(&stream, &first(), Position::Begin).await;
    assert!(matches!(waiting.next().await.unwrap(), Read::Idle { .. }));
    let other = "000001".into();
    let (end, child) = tokio::join!(waiting.next(), async {
        stream.admin().merge(&other, &first()).await.unwrap()
    });
    for end in [end.unwrap(), waiting.next().await.unwrap()] {
        let Read::End { children, .. } = end else {
            panic!("{end:?}");
        };
        assert_eq!(children, std::slice::from_ref(&child));
    }
    let error = stream
        .writer()
        .await
        .unwrap()
        .submit(&first(), plain(&[1]))
        .await
        .map(drop);
    assert!(matches!(error, Err(Error::Sealed { .. })));
    let strange = stream.admin().split(&child, Some(0)).await.unwrap_err();
    assert!(matches!(strange, Error::Refused { .. }));
}

async fn split_first(stream: &SharedStream) {
    let map = stream.shards().await.unwrap();
    let shard = map.open().next().unwrap().id.clone();
    stream.admin().split(&shard, None).await.unwrap();
}

/// Whether a change of the map is seen without another one.
async fn is_told(stream: &SharedStream) -> bool {
    let seen = tokio::time::timeout(Duration::from_secs(5), stream.shards_changed()).await;
    seen.is_ok_and(|answer| answer.is_ok())
}

#[tokio::test(start_paused = true)]
async fn a_change_between_two_calls_is_told_by_the_next_one_and_once() {
    let world = SimWorld::new(1);
    let other = context_on(world.process("other").shared(), 1);
    let other = create("local:/events", options(1), &other).await.unwrap();
    let context = context_on(world.process("mine").shared(), 2);
    let mine = open("local:/events", &context).await.unwrap();
    assert!(!is_told(&mine).await);
    for changes in 1..=2 {
        // Reading the map in between takes nothing away: it may have been read before the change.
        mine.shards().await.unwrap();
        for _ in 0..changes {
            split_first(&other).await;
        }
        assert!(is_told(&mine).await);
        assert!(!is_told(&mine).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_dropped_takes_no_change_from_one_that_waits() {
    // Either of the two may be the one that watches.
    for seed in 0..8 {
        let world = SimWorld::new(seed);
        let other = context_on(world.process("other").shared(), 1);
        let other = create("local:/events", options(1), &other).await.unwrap();
        let context = context_on(world.process("mine").shared(), 2);
        let mine = open("local:/events", &context).await.unwrap();
        let mut dropped = mine.shards_changed();
        let mut waiting = mine.shards_changed();
        for _ in 0..100 {
            assert!(futures::poll!(&mut dropped).is_pending());
            assert!(futures::poll!(&mut waiting).is_pending());
            tokio::task::yield_now().await;
        }
        split_first(&other).await;
        // The change wakes the first one, which does not get to look at what it is.
        world.hang("mine");
        assert!(futures::poll!(&mut dropped).is_pending());
        drop(dropped);
        world.resume("mine");
        let seen = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        seen.expect("the change is not seen").unwrap();
    }
}

/// What a writer knows of a shard goes when it has gone on to the next ones: as much as a copy of all marks each.
#[tokio::test(start_paused = true)]
async fn a_writer_keeps_nothing_of_the_shards_that_it_has_left() {
    let world = SimWorld::new(1);
    let ctx = context_on(world.process("a").shared(), 1);
    let stream = create("local:/events", options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    let (admin, mut shard) = (stream.admin(), first());
    let alive = async || {
        clock::sleep(Duration::from_secs(1)).await;
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    append(&writer, &shard, plain(&[1])).await.unwrap();
    let tasks = alive().await;
    for n in 0..10 {
        let halves = admin.split(&shard, None).await.unwrap();
        let merged = admin.merge(&halves[0], &halves[1]).await.unwrap();
        let late = append(&writer, &shard, plain(&[n])).await;
        assert!(matches!(late, Err(Error::Sealed { .. })), "{late:?}");
        append(&writer, &merged, plain(&[n])).await.unwrap();
        shard = merged;
    }
    assert_eq!(alive().await, tasks);
}
