//! Records of what became of vanished files: those that are wrong are told, and what they say is lost stays so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::lake::{Lake, Object, SharedLake};
use hydrant_core::{Position, Random, Result};
use hydrant_testing::disk::SimWorld;
use hydrant_testing::layer::{LakeLayer, Layered};

use super::owners::all_vanished;
use super::support::*;
use crate::lake::{
    ChainNames, FileKind, GivenUp, RebuildOutcome, RebuildRecord, TableRetention, generation_key,
    give_up_missing, seal_body,
};
use crate::verify::{GoneUnits, ProblemKind, TableReport};

/// A table whose newest record has a file that was made again.
struct RebuiltTable {
    lake: SharedLake,
    chain: ChainNames,
    /// The record that says so, in slot 2.
    record: RebuildRecord,
}

impl RebuiltTable {
    async fn new(world: &SimWorld) -> Self {
        let process = ProcessSetup::named(world, "a").run().await.unwrap();
        for name in ["000000", "000001"] {
            let (mut shard, _) = process.claim(name).await.unwrap();
            publish(&mut shard, 0..5).await.unwrap();
            publish(&mut shard, 5..10).await.unwrap();
        }
        let chain = names().chain(&stream_id(), &"000000".into());
        let body = process.lake.get(&chain.record(2)).await.unwrap().unwrap();
        let tip = crate::lake::Commit::from_body("k", &body).unwrap();
        process.lake.delete(&tip.files[0].sealed.key).await.unwrap();
        let heir = ProcessSetup::named(world, "b").over(stream_of(40));
        let heir = heir.await.unwrap();
        heir.claim("000000").await.unwrap();
        let key = chain.rebuild(2, 0, 1);
        let body = heir.lake.get(&key).await.unwrap().unwrap();
        RebuiltTable {
            lake: heir.lake,
            chain,
            record: RebuildRecord::from_body(&key, &body).unwrap(),
        }
    }

    /// Puts a changed record in the place of the right one.
    async fn replace(&self, change: impl FnOnce(&mut RebuildRecord)) {
        let mut record = self.record.clone();
        change(&mut record);
        replace(&self.lake, &self.chain.rebuild(2, 0, 1), seal_body(&record)).await;
    }

    /// Puts a record beside the right one.
    async fn add(&self, key: String, record: &RebuildRecord) {
        self.lake.put_new(&key, seal_body(record)).await.unwrap();
    }
}

/// The file that a record says replaces another.
fn replacing(record: &mut RebuildRecord) -> &mut crate::lake::CommitFile {
    match &mut record.outcome {
        RebuildOutcome::Replaced { file, .. } => file,
        RebuildOutcome::GivenUp { .. } => panic!("it is given up"),
    }
}

#[tokio::test]
async fn every_damage_to_a_rebuild_record_is_found() {
    use ProblemKind::{Foreign, Misplaced, Missing, Unbalanced};
    for damage in 0..13 {
        let world = world(1);
        let table = RebuiltTable::new(&world).await;
        let sound = check(&table.lake).await;
        assert!(sound.is_good() && sound.warnings.is_empty(), "{sound:?}");
        let (chain, record) = (&table.chain, &table.record);
        let other = names().chain(&stream_id(), &"000001".into());
        let place = chain.rebuild(2, 0, 1);
        // Where it is told, and the kinds of all problems.
        let (told, wanted) = match damage {
            0 => {
                table.replace(|record| replacing(record).rows += 1).await;
                (place, vec![Unbalanced])
            }
            1 => {
                let change = |record: &mut RebuildRecord| {
                    replacing(record).position_hash = "0".repeat(32);
                };
                table.replace(change).await;
                (place, vec![Unbalanced])
            }
            2 => {
                let given_up = RebuildOutcome::GivenUp {
                    why: GivenUp::Operator,
                    rows: replacing(&mut record.clone()).rows + 1,
                    lost: None,
                };
                table.replace(|record| record.outcome = given_up).await;
                (place, vec![Foreign, Unbalanced])
            }
            // It is about another file, so that nothing replaces the one that vanished.
            3 => {
                table.replace(|record| record.key.push('x')).await;
                (place, vec![Missing, Foreign, Misplaced])
            }
            4 => {
                let key = generation_key(&record.key, 2);
                table
                    .replace(|record| replacing(record).sealed.key = key)
                    .await;
                (place, vec![Missing, Foreign, Misplaced])
            }
            5 => {
                let kind = FileKind::DeadLetters;
                table.replace(|record| replacing(record).kind = kind).await;
                (place, vec![Missing, Foreign, Misplaced])
            }
            // In the place of another file, of another chain and of none.
            6 => {
                table.add(chain.rebuild(2, 1, 1), record).await;
                (chain.rebuild(2, 1, 1), vec![Misplaced])
            }
            7 => {
                table.add(other.rebuild(2, 0, 1), record).await;
                (other.rebuild(2, 0, 1), vec![Misplaced])
            }
            8 => {
                let none = names().chain(&stream_id(), &"000077".into());
                table.add(none.rebuild(2, 0, 1), record).await;
                (none.rebuild(2, 0, 1), vec![Foreign])
            }
            9 => {
                let key = format!("{}rebuild/stray.json", names().system());
                table.add(key.clone(), record).await;
                (key, vec![Foreign])
            }
            // About what no record names: a slot, a file, and a generation without the one before.
            more => {
                let mut record = record.clone();
                match more {
                    10 => record.slot = 3,
                    11 => record.index = 9,
                    _ => record.generation = 3,
                }
                let key = chain.rebuild(record.slot, record.index, record.generation);
                table.add(key.clone(), &record).await;
                (key, vec![Foreign])
            }
        };
        let report = check(&table.lake).await;
        assert_eq!(kinds(&report), wanted, "damage {damage}: {report:?}");
        let mut places = report.problems.iter().map(|problem| &problem.place);
        assert!(
            places.any(|place| *place == told),
            "damage {damage}: {report:?}"
        );
        assert_eq!(report.units, sound.units, "damage {damage}");
    }
}

/// A sink does not follow a record that is about another file.
#[tokio::test]
async fn a_rebuild_record_of_another_file_stops_a_takeover_that_needs_it() {
    let world = world(1);
    let table = RebuiltTable::new(&world).await;
    table.replace(|record| record.key.push('x')).await;
    remove_marks(&table.lake).await;
    let heir = ProcessSetup::named(&world, "c").over(stream_of(40)).await;
    let error = heir.unwrap().claim("000000").await.err().unwrap();
    let error = error.to_string();
    assert!(
        error.contains(&table.chain.rebuild(2, 0, 1)) && error.contains("another file"),
        "{error}"
    );
}

/// A file vanished twice: each of its records must be about it.
#[tokio::test]
async fn an_earlier_rebuild_record_that_is_wrong_is_found() {
    let world = world(1);
    let table = RebuiltTable::new(&world).await;
    let mut second = table.record.clone();
    let body = table.lake.get(&second.key).await.unwrap().unwrap();
    let file = replacing(&mut second);
    file.sealed.key = file.sealed.key.replace(".g1.", ".g2.");
    let key = file.sealed.key.clone();
    (second.generation, second.key) = (2, key.clone());
    table.add(table.chain.rebuild(2, 0, 2), &second).await;
    replace(&table.lake, &table.record.key, body.clone()).await;
    table.lake.delete(&table.record.key).await.unwrap();
    table.lake.put_new(&key, body).await.unwrap();
    let report = check(&table.lake).await;
    assert!(report.is_good(), "{report:?}");
    table.replace(|record| replacing(record).rows += 1).await;
    let report = check(&table.lake).await;
    assert_eq!(kinds(&report), [ProblemKind::Unbalanced]);
    assert_eq!(report.problems[0].place, table.chain.rebuild(2, 0, 1));
}

/// A lake in which a record is put, and its file made again, after its chain was listed.
#[derive(Debug)]
struct PutSince {
    lake: SharedLake,
    record: String,
    listed: AtomicBool,
}

#[async_trait]
impl LakeLayer for PutSince {
    fn below(&self) -> &dyn Lake {
        &*self.lake
    }

    async fn visit(&self, prefix: &str, seen: &mut (dyn FnMut(Object) + Send)) -> Result<()> {
        let hidden = self.record.starts_with(prefix) && !self.listed.load(Ordering::Relaxed);
        let mut others = |object: Object| {
            let stem = object.key.split('.').next().unwrap_or_default();
            if !hidden || !self.record.starts_with(stem) {
                seen(object);
            }
        };
        self.lake.visit(prefix, &mut others).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let all = self.lake.list(prefix).await;
        self.listed
            .fetch_or(prefix.contains("/rebuild/"), Ordering::Relaxed);
        all
    }
}

#[tokio::test]
async fn a_rebuild_of_a_record_that_was_put_since_is_no_problem() {
    let world = world(1);
    let table = RebuiltTable::new(&world).await;
    let lake: SharedLake = Arc::new(Layered(PutSince {
        lake: SharedLake::clone(&table.lake),
        record: table.chain.record(2),
        listed: AtomicBool::new(false),
    }));
    let report = check(&lake).await;
    assert_eq!(report.chains[0].records, 1, "{report:?}");
    let of_rebuilds = report.problems.iter();
    let of_rebuilds = of_rebuilds.filter(|problem| problem.place.contains("/rebuild/"));
    assert_eq!(of_rebuilds.count(), 0, "{report:?}");
}

/// A table of twelve records that vanished; the stream had the last five, which were made again and removed by hand.
async fn partly_lost(world: &SimWorld) -> SinkProcess {
    all_vanished(world, &payloads(0..12)).await;
    // The stream holds appends of seven records.
    let heir = ProcessSetup::named(world, "b").over(trimmed(6).await);
    let heir = heir.await.unwrap();
    heir.claim("000000").await.unwrap();
    assert_exactly_once(world, 7..12, "").await;
    heir.lake
        .delete_many(&visible(&heir.lake).await)
        .await
        .unwrap();
    heir
}

fn assert_lost_and_expired(report: &TableReport, expired: u64) {
    assert!(report.is_good(), "{report:?}");
    let sum = |gone: &GoneUnits| gone.rows + gone.dead_letters;
    assert_eq!(
        (sum(&report.lost), sum(&report.expired)),
        (7, expired),
        "{report:?}"
    );
    assert!(warned(report).iter().all(|kind| *kind == ProblemKind::Lost));
    let gap = format!("({}, {}]", Position::Begin, Position::offset(6));
    let mut details = report.warnings.iter().map(|warning| &warning.detail);
    assert!(
        details.all(|detail| detail.ends_with(&gap)),
        "{gap}: {report:?}"
    );
}

/// The operator gives up what was left, and nothing of what was lost before.
#[tokio::test]
async fn what_was_lost_stays_lost_when_the_rest_is_given_up() {
    let world = world(1);
    let heir = partly_lost(&world).await;
    for dry_run in [true, false] {
        let given_up = give_up_missing(&heir.lake, &names(), dry_run, &heir.context)
            .await
            .unwrap();
        assert_eq!(given_up.rows + given_up.dead_letters, 5, "{given_up:?}");
    }
    assert_lost_and_expired(&check(&heir.lake).await, 5);
}

/// What is past the declared retention is not made again, and what was lost before stays lost.
#[tokio::test]
async fn what_was_lost_stays_lost_when_the_rest_is_past_the_retention() {
    let world = world(1);
    let heir = partly_lost(&world).await;
    remove_marks(&heir.lake).await;
    let later = NOW + 5 * DAY;
    let retention = Some(Duration::from_secs(3 * 86_400));
    let random = Random::seeded(1);
    TableRetention::declare(&heir.lake, &names(), retention, later, &random)
        .await
        .unwrap();
    let next = ProcessSetup {
        now: later,
        ..ProcessSetup::named(&world, "c")
    };
    let next = next.over(stream_of(40)).await.unwrap();
    next.claim("000000").await.unwrap();
    assert!(visible(&heir.lake).await.is_empty());
    assert_lost_and_expired(&check(&heir.lake).await, 5);
}

/// A lake in which an operator gives up what is missing when the uploads are listed.
#[derive(Debug)]
struct GivenUpSince {
    process: SinkProcess,
    done: AtomicBool,
}

#[async_trait]
impl LakeLayer for GivenUpSince {
    fn below(&self) -> &dyn Lake {
        &*self.process.lake
    }

    async fn list_uploads(&self) -> Result<Vec<(String, String)>> {
        if !self.done.swap(true, Ordering::Relaxed) {
            let SinkProcess { lake, context, .. } = &self.process;
            give_up_missing(lake, &names(), false, context).await?;
        }
        self.process.lake.list_uploads().await
    }
}

/// What is given up while the table is verified counts once.
#[tokio::test]
async fn what_was_lost_is_counted_once_when_the_rest_is_given_up_meanwhile() {
    let world = world(1);
    let heir = partly_lost(&world).await;
    remove_marks(&heir.lake).await;
    let lake: SharedLake = Arc::new(Layered(GivenUpSince {
        process: heir,
        done: AtomicBool::new(false),
    }));
    assert_lost_and_expired(&check(&lake).await, 5);
}

/// The lake as if the newest record were not finished.
async fn remove_marks(lake: &SharedLake) {
    for object in lake.list(&names().commits()).await.unwrap() {
        if object.key.ends_with(".done") {
            lake.delete(&object.key).await.unwrap();
        }
    }
}
