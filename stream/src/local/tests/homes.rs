//! What a stream holds lies in a home of its own, and its directory may hold what is of others.

use std::fs;
use std::path::Path;

use hydrant_core::Error;

use super::fixture::*;
use crate::Streams;

fn set_format(dir: &Path, format: u64) {
    let mut manifest = manifest(dir);
    manifest["format"] = format.into();
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
}

fn manifest(dir: &Path) -> serde_json::Value {
    let text = fs::read(dir.join("manifest.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test]
async fn a_stream_of_another_format_is_refused() {
    let top = tempfile::tempdir().unwrap();
    let (url, dir) = (url(&top), top.path().join("events"));
    let stream = create(&url, options(1), &context(1)).await.unwrap();
    assert_eq!(manifest(&dir)["format"], 3);
    stream.admin().split(&first(), None).await.unwrap();
    assert_eq!(manifest(&dir)["format"], 3);
    for format in [2, 4] {
        set_format(&dir, format);
        let error = open(&url, &context(2)).await.unwrap_err();
        assert!(error.to_string().contains("reads 3"), "{error}");
    }
}

/// The manifest of a stream is gone, or comes last when a stream is put back: only an operator removes what it held, and
/// what a deletion that died has left.
#[tokio::test]
async fn no_creation_removes_the_records_of_a_stream_that_lost_its_manifest() {
    let top = tempfile::tempdir().unwrap();
    let (url, dir) = (url(&top), top.path().join("events"));
    let stream = create(&url, options(1), &context(1)).await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), plain(&[1, 2])).await.unwrap();
    drop((writer, stream));
    let manifest = fs::read(dir.join("manifest.json")).unwrap();
    fs::remove_file(dir.join("manifest.json")).unwrap();
    let streams = Streams::default();
    for n in 0..2 {
        let made = match n {
            0 => streams.create(&url, 1, &[], &context(2)).await,
            _ => streams.open_or_create(&url, 1, &context(2)).await,
        };
        let error = made.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        let remedy = format!("hydrant stream delete --yes {url}");
        assert!(error.to_string().contains(&remedy), "{error}");
    }
    fs::write(dir.join("manifest.json"), manifest).unwrap();
    let stream = open(&url, &context(3)).await.unwrap();
    assert_eq!(stored(&stream, &first()).await, [1, 2]);
    drop(stream);
    fs::remove_file(dir.join("manifest.json")).unwrap();
    delete(&url, &context(4)).await.unwrap();
    let stream = create(&url, options(1), &context(5)).await.unwrap();
    assert!(stored(&stream, &first()).await.is_empty());
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
