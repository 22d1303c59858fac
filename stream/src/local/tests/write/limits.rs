//! What there is too much of, and what the dead leave.

use std::time::Duration;

use hydrant_core::{Error, Position};
use hydrant_testing::disk::{Breakpoint, Death, Fault, Moment, Op, SimWorld};

use super::super::fixture::*;
use crate::{Codec, CreateOptions};

/// A shard takes no more origins than a segment's head can hold, and stays what it is.
#[tokio::test(start_paused = true)]
async fn an_origin_too_many_is_refused_before_a_head_cannot_be_read() {
    let world = SimWorld::new(1);
    let context = context_on(world.process("a").shared(), 1);
    let stream = create("local:/events", options(1), &context).await.unwrap();
    let shard = first();
    let writer = stream.writer().await.unwrap();
    let p = Position::offset;
    let of = |n: u32| {
        tracked(
            &format!("app-{n}"),
            Position::Begin,
            Position::Begin,
            p(1),
            &[],
        )
    };
    let mut known = 0;
    let refused = loop {
        assert!(known < 1000, "no origin is one too many");
        match append(&writer, &shard, of(known)).await {
            Ok(_) => known += 1,
            Err(error) => break error,
        }
    };
    assert!(known > 400, "{known}");
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("new stream"), "{refused}");
    // Origins that it knows go on, over the segments that follow.
    for n in 0..40 {
        let more = tracked("app-7", Position::Begin, p(1 + n), p(2 + n), &[n % 16]);
        let more = append(&writer, &shard, more).await;
        more.unwrap();
    }
    let stream = open("local:/events", &context_on(world.process("b").shared(), 2)).await;
    let writer = stream.unwrap().writer().await.unwrap();
    let again = append(&writer, &shard, of(known)).await.unwrap_err();
    assert!(matches!(again, Error::Refused { .. }), "{again}");
    let again = append(&writer, &shard, of(0)).await.unwrap();
    assert_eq!(again.last, None);
}

/// What dies while it replaces the manifest leaves a temporary file; the next one removes it.
#[tokio::test(start_paused = true)]
async fn a_temporary_manifest_of_a_dead_process_is_removed() {
    let world = SimWorld::new(1);
    let context = context_on(world.process("a").shared(), 1);
    let stream = create("local:/events", options(1), &context).await.unwrap();
    let splitter = world.process("splitter");
    let died = world.set_breakpoint(Breakpoint {
        process: "splitter".to_owned(),
        op: Op::Rename,
        path: "manifest.json".to_owned(),
        moment: Moment::Before,
        fault: Fault::Dies(Death::Kill),
    });
    let theirs = open("local:/events", &context_on(splitter.shared(), 2))
        .await
        .unwrap();
    let (admin, shard) = (theirs.admin(), first());
    tokio::select! {
        biased;
        caught = died => drop(caught.unwrap()),
        split = admin.split(&shard, None) => panic!("{split:?}"),
    }
    let temporaries = async || {
        let names = context.disk.list("/events".as_ref()).await.unwrap();
        names
            .iter()
            .filter(|listed| listed.name.ends_with(".tmp"))
            .count()
    };
    assert_eq!(temporaries().await, 1);
    stream.admin().split(&first(), None).await.unwrap();
    assert_eq!(temporaries().await, 0);
}

/// What a caller submits is its own; the encoded copies that wait for the disk are the log's.
#[tokio::test(start_paused = true)]
async fn the_budget_has_the_encoded_copies_of_appends_until_they_are_stored() {
    let world = SimWorld::new(1);
    let context = context_on(world.process("a").shared(), 1);
    let options = CreateOptions {
        codec: Codec::None,
        ..options(1)
    };
    let stream = create("local:/events", options, &context).await.unwrap();
    let writer = stream.writer().await.unwrap();
    // Encoded where they are submitted, and on a worker.
    for records in [20, 1000] {
        let numbers: Vec<u64> = (1..=records).collect();
        let bytes = |n: &u64| (key(*n).len() + payload(*n).len()) as u64;
        let text: u64 = numbers.iter().map(bytes).sum();
        let caught = world.set_breakpoint(Breakpoint {
            process: "a".to_owned(),
            op: Op::Sync,
            path: ".seg".to_owned(),
            moment: Moment::Before,
            fault: Fault::Hangs(Duration::from_secs(1)),
        });
        let mut tickets = Vec::new();
        for _ in 0..3 {
            tickets.push(writer.submit(&first(), plain(&numbers)).await.unwrap());
        }
        caught.await.unwrap();
        let held = context.budget.held_bytes();
        assert!(held >= 3 * text, "{held} bytes for three times {text}");
        for stored in tickets {
            stored.await.unwrap();
        }
        assert_eq!(context.budget.held_bytes(), 0);
    }
}
