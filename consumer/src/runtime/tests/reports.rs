//! What goes wrong is counted, and is logged under its own name. Of several failures the worst is reported.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use hydrant_core::admin::{Retention, Trim};
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Lease, Progress};
use hydrant_core::shard::{Shard, ShardMap};
use hydrant_core::stream::{SharedStream, Start, Stream};
use hydrant_testing::layer::{StageLayer, StreamLayer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::*;
use crate::runtime::run_spec::OnCorrupt;
use crate::runtime::testing::LogLines;

/// How often a shard was interrupted for a reason.
fn interruptions(recorder: &PrometheusRecorder, shard: &str, reason: &str) -> u64 {
    let text = recorder.handle().render();
    let name = "hydrant_consumer_interruptions_total";
    let start = format!("{name}{{stream=\"memory\",shard=\"{shard}\",reason=\"{reason}\"}} ");
    let mut counts = text.lines().filter_map(|line| line.strip_prefix(&start));
    counts.next().map_or(0, |count| count.parse().unwrap())
}

/// A write that may succeed later does not hide one that never will, in whatever order they are answered.
#[tokio::test(start_paused = true)]
async fn an_error_that_no_retry_can_fix_outranks_those_that_may_pass() {
    for (damaged, late) in [("a", "b"), ("b", "a")] {
        let mut world = World::new(2, true);
        let damage = Error::fatal("the row is damaged");
        world.leases.fail_write(damaged, damage);
        let timeout = Error::Unavailable {
            message: "no answer".to_owned(),
            after: Duration::ZERO,
        };
        world.leases.fail_write(late, timeout);
        let worker = RunningWorker::start(world.plain());
        let ended = tokio::time::timeout(Duration::from_secs(60), worker.ended()).await;
        let error = ended.expect("the run ends").unwrap_err();
        assert_eq!(error.to_string(), "the row is damaged");
    }
}

/// The worker that has the shard now meets the damage itself.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_fenced_at_corrupt_data_is_lost_and_the_run_goes_on() {
    let mut world = World::new(2, false);
    world.stream.append("a", 5, 0);
    let mut spec = world.plain();
    spec.on_corrupt = OnCorrupt::EndShard;
    let worker = RunningWorker::start(spec);
    until("the ledger", || world.leases.to("a") == p(4)).await;
    let row = world.leases.row("a").unwrap();
    world.leases.put(Lease {
        owner: Some("other".to_owned()),
        epoch: row.epoch + 1,
        ..row
    });
    let corrupt = Error::Corrupt {
        path: "a".into(),
        offset: 5,
        detail: "torn".to_owned(),
    };
    world.stream.fail_reads("a", vec![corrupt]);
    world.stream.append("b", 5, 0);
    pass(Duration::from_secs(2)).await;
    assert_eq!(world.leases.to("a"), p(4), "the end is not this worker's");
    // The other worker never renews its lease.
    world.stream.append("a", 5, 0);
    pass(Duration::from_secs(60)).await;
    world.assert_exact();
    worker.drained().await.unwrap();
}

/// A stream drops a shard whose retention is over, be it read or not.
#[tokio::test(start_paused = true)]
async fn records_that_left_the_stream_unread_are_a_gap() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counts = metrics::set_default_local_recorder(&recorder);
    let (log, _logs) = LogLines::of_this_thread();
    let mut world = World::new(1, true);
    for (shard, to) in [("unread", p(4)), ("read", Position::End)] {
        world.leases.put(Lease {
            stream: Some(world.stream.id().clone()),
            progress: Some(Progress::starting(to)),
            ..Lease::new(shard.into())
        });
    }
    let worker = RunningWorker::start(world.plain());
    until("the removal", || world.leases.rows().len() == 1).await;
    worker.drained().await.unwrap();
    let warnings = log.with("WARN the stream no longer has the shard");
    assert_eq!(warnings.len(), 1, "{log:?}");
    let after = format!("shard=unread after={}", p(4));
    assert!(warnings[0].ends_with(&after), "{warnings:?}");
    assert_eq!(interruptions(&recorder, "unread", "gap"), 1);
    assert_eq!(interruptions(&recorder, "read", "gap"), 0);
}

/// Positions need not count records, so that a gap also says since when records are lost.
#[tokio::test(start_paused = true)]
async fn a_gap_says_after_which_time_its_records_were_stored() {
    let (log, _logs) = LogLines::of_this_thread();
    let mut world = World::new(1, true);
    let read_to_the_end = async |world: &mut World| {
        let mut spec = world.plain();
        spec.exit_at_end = true;
        RunningWorker::start(spec).ended().await.unwrap()
    };
    world.stream.append("a", 5, 0);
    read_to_the_end(&mut world).await;
    let stored = world.leases.row("a").unwrap().progress.unwrap().arrival;
    pass(Duration::from_secs(3600)).await;
    world.stream.append("a", 5, 0);
    let kept = Trim::After(p(7));
    world.stream.trim(Some(&"a".into()), kept).await.unwrap();
    let summary = read_to_the_end(&mut world).await;
    assert_eq!((summary.gaps, summary.records), (1, 2));
    let warnings = log.with("WARN skipping records that the stream no longer has");
    assert_eq!(warnings.len(), 1, "{log:?}");
    let stored = Start::At(stored.unwrap());
    let said = format!("stored_after=\"{stored}\"");
    assert!(warnings[0].contains(&said), "{said}: {warnings:?}");
}

/// A stage that writes into a stream may meet a closed shard again and again.
#[tokio::test(start_paused = true)]
async fn attempts_that_are_rerouted_are_counted_and_logged() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counts = metrics::set_default_local_recorder(&recorder);
    let (log, _logs) = LogLines::of_this_thread();
    let mut world = World::new(1, true);
    world.stream.append("a", 5, 0);
    let stage = Exact::new(&world.log);
    let sealed = Error::Sealed { shard: "to".into() };
    *stage.failures.lock().unwrap() = vec![sealed; 3];
    let mut spec = world.spec(stage);
    spec.exit_at_end = true;
    RunningWorker::start(spec).ended().await.unwrap();
    world.assert_exact();
    assert_eq!(interruptions(&recorder, "a", "retry"), 3);
    let warnings = log.with("shard `to` is closed");
    assert!(!warnings.is_empty(), "{log:?}");
    assert!(warnings.iter().all(|line| line.starts_with("WARN ")));
}

/// Without its lease store no worker has the shard.
#[tokio::test(start_paused = true)]
async fn a_claim_that_cannot_be_renewed_is_not_said_to_be_another_workers() {
    let (log, _logs) = LogLines::of_this_thread();
    let mut world = World::new(1, true);
    let worker = RunningWorker::start(world.plain());
    until("the claim", || world.leases.loads().len() == 1).await;
    world
        .leases
        .change_faults(|faults| faults.writes_fail = true);
    pass(Duration::from_secs(30)).await;
    let lost = log.with(" lost ");
    assert_eq!(lost, ["INFO lost the claim of the shard shard=a"]);
    drop(worker);
}

/// A stream, or an output, that does not answer a question the second time; the second field says whether it was asked.
#[derive(Debug)]
struct OneAnswer<T>(T, AtomicBool);

impl<T> OneAnswer<T> {
    async fn answer<R>(&self, answer: impl Future<Output = R>) -> R {
        if self.1.swap(true, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        answer.await
    }
}

#[async_trait]
impl StreamLayer for OneAnswer<SharedStream> {
    fn below(&self) -> &dyn Stream {
        &*self.0
    }

    async fn shards(&self) -> Result<ShardMap> {
        self.answer(self.0.shards()).await
    }
}

#[async_trait]
impl StageLayer for OneAnswer<Arc<dyn Stage>> {
    fn below(&self) -> &dyn Stage {
        &*self.0
    }

    async fn published_to(&self, shard: &Shard) -> Result<Option<Position>> {
        self.answer(self.0.published_to(shard)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_is_named() {
    let mut world = World::new(1, true);
    let exact = |world: &mut World| {
        let stage = Exact::new(&world.log);
        world.spec(NamedStage::new("lake", true, stage))
    };
    world.stream.append("a", 5, 0);
    let mut spec = exact(&mut world);
    spec.exit_at_end = true;
    RunningWorker::start(spec).ended().await.unwrap();

    let mut silent_stream = exact(&mut world);
    silent_stream.stream = Arc::new(Layered(OneAnswer(
        silent_stream.stream,
        AtomicBool::new(false),
    )));
    let mut silent_output = exact(&mut world);
    silent_output.stage = Arc::new(Layered(OneAnswer(
        silent_output.stage,
        AtomicBool::new(true),
    )));
    let silent_store = exact(&mut world);
    for (what, spec) in [
        ("the shards of the stream", silent_stream),
        ("the progress of the output", silent_output),
        ("changing a row", silent_store),
    ] {
        let late = Duration::from_secs(if what == "changing a row" { 3600 } else { 0 });
        world
            .leases
            .change_faults(|faults| faults.write_time = late);
        let (log, _logs) = LogLines::of_this_thread();
        let worker = RunningWorker::start(spec);
        pass(Duration::from_secs(30)).await;
        let warnings = log.with(": no answer within 3.3 s");
        assert!(!warnings.is_empty(), "{what}: {log:?}");
        for warning in warnings {
            assert!(warning.contains(what), "{warning}");
        }
        drop(worker);
    }
}
