use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;
use futures::FutureExt;

use super::*;
use crate::disk::{At, Breakpoint, Death};
use hydrant_core::disk::{Disk, Open, read_file};

const SECOND: Duration = Duration::from_secs(1);

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// Runs a job in paused time, with a mutant.
fn with<T>(mutant: Option<Mutant>, job: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    mutant::with(mutant, || runtime.block_on(job))
}

async fn exists(world: &SimWorld, name: &str) -> bool {
    let stat = world.process("observer").stat(path(name)).await;
    stat.unwrap().is_some()
}

/// Creates a file, and does not wait for the answer.
async fn make_and_go(disk: &SimDisk, name: &str) {
    let mut call = disk.open(path(name), Open::CreateNew);
    assert!((&mut call).now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_takes_effect_later_or_not_at_all() {
    let world = SimWorld::new(1);
    let disk = world.process("a");
    make_and_go(&disk, "never").await;
    clock::sleep(SECOND).await;
    assert!(!exists(&world, "never").await);
    world.detach(Some(SECOND));
    let held = disk.lock(path("lock"), LockKind::Exclusive).await.unwrap();
    make_and_go(&disk, "late").await;
    drop(held);
    let other = world.process("b");
    assert!(!exists(&world, "late").await);
    // The lock outlives the call that began under it.
    let _held = other.lock(path("lock"), LockKind::Exclusive).await.unwrap();
    assert!(exists(&world, "late").await);
    // A call of a dead process does not happen.
    make_and_go(&disk, "dead").await;
    world.kill("a");
    clock::sleep(SECOND).await;
    assert!(!exists(&world, "dead").await);
}

#[test]
fn a_wait_for_a_lock_takes_no_thread() {
    for mutant in [None, Some(Mutant::LocksWaitOnThreads)] {
        with(mutant, async {
            let world = SimWorld::new(1);
            let holder = world.process("holder");
            world.set_threads(Some(2));
            let disk = world.process("a");
            let waits = |disk: &SimDisk| {
                let disk = disk.clone();
                tokio::spawn(async move {
                    let held = disk.lock(path("lock"), LockKind::Exclusive).await;
                    held.map(drop)
                })
            };
            let is_stuck = async || {
                clock::sleep(SECOND).await;
                let stat = disk.stat(path("lock"));
                tokio::time::timeout(SECOND, stat).await.is_err()
            };
            let held = holder.lock(path("lock"), LockKind::Exclusive).await;
            let waiting = [waits(&disk), waits(&disk)];
            assert_eq!(is_stuck().await, mutant.is_some());
            drop(held);
            for one in waiting {
                one.await.unwrap().unwrap();
            }
            assert!(!is_stuck().await);
            // These are abandoned, and their threads continue.
            world.detach(Some(Duration::ZERO));
            let held = holder.lock(path("lock"), LockKind::Exclusive).await;
            for one in [waits(&disk), waits(&disk)] {
                clock::sleep(SECOND).await;
                one.abort();
                assert!(one.await.unwrap_err().is_cancelled());
            }
            assert_eq!(is_stuck().await, mutant.is_some());
            drop(held);
            assert!(!is_stuck().await);
        });
    }
}

#[test]
fn a_process_that_unwinds_keeps_its_locks_while_a_call_is_under_way() {
    for mutant in [None, Some(Mutant::LockFreedEarly)] {
        with(mutant, async {
            let world = SimWorld::new(1);
            let disk = world.process("a");
            let file = disk.open(path("f"), Open::CreateNew).await.unwrap();
            let _held = disk.lock(path("lock"), LockKind::Exclusive).await.unwrap();
            let next = At::Call(world.calls("a") + 1);
            world.inject("a", next, Moment::Before, Fault::Unwinds(3 * SECOND));
            let mut write = file.write_at(0, vec![Bytes::from_static(b"late")]);
            assert!((&mut write).now_or_never().is_none());
            while !world.trace().last_events().contains("unwind a") {
                tokio::task::yield_now().await;
            }
            let other = world.process("b");
            let taken = other.try_lock(path("lock"), LockKind::Exclusive).await;
            assert_eq!(taken.unwrap().is_some(), mutant.is_some());
            while read_file(&other, path("f")).await.unwrap().unwrap() != "late" {
                clock::sleep(SECOND / 100).await;
            }
            assert!(write.now_or_never().is_none(), "no call is answered");
            let begun_later = disk.remove(path("f"));
            assert!(tokio::time::timeout(SECOND, begun_later).await.is_err());
            assert!(exists(&world, "f").await);
            disk.died().await;
            let taken = other.try_lock(path("lock"), LockKind::Exclusive).await;
            assert!(taken.unwrap().is_some());
        });
    }
}

#[tokio::test(start_paused = true)]
async fn any_call_may_hang_or_fail() {
    let world = SimWorld::new(1);
    let disk = world.process("a");
    world.inject(
        "a",
        At::Nth(Op::Open, 2),
        Moment::Before,
        Fault::Hangs(SECOND),
    );
    world.inject(
        "a",
        At::Call(3),
        Moment::After,
        Fault::Fails(ErrorKind::Other),
    );
    world.inject(
        "a",
        At::Call(4),
        Moment::Before,
        Fault::Fails(ErrorKind::Other),
    );
    let started = clock::now();
    let make = async |name| disk.open(path(name), Open::CreateNew).await.map(drop);
    make("one").await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    make("two").await.unwrap();
    assert_eq!(started.elapsed(), SECOND);
    assert!(make("three").await.is_err() && exists(&world, "three").await);
    assert!(make("four").await.is_err() && !exists(&world, "four").await);
    make("four").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_hangs_for_its_time_although_the_call_was_dropped() {
    let world = SimWorld::new(1);
    let disk = world.process("a");
    for late in [None, Some(SECOND)] {
        world.detach(late);
        for moment in [Moment::Before, Moment::After] {
            let next = At::Call(world.calls("a") + 1);
            world.inject("a", next, moment, Fault::Hangs(SECOND));
            let hanging = tokio::time::timeout(SECOND / 2, disk.stat(path("f")));
            assert!(hanging.await.is_err());
            let started = clock::now();
            disk.stat(path("f")).await.unwrap();
            assert_eq!(started.elapsed(), SECOND / 2, "{late:?} {moment:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_polled_continues_and_returns_its_thread() {
    let world = SimWorld::new(1);
    world.set_threads(Some(1));
    let disk = world.process("a");
    let mut make = disk.open(path("f"), Open::CreateNew);
    assert!((&mut make).now_or_never().is_none());
    let found = tokio::time::timeout(SECOND, disk.stat(path("f"))).await;
    assert!(found.unwrap().unwrap().is_some());
    make.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_name_that_moves_in_the_middle_of_a_torn_listing_is_missed_or_seen_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let world = SimWorld::new(seed);
        let disk = world.process("a");
        disk.create_dir_all(path("d")).await.unwrap();
        // One rename moves the name back in the directory, the other one forward.
        let (from, to) = match seed % 2 {
            0 => ("d/here", "d/there"),
            _ => ("d/there", "d/here"),
        };
        for name in [from, "d/stays"] {
            drop(disk.open(path(name), Open::CreateNew).await.unwrap());
        }
        world.tear_listings(true);
        let moves = async {
            for _ in 0..seed % 6 {
                tokio::task::yield_now().await;
            }
            disk.rename(path(from), path(to)).await
        };
        let (listed, moved) = tokio::join!(disk.list(path("d")), moves);
        moved.unwrap();
        let names: Vec<_> = listed.unwrap().into_iter().map(|one| one.name).collect();
        assert!(names.is_sorted() && names.iter().any(|name| name == "stays"));
        seen.insert(names.len());
    }
    assert!(seen.contains(&1) && seen.contains(&3), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_directory_is_visible_before_it_is_durable() {
    let lost = async |loss| {
        let world = SimWorld::new(1);
        let (one, other) = (world.process("one"), world.process("other"));
        let caught = world.set_breakpoint(Breakpoint {
            process: "one".to_owned(),
            op: Op::SyncDir,
            path: "d".to_owned(),
            moment: Moment::Before,
            fault: Fault::Dies(Death::Kill),
        });
        tokio::select! {
            biased;
            () = one.died() => {}
            _ = one.create_dir_all(path("d/e")) => panic!("it lives"),
        }
        caught.await.unwrap();
        // The other process finds the directory and does not sync its name.
        other.create_dir_all(path("d/e")).await.unwrap();
        let file = other.open(path("d/e/f"), Open::CreateNew).await.unwrap();
        file.sync().await.unwrap();
        other.sync_dir(path("d/e")).await.unwrap();
        world.power_cut(loss);
        !exists(&world, "d/e/f").await
    };
    assert!(lost(crate::disk::Loss::Everything).await);
    assert!(!lost(crate::disk::Loss::Nothing).await);
}
