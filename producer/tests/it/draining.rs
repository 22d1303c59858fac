//! A producer that is to end while the chunks of several files wait for a slow stream.

use std::collections::BTreeMap;
use std::time::Duration;

use hydrant_core::shutdown::Phase;
use hydrant_core::{Context, Shutdown, clock};
use hydrant_producer::config::{Files, InputSpec, Remembered};
use hydrant_producer::report::EndCause;
use hydrant_producer::{Config, Counters};
use hydrant_stream::Streams;
use hydrant_testing::disk::{Breakpoint, Fault, Moment, Op, SimWorld};

use crate::follow::append;
use crate::stored::{block_on, records_of};

const STREAM: &str = "local:/raw";

/// Looks until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            clock::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("it comes soon");
}

/// Until the input has filled everything up to the stream.
async fn until_full(context: &Context) {
    let (mut held, mut since) = (0, clock::now());
    until(|| {
        let now = context.budget.held_bytes();
        if now != held {
            (held, since) = (now, clock::now());
        }
        since.elapsed() > Duration::from_millis(300)
    })
    .await;
}

/// The chunk of another file waits between those of the file that is being sent: what stands behind it must not pass it.
#[test]
fn what_waits_for_a_slow_stream_at_a_signal_is_sent_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let [busy, other] = ["busy.log", "other.log"].map(|name| dir.path().join(name));
    let world = SimWorld::new(1);
    let context = |name: &str| Context {
        disk: world.process(name).shared(),
        ..Context::system(64 << 20).unwrap()
    };
    let config = |follow| Config {
        remembered: Some(Remembered {
            name: "edge".to_owned(),
            ledger: "/ledger.json".into(),
        }),
        linger: Duration::ZERO,
        ..Config::new(
            STREAM,
            InputSpec::Files(Files {
                follow,
                ..Files::new([&busy, &other])
            }),
        )
    };
    let line = |n: u32| format!("{{\"n\":{n},\"pad\":\"{:01000}\"}}\n", 0);
    block_on(async {
        let first = context("first");
        let made = Streams::default().create(STREAM, 1, &[], &first).await;
        drop(made.unwrap());
        append(&busy, &line(0));
        let (shutdown, counters) = (Shutdown::new(), std::sync::Arc::<Counters>::default());
        let running = hydrant_producer::run(
            config(true),
            &first,
            shutdown.clone(),
            Some(std::sync::Arc::clone(&counters)),
        );
        let signal = async {
            until(|| counters.durable() == 1).await;
            let stuck = world.set_breakpoint(Breakpoint {
                process: "first".to_owned(),
                op: Op::Sync,
                path: ".seg".to_owned(),
                moment: Moment::Before,
                fault: Fault::Hangs(Duration::from_secs(3_600)),
            });
            append(&busy, &line(1));
            stuck.await.unwrap();
            let held = first.budget.held_bytes();
            append(&other, &line(2));
            until(|| first.budget.held_bytes() > held).await;
            append(&busy, &(3..10_000).map(line).collect::<String>());
            until_full(&first).await;
            assert_eq!((counters.accepted(), counters.durable()), (2, 1));
            shutdown.advance(Phase::Draining);
            world.resume("first");
        };
        let (report, ()) = tokio::join!(running, signal);
        let report = report.unwrap();
        assert_eq!(report.ended, EndCause::Drained);
        assert_eq!(report.accepted, report.stored);
        let next = context("next");
        let report = hydrant_producer::run(config(false), &next, Shutdown::new(), None).await;
        assert_eq!(report.unwrap().ended, EndCause::Input);
        let stream = Streams::default().open(STREAM, &next).await.unwrap();
        let mut stored: BTreeMap<u64, u32> = BTreeMap::new();
        for record in records_of(&stream, &next).await {
            let record: serde_json::Value = serde_json::from_slice(&record.payload).unwrap();
            *stored.entry(record["n"].as_u64().unwrap()).or_default() += 1;
        }
        let lost = (0..10_000).filter(|n| !stored.contains_key(n)).count();
        assert_eq!(lost, 0, "records are in no stream");
        assert!(stored.values().all(|count| *count == 1));
    });
}
