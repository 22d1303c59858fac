//! Files that grow while the producer follows them, is killed, and starts again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::process::{RunningProducer, await_some, ledger_index};
use crate::stored::records;

const FOLLOW: &[&str] = &[
    "--to",
    "local:raw",
    "--shards",
    "2",
    "--name",
    "edge",
    "--ledger",
    "ledger.json",
    "--follow",
    "--linger",
    "2ms",
];

pub(crate) fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// How often each record is stored.
fn stored(dir: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for one in records(dir, "raw") {
        *found
            .entry(String::from_utf8(one.payload).unwrap())
            .or_default() += 1;
    }
    found
}

pub(crate) fn await_records(dir: &Path, wanted: &[&str]) {
    let wanted: BTreeMap<String, u32> = wanted.iter().map(|one| ((*one).to_owned(), 1)).collect();
    await_some("the records", || {
        let is_there = dir.join("raw/manifest.json").exists();
        let found = if is_there {
            stored(dir)
        } else {
            BTreeMap::new()
        };
        assert!(found.len() <= wanted.len(), "{found:?}");
        (found == wanted).then_some(())
    });
}

#[test]
fn growth_rotation_and_new_files_are_followed_and_a_signal_ends_it() {
    for ledger in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let inputs = ["--input", "app.log", "--input", "new/*.log"];
        let without = ["--to", "local:raw", "--shards", "2", "--follow"];
        let args = if ledger { FOLLOW } else { &without };
        let running = RunningProducer::start(dir.path(), &[args, &inputs].concat());
        append(&path("app.log"), "a\nb");
        await_records(dir.path(), &["a"]);
        append(&path("app.log"), "b\n");
        await_records(dir.path(), &["a", "bb"]);
        // Renamed, and still written to by who has it open.
        fs::rename(path("app.log"), path("app.log.1")).unwrap();
        append(&path("app.log.1"), "c\n");
        append(&path("app.log"), "d\n");
        append(&path("app.log.1"), "e\n");
        await_records(dir.path(), &["a", "bb", "c", "d", "e"]);
        // Copied and truncated.
        fs::copy(path("app.log"), path("app.log.2")).unwrap();
        fs::write(path("app.log"), "").unwrap();
        append(&path("app.log"), "f\ng\n");
        await_records(dir.path(), &["a", "bb", "c", "d", "e", "f", "g"]);
        fs::create_dir(path("new")).unwrap();
        append(&path("new/x.log"), "[{\"x\":1},");
        append(&path("new/x.log"), "{\"x\":2}");
        append(&path("new/y.txt"), "not this\n");
        let all = ["a", "bb", "c", "d", "e", "f", "g", "{\"x\":1}", "{\"x\":2}"];
        await_records(dir.path(), &all);
        let report = running.terminate();
        assert_eq!(
            (&report["ended"], &report["stored"]),
            (&"drained".into(), &9.into())
        );
        if ledger {
            // Nothing of it is sent again.
            let running = RunningProducer::start(dir.path(), &[args, &inputs].concat());
            append(&path("app.log"), "h\n");
            await_records(dir.path(), &[&all[..], &["h"]].concat());
            assert_eq!(running.terminate()["duplicates"], 0);
        }
    }
}

#[test]
fn a_file_that_was_truncated_behind_its_copy_is_followed_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut running =
        RunningProducer::start(dir.path(), &[FOLLOW, &["--input", "app.log*"]].concat());
    append(&path("app.log"), "a\n");
    await_records(dir.path(), &["a"]);
    // Both between two looks.
    running.signal("-STOP");
    append(&path("app.log"), "b\n");
    fs::copy(path("app.log"), path("app.log.1")).unwrap();
    fs::write(path("app.log"), "").unwrap();
    running.signal("-CONT");
    await_records(dir.path(), &["a", "b"]);
    append(&path("app.log"), "c\n");
    await_records(dir.path(), &["a", "b", "c"]);
    assert_eq!(running.terminate()["duplicates"], 0);
}

/// As `rsync` and editors replace a file: what was taken is not sent again, and growth continues.
#[test]
fn a_followed_file_that_is_replaced_by_a_longer_one_is_read_on() {
    for ledger in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let without = ["--to", "local:raw", "--shards", "2", "--follow"];
        let args = if ledger { FOLLOW } else { &without };
        let args = [args, &["--input", "*.log"]].concat();
        append(&path("a.log"), "a\nb\nc");
        let running = RunningProducer::start(dir.path(), &args);
        await_records(dir.path(), &["a", "b"]);
        let mut all = vec!["a", "b"];
        for next in ["cc", "d", "e"] {
            fs::write(path("new"), [&all[..], &[next, ""]].concat().join("\n")).unwrap();
            fs::rename(path("new"), path("a.log")).unwrap();
            all.push(next);
            await_records(dir.path(), &all);
        }
        append(&path("a.log"), "f\n");
        all.push("f");
        await_records(dir.path(), &all);
        // One that begins otherwise is another file.
        fs::write(path("new"), "x\ny\n").unwrap();
        fs::rename(path("new"), path("a.log")).unwrap();
        all.extend(["x", "y"]);
        await_records(dir.path(), &all);
        assert_eq!(running.terminate()["stored"], all.len());
        if ledger {
            let running = RunningProducer::start(dir.path(), &args);
            append(&path("a.log"), "z\n");
            all.push("z");
            await_records(dir.path(), &all);
            assert_eq!(running.terminate()["duplicates"], 0);
        }
    }
}

#[test]
fn a_copy_that_grows_is_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let running = RunningProducer::start(dir.path(), &[FOLLOW, &["--input", "w*"]].concat());
    append(&path("w"), "s\na\n");
    await_records(dir.path(), &["s", "a"]);
    append(&path("w.1"), "s\n");
    // Behind this one it was looked at.
    append(&path("w.0"), "x\n");
    await_records(dir.path(), &["s", "a", "x"]);
    append(&path("w.2"), "y\n");
    await_records(dir.path(), &["s", "a", "x", "y"]);
    append(&path("w.1"), "b\n");
    await_some("the records of both", || {
        let found = stored(dir.path());
        (found.get("b") == Some(&1) && found.get("s") == Some(&2)).then_some(())
    });
    append(&path("w"), "c\n");
    await_some("the original to go on", || {
        stored(dir.path()).get("c").copied()
    });
    running.terminate();
}

#[test]
fn of_more_files_than_may_be_open_each_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: u32| dir.path().join(format!("host-{n}.log"));
    let line = |n: u32, part: char| format!("{{\"n\":{n},\"part\":\"{part}\"}}");
    for n in 0..540 {
        append(&path(n), &(line(n, 'a') + "\n"));
    }
    // Its report on each file is not read.
    let args = [FOLLOW, &["--input", "*.log", "--log-level", "error"]].concat();
    let running = RunningProducer::start(dir.path(), &args);
    let await_index = |wanted: u32| {
        // Found as text: it is large.
        let wanted = format!("\"next_index\": {wanted},");
        await_some("all to be noted", || {
            let text = fs::read_to_string(dir.path().join("ledger.json")).unwrap_or_default();
            text.contains(&wanted).then_some(())
        });
    };
    await_index(540);
    // The first ones were closed for the last ones, and half of a line waits in a file that is closed.
    for n in (0..540).step_by(54) {
        append(&path(n), &(line(n, 'b') + "\n" + &line(n, 'c')));
    }
    await_index(550);
    for n in (0..540).step_by(54) {
        append(&path(n), "\n");
    }
    await_index(560);
    assert_eq!(running.terminate()["duplicates"], 0);
    let found = stored(dir.path());
    assert!(found.len() == 560 && found.values().all(|count| *count == 1));
}

#[test]
fn a_compressed_copy_of_a_file_that_was_renamed_between_runs_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let args = [FOLLOW, &["--input", "app.log*"]].concat();
    append(&path("app.log"), "a\nb\n");
    let running = RunningProducer::start(dir.path(), &args);
    await_some("both to be noted", || {
        ledger_index(&path("ledger.json")).filter(|noted| *noted == 2)
    });
    running.kill();
    fs::rename(path("app.log"), path("app.log.1")).unwrap();
    append(&path("app.log"), "c\n");
    let running = RunningProducer::start(dir.path(), &args);
    await_records(dir.path(), &["a", "b", "c"]);
    // Nothing of the renamed file was left to read.
    fs::write(path("app.log.2.gz"), crate::files::gzip(b"a\nb\n")).unwrap();
    append(&path("app.log"), "d\n");
    await_records(dir.path(), &["a", "b", "c", "d"]);
    append(&path("app.log"), "e\n");
    await_records(dir.path(), &["a", "b", "c", "d", "e"]);
    let report = running.terminate();
    assert_eq!(
        (&report["accepted"], &report["duplicates"]),
        (&3.into(), &0.into())
    );
}

/// What the file system allows but JSON and text do not.
#[test]
#[cfg(target_os = "linux")]
fn a_name_that_is_no_text_is_remembered_as_it_is() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &[u8]| dir.path().join(std::ffi::OsStr::from_bytes(name));
    let args = [FOLLOW, &["--input", "*.log"]].concat();
    let running = RunningProducer::start(dir.path(), &args);
    append(&path(b"b\xFF.log"), "a\n");
    append(&path(b"b\xFE.log"), "b\n");
    await_records(dir.path(), &["a", "b"]);
    assert_eq!(running.terminate()["stored"], 2);
    let noted = ledger_index(&dir.path().join("ledger.json"));
    assert_eq!(noted, Some(2));
    // Grown, and renamed from a name that must be read back to be looked beside.
    fs::rename(path(b"b\xFF.log"), path(b"b\xFF.log.1")).unwrap();
    append(&path(b"b\xFF.log.1"), "c\n");
    append(&path(b"b\xFF.log"), "d\n");
    append(&path(b"b\xFE.log"), "e\n");
    let running = RunningProducer::start(dir.path(), &args);
    await_records(dir.path(), &["a", "b", "c", "d", "e"]);
    let report = running.terminate();
    assert_eq!(
        (&report["stored"], &report["duplicates"]),
        (&3.into(), &0.into())
    );
}

/// The numbers that one shard holds, in its order.
fn numbers(dir: &Path) -> Vec<u64> {
    let number = |payload: Vec<u8>| {
        let value: Value = serde_json::from_slice(&payload).unwrap();
        value["n"].as_u64().unwrap()
    };
    let all = records(dir, "raw").into_iter();
    all.map(|one| number(one.payload)).collect()
}

/// More than a file has read in one turn, of which nothing was read when it was renamed.
#[test]
fn a_renamed_file_with_much_unread_is_read_to_its_end_before_its_successor() {
    let line = |n: u64| format!("{{\"n\":{n},\"pad\":\"{:0500}\"}}\n", 0);
    let (all, first) = (20_000, 10);
    for (input, is_running) in [("app.log", false), ("app.log*", true), ("app.log", true)] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let more = ["--follow", "--linger", "2ms", "--input", input];
        let args = [crate::files::LEDGER, &more].concat();
        append(&path("app.log"), &(0..first).map(line).collect::<String>());
        let await_index = |wanted| {
            await_some("all to be noted", || {
                ledger_index(&path("ledger.json")).filter(|noted| *noted == wanted)
            });
        };
        let mut running = Some(RunningProducer::start(dir.path(), &args));
        await_index(first);
        if is_running {
            running.as_mut().unwrap().signal("-STOP");
        } else {
            running.take().unwrap().terminate();
        }
        append(
            &path("app.log"),
            &(first..all - 100).map(line).collect::<String>(),
        );
        fs::rename(path("app.log"), path("app.log.1")).unwrap();
        append(
            &path("app.log"),
            &(all - 100..all).map(line).collect::<String>(),
        );
        let mut running = running.unwrap_or_else(|| RunningProducer::start(dir.path(), &args));
        running.signal("-CONT");
        await_index(all);
        running.terminate();
        let found = numbers(dir.path());
        let is_in_order = found.iter().copied().eq(0..all);
        assert!(
            is_in_order,
            "{input}: {} records in another order",
            found.len()
        );
    }
}

/// As in a directory that files are dropped into and removed from.
#[test]
fn compressed_files_that_were_read_and_are_removed_have_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("in")).unwrap();
    let args = [FOLLOW, &["--input", "in/*.gz"]].concat();
    for name in ["a", "b"] {
        let text = format!("{{\"n\":\"{name}\"}}\n");
        let packed = crate::files::gzip(text.as_bytes());
        fs::write(path("in").join(format!("{name}.gz")), packed).unwrap();
    }
    let running = RunningProducer::start(dir.path(), &args);
    await_records(dir.path(), &["{\"n\":\"a\"}", "{\"n\":\"b\"}"]);
    for name in ["a", "b"] {
        fs::remove_file(path("in").join(format!("{name}.gz"))).unwrap();
    }
    await_some("both to have ended", || {
        let text = fs::read_to_string(path("ledger.json")).unwrap();
        (text.matches("\"ended\": true").count() == 2).then_some(())
    });
    running.terminate();
    let said = path("said");
    let running = RunningProducer::start_saying(dir.path(), &args, &said);
    await_some("the start", || {
        let text = fs::read_to_string(&said).unwrap();
        text.contains("no file exists").then_some(())
    });
    running.terminate();
    let said = fs::read_to_string(said).unwrap();
    assert!(!said.contains("is gone"), "{said}");
}

#[test]
fn the_last_record_of_a_compressed_file_without_a_line_end_is_sent_or_reported() {
    for (more, is_sent) in [
        (&["--at-end", "send"][..], true),
        (&["--at-end", "wait"], false),
        (&[], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let packed = crate::files::gzip(b"{\"n\":1}\n{\"n\":2}");
        fs::write(path("x.gz"), packed).unwrap();
        let args = [FOLLOW, &["--input", "*.gz"], more].concat();
        let said = path("said");
        let running = RunningProducer::start_saying(dir.path(), &args, &said);
        if is_sent {
            await_records(dir.path(), &["{\"n\":1}", "{\"n\":2}"]);
        } else {
            await_records(dir.path(), &["{\"n\":1}"]);
            let words = ["WARN", "ends within a record", "x.gz"];
            crate::unlookable::await_said(&said, &words);
        }
        running.terminate();
    }
}

/// Clock ticks of computation.
#[cfg(target_os = "linux")]
fn ticks(id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_producer_that_waits_costs_next_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("app.log"), "a\n");
    let mut running = RunningProducer::start(dir.path(), &[FOLLOW, &["--input", "*.log"]].concat());
    await_records(dir.path(), &["a"]);
    let id = running.id();
    let before = ticks(id);
    // What is measured is this time.
    std::thread::sleep(Duration::from_secs(3));
    let used = ticks(id) - before;
    // 100 ticks a second: a thread that spins has some hundred.
    assert!(used < 30, "{used} ticks in three seconds");
}

/// Writes numbered records into `app.log` and rotates it, by renaming and by copying and truncating in turn.
struct RotatingWriter {
    dir: PathBuf,
    next: u32,
    rotations: u32,
}

impl RotatingWriter {
    fn path(&self) -> PathBuf {
        self.dir.join("app.log")
    }

    /// Some records, the last one in two parts.
    fn write(&mut self, count: u32) {
        for _ in 1..count {
            append(&self.path(), &format!("{{\"n\":{}}}\n", self.next));
            self.next += 1;
        }
        append(&self.path(), "{\"n\":");
        append(&self.path(), &format!("{}}}\n", self.next));
        self.next += 1;
    }

    fn rotate(&mut self) {
        self.rotations += 1;
        let to = self.dir.join(format!("app.log.{}", self.rotations));
        if self.rotations.is_multiple_of(2) {
            fs::rename(self.path(), to).unwrap();
        } else {
            fs::copy(self.path(), to).unwrap();
            fs::write(self.path(), "").unwrap();
        }
    }
}

/// The files that a ledger knows.
fn known(dir: &Path) -> usize {
    let text = fs::read(dir.join("ledger.json")).unwrap_or_default();
    let ledger: Value = serde_json::from_slice(&text).unwrap_or_default();
    ledger["files"].as_array().map_or(0, Vec::len)
}

/// Kills the producer again and again while the file is written and rotated. `paced`: the file is rotated once it is
/// known, as a path alone leads to no file that came and went unseen.
fn kill_while_rotating(input: &str, paced: bool, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let random = hydrant_core::Random::seeded(seed);
    let draw = move |most: u32| u32::try_from(random.below(u64::from(most))).unwrap();
    let mut writer = RotatingWriter {
        dir: dir.path().to_owned(),
        next: 0,
        rotations: 0,
    };
    let args = [FOLLOW, &["--input", input]].concat();
    let mut kills = 0;
    while writer.rotations < 24 {
        let running = RunningProducer::start(dir.path(), &args);
        for _ in 0..=draw(3) {
            writer.write(1 + draw(200));
            if paced {
                await_some("the file to be known", || {
                    (known(dir.path()) > writer.rotations as usize).then_some(())
                });
            }
            writer.rotate();
            writer.write(1 + draw(50));
        }
        if draw(2) == 0 {
            let before = ledger_index(&dir.path().join("ledger.json"));
            await_some("progress", || {
                let now = ledger_index(&dir.path().join("ledger.json"));
                (now.is_some() && now != before || now == Some(u64::from(writer.next)))
                    .then_some(())
            });
        }
        if paced {
            await_some("the file to be known", || {
                (known(dir.path()) > writer.rotations as usize).then_some(())
            });
        }
        running.kill();
        kills += 1;
        // Also while it is down.
        writer.write(1 + draw(20));
        writer.rotate();
        writer.write(1 + draw(20));
    }
    let running = RunningProducer::start(dir.path(), &args);
    await_some("everything to be noted", || {
        let noted = ledger_index(&dir.path().join("ledger.json"));
        (noted == Some(u64::from(writer.next))).then_some(())
    });
    running.terminate();
    let found = stored(dir.path());
    let wanted = (0..writer.next)
        .map(|n| (format!("{{\"n\":{n}}}"), 1))
        .collect::<BTreeMap<_, _>>();
    let wrong: Vec<_> = found
        .iter()
        .filter(|one| wanted.get(one.0) != Some(one.1))
        .take(5)
        .collect();
    let lost: Vec<_> = wanted
        .keys()
        .filter(|one| !found.contains_key(*one))
        .take(5)
        .collect();
    assert!(
        wrong.is_empty() && lost.is_empty(),
        "{kills} kills: doubled or cut {wrong:?}, lost {lost:?}"
    );
}

#[test]
fn kill_dash_nine_under_rotation_loses_and_doubles_nothing() {
    kill_while_rotating("app.log", true, 1);
}

#[test]
fn kill_dash_nine_under_rotation_without_a_pause_loses_and_doubles_nothing() {
    kill_while_rotating("app.log*", false, 2);
}
