//! Wrong flags, files, policies and streams: refused with exit code 64, all mistakes at once, and nothing is done.

use crate::test_dir::TestDir;

#[test]
fn all_mistakes_of_a_file_are_reported_at_once_with_line_and_suggestion() {
    let place = TestDir::new();
    place.write(
        "hydrant.toml",
        "[sink]\nform = \"local:raw\"\nflush-intervall = \"5s\"\nflush-bytes = \"many\"\n[transform]\npolcy = \"x\"\n[sinc]\nto = \"a\"\n",
    );
    let mistakes = [
        "line 7: unknown table `[sinc]`: did you mean `[sink]`?",
        "(line 2): unknown key `form`: did you mean `from`?",
        "(line 3): unknown key `flush-intervall`: did you mean `flush-interval`?",
        "(line 4): `many` is not a number of bytes: write for example `128MiB`",
    ];
    let sink = place.run("hydrant-sink", &["--config", "hydrant.toml"]);
    let sink = sink.expect(64, &mistakes);
    assert!(
        sink.err.contains("problems in the configuration"),
        "{}",
        sink.err
    );
    assert!(sink.err.contains("[sink] to (flag `--to`"), "{}", sink.err);
    let all = place.run("hydrant", &["run", "hydrant.toml"]);
    let all = all.expect(64, &mistakes);
    let polcy = "(line 6): unknown key `polcy`: did you mean `policy`?";
    assert!(all.err.contains(polcy), "{}", all.err);
    assert_nothing_made(&place, &["hydrant.toml"]);
}

#[test]
fn mistakes_of_streams_and_lakes_are_reported_with_the_others() {
    let place = TestDir::new();
    place.write(
        "hydrant.toml",
        "[local]\ncodek = \"zstd\"\nretention = \"0s\"\n[sink]\nfrom = \"kafka://b/t\"\nto = \"file:lake?acl=x\"\nidle = \"soon\"\n",
    );
    let mistakes = [
        "[local] codek (line 2): unknown key `codek`: did you mean `codec`?",
        "[local] retention (line 3): is too short: write at least `1s`",
        "(line 5): this version of hydrant does not open `kafka:` streams",
        "(line 6): `acl` in `file:lake?acl=x`: unknown key `acl`",
        "(line 7): `soon` is not a valid duration",
    ];
    let sink = place.run("hydrant-sink", &["--config", "hydrant.toml"]);
    sink.expect(64, &mistakes);
    let all = place.run("hydrant", &["run", "hydrant.toml"]);
    all.expect(64, &mistakes);
    let command = ["stream", "create", "local:x", "--config", "hydrant.toml"];
    place.run("hydrant", &command).expect(64, &mistakes[..2]);
    let url = ["--simulate", "1", "--to", "local:x?codec=gzip"];
    let producer = place.run("hydrant-producer", &url);
    producer.expect(64, &["flag `--to`", "`gzip` is not a codec"]);
    assert_nothing_made(&place, &["hydrant.toml"]);
}

/// Checks that the directory holds only `files`.
#[track_caller]
fn assert_nothing_made(place: &TestDir, files: &[&str]) {
    let entries = std::fs::read_dir(place.root()).expect("the directory reads");
    let names = entries.map(|entry| entry.expect("the directory reads").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, files);
}

#[test]
fn wrong_and_contradictory_flags_are_refused_and_nothing_is_made() {
    let place = TestDir::new();
    let cases: [(&str, &[&str], &[&str]); 12] = [
        ("hydrant-sink", &["--frm", "local:a"], &["--frm", "--from"]),
        (
            "hydrant-producer",
            &["--to", "local:a"],
            &["no input", "--simulate", "--input"],
        ),
        (
            "hydrant-producer",
            &["--to", "local:a", "--simulate", "5", "--input", "x"],
            &["--input", "simulate", "leave one of them out"],
        ),
        (
            "hydrant-producer",
            &["--to", "local:a", "--simulate", "5", "--name", "n"],
            &["--name", "--ledger"],
        ),
        (
            "hydrant-producer",
            &["--to", "local:a", "--simulate", "5", "--rate", "0"],
            &["--rate", "out of range"],
        ),
        (
            "hydrant-producer",
            &["--to", "local:a", "--input", "absent.ndjson"],
            &["absent.ndjson", "there is no such file"],
        ),
        (
            "hydrant-transform",
            &["--from", "local:a", "--to", "local:a"],
            &["--to", "local:a", "input as well", "another stream"],
        ),
        (
            "hydrant-sink",
            &["--from", "local:a", "--to", "s3://bucket"],
            &["s3://bucket", "file:DIR"],
        ),
        (
            "hydrant-sink",
            &["--from", "local:a", "--to", "file:b", "--start", "never"],
            &["--start", "never", "earliest", "latest"],
        ),
        (
            "hydrant-sink",
            &["--from", "local:a", "--to", "file:b", "--table", "../b"],
            &["--table", "../b"],
        ),
        ("hydrant", &["run", "absent.toml"], &["absent.toml"]),
        ("hydrant", &["stream", "delete", "local:a"], &["--yes"]),
    ];
    for (name, args, words) in cases {
        place.run(name, args).expect(64, words);
        assert_nothing_made(&place, &[]);
    }
}

#[test]
fn a_missing_stream_is_awaited_then_refused_with_the_command_that_makes_it() {
    let place = TestDir::new();
    let remedy = "hydrant stream create local:absent --shards N";
    let cases: [(&str, &[&str]); 3] = [
        ("hydrant-transform", &["--to", "local:clean"]),
        ("hydrant-sink", &["--to", "file:lake"]),
        ("hydrant-consumer", &[]),
    ];
    for (name, more) in cases {
        let args = [&["--from", "local:absent", "--wait", "50ms"], more].concat();
        place
            .run(name, &args)
            .expect(64, &["local:absent", "did not appear within", remedy]);
    }
    let described = place.run("hydrant", &["stream", "describe", "local:absent"]);
    described.expect(64, &["local:absent", "does not exist"]);
    assert!(!place.path("absent").exists());
    assert!(!place.path("clean").exists());
}

#[test]
fn a_stream_that_appears_while_it_is_awaited_is_read() {
    let place = TestDir::new();
    let mut sink = place.start(
        "hydrant-sink",
        &[
            "--from",
            "local:late",
            "--to",
            "file:lake",
            "--exit-at-end",
            "--idle",
            "50ms",
            "--wait",
            "60s",
        ],
        "sink.log",
    );
    place.wait_until("the sink waits", || place.path("lake/_hydrant").exists());
    place.simulate("local:late", 20, 1);
    assert_eq!(place.wait_for_end(&mut sink), Some(0), "{}", place.logs());
    // The run may have ended between two batches: another run lands the rest.
    place.sink("local:late", "file:lake").expect(0, &[]);
    assert_eq!(place.sound("file:lake")["rows"], 20);
}

const TOKENS: &str =
    "[policy]\nname = \"tokens\"\n[[rule]]\nclass = \"email\"\naction = \"token\"\n";

#[test]
fn a_policy_that_makes_tokens_is_refused_without_a_key() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.write("tokens.toml", TOKENS);
    let transform = place.run(
        "hydrant-transform",
        &[
            "--from",
            "local:raw",
            "--to",
            "local:clean",
            "--policy",
            "tokens.toml",
        ],
    );
    transform.expect(
        64,
        &["tokens.toml", "rule 1", "has no key", "at least 32 bytes"],
    );
    let check = place.run("hydrant", &["pii", "check", "tokens.toml"]);
    check.expect(64, &["tokens.toml", "has no key"]);
    assert!(!place.path("clean").exists());

    place.write("short.toml", TOKENS.replace("\n[[", "\nkey = \"k\"\n[["));
    place.write("keys.toml", "k = \"RAWMARK\"\n");
    place.write("hydrant.toml", "[pii]\nkey-file = \"keys.toml\"\n");
    let short = place.run(
        "hydrant",
        &["--config", "hydrant.toml", "pii", "check", "short.toml"],
    );
    let short = short.expect(64, &["key `k`", "shorter than 32 bytes", "openssl rand"]);
    assert!(!short.err.contains("RAWMARK"), "{}", short.err);
}

#[test]
fn a_policy_with_mistakes_is_refused_with_place_and_remedy() {
    let place = TestDir::new();
    let head = "[policy]\nname = \"p\"\n[[rule]]\n";
    let cases = [
        (
            "clas = \"email\"\naction = \"label\"\n",
            &["line 4", "`clas`", "`class`"][..],
        ),
        (
            "class = \"emial\"\naction = \"label\"\n",
            &["rule 1", "emial"],
        ),
        (
            "class = \"email\"\naction = \"lable\"\n",
            &["rule 1", "lable"],
        ),
        (
            "class = \"email\"\naction = \"label\"\nlabel = \"a@example.com\"\n",
            &["rule 1"],
        ),
    ];
    for (rule, words) in cases {
        place.write("policy.toml", format!("{head}{rule}"));
        let check = place.run("hydrant", &["pii", "check", "policy.toml"]);
        check.expect(64, &[&["policy.toml"], words].concat());
    }
}
