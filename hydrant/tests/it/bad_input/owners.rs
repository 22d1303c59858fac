//! Workers that own the same shards, and a policy that changes under an app.

use crate::test_dir::TestDir;

/// Two sinks that share no lease: each owns every shard all the time.
#[test]
fn sinks_that_both_own_every_shard_land_each_record_once() {
    own_together(&["--app", "a"], &["--app", "b"]);
}

/// Two sinks of one app and one name.
#[test]
fn sinks_of_one_identity_land_each_record_once() {
    own_together(&[], &[]);
}

fn own_together(first: &[&str], second: &[&str]) {
    const RECORDS: u64 = 3_000;
    let place = TestDir::new();
    place.create("local:raw", 2);
    let sink = [
        "--from",
        "local:raw",
        "--to",
        "file:lake",
        "--flush-interval",
        "20ms",
    ];
    let mut producer = place.start(
        "hydrant-producer",
        &[
            "--to",
            "local:raw",
            "--simulate",
            "3000",
            "--rate",
            "3000",
            "--malformed",
            "0",
        ],
        "producer.log",
    );
    let mut sinks = [
        place.start("hydrant-sink", &[&sink, first].concat(), "first.log"),
        place.start("hydrant-sink", &[&sink, second].concat(), "second.log"),
    ];
    assert_eq!(
        place.wait_for_end(&mut producer),
        Some(0),
        "{}",
        place.logs()
    );
    place.wait_until("all rows", || {
        place.integers("lake", "index").len() as u64 >= RECORDS
    });
    for sink in &mut sinks {
        assert_eq!(sink.ended(), None, "{}", place.logs());
        assert_eq!(sink.terminate(), Some(0), "{}", place.logs());
    }
    let wanted: Vec<i64> = (0..RECORDS as i64).collect();
    assert_eq!(place.integers("lake", "index"), wanted);
    assert_eq!(place.sound("file:lake")["rows"], RECORDS);
    crate::test_dir::assert_no_panic(&place.logs());
}

const OTHER: &str = "[policy]\nname = \"other\"\n[[rule]]\nclass = \"email\"\naction = \"label\"\nlabel = \"[GONE]\"\n";

/// Sends a record with an e-mail address and waits for it in the clean stream.
fn feed(place: &TestDir, n: u64) {
    place.put(
        "local:raw",
        &[&format!(r#"{{"n":{n},"mail":"x@example.com"}}"#)],
    );
}

fn clean(place: &TestDir) -> String {
    let args = [
        "stream",
        "tail",
        "local:clean",
        "--start",
        "earliest",
        "--exit-at-end",
    ];
    place.run("hydrant", &args).expect(0, &[]).out
}

#[test]
fn a_policy_changes_after_a_clean_stop_and_is_refused_after_a_death() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.create("local:clean", 1);
    place.write("other.toml", OTHER);
    let strict = ["--from", "local:raw", "--to", "local:clean"];
    let other = [&strict[..], &["--policy", "other.toml"]].concat();
    let to_the_end = ["--exit-at-end", "--idle", "50ms"];

    feed(&place, 1);
    let mut worker = place.start("hydrant-transform", &strict, "strict.log");
    place.wait_until("the record", || clean(&place).contains("[EMAIL]"));
    worker.kill();

    // Without records, the run might end before it opens the shard.
    feed(&place, 2);
    let refused = place.run("hydrant-transform", &[&other[..], &to_the_end].concat());
    let refused = refused.expect(
        64,
        &[
            "app `hydrant-transform`",
            "shard `000000`",
            "did not stop cleanly",
            "former rules",
        ],
    );
    assert!(refused.err.contains("SIGTERM"), "{refused:?}");
    assert!(!clean(&place).contains("[GONE]"));

    // As the refusal says: run once more with the former policy to a clean stop; then the new policy continues from
    // there.
    place
        .run("hydrant-transform", &[&strict[..], &to_the_end].concat())
        .expect(0, &[]);
    feed(&place, 3);
    place
        .run("hydrant-transform", &[&other[..], &to_the_end].concat())
        .expect(0, &[]);
    let text = clean(&place);
    let mut found: Vec<(&str, bool)> = ["\\\"n\\\":1", "\\\"n\\\":2", "\\\"n\\\":3"]
        .into_iter()
        .map(|n| {
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| line.replace('\\', "").contains(&n.replace('\\', "")))
                .collect();
            assert_eq!(lines.len(), 1, "{n}: {text}");
            (n, lines[0].contains("[GONE]"))
        })
        .collect();
    found.sort_unstable();
    let gone: Vec<bool> = found.iter().map(|(_, gone)| *gone).collect();
    assert_eq!(gone, [false, false, true], "{text}");
    assert!(!text.contains("x@example.com"), "{text}");
}

/// While a worker lives, a worker with another policy gets no shard with unconfirmed output: each record comes out
/// once, under one policy or the other.
#[test]
fn two_policies_on_one_app_at_once_neither_lose_nor_double() {
    let place = TestDir::new();
    place.create("local:raw", 2);
    place.create("local:clean", 2);
    place.write("other.toml", OTHER);
    let strict = ["--from", "local:raw", "--to", "local:clean"];
    let other = [&strict[..], &["--policy", "other.toml"]].concat();
    place.simulate("local:raw", 500, 1);
    let mut first = place.start("hydrant-transform", &strict, "first.log");
    place.wait_until("a first record", || {
        place
            .stored("local:clean")
            .iter()
            .any(|records| *records != 0)
    });
    let mut second = place.start("hydrant-transform", &other, "second.log");
    place.simulate("local:raw", 500, 2);
    place.wait_until("all records", || {
        place.stored("local:clean").iter().sum::<u64>() >= 1_000
    });
    assert_eq!(first.terminate(), Some(0), "{}", place.logs());
    let code = second.ended().unwrap_or_else(|| second.terminate());
    assert!(matches!(code, Some(0 | 64)), "{}", place.logs());
    place.sink("local:clean", "file:lake").expect(0, &[]);
    let verified = place.sound("file:lake");
    assert_eq!(verified["rows"], 1_000, "{verified}");
    let mut twice: Vec<i64> = (0..500).chain(0..500).collect();
    twice.sort_unstable();
    assert_eq!(place.integers("lake", "index"), twice);
}
