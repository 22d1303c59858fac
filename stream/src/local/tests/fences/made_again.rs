//! A process stands still at any call of the disk while its stream is deleted and made again under its name, and continues.
//!
//! The new stream holds what the old one held under the same names: shards, segments, leases. What the late process does
//! changes none of that, and the late process says that its stream is gone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::admin::Trim;
use hydrant_core::clock;
use hydrant_core::disk::{Disk, Open, read_file};
use hydrant_core::lease::{Lease, LeaseStore, Reprocess, Swap};
use hydrant_core::origin::WriterId;
use hydrant_core::stream::{Join, SharedStream};
use hydrant_core::{Budget, Context, Error, Position, Result};
use hydrant_testing::disk::{At, Death, Moment, Op, SimWorld};
use tokio::time::timeout;

use super::super::conformance::leases;
use super::super::fixture::*;
use super::{
    FEW, MANY, OTHERS, STANDS_STILL, Sender, Stopped, URL, both, made, opened, stopped, stored_now,
};

const DIR: &str = "/data/events";
/// The time in which a process that continues is done.
const SOON: Duration = Duration::from_secs(60);

/// What the late process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Appends,
    Trims,
    Splits,
    Repairs,
    Fences,
    Opens,
    Leases,
    Reprocesses,
}

/// Appends under a run of a producer without a ledger.
async fn send_as_run(stream: &SharedStream) -> Result<()> {
    let mut run = interval("", 0, 0, 1);
    run.entry.as_mut().unwrap().writer = WriterId::of_run("7");
    let writer = stream.writer().await?;
    append(&writer, &first(), run).await.map(drop)
}

/// Takes the lease of a shard and renews it, as an app's only worker.
async fn lease(store: &dyn LeaseStore) -> Result<()> {
    let _present = store.register("w").await?;
    let mut seen = None;
    let mut next = Lease::new(first());
    for n in 1..=4 {
        let swapped = store.swap(seen.as_ref(), &next).await?;
        assert_eq!(swapped, Swap::Swapped, "swap {n}");
        seen = Some(next.clone());
        (next.owner, next.epoch, next.counter) = (Some("w".to_owned()), n, n);
    }
    store.list().await.map(drop)
}

async fn reprocess(store: &dyn LeaseStore) -> Result<()> {
    let all = Reprocess::All(BTreeMap::new());
    store.reprocess(&all).await.map(drop)
}

/// Damages a frame of the shard's first segment.
async fn damage(world: &SimWorld) {
    let probe = world.process("probe");
    let shard = home(&probe, DIR).await.join("shards/000000");
    let names = probe.list(&shard).await.unwrap();
    let segment = names.iter().find(|l| l.name.ends_with(".seg")).unwrap();
    let path = shard.join(&segment.name);
    let file = probe.open(&path, Open::Write).await.unwrap();
    let wrong = bytes::Bytes::from_static(&[0xff; 4]);
    file.write_at(segment.len / 2, vec![wrong]).await.unwrap();
}

impl Work {
    async fn run(self, late: Context, mut sender: Sender) -> Result<()> {
        let stream = Arc::clone(&sender.stream);
        let admin = stream.admin();
        match self {
            Work::Appends => {
                send_as_run(&stream).await?;
                sender.send(FEW).await?;
                sender.send(MANY).await
            }
            Work::Trims => {
                let what = Trim::After(Position::offset(MANY - 1));
                admin.trim(Some(&first()), what).await.map(drop)
            }
            Work::Splits => {
                let children = admin.split(&first(), None).await?;
                admin.merge(&children[0], &children[1]).await.map(drop)
            }
            Work::Repairs => admin.repair(&first()).await.map(drop),
            Work::Fences => sender.send(FEW).await,
            Work::Opens => {
                let stream = open(URL, &late).await?;
                stream.states().await.map(drop)
            }
            Work::Leases => lease(&*assigned(&stream).await?).await,
            Work::Reprocesses => reprocess(&*assigned(&stream).await?).await,
        }
    }
}

async fn assigned(stream: &SharedStream) -> Result<Arc<dyn LeaseStore>> {
    let join = Join::new("app", "worker", &Budget::new(1 << 20));
    match stream.assignment(&join).await? {
        hydrant_core::stream::Assignment::Leases(leases) => Ok(leases),
        hydrant_core::stream::Assignment::Broker(_) => panic!("no broker here"),
    }
}

/// All files of the stream: those in its directory, and what lies in its home.
async fn tree(world: &SimWorld, home: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let probe = world.process("probe");
    let mut tree = BTreeMap::new();
    let mut left = vec![PathBuf::from(DIR)];
    while let Some(dir) = left.pop() {
        for listed in probe.list(&dir).await.unwrap() {
            let path = dir.join(&listed.name);
            if listed.is_dir && (path.starts_with(home) || home.starts_with(&path)) {
                left.push(path);
            } else if !listed.is_dir {
                let bytes = read_file(&probe, &path).await.unwrap().unwrap();
                tree.insert(path, bytes.to_vec());
            }
        }
    }
    tree
}

/// Answers whether the late process was stopped before it was done.
async fn late_at(work: Work, nth: u64) -> bool {
    let case = format!("{work:?}, call {nth}");
    let (world, stream) = match work {
        Work::Fences | Work::Opens => {
            // The others have written frames, and not said that they are durable.
            let Stopped { world, second, .. } =
                stopped(Op::WriteAt, "000000/control", Moment::Before).await;
            if work == Work::Opens {
                world.kill("first");
            }
            (world, Arc::clone(&second.stream))
        }
        _ => {
            let world = SimWorld::new(nth);
            made(&world).await;
            let stream = opened(&world, "second", 3).await;
            (world, stream)
        }
    };
    if work == Work::Repairs {
        damage(&world).await;
    }
    let sender = Sender::of(stream, "second", OTHERS).await;
    // Opening is the work of a process of its own.
    let late = if work == Work::Opens {
        "late"
    } else {
        "second"
    };
    let context = context_on(world.process("late").shared(), 4);
    let begun = world.calls(late);
    world.inject(late, At::Call(begun + nth), Moment::Before, STANDS_STILL);
    let mut works = tokio::spawn(work.run(context, sender));
    while world.calls(late) < begun + nth {
        if works.is_finished() {
            works.await.unwrap().unwrap();
            return false;
        }
        clock::sleep(Duration::from_millis(1)).await;
    }
    clock::sleep(Duration::from_millis(10)).await;
    let operator = context_on(world.process("operator").shared(), 5);
    if timeout(SOON, delete(URL, &operator)).await.is_err() {
        // It holds the manifest's lock, and is waited for.
        works.abort();
        return true;
    }
    drop(create(URL, options(1), &operator).await.unwrap());
    let new = opened(&world, "new", 6).await;
    let mut sends = Sender::of(Arc::clone(&new), "new", OTHERS).await;
    send_as_run(&new).await.unwrap();
    sends.send(MANY).await.unwrap();
    sends.send(MANY).await.unwrap();
    if work == Work::Splits {
        let admin = new.admin();
        let children = admin.split(&first(), None).await.unwrap();
        admin.split(&children[0], None).await.unwrap();
    }
    let store = leases(&new).await;
    if work == Work::Reprocesses {
        reprocess(&*store).await.unwrap();
        reprocess(&*store).await.unwrap();
    } else {
        lease(&*store).await.unwrap();
    }
    let mine = home(&world.process("probe"), DIR).await;
    let before = tree(&world, &mine).await;
    world.resume(late);
    let ended = timeout(SOON, &mut works).await;
    let ended = ended.unwrap_or_else(|_| panic!("{case}: it does not go on"));
    // What is over but for a removal is done.
    if let Err(error) = ended.unwrap() {
        assert!(error.to_string().contains("deleted"), "{case}: {error}");
    }
    let after = tree(&world, &mine).await;
    let names = |tree: &BTreeMap<_, _>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "{case}");
    assert!(after == before, "{case}: a file has changed");
    sends.send(FEW).await.unwrap();
    let mut wanted = both(1, 2 * MANY + FEW);
    wanted.sort_unstable();
    assert_eq!(stored_now(&world).await, wanted, "{case}");
    // What the late process made is removed as well.
    delete(URL, &operator).await.unwrap();
    let left = world.process("probe").list(Path::new(DIR)).await.unwrap();
    let left: Vec<_> = left.iter().map(|listed| &*listed.name).collect();
    assert_eq!(left, ["manifest.lock"], "{case}");
    true
}

async fn late_at_every_call(work: Work) {
    let mut nth = 1;
    while late_at(work, nth).await {
        nth += 1;
    }
    assert!(nth > 5, "{work:?} makes {nth} calls");
}

#[tokio::test(start_paused = true)]
async fn a_late_append_leaves_a_stream_that_was_made_again_alone() {
    late_at_every_call(Work::Appends).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_removal_leaves_a_stream_that_was_made_again_alone() {
    late_at_every_call(Work::Trims).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_reshard_leaves_a_stream_that_was_made_again_alone() {
    late_at_every_call(Work::Splits).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_repair_leaves_a_stream_that_was_made_again_alone() {
    late_at_every_call(Work::Repairs).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_fence_leaves_a_stream_that_was_made_again_alone() {
    late_at_every_call(Work::Fences).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_opening_leaves_a_stream_that_was_made_again_alone() {
    late_at_every_call(Work::Opens).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_lease_leaves_a_stream_that_was_made_again_alone() {
    late_at_every_call(Work::Leases).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_reprocessing_leaves_a_stream_that_was_made_again_alone() {
    late_at_every_call(Work::Reprocesses).await;
}

async fn is_there(world: &SimWorld) -> bool {
    let manifest = Path::new("/data/events/manifest.json");
    world
        .process("probe")
        .stat(manifest)
        .await
        .unwrap()
        .is_some()
}

/// A deletion dies at a call of the disk: one that is made again finds all that it left, and a creation what holds no
/// records.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_died_is_finished_by_the_next_one() {
    for creates in [false, true] {
        for nth in 1.. {
            let case = format!("call {nth}, then a creation: {creates}");
            let world = SimWorld::new(nth);
            made(&world).await;
            let old = home(&world.process("probe"), DIR).await;
            let dying = context_on(world.process("dying").shared(), 4);
            world.die_at("dying", nth, Moment::Before, Death::Kill);
            if let Ok(deleted) = timeout(SOON, delete(URL, &dying)).await {
                deleted.unwrap();
                break;
            }
            let operator = context_on(world.process("operator").shared(), 5);
            if creates && !is_there(&world).await {
                match create(URL, options(1), &operator).await {
                    Ok(_) => {}
                    Err(Error::Refused { message }) => {
                        assert!(
                            message.contains("hydrant stream delete"),
                            "{case}: {message}"
                        );
                        delete(URL, &operator).await.unwrap();
                        drop(create(URL, options(1), &operator).await.unwrap());
                    }
                    Err(error) => panic!("{case}: {error}"),
                }
                assert_ne!(home(&world.process("probe"), DIR).await, old, "{case}");
                assert_eq!(stored_now(&world).await, Vec::<u64>::new(), "{case}");
                continue;
            }
            let deleted = delete(URL, &operator).await;
            // The last calls have nothing left to remove.
            assert!(
                matches!(deleted, Ok(()) | Err(Error::NotFound { .. })),
                "{case}: {deleted:?}"
            );
            let left = world.process("probe").list(Path::new(DIR)).await.unwrap();
            assert_eq!(left.len(), 1, "{case}: {left:?}");
        }
    }
}
