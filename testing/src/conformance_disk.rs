//! Checks what every [`Disk`] promises while nothing fails: the simulated one must behave as the kernel does.
//!
//! [`conforms`] panics where an implementation breaks a promise. It does not cut the power.

use std::io::{self, ErrorKind};
use std::path::Path;

use bytes::Bytes;

use hydrant_core::disk::{Disk, LockKind, Open, read_file, replace_file};

/// Checks all promises in the directory `root`, which it creates; `one` and `two` are the disk as two processes see it.
pub async fn conforms(one: &dyn Disk, two: &dyn Disk, root: &Path) {
    for name in ["files", "names", "locks", "watches"] {
        let dir = root.join(name);
        must(one.create_dir_all(&dir).await, "make a directory");
        must(one.create_dir_all(&dir).await, "make a directory again");
        match name {
            "files" => files_hold_what_was_written(one, two, &dir).await,
            "names" => names_are_taken_once(one, two, &dir).await,
            "locks" => locks_exclude_until_they_are_dropped(one, two, &dir).await,
            _ => watches_report_changes(one, two, &dir).await,
        }
    }
}

#[track_caller]
fn must<T>(result: io::Result<T>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("cannot {what}: {error}"),
    }
}

#[track_caller]
fn refused<T>(result: io::Result<T>, wanted: ErrorKind) {
    match result {
        Ok(_) => panic!("expected {wanted}"),
        Err(error) => assert_eq!(error.kind(), wanted, "{error}"),
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Checks reads, writes, lengths and holes.
pub async fn files_hold_what_was_written(one: &dyn Disk, two: &dyn Disk, dir: &Path) {
    let path = dir.join("f");
    refused(
        one.open(&dir.join("none/f"), Open::Create).await,
        ErrorKind::NotFound,
    );
    refused(one.open(&path, Open::Read).await, ErrorKind::NotFound);
    refused(one.open(&path, Open::Write).await, ErrorKind::NotFound);
    let file = must(one.open(&path, Open::CreateNew).await, "make a file");
    refused(
        two.open(&path, Open::CreateNew).await,
        ErrorKind::AlreadyExists,
    );
    let parts = vec![bytes("ab"), bytes(""), bytes("c")];
    must(file.write_at(2, parts).await, "write");
    let other = must(two.open(&path, Open::Read).await, "open");
    assert_eq!(must(other.read_at(1, 100).await, "read"), "\0abc");
    assert_eq!(must(other.read_at(3, 1).await, "read"), "b");
    assert_eq!(must(other.read_at(100, 1).await, "read after the end"), "");
    assert!(
        other.write_at(0, vec![bytes("x")]).await.is_err(),
        "written to a file opened to read"
    );
    must(file.truncate(3).await, "cut");
    assert_eq!(must(other.len().await, "ask for the length"), 3);
    must(file.truncate(5).await, "lengthen");
    assert_eq!(must(other.read_at(0, 9).await, "read"), "\0\0a\0\0");
    must(file.sync().await, "sync");
    let again = must(two.open(&path, Open::Create).await, "open what exists");
    assert_eq!(must(again.len().await, "ask for the length"), 5);
    must(two.remove(&path).await, "remove");
    assert_eq!(
        must(other.read_at(2, 1).await, "read what has no name"),
        "a"
    );
    assert_eq!(must(read_file(one, &path).await, "read a file"), None);
}

/// Checks links, renames, removals, directories and lists.
pub async fn names_are_taken_once(one: &dyn Disk, two: &dyn Disk, dir: &Path) {
    let (f, g, sub) = (dir.join("f"), dir.join("g"), dir.join("sub"));
    let body = async |path| must(read_file(two, path).await, "read a file");
    must(
        replace_file(one, &f, bytes("one"), "1").await,
        "replace what does not exist",
    );
    must(one.link_new(&f, &g).await, "link");
    refused(two.link_new(&f, &g).await, ErrorKind::AlreadyExists);
    let identity = async |path| must(two.stat(path).await, "stat").map(|stat| stat.identity);
    assert_eq!(identity(&f).await, identity(&g).await);
    assert!(identity(&f).await.is_some());
    must(replace_file(one, &f, bytes("two"), "1").await, "replace");
    assert_eq!(
        (body(&f).await, body(&g).await),
        (Some(bytes("two")), Some(bytes("one")))
    );
    refused(one.rename_new(&f, &g).await, ErrorKind::AlreadyExists);
    assert_eq!(body(&g).await, Some(bytes("one")));
    must(one.rename(&f, &g).await, "rename");
    assert_eq!((body(&f).await, body(&g).await), (None, Some(bytes("two"))));
    refused(one.rename(&f, &g).await, ErrorKind::NotFound);
    refused(one.remove(&f).await, ErrorKind::NotFound);
    refused(one.link_new(&f, &sub).await, ErrorKind::NotFound);
    must(replace_file(one, &f, bytes("1"), "1").await, "make a file");
    refused(two.link_new(&g, &f).await, ErrorKind::AlreadyExists);
    assert_eq!(body(&f).await, Some(bytes("1")));
    must(one.create_dir_all(&sub).await, "make a directory");
    must(
        one.rename_new(&f, &sub.join("f")).await,
        "rename to another directory",
    );
    must(one.sync_dir(&sub).await, "sync a directory");
    refused(one.remove_dir(&sub).await, ErrorKind::DirectoryNotEmpty);
    let listed = must(two.list(dir).await, "list");
    let listed: Vec<_> = listed
        .iter()
        .map(|one| (one.name.as_str(), one.is_dir))
        .collect();
    assert_eq!(listed, [("g", false), ("sub", true)]);
    let listed = must(two.list(&sub).await, "list");
    assert_eq!((listed.len(), listed[0].len), (1, 1));
    for (after, most, names) in [
        ("", 1, &["g"][..]),
        ("", 2, &["g", "sub"]),
        ("f", 9, &["g", "sub"]),
        ("g", 9, &["sub"]),
        ("sub", 9, &[]),
    ] {
        let first = must(two.first(dir, after, most).await, "list the first");
        let first: Vec<_> = first.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(first, names);
    }
    assert!(must(two.stat(&sub).await, "stat").is_some_and(|stat| stat.is_dir));
    must(one.remove(&sub.join("f")).await, "remove");
    must(one.remove_dir(&sub).await, "remove a directory");
    assert_eq!(must(two.stat(&sub).await, "stat what is gone"), None);
    refused(two.list(&sub).await, ErrorKind::NotFound);
}

/// Checks that exclusive locks exclude all others, that shared ones exclude exclusive ones, and that dropping releases
/// at once.
pub async fn locks_exclude_until_they_are_dropped(one: &dyn Disk, two: &dyn Disk, dir: &Path) {
    let path = dir.join("lock");
    let free =
        async |disk: &dyn Disk, kind| must(disk.try_lock(&path, kind).await, "lock").is_some();
    let held = must(one.lock(&path, LockKind::Exclusive).await, "lock");
    for disk in [one, two] {
        assert!(!free(disk, LockKind::Exclusive).await && !free(disk, LockKind::Shared).await);
    }
    drop(held);
    let shared = must(one.lock(&path, LockKind::Shared).await, "lock");
    assert!(free(two, LockKind::Shared).await && !free(two, LockKind::Exclusive).await);
    let (waited, ()) = tokio::join!(two.lock(&path, LockKind::Exclusive), async {
        tokio::task::yield_now().await;
        drop(shared);
    });
    let held = must(waited, "wait for a lock");
    assert!(!free(one, LockKind::Shared).await);
    drop(held);
    assert!(free(one, LockKind::Exclusive).await);
}

/// Checks that a watch reports a change before the call and one during it.
pub async fn watches_report_changes(one: &dyn Disk, two: &dyn Disk, dir: &Path) {
    let (path, renamed) = (dir.join("f"), dir.join("g"));
    refused(two.watch(&path).await.map(drop), ErrorKind::NotFound);
    let file = must(one.open(&path, Open::Create).await, "make a file");
    let mut of_file = must(two.watch(&path).await, "watch a file");
    let mut of_dir = must(two.watch(dir).await, "watch a directory");
    must(file.write_at(0, vec![bytes("x")]).await, "write");
    of_file.changed().await;
    of_dir.changed().await;
    let (_, written) = tokio::join!(of_file.changed(), file.write_at(0, vec![bytes("y")]));
    must(written, "write");
    let (_, answer) = tokio::join!(of_dir.changed(), one.rename(&path, &renamed));
    must(answer, "rename");
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydrant_core::disk::real::RealDisk;

    #[tokio::test]
    async fn the_real_disk_conforms() {
        let dir = tempfile::tempdir().unwrap();
        conforms(&RealDisk::new(), &RealDisk::new(), &dir.path().join("a/b")).await;
    }
}
