//! The producer as other binaries embed it: resharding under it, little memory, progress.

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::{Budget, Context, Shutdown, clock};
use hydrant_producer::config::{Files, InputSpec, Remembered};
use hydrant_producer::report::EndCause;
use hydrant_producer::simulate::FleetSpec;
use hydrant_producer::{Config, Counters};

use crate::stored::{assert_is_fleet, block_on, open, records};

fn spec() -> FleetSpec {
    FleetSpec {
        devices: 60,
        ..FleetSpec::default()
    }
}

fn simulate(dir: &std::path::Path, count: u64) -> Config {
    let origin = InputSpec::Simulator {
        spec: spec(),
        records: Some(count),
    };
    Config::new(format!("local:{}", dir.join("raw").display()), origin)
}

#[test]
fn resharding_on_the_way_neither_loses_doubles_nor_reorders() {
    let dir = tempfile::tempdir().unwrap();
    let count = 12_000;
    let config = Config {
        rate: Some(8_000),
        shards: Some(2),
        batch_bytes: Some(4_096),
        linger: Duration::from_millis(5),
        remembered: Some(Remembered {
            name: "edge".to_owned(),
            ledger: dir.path().join("ledger.json"),
        }),
        ..simulate(dir.path(), count)
    };
    let report = block_on(async {
        let context = Context::system(64 << 20).unwrap();
        let counters = Arc::new(Counters::default());
        let watched = Arc::clone(&counters);
        let running = hydrant_producer::run(config, &context, Shutdown::new(), Some(counters));
        let resharding = async {
            for turn in 1..=4 {
                while watched.durable() < turn * 2_000 {
                    clock::sleep(Duration::from_millis(2)).await;
                }
                let stream = open(dir.path(), "raw").await;
                let admin = stream.admin();
                let map = stream.shards().await.unwrap();
                let mut shards: Vec<_> = map.open().cloned().collect();
                shards.sort_by_key(|shard| shard.range.first);
                if turn % 2 == 1 {
                    admin.split(&shards[0].id, None).await.unwrap();
                } else {
                    let [.., a, b] = &shards[..] else {
                        panic!("{shards:?}");
                    };
                    admin.merge(&a.id, &b.id).await.unwrap();
                }
            }
        };
        let (report, ()) = tokio::join!(running, resharding);
        report.unwrap()
    });
    assert_eq!((report.accepted, report.next_index), (count, count));
    assert_eq!(report.ended, EndCause::Input);
    assert_is_fleet(&records(dir.path(), "raw"), &spec(), count);
}

#[test]
fn little_memory_slows_nothing_down_to_the_linger_time() {
    let dir = tempfile::tempdir().unwrap();
    let linger = Duration::from_secs(10);
    let batches = |config| Config {
        batch_bytes: Some(16 << 20),
        linger,
        ..config
    };
    let config = batches(simulate(dir.path(), 20_000));
    let text: String = (0..60_000)
        .map(|n| format!("{{\"n\":{n},\"pad\":\"{n:0100}\"}}\n"))
        .collect();
    let path = dir.path().join("in");
    std::fs::write(&path, text).unwrap();
    let lines = Config::new(&config.to, InputSpec::Files(Files::new([path])));
    let lines = batches(lines);
    block_on(async {
        let mut context = Context::system(8 << 20).unwrap();
        for (config, accepted) in [(config, 20_000), (lines, 60_000)] {
            context.budget = Budget::new(1 << 20);
            let report = hydrant_producer::run(config, &context, Shutdown::new(), None)
                .await
                .unwrap();
            assert_eq!(report.stored, accepted);
            assert!(report.seconds < linger.as_secs_f64(), "{report:?}");
            // The log's own task may still hold what it has just answered for.
            let given_back = async {
                while context.budget.held_bytes() != 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(linger, given_back).await.unwrap();
        }
    });
}
