//! A stream that a build without homes made: what it holds lies beside its manifest.

use std::fs;
use std::path::Path;

use hydrant_core::Position;
use hydrant_core::disk::real::RealDisk;
use hydrant_core::lease::{Lease, Swap};

use super::conformance::leases;
use super::fixture::*;

/// Makes a stream into one of the first format.
async fn take_home_away(dir: &Path) {
    let home = home(&RealDisk::new(), dir).await;
    for part in fs::read_dir(&home).unwrap() {
        let part = part.unwrap();
        fs::rename(part.path(), dir.join(part.file_name())).unwrap();
    }
    fs::remove_dir(&home).unwrap();
    set_format(dir, 1);
}

fn set_format(dir: &Path, format: u64) {
    let mut manifest = manifest(dir);
    manifest["format"] = format.into();
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
}

fn manifest(dir: &Path) -> serde_json::Value {
    let text = fs::read(dir.join("manifest.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_stream_without_a_home_goes_on_and_the_next_one_has_one() {
    let top = tempfile::tempdir().unwrap();
    let (url, dir) = (url(&top), top.path().join("events"));
    let ctx = context(1);
    let stream = create(&url, options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), interval("w", 0, 0, 3))
        .await
        .unwrap();
    let row = Lease::new(first());
    let swapped = leases(&stream).await.swap(None, &row).await.unwrap();
    assert_eq!(swapped, Swap::Swapped);
    drop((stream, writer));
    take_home_away(&dir).await;

    let stream = open(&url, &ctx).await.unwrap();
    assert_eq!(leases(&stream).await.list().await.unwrap(), [row]);
    let writer = stream.writer().await.unwrap();
    let again = append(&writer, &first(), interval("w", 0, 0, 6)).await;
    assert_eq!(again.unwrap().duplicates, 3);
    assert_eq!(stored(&stream, &first()).await, [1, 2, 3, 4, 5, 6]);
    let children = stream.admin().split(&first(), None).await.unwrap();
    assert_eq!(manifest(&dir)["format"], 2);
    assert!(dir.join("shards").join(children[0].as_str()).is_dir());
    let mut reader = reader(&stream, &first(), Position::Begin).await;
    assert_eq!(read_all(&mut reader).await.len(), 6);
    let beside = ["_apps", "manifest.json", "manifest.lock", "shards"];
    assert_eq!(names(&dir), beside);

    delete(&url, &ctx).await.unwrap();
    assert_eq!(names(&dir), ["manifest.lock"]);
    let new = create(&url, options(1), &ctx).await.unwrap();
    assert_eq!(names(&dir).len(), 3);
    home(&RealDisk::new(), &dir).await;
    assert_eq!(stored(&new, &first()).await, [0; 0]);
}

/// A build that knows no homes would find an empty stream.
#[tokio::test]
async fn a_stream_with_a_home_says_so_by_its_format() {
    let top = tempfile::tempdir().unwrap();
    let (url, dir) = (url(&top), top.path().join("events"));
    let stream = create(&url, options(1), &context(1)).await.unwrap();
    assert_eq!(manifest(&dir)["format"], 3);
    stream.admin().split(&first(), None).await.unwrap();
    assert_eq!(manifest(&dir)["format"], 3);
    set_format(&dir, 4);
    let error = open(&url, &context(2)).await.unwrap_err();
    assert!(error.to_string().contains("reads 1 to 3"), "{error}");
}

/// A directory with something else in it: only what is named like a home can be left over from a stream.
#[tokio::test]
async fn a_creation_leaves_what_others_keep_in_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("events");
    let left = place.join("stream-0123456789ab/shards/000000");
    fs::create_dir_all(&left).unwrap();
    for name in [
        "shards",
        "_apps",
        "_generations",
        "_runs",
        "stream-of-things",
    ] {
        fs::create_dir_all(place.join(name)).unwrap();
        fs::write(place.join(name).join("notes.txt"), "mine").unwrap();
    }
    let stream = create(&url(&dir), options(1), &context(1)).await.unwrap();
    drop(stream);
    assert!(!left.exists());
    delete(&url(&dir), &context(2)).await.unwrap();
    for name in [
        "shards",
        "_apps",
        "_generations",
        "_runs",
        "stream-of-things",
    ] {
        let notes = fs::read_to_string(place.join(name).join("notes.txt"));
        assert_eq!(notes.unwrap(), "mine", "{name}");
    }
}
