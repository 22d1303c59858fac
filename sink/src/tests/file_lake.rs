//! The lake in a directory, object by object.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use hydrant_core::lake::{Lake, Put, Reveal, Sealed, SharedLake};
use hydrant_core::{Context, Disposition, Error};
use hydrant_testing::conformance_lake::conforms;
use hydrant_testing::disk::{Loss, Moment, Op, Rule, SimWorld};

use super::support::*;
use crate::lake::{FileLake, Lakes};

async fn open(world: &SimWorld, name: &str) -> Result<FileLake, Error> {
    let context = context_on(world.process(name).shared(), 3, 1 << 20);
    FileLake::open(Path::new(LAKE), &context).await
}

async fn uploaded(lake: &FileLake, key: &str, body: &'static str) -> Sealed {
    let mut upload = lake.upload(key).await.unwrap();
    upload
        .write(Bytes::from_static(body.as_bytes()))
        .await
        .unwrap();
    upload.seal().await.unwrap()
}

fn shared(lake: FileLake) -> SharedLake {
    Arc::new(lake)
}

/// The suite of the seam, on the simulated disk.
#[tokio::test]
async fn a_lake_on_a_simulated_disk_conforms() {
    conforms(async || shared(open(&world(4), "a").await.unwrap())).await;
}

/// The same, on the operating system's disk.
#[tokio::test]
async fn a_lake_on_a_real_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let context = Context::system(1 << 20).unwrap();
    let made = AtomicU32::new(0);
    conforms(async || {
        let root = dir
            .path()
            .join(made.fetch_add(1, Ordering::Relaxed).to_string());
        shared(FileLake::open(&root, &context).await.unwrap())
    })
    .await;
}

#[tokio::test]
async fn a_file_system_without_links_is_refused_with_a_reason() {
    let world = world(1);
    world.fail(Rule {
        kind: ErrorKind::Unsupported,
        ..Rule::always(Op::LinkNew, "")
    });
    let error = open(&world, "a").await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Refused);
    assert!(error.to_string().contains("hard links"), "{error}");
    world.heal();
    open(&world, "a").await.unwrap();
}

#[tokio::test]
async fn a_name_is_put_once_and_survives_a_power_cut() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let body = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(
        lake.put_new("_hydrant/t/x", body("1")).await.unwrap(),
        Put::Created
    );
    assert_eq!(
        lake.put_new("_hydrant/t/x", body("2")).await.unwrap(),
        Put::Exists(body("1"))
    );
    world.power_cut(Loss::Everything);
    let lake = open(&world, "b").await.unwrap();
    assert_eq!(lake.get("_hydrant/t/x").await.unwrap().unwrap(), "1");
    assert_eq!(
        lake.list("").await.unwrap().len(),
        1,
        "no temporary file is an object"
    );
}

/// A process that finds a name whose maker died before its sync makes the name durable before it acts on it.
#[tokio::test]
async fn a_process_that_finds_a_name_makes_it_durable() {
    for by_get in [false, true] {
        let world = world(1);
        let lake = open(&world, "a").await.unwrap();
        lake.put_new("_hydrant/t/before", Bytes::from_static(b"0"))
            .await
            .unwrap();
        world.fail(Rule::once(Op::SyncDir, "_hydrant/t"));
        lake.put_new("_hydrant/t/x", Bytes::from_static(b"1"))
            .await
            .unwrap_err();
        let observer = open(&world, "b").await.unwrap();
        if by_get {
            assert!(observer.get("_hydrant/t/x").await.unwrap().is_some());
        } else {
            let put = observer
                .put_new("_hydrant/t/x", Bytes::from_static(b"2"))
                .await
                .unwrap();
            assert_eq!(put, Put::Exists(Bytes::from_static(b"1")));
        }
        world.power_cut(Loss::Everything);
        let lake = open(&world, "c").await.unwrap();
        assert_eq!(
            lake.get("_hydrant/t/x").await.unwrap().unwrap(),
            "1",
            "by get: {by_get}"
        );
    }
}

/// The process that made a partition's directory may have died before it made the name durable, so each process does so
/// before its first file in the directory counts.
#[tokio::test]
async fn a_directory_that_is_there_is_made_durable_as_well() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let first = uploaded(&lake, "t/d=1/x.parquet", "rows").await;
    lake.reveal(&first).await.unwrap();
    let other = open(&world, "b").await.unwrap();
    let second = uploaded(&other, "t/d=1/y.parquet", "rows").await;
    // The names in `t`, among them that of the partition, then those in the partition.
    world.fail(Rule {
        skip: 1,
        ..Rule::once(Op::SyncDir, "lake/t")
    });
    let error = other.reveal(&second).await.unwrap_err();
    assert!(error.to_string().contains("t/d=1"), "{error}");
    world.heal();
    world.fail(Rule::once(Op::SyncDir, "lake/t"));
    let third = open(&world, "c").await.unwrap();
    let error = third.reveal(&second).await.unwrap_err();
    assert!(!error.to_string().contains("d=1"), "{error}");
}

#[tokio::test]
async fn a_link_whose_answer_is_lost_is_ours() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    world.fail(Rule {
        moment: Moment::After,
        ..Rule::once(Op::LinkNew, "_hydrant/t/x")
    });
    let put = lake
        .put_new("_hydrant/t/x", Bytes::from_static(b"1"))
        .await
        .unwrap();
    assert_eq!(put, Put::Created);
    world.fail(Rule::once(Op::LinkNew, "_hydrant/t/y"));
    let error = lake
        .put_new("_hydrant/t/y", Bytes::from_static(b"1"))
        .await
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::Fatal);
    assert!(lake.get("_hydrant/t/y").await.unwrap().is_none());
}

/// A removal that another process did not make durable is made durable by the process that finds the name gone.
#[tokio::test]
async fn a_process_that_finds_a_name_removed_makes_that_durable() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let sealed = uploaded(&lake, "t/d=1/x.parquet", "rows").await;
    lake.reveal(&sealed).await.unwrap();
    world.fail(Rule::once(Op::SyncDir, "t/d=1"));
    lake.delete("t/d=1/x.parquet").await.unwrap_err();
    let other = open(&world, "b").await.unwrap();
    for key in ["t/d=1/x.parquet", "t/d=9/y.parquet"] {
        other.delete(key).await.unwrap();
    }
    world.power_cut(Loss::Everything);
    let lake = open(&world, "c").await.unwrap();
    assert!(lake.list("t/").await.unwrap().is_empty());
}

/// Another program removes a directory before it is synced: what was in it is made again, and nothing else stops.
#[tokio::test]
async fn a_directory_that_was_removed_is_no_failed_sync() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let removed = |path| {
        world.fail(Rule {
            kind: ErrorKind::NotFound,
            ..Rule::once(Op::SyncDir, path)
        });
    };
    let first = uploaded(&lake, "t/d=1/w.parquet", "rows").await;
    lake.reveal(&first).await.unwrap();
    let sealed = uploaded(&lake, "t/d=1/x.parquet", "rows").await;
    removed("lake/t/d=1");
    assert_eq!(lake.reveal(&sealed).await.unwrap(), Reveal::Already);
    lake.put_new("_hydrant/t/w", Bytes::new()).await.unwrap();
    removed("lake/_hydrant/t");
    let body = Bytes::from_static(b"1");
    let put = lake.put_new("_hydrant/t/x", body.clone()).await.unwrap();
    assert_eq!(put, Put::Exists(body));
    let upload = lake.upload("t/d=1/y.parquet").await.unwrap();
    removed("staging/t/d=1");
    let error = upload.seal().await.unwrap_err();
    assert!(
        matches!(error.disposition(), Disposition::Retry { .. }),
        "{error}"
    );
    uploaded(&lake, "t/d=1/y.parquet", "rows").await;
}

#[tokio::test]
async fn an_upload_is_invisible_and_used_once() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let sealed = uploaded(&lake, "t/d=1/x.parquet", "rows").await;
    assert!(lake.list("").await.unwrap().is_empty());
    let uploads = lake.list_uploads().await.unwrap();
    assert_eq!(uploads, [(sealed.upload.clone(), sealed.key.clone())]);
    assert_eq!(lake.reveal(&sealed).await.unwrap(), Reveal::Revealed);
    assert_eq!(lake.reveal(&sealed).await.unwrap(), Reveal::Already);
    assert!(lake.list_uploads().await.unwrap().is_empty());
    world.power_cut(Loss::Everything);
    let lake = open(&world, "b").await.unwrap();
    assert_eq!(lake.get("t/d=1/x.parquet").await.unwrap().unwrap(), "rows");
    assert_eq!(lake.list_dirs("t/").await.unwrap(), ["d=1"]);
}

#[tokio::test]
async fn a_second_copy_is_discarded_and_another_file_is_an_alarm() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let (first, same, other, longer) = (
        uploaded(&lake, "t/x.parquet", "rows").await,
        uploaded(&lake, "t/x.parquet", "rows").await,
        uploaded(&lake, "t/x.parquet", "swor").await,
        uploaded(&lake, "t/x.parquet", "rows!").await,
    );
    assert_eq!(lake.reveal(&first).await.unwrap(), Reveal::Revealed);
    assert_eq!(lake.reveal(&same).await.unwrap(), Reveal::Already);
    for wrong in [other, longer] {
        let error = lake.reveal(&wrong).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Fatal);
        assert!(error.to_string().contains("hydrant lake verify"), "{error}");
    }
    assert_eq!(lake.get("t/x.parquet").await.unwrap().unwrap(), "rows");
}

#[tokio::test]
async fn an_upload_that_was_removed_has_vanished() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let sealed = uploaded(&lake, "t/x.parquet", "rows").await;
    lake.discard(&sealed.upload).await.unwrap();
    lake.discard(&sealed.upload).await.unwrap();
    assert_eq!(lake.reveal(&sealed).await.unwrap(), Reveal::Vanished);
}

#[tokio::test]
async fn a_failed_sync_is_fatal_wherever_it_happens() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let sealed = uploaded(&lake, "t/x.parquet", "rows").await;
    lake.put_new("_hydrant/t/before", Bytes::from_static(b"0"))
        .await
        .unwrap();
    let fatal = |answer: Result<(), Error>| {
        let error = answer.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Fatal);
        assert!(error.to_string().contains("cannot sync"), "{error}");
    };
    // Also as a full disk: what the kernel dropped, no retry writes.
    let failing = |op, path: &str| {
        world.heal();
        world.fail(Rule {
            kind: ErrorKind::StorageFull,
            ..Rule::once(op, path)
        });
    };
    failing(Op::Sync, ".temporary/_hydrant/t/.y");
    fatal(
        lake.put_new("_hydrant/t/y", Bytes::from_static(b"1"))
            .await
            .map(drop),
    );
    world.heal();
    let lake = open(&world, "b").await.unwrap();
    failing(Op::SyncDir, "_hydrant/t");
    fatal(
        lake.put_new("_hydrant/t/z", Bytes::from_static(b"1"))
            .await
            .map(drop),
    );
    world.heal();
    let lake = open(&world, "c").await.unwrap();
    failing(Op::SyncDir, "t");
    fatal(lake.reveal(&sealed).await.map(drop));
    world.heal();
    let lake = open(&world, "d").await.unwrap();
    let upload = lake.upload("t/x2.parquet").await.unwrap();
    failing(Op::Sync, "staging/t/x2");
    fatal(upload.seal().await.map(drop));
}

#[tokio::test]
async fn a_full_disk_may_be_tried_again() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    world.set_quota(Some(2));
    let mut upload = lake.upload("t/x.parquet").await.unwrap();
    let error = upload.write(Bytes::from_static(b"rows")).await.unwrap_err();
    assert!(matches!(error.disposition(), Disposition::Retry { .. }));
    let error = lake
        .put_new("_hydrant/t/x", Bytes::from_static(b"rows"))
        .await
        .unwrap_err();
    assert!(matches!(error.disposition(), Disposition::Retry { .. }));
    assert!(
        lake.list_uploads().await.unwrap().is_empty(),
        "half a file only takes room"
    );
    world.set_quota(None);
    uploaded(&lake, "t/x.parquet", "rows").await;
    lake.put_new("_hydrant/t/x", Bytes::from_static(b"rows"))
        .await
        .unwrap();
}

#[tokio::test]
async fn keys_are_listed_in_their_order_and_up_to_a_limit() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let keys = ["a.b", "a/b", "a/b.c/d", "a/c.d", "a/c/e", "a0", "b/x"];
    for key in keys.iter().rev() {
        lake.put_new(key, Bytes::from_static(b"1")).await.unwrap();
    }
    let listed = |objects: Vec<hydrant_core::lake::Object>| {
        objects
            .into_iter()
            .map(|object| object.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(lake.list("").await.unwrap()), keys);
    assert_eq!(listed(lake.list("a/b").await.unwrap()), ["a/b", "a/b.c/d"]);
    assert_eq!(listed(lake.list("a/c/").await.unwrap()), ["a/c/e"]);
    assert_eq!(listed(lake.page("a", "", 2).await.unwrap()), ["a.b", "a/b"]);
    assert!(lake.list("nothing/here/").await.unwrap().is_empty());
    lake.delete("a0").await.unwrap();
    lake.delete("a0").await.unwrap();
    assert!(lake.get("a0").await.unwrap().is_none());
    for key in ["", "/a", "a//b", "../a", "a/..", "a/./b"] {
        assert!(lake.get(key).await.is_err(), "{key}");
    }
}

/// After a failed sync a process makes no file of any shard visible.
#[tokio::test]
async fn a_process_whose_sync_failed_writes_nothing_more() {
    let world = world(1);
    let lake = open(&world, "a").await.unwrap();
    let ready = uploaded(&lake, "t/d=1/ready.parquet", "rows").await;
    world.fail(Rule::once(Op::Sync, "_hydrant"));
    let failed = lake.put_new("_hydrant/t/x", Bytes::from_static(b"1")).await;
    assert!(failed.unwrap_err().to_string().contains("sync"));
    assert!(lake.reveal(&ready).await.is_err());
    assert!(lake.upload("t/d=1/more.parquet").await.is_err());
    let put = lake.put_new("_hydrant/u/y", Bytes::from_static(b"1")).await;
    assert_eq!(put.unwrap_err().disposition(), Disposition::Fatal);
    let next = open(&world, "b").await.unwrap();
    assert_eq!(next.reveal(&ready).await.unwrap(), Reveal::Revealed);
}

/// Directories that another program removed while the lake is open are created again.
#[tokio::test]
async fn directories_that_were_removed_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let context = Context::system(1 << 20).unwrap();
    let lake = FileLake::open(dir.path(), &context).await.unwrap();
    for n in 0..3 {
        let key = format!("t/d=1/{n}.parquet");
        let sealed = uploaded(&lake, &key, "rows").await;
        if n > 0 {
            std::fs::remove_dir_all(dir.path().join("t/d=1")).unwrap();
        }
        assert_eq!(lake.reveal(&sealed).await.unwrap(), Reveal::Revealed);
        let record = format!("_hydrant/t/r/{n}");
        let put = lake.put_new(&record, Bytes::from_static(b"1")).await;
        assert_eq!(put.unwrap(), Put::Created);
        std::fs::remove_dir_all(dir.path().join("_hydrant")).unwrap();
    }
}

#[tokio::test]
async fn one_who_only_looks_changes_nothing() {
    let world = world(1);
    let context = context_on(world.process("reader").shared(), 3, 1 << 20);
    let error = FileLake::open_read(Path::new("/none"), &context)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    open(&world, "a").await.unwrap();
    let lake = FileLake::open_read(Path::new(LAKE), &context)
        .await
        .unwrap();
    assert!(lake.put_new("x", Bytes::new()).await.is_err());
    assert!(lake.upload("x").await.is_err());
    assert!(lake.delete("x").await.is_err());
}

/// The roots of two file systems have the same number there, as those of two volumes, or of a volume and its snapshot,
/// do.
#[tokio::test]
async fn lakes_on_two_file_systems_are_two_outputs() {
    let context = Context::system(1 << 20).unwrap();
    let inode = async |dir: &str| {
        let stat = context.disk.stat(Path::new(dir)).await.unwrap();
        stat.unwrap().identity
    };
    assert_eq!(inode("/proc").await, inode("/sys").await);
    let lakes = Lakes::default();
    let id = async |url: &str| lakes.locate(url, &context).await.unwrap().id;
    assert_ne!(id("file:/proc").await, id("file:/sys").await);
    assert_eq!(id("file:/proc").await, id("file:/sys/../proc").await);
}
