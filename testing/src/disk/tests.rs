use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;

use super::*;
use hydrant_core::disk::{Disk, DiskFile, Open, read_file, replace_file};

const SEEDS: u64 = 60;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn read(world: &SimWorld, name: &str) -> Option<String> {
    let disk = world.process("reader");
    let read = read_file(&disk, path(name)).await.unwrap();
    read.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

/// A file whose name and first bytes survive.
async fn durable_file(disk: &SimDisk, name: &str, body: &'static str) -> Arc<dyn DiskFile> {
    let file = disk.open(path(name), Open::Create).await.unwrap();
    file.write_at(0, vec![bytes(body)]).await.unwrap();
    file.sync().await.unwrap();
    disk.sync_dir(path("/")).await.unwrap();
    file
}

#[tokio::test]
async fn what_was_synced_stays_and_what_was_not_may_go() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let world = SimWorld::new(seed);
        let disk = world.process("a");
        let file = durable_file(&disk, "f", "synced").await;
        file.write_at(6, vec![bytes("+tail")]).await.unwrap();
        assert_eq!(read(&world, "f").await.unwrap(), "synced+tail");
        world.power_cut(Loss::Some);
        let left = read(&world, "f").await.unwrap();
        assert!(left.starts_with("synced"), "{left}");
        assert!(left.len() == 6 || left.len() == 11, "{left}");
        seen.insert(left);
    }
    assert!(
        seen.contains("synced") && seen.contains("synced+tail"),
        "{seen:?}"
    );
    let torn = seen
        .iter()
        .any(|left| left.contains("+t") && left.ends_with('\0'));
    assert!(torn, "no write was torn inside: {seen:?}");
    let hole = seen.contains("synced\0\0\0\0\0");
    assert!(
        hole,
        "the length never survived without the bytes: {seen:?}"
    );
}

#[tokio::test]
async fn sectors_survive_apart_from_each_other() {
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let world = SimWorld::new(seed);
        let disk = world.process("a");
        let file = durable_file(&disk, "f", "").await;
        file.truncate(3 * 512).await.unwrap();
        file.sync().await.unwrap();
        file.write_at(0, vec![Bytes::from(vec![b'x'; 3 * 512])])
            .await
            .unwrap();
        world.power_cut(Loss::Some);
        let left = read(&world, "f").await.unwrap();
        orders.insert([0, 512, 1024].map(|at| left.as_bytes()[at] == b'x'));
    }
    assert!(orders.contains(&[false, true, false]), "{orders:?}");
    assert!(orders.contains(&[true, false, true]), "{orders:?}");
}

#[tokio::test]
async fn losses_can_be_all_or_nothing() {
    for (loss, left) in [(Loss::Everything, "synced"), (Loss::Nothing, "synced+tail")] {
        let world = SimWorld::new(1);
        let disk = world.process("a");
        let file = durable_file(&disk, "f", "synced").await;
        file.write_at(6, vec![bytes("+tail")]).await.unwrap();
        disk.link_new(path("f"), path("g")).await.unwrap();
        world.power_cut(loss);
        assert_eq!(read(&world, "f").await.unwrap(), left);
        assert_eq!(read(&world, "g").await.is_some(), loss == Loss::Nothing);
        assert!(!disk.is_alive());
    }
}

#[tokio::test]
async fn names_survive_only_a_sync_of_their_directory() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..SEEDS {
        let world = SimWorld::new(seed);
        let disk = world.process("a");
        disk.create_dir_all(path("d/e")).await.unwrap();
        let file = disk.open(path("d/e/f"), Open::CreateNew).await.unwrap();
        file.write_at(0, vec![bytes("x")]).await.unwrap();
        file.sync().await.unwrap();
        disk.sync_dir(path("d")).await.unwrap();
        world.power_cut(Loss::Some);
        assert!(
            world
                .process("b")
                .stat(path("d/e"))
                .await
                .unwrap()
                .unwrap()
                .is_dir
        );
        match read(&world, "d/e/f").await {
            None => lost += 1,
            Some(body) => {
                assert_eq!(body, "x");
                kept += 1;
            }
        }
    }
    assert!(lost > 0 && kept > 0);
}

#[tokio::test]
async fn a_rename_survives_whole_or_not_at_all() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..SEEDS {
        let world = SimWorld::new(seed);
        let disk = world.process("a");
        disk.create_dir_all(path("d")).await.unwrap();
        durable_file(&disk, "f", "body").await;
        disk.rename_new(path("f"), path("d/g")).await.unwrap();
        disk.sync_dir(path("d")).await.unwrap();
        world.power_cut(Loss::Some);
        match (read(&world, "f").await, read(&world, "d/g").await) {
            (Some(_), None) => lost += 1,
            (None, Some(_)) => kept += 1,
            other => panic!("{other:?}"),
        }
        let disk = world.process("a");
        if disk.stat(path("f")).await.unwrap().is_some() {
            disk.rename_new(path("f"), path("d/g")).await.unwrap();
            disk.sync_dir(path("d")).await.unwrap();
            disk.sync_dir(path("/")).await.unwrap();
            world.power_cut(Loss::Everything);
            assert_eq!(read(&world, "d/g").await.unwrap(), "body");
        }
    }
    assert!(lost > 0 && kept > 0);
}

#[tokio::test]
async fn a_name_that_was_taken_again_keeps_its_last_owner() {
    let world = SimWorld::new(1);
    let disk = world.process("a");
    disk.create_dir_all(path("d")).await.unwrap();
    durable_file(&disk, "f", "old").await;
    disk.rename(path("f"), path("d/g")).await.unwrap();
    durable_file(&disk, "f", "new").await;
    disk.sync_dir(path("d")).await.unwrap();
    world.power_cut(Loss::Everything);
    assert_eq!(read(&world, "f").await.unwrap(), "new");
    assert_eq!(read(&world, "d/g").await.unwrap(), "old");
}

#[tokio::test]
async fn atomic_files_are_whole_whenever_the_power_goes() {
    for nth in 1..12 {
        for seed in 0..8 {
            let world = SimWorld::new(seed);
            let disk = world.process("a");
            replace_file(&disk, path("f"), bytes("one"), "0")
                .await
                .unwrap();
            let calls = world.calls("a");
            world.die_at("a", calls + nth, Moment::After, Death::PowerCut(Loss::Some));
            let replaced = tokio::select! {
                biased;
                done = replace_file(&disk, path("f"), bytes("two"), "1") => done.is_ok(),
                () = disk.died() => false,
            };
            let left = read(&world, "f").await.unwrap();
            assert!(left == "one" || left == "two", "{left}");
            assert!(!replaced || left == "two");
        }
    }
}

#[tokio::test]
async fn a_sync_after_a_failed_one_reports_success_and_writes_nothing() {
    let world = SimWorld::new(1);
    let disk = world.process("a");
    let file = durable_file(&disk, "f", "1234").await;
    file.write_at(4, vec![bytes("5678")]).await.unwrap();
    world.set_sync_loss(Loss::Everything);
    world.fail(Rule::once(Op::Sync, "f"));
    assert!(file.sync().await.is_err());
    file.sync().await.unwrap();
    assert_eq!(read(&world, "f").await.unwrap(), "12345678");
    file.write_at(8, vec![bytes("9")]).await.unwrap();
    file.sync().await.unwrap();
    world.power_cut(Loss::Nothing);
    assert_eq!(read(&world, "f").await.unwrap(), "1234\0\0\0\x009");
}

#[tokio::test]
async fn rules_fail_calls_before_or_after_the_effect_once_or_always() {
    let world = SimWorld::new(1);
    let disk = world.process("a");
    durable_file(&disk, "f", "x").await;
    world.fail(Rule {
        moment: Moment::After,
        ..Rule::once(Op::LinkNew, "g")
    });
    assert!(disk.link_new(path("f"), path("g")).await.is_err());
    assert_eq!(read(&world, "g").await.unwrap(), "x");
    world.fail(Rule {
        skip: 1,
        ..Rule::always(Op::Remove, "g")
    });
    disk.remove(path("g")).await.unwrap();
    disk.link_new(path("f"), path("g")).await.unwrap();
    for _ in 0..3 {
        assert!(disk.remove(path("g")).await.is_err());
    }
    world.heal();
    disk.remove(path("g")).await.unwrap();
    for (moment, made) in [(Moment::Before, false), (Moment::After, true)] {
        world.fail(Rule {
            moment,
            kind: ErrorKind::StorageFull,
            ..Rule::once(Op::LinkNew, "slot")
        });
        let linked = disk.link_new(path("f"), path("slot")).await;
        assert_eq!(linked.unwrap_err().kind(), ErrorKind::StorageFull);
        let found = disk.stat(path("slot")).await.unwrap();
        assert_eq!(
            found.is_some(),
            made,
            "a link may exist although its call failed"
        );
    }
}

#[tokio::test]
async fn a_full_disk_writes_what_fits_and_stays_readable() {
    let world = SimWorld::new(1);
    let disk = world.process("a");
    let file = durable_file(&disk, "f", "1234").await;
    world.set_quota(Some(6));
    let full = file
        .write_at(4, vec![bytes("5"), bytes("678")])
        .await
        .unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(read(&world, "f").await.unwrap(), "123456");
    file.write_at(0, vec![bytes("abcdef")]).await.unwrap();
    let other = disk.open(path("g"), Open::Create).await.unwrap();
    assert!(other.write_at(0, vec![bytes("x")]).await.is_err());
    disk.remove(path("f")).await.unwrap();
    other.write_at(0, vec![bytes("xyz")]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn locks_belong_to_processes_and_end_with_them() {
    let world = SimWorld::new(1);
    let (a, b) = (world.process("a"), world.process("b"));
    let held = a.lock(path("lock"), LockKind::Exclusive).await.unwrap();
    assert!(
        a.try_lock(path("lock"), LockKind::Shared)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        b.try_lock(path("lock"), LockKind::Shared)
            .await
            .unwrap()
            .is_none()
    );
    let waiter = {
        let b = b.clone();
        tokio::spawn(async move { b.lock(path("lock"), LockKind::Exclusive).await.unwrap() })
    };
    tokio::task::yield_now().await;
    world.kill("a");
    let taken = waiter.await.unwrap();
    // The dead process's handle frees nothing.
    drop(held);
    let c = world.process("c");
    assert!(
        c.try_lock(path("lock"), LockKind::Shared)
            .await
            .unwrap()
            .is_none()
    );
    drop(taken);
    let first = c
        .try_lock(path("lock"), LockKind::Shared)
        .await
        .unwrap()
        .unwrap();
    let second = b
        .try_lock(path("lock"), LockKind::Shared)
        .await
        .unwrap()
        .unwrap();
    assert!(
        c.try_lock(path("lock"), LockKind::Exclusive)
            .await
            .unwrap()
            .is_none()
    );
    world.power_cut(Loss::Everything);
    let d = world.process("d");
    assert!(
        d.try_lock(path("lock"), LockKind::Exclusive)
            .await
            .unwrap()
            .is_some()
    );
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_dead_process_never_return_and_do_nothing() {
    let world = SimWorld::new(1);
    let a = world.process("a");
    durable_file(&a, "f", "x").await;
    let calls = world.calls("a");
    world.die_at("a", calls + 2, Moment::Before, Death::Kill);
    a.stat(path("f")).await.unwrap();
    let limit = Duration::from_secs(3600);
    assert!(
        tokio::time::timeout(limit, a.remove(path("f")))
            .await
            .is_err()
    );
    a.died().await;
    assert!(
        tokio::time::timeout(limit, a.stat(path("f")))
            .await
            .is_err()
    );
    let again = world.process("a");
    assert!(a.stat(path("f")).now_or_never().is_none() && again.is_alive());
    assert!(again.stat(path("f")).await.unwrap().is_some());
    world.die_at("a", world.calls("a") + 1, Moment::After, Death::Kill);
    assert!(
        tokio::time::timeout(limit, again.remove(path("f")))
            .await
            .is_err()
    );
    assert_eq!(read(&world, "f").await, None);
}

#[tokio::test(start_paused = true)]
async fn watches_report_changes_and_nothing_else() {
    let world = SimWorld::new(1);
    let (a, b) = (world.process("a"), world.process("b"));
    let file = durable_file(&a, "f", "x").await;
    let mut of_file = b.watch(path("f")).await.unwrap();
    let mut of_dir = b.watch(path("/")).await.unwrap();
    a.stat(path("f")).await.unwrap();
    assert!(of_file.changed().now_or_never().is_none());
    file.write_at(0, vec![bytes("y")]).await.unwrap();
    of_file.changed().await;
    of_dir.changed().await;
    assert!(of_file.changed().now_or_never().is_none());
    let waiting = tokio::spawn(async move {
        of_dir.changed().await;
        of_dir
    });
    tokio::task::yield_now().await;
    durable_file(&a, "g", "x").await;
    let mut of_dir = waiting.await.unwrap();
    a.remove(path("g")).await.unwrap();
    of_dir.changed().await;
    let missing = b.watch(path("none")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn the_simulated_disk_conforms() {
    let world = SimWorld::new(1);
    let (one, two) = (world.process("a"), world.process("b"));
    crate::conformance_disk::conforms(&one, &two, path("root")).await;
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_trace() {
    async fn run(seed: u64) -> u64 {
        let world = SimWorld::new(seed);
        let mut tasks = Vec::new();
        for name in ["a", "b", "c"] {
            let disk = world.process(name);
            tasks.push(tokio::spawn(async move {
                for n in 0..5 {
                    let _held = disk.lock(path("lock"), LockKind::Exclusive).await.unwrap();
                    let slot = format!("slot{n}");
                    replace_file(&disk, path(&slot), bytes("x"), &slot)
                        .await
                        .unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        world.power_cut(Loss::Some);
        world.trace().hash()
    }
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..5 {
        let hash = run(seed).await;
        assert_eq!(hash, run(seed).await);
        hashes.insert(hash);
    }
    assert_eq!(hashes.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_breakpoint_stops_one_process_at_one_call() {
    let world = SimWorld::new(1);
    let (a, b) = (world.process("sink-a"), world.process("other"));
    let breakpoint = |moment, fault| Breakpoint {
        process: "sink".to_owned(),
        op: Op::Open,
        path: "rec".to_owned(),
        moment,
        fault,
    };
    let time = Duration::from_secs(3);
    let caught = world.set_breakpoint(breakpoint(Moment::Before, Fault::Hangs(time)));
    drop(durable_file(&b, "record", "x").await);
    drop(durable_file(&a, "x", "x").await);
    let started = hydrant_core::clock::now();
    drop(a.open(path("record"), Open::Read).await.unwrap());
    assert_eq!(started.elapsed(), time);
    let caught = caught.await.unwrap();
    assert_eq!((&*caught.process, &*caught.path), ("sink-a", "record"));
    // The breakpoint is used up; another one catches a call after its effect.
    drop(world.set_breakpoint(breakpoint(Moment::After, Fault::Dies(Death::Kill))));
    tokio::select! {
        () = a.died() => {}
        _ = a.open(path("rec"), Open::CreateNew) => panic!("it lives"),
    }
    assert!(b.stat(path("rec")).await.unwrap().is_some());
    let never = world.set_breakpoint(breakpoint(Moment::After, Fault::Dies(Death::Kill)));
    world.heal();
    assert!(never.await.is_err());
}
