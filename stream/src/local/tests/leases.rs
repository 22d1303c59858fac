//! Leases as files: swaps that stand still, rows that share a sync, wakes, and what is left behind.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hydrant_core::disk::Disk;
use hydrant_core::lease::{Lease, LeaseStore, Progress, Swap};
use hydrant_core::{Position, clock};
use hydrant_testing::conformance_lease;
use hydrant_testing::disk::{Breakpoint, Death, Fault, Loss, Moment, Op, SimWorld};
use tokio::time::timeout;

use super::conformance::leases;
use super::fixture::{context, context_on, home, options, url};
use crate::local::tests::fixture::{create, open};

const URL: &str = "local:/data/events";
const A_WHILE: Duration = Duration::from_secs(3600);

/// The leases of one app as a process of this name sees them.
async fn store(world: &SimWorld, process: &str) -> Arc<dyn LeaseStore> {
    let seed = process.bytes().map(u64::from).sum();
    let ctx = context_on(world.process(process).shared(), seed);
    leases(&open(URL, &ctx).await.unwrap()).await
}

async fn world(seed: u64) -> SimWorld {
    let world = SimWorld::new(seed);
    let ctx = context_on(world.process("maker").shared(), seed);
    create(URL, options(1), &ctx).await.unwrap();
    world
}

fn next(seen: &Lease, owner: &str) -> Lease {
    Lease {
        owner: Some(owner.to_owned()),
        epoch: seen.epoch + 1,
        counter: seen.counter + 1,
        ..seen.clone()
    }
}

async fn make(store: &dyn LeaseStore, shard: &str) -> Lease {
    let row = Lease::new(shard.into());
    assert_eq!(store.swap(None, &row).await.unwrap(), Swap::Swapped);
    row
}

/// Swaps by whatever the row is.
async fn take(store: &dyn LeaseStore, mut seen: Lease, owner: &str) -> Lease {
    loop {
        let next = next(&seen, owner);
        match store.swap(Some(&seen), &next).await.unwrap() {
            Swap::Swapped => return next,
            Swap::Conflict(row) => seen = row.unwrap(),
        }
    }
}

async fn row(store: &dyn LeaseStore) -> Lease {
    let mut rows = store.list().await.unwrap();
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

#[tokio::test(start_paused = true)]
async fn leases_conform_on_a_disk_where_anything_may_come_between() {
    for seed in 0..30 {
        conformance_lease::conforms(async || {
            let world = world(seed).await;
            (store(&world, "a").await, store(&world, "b").await)
        })
        .await;
    }
}

/// Wherever a worker stands still in a swap, another one continues at once, with this row too, and what the first one does
/// when it continues has the right answer.
#[tokio::test(start_paused = true)]
async fn a_worker_that_stands_still_in_a_swap_stops_no_other() {
    let mut stood = 0;
    for op in [
        Op::List,
        Op::Open,
        Op::WriteAt,
        Op::Sync,
        Op::LinkNew,
        Op::Stat,
        Op::SyncDir,
        Op::Remove,
    ] {
        for moment in [Moment::Before, Moment::After] {
            for others in 0..4 {
                let world = world(others).await;
                let (frozen, other) = (store(&world, "frozen").await, store(&world, "other").await);
                let first = make(&*frozen, "000000").await;
                let seen = take(&*frozen, first, "frozen").await;
                let caught = world.set_breakpoint(Breakpoint {
                    process: "frozen".to_owned(),
                    op,
                    path: "_apps".to_owned(),
                    moment,
                    fault: Fault::Hangs(A_WHILE),
                });
                let wanted = next(&seen, "frozen");
                let swap = {
                    let (frozen, seen, wanted) =
                        (Arc::clone(&frozen), seen.clone(), wanted.clone());
                    tokio::spawn(async move { frozen.swap(Some(&seen), &wanted).await.unwrap() })
                };
                caught.await.unwrap();
                stood += 1;
                let began = clock::now();
                let mut now = seen.clone();
                for _ in 0..others {
                    now = take(&*other, now, "other").await;
                }
                assert_eq!(
                    clock::now(),
                    began,
                    "{op:?} {moment:?}: the other one waited"
                );
                let before = row(&*other).await;
                world.resume("frozen");
                let answer = swap.await.unwrap();
                let after = row(&*other).await;
                let what =
                    format!("{op:?} {moment:?}, {others} swaps of the other one: {answer:?}");
                match answer {
                    Swap::Swapped => {
                        // It came first, and the other one built on it; or last.
                        let built = after.epoch - wanted.epoch;
                        assert!(after == wanted || built == others, "{what} {after:?}");
                    }
                    Swap::Conflict(now) => {
                        assert_eq!((now, &after), (Some(before.clone()), &before), "{what}");
                        assert!(others > 0, "{what}");
                    }
                }
            }
        }
    }
    assert_eq!(stood, 8 * 2 * 4);
}

/// Workers that stand still at any call and go on later raise a counter; each swap is there once, or conflicts and is not
/// there. A swap that was written over at once may be answered as a conflict: the worker that wrote over it had seen it.
#[tokio::test(start_paused = true)]
async fn swaps_of_workers_that_stand_still_again_and_again_are_counted_once() {
    const EACH: u64 = 12;
    for seed in 0..40 {
        let world = world(seed).await;
        let rng = hydrant_core::Random::seeded(seed);
        let names = ["a", "b", "c"];
        let mut workers = Vec::new();
        for name in names {
            workers.push((name, store(&world, name).await));
        }
        let first = make(&*workers[0].1, "000000").await;
        // Whose row it was, by the counter: each row was seen by the worker that replaced it.
        let held = RefCell::new(BTreeMap::new());
        let see = |row: &Lease| {
            let before = held.borrow_mut().insert(row.counter, row.owner.clone());
            assert!(before.is_none_or(|before| before == row.owner), "{row:?}");
        };
        let answered = RefCell::new(BTreeSet::new());
        let conflicting = RefCell::new(BTreeSet::new());
        let raises = join_all(workers.iter().map(|(name, store)| {
            let (mut seen, answered, conflicting) = (first.clone(), &answered, &conflicting);
            async move {
                let mut raised = 0;
                while raised < EACH {
                    see(&seen);
                    let next = next(&seen, name);
                    let swap = (next.counter, next.owner.clone());
                    match store.swap(Some(&seen), &next).await.unwrap() {
                        Swap::Swapped => {
                            raised += 1;
                            answered.borrow_mut().insert(swap);
                            seen = next;
                        }
                        Swap::Conflict(row) => {
                            conflicting.borrow_mut().insert(swap);
                            seen = row.unwrap();
                        }
                    }
                    tokio::task::yield_now().await;
                }
            }
        }));
        let freezes = async {
            loop {
                let frozen = names[rng.below(3) as usize];
                for _ in 0..rng.below(60) {
                    tokio::task::yield_now().await;
                }
                world.hang(frozen);
                for _ in 0..rng.below(400) {
                    tokio::task::yield_now().await;
                }
                world.resume(frozen);
            }
        };
        tokio::select! {
            _ = raises => {}
            () = freezes => {}
        }
        names.iter().for_each(|name| world.resume(name));
        let row = row(&*workers[0].1).await;
        assert_eq!(row.counter, row.epoch);
        see(&row);
        let mut held = held.into_inner();
        held.remove(&first.counter);
        let (held, answered): (BTreeSet<_>, _) =
            (held.into_iter().collect(), answered.into_inner());
        assert_eq!(
            held.len() as u64,
            row.counter,
            "seed {seed}: one row a count"
        );
        assert!(
            held.is_superset(&answered),
            "seed {seed}: a swap is not there"
        );
        let unanswered: BTreeSet<_> = held.difference(&answered).cloned().collect();
        assert!(conflicting.borrow().is_superset(&unanswered), "seed {seed}");
    }
}

/// What is answered survives a power cut, and what dies on the way leaves the row as it was or as it was to be.
#[tokio::test(start_paused = true)]
async fn a_swap_is_whole_wherever_its_process_dies() {
    for loss in [None, Some(Loss::Some), Some(Loss::Everything)] {
        for nth in 1..60 {
            let world = world(nth).await;
            let a = store(&world, "a").await;
            let first = make(&*a, "000000").await;
            let seen = take(&*a, first, "a").await;
            let death = loss.map_or(Death::Kill, Death::PowerCut);
            world.die_at("a", world.calls("a") + nth, Moment::After, death);
            let answered = {
                let (a, seen) = (Arc::clone(&a), seen.clone());
                let swap = async move { a.swap(Some(&seen), &next(&seen, "a")).await };
                timeout(Duration::from_secs(1), swap).await
            };
            let b = store(&world, "b").await;
            let now = row(&*b).await;
            if answered.is_ok() {
                assert_eq!(now, next(&seen, "a"), "call {nth} {loss:?}");
            } else {
                assert!(
                    now == seen || now == next(&seen, "a"),
                    "call {nth} {loss:?}: {now:?}"
                );
            }
            // It continues from there, and a worker that comes clears away what the dead one left.
            let _present = b.register("b").await.unwrap();
            take(&*b, now, "b").await;
            let disk = world.process("looker");
            let rows = home(&disk, "/data/events").await.join("_apps/app");
            let names = disk.list(&rows).await.unwrap();
            let left = names.iter().filter(|listed| listed.name.ends_with(".tmp"));
            assert_eq!(left.count(), 0, "call {nth} {loss:?}: {names:?}");
        }
    }
}

/// A process dies at a call of opening the leases, and leaves directories whose names are not durable. Answers whether it
/// died.
async fn dies_as_it_opens(nth: u64, moment: Moment) -> bool {
    let world = world(nth).await;
    let dead = world.process("dead");
    world.die_at("dead", nth, moment, Death::Kill);
    let ctx = context_on(dead.shared(), nth);
    let opening = async { leases(&open(URL, &ctx).await.unwrap()).await };
    let lived = tokio::select! {
        biased;
        () = dead.died() => false,
        _ = opening => true,
    };
    let b = store(&world, "b").await;
    let first = make(&*b, "000000").await;
    let taken = take(&*b, first, "b").await;
    world.power_cut(Loss::Everything);
    let c = store(&world, "c").await;
    let kept = c.list().await.unwrap();
    assert_eq!(kept, [taken], "call {nth} {moment:?}");
    !lived
}

/// Who made a directory may have died before its name was durable: who finds it makes it durable, before a row counts.
#[tokio::test(start_paused = true)]
async fn directories_that_a_dead_process_made_keep_what_others_put_there() {
    for moment in [Moment::Before, Moment::After] {
        let mut nth = 1;
        while dies_as_it_opens(nth, moment).await {
            nth += 1;
        }
        assert!(nth > 10, "only {nth} calls were tried");
    }
}

#[test]
fn many_swaps_at_once_need_few_threads() {
    const ROWS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        create(&url(&dir), options(1), &context(1)).await.unwrap();
        let mut stores = Vec::new();
        for n in 1..3 {
            stores.push(leases(&open(&url(&dir), &context(n)).await.unwrap()).await);
        }
        let swaps = (0..ROWS).map(|n| {
            let store = Arc::clone(&stores[n % 2]);
            async move {
                let first = make(&*store, &format!("{n:06}")).await;
                let seen = take(&*store, first, "a").await;
                take(&*store, seen, "b").await;
            }
        });
        let all = timeout(Duration::from_secs(60), join_all(swaps)).await;
        assert_eq!(all.unwrap().len(), ROWS);
        let rows = stores[0].list().await.unwrap();
        assert_eq!(rows.len(), ROWS);
        assert!(rows.iter().all(|row| row.counter == 2));
    });
}

#[tokio::test(start_paused = true)]
async fn swaps_of_many_rows_share_their_syncs() {
    let world = world(1).await;
    world.set_sync_time(Duration::from_millis(10));
    let store = store(&world, "a").await;
    let shards: Vec<String> = (0..512).map(|n| format!("{n:06}")).collect();
    let began = clock::now();
    let made = join_all(shards.iter().map(|shard| make(&*store, shard))).await;
    let taken = join_all(made.into_iter().map(|row| take(&*store, row, "a"))).await;
    assert_eq!(taken.len(), 512);
    let took = clock::now() - began;
    assert!(took < Duration::from_millis(200), "{took:?}");
}

/// A store without other writers is not read again, and progress of others wakes no worker.
#[tokio::test(start_paused = true)]
async fn only_what_concerns_others_wakes_them_and_only_what_is_new_is_read() {
    let world = world(1).await;
    let (a, b) = (store(&world, "a").await, store(&world, "b").await);
    let first = make(&*a, "000000").await;
    for n in 1..200 {
        make(&*a, &format!("{n:06}")).await;
    }
    let mut seen = take(&*a, first, "a").await;
    let wakes = async |time| timeout(time, b.changed()).await.is_ok();
    let soon = Duration::from_secs(1);
    assert!(wakes(soon).await, "what happened before the first look");
    while wakes(soon).await {}
    assert_eq!(b.list().await.unwrap().len(), 200);
    let before = world.calls("b");
    for n in 0..20 {
        let mut progress = seen.clone();
        progress.counter += 1;
        progress.progress = Some(Progress {
            to: Position::offset(n),
            ..Progress::default()
        });
        assert_eq!(a.swap(Some(&seen), &progress).await.unwrap(), Swap::Swapped);
        seen = progress;
        assert!(
            !wakes(Duration::from_millis(10)).await,
            "progress concerns no other worker"
        );
    }
    assert_eq!(b.list().await.unwrap()[0], seen);
    let calls = world.calls("b") - before;
    assert!(calls < 150, "{calls} calls for one row of 200 that changed");
    let edits: [fn(&mut Lease); 3] = [
        |row| row.wanted = Some("b".to_owned()),
        |row| row.owner = None,
        |row| {
            row.progress = Some(Progress {
                to: Position::End,
                ..Progress::default()
            })
        },
    ];
    for edit in edits {
        let mut changed = seen.clone();
        changed.counter += 1;
        edit(&mut changed);
        assert_eq!(a.swap(Some(&seen), &changed).await.unwrap(), Swap::Swapped);
        seen = changed;
        assert!(wakes(soon).await, "{seen:?}");
    }
}

/// Between a worker's lock and its look at it the file may be cleared away, and another one be made in its place.
#[tokio::test(start_paused = true)]
async fn a_lock_without_its_name_enlists_no_worker() {
    let world = world(1).await;
    let (late, other) = (store(&world, "late").await, store(&world, "other").await);
    let caught = world.set_breakpoint(Breakpoint {
        process: "late".to_owned(),
        op: Op::Lock,
        path: "workers/w.lock".to_owned(),
        moment: Moment::After,
        fault: Fault::Hangs(A_WHILE),
    });
    let registering = tokio::spawn({
        let late = Arc::clone(&late);
        async move { late.register("w").await }
    });
    caught.await.unwrap();
    let broom = world.process("broom");
    let home = home(&broom, "/data/events").await;
    let path = home.join("_apps/app/workers/w.lock");
    broom.remove(&path).await.unwrap();
    let present = other.register("w").await.unwrap();
    world.resume("late");
    let refused = registering.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("`w` is running"), "{refused}");
    drop(present);
    drop(late.register("w").await.unwrap());
}

/// Lets a worker stand still at its next call of this kind, and others swap meanwhile.
async fn meanwhile(world: &SimWorld, op: Op, moment: Moment, swaps: impl Future<Output = ()>) {
    let caught = world.set_breakpoint(Breakpoint {
        process: "late".to_owned(),
        op,
        path: "_apps".to_owned(),
        moment,
        fault: Fault::Hangs(A_WHILE),
    });
    caught.await.unwrap();
    swaps.await;
    world.resume("late");
}

/// A row is swapped in the middle of a listing, which shows none of its versions where the one that was there at the
/// beginning stands behind, and those that follow it stand before.
#[tokio::test(start_paused = true)]
async fn a_row_that_a_listing_misses_is_not_gone() {
    for (seed, knows_it) in (0..60).flat_map(|seed| [(seed, false), (seed, true)]) {
        let world = world(seed).await;
        let (late, other) = (store(&world, "late").await, store(&world, "other").await);
        // Each row lies elsewhere in the directory.
        let mut seen = make(&*other, &format!("{seed:06}")).await;
        if knows_it {
            late.list().await.unwrap();
        }
        world.tear_listings(true);
        let swaps = async {
            for _ in 0..3 {
                seen = take(&*other, seen.clone(), "other").await;
            }
        };
        let (listed, ()) = tokio::join!(
            late.list(),
            meanwhile(&world, Op::List, Moment::After, swaps)
        );
        let case = format!("seed {seed}, known before: {knows_it}");
        let rows = listed.unwrap();
        assert_eq!(rows.len(), 1, "{case}: the row is gone");
        // What it became meanwhile may have been missed.
        let taken = take(&*late, rows[0].clone(), "late").await;
        assert_eq!(taken.counter, seen.counter + 1, "{case}");
    }
}

/// A row is made and moves on while another worker makes it as well, whose listing afterwards misses what it became.
#[tokio::test(start_paused = true)]
async fn a_row_that_a_listing_misses_is_not_made_twice() {
    for seed in 0..60 {
        let world = world(seed).await;
        let (late, other) = (store(&world, "late").await, store(&world, "other").await);
        // Who knows no row lists more often.
        make(&*other, "999999").await;
        late.list().await.unwrap();
        world.tear_listings(true);
        let shard = format!("{seed:06}");
        let row = Lease::new(shard.as_str().into());
        let others = async {
            let mut seen = row.clone();
            let made = async {
                seen = make(&*other, &shard).await;
                for _ in 0..3 {
                    seen = take(&*other, seen.clone(), "other").await;
                }
            };
            meanwhile(&world, Op::LinkNew, Moment::Before, made).await;
            let moved = async {
                for _ in 0..3 {
                    seen = take(&*other, seen.clone(), "other").await;
                }
            };
            meanwhile(&world, Op::List, Moment::After, moved).await;
        };
        let (answer, ()) = tokio::join!(late.swap(None, &row), others);
        let answer = answer.unwrap();
        assert!(
            matches!(&answer, Swap::Conflict(Some(row)) if row.counter == 6),
            "seed {seed}: {answer:?}"
        );
    }
}

/// A look at an app does not make it.
#[tokio::test(start_paused = true)]
async fn looking_at_an_app_makes_nothing() {
    let world = world(5).await;
    let store = store(&world, "a").await;
    let row = make(&*store, "000001").await;
    let ctx = context_on(world.process("looker").shared(), 9);
    let stream = open(URL, &ctx).await.unwrap();
    let [app] = &stream.apps().await.unwrap()[..] else {
        panic!("one app")
    };
    assert_eq!(stream.app_progress(app).await.unwrap(), [row]);
    assert_eq!(stream.app_progress("another").await.unwrap(), []);
    assert_eq!(stream.apps().await.unwrap().len(), 1, "no other app");
}
