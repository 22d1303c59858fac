//! What every [`Lake`] promises.
//!
//! [`conforms`] panics where an implementation does not keep it. `make` answers an empty lake each time.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::must;
use hydrant_core::error::Disposition;
use hydrant_core::lake::{Lake, Object, Put, Reveal, Sealed, SharedLake};

/// Writers that race for one key.
const RACERS: usize = 16;

/// Tries everything.
pub async fn conforms(make: impl AsyncFn() -> SharedLake) {
    objects_are_put_once(&*make().await).await;
    a_race_has_one_winner_and_all_read_its_body(&make().await).await;
    uploaded_bytes_are_invisible_until_revealed_once(&*make().await).await;
    a_revealed_file_is_never_replaced(&*make().await).await;
    what_was_discarded_vanishes(&*make().await).await;
    an_upload_that_was_discarded_asks_for_another(&*make().await).await;
    uploads_of_one_key_are_apart(&*make().await).await;
    lists_are_sorted_and_limited(&*make().await).await;
    ranges_are_parts_of_objects(&*make().await).await;
    a_dropped_upload_shows_nothing(&*make().await).await;
    deleted_objects_are_gone(&*make().await).await;
}

fn text(body: &str) -> Bytes {
    Bytes::copy_from_slice(body.as_bytes())
}

async fn put(lake: &dyn Lake, key: &str, body: &str) -> Put {
    must(lake.put_new(key, text(body)).await, "put a new object")
}

async fn seal(lake: &dyn Lake, key: &str, parts: &[&str]) -> Sealed {
    let mut upload = must(lake.upload(key).await, "start an upload");
    for part in parts {
        must(upload.write(text(part)).await, "write to an upload");
    }
    must(upload.seal().await, "seal an upload")
}

async fn reveal(lake: &dyn Lake, sealed: &Sealed) -> Reveal {
    must(lake.reveal(sealed).await, "reveal a file")
}

async fn body(lake: &dyn Lake, key: &str) -> Option<Bytes> {
    must(lake.get(key).await, "get an object")
}

async fn keys(lake: &dyn Lake, prefix: &str, most: Option<usize>) -> Vec<String> {
    let listing = match most {
        None => lake.list(prefix).await,
        Some(most) => lake.page(prefix, "", most).await,
    };
    let objects = must(listing, "list objects");
    objects.into_iter().map(|object| object.key).collect()
}

/// A key is taken by the first body, and the second writer learns it.
pub async fn objects_are_put_once(lake: &dyn Lake) {
    assert!(!lake.url().is_empty());
    assert_eq!(body(lake, "a/b/slot").await, None);
    assert_eq!(put(lake, "a/b/slot", "first").await, Put::Created);
    assert_eq!(
        put(lake, "a/b/slot", "second").await,
        Put::Exists(text("first"))
    );
    assert_eq!(
        put(lake, "a/b/slot", "first").await,
        Put::Exists(text("first"))
    );
    assert_eq!(body(lake, "a/b/slot").await, Some(text("first")));
    assert_eq!(put(lake, "a/empty", "").await, Put::Created);
    assert_eq!(body(lake, "a/empty").await, Some(Bytes::new()));
}

/// Of many writers at once one wins, and the losers read what it wrote.
pub async fn a_race_has_one_winner_and_all_read_its_body(lake: &SharedLake) {
    for round in 0..8 {
        let key = format!("race/{round}");
        let racers = (0..RACERS).map(|n| {
            let key = &key;
            async move { put(&**lake, key, &format!("racer {n}")).await }
        });
        let answers = futures::future::join_all(racers).await;
        let winners: Vec<usize> = (0..RACERS)
            .filter(|n| answers[*n] == Put::Created)
            .collect();
        let [winner] = winners.as_slice() else {
            panic!("`{key}` was created {} times", winners.len());
        };
        let wanted = text(&format!("racer {winner}"));
        for answer in &answers {
            assert!(
                *answer == Put::Created || *answer == Put::Exists(wanted.clone()),
                "{answer:?}"
            );
        }
        assert_eq!(body(&**lake, &key).await, Some(wanted));
    }
    assert_eq!(
        keys(&**lake, "race/", None).await.len(),
        8,
        "temporaries are left over"
    );
}

/// A file is invisible until it is revealed, visible afterwards, and a second reveal finds it done.
pub async fn uploaded_bytes_are_invisible_until_revealed_once(lake: &dyn Lake) {
    let sealed = seal(lake, "t/date=2026-01-01/f.parquet", &["some ", "", "bytes"]).await;
    assert_eq!(sealed.key, "t/date=2026-01-01/f.parquet");
    assert_eq!(
        (sealed.size, sealed.crc),
        (10, crc32c::crc32c(b"some bytes"))
    );
    assert_eq!(body(lake, &sealed.key).await, None);
    assert!(keys(lake, "t/", None).await.is_empty());
    let uploads = must(lake.list_uploads().await, "list uploads");
    assert_eq!(uploads, [(sealed.upload.clone(), sealed.key.clone())]);
    assert_eq!(reveal(lake, &sealed).await, Reveal::Revealed);
    assert_eq!(body(lake, &sealed.key).await, Some(text("some bytes")));
    assert_eq!(reveal(lake, &sealed).await, Reveal::Already);
    assert_eq!(keys(lake, "t/", None).await, [sealed.key.as_str()]);
    assert!(must(lake.list_uploads().await, "list uploads").is_empty());
    must(
        lake.discard(&sealed.upload).await,
        "discard what was revealed",
    );
    assert_eq!(body(lake, &sealed.key).await, Some(text("some bytes")));
    let empty = seal(lake, "t/empty", &[]).await;
    assert_eq!(reveal(lake, &empty).await, Reveal::Revealed);
    assert_eq!(body(lake, "t/empty").await, Some(Bytes::new()));
    must(lake.delete(&sealed.key).await, "delete an object");
    assert_eq!(
        reveal(lake, &sealed).await,
        Reveal::Vanished,
        "an upload was used twice"
    );
}

/// A second file for a key is an alarm when it differs and done when it is the same; the first one stays.
pub async fn a_revealed_file_is_never_replaced(lake: &dyn Lake) {
    let first = seal(lake, "t/f", &["one"]).await;
    let same = seal(lake, "t/f", &["one"]).await;
    let other = seal(lake, "t/f", &["two"]).await;
    assert_eq!(reveal(lake, &first).await, Reveal::Revealed);
    assert_eq!(reveal(lake, &same).await, Reveal::Already);
    match lake.reveal(&other).await {
        Err(error) => assert_eq!(error.disposition(), Disposition::Fatal, "{error}"),
        Ok(answer) => panic!("another file under a taken key was {answer:?}"),
    }
    assert_eq!(body(lake, "t/f").await, Some(text("one")));
}

/// A discarded upload cannot be revealed; discarding twice is not an error.
pub async fn what_was_discarded_vanishes(lake: &dyn Lake) {
    let sealed = seal(lake, "t/f", &["x"]).await;
    for _ in 0..2 {
        must(lake.discard(&sealed.upload).await, "discard an upload");
    }
    assert_eq!(reveal(lake, &sealed).await, Reveal::Vanished);
    assert_eq!(body(lake, "t/f").await, None);
    assert!(must(lake.list_uploads().await, "list uploads").is_empty());
    let unsealed = must(lake.upload("t/g").await, "start an upload");
    let uploads = must(lake.list_uploads().await, "list uploads");
    for (upload, key) in uploads {
        assert_eq!(key, "t/g");
        must(lake.discard(&upload).await, "discard an unsealed upload");
    }
    drop(unsealed);
    must(lake.tidy("t/").await, "tidy where nothing was left");
    assert!(must(lake.list_uploads().await, "list uploads").is_empty());
}

/// What writes to an upload that was discarded meanwhile learns at the latest from the reveal that it is gone, and that a
/// new one may succeed.
pub async fn an_upload_that_was_discarded_asks_for_another(lake: &dyn Lake) {
    let mut upload = must(lake.upload("t/f").await, "start an upload");
    must(upload.write(text("x")).await, "write to an upload");
    must(lake.discard(upload.id()).await, "discard an upload");
    let sealed = match upload.write(text("y")).await {
        Ok(()) => upload.seal().await,
        Err(error) => Err(error),
    };
    match sealed {
        Ok(sealed) => assert_eq!(reveal(lake, &sealed).await, Reveal::Vanished),
        Err(error) => {
            let disposition = error.disposition();
            assert!(matches!(disposition, Disposition::Retry { .. }), "{error}");
        }
    }
    let again = seal(lake, "t/f", &["z"]).await;
    assert_eq!(reveal(lake, &again).await, Reveal::Revealed);
}

/// Two workers that upload the same key do not write into each other's file.
pub async fn uploads_of_one_key_are_apart(lake: &dyn Lake) {
    let mut a = must(lake.upload("t/f").await, "start an upload");
    let mut b = must(lake.upload("t/f").await, "start an upload");
    for _ in 0..3 {
        must(a.write(text("a")).await, "write to an upload");
        must(b.write(text("b")).await, "write to an upload");
    }
    let (a, b) = (must(a.seal().await, "seal"), must(b.seal().await, "seal"));
    assert_ne!(a.upload, b.upload);
    assert_eq!(reveal(lake, &b).await, Reveal::Revealed);
    assert_eq!(body(lake, "t/f").await, Some(text("bbb")));
    must(lake.discard(&a.upload).await, "discard an upload");
}

/// Lists are in byte order of whole keys, across "directories", and end at the limit.
pub async fn lists_are_sorted_and_limited(lake: &dyn Lake) {
    let all = [
        "x/a-b", "x/a.c", "x/a/1", "x/a/2", "x/a0", "x/b/c/d", "x/b/e", "y/1", "xx",
    ];
    for key in all {
        assert_eq!(put(lake, key, key).await, Put::Created);
    }
    let hidden = seal(lake, "x/0", &["hidden"]).await;
    let sorted: BTreeSet<&str> = all
        .into_iter()
        .filter(|key| key.starts_with("x/"))
        .collect();
    let sorted: Vec<&str> = sorted.into_iter().collect();
    assert_eq!(keys(lake, "x/", None).await, sorted);
    for limit in [1, 3, 100] {
        let wanted = &sorted[..limit.min(sorted.len())];
        assert_eq!(keys(lake, "x/", Some(limit)).await, wanted);
    }
    // Page by page everything comes once, in order, also after keys that are gone or never were.
    for most in [1, 2, 100] {
        let (mut paged, mut after) = (Vec::new(), String::new());
        loop {
            let page = must(lake.page("x/", &after, most).await, "list a page");
            let Some(last) = page.last() else {
                break;
            };
            after.clone_from(&last.key);
            assert!(page.len() <= most);
            paged.extend(page.into_iter().map(|object| object.key));
            assert!(paged.len() <= sorted.len(), "an object came twice");
        }
        assert_eq!(paged, sorted, "{most} a page");
    }
    let page = must(lake.page("x/", "x/a/10", 2).await, "list a page");
    let page: Vec<String> = page.into_iter().map(|object| object.key).collect();
    assert_eq!(page, ["x/a/2", "x/a0"]);
    assert_eq!(keys(lake, "x/a/", None).await, ["x/a/1", "x/a/2"]);
    assert_eq!(
        keys(lake, "x/a", None).await,
        ["x/a-b", "x/a.c", "x/a/1", "x/a/2", "x/a0"]
    );
    assert!(keys(lake, "z/", None).await.is_empty());
    let sizes = must(lake.list("x/b/c/").await, "list objects");
    assert_eq!(sizes[0].size, "x/b/c/d".len() as u64);
    let mut visited = Vec::new();
    let mut seen = |object: Object| visited.push((object.key, object.size));
    must(lake.visit("x/", &mut seen).await, "visit objects");
    visited.sort();
    let wanted: Vec<(String, u64)> = sorted
        .iter()
        .map(|key| ((*key).to_owned(), key.len() as u64))
        .collect();
    assert_eq!(visited, wanted);
    for (key, wanted) in [("x/a.c", Some(5)), ("x/a", None), ("x/0", None)] {
        assert_eq!(
            must(lake.head(key).await, "look at an object").map(|object| object.size),
            wanted,
            "{key}"
        );
    }
    assert_eq!(
        must(lake.list_dirs("x/").await, "list directories"),
        ["a", "b"]
    );
    assert!(must(lake.list_dirs("none/").await, "list directories").is_empty());
    must(lake.discard(&hidden.upload).await, "discard an upload");
}

/// A range is what lies in it, and ends with the object.
pub async fn ranges_are_parts_of_objects(lake: &dyn Lake) {
    assert_eq!(put(lake, "a/f", "0123456789").await, Put::Created);
    for (range, wanted) in [
        (0..10, "0123456789"),
        (3..5, "34"),
        (8..99, "89"),
        (4..4, ""),
        (10..12, ""),
    ] {
        let found = must(lake.get_range("a/f", range.clone()).await, "get a range");
        assert_eq!(found, Some(text(wanted)), "{range:?}");
    }
    let none = must(lake.get_range("a/g", 0..1).await, "get a range of nothing");
    assert_eq!(none, None);
}

/// An upload that is dropped before it is sealed shows nothing, and is listed or gone.
pub async fn a_dropped_upload_shows_nothing(lake: &dyn Lake) {
    let mut upload = must(lake.upload("t/f").await, "start an upload");
    must(upload.write(text("x")).await, "write to an upload");
    let id = upload.id().to_owned();
    drop(upload);
    assert_eq!(body(lake, "t/f").await, None);
    let left = must(lake.list_uploads().await, "list uploads");
    assert!(left.is_empty() || left == [(id.clone(), "t/f".to_owned())]);
    must(lake.discard(&id).await, "discard an upload");
    assert!(must(lake.list_uploads().await, "list uploads").is_empty());
}

/// A deleted object is gone, and its key is free again.
pub async fn deleted_objects_are_gone(lake: &dyn Lake) {
    assert_eq!(put(lake, "a/f", "1").await, Put::Created);
    for _ in 0..2 {
        must(lake.delete("a/f").await, "delete an object");
    }
    assert_eq!(body(lake, "a/f").await, None);
    assert!(keys(lake, "a/", None).await.is_empty());
    assert_eq!(put(lake, "a/f", "2").await, Put::Created);
    assert_eq!(put(lake, "a/g", "3").await, Put::Created);
    let many = ["a/f", "a/none", "a/g"].map(str::to_owned);
    must(lake.delete_many(&many).await, "delete objects");
    assert!(keys(lake, "a/", None).await.is_empty());
}
