//! Nothing waits for what only lags: drains, ledgers, coordinators and supervisors beside slow and silent stores.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{LeaseStore, Progress};
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{Behind, SharedStream, Stream};
use hydrant_core::subscription::{Claim, Event, Subscription};
use hydrant_testing::layer::StreamLayer;

use super::*;
use crate::runtime::LEASE_TIME_RANGE;
use crate::runtime::leases::LeasedSubscription;
use crate::runtime::testing::BrokerStream;

impl World {
    /// From now on each write of the store is answered this much later.
    fn write_time(&self, time: Duration) {
        self.leases.change_faults(|faults| faults.write_time = time);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_drain_before_the_store_answers() {
    let mut world = World::new(2, false);
    world.stream.append("a", 30, 0);
    let mut stage = Exact::new(&world.log);
    (stage.every, stage.records_max) = (Duration::from_secs(3600), usize::MAX);
    let worker = RunningWorker::start(world.spec(stage));
    pass(Duration::from_secs(2)).await;
    world.write_time(Duration::from_millis(5_000));
    // The coordinator creates rows for the children, and waits for the answer.
    world.stream.split_into("b", "c", "d");
    until("a row that is not answered", || {
        world.leases.row("c").is_some()
    })
    .await;
    assert!(world.log.records().is_empty());
    let began = clock::now();
    worker
        .shutdown
        .advance(hydrant_core::shutdown::Phase::Draining);
    until("the publish", || world.log.records().len() == 30).await;
    let took = clock::now() - began;
    assert!(took < Duration::from_millis(500), "{took:?}");
    world.write_time(Duration::ZERO);
    worker.ended().await.unwrap();
    world.assert_exact();
    assert_eq!(world.leases.to("a"), p(29));
}

#[tokio::test(start_paused = true)]
async fn a_slow_ledger_delays_no_record() {
    let mut world = World::new(1, false);
    let worker = RunningWorker::start(world.plain());
    pass(Duration::from_secs(2)).await;
    world.write_time(Duration::from_millis(2_000));
    for n in 1..=100 {
        world.stream.append("a", 1, 0);
        pass(Duration::from_millis(100)).await;
        assert_eq!(world.log.records().len(), n);
    }
    assert!(world.leases.to("a") > p(50), "the ledger follows");
    world.write_time(Duration::ZERO);
    worker.drained().await.unwrap();
    assert_eq!(world.leases.to("a"), p(99));
    world.assert_exact();
}

/// A write that gets no answer does not keep the lease from its renewal.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_gets_no_answer_costs_no_lease() {
    let mut world = World::new(1, false);
    let worker = RunningWorker::start(world.plain());
    pass(Duration::from_secs(2)).await;
    let epoch = world.leases.row("a").unwrap().epoch;
    world.write_time(Duration::from_secs(3600));
    world.stream.append("a", 1, 0);
    until("the write", || world.leases.to("a") == p(0)).await;
    world.write_time(Duration::ZERO);
    world.stream.append("a", 1, 0);
    until("the next write", || world.leases.to("a") == p(1)).await;
    pass(Duration::from_secs(30)).await;
    assert_eq!(world.leases.row("a").unwrap().epoch, epoch);
    worker.drained().await.unwrap();
    world.assert_exact();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_asked_again() {
    let mut world = World::new(1, false);
    world.write_time(Duration::from_millis(3_600_000));
    let worker = RunningWorker::start(world.exact());
    pass(Duration::from_secs(60)).await;
    world.stream.append("a", 5, 0);
    world.write_time(Duration::ZERO);
    pass(Duration::from_secs(10)).await;
    world.assert_exact();
    worker.drained().await.unwrap();
}

/// Nothing is left to read or publish, so the run waits for its ledger alone.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_refuses_is_asked_again_after_a_pause() {
    const REFUSALS: u32 = 20;
    let mut world = World::new(1, true);
    world.stream.append("a", 5, 0);
    let stage = PlainStage::new(&world.log);
    let (broker, mut spec) = world.brokered(stage);
    spec.exit_at_end = true;
    broker.refusals.store(REFUSALS.into(), Ordering::SeqCst);
    broker.grant("a", 1).await;
    let began = clock::now();
    RunningWorker::start(spec).ended().await.unwrap();
    let took = clock::now() - began;
    assert!(took > Duration::from_secs(20), "{took:?}");
    assert_eq!(broker.to("a"), Some(p(4)));
    world.assert_exact();
}

/// A stream that never says how far an app is behind.
#[derive(Debug)]
struct NeverMeasured(SharedStream);

#[async_trait]
impl StreamLayer for NeverMeasured {
    fn below(&self) -> &dyn Stream {
        &*self.0
    }

    async fn behind(&self, _shard: &ShardId, _after: &Progress) -> Result<Behind> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_lag_that_is_not_answered_holds_up_no_other_worker() {
    let mut world = World::new(1, true);
    let mut spec = world.plain();
    spec.stream = Arc::new(Layered(NeverMeasured(spec.stream)));
    let worker = RunningWorker::start(spec);
    pass(Duration::from_secs(2)).await;
    let name = world.leases.row("a").unwrap().owner.unwrap();
    let began = clock::now();
    worker
        .shutdown
        .advance(hydrant_core::shutdown::Phase::Draining);
    while !world.leases.is_gone(&name).await.unwrap() {
        pass(Duration::from_millis(10)).await;
    }
    let left = clock::now() - began;
    assert!(left < Duration::from_millis(500), "{left:?}");
    worker.ended().await.unwrap();
    assert!(clock::now() - began < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn leases_of_the_shortest_time_stay_where_they_are() {
    let mut world = World::new(4, false);
    let start = |world: &mut World| {
        let mut spec = world.exact();
        spec.lease_time = Some(*LEASE_TIME_RANGE.start());
        RunningWorker::start(spec)
    };
    let first = start(&mut world);
    let second = start(&mut world);
    pass(Duration::from_secs(20)).await;
    world.write_time(Duration::from_millis(300));
    let epochs =
        |world: &World| -> Vec<u64> { world.leases.rows().iter().map(|row| row.epoch).collect() };
    let before = epochs(&world);
    pass(Duration::from_secs(300)).await;
    assert_eq!(epochs(&world), before);
    drop((first, second));
}

/// A renewal may fail, however short the lease time is, also beside a slow store.
#[tokio::test(start_paused = true)]
async fn leases_of_the_shortest_time_outlive_a_store_that_is_away_for_a_moment() {
    let mut world = World::new(4, false);
    let start = |world: &mut World| {
        let mut spec = world.exact();
        spec.lease_time = Some(*LEASE_TIME_RANGE.start());
        RunningWorker::start(spec)
    };
    let first = start(&mut world);
    let second = start(&mut world);
    pass(Duration::from_secs(20)).await;
    world.write_time(Duration::from_millis(300));
    let epochs =
        |world: &World| -> Vec<u64> { world.leases.rows().iter().map(|row| row.epoch).collect() };
    let before = epochs(&world);
    for n in 0..100 {
        world
            .leases
            .change_faults(|faults| faults.writes_fail = true);
        pass(Duration::from_millis(300)).await;
        world
            .leases
            .change_faults(|faults| faults.writes_fail = false);
        // Renewals fail early and late in the lease time.
        pass(Duration::from_millis(700 + n * 13 % 500)).await;
    }
    assert_eq!(epochs(&world), before, "leases were lost");
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_failed_is_not_asked_again() {
    let mut world = World::new(1, true);
    world.stream.append("a", 30, 0);
    let broker = BrokerStream::around(Arc::clone(&world.stream) as _);
    let mut stage = Exact::new(&world.log);
    stage.slow = Duration::from_secs(5);
    let mut spec = world.spec(stage);
    spec.stream = Arc::clone(&broker) as _;
    let worker = RunningWorker::start(spec);
    broker.grant("a", 1).await;
    pass(Duration::from_secs(1)).await;
    let before = broker.asked();
    broker.hang_up();
    let error = worker.ended().await.unwrap_err();
    assert_eq!(error.to_string(), "no more orders");
    let asked = broker.asked() - before;
    assert!(asked <= 1, "asked {asked} times after it had failed");
    world.assert_exact();
}

/// A reader that cannot be asked again for a minute.
fn away() -> Error {
    Error::Unavailable {
        message: "away".to_owned(),
        after: Duration::from_secs(60),
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fails_delays_no_publish_and_no_ledger() {
    let mut world = World::new(1, true);
    world.stream.append("a", 5, 0);
    let mut stage = Exact::new(&world.log);
    stage.every = Duration::from_secs(5);
    let worker = RunningWorker::start(world.spec(stage));
    pass(Duration::from_secs(2)).await;
    let began = clock::now();
    world.stream.fail_reads("a", vec![away()]);
    until("the ledger", || world.leases.to("a") == p(4)).await;
    assert!(clock::now() - began < Duration::from_secs(10));
    world.assert_exact();
    drop(worker);
}

/// The half of a shard that cannot be read is opened again after an abort like the others.
#[tokio::test(start_paused = true)]
async fn a_reader_that_fails_delays_no_publish_of_the_whole_worker() {
    let mut world = World::new(2, true);
    world.stream.append("a", 5, 0);
    let mut stage = Together::new(&world.log);
    stage.chance = Some((hydrant_core::Random::seeded(3), 2));
    let worker = RunningWorker::start(world.spec(stage));
    until("the first records", || world.log.records().len() == 5).await;
    let began = clock::now();
    world.stream.fail_reads("a", vec![away()]);
    for n in 1..=20 {
        world.stream.append("b", 1, 0);
        until("the record of `b`", || world.log.records().len() == 5 + n).await;
    }
    let took = clock::now() - began;
    assert!(took < Duration::from_secs(30), "{took:?}");
    worker.drained().await.unwrap();
    world.assert_exact();
}

/// A process that was frozen may be the last to notice that another worker has its shard.
#[tokio::test(start_paused = true)]
async fn records_read_after_the_lease_time_are_not_pushed() {
    let mut world = World::new(1, true);
    let broker = BrokerStream::around(Arc::clone(&world.stream) as _);
    let mut spec = world.plain();
    spec.stream = Arc::clone(&broker) as _;
    let worker = RunningWorker::start(spec);
    broker.grant("a", 1).await;
    world.stream.append("a", 10, 0);
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.log.records().len(), 10);
    broker.held.store(false, Ordering::SeqCst);
    world.stream.append("a", 10, 0);
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.log.records().len(), 10);
    // After another grant the shard is read again.
    broker.held.store(true, Ordering::SeqCst);
    broker.grant("a", 2).await;
    pass(Duration::from_secs(1)).await;
    world.assert_complete();
    worker.drained().await.unwrap();
}

/// Counts what happens to the claims of one worker, which hands over what it is asked for.
async fn claim_and_count_losses(
    spec: RunSpec,
    store: MemoryLeases,
    held: &AtomicUsize,
    lost: &AtomicUsize,
) {
    let mut claims: BTreeMap<_, Claim> = BTreeMap::new();
    let (worker, store) = (spec.worker.clone(), Arc::new(store));
    let subscription = LeasedSubscription::start(spec, worker, store).await;
    let mut subscription = subscription.unwrap();
    loop {
        let event = tokio::select! {
            biased;
            event = subscription.next() => event,
            () = pass(Duration::from_millis(100)) => {
                // A task checks this before it takes a record; a lease that is not held is reported as lost.
                for claim in claims.values() {
                    claim.ledger.is_held();
                }
                continue;
            }
        };
        match event.unwrap() {
            Event::Granted(claim) => {
                held.fetch_add(1, Ordering::SeqCst);
                claims.insert(claim.id.clone(), claim);
            }
            Event::Revoking { claim, .. } => {
                if let Some(claim) = claims.remove(&claim) {
                    held.fetch_sub(1, Ordering::SeqCst);
                    tokio::spawn(async move { claim.ledger.release().await });
                }
            }
            Event::Lost { claim, .. } => {
                if claims.remove(&claim).is_some() {
                    held.fetch_sub(1, Ordering::SeqCst);
                    lost.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }
}

/// Each step of taking, and each batch of new rows, takes the store a second: together longer than a lease time.
#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_hundreds_are_taken_from_a_slow_store() {
    const SHARDS: usize = 600;
    let world = World::new(1, false);
    let clock = Arc::new(hydrant_core::clock::SystemClock);
    let stream = hydrant_testing::memory::MemoryStream::new("raw", SHARDS as u32, clock);
    let stream: SharedStream = Arc::new(stream);
    world.write_time(Duration::from_millis(1_000));
    let (held, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let worker = |seed| {
        let stage = Arc::new(PlainStage::new(&world.log));
        let (context, stream) = (context(seed, 1 << 20), Arc::clone(&stream));
        let mut spec = RunSpec::new(context, stream, "app", stage, Shutdown::new());
        spec.worker = format!("w{seed}");
        claim_and_count_losses(spec, world.leases.clone(), &held, &lost)
    };
    let watched = async {
        until("all shards are held", || {
            held.load(Ordering::SeqCst) == SHARDS
        })
        .await;
        pass(Duration::from_secs(60)).await;
    };
    tokio::select! {
        biased;
        _ = futures::future::join(worker(1), worker(2)) => unreachable!("they have no end"),
        () = watched => {}
    }
    assert_eq!(lost.load(Ordering::SeqCst), 0, "leases were lost");
    assert_eq!(held.load(Ordering::SeqCst), SHARDS);
}
