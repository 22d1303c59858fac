//! Tables with many partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::stage::Flush;
use hydrant_core::stream::Read;
use hydrant_testing::clock::ManualClock;
use hydrant_testing::disk::{Loss, SimWorld};
use hydrant_testing::memory::MemoryStream;
use hydrant_testing::trace::Trace;

use super::support::*;
use crate::table::spec::TableRules;
use crate::verify::{Depth, verify};

const REGIONS: u64 = 2_000;

/// How often each directory was synced.
fn syncs(trace: &Trace) -> BTreeMap<String, usize> {
    let mut syncs = BTreeMap::new();
    for event in trace.last_events().lines() {
        if let Some((_, path)) = event.split_once(" SyncDir ") {
            let path = path.trim_end_matches(": ok").to_owned();
            *syncs.entry(path).or_default() += 1;
        }
    }
    syncs
}

/// Records of many regions in turn are one interval, whose files cost one sync of their own directories and few of
/// those that they share.
#[tokio::test(start_paused = true)]
async fn many_partitions_are_as_many_files_of_one_interval() {
    let trace = Trace::keeping(1 << 20);
    let clock = Arc::new(ManualClock::new(NOW));
    let world = SimWorld::with(1, clock, trace.clone());
    world.set_sync_time(Duration::from_millis(2));
    let rules = TableRules {
        partition: vec!["region".to_owned()],
        ..TableRules::default()
    };
    let setup = ProcessSetup {
        rules,
        ..ProcessSetup::named(&world, "a")
    };
    let process = setup.run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    for first in (0..10 * REGIONS).step_by(1_000) {
        let record = |n: u64| format!("{{\"n\":{n},\"region\":\"r{:04}\"}}", n % REGIONS);
        let records: Vec<String> = (first..first + 1_000).map(record).collect();
        shard
            .push(Read::Batch(batch(first, &records)))
            .await
            .unwrap();
    }
    shard.publish(Flush::Drain).await.unwrap();
    drop(process);
    world.power_cut(Loss::Everything);
    let lake = looker(&world).await;
    let report = verify(&lake, &names(), Depth::default()).await.unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(
        (report.units.rows, report.files, report.chains[0].records),
        (10 * REGIONS, REGIONS, 1)
    );
    let syncs = syncs(&trace);
    let (own, shared): (Vec<_>, Vec<_>) =
        syncs.iter().partition(|(dir, _)| dir.contains("region="));
    assert_eq!(
        own.len() as u64,
        2 * REGIONS,
        "the table's and those of the uploads"
    );
    let mut counts: BTreeMap<(bool, usize), u64> = BTreeMap::new();
    for (dir, count) in own {
        *counts.entry((dir.contains("staging"), *count)).or_default() += 1;
    }
    assert_eq!(counts, [((true, 2), REGIONS), ((false, 1), REGIONS)].into());
    assert!(shared.iter().all(|(_, count)| **count < 400), "{shared:?}");
}

/// After an outage that is longer than `lateness-max`, rows that were on time lie where they would have, also when their
/// files are made again.
#[tokio::test]
async fn an_outage_makes_no_row_late() {
    const DAY: i64 = 86_400_000_000;
    let world = world(1);
    let records = ["2026-11-20", "2026-10-25", "2026-10-20"];
    let records = records.map(|day| format!(r#"{{"n":1,"time":"{day}T10:00:00Z"}}"#));
    let stream = MemoryStream::new(&stream_id().name, 0, Arc::new(ManualClock::new(NOW)));
    stream.batch_appends(1);
    stream.add_partition("000000");
    stream.append_batch("000000", batch(0, &records));
    let days = async |process: &SinkProcess| {
        let files = process.lake.list(&names().data()).await.unwrap();
        let mut days: Vec<String> = files
            .iter()
            .map(|file| file.key.split('/').nth(1).unwrap().to_owned())
            .collect();
        days.sort();
        days
    };
    let wanted = ["date=2026-10-01", "date=2026-10-25", "date=2026-11-20"];
    let setup = |name: &str, after: i64| ProcessSetup {
        rules: TableRules {
            lateness_max_micros: Some(30 * DAY),
            ..TableRules::default()
        },
        now: NOW + after,
        ..ProcessSetup::named(&world, name)
    };
    let first = setup("a", 100 * DAY).run().await.unwrap();
    let (mut shard, _) = first.claim("000000").await.unwrap();
    shard.push(Read::Batch(batch(0, &records))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    assert_eq!(days(&first).await, wanted);
    for file in first.lake.list(&names().data()).await.unwrap() {
        first.lake.delete(&file.key).await.unwrap();
    }
    drop((shard, first));
    let heir = setup("b", 200 * DAY).over(Arc::new(stream)).await.unwrap();
    heir.claim("000000").await.unwrap();
    assert_eq!(days(&heir).await, wanted);
    let report = verify(&heir.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good(), "{report:?}");
}
