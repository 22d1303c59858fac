//! Verification finds each kind of damage.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::lake::{Lake, SharedLake};
use hydrant_core::stage::{Flush, Stage as _};
use hydrant_core::stream::Read;
use hydrant_core::{Error, Position, Result};
use hydrant_testing::disk::SimWorld;
use hydrant_testing::layer::{LakeLayer, Layered};

use super::owners::{all_vanished, unrevealed};
use super::support::*;
use crate::lake::{Chain, ChainNames, Commit};
use crate::table::event_time::UntimedReason;
use crate::verify::{Depth, LISTED_MAX, ProblemKind, partitions, schema, tables, verify};

struct Good {
    process: SinkProcess,
    chain: ChainNames,
}

/// Three records in one shard, one and the end in another.
async fn good(world: &SimWorld) -> Good {
    let process = ProcessSetup::named(world, "a").run().await.unwrap();
    let (mut first, _) = process.claim("000000").await.unwrap();
    for from in [0, 5, 10] {
        publish(&mut first, from..from + 5).await.unwrap();
    }
    let (mut second, _) = process.claim("000001").await.unwrap();
    publish(&mut second, 20..23).await.unwrap();
    second
        .push(Read::End {
            children: Vec::new(),
            marks: Vec::new(),
        })
        .await
        .unwrap();
    second.publish(Flush::End).await.unwrap();
    let chain = names().chain(&stream_id(), &shard("000000").id);
    Good { process, chain }
}

#[tokio::test]
async fn a_good_table_is_good_and_its_sums_are_told() {
    let world = world(1);
    let Good { process, .. } = good(&world).await;
    let report = check(&looker(&world).await).await;
    assert!(report.is_good() && report.warnings.is_empty(), "{report:?}");
    assert_eq!(
        (
            report.units.input,
            report.units.rows,
            report.units.dead_letters
        ),
        (18, 16, 2)
    );
    assert_eq!(report.chains.len(), 2);
    assert!(!report.chains[0].ended && report.chains[1].ended);
    assert_eq!(report.chains[0].to, Some(Position::offset(14)));
    assert_eq!(
        report.files,
        process.lake.list("devices/").await.unwrap().len() as u64 + 2
    );
    serde_json::to_string(&report).unwrap();
}

/// A chain begins with its directory; where its first object may never follow, because the process died, nothing is
/// missing.
#[tokio::test]
async fn a_chain_that_is_about_to_begin_is_not_damaged() {
    let world = world(1);
    let Good { process, chain } = good(&world).await;
    let before = check(&process.lake).await;
    let next = names().chain(&stream_id(), &shard("000009").id);
    let disk = world.process("dead").shared();
    let dir = Path::new(LAKE).join(&next.dir);
    disk.create_dir_all(&dir).await.unwrap();
    let report = check(&process.lake).await;
    assert_eq!(report, before);
    process.lake.delete(&chain.genesis()).await.unwrap();
    let report = check(&process.lake).await;
    assert_eq!(kinds(&report), [ProblemKind::Missing]);
}

/// A lake in which another owner takes the shard over when the uploads are listed.
#[derive(Debug)]
struct TakenOver {
    lake: SharedLake,
    heir: SinkProcess,
    done: AtomicBool,
}

#[async_trait]
impl LakeLayer for TakenOver {
    fn below(&self) -> &dyn Lake {
        &*self.lake
    }

    async fn list_uploads(&self) -> Result<Vec<(String, String)>> {
        let uploads = self.lake.list_uploads().await?;
        if !self.done.swap(true, Ordering::Relaxed) {
            self.heir.stage.resume(&shard("000000")).await?;
        }
        Ok(uploads)
    }
}

/// A file that is rebuilt while the table is verified is not missing.
#[tokio::test]
async fn a_rebuild_beside_a_verification_is_no_damage() {
    let world = world(1);
    let dead = all_vanished(&world, &payloads(0..6)).await;
    assert_eq!(kinds(&check(&dead.lake).await), [ProblemKind::Missing]);
    let heir = ProcessSetup::named(&world, "b").over(stream_of(40));
    let lake: SharedLake = Arc::new(Layered(TakenOver {
        lake: looker(&world).await,
        heir: heir.await.unwrap(),
        done: AtomicBool::new(false),
    }));
    let report = check(&lake).await;
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.files, 3);
}

#[tokio::test]
async fn every_damage_to_a_file_is_found() {
    for damage in 0..4 {
        let world = world(1);
        let Good { process, .. } = good(&world).await;
        let lake = &process.lake;
        let files = lake.list("devices/").await.unwrap();
        let key = &files[0].key;
        let mut body = lake.get(key).await.unwrap().unwrap().to_vec();
        let wanted = match damage {
            0 => {
                lake.delete(key).await.unwrap();
                ProblemKind::Missing
            }
            1 => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
                replace(lake, key, body).await;
                ProblemKind::Damaged
            }
            2 => {
                body.pop();
                replace(lake, key, body).await;
                ProblemKind::Damaged
            }
            _ => {
                lake.put_new("devices/date=2026-11-20/other.parquet", body.into())
                    .await
                    .unwrap();
                ProblemKind::Foreign
            }
        };
        assert_eq!(kinds(&check(lake).await), [wanted], "damage {damage}");
    }
}

#[tokio::test]
async fn every_damage_to_a_chain_is_found() {
    use ProblemKind::{Damaged, Discontinuous, Foreign, Misplaced, Missing, Unbalanced};
    for damage in 0..9 {
        let world = world(1);
        let Good { process, chain } = good(&world).await;
        let lake = &process.lake;
        let record = chain.record(2);
        let body = lake.get(&record).await.unwrap().unwrap();
        let mut commit = Commit::from_body(&record, &body).unwrap();
        let wanted = match damage {
            0 => {
                lake.delete(&record).await.unwrap();
                vec![Missing, Foreign]
            }
            1 => {
                let mut body = body.to_vec();
                body[9] ^= 1;
                replace(lake, &record, body).await;
                vec![Damaged, Foreign]
            }
            2 => {
                commit.intervals[0].from = Position::offset(3);
                replace(lake, &record, commit.to_body().to_vec()).await;
                vec![Misplaced, Discontinuous]
            }
            3 => {
                commit.counts.input += 1;
                replace(lake, &record, commit.to_body().to_vec()).await;
                vec![Unbalanced]
            }
            4 => {
                commit.counts.rows += 1;
                commit.counts.input += 1;
                replace(lake, &record, commit.to_body().to_vec()).await;
                vec![Unbalanced]
            }
            5 => {
                lake.put_new(&format!("{}zzz.json", chain.records()), body)
                    .await
                    .unwrap();
                vec![Foreign]
            }
            6 => {
                lake.delete(&chain.genesis()).await.unwrap();
                vec![Missing]
            }
            7 => {
                lake.delete(&names().schema(1)).await.unwrap();
                vec![Missing]
            }
            _ => {
                lake.delete(&names().spec(&commit.spec)).await.unwrap();
                vec![Missing]
            }
        };
        assert_eq!(kinds(&check(lake).await), wanted, "damage {damage}");
    }
}

#[tokio::test]
async fn nothing_may_follow_an_end() {
    let world = world(1);
    let Good { process, .. } = good(&world).await;
    let chain = names().chain(&stream_id(), &shard("000001").id);
    let end = Commit::from_body(
        "k",
        &process.lake.get(&chain.record(2)).await.unwrap().unwrap(),
    );
    let after = Commit {
        slot: 3,
        ..end.unwrap()
    };
    process
        .lake
        .put_new(&chain.record(3), after.to_body())
        .await
        .unwrap();
    assert_eq!(
        kinds(&check(&process.lake).await),
        [ProblemKind::Discontinuous]
    );
}

/// Files that are not visible yet are no damage while their uploads exist; without the uploads they are missing.
#[tokio::test]
async fn a_file_that_is_on_its_way_is_told_from_one_that_is_gone() {
    let world = world(1);
    let (_, between) = unrevealed(&world, &payloads(0..6)).await;
    let lake = looker(&world).await;
    let report = check(&lake).await;
    assert!(report.is_good(), "{report:?}");
    assert_eq!(warned(&report), [ProblemKind::Unfinished; 3]);
    let writer = &between.lake;
    let mut upload = writer
        .upload("devices/date=2026-11-20/late.parquet")
        .await
        .unwrap();
    upload.write(Bytes::from_static(b"x")).await.unwrap();
    upload.seal().await.unwrap();
    let chain = names().chain(&stream_id(), &super::support::shard("000000").id);
    let body = lake.get(&chain.record(1)).await.unwrap().unwrap();
    let tip = Commit::from_body("k", &body).unwrap();
    writer.discard(&tip.files[1].sealed.upload).await.unwrap();
    let report = check(&lake).await;
    use ProblemKind::{Leftover, Missing, Unfinished};
    assert_eq!(kinds(&report), [Missing]);
    assert_eq!(report.problems[0].place, tip.files[1].sealed.key);
    assert_eq!(warned(&report), [Unfinished, Unfinished, Leftover]);
}

/// The newest files of every shard have vanished, and only the records still name them.
#[tokio::test]
async fn newest_files_that_were_removed_are_missing() {
    let world = world(1);
    let Good { process, .. } = good(&world).await;
    let lake = &process.lake;
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    let (mut third, _) = heir.claim("000002").await.unwrap();
    publish(&mut third, 30..36).await.unwrap();
    for (name, slot) in [("000000", 3), ("000002", 1)] {
        let chain = names().chain(&stream_id(), &shard(name).id);
        let body = lake.get(&chain.record(slot)).await.unwrap().unwrap();
        for file in Commit::from_body("k", &body).unwrap().files {
            lake.delete(&file.sealed.key).await.unwrap();
        }
    }
    let report = check(lake).await;
    assert_eq!(kinds(&report), [ProblemKind::Missing]);
    assert!(!report.is_good());
}

#[tokio::test]
async fn a_chain_under_another_shards_name_is_misplaced() {
    let world = world(1);
    let Good { process, chain } = good(&world).await;
    let lake = &process.lake;
    let sound = check(lake).await;
    let copy = names().chain(&stream_id(), &shard("000009").id);
    for object in lake.list(&chain.dir).await.unwrap() {
        let body = lake.get(&object.key).await.unwrap().unwrap();
        let key = object.key.replace(&chain.dir, &copy.dir);
        lake.put_new(&key, body).await.unwrap();
    }
    let report = check(lake).await;
    assert_eq!(kinds(&report), [ProblemKind::Misplaced]);
    assert_eq!(report.problem_count(), 4, "genesis and three records");
    assert_eq!(
        (report.units.rows, report.units.input),
        (sound.units.rows, sound.units.input)
    );
}

#[tokio::test]
async fn a_file_that_two_records_name_is_a_problem() {
    let world = world(1);
    let Good { process, chain } = good(&world).await;
    let lake = &process.lake;
    let (first, second) = (chain.record(1), chain.record(2));
    let named = Commit::from_body("k", &lake.get(&first).await.unwrap().unwrap()).unwrap();
    let mut commit = Commit::from_body("k", &lake.get(&second).await.unwrap().unwrap()).unwrap();
    commit.files = named.files;
    commit.counts = named.counts;
    replace(lake, &second, commit.to_body().to_vec()).await;
    let report = check(lake).await;
    assert_eq!(
        kinds(&report),
        [ProblemKind::Foreign, ProblemKind::Misplaced]
    );
}

/// The sink ignores objects that only look like records, and verification reports them.
#[tokio::test]
async fn a_stray_name_among_the_records_is_told_and_never_the_newest() {
    for (name, body) in [
        ("81553255926290448384.json", &b""[..]),
        ("99999999999999999900.json", b"{}\n"),
        ("00000000000000000000.txt", b"x"),
    ] {
        let world = world(1);
        let Good { process, chain } = good(&world).await;
        let key = format!("{}{name}", chain.records());
        process
            .lake
            .put_new(&key, Bytes::from_static(body))
            .await
            .unwrap();
        let report = check(&process.lake).await;
        assert!(!report.is_good());
        assert!(report.problems.len() < 4, "{report:?}");
        assert!(
            report.problems.iter().any(|problem| problem.place == key),
            "{report:?}"
        );
        let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
        let (mut shard, from) = heir.claim("000000").await.unwrap();
        assert_eq!(from, Position::offset(14), "{name}");
        publish(&mut shard, 15..17).await.unwrap();
    }
    // A removed record is not a stray object: a sink that continued would write its rows again.
    let world = world(1);
    let Good { process, chain } = good(&world).await;
    process.lake.delete(&chain.record(2)).await.unwrap();
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    let error = heir.claim("000000").await.err().unwrap().to_string();
    assert!(
        error.contains(&chain.record(2)) && error.contains("restore"),
        "{error}"
    );
}

#[tokio::test]
async fn a_report_lists_the_first_findings_of_a_kind_and_counts_all() {
    let world = world(1);
    let Good { process, .. } = good(&world).await;
    let many = LISTED_MAX as u64 + 7;
    for n in 0..many {
        let key = format!("devices/date=2026-11-20/stray-{n}.parquet");
        process.lake.put_new(&key, Bytes::new()).await.unwrap();
    }
    let report = check(&process.lake).await;
    assert_eq!(kinds(&report), [ProblemKind::Foreign]);
    assert_eq!(report.problems.len(), LISTED_MAX);
    assert_eq!(
        (
            report.problem_count(),
            report.problem_counts[&ProblemKind::Foreign]
        ),
        (many, many)
    );
}

/// Rows that conforming refuses do not count as rows without an event time.
#[tokio::test]
async fn untimed_rows_are_rows() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let untimed =
        |n: u64, text: &str| format!("{{\"n\":{n},\"time\":\"never\",\"text\":\"{text}\"}}");
    let records = [
        payload(0),
        untimed(1, "a"),
        untimed(2, "fault:conform"),
        untimed(3, "b"),
    ];
    shard.push(Read::Batch(batch(0, &records))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    let report = check(&process.lake).await;
    assert!(report.is_good(), "{report:?}");
    assert_eq!(
        (
            report.units.rows,
            report.units.dead_letters,
            report.untimed_rows
        ),
        (3, 1, [(UntimedReason::Unreadable, 2)].into())
    );
}

#[tokio::test]
async fn a_rebuilt_file_counts_instead_of_the_vanished_one() {
    let world = world(1);
    let Good { process, chain } = good(&world).await;
    let lake = &process.lake;
    let tip = Commit::from_body("k", &lake.get(&chain.record(3)).await.unwrap().unwrap()).unwrap();
    lake.delete(&tip.files[0].sealed.key).await.unwrap();
    let heir = ProcessSetup::named(&world, "b").over(stream_of(40));
    let heir = heir.await.unwrap();
    heir.claim("000000").await.unwrap();
    let report = check(&heir.lake).await;
    assert!(report.is_good() && report.warnings.is_empty(), "{report:?}");
    assert_exactly_once(&world, (0..15).chain(20..23), "").await;
    // Both at once would be doubles.
    let rebuilt = crate::lake::generation_key(&tip.files[0].sealed.key, 1);
    let body = heir.lake.get(&rebuilt).await.unwrap().unwrap();
    heir.lake
        .put_new(&tip.files[0].sealed.key, body)
        .await
        .unwrap();
    assert_eq!(kinds(&check(&heir.lake).await), [ProblemKind::Foreign]);
}

#[tokio::test]
async fn a_lake_can_be_looked_at() {
    let world = world(1);
    let Good { process, .. } = good(&world).await;
    let lake = looker(&world).await;
    let found = tables(&lake).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].table.as_str(), found[0].partitions),
        ("devices", 2)
    );
    let found = partitions(&lake, &names()).await.unwrap();
    assert_eq!(found[0].path, "date=2026-11-19");
    assert_eq!(schema(&lake, &names()).await.unwrap().columns.len(), 4);
    let mut rows = Vec::new();
    let mut take = |row: &str| {
        rows.push(row.to_owned());
        Ok(())
    };
    crate::inspect::rows(&lake, &names(), None, 3, &mut take)
        .await
        .unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows[0].starts_with("{\"n\":"), "{rows:?}");
    let none = crate::lake::TableNames::try_new("none").unwrap();
    let missing = verify(&lake, &none, Depth::default()).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    assert!(matches!(
        schema(&lake, &none).await,
        Err(Error::NotFound { .. })
    ));
    drop(process);
    let chain = Chain::new(&lake, &none, &stream_id(), &shard("000000").id);
    assert_eq!(chain.tip().await.unwrap().slot(), 0);
}
