//! What dead owners leave is removed when no record can name it any more, and never before.

use std::time::Duration;

use bytes::Bytes;
use hydrant_core::lake::{Put, Sealed, SharedLake};
use hydrant_core::{Position, clock};
use hydrant_testing::disk::{Op, Rule, SimWorld};

use super::owners::{OwnersPlan, between, unrevealed};
use super::support::*;
use crate::lake::{Commit, generation_key};

async fn uploads(lake: &SharedLake) -> Vec<String> {
    let uploads = lake.list_uploads().await.unwrap();
    uploads.into_iter().map(|(_, key)| key).collect()
}

async fn seal(lake: &SharedLake, key: &str) -> Sealed {
    let mut upload = lake.upload(key).await.unwrap();
    upload.write(Bytes::from_static(b"rows")).await.unwrap();
    upload.seal().await.unwrap()
}

fn chain() -> crate::lake::ChainNames {
    names().chain(&stream_id(), &shard("000000").id)
}

/// Runs a process that dies while it puts the record of its first interval, when all files are uploaded.
async fn dies_before_the_record(world: &SimWorld, name: &str) {
    let plan = OwnersPlan {
        refuse_records: true,
        ..OwnersPlan::default()
    };
    let (process, _) = between(world, name, plan).await;
    let (mut shard, after) = process.claim("000000").await.unwrap();
    let next = after.next_offset().unwrap();
    publish(&mut shard, next..next + 4).await.unwrap_err();
}

#[tokio::test]
async fn twenty_owners_that_die_before_their_record_leave_nothing_behind_a_clean_one() {
    let world = world(1);
    for n in 0..20 {
        dies_before_the_record(&world, &format!("dead-{n}")).await;
    }
    let heir = ProcessSetup::named(&world, "heir").run().await.unwrap();
    let left = uploads(&heir.lake).await.len();
    assert!(left >= 40, "{left}");
    let (mut shard, _) = heir.claim("000000").await.unwrap();
    // They start where the chain ends: a record that names them may yet land.
    assert_eq!(uploads(&heir.lake).await.len(), left);
    publish(&mut shard, 0..6).await.unwrap();
    assert_eq!(uploads(&heir.lake).await, [""; 0]);
    assert_exactly_once(&world, 0..6, "").await;
    // One that died after the chain went on is cleaned up by the next owner as he opens.
    dies_before_the_record(&world, "late").await;
    publish(&mut shard, 6..9).await.unwrap();
    let left = uploads(&heir.lake).await.len();
    assert!(left >= 2, "{left}");
    let last = ProcessSetup::named(&world, "last").run().await.unwrap();
    last.claim("000000").await.unwrap();
    assert_eq!(uploads(&last.lake).await, [""; 0]);
}

/// An owner that has run for long finds what others leave behind while it runs.
#[tokio::test(start_paused = true)]
async fn uploads_of_an_owner_that_died_later_are_removed() {
    let world = world(1);
    let heir = ProcessSetup::named(&world, "heir").run().await.unwrap();
    heir.claim("000001").await.unwrap();
    dies_before_the_record(&world, "dead").await;
    clock::sleep(Duration::from_secs(61)).await;
    let (mut shard, _) = heir.claim("000000").await.unwrap();
    let left = uploads(&heir.lake).await.len();
    assert!(left >= 2, "{left}");
    publish(&mut shard, 0..6).await.unwrap();
    assert_eq!(uploads(&heir.lake).await, [""; 0]);
    assert_exactly_once(&world, 0..6, "").await;
}

/// What a clean-up could not remove is remembered, and the next one in the same process removes it.
#[tokio::test]
async fn what_a_failed_clean_up_left_is_removed_by_the_next_one() {
    let world = world(1);
    dies_before_the_record(&world, "dead").await;
    let (heir, lake) = between(&world, "heir", OwnersPlan::default()).await;
    let (mut shard, _) = heir.claim("000000").await.unwrap();
    let left = uploads(&heir.lake).await.len();
    assert!(left >= 2, "{left}");
    // The clean-up behind the first record fails at the first of them.
    lake.plan.lock().await.refuse_discards = 1;
    publish(&mut shard, 0..6).await.unwrap();
    assert_eq!(lake.plan.lock().await.refuse_discards, 0);
    assert_eq!(uploads(&heir.lake).await.len(), left);
    drop(shard);
    heir.claim("000000").await.unwrap();
    assert_eq!(uploads(&heir.lake).await, [""; 0]);
    assert_exactly_once(&world, 0..6, "").await;
}

/// When a record names the uploads, they are made visible before anything is removed.
#[tokio::test]
async fn uploads_that_the_newest_record_names_are_finished_first() {
    let world = world(1);
    unrevealed(&world, &payloads(0..6)).await;
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    assert_eq!(uploads(&heir.lake).await.len(), 3);
    heir.claim("000000").await.unwrap();
    assert_exactly_once(&world, 0..6, "").await;
    assert_eq!(uploads(&heir.lake).await, [""; 0]);
}

/// An owner leaves the uploads of other shards and tables alone.
#[tokio::test]
async fn only_ones_own_are_removed() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard_of, _) = process.claim("000000").await.unwrap();
    publish(&mut shard_of, 0..6).await.unwrap();
    let other = names().chain(&stream_id(), &shard("000001").id);
    let table = crate::lake::TableNames::try_new("others").unwrap();
    let table = table.chain(&stream_id(), &shard("000000").id);
    let (begin, end) = (Position::Begin, Position::offset(3));
    let kept = [
        other.rows("date=2026-11-20", begin, end, 0),
        table.rows("date=2026-11-20", begin, end, 0),
        "devices/date=2026-11-20/by-hand.parquet".to_owned(),
        chain().rows(
            "date=2026-11-20",
            Position::offset(5),
            Position::offset(9),
            0,
        ),
    ];
    let removed = [
        chain().rows("date=2026-11-20", begin, end, 0),
        chain().dead_letters(begin, end, 1),
    ];
    for key in kept.iter().chain(&removed) {
        seal(&process.lake, key).await;
    }
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    heir.claim("000000").await.unwrap();
    let mut wanted: Vec<String> = kept.to_vec();
    let mut left = uploads(&heir.lake).await;
    wanted.sort();
    left.sort();
    assert_eq!(left, wanted);
}

/// Uploads that were meant to replace a vanished file are removed when another upload was chosen, and only then.
#[tokio::test]
async fn an_upload_that_was_to_replace_a_file_goes_when_another_was_chosen() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    publish(&mut shard, 0..6).await.unwrap();
    let tip = process.lake.get(&chain().record(1)).await.unwrap().unwrap();
    let files = Commit::from_body("k", &tip).unwrap().files;
    let (first, second) = (&files[0].sealed.key, &files[1].sealed.key);
    process.lake.delete(first).await.unwrap();
    let other = seal(&process.lake, &generation_key(first, 1)).await;
    let unclaimed = seal(&process.lake, &generation_key(second, 1)).await;
    let heir = ProcessSetup::named(&world, "b")
        .over(stream_of(40))
        .await
        .unwrap();
    heir.claim("000000").await.unwrap();
    assert_exactly_once(&world, 0..6, "").await;
    let left: Vec<String> = heir
        .lake
        .list_uploads()
        .await
        .unwrap()
        .into_iter()
        .map(|s| s.0)
        .collect();
    assert!(!left.contains(&other.upload), "{left:?}");
    assert_eq!(left, [unclaimed.upload]);
}

/// A zombie whose uploads were removed collides and shows nothing.
#[tokio::test]
async fn a_zombie_whose_uploads_were_removed_does_no_harm() {
    let world = world(1);
    let zombie = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut theirs, _) = zombie.claim("000000").await.unwrap();
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    // The uploads of the zombie so far, as the heir finds them.
    let (begin, end) = (Position::Begin, Position::offset(3));
    let sealed = seal(
        &zombie.lake,
        &chain().rows("date=2026-11-20", begin, end, 0),
    )
    .await;
    let (mut ours, _) = heir.claim("000000").await.unwrap();
    publish(&mut ours, 0..6).await.unwrap();
    assert_eq!(uploads(&heir.lake).await, [""; 0]);
    let late = zombie.lake.reveal(&sealed).await.unwrap();
    assert_eq!(late, hydrant_core::lake::Reveal::Vanished);
    publish(&mut theirs, 0..4).await.unwrap_err();
    assert_exactly_once(&world, 0..6, "").await;
    assert_eq!(uploads(&heir.lake).await, [""; 0]);
}

/// A temporary file whose name was taken meanwhile may be removed at any moment of its owner's put.
#[tokio::test]
async fn a_put_whose_temporary_file_was_removed_finds_the_winner() {
    let world = world(1);
    let lake = |name: &str| {
        let context = context_on(world.process(name).shared(), 3, 1 << 20);
        async move { crate::lake::FileLake::open(std::path::Path::new(LAKE), &context).await }
    };
    use hydrant_core::lake::Lake as _;
    let (slow, fast) = (lake("slow").await.unwrap(), lake("fast").await.unwrap());
    world.fail(Rule::once(Op::LinkNew, "_hydrant/t/x"));
    slow.put_new("_hydrant/t/x", Bytes::from_static(b"slow"))
        .await
        .unwrap_err();
    let put = fast
        .put_new("_hydrant/t/x", Bytes::from_static(b"fast"))
        .await
        .unwrap();
    assert_eq!(put, Put::Created);
    fast.tidy("_hydrant/t/").await.unwrap();
    let put = slow
        .put_new("_hydrant/t/x", Bytes::from_static(b"slow"))
        .await
        .unwrap();
    assert_eq!(put, Put::Exists(Bytes::from_static(b"fast")));
}

/// A publish that is dropped half way leaves its uploads to the next owner in the same process.
#[tokio::test]
async fn a_dropped_publish_is_cleaned_up_in_the_same_process() {
    let world = world(1);
    let plan = OwnersPlan {
        refuse_records: true,
        ..OwnersPlan::default()
    };
    let (process, lake) = between(&world, "a", plan).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    publish(&mut shard, 0..4).await.unwrap_err();
    drop(shard);
    assert_eq!(uploads(&process.lake).await.len(), 3);
    lake.plan.lock().await.refuse_records = false;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    publish(&mut shard, 0..6).await.unwrap();
    assert_exactly_once(&world, 0..6, "").await;
    assert_eq!(uploads(&process.lake).await, [""; 0]);
}

/// When one file cannot be uploaded, the uploads of the other files are removed.
#[tokio::test]
async fn a_failed_upload_leaves_no_siblings() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    world.fail(Rule {
        kind: std::io::ErrorKind::PermissionDenied,
        ..Rule::once(Op::WriteAt, "dead-letters")
    });
    publish(&mut shard, 0..6).await.unwrap_err();
    assert_eq!(uploads(&process.lake).await, [""; 0]);
}
