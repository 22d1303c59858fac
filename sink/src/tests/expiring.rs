//! Files that are taken away on purpose, and files that somebody removed by hand.

use std::collections::BTreeSet;

use hydrant_core::lake::SharedLake;
use hydrant_core::stage::Flush;
use hydrant_core::stream::Read;
use hydrant_core::{Position, Result};
use hydrant_testing::disk::{Breakpoint, Death, Fault, Loss, Moment, Op, SimWorld};

use super::owners::unrevealed;
use super::support::*;
use crate::lake::layout::LayoutChain;
use crate::lake::{ExpiredFiles, WhatExpires, expire, give_up_missing};
use crate::schema::ColumnType;
use crate::table::spec::TableRules;
use crate::verify::ProblemKind;

fn on_day(day: u32) -> WhatExpires {
    WhatExpires::Partition(vec![("date".to_owned(), format!("2026-11-{day}"))])
}

async fn remove(process: &SinkProcess, what: &WhatExpires) -> Result<ExpiredFiles> {
    expire(&process.lake, &names(), what, false, &process.context).await
}

/// The records of a day in a table of `payloads`: every seventh is a dead letter, the others lie on two days in turn.
fn of_day(records: std::ops::Range<u64>, day: u64) -> Vec<u64> {
    let of_day = records.filter(|n| n % 7 != 3 && 19 + n % 2 == day);
    of_day.collect()
}

async fn assert_gone(world: &SimWorld, all: std::ops::Range<u64>, gone: &[u64], what: &str) {
    let left = all.filter(|n| !gone.contains(n));
    assert_exactly_once(world, left, what).await;
}

#[tokio::test]
async fn an_expired_partition_stays_away_whoever_takes_over() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a")
        .over(stream_of(40))
        .await
        .unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    publish(&mut shard, 12..20).await.unwrap();
    let gone = of_day(0..20, 19);
    let would = expire(&a.lake, &names(), &on_day(19), true, &a.context)
        .await
        .unwrap();
    assert_exactly_once(&world, 0..20, "a dry run removes nothing").await;
    let removed = remove(&a, &on_day(19)).await.unwrap();
    assert_eq!((removed.records, removed.files), (1, 2));
    assert_eq!((removed.rows, removed.dead_letters), (gone.len() as u64, 0));
    assert_eq!(removed, would);
    // The owner lives on, and dies without a mark; its heirs find the newest record.
    for name in ["b", "c"] {
        let heir = ProcessSetup::named(&world, name)
            .over(stream_of(40))
            .await
            .unwrap();
        heir.claim("000000").await.unwrap();
        assert_gone(&world, 0..20, &gone, name).await;
    }
    publish(&mut shard, 20..24).await.unwrap();
    assert_gone(&world, 0..24, &gone, "the owner goes on").await;
    let report = check(&looker(&world).await).await;
    assert!(report.is_good() && report.warnings.is_empty(), "{report:?}");
    assert_eq!(
        (report.expired.files, report.expired.rows),
        (2, gone.len() as u64)
    );
    assert_eq!(report.units.input, 24);
    // What is published into the partition later is the next command's.
    assert_eq!(remove(&a, &on_day(19)).await.unwrap().rows, 2);
    let again = remove(&a, &on_day(19)).await.unwrap();
    assert_eq!((again.records, again.files, again.kept_files), (0, 0, 3));
    assert_eq!(again.not_found[0].value, "2026-11-19");
}

#[tokio::test]
async fn an_expired_file_that_is_there_again_is_a_problem() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    let files = a.lake.list(&names().data()).await.unwrap();
    let kept = a.lake.get(&files[0].key).await.unwrap().unwrap();
    remove(&a, &on_day(19)).await.unwrap();
    a.lake.put_new(&files[0].key, kept).await.unwrap();
    let report = check(&looker(&world).await).await;
    assert_eq!(
        report.problem_counts[&ProblemKind::Returned],
        1,
        "{report:?}"
    );
}

#[tokio::test]
async fn a_column_that_is_no_partition_is_refused_with_what_to_do() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    let what = WhatExpires::Partition(vec![("n".to_owned(), "7".to_owned())]);
    let error = remove(&a, &what).await.unwrap_err().to_string();
    assert!(
        error.contains("`n` is not a partition") && error.contains("`date`"),
        "{error}"
    );
    assert!(error.contains("--before"), "{error}");
    assert_exactly_once(&world, 0..12, "").await;
}

/// Where the path says no time, a file goes when all that its record holds is older.
#[tokio::test]
async fn files_without_a_day_go_when_their_whole_record_is_older() {
    let world = world(1);
    let start = ProcessSetup {
        rules: TableRules {
            partition: Vec::new(),
            ..TableRules::default()
        },
        ..ProcessSetup::named(&world, "a")
    };
    let a = start.run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    let records = |range: std::ops::Range<u64>, days: u64| -> Vec<String> {
        let day = move |n: u64| format!("2026-11-{:02}T10:00:00Z", 10 + n % days);
        range
            .map(|n| format!("{{\"n\":{n},\"time\":\"{}\"}}", day(n)))
            .collect()
    };
    // Of one day, of nine days, and with a record that has no time.
    for (range, days) in [(0..3, 1), (3..13, 9)] {
        let batch = batch(range.start, &records(range, days));
        shard.push(Read::Batch(batch)).await.unwrap();
        shard.publish(Flush::Drain).await.unwrap();
    }
    let untimed = vec!["{\"n\":13}".to_owned(), "{\"n\":14,\"broken\"".to_owned()];
    shard.push(Read::Batch(batch(13, &untimed))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    let midnight = NOW - 10 * DAY;
    let removed = remove(&a, &WhatExpires::Before(midnight)).await.unwrap();
    assert_eq!(
        (removed.files, removed.rows, removed.mixed_files),
        (1, 3, 1)
    );
    assert_exactly_once(&world, 3..15, "").await;
    // The time of a row without one, and of a dead letter, is that of its record.
    let removed = remove(&a, &WhatExpires::Before(NOW)).await.unwrap();
    assert_eq!((removed.rows, removed.dead_letters), (10, 0));
    let removed = remove(&a, &WhatExpires::Before(NOW + DAY)).await.unwrap();
    assert_eq!((removed.rows, removed.dead_letters), (1, 1));
    assert!(found(&world).await.is_empty());
    assert!(check(&looker(&world).await).await.is_good());
}

/// Uploads of dead owners hold rows too.
#[tokio::test]
async fn uploads_of_dead_owners_go_first() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let mut shard = a.open_at("000000", Position::Begin).await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    // An upload for a slot that is taken, and one for the next slot, which a record may yet name.
    let chain = names().chain(&stream_id(), &"000000".into());
    let late =
        |from: Position, to: u64| chain.rows("date=2026-11-19", from, Position::offset(to), 0);
    for key in [late(Position::offset(3), 9), late(Position::offset(11), 15)] {
        let mut upload = a.lake.upload(&key).await.unwrap();
        upload.write("rows".into()).await.unwrap();
        upload.seal().await.unwrap();
    }
    shard.settle().await;
    let removed = remove(&a, &on_day(19)).await.unwrap();
    assert_eq!(removed.uploads, 1);
    let left = a.lake.list_uploads().await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// More files than a record names go in several records.
#[tokio::test]
async fn many_files_go_in_records_of_a_thousand() {
    const DAYS: u64 = 1_100;
    let world = world(1);
    let start = ProcessSetup {
        rules: TableRules {
            partition: vec!["n".to_owned()],
            ..TableRules::default()
        },
        ..ProcessSetup::named(&world, "a")
    };
    let a = start.run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    let records: Vec<String> = (0..DAYS)
        .map(|n| format!("{{\"n\":{n},\"time\":\"2026-11-10T10:00:00Z\"}}"))
        .collect();
    shard.push(Read::Batch(batch(0, &records))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    let removed = remove(&a, &WhatExpires::Before(NOW)).await.unwrap();
    assert_eq!(
        (removed.records, removed.files, removed.rows),
        (2, DAYS, DAYS)
    );
    let layout = LayoutChain::new(&a.lake, &names());
    assert_eq!(layout.record(1).await.unwrap().unwrap().inputs.len(), 1_000);
    let report = check(&looker(&world).await).await;
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.expired.rows, DAYS);
}

/// A process that expires a day dies at each of its calls; another one completes it.
#[tokio::test(start_paused = true)]
async fn an_expiry_is_completed_wherever_it_dies() {
    for (moment, death) in DEATHS {
        let mut nth = 1;
        while expiry_dies_at(nth, moment, death).await {
            nth += 1;
        }
        assert!(nth > 30, "only {nth} calls were tried");
    }
}

async fn expiry_dies_at(nth: u64, moment: Moment, death: Death) -> bool {
    let what = format!("call {nth}, {moment:?}, {death:?}");
    let world = world(nth);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    publish(&mut shard, 12..20).await.unwrap();
    drop(shard);
    let gone = of_day(0..20, 19);
    let operator = ProcessSetup::named(&world, "operator");
    world.die_at("operator", nth, moment, death);
    let expiring = async |operator: ProcessSetup| {
        let operator = operator.run().await.unwrap();
        remove(&operator, &on_day(19)).await.unwrap();
    };
    let expired = live(operator.disk.clone(), expiring(operator)).await;
    if expired.is_some() {
        return false;
    }
    // A sink takes over in between; what was removed and what was not stays as it is.
    let heir = ProcessSetup::named(&world, "b")
        .over(stream_of(40))
        .await
        .unwrap();
    heir.claim("000000").await.unwrap();
    let between: BTreeSet<u64> = found(&world).await.into_keys().collect();
    let kept: Vec<u64> = (0..20).filter(|n| !gone.contains(n)).collect();
    assert!(
        kept.iter().all(|n| between.contains(n)),
        "{what}: {between:?}"
    );
    remove(&heir, &on_day(19)).await.unwrap();
    world.power_cut(Loss::Everything);
    let heir = ProcessSetup::named(&world, "c")
        .over(stream_of(40))
        .await
        .unwrap();
    heir.claim("000000").await.unwrap();
    assert_gone(&world, 0..20, &gone, &what).await;
    let report = check(&looker(&world).await).await;
    assert!(report.is_good(), "{what}: {report:?}");
    assert_eq!(report.expired.rows, gone.len() as u64, "{what}");
    true
}

#[tokio::test]
async fn files_that_were_removed_by_hand_are_accepted_and_stay_away() {
    let world = world(1);
    // Without a mark: nothing proves that the newest files were visible.
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    publish(&mut shard, 12..20).await.unwrap();
    drop(shard);
    for object in a
        .lake
        .list(&format!("{}date=2026-11-19/", names().data()))
        .await
        .unwrap()
    {
        a.lake.delete(&object.key).await.unwrap();
    }
    let report = check(&looker(&world).await).await;
    assert_eq!(
        report.problem_counts[&ProblemKind::Missing],
        2,
        "{report:?}"
    );
    let gone = of_day(0..20, 19);
    let would = give_up_missing(&a.lake, &names(), true, &a.context)
        .await
        .unwrap();
    assert_eq!(
        check(&looker(&world).await).await,
        report,
        "a dry run changes nothing"
    );
    let given_up = give_up_missing(&a.lake, &names(), false, &a.context)
        .await
        .unwrap();
    assert_eq!((given_up.files, given_up.rows), (2, gone.len() as u64));
    assert_eq!(given_up, would);
    let heir = ProcessSetup::named(&world, "b")
        .over(stream_of(40))
        .await
        .unwrap();
    heir.claim("000000").await.unwrap();
    assert_gone(&world, 0..20, &gone, "").await;
    let report = check(&looker(&world).await).await;
    assert!(report.is_good() && report.warnings.is_empty(), "{report:?}");
    assert_eq!(report.expired.rows, gone.len() as u64);
    let again = give_up_missing(&a.lake, &names(), false, &a.context)
        .await
        .unwrap();
    assert_eq!(again.files, 0);
}

/// A file that is on its way is not given up, and neither is one that is there.
#[tokio::test]
async fn only_what_is_missing_is_given_up() {
    let world = world(1);
    let (dead, _) = unrevealed(&world, &payloads(0..12)).await;
    let lake = SharedLake::clone(&dead.lake);
    let given_up = give_up_missing(&lake, &names(), false, &dead.context)
        .await
        .unwrap();
    assert_eq!((given_up.files, given_up.unfinished_files), (0, 3));
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    heir.claim("000000").await.unwrap();
    let given_up = give_up_missing(&lake, &names(), false, &dead.context)
        .await
        .unwrap();
    assert_eq!((given_up.files, given_up.unfinished_files), (0, 0));
    assert_exactly_once(&world, 0..12, "").await;
}

/// A sink dies once a file is visible and before that is durable, and the file goes. After a power cut its upload may be back:
/// nothing that was expired, given up or told as lost returns.
#[tokio::test(start_paused = true)]
async fn what_goes_before_it_is_durable_does_not_return_with_its_upload() {
    for fate in ["expired", "given up", "lost"] {
        let world = world(1);
        let dies_at = |process: &str, op, path: &str, moment| {
            drop(world.set_breakpoint(Breakpoint {
                process: process.to_owned(),
                op,
                path: path.to_owned(),
                moment,
                fault: Fault::Dies(Death::Kill),
            }));
        };
        let a = ProcessSetup::named(&world, "a");
        dies_at("a", Op::RenameNew, "date=2026-11-20", Moment::After);
        let dead = live(a.disk.clone(), async {
            let (mut shard, _) = a.run().await.unwrap().claim("000000").await.unwrap();
            publish(&mut shard, 0..12).await.unwrap();
        });
        assert!(dead.await.is_none());
        let operator = ProcessSetup::named(&world, "operator").run().await.unwrap();
        let lake = &operator.lake;
        let day = format!("{}date=2026-11-20/", names().data());
        let files = lake.list(&day).await.unwrap();
        assert_eq!(files.len(), 1);
        match fate {
            "expired" => drop(remove(&operator, &on_day(20)).await.unwrap()),
            _ => lake.delete(&files[0].key).await.unwrap(),
        }
        if fate == "given up" {
            let given_up = give_up_missing(lake, &names(), false, &operator.context)
                .await
                .unwrap();
            assert_eq!(given_up.files, 1);
        }
        if fate == "lost" {
            let b = ProcessSetup::named(&world, "b");
            dies_at("b", Op::LinkNew, ".done", Moment::Before);
            let dead = live(b.disk.clone(), async {
                let b = b.over(trimmed(20).await).await.unwrap();
                b.claim("000000").await.unwrap();
            });
            assert!(dead.await.is_none());
        }
        world.heal();
        world.power_cut(Loss::Everything);
        let heir = ProcessSetup::named(&world, "heir").over(stream_of(40));
        heir.await.unwrap().claim("000000").await.unwrap();
        assert_gone(&world, 0..12, &of_day(0..12, 20), fate).await;
    }
}

/// Rows whose tenant has no directory stay when it is erased, and are told.
#[tokio::test]
async fn rows_that_may_be_of_an_erased_partition_are_counted() {
    let of = |value: &str| WhatExpires::Partition(vec![("tenant".to_owned(), value.to_owned())]);
    let long = "x".repeat(400);
    let odd = [
        "\"7\"".to_owned(),
        "{\"id\":7}".to_owned(),
        "7.0".to_owned(),
        format!("\"{long}\""),
    ];
    for (declared, gone, default) in [(false, 2, 5), (true, 3, 3)] {
        let world = world(1);
        let mut rules = TableRules {
            partition: vec!["date".to_owned(), "tenant".to_owned()],
            ..TableRules::default()
        };
        if declared {
            rules.declared = vec![("tenant".to_owned(), ColumnType::Varchar)];
        }
        let setup = ProcessSetup {
            rules,
            ..ProcessSetup::named(&world, "a")
        };
        let a = setup.run().await.unwrap();
        let (mut shard, _) = a.claim("000000").await.unwrap();
        let first = ["7", "8"].map(|tenant| format!("{{\"n\":1,\"tenant\":{tenant}}}"));
        shard.push(Read::Batch(batch(0, &first))).await.unwrap();
        shard.publish(Flush::Drain).await.unwrap();
        let second = odd.iter();
        let mut second: Vec<String> = second
            .map(|tenant| format!("{{\"n\":2,\"tenant\":{tenant}}}"))
            .collect();
        second.push("{\"n\":3,\"Tenant\":7}".to_owned());
        second.push("{\"n\":4}".to_owned());
        shard.push(Read::Batch(batch(2, &second))).await.unwrap();
        shard.publish(Flush::Drain).await.unwrap();
        let removed = remove(&a, &of("7")).await.unwrap();
        assert_eq!((removed.rows, removed.default_rows), (gone, default));
        // Of a text that is too long for a path, the directory has the start and a digest.
        match remove(&a, &of(&long)).await {
            Ok(removed) => assert_eq!((removed.rows, declared), (1, true)),
            Err(error) => assert!(
                error.to_string().contains("a BIGINT") && !declared,
                "{error}"
            ),
        }
        let both = WhatExpires::Partition(vec![
            ("tenant".to_owned(), "9".to_owned()),
            ("date".to_owned(), "2026-11-19".to_owned()),
        ]);
        assert_eq!(remove(&a, &both).await.unwrap().default_rows, 0);
        let removed = remove(&a, &of("__HIVE_DEFAULT_PARTITION__")).await.unwrap();
        assert_eq!((removed.rows, removed.default_rows), (default, 0));
        let removed = remove(&a, &of("7")).await.unwrap();
        assert_eq!((removed.rows, removed.default_rows), (0, 0));
        assert!(check(&looker(&world).await).await.is_good());
    }
}
