//! Full and read-only disks: small file systems, mounted in a namespace.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use crate::process::binary;
use crate::test_dir::{Answer, TestDir, skip};

/// A shell with a private file system at `mount` in the place.
struct Inside<'a> {
    place: &'a TestDir,
    shell: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Whether the system lets a user mount a file system in a new namespace; prints the reason once if it does not.
fn is_permitted() -> bool {
    static WHY_NOT: OnceLock<Option<String>> = OnceLock::new();
    let why_not = WHY_NOT.get_or_init(|| {
        let tried = Command::new("unshare")
            .args(["-Urm", "mount", "-t", "tmpfs", "none", "/mnt"])
            .output();
        match tried {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        }
    });
    if let Some(why_not) = why_not {
        skip(&format!(
            "`unshare -Urm` with a tmpfs is not permitted: {why_not}"
        ));
    }
    why_not.is_none()
}

impl<'a> Inside<'a> {
    /// `None` where the system does not permit it.
    fn with_bytes(place: &'a TestDir, bytes: u64) -> Option<Self> {
        if !is_permitted() {
            return None;
        }
        std::fs::create_dir(place.path("mount")).expect("a directory");
        let mut shell = Command::new("unshare")
            .args(["-Urm", "sh"])
            .current_dir(place.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the shell starts");
        let input = shell.stdin.take().expect("a pipe");
        let answers = BufReader::new(shell.stdout.take().expect("a pipe"));
        let mut inside = Inside {
            place,
            shell,
            input,
            answers,
        };
        let mount = format!("mount -t tmpfs -o size={bytes} none mount");
        assert_eq!(inside.run(&mount).code, Some(0));
        Some(inside)
    }

    fn say(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").expect("the shell listens");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the shell answers");
        answer.trim().to_owned()
    }

    /// Runs a command to its end; binaries under test are called by name.
    fn run(&mut self, line: &str) -> Answer {
        let line = with_path(line);
        let code = self.say(&format!(
            "{{ {line} ; }} >run.out 2>run.err </dev/null; echo $?"
        ));
        let answer = Answer {
            code: code.parse().ok(),
            out: self.place.read("run.out"),
            err: self.place.read("run.err"),
        };
        crate::test_dir::assert_no_panic(&answer.err);
        answer
    }

    /// Starts a command in the background; answers its process id.
    fn start(&mut self, line: &str, log: &str) -> String {
        let line = with_path(line);
        self.say(&format!(
            "{line} >{log}.out 2>{log}.log </dev/null & echo $!"
        ))
    }

    /// Waits for the end of a command; answers its exit code.
    fn wait(&mut self, process: &str) -> Option<i32> {
        self.say(&format!("wait {process}; echo $?")).parse().ok()
    }

    fn is_alive(&mut self, process: &str) -> bool {
        self.say(&format!("kill -0 {process} 2>/dev/null; echo $?")) == "0"
    }

    fn stop(&mut self, process: &str) -> Option<i32> {
        self.say(&format!("kill -TERM {process}; echo"));
        self.wait(process)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Background processes end with the shell.
        drop(writeln!(self.input, "kill -9 $(jobs -p) 2>/dev/null; exit"));
        drop(self.shell.wait());
    }
}

/// The command line with the path of its binary.
fn with_path(line: &str) -> String {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let path = match name.starts_with("hydrant") {
        true => binary(name),
        false => PathBuf::from(name),
    };
    format!("{} {rest}", path.display())
}

const TAIL: &str = "hydrant stream tail local:mount/raw --start earliest --exit-at-end";

#[test]
fn a_full_disk_refuses_appends_stays_readable_and_recovers_by_itself() {
    let place = TestDir::new();
    let Some(mut inside) = Inside::with_bytes(&place, 3 << 20) else {
        return;
    };
    inside
        .run("dd if=/dev/zero of=mount/filler bs=1024 count=2700")
        .expect(0, &[]);
    let producer = inside.start(
        "hydrant-producer --to local:mount/raw --shards 2 --simulate 4000 --devices 20 --malformed 0 --json",
        "producer",
    );
    place.wait_until("a full disk", || {
        place.read_so_far("producer.log").contains("no space left")
    });
    let said = place.read("producer.log");
    assert!(said.contains("and writing continues"), "{said}");
    assert!(said.contains(".seg"), "the file is named: {said}");
    // The stream stays readable, and the producer waits.
    let described = inside
        .run("hydrant stream describe local:mount/raw --json")
        .expect(0, &[]);
    let stored: u64 = crate::test_dir::stored(&described.json()).iter().sum();
    assert!(stored < 4_000, "{stored}");
    let read = inside.run(TAIL).expect(0, &[]);
    assert_eq!(read.out.lines().count() as u64, stored);
    assert!(inside.is_alive(&producer));
    // A process that cannot start says why.
    let second = inside.run("hydrant stream create local:mount/other --shards 64");
    assert_ne!(second.code, Some(0), "{second:?}");
    assert!(second.err.contains("no space left"), "{second:?}");

    inside.run("rm mount/filler").expect(0, &[]);
    assert_eq!(inside.wait(&producer), Some(0), "{}", place.logs());
    let report: serde_json::Value =
        serde_json::from_str(&place.read("producer.out")).expect("JSON");
    assert_eq!(report["stored"], 4_000, "{report}");
    assert_eq!(report["duplicates"], 0, "{report}");
    inside
        .run("hydrant-sink --from local:mount/raw --to file:lake --exit-at-end --idle 50ms")
        .expect(0, &[]);
    let wanted: Vec<i64> = (0..4_000).collect();
    assert_eq!(place.integers("lake", "index"), wanted);
    place.sound("file:lake");
}

#[test]
fn trimming_frees_a_full_disk() {
    let place = TestDir::new();
    let Some(mut inside) = Inside::with_bytes(&place, 1 << 20) else {
        return;
    };
    inside
        .run("hydrant stream create local:mount/raw --shards 1")
        .expect(0, &[]);
    inside.run("sed -i 's/\"segment_bytes\": *[0-9]*/\"segment_bytes\": 65536/' mount/raw/manifest.json").expect(0, &[]);
    let sink = inside.start(
        "hydrant-sink --from local:mount/raw --to file:lake --flush-interval 50ms",
        "sink",
    );
    place.wait_until("a lease", || {
        place.read_so_far("sink.log").contains("leases taken")
    });
    let producer = inside.start(
        "hydrant-producer --to local:mount/raw --simulate 10000 --devices 20 --malformed 0 --batch-bytes 16KiB --json",
        "producer",
    );
    place.wait_until("a full disk", || {
        place.read_so_far("producer.log").contains("no space left")
    });
    // Data that the sink has landed may be trimmed.
    let stored: u64 = crate::test_dir::stored(
        &inside
            .run("hydrant stream describe local:mount/raw --json")
            .json(),
    )
    .iter()
    .sum();
    place.wait_until("the rows so far", || place.rows_landed("lake") >= stored);
    inside
        .run("hydrant stream trim local:mount/raw --to-bytes 100KiB")
        .expect(0, &[]);
    assert_eq!(inside.wait(&producer), Some(0), "{}", place.logs());
    place.wait_until("all rows", || place.rows_landed("lake") >= 10_000);
    assert_eq!(inside.stop(&sink), Some(0), "{}", place.logs());
    let wanted: Vec<i64> = (0..10_000).collect();
    assert_eq!(place.integers("lake", "index"), wanted, "{}", place.logs());
    place.sound("file:lake");
    // Failed attempts have left nothing behind.
    let left = inside.run("find mount -name '*.tmp'").expect(0, &[]);
    assert_eq!(left.out, "");
}

#[test]
fn a_sink_and_a_transform_with_a_full_output_continue_once_there_is_space() {
    let place = TestDir::new();
    let Some(mut inside) = Inside::with_bytes(&place, 1 << 20) else {
        return;
    };
    place.create("local:raw", 1);
    inside
        .run("hydrant stream create local:mount/clean --shards 1")
        .expect(0, &[]);
    inside
        .run("hydrant-sink --from local:raw --to file:mount/lake --exit-at-end --idle 50ms")
        .expect(0, &[]);
    place.simulate("local:raw", 3_000, 1);
    inside.run("dd if=/dev/zero of=mount/filler bs=1024 count=2000");
    let transform = inside.start(
        "hydrant-transform --from local:raw --to local:mount/clean",
        "transform",
    );
    let sink = inside.start(
        "hydrant-sink --from local:raw --to file:mount/lake --flush-interval 50ms",
        "sink",
    );
    for log in ["transform.log", "sink.log"] {
        place.wait_until(log, || place.read_so_far(log).contains("no space left"));
    }
    assert!(inside.is_alive(&transform), "{}", place.logs());
    assert!(inside.is_alive(&sink), "{}", place.logs());
    inside.run("mount -o remount,size=64m mount").expect(0, &[]);
    inside.run("rm mount/filler").expect(0, &[]);
    place.wait_until("all rows", || {
        let verified = inside.run("hydrant lake verify file:mount/lake --json");
        verified.out.contains("\"rows\":3000,")
    });
    place.wait_until("all clean records", || {
        crate::test_dir::stored(
            &inside
                .run("hydrant stream describe local:mount/clean --json")
                .json(),
        ) == [3_000]
    });
    assert_eq!(inside.stop(&transform), Some(0), "{}", place.logs());
    assert_eq!(inside.stop(&sink), Some(0), "{}", place.logs());
    let verified = inside
        .run("hydrant lake verify file:mount/lake --json")
        .expect(0, &[])
        .json();
    assert_eq!(
        (&verified["ok"], &verified["rows"]),
        (&true.into(), &3_000.into()),
        "{verified}"
    );
}

#[test]
fn a_read_only_file_system_is_a_clear_refusal() {
    let place = TestDir::new();
    let Some(mut inside) = Inside::with_bytes(&place, 4 << 20) else {
        return;
    };
    place.create("local:raw", 1);
    place.simulate("local:raw", 10, 1);
    inside
        .run("hydrant-producer --to local:mount/raw --simulate 10 --malformed 0")
        .expect(0, &[]);
    // An app that has progress is described too.
    inside
        .run("hydrant-consumer --from local:mount/raw --to file:copy --app reader --exit-at-end")
        .expect(0, &[]);
    inside.run("mkdir mount/lake").expect(0, &[]);
    inside.run("mount -o remount,ro mount").expect(0, &[]);
    for (line, file) in [
        (
            "hydrant-producer --to local:mount/raw --simulate 5",
            "mount/raw",
        ),
        (
            "hydrant-producer --to local:mount/new --simulate 5",
            "mount/new",
        ),
        ("hydrant stream create local:mount/new", "mount/new"),
        (
            "hydrant-sink --from local:raw --to file:mount/lake --exit-at-end",
            "mount/lake",
        ),
        (
            "hydrant-sink --from local:mount/raw --to file:lake --exit-at-end",
            "mount/raw",
        ),
        (
            "hydrant-transform --from local:raw --to local:mount/clean --exit-at-end",
            "mount/clean",
        ),
        (
            "hydrant-producer --to local:raw --simulate 5 --name n --ledger mount/ledger",
            "mount/ledger",
        ),
    ] {
        let answer = inside.run(line);
        assert!(matches!(answer.code, Some(1 | 64)), "{line}: {answer:?}");
        let last = answer.err.lines().last().expect("a message");
        assert!(last.starts_with("error: "), "{line}: {answer:?}");
        assert!(
            last.contains(file) && last.contains("Read-only file system"),
            "{line}: {answer:?}"
        );
    }
    // Reading writes nothing, so it needs no write permission.
    let described = inside
        .run("hydrant stream describe local:mount/raw --json")
        .expect(0, &[]);
    assert_eq!(
        crate::test_dir::stored(&described.json())
            .iter()
            .sum::<u64>(),
        10
    );
    assert_eq!(inside.run(TAIL).expect(0, &[]).out.lines().count(), 10);
}
