//! Two owners of one shard, dead ones, late ones, and files that vanish.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::lake::{Lake, Put, Reveal, Sealed, SharedLake, Upload};
use hydrant_core::stage::{Flush, Stage as _};
use hydrant_core::stream::Read;
use hydrant_core::{Disposition, Error, Position, Result, clock};
use hydrant_testing::disk::{Op, Rule, SimWorld};
use hydrant_testing::layer::{LakeLayer, Layered};
use tokio::sync::Mutex;

use super::beside::{PUT, push, recorded};
use super::slow_lake::slowed_over;
use super::support::*;
use crate::lake::{Chain, Finisher, Publisher};
use crate::shard::flush_rules::FlushRules;
use crate::table::spec::TableRules;

fn after(error: &Error) -> Position {
    match error.disposition() {
        Disposition::Superseded { after } => after,
        other => panic!("{other:?}: {error}"),
    }
}

/// A zombie at a stale position collides, publishes nothing, and the table stays right.
#[tokio::test]
async fn the_second_of_two_owners_publishes_nothing() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let b = ProcessSetup::named(&world, "b").run().await.unwrap();
    let (mut first, _) = a.claim("000000").await.unwrap();
    let (mut second, _) = b.claim("000000").await.unwrap();
    publish(&mut first, 0..6).await.unwrap();
    // Other records, the same records, and more records than the winner had.
    let error = publish(&mut second, 0..9).await.unwrap_err();
    assert_eq!(after(&error), Position::offset(5));
    let error = publish(&mut second, 9..10).await.unwrap_err();
    assert_eq!(after(&error), Position::offset(5), "once lost is lost");
    assert!(
        a.lake.list_uploads().await.unwrap().is_empty(),
        "the loser cleans up after itself"
    );
    let (mut second, from) = b.claim("000000").await.unwrap();
    assert_eq!(from, Position::offset(5));
    publish(&mut second, 6..9).await.unwrap();
    let error = publish(&mut first, 6..8).await.unwrap_err();
    assert_eq!(after(&error), Position::offset(8));
    assert_exactly_once(&world, 0..9, "").await;
}

#[tokio::test]
async fn an_equal_interval_of_another_owner_is_not_mine() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let b = ProcessSetup::named(&world, "b").run().await.unwrap();
    let (mut first, _) = a.claim("000000").await.unwrap();
    let (mut second, _) = b.claim("000000").await.unwrap();
    publish(&mut first, 0..6).await.unwrap();
    assert_eq!(
        after(&publish(&mut second, 0..6).await.unwrap_err()),
        Position::offset(5)
    );
    assert_exactly_once(&world, 0..6, "").await;
}

#[tokio::test]
async fn a_stage_opened_at_a_stale_position_is_sent_to_the_right_one() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut first, _) = a.claim("000000").await.unwrap();
    publish(&mut first, 0..6).await.unwrap();
    let Err(error) = a.open_at("000000", Position::offset(2)).await else {
        panic!("it was opened at a stale position");
    };
    assert_eq!(after(&error), Position::offset(5));
}

/// A claim looks for the newest record once, however long the chain.
#[tokio::test]
async fn opening_what_was_just_resumed_does_not_look_for_the_newest_record_again() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut first, _) = a.claim("000000").await.unwrap();
    publish(&mut first, 0..6).await.unwrap();
    let b = ProcessSetup::named(&world, "b").run().await.unwrap();
    let resumed = b.stage.resume(&shard("000000")).await.unwrap().unwrap();
    world.fail(Rule::always(Op::List, "/r"));
    let mut second = b.open_at("000000", resumed.to).await.unwrap();
    world.heal();
    // Once only: another owner may have gone on since.
    publish(&mut first, 6..8).await.unwrap();
    let error = publish(&mut second, 6..9).await.unwrap_err();
    assert_eq!(after(&error), Position::offset(7));
    assert!(b.open_at("000000", resumed.to).await.is_err());
    assert_exactly_once(&world, 0..8, "").await;
}

/// The first owner alone decides where reading began.
#[tokio::test]
async fn two_owners_agree_where_a_chain_begins() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    a.open_at("000000", Position::offset(7)).await.unwrap();
    let Err(error) = a.open_at("000000", Position::offset(3)).await else {
        panic!("it was opened elsewhere");
    };
    assert_eq!(after(&error), Position::offset(7));
    let resumed = a.stage.resume(&shard("000000")).await.unwrap();
    assert_eq!(resumed.unwrap().to, Position::offset(7));
    assert!(a.stage.resume(&shard("000001")).await.unwrap().is_none());
}

/// A lake before another one that answers as a test wants.
#[derive(Debug)]
pub(super) struct Between {
    pub(super) lake: SharedLake,
    pub(super) plan: Mutex<OwnersPlan>,
}

#[derive(Debug, Default)]
pub(super) struct OwnersPlan {
    /// The process dies before it puts a commit record.
    pub(super) refuse_records: bool,
    /// How many answers of puts are lost.
    pub(super) lose_puts: u32,
    /// How many answers of reveals are lost.
    pub(super) lose_reveals: u32,
    /// How many uploads are refused.
    pub(super) refuse_uploads: u32,
    /// How many uploads cannot be thrown away.
    pub(super) refuse_discards: u32,
    /// How long an upload takes to begin once it exists.
    pub(super) upload_delay: Duration,
    /// All uploads are removed before the next reveal.
    pub(super) remove_uploads: bool,
    /// The reveals that are held back; they end the process instead.
    pub(super) hold_reveals: bool,
    pub(super) held: Vec<Sealed>,
}

fn lost<T>() -> Result<T> {
    Err(Error::Unavailable {
        message: "the answer is lost".to_owned(),
        after: std::time::Duration::ZERO,
    })
}

#[async_trait]
impl LakeLayer for Between {
    fn below(&self) -> &dyn Lake {
        &*self.lake
    }

    async fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        if self.plan.lock().await.refuse_records && key.contains("/r/") {
            return Err(Error::fatal("the process died"));
        }
        let put = self.lake.put_new(key, body).await?;
        let mut plan = self.plan.lock().await;
        if plan.lose_puts > 0 && key.contains("/r/") {
            plan.lose_puts -= 1;
            return lost();
        }
        Ok(put)
    }
    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>> {
        let mut plan = self.plan.lock().await;
        if plan.refuse_uploads > 0 {
            plan.refuse_uploads -= 1;
            return lost();
        }
        let delay = plan.upload_delay;
        drop(plan);
        let upload = self.lake.upload(key).await?;
        clock::sleep(delay).await;
        Ok(upload)
    }

    async fn reveal(&self, sealed: &Sealed) -> Result<Reveal> {
        let mut plan = self.plan.lock().await;
        if std::mem::take(&mut plan.remove_uploads) {
            for (upload, _) in self.lake.list_uploads().await? {
                self.lake.discard(&upload).await?;
            }
        }
        if plan.hold_reveals {
            plan.held.push(sealed.clone());
            return Err(Error::fatal("the process died"));
        }
        let reveal = self.lake.reveal(sealed).await?;
        if plan.lose_reveals > 0 {
            plan.lose_reveals -= 1;
            return lost();
        }
        Ok(reveal)
    }

    async fn discard(&self, upload: &str) -> Result<()> {
        let mut plan = self.plan.lock().await;
        if plan.refuse_discards > 0 {
            plan.refuse_discards -= 1;
            return lost();
        }
        self.lake.discard(upload).await
    }
}

/// A process whose lake follows a plan.
pub(super) async fn between(
    world: &SimWorld,
    name: &str,
    plan: OwnersPlan,
) -> (SinkProcess, Arc<Layered<Between>>) {
    let mut process = ProcessSetup::named(world, name)
        .over(stream_of(40))
        .await
        .unwrap();
    let between = Arc::new(Layered(Between {
        lake: SharedLake::clone(&process.lake),
        plan: Mutex::new(plan),
    }));
    process.lake = Arc::<Layered<Between>>::clone(&between);
    process.stage = process.stage_on(stream_of(40)).await.unwrap();
    (process, between)
}

/// A process that died after the record of these records and before its reveals, and its lake.
pub(super) async fn unrevealed(
    world: &SimWorld,
    records: &[String],
) -> (SinkProcess, Arc<Layered<Between>>) {
    let plan = OwnersPlan {
        hold_reveals: true,
        ..OwnersPlan::default()
    };
    let (dead, lake) = between(world, "dead", plan).await;
    let (mut shard, _) = dead.claim("000000").await.unwrap();
    shard.push(Read::Batch(batch(0, records))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap_err();
    (dead, lake)
}

/// The same, and its uploads were removed since.
pub(super) async fn all_vanished(world: &SimWorld, records: &[String]) -> SinkProcess {
    let (dead, _) = unrevealed(world, records).await;
    for (upload, _) in dead.lake.list_uploads().await.unwrap() {
        dead.lake.discard(&upload).await.unwrap();
    }
    dead
}

/// After a lost answer the same body is put again until an answer arrives.
#[tokio::test(start_paused = true)]
async fn lost_answers_publish_once() {
    let world = world(1);
    let plan = OwnersPlan {
        lose_puts: 3,
        lose_reveals: 3,
        ..OwnersPlan::default()
    };
    let (process, _) = between(&world, "a", plan).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    publish(&mut shard, 0..6).await.unwrap();
    publish(&mut shard, 6..9).await.unwrap();
    assert_exactly_once(&world, 0..9, "").await;
}

/// A reveal of a zombie lands after its successor has finished the record.
#[tokio::test]
async fn a_zombies_late_reveal_shows_nothing_twice() {
    let world = world(1);
    let (zombie, lake) = between(
        &world,
        "a",
        OwnersPlan {
            hold_reveals: true,
            ..OwnersPlan::default()
        },
    )
    .await;
    let (mut shard, _) = zombie.claim("000000").await.unwrap();
    publish(&mut shard, 0..6).await.unwrap_err();
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    let (mut theirs, from) = heir.claim("000000").await.unwrap();
    assert_eq!(
        from,
        Position::offset(5),
        "the record counts, visible or not"
    );
    publish(&mut theirs, 6..9).await.unwrap();
    let held = std::mem::take(&mut lake.plan.lock().await.held);
    assert!(!held.is_empty());
    for sealed in held {
        assert_eq!(lake.lake.reveal(&sealed).await.unwrap(), Reveal::Already);
    }
    assert_exactly_once(&world, 0..9, "").await;
}

/// The files of a record that has a successor were visible once: who removed them since does not want them back.
#[tokio::test(start_paused = true)]
async fn a_zombie_brings_no_removed_file_back() {
    let world = world(1);
    let mut zombie = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (rules, flush) = (TableRules::default(), FlushRules::default());
    let events = slowed_over(&mut zombie, PUT, stream_of(40), rules, flush).await;
    let (mut ours, _) = zombie.claim("000000").await.unwrap();
    push(&mut ours, 0..6).await;
    ours.publish(Flush::Time).await.unwrap();
    while recorded(&events) == 0 {
        clock::sleep(PUT / 10).await;
    }
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    let (mut theirs, _) = heir.claim("000000").await.unwrap();
    assert_exactly_once(&world, 0..6, "").await;
    for prefix in [names().data(), names().dead_letters()] {
        for object in heir.lake.list(&prefix).await.unwrap() {
            heir.lake.delete(&object.key).await.unwrap();
        }
    }
    publish(&mut theirs, 6..9).await.unwrap();
    ours.changed().await;
    let progress = ours.publish(Flush::Drain).await.unwrap();
    assert_eq!(progress.to, Position::offset(5));
    let error = publish(&mut ours, 6..9).await.unwrap_err();
    assert_eq!(after(&error), Position::offset(8));
    assert_exactly_once(&world, 6..9, "").await;
}

#[tokio::test]
async fn a_record_that_was_only_put_is_finished_before_anything_follows() {
    let world = world(1);
    unrevealed(&world, &payloads(0..6)).await;
    assert!(found(&world).await.is_empty());
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    heir.claim("000000").await.unwrap();
    assert_exactly_once(&world, 0..6, "").await;
}

/// An owner that collides first finishes the record that it found: the owner of that record may be dead.
#[tokio::test]
async fn a_loser_finishes_the_winners_record() {
    let world = world(1);
    let stale = ProcessSetup::named(&world, "b").run().await.unwrap();
    let (mut loser, _) = stale.claim("000000").await.unwrap();
    unrevealed(&world, &payloads(0..6)).await;
    let error = publish(&mut loser, 0..9).await.unwrap_err();
    assert_eq!(after(&error), Position::offset(5));
    assert_exactly_once(&world, 0..6, "").await;
}

#[tokio::test]
async fn nothing_follows_the_end_of_a_shard() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    shard
        .push(Read::End {
            children: Vec::new(),
            marks: Vec::new(),
        })
        .await
        .unwrap();
    let progress = shard.publish(Flush::End).await.unwrap();
    assert_eq!(progress.to, Position::End);
    assert_eq!(shard.publish(Flush::Drain).await.unwrap().to, Position::End);
    assert!(
        shard
            .push(Read::Batch(batch(0, &payloads(0..1))))
            .await
            .is_err()
    );
    let chain = Chain::new(
        &process.lake,
        &names(),
        &stream_id(),
        &super::support::shard("000000").id,
    );
    let tip = chain.record(1).await.unwrap().unwrap();
    assert!(tip.end && tip.files.is_empty());
    let finisher = Finisher::new(None, &process.context);
    let mut publisher =
        Publisher::open(chain, finisher, Position::Begin, None, Position::End, None)
            .await
            .unwrap();
    let again = crate::lake::Commit { slot: 2, ..tip };
    assert!(publisher.publish(&again).await.is_err());
}
