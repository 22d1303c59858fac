//! A stream that is deleted and created again under its name.

use crate::test_dir::TestDir;

const GONE: &[&str] = &["was deleted", "restart this process"];

#[test]
fn the_new_stream_is_another_chain_and_none_of_its_records_is_skipped() {
    let place = TestDir::new();
    place.create("local:raw", 2);
    place.simulate("local:raw", 300, 1);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let delete = ["stream", "delete", "local:raw", "--yes"];
    place.run("hydrant", &delete).expect(0, &[]);
    // Fewer records than before: a position of the old stream would lie behind all of them.
    place.create("local:raw", 2);
    place.simulate("local:raw", 100, 2);
    place.sink("local:raw", "file:lake").expect(0, &[]);

    let verified = place.sound("file:lake");
    assert_eq!(verified["rows"], 400, "{verified}");
    let mut chains: Vec<(&str, u64)> = Vec::new();
    for chain in verified["chains"].as_array().expect("chains") {
        let stream = chain["stream"].as_str().expect("a stream");
        let rows = chain["rows"].as_u64().expect("rows");
        match chains.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, known)) => *known += rows,
            None => chains.push((stream, rows)),
        }
    }
    let mut rows: Vec<u64> = chains.iter().map(|(_, rows)| *rows).collect();
    rows.sort_unstable();
    assert_eq!(rows, [100, 300], "{chains:?}");
    // Another run finds nothing to do, in the new chain or the old one.
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert_eq!(place.sound("file:lake")["rows"], 400);
}

#[test]
fn running_readers_and_writers_end_with_a_clear_error() {
    let place = TestDir::new();
    place.create("local:raw", 2);
    place.create("local:clean", 2);
    let mut producer = place.start(
        "hydrant-producer",
        &["--to", "local:raw", "--simulate", "0", "--rate", "200"],
        "producer.log",
    );
    let mut transform = place.start(
        "hydrant-transform",
        &["--from", "local:raw", "--to", "local:clean"],
        "transform.log",
    );
    let mut sink = place.start(
        "hydrant-sink",
        &[
            "--from",
            "local:raw",
            "--to",
            "file:lake",
            "--flush-interval",
            "50ms",
        ],
        "sink.log",
    );
    place.wait_until("rows", || !place.rows("lake").is_empty());
    place.wait_until("clean records", || {
        place
            .stored("local:clean")
            .iter()
            .any(|records| *records != 0)
    });
    let delete = ["stream", "delete", "local:raw", "--yes"];
    place.run("hydrant", &delete).expect(0, &[]);
    place.create("local:raw", 2);
    for (process, log) in [
        (&mut producer, "producer.log"),
        (&mut transform, "transform.log"),
        (&mut sink, "sink.log"),
    ] {
        assert_eq!(place.wait_for_end(process), Some(1), "{}", place.logs());
        let said = place.read(log);
        crate::test_dir::assert_no_panic(&said);
        let last = said.lines().last().expect("a message");
        assert!(last.starts_with("error: "), "{said}");
        // The reason is logged with its shard when it occurs.
        for word in GONE {
            assert!(said.contains(word), "{said}");
        }
    }
    place.sound("file:lake");
}
