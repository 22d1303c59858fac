//! One process appends, starts segments, trims, splits and merges; it is stopped at its n-th call, whichever that is.
//!
//! Meanwhile another one appends in time, and those who open or read have their answers. Then the first continues, or is
//! dead, or the power is cut. Afterwards each record of both is there once and in order, and no offset that a reader
//! has seen holds another record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hydrant_core::admin::Trim;
use hydrant_core::disk::{Disk, LockKind};
use hydrant_core::stream::{Read, SharedStream};
use hydrant_core::{Error, Position};
use hydrant_testing::disk::{At, Loss, Moment, SimWorld};
use tokio::task::JoinHandle;

use super::super::crashes::SeenRecords;
use super::super::fixture::*;
use super::{AT_ONCE, FEW, IN_TIME, MANY, OTHERS, STANDS_STILL, Sender, TRIMMED, made, opened};

/// What a process does that will be stopped.
async fn work(world: SimWorld, done: Arc<AtomicU64>, ready: tokio::sync::oneshot::Sender<()>) {
    let stream = opened(&world, "first", 2).await;
    let mut sender = Sender::of(stream, "first", 0).await;
    sender.done = done;
    ready.send(()).unwrap();
    // What others have done to a shard meanwhile is not a fault.
    let bear = |outcome: hydrant_core::Result<()>| match outcome {
        Ok(()) | Err(Error::Sealed { .. }) => {}
        Err(error) => panic!("{}", error.report()),
    };
    let admin = sender.stream.admin();
    for records in [FEW, FEW, MANY] {
        bear(sender.send(records).await);
    }
    let trimmed = Trim::After(Position::offset(MANY - 1));
    bear(admin.trim(Some(&first()), trimmed).await.map(drop));
    let map = sender.stream.shards().await.unwrap();
    let one = map.open().next().unwrap().id.clone();
    bear(admin.split(&one, None).await.map(drop));
    bear(sender.send(FEW).await);
    let map = sender.stream.shards().await.unwrap();
    if let [a, b, ..] = map.open().collect::<Vec<_>>()[..] {
        bear(admin.merge(&a.id, &b.id).await.map(drop));
    }
    bear(sender.send(FEW).await);
}

/// Records that the first process appends.
const WORK: u64 = 4 * FEW + MANY;

#[derive(Clone, Copy, Debug)]
enum WriterFate {
    GoesOn,
    Dies,
    PowerCut(Loss),
}

/// Reads along, until its process is killed.
pub(super) fn reads_along(
    world: &SimWorld,
    seen: &Arc<std::sync::Mutex<SeenRecords>>,
) -> JoinHandle<()> {
    let (world, seen) = (world.clone(), Arc::clone(seen));
    tokio::spawn(async move {
        let stream = opened(&world, "reader", 7).await;
        let mut left = vec![first()];
        while let Some(shard) = left.pop() {
            let mut reader = reader(&stream, &shard, Position::Begin).await;
            loop {
                match reader.next().await.unwrap() {
                    Read::Batch(batch) => {
                        let mut seen = seen.lock().unwrap();
                        for (offset, n) in numbers(&batch) {
                            seen.insert((shard.clone(), offset), n);
                        }
                    }
                    Read::End { children, .. } => {
                        left.extend(children);
                        break;
                    }
                    Read::Idle { .. } | Read::Gap { .. } => {}
                }
            }
        }
    })
}

/// Whether a process holds the lock under which the manifest is replaced: then shards can be neither made nor closed.
async fn manifest_is_held(world: &SimWorld) -> bool {
    let probe = world.process("probe");
    let path = std::path::Path::new("/data/events/manifest.lock");
    probe
        .try_lock(path, LockKind::Exclusive)
        .await
        .unwrap()
        .is_none()
}

/// Each of `wanted` is there once, and those of one key are in order.
fn once_and_in_order(all: &[u64], wanted: impl Iterator<Item = u64>, case: &str) {
    let mut newest: BTreeMap<(bool, String), u64> = BTreeMap::new();
    let ours = || all.iter().copied().filter(|n| *n < TRIMMED);
    for n in ours() {
        let before = newest.insert((n > OTHERS, key(n)), n);
        assert!(
            before.is_none_or(|before| before < n),
            "{case}: record {n} stands after {before:?}"
        );
    }
    let mut found: Vec<u64> = ours().collect();
    found.sort_unstable();
    assert_eq!(found, wanted.collect::<Vec<_>>(), "{case}");
}

/// Answers whether the first process was stopped before it was done.
async fn stopped_at(nth: u64, moment: Moment, fate: WriterFate) -> bool {
    let case = format!("call {nth}, {moment:?}, {fate:?}");
    let world = SimWorld::new(nth);
    made(&world).await;
    let seen = Arc::new(std::sync::Mutex::new(SeenRecords::new()));
    let reader = reads_along(&world, &seen);
    let second = opened(&world, "second", 3).await;
    let mut second = Sender::of(second, "second", OTHERS).await;
    second.send(FEW).await.unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let (ready, begins) = tokio::sync::oneshot::channel();
    let mut first_works = tokio::spawn(work(world.clone(), Arc::clone(&done), ready));
    begins.await.unwrap();
    let begun = world.calls("first");
    world.inject("first", At::Call(begun + nth), moment, STANDS_STILL);
    let stopped = loop {
        if first_works.is_finished() {
            break false;
        }
        if world.calls("first") >= begun + nth {
            hydrant_core::clock::sleep(Duration::from_millis(10)).await;
            break true;
        }
        hydrant_core::clock::sleep(Duration::from_millis(1)).await;
    };
    let look_at = async {
        let observer = opened(&world, "observer", 8).await;
        observer.states().await.unwrap();
        let at = Position::Begin;
        drop(opened_after(&observer, &first(), at).await.unwrap());
    };
    let looked = tokio::time::timeout(AT_ONCE, look_at).await;
    assert!(looked.is_ok(), "{case}: an observer waits");
    let exempt = manifest_is_held(&world).await;
    let began = tokio::time::Instant::now();
    let goes_on = async {
        for records in [FEW, MANY, FEW] {
            second.send(records).await.unwrap();
        }
    };
    let went_on = tokio::time::timeout(IN_TIME, goes_on).await.is_ok();
    assert!(went_on || exempt, "{case}: the other writer waits");
    let took = began.elapsed();
    assert!(took <= IN_TIME || exempt, "{case}: it took {took:?}");
    match fate {
        WriterFate::GoesOn => {
            world.resume("first");
            let ended = tokio::time::timeout(Duration::from_secs(60), &mut first_works).await;
            ended
                .unwrap_or_else(|_| panic!("{case}: it does not go on"))
                .unwrap();
        }
        WriterFate::Dies => world.kill("first"),
        WriterFate::PowerCut(loss) => world.power_cut(loss),
    }
    first_works.abort();
    // Both are sent again from what they know to be stored, cut elsewhere.
    let again = opened(&world, "again", 4).await;
    let known = done.load(Ordering::SeqCst);
    let mut rest = Sender::of(again, "first", 0).await;
    rest.low = known;
    rest.done.store(known, Ordering::SeqCst);
    while rest.done.load(Ordering::SeqCst) < WORK {
        let left = WORK - rest.done.load(Ordering::SeqCst);
        rest.send(left.min(5)).await.unwrap();
    }
    let mut others = Sender::of(Arc::clone(&rest.stream), "second", OTHERS).await;
    let known = second.done.load(Ordering::SeqCst);
    (others.low, others.done) = (known, Arc::new(AtomicU64::new(known)));
    let to = OTHERS + 4 * FEW + MANY;
    while others.done.load(Ordering::SeqCst) < to {
        let left = to - others.done.load(Ordering::SeqCst);
        others.send(left.min(5)).await.unwrap();
    }
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.retain(|_, n| *n < TRIMMED);
    reader.abort();
    let all = look_past_gaps(&rest.stream, &mut seen).await;
    once_and_in_order(&all, (1..=WORK).chain(OTHERS + 1..=to), &case);
    world.power_cut(Loss::Everything);
    let last = opened(&world, "last", 9).await;
    let again = look_past_gaps(&last, &mut seen).await;
    assert_eq!(again.len(), all.len(), "{case}: after a power cut");
    stopped
}

/// As [`look`], in a stream that was trimmed.
async fn look_past_gaps(stream: &SharedStream, seen: &mut SeenRecords) -> Vec<u64> {
    let mut all = Vec::new();
    for shard in stream.shards().await.unwrap().all() {
        let state = stream.state(&shard.id).await.unwrap();
        let mut reader = reader(stream, &shard.id, state.kept_after).await;
        for (offset, n) in read_all(&mut reader).await {
            if n >= TRIMMED {
                continue;
            }
            let before = seen.insert((shard.id.clone(), offset), n);
            assert!(
                before.is_none_or(|before| before == n),
                "offset {offset} of {} was {before:?}, is {n}",
                shard.id
            );
            all.push(n);
        }
    }
    for ((shard, offset), n) in seen.iter() {
        assert!(
            all.contains(n),
            "record {n} at {shard}/{offset} was seen and is gone"
        );
    }
    all
}

/// Each test takes its share of the calls.
const SHARES: u64 = 4;

async fn every_call(share: u64, moment: Moment, fate: WriterFate) {
    let mut nth = 1 + share;
    while stopped_at(nth, moment, fate).await {
        nth += SHARES;
    }
    assert!(nth > 100, "there are only {nth} calls");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_stands_still_before_any_call_and_goes_on_loses_and_doubles_nothing() {
    every_call(0, Moment::Before, WriterFate::GoesOn).await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_stands_still_after_any_call_and_goes_on_loses_and_doubles_nothing() {
    every_call(1, Moment::After, WriterFate::GoesOn).await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_stands_still_at_any_call_and_dies_loses_and_doubles_nothing() {
    every_call(2, Moment::After, WriterFate::Dies).await;
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_after_fencing_loses_and_doubles_nothing() {
    every_call(3, Moment::After, WriterFate::PowerCut(Loss::Everything)).await;
}
