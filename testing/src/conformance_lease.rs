//! What every [`LeaseStore`] promises.
//!
//! [`conforms`] panics where an implementation does not keep it. `make` answers an empty store each time, as two
//! workers of one app see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::must;
use hydrant_core::Disposition;
use hydrant_core::lease::{
    Generations, Lease, LeaseStore, OutputId, Pin, Progress, Reprocess, Swap,
};
use hydrant_core::position::Position;
use hydrant_core::shard::StreamId;
use hydrant_core::stream::Start;

/// Workers that race for one row.
const RACERS: u64 = 16;

/// Tries everything.
pub async fn conforms(make: impl AsyncFn() -> (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>)) {
    rows_and_workers_are_kept(&make).await;
    generations_move_only_while_nobody_works(make().await).await;
}

/// Tries everything on a store that ends with its process: there is nothing to reprocess in it.
pub async fn conforms_in_one_process(
    make: impl AsyncFn() -> (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>),
) {
    rows_and_workers_are_kept(&make).await;
    reprocessing_is_refused(make().await).await;
}

async fn rows_and_workers_are_kept(
    make: &impl AsyncFn() -> (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>),
) {
    rows_are_swapped_by_epoch_and_counter(make().await).await;
    rows_keep_all_that_was_written(make().await).await;
    a_race_has_one_winner(make().await).await;
    counters_that_race_lose_nothing(make().await).await;
    the_dead_are_told_from_the_living(make().await).await;
    a_row_is_removed_as_it_was_seen(make().await).await;
    its_pace_leaves_room_for_renewals(make().await).await;
}

/// An operator is told that nothing moves, and nothing does.
async fn reprocessing_is_refused((a, b): (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>)) {
    let all = Reprocess::All(BTreeMap::new());
    let refused = a
        .reprocess(&all)
        .await
        .expect_err("nothing was reprocessed");
    assert_eq!(refused.disposition(), Disposition::Refused, "{refused}");
    for store in [&a, &b] {
        let same = must(store.generations().await, "read the generations");
        assert_eq!(same, Generations::default());
    }
}

async fn swap(store: &dyn LeaseStore, seen: Option<&Lease>, next: &Lease) -> Swap {
    must(store.swap(seen, next).await, "swap a lease")
}

async fn rows(store: &dyn LeaseStore) -> Vec<Lease> {
    must(store.list().await, "list leases")
}

fn owned(lease: &Lease, owner: &str) -> Lease {
    Lease {
        owner: Some(owner.to_owned()),
        epoch: lease.epoch + 1,
        counter: lease.counter + 1,
        ..lease.clone()
    }
}

/// What an operator reprocesses is refused beside any worker of the app, and all who come later learn it.
async fn generations_move_only_while_nobody_works(
    (a, b): (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>),
) {
    let first = must(a.generations().await, "read the generations");
    assert_eq!(first, Generations::default());
    let start = Progress::starting(Position::offset(4));
    let what = Reprocess::Only(BTreeMap::from([("000001".into(), start)]));
    let worker = must(a.register("a").await, "register");
    for store in [&a, &b] {
        assert!(store.reprocess(&what).await.is_err());
        let same = must(store.generations().await, "read the generations");
        assert_eq!(same, Generations::default());
    }
    drop(worker);
    let moved = must(b.reprocess(&what).await, "reprocess");
    assert_eq!(Some(&moved), first.after(&what).as_ref());
    let all = Reprocess::All(BTreeMap::new());
    let moved = must(a.reprocess(&all).await, "reprocess");
    let after = first.after(&what).and_then(|after| after.after(&all));
    assert_eq!(Some(&moved), after.as_ref());
    assert_eq!(must(b.generations().await, "read the generations"), moved);
}

/// A row is written only over the row that was seen, also by the other worker.
async fn rows_are_swapped_by_epoch_and_counter((a, b): (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>)) {
    assert!(rows(&*a).await.is_empty());
    let new = Lease::new("000001".into());
    assert_eq!(
        swap(&*a, Some(&new), &owned(&new, "a")).await,
        Swap::Conflict(None)
    );
    assert_eq!(swap(&*a, None, &new).await, Swap::Swapped);
    assert_eq!(
        swap(&*b, None, &new).await,
        Swap::Conflict(Some(new.clone()))
    );
    let first = owned(&new, "a");
    assert_eq!(swap(&*a, Some(&new), &first).await, Swap::Swapped);
    assert_eq!(
        swap(&*b, Some(&new), &owned(&new, "b")).await,
        Swap::Conflict(Some(first.clone()))
    );
    let renewed = Lease {
        counter: first.counter + 1,
        ..first.clone()
    };
    assert_eq!(swap(&*a, Some(&first), &renewed).await, Swap::Swapped);
    assert_eq!(
        swap(&*b, Some(&first), &owned(&first, "b")).await,
        Swap::Conflict(Some(renewed.clone()))
    );
    let stolen = owned(&renewed, "b");
    assert_eq!(swap(&*b, Some(&renewed), &stolen).await, Swap::Swapped);
    let late = Lease {
        counter: renewed.counter + 1,
        ..renewed.clone()
    };
    assert_eq!(
        swap(&*a, Some(&renewed), &late).await,
        Swap::Conflict(Some(stolen.clone()))
    );
    assert_eq!(rows(&*a).await, [stolen]);
}

/// A row is removed only as it was seen, for both workers, and one that is gone is not removed once more.
async fn a_row_is_removed_as_it_was_seen((a, b): (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>)) {
    let remove = async |store: &dyn LeaseStore, seen: &Lease| {
        must(store.remove(seen).await, "remove a lease")
    };
    let (new, other) = (Lease::new("000001".into()), Lease::new("000002".into()));
    assert_eq!(remove(&*a, &new).await, Swap::Conflict(None));
    assert_eq!(swap(&*a, None, &new).await, Swap::Swapped);
    assert_eq!(swap(&*a, None, &other).await, Swap::Swapped);
    let taken = owned(&new, "b");
    assert_eq!(swap(&*b, Some(&new), &taken).await, Swap::Swapped);
    assert_eq!(remove(&*a, &new).await, Swap::Conflict(Some(taken.clone())));
    assert_eq!(rows(&*b).await, [taken.clone(), other.clone()]);
    assert_eq!(remove(&*a, &taken).await, Swap::Swapped);
    for store in [&a, &b] {
        assert_eq!(rows(&**store).await, std::slice::from_ref(&other));
        assert_eq!(remove(&**store, &taken).await, Swap::Conflict(None));
        let late = owned(&taken, "b");
        assert_eq!(
            swap(&**store, Some(&taken), &late).await,
            Swap::Conflict(None)
        );
    }
    assert_eq!(rows(&*a).await, [other]);
}

/// All rows can be read, and a lease renewed, several times before it runs out.
async fn its_pace_leaves_room_for_renewals((a, b): (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>)) {
    let pace = a.pace();
    assert_eq!(pace, b.pace());
    assert!(pace.observe <= pace.lease_time / 3, "{pace:?}");
    assert!(!pace.observe.is_zero() && !pace.checkpoint.is_zero());
}

/// What is listed is what was written, by shard name.
async fn rows_keep_all_that_was_written((a, b): (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>)) {
    let mut written = Vec::new();
    for n in [3, 1, 2] {
        let new = Lease::new(format!("00000{n}").as_str().into());
        assert_eq!(swap(&*a, None, &new).await, Swap::Swapped);
        let mut lease = owned(&new, "worker-1.host:7");
        lease.generation = n;
        lease.stream = (n > 1).then(|| StreamId::new("raw", "7@f"));
        lease.wanted = (n == 2).then(|| "worker 2".to_owned());
        lease.progress = (n > 1).then(|| Progress {
            start: Some(Position::offset(n / 2)),
            to: if n == 2 {
                Position::End
            } else {
                Position::at(7u64.into(), 3)
            },
            output: (n == 3)
                .then(|| OutputId::new("7f", "table `events` of file:/data/länge lake")),
            pin: Some(Pin {
                digest: "00ff".to_owned(),
                after: Position::Begin,
            }),
            marks: (0..=255).collect(),
            began: (n == 2).then_some(Start::At(1_795_248_000_250_000)),
            arrival: (n == 3).then_some(-7),
        });
        assert_eq!(swap(&*a, Some(&new), &lease).await, Swap::Swapped);
        written.push(lease);
    }
    written.sort_by(|a, b| a.shard.cmp(&b.shard));
    assert_eq!(rows(&*b).await, written);
    let mut freed = written[0].clone();
    freed.owner = None;
    freed.counter += 1;
    assert_eq!(swap(&*b, Some(&written[0]), &freed).await, Swap::Swapped);
    assert_eq!(rows(&*a).await[0], freed);
}

/// Of many workers that take a free row at once one gets it.
async fn a_race_has_one_winner((a, b): (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>)) {
    let new = Lease::new("000001".into());
    assert_eq!(swap(&*a, None, &new).await, Swap::Swapped);
    let racers = (0..RACERS).map(|n| {
        let (store, new) = (if n % 2 == 0 { &a } else { &b }, &new);
        async move {
            let next = owned(new, &format!("worker-{n}"));
            (swap(&**store, Some(new), &next).await, next)
        }
    });
    let answers = futures::future::join_all(racers).await;
    let winners: Vec<&Lease> = answers
        .iter()
        .filter(|(answer, _)| *answer == Swap::Swapped)
        .map(|(_, next)| next)
        .collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    for (answer, _) in &answers {
        if let Swap::Conflict(row) = answer {
            assert_eq!(row.as_ref(), Some(winners[0]));
        }
    }
}

/// Increments by compare-and-swap from both workers are all there in the end.
async fn counters_that_race_lose_nothing((a, b): (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>)) {
    const EACH: u64 = 10;
    let new = Lease::new("000001".into());
    assert_eq!(swap(&*a, None, &new).await, Swap::Swapped);
    let count = async |store: &dyn LeaseStore| {
        let mut seen = new.clone();
        for _ in 0..EACH {
            loop {
                let next = Lease {
                    counter: seen.counter + 1,
                    ..seen.clone()
                };
                match swap(store, Some(&seen), &next).await {
                    Swap::Swapped => {
                        seen = next;
                        break;
                    }
                    Swap::Conflict(row) => {
                        seen = row.expect("rows are never removed here");
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    };
    tokio::join!(count(&*a), count(&*b));
    assert_eq!(rows(&*a).await[0].counter, 2 * EACH);
}

/// A worker that is registered is never called dead. Where the store can tell, one that has left is.
async fn the_dead_are_told_from_the_living((a, b): (Arc<dyn LeaseStore>, Arc<dyn LeaseStore>)) {
    let presence = must(a.register("worker-1").await, "register a worker");
    let other = must(a.register("worker-2").await, "register a worker");
    for store in [&a, &b] {
        assert!(!must(store.is_gone("worker-1").await, "ask for a worker"));
    }
    drop(presence);
    let is_gone = must(b.is_gone("worker-1").await, "ask for a worker");
    assert_eq!(
        is_gone,
        must(a.is_gone("worker-1").await, "ask for a worker")
    );
    assert!(!must(b.is_gone("worker-2").await, "ask for a worker"));
    let again = must(b.register("worker-1").await, "register a worker again");
    assert!(!must(a.is_gone("worker-1").await, "ask for a worker"));
    drop((other, again));
}
