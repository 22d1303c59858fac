//! A lake that another program wrote to, and a foreign system directory.

use std::fs;

use crate::lake;
use crate::test_dir::TestDir;

fn landed() -> TestDir {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.simulate("local:raw", 50, 1);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    place
}

#[test]
fn foreign_files_are_reported_by_verify_and_never_touched() {
    let place = landed();
    let ours = lake::files(&place.path("lake/events")).remove(0);
    let foreign = [
        ours.with_file_name("part-00000.parquet"),
        place.path("lake/events/part-00001.parquet"),
        place.path("lake/events/region=eu/README.txt"),
    ];
    for path in &foreign {
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::copy(&ours, path).expect("the file can be copied");
    }
    let before = fs::read(&ours).expect("the file reads");
    let names: Vec<String> = foreign
        .iter()
        .map(|path| {
            let path = path.strip_prefix(place.path("lake")).expect("in the lake");
            path.to_string_lossy().into_owned()
        })
        .collect();
    let check = |rows: u64| {
        let verified = place
            .verify("file:lake")
            .expect(1, &["failed verification: 3 problems, listed above"]);
        let report = verified.json();
        assert_eq!(
            (&report["ok"], &report["rows"]),
            (&false.into(), &rows.into()),
            "{report}"
        );
        let problems = report["problems"].as_array().expect("problems");
        let mut reported: Vec<&str> = problems
            .iter()
            .map(|problem| {
                assert_eq!(problem["kind"], "foreign", "{report}");
                problem["place"].as_str().expect("a place")
            })
            .collect();
        reported.sort_unstable();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(reported, names, "{report}");
    };
    check(50);
    place.simulate("local:raw", 30, 2);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    check(80);
    for path in &foreign {
        assert_eq!(
            fs::read(path).expect("the file reads"),
            before,
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_commit_record_of_a_newer_version_or_of_garbage_is_refused_and_nothing_is_written() {
    let place = landed();
    let chain = newest_commit(&place);
    let record = fs::read_to_string(&chain).expect("the record reads");
    place.simulate("local:raw", 10, 2);
    let rows = lake::files(&place.path("lake/events"));
    let cases = [
        ("garbage\n".to_owned(), "damaged"),
        (String::new(), "damaged"),
        (record.replace("\"rows\":", "\"rowz\":"), "checksum"),
        (newer(&record), "versions up to 1: upgrade"),
    ];
    for (content, word) in cases {
        fs::write(&chain, &content).expect("the record can be replaced");
        let name = chain
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let sink = place.sink("local:raw", "file:lake");
        let said = sink.err.to_lowercase();
        assert!(matches!(sink.code, Some(1 | 64)), "{content}: {sink:?}");
        assert!(
            said.contains(&name) && said.contains(word),
            "{content}: {sink:?}"
        );
        let verified = place.verify("file:lake");
        assert_eq!(verified.code, Some(1), "{content}: {verified:?}");
        assert_eq!(lake::files(&place.path("lake/events")), rows);
        assert_eq!(
            fs::read_to_string(&chain).expect("the record reads"),
            content
        );
    }
    // With the record restored, the sink continues as before.
    fs::write(&chain, record).expect("the record can be replaced");
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert_eq!(place.sound("file:lake")["rows"], 60);
}

/// The newest commit record of the only chain.
fn newest_commit(place: &TestDir) -> std::path::PathBuf {
    let mut todo = vec![place.path("lake/_hydrant/events/commits")];
    let mut records = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).expect("the directory reads") {
            let path = entry.expect("the directory reads").path();
            if path.is_dir() {
                todo.push(path);
            } else if path.parent().is_some_and(|dir| dir.ends_with("r"))
                && path
                    .extension()
                    .is_some_and(|extension| extension == "json")
            {
                records.push(path);
            }
        }
    }
    records.sort();
    records.remove(0)
}

/// The record as a later release would write it, with a valid checksum.
fn newer(record: &str) -> String {
    let object = record.replacen("{\"version\":1", "{\"version\":99", 1);
    let end = object.rfind(",\"crc\":").expect("a checksum");
    let body = format!("{}}}", &object[..end]);
    let crc = crc32c(body.as_bytes());
    format!("{},\"crc\":\"{crc:08x}\"}}\n", &object[..end])
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn a_system_directory_that_is_a_file_is_refused() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.simulate("local:raw", 5, 1);
    place.write("lake/_hydrant", "mine");
    let sink = place.sink("local:raw", "file:lake");
    assert!(matches!(sink.code, Some(1 | 64)), "{sink:?}");
    assert!(sink.err.contains("_hydrant"), "{sink:?}");
    assert_eq!(place.read("lake/_hydrant"), "mine");
    // A file in place of the lake.
    place.write("file", "mine");
    let sink = place.sink("local:raw", "file:file");
    assert!(matches!(sink.code, Some(1 | 64)), "{sink:?}");
    assert!(sink.err.contains("file"), "{sink:?}");
    assert_eq!(place.read("file"), "mine");
}

#[test]
fn a_schema_of_garbage_is_refused_by_name() {
    let place = landed();
    let schema = "lake/_hydrant/events/schema/1.json";
    let content = place.read(schema);
    place.write(schema, "garbage");
    place.simulate("local:raw", 5, 2);
    let sink = place.sink("local:raw", "file:lake");
    assert!(matches!(sink.code, Some(1 | 64)), "{sink:?}");
    assert!(sink.err.contains("schema/1.json"), "{sink:?}");
    place.write(schema, content);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert_eq!(place.sound("file:lake")["rows"], 55);
}

#[test]
fn a_lake_that_does_not_exist_is_not_sound() {
    let place = TestDir::new();
    let verified = place.verify("file:absent");
    verified.expect(64, &["absent"]);
    let place = landed();
    let args = ["lake", "verify", "file:lake", "--table", "absent"];
    let verified = place.run("hydrant", &args);
    assert!(matches!(verified.code, Some(1 | 64)), "{verified:?}");
    assert!(verified.err.contains("absent"), "{verified:?}");
}
