//! The steps of a fence: what each is good for, and who completes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hydrant_core::Position;
use hydrant_core::admin::Trim;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::Read;
use hydrant_testing::disk::{At, Death, Fault, Loss, Moment, Op};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::super::fixture::*;
use super::{
    AT_ONCE, FEW, IN_TIME, OTHERS, Sender, Stopped, TRIMMED, both, breakpoint, opened, stopped,
    stored_now,
};

/// A disk takes so long for a sync, and is not stuck.
const SLOW: Duration = Duration::from_millis(1_900);

/// Stopped before its bytes are written, fenced, and woken: it must not say that they are stored.
async fn woken_past_a_fence() -> Vec<u64> {
    let mut stopped = stopped(Op::WriteAt, ".seg", Moment::Before).await;
    stopped.second.send(FEW).await.unwrap();
    stopped.world.resume("first");
    stopped.appends.await.unwrap();
    assert_eq!(stopped.done.load(Ordering::SeqCst), 3 * FEW);
    stored_now(&stopped.world).await
}

/// The fencer stands still before it makes the mark, and the writer that it fences continues meanwhile.
async fn goes_on_before_the_mark() -> Vec<u64> {
    let Stopped {
        world,
        mut second,
        appends,
        ..
    } = stopped(Op::WriteAt, ".seg", Moment::Before).await;
    let caught = world.set_breakpoint(breakpoint("second", Op::Open, "/fence", Moment::Before));
    let fences = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    caught.await.unwrap();
    world.resume("first");
    appends.await.unwrap();
    world.resume("second");
    fences.await.unwrap();
    stored_now(&world).await
}

/// Fenced, woken, and the power is cut, which takes back what the control file said.
async fn power_cut_after_a_fence() -> Vec<u64> {
    let mut stopped = stopped(Op::WriteAt, ".seg", Moment::Before).await;
    stopped.second.send(FEW).await.unwrap();
    stopped.world.power_cut(Loss::Everything);
    stored_now(&stopped.world).await
}

/// What a reader is given of the parent and its child while the writer is stopped, fenced and woken.
async fn read_along_a_fence() -> Vec<u64> {
    let mut stopped = stopped(Op::WriteAt, ".seg", Moment::Before).await;
    let stream = opened(&stopped.world, "reader", 7).await;
    let mut parent = reader(&stream, &first(), Position::Begin).await;
    let mut all = read_all(&mut parent).await;
    stopped.second.send(FEW).await.unwrap();
    stopped.world.resume("first");
    stopped.appends.await.unwrap();
    let mut children = Vec::new();
    while let Ok(next) = tokio::time::timeout(AT_ONCE, parent.next()).await {
        match next.unwrap() {
            Read::Batch(batch) => all.extend(numbers(&batch)),
            Read::End {
                children: these, ..
            } => {
                children = these;
                break;
            }
            _ => {}
        }
    }
    for child in children {
        let mut reader = reader(&stream, &child, Position::Begin).await;
        all.extend(read_all(&mut reader).await);
    }
    let mut all: Vec<u64> = all.into_iter().map(|(_, n)| n).collect();
    all.retain(|n| *n < TRIMMED);
    all.sort_unstable();
    all
}

#[tokio::test(start_paused = true)]
async fn a_fenced_writer_that_wakes_sends_to_the_child() {
    assert_eq!(woken_past_a_fence().await, both(3 * FEW, FEW));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_goes_on_before_the_mark_has_stored_what_it_said() {
    assert_eq!(goes_on_before_the_mark().await, both(3 * FEW, FEW));
}

#[tokio::test(start_paused = true)]
async fn a_fenced_shard_ends_where_it_did_also_after_a_power_cut() {
    assert_eq!(power_cut_after_a_fence().await, both(2 * FEW, FEW));
}

#[tokio::test(start_paused = true)]
async fn a_reader_goes_from_a_fenced_shard_to_its_child() {
    assert_eq!(read_along_a_fence().await, both(3 * FEW, FEW));
}

#[test]
fn fences_without_one_of_their_rules_lose_or_double() {
    let with = |mutant, job: fn() -> Vec<u64>| mutant::with(Some(mutant), job);
    let lost = with(Mutant::AcknowledgedPastFence, || {
        paused().block_on(woken_past_a_fence())
    });
    assert_eq!(lost, both(2 * FEW, FEW), "acknowledged without a look");
    let lost = with(Mutant::EndBeforeMark, || {
        paused().block_on(goes_on_before_the_mark())
    });
    assert_eq!(lost, both(2 * FEW, FEW), "the end is read before the mark");
    let lost = with(Mutant::EndedAtControl, || {
        paused().block_on(power_cut_after_a_fence())
    });
    assert_ne!(lost, both(2 * FEW, FEW), "ended at the control file");
    let given = with(Mutant::FenceUnseen, || {
        paused().block_on(read_along_a_fence())
    });
    assert_ne!(
        given,
        both(3 * FEW, FEW),
        "readers do not look for the mark"
    );
}

/// The fencer dies or stands still after it has marked the shard: others complete what it began.
#[tokio::test(start_paused = true)]
async fn a_fence_is_completed_by_others() {
    for (op, path) in [
        (Op::SyncDir, "shards/000000"),
        (Op::Open, "shards/000001/lock"),
        (Op::RenameNew, "shards/000001"),
        (Op::Lock, "manifest.lock"),
    ] {
        let Stopped {
            world,
            mut second,
            appends,
            ..
        } = stopped(Op::Sync, ".seg", Moment::Before).await;
        let caught = world.set_breakpoint(breakpoint("second", op, path, Moment::Before));
        let fences = tokio::spawn(async move { second.send(FEW).await.unwrap() });
        caught.await.unwrap();
        let third = tokio::time::timeout(AT_ONCE, opened(&world, "third", 5)).await;
        let third = third.unwrap_or_else(|_| panic!("{op:?} {path}: opening waits"));
        let mut third = Sender::of(third, "third", OTHERS + 500).await;
        let sent = tokio::time::timeout(IN_TIME, third.send(FEW)).await;
        sent.unwrap_or_else(|_| panic!("{op:?} {path}: the third writer waits"))
            .unwrap();
        world.resume("second");
        fences.await.unwrap();
        world.resume("first");
        appends.await.unwrap();
        let mut wanted = both(3 * FEW, FEW);
        wanted.extend(OTHERS + 501..=OTHERS + 500 + FEW);
        assert_eq!(stored_now(&world).await, wanted, "{op:?} {path}");
    }
}

/// The fencer dies at its call `nth`, alone or with the machine; answers whether it did.
async fn fencer_dies_at(nth: u64, moment: Moment, death: Death) -> bool {
    let case = format!("call {nth}, {moment:?}, {death:?}");
    let Stopped {
        world,
        mut second,
        done,
        appends,
    } = stopped(Op::Sync, ".seg", Moment::Before).await;
    let at = At::Call(world.calls("second") + nth);
    world.inject("second", at, moment, Fault::Dies(death));
    let sent = Arc::clone(&second.done);
    let fences = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    hydrant_core::clock::sleep(Duration::from_secs(20)).await;
    let died = !fences.is_finished();
    fences.abort();
    if matches!(death, Death::Kill) || !died {
        world.resume("first");
        appends.await.unwrap();
    }
    let stream = opened(&world, "third", 5).await;
    for (name, done, to) in [
        ("first", done.load(Ordering::SeqCst), 3 * FEW),
        ("second", sent.load(Ordering::SeqCst), OTHERS + FEW),
    ] {
        let mut rest = Sender::of(Arc::clone(&stream), name, done).await;
        if done < to {
            rest.send(to - done).await.unwrap();
        }
    }
    assert_eq!(stored_now(&world).await, both(3 * FEW, FEW), "{case}");
    died
}

#[tokio::test(start_paused = true)]
async fn a_fencer_that_dies_at_any_call_loses_and_doubles_nothing() {
    for moment in [Moment::Before, Moment::After] {
        for death in [Death::Kill, Death::PowerCut(Loss::Some)] {
            let mut nth = 1;
            while fencer_dies_at(nth, moment, death).await {
                nth += 1;
            }
            assert!(nth > 40, "only {nth} calls were tried");
        }
    }
}

async fn a_holder_is_waited_for() {
    let Stopped {
        world,
        mut second,
        appends,
        ..
    } = stopped(Op::Sync, ".seg", Moment::Before).await;
    let sends = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    hydrant_core::clock::sleep(SLOW).await;
    world.resume("first");
    appends.await.unwrap();
    sends.await.unwrap();
    let stream = opened(&world, "judge", 9).await;
    assert_eq!(stream.shards().await.unwrap().all().len(), 1);
    assert_eq!(stored_now(&world).await, both(3 * FEW, FEW));
}

/// A holder that is slow but makes progress is waited for.
#[tokio::test(start_paused = true)]
async fn a_holder_that_goes_on_is_not_fenced() {
    a_holder_is_waited_for().await;
}

/// The disk is full when the shard is to be fenced: the holder is waited for.
#[tokio::test(start_paused = true)]
async fn on_a_full_disk_the_holder_is_waited_for() {
    let Stopped {
        world,
        mut second,
        appends,
        ..
    } = stopped(Op::Sync, ".seg", Moment::Before).await;
    world.set_quota(Some(world.used_bytes()));
    let sends = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    hydrant_core::clock::sleep(Duration::from_secs(30)).await;
    assert!(!sends.is_finished());
    world.set_quota(None);
    world.resume("first");
    tokio::time::timeout(IN_TIME, sends).await.unwrap().unwrap();
    appends.await.unwrap();
    assert_eq!(stored_now(&world).await, both(3 * FEW, FEW));
}

/// A waiter for the lock that stands still with the turn holds no other up.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_stands_still_holds_no_other_up() {
    let Stopped {
        world, mut second, ..
    } = stopped(Op::Lock, "/lock", Moment::Before).await;
    let goes_on = async {
        for _ in 0..5 {
            second.send(FEW).await.unwrap();
        }
    };
    tokio::time::timeout(IN_TIME, goes_on).await.unwrap();
    let began = tokio::time::Instant::now();
    for _ in 0..20 {
        second.send(1).await.unwrap();
    }
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let stream = opened(&world, "judge", 9).await;
    assert_eq!(
        stream.shards().await.unwrap().all().len(),
        1,
        "it was fenced"
    );
}

/// Splitting a shard whose holder stands still closes it all the same; trimming it says who is waited for, and a repair that
/// finds nothing waits for none.
#[tokio::test(start_paused = true)]
async fn a_shard_whose_holder_stands_still_is_split() {
    let Stopped { world, appends, .. } = stopped(Op::Sync, ".seg", Moment::Before).await;
    let stream = opened(&world, "operator", 5).await;
    let admin = stream.admin();
    let children = tokio::time::timeout(IN_TIME, admin.split(&first(), None)).await;
    assert_eq!(children.unwrap().unwrap().len(), 2);
    let stuck = admin.trim(Some(&first()), Trim::ToBytes(0)).await;
    let error = stuck.unwrap_err().to_string();
    assert!(error.contains("fuser"), "{error}");
    assert!(admin.repair(&first()).await.unwrap().is_empty());
    world.resume("first");
    appends.await.unwrap();
    assert_eq!(stored_now(&world).await, both(3 * FEW, 0));
    // What it has left past the end goes when the shard is trimmed.
    admin.trim(Some(&first()), Trim::ToBytes(0)).await.unwrap();
    let state = stream.state(&first()).await.unwrap();
    assert_eq!((state.bytes, Some(state.kept_after)), (Some(0), state.tip));
}

/// The process that closes a shard whose holder stands still counts it, be it to append or to split it.
#[test]
fn fences_are_counted_by_the_process_that_closes_the_shard() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counted = |shard: &str, times: &str| {
        let line =
            format!("hydrant_local_fences_total{{stream=\"events\",shard=\"{shard}\"}} {times}\n");
        let text = recorder.handle().render();
        assert!(text.contains(&line), "no `{line}` in {text}");
    };
    metrics::with_local_recorder(&recorder, || {
        paused().block_on(async {
            a_holder_is_waited_for().await;
            assert!(!recorder.handle().render().contains("fences_total"));
            woken_past_a_fence().await;
            counted("000000", "1");
            let Stopped { world, .. } = stopped(Op::Sync, ".seg", Moment::Before).await;
            let admin = opened(&world, "operator", 5).await.admin();
            admin.split(&first(), None).await.unwrap();
            counted("000000", "2");
        });
    });
}
