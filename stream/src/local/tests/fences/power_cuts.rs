//! A writer stands still, another one fences its shard, and the power is cut meanwhile: all of them start again.
//!
//! What the control file said may be taken back then, and what a reader was given may not.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hydrant_testing::disk::{At, Death, Fault, Loss, Moment, Op, SimWorld};

use super::super::crashes::{SeenRecords, look};
use super::super::fixture::home;
use super::every_call::reads_along;
use super::{
    FEW, MANY, OTHERS, STANDS_STILL, Sender, Stopped, TRIMMED, both, breakpoint, made, opened,
    stopped, stored_now,
};

/// The holder has started a segment whose control file is not durable yet, and a reader has it. The fencer is on its way
/// when the power goes: the segment is not the next one after what the control file says then.
#[tokio::test(start_paused = true)]
async fn what_a_reader_has_of_a_new_segment_stays_in_a_shard_that_is_half_fenced() {
    let world = SimWorld::new(1);
    made(&world).await;
    let second = opened(&world, "second", 3).await;
    let mut second = Sender::of(second, "second", OTHERS).await;
    let stream = opened(&world, "first", 2).await;
    let mut sender = Sender::of(stream, "first", 0).await;
    for _ in 0..2 {
        sender.send(FEW).await.unwrap();
    }
    let told = Arc::clone(&sender.done);
    let caught = world.set_breakpoint(breakpoint(
        "first",
        Op::Sync,
        "000000/control",
        Moment::Before,
    ));
    let appends = tokio::spawn(async move { sender.send(MANY).await.unwrap() });
    caught.await.unwrap();
    let mut seen = SeenRecords::new();
    look(&opened(&world, "reader", 7).await, &mut seen).await;
    seen.retain(|_, n| *n < TRIMMED);
    assert_eq!(seen.len() as u64, 2 * FEW + MANY);
    let caught = world.set_breakpoint(breakpoint(
        "second",
        Op::Lock,
        "manifest.lock",
        Moment::Before,
    ));
    let fences = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    caught.await.unwrap();
    world.power_cut(Loss::Everything);
    appends.abort();
    fences.abort();
    let stream = opened(&world, "third", 5).await;
    let told = told.load(Ordering::SeqCst);
    let mut rest = Sender::of(Arc::clone(&stream), "first", told).await;
    rest.send(2 * FEW + MANY - told).await.unwrap();
    let mut now = SeenRecords::new();
    let mut all = look(&stream, &mut now).await;
    for (at, n) in &seen {
        assert_eq!(now.get(at), Some(n), "{at:?} was seen");
    }
    all.retain(|n| *n < TRIMMED);
    all.sort_unstable();
    assert_eq!(all, both(2 * FEW + MANY, 0));
}

/// The holder stops at its call `nth` of an append, and the machine with the fencer at call `mth` of that; answers
/// whether either happened.
async fn cut_at(nth: u64, mth: u64, moment: Moment, loss: Loss, records: u64) -> (bool, bool) {
    let case = format!("holder {nth} {moment:?}, fencer {mth}, {records} records, {loss:?}");
    let world = SimWorld::new(nth * 1000 + mth);
    made(&world).await;
    let seen = Arc::new(Mutex::new(SeenRecords::new()));
    let reader = reads_along(&world, &seen);
    let second = opened(&world, "second", 3).await;
    let mut second = Sender::of(second, "second", OTHERS).await;
    let stream = opened(&world, "first", 2).await;
    let mut sender = Sender::of(stream, "first", 0).await;
    for _ in 0..2 {
        sender.send(FEW).await.unwrap();
    }
    let done = Arc::clone(&sender.done);
    let begun = world.calls("first");
    world.inject("first", At::Call(begun + nth), moment, STANDS_STILL);
    let appends = tokio::spawn(async move { sender.send(records).await.unwrap() });
    while !appends.is_finished() && world.calls("first") < begun + nth {
        hydrant_core::clock::sleep(Duration::from_millis(1)).await;
    }
    // A reader has what it may have.
    hydrant_core::clock::sleep(Duration::from_millis(10)).await;
    let stopped = !appends.is_finished();
    let at = At::Call(world.calls("second") + mth);
    let cut = Fault::Dies(Death::PowerCut(loss));
    world.inject("second", at, Moment::After, cut);
    let told = Arc::clone(&second.done);
    let fences = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    hydrant_core::clock::sleep(Duration::from_secs(20)).await;
    let died = !fences.is_finished();
    fences.abort();
    appends.abort();
    reader.abort();
    if !died {
        world.power_cut(loss);
    }
    let stream = opened(&world, "third", 5).await;
    for (name, done, to) in [
        ("first", done.load(Ordering::SeqCst), 2 * FEW + records),
        ("second", told.load(Ordering::SeqCst), OTHERS + FEW),
    ] {
        let mut rest = Sender::of(Arc::clone(&stream), name, done).await;
        if done < to {
            rest.send(to - done).await.unwrap();
        }
    }
    let mut now = SeenRecords::new();
    let mut all = look(&stream, &mut now).await;
    for (at, n) in seen.lock().unwrap().iter() {
        assert_eq!(now.get(at), Some(n), "{case}: {at:?} was seen");
    }
    all.retain(|n| *n < TRIMMED);
    all.sort_unstable();
    assert_eq!(all, both(2 * FEW + records, FEW), "{case}");
    (stopped, died)
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_at_any_call_of_a_fence_loses_and_doubles_nothing() {
    for (records, moment, loss) in [
        (FEW, Moment::After, Loss::Some),
        (MANY, Moment::Before, Loss::Everything),
        (MANY, Moment::After, Loss::Everything),
    ] {
        let mut nth = 1;
        'holder: loop {
            // The calls of all steps are met, each beside others of the holder.
            let mut mth = 1 + nth % 5;
            loop {
                let (stopped, died) = cut_at(nth, mth, moment, loss, records).await;
                if !stopped {
                    break 'holder;
                }
                if !died {
                    break;
                }
                mth += 5;
            }
            nth += 1;
        }
        assert!(nth > 10, "there are only {nth} calls");
    }
}

/// The mark of a fence may be lost although it was synced twice: a sync that failed once says nothing the second time.
/// The manifest has the end, and who opens the stream goes by it.
#[tokio::test(start_paused = true)]
async fn a_shard_that_was_closed_ends_there_also_without_its_mark() {
    let Stopped {
        world,
        mut second,
        appends,
        ..
    } = stopped(Op::Sync, "000000/control", Moment::Before).await;
    second.send(FEW).await.unwrap();
    let operator = world.process("operator").shared();
    let shard = &home(&*operator, "/data/events").await.join("shards/000000");
    operator.remove(&shard.join("fence")).await.unwrap();
    operator.sync_dir(shard).await.unwrap();
    world.power_cut(Loss::Everything);
    appends.abort();
    // The control file says less than the manifest by now.
    assert_eq!(stored_now(&world).await, both(3 * FEW, FEW));
    let stream = opened(&world, "third", 5).await;
    let mut third = Sender::of(stream, "second", OTHERS + FEW).await;
    third.send(FEW).await.unwrap();
    assert_eq!(stored_now(&world).await, both(3 * FEW, 2 * FEW));
}
