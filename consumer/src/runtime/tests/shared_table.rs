//! A lease store may be a slow table that other streams and other programs write, too.

use hydrant_core::Error;
use hydrant_core::lease::{Lease, Pace, Progress};
use hydrant_core::shard::StreamId;
use hydrant_core::stream::Stream as _;

use super::*;

fn row(shard: &str, stream: Option<StreamId>) -> Lease {
    Lease {
        stream,
        progress: Some(Progress {
            to: Position::End,
            ..Progress::default()
        }),
        ..Lease::new(shard.into())
    }
}

#[tokio::test(start_paused = true)]
async fn rows_of_another_stream_or_incarnation_are_refused_by_name_and_stay() {
    for (name, incarnation, what) in [
        ("memory", "0", "an earlier stream `memory`"),
        ("other", "1", "stream `other`"),
    ] {
        let mut world = World::new(2, false);
        world.stream.append("a", 5, 0);
        let foreign = row("a", Some(StreamId::new(name, incarnation)));
        world.leases.put(foreign.clone());
        let ended = RunningWorker::start(world.exact()).ended();
        let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
        let error = ended.expect("it does not work with the row").unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(what) && text.contains("--app"), "{text}");
        assert_eq!(world.leases.rows(), [foreign]);
        assert!(world.log.records().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn rows_say_which_stream_they_are_of() {
    let mut world = World::new(2, false);
    let old = Lease::new("a".into());
    world.leases.put(old);
    let worker = RunningWorker::start(world.exact());
    pass(Duration::from_secs(20)).await;
    worker.drained().await.unwrap();
    for row in world.leases.rows() {
        assert_eq!(
            row.stream,
            Some(StreamId::new("memory", "memory")),
            "{row:?}"
        );
    }
}

/// Reads and writes of a remote table cost money.
#[tokio::test(start_paused = true)]
async fn a_store_is_asked_at_its_pace() {
    let mut world = World::new(2, false);
    world.leases.set_pace(Pace {
        lease_time: Duration::from_secs(9),
        observe: Duration::from_secs(3),
        checkpoint: Duration::from_secs(5),
    });
    let worker = RunningWorker::start(world.plain());
    pass(Duration::from_secs(20)).await;
    let before = world.leases.traffic();
    for _ in 0..900 {
        world.stream.append("a", 1, 0);
        world.stream.append("b", 1, 0);
        pass(Duration::from_millis(100)).await;
    }
    let after = world.leases.traffic();
    let (lists, writes) = (after.0 - before.0, after.1 - before.1);
    assert!((30..=62).contains(&lists), "{lists} readings in 90 s");
    assert!((36..=80).contains(&writes), "{writes} writes in 90 s");
    worker.drained().await.unwrap();
}

/// Others remove the row of a shard once its children are under way, while the stream still lists the shard.
#[tokio::test(start_paused = true)]
async fn a_closed_shard_without_a_row_has_ended_once_a_child_is_under_way() {
    let mut world = World::new(1, false);
    world.stream.append("a", 10, 0);
    world.stream.split_into("a", "low", "high");
    for shard in ["low", "high"] {
        world.stream.append(shard, 5, 0);
    }
    let mut spec = world.plain();
    spec.exit_at_end = true;
    RunningWorker::start(spec).ended().await.unwrap();
    world.leases.take_away("a");
    world.stream.append("low", 5, 0);
    let mut spec = world.plain();
    spec.exit_at_end = true;
    let ended = tokio::time::timeout(Duration::from_secs(60), RunningWorker::start(spec).ended());
    ended.await.expect("nothing is left to read").unwrap();
    world.assert_exact();
    assert!(world.leases.row("a").is_none());
}

/// Rows are made children first, and their maker may die in between.
#[tokio::test(start_paused = true)]
async fn a_bare_row_of_a_child_does_not_say_that_its_parent_has_ended() {
    let mut world = World::new(1, false);
    world.stream.append("a", 10, 0);
    world.stream.split_into("a", "low", "high");
    world.stream.append("low", 5, 0);
    for child in ["low", "high"] {
        world.leases.put(Lease::new(child.into()));
    }
    let mut spec = world.plain();
    spec.exit_at_end = true;
    RunningWorker::start(spec).ended().await.unwrap();
    world.assert_exact();
}

/// A row goes with its shard, but not before the children have begun with what it says.
#[tokio::test(start_paused = true)]
async fn the_row_of_a_shard_that_is_gone_is_removed() {
    let mut world = World::new(1, false);
    world.stream.append("a", 10, 0);
    world.stream.split_into("a", "low", "high");
    let worker = RunningWorker::start(world.exact());
    until("the end", || world.leases.to("a") == Position::End).await;
    world.stream.forget("a");
    world.stream.append("low", 5, 0);
    pass(Duration::from_secs(60)).await;
    assert!(world.leases.row("a").is_some(), "`high` has not begun");
    world.stream.append("high", 5, 0);
    pass(Duration::from_secs(60)).await;
    assert!(world.leases.row("a").is_none());
    worker.drained().await.unwrap();
    let counts = world.log.counts();
    assert!(counts.len() == 20 && counts.values().all(|count| *count == 1));
    assert_eq!(world.leases.rows().len(), 2);
}

/// After a pause of the machine the rows are as old for each worker, and their owners are about to renew them.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_pause_does_not_count_for_leases() {
    let mut world = World::new(1, false);
    world.leases.put(Lease {
        owner: Some("other".to_owned()),
        epoch: 1,
        counter: 1,
        stream: Some(world.stream.id().clone()),
        ..Lease::new("a".into())
    });
    let worker = RunningWorker::start(world.plain());
    pass(Duration::from_secs(4)).await;
    tokio::time::advance(Duration::from_secs(600)).await;
    pass(Duration::from_secs(1)).await;
    let owner = || world.leases.row("a").and_then(|row| row.owner);
    assert_eq!(owner().as_deref(), Some("other"), "taken after the pause");
    pass(Duration::from_secs(10)).await;
    assert_ne!(owner().as_deref(), Some("other"), "it has not been renewed");
    worker.drained().await.unwrap();
}
