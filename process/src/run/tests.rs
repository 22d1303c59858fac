//! Each test starts this test binary again as a child whose one test is [`child`]: exit codes, signals and panics
//! need a process of their own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use clap::Parser;

use super::*;
use crate::CommonArgs;
use crate::config::Flags;

const ROLE: &str = "PROCESS_TEST_ROLE";

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

/// What a child does.
async fn act(process: Process, role: String) -> Result<()> {
    output::to_stderr("working");
    match role.as_str() {
        "done" => process.stdout.line("result"),
        "fail" => Err(Error::io(
            "read",
            "x".as_ref(),
            std::io::ErrorKind::NotFound.into(),
        )),
        "refuse" => Err(Error::refused("no such stream")),
        "panic" => panic!("always"),
        "task panics" => {
            let key = "jane@example.org".to_owned();
            tokio::spawn(async move { panic!("bad key {key}") });
            process.shutdown.draining().await;
            output::to_stderr("drained");
            Ok(())
        }
        "contain" => {
            for _ in 0..1_000 {
                assert!(hydrant_core::workers::contain(|| -> u8 { panic!("a record") }).is_none());
            }
            Ok(())
        }
        "descriptors" => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            process
                .stdout
                .line(format!("{:?}", limit.current == limit.maximum))
        }
        "drain" => {
            process.shutdown.draining().await;
            output::to_stderr("drained");
            Ok(())
        }
        "hang" => {
            process.shutdown.draining().await;
            output::to_stderr("hanging");
            std::future::pending().await
        }
        "print" => loop {
            process.stdout.line("0123456789".repeat(100))?;
            if process.shutdown.is_draining() {
                return Ok(());
            }
        },
        #[allow(
            clippy::infinite_loop,
            reason = "it ends by a panic, which is what is tested"
        )]
        "println" => loop {
            println!("{}", "0123456789".repeat(100));
        },
        other => panic!("no role {other}"),
    }
}

/// Not a test by itself: the other tests start it, see above.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let mut args = Args::parse_from(["child"]).common;
    if role == "hang" {
        args.drain_timeout = std::env::var("PROCESS_TEST_DRAIN").ok();
    }
    let configure = |layers: &Layers, problems: &mut Problems| {
        let mut section = layers.section("sink", &Flags::new());
        section.number("rows", 1, 1..=10);
        section.finish(problems);
        Some(role.clone())
    };
    let code = super::start(Setup::new("child", &args), configure, act);
    let code = code.unwrap_or_else(|error| failed(&error));
    std::process::exit(code.into());
}

fn start(role: &str, environment: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "run::tests::child", "--nocapture", "--quiet"])
        .env_clear()
        .env(ROLE, role)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Exit code, standard output, standard error.
fn finish(child: Child) -> (i32, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().expect("no signal kills a child here");
    (code, text(output.stdout), text(output.stderr))
}

fn wait_for(lines: &mut impl BufRead, wanted: &str) {
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "ended before `{wanted}`"
        );
    }
}

fn signal(child: &Child, name: &str) {
    let killed = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

#[test]
fn exit_codes_say_how_it_went() {
    let (code, stdout, stderr) = finish(start("done", &[("HYDRANT_SINK_ROWS", "3")]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("result"), "{stdout}");
    assert!(
        stderr.contains("configuration [sink]: rows = 3 (environment)"),
        "{stderr}"
    );

    let (code, _, stderr) = finish(start("fail", &[]));
    assert_eq!(code, 1);
    assert!(
        stderr.contains("error: cannot read `x`: entity not found"),
        "{stderr}"
    );

    let (code, _, stderr) = finish(start("refuse", &[]));
    assert_eq!(code, 64);
    assert!(stderr.contains("error: no such stream"), "{stderr}");

    let dir = tempfile::tempdir().unwrap();
    let temporary = [("TMPDIR", dir.path().to_str().unwrap())];
    let (code, _, stderr) = finish(start("panic", &temporary));
    assert_eq!(code, 1);
    assert!(
        stderr.contains("error: internal fault at process/src/run/tests.rs"),
        "{stderr}"
    );
    assert!(stderr.contains("always"), "{stderr}");
}

#[test]
fn a_process_may_open_as_many_files_as_its_hard_limit_says() {
    let child = Command::new("sh")
        .args(["-c", "ulimit -Sn 64 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "run::tests::child", "--nocapture", "--quiet"])
        .env(ROLE, "descriptors")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (code, stdout, stderr) = finish(child);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("true"), "{stdout}");
    let error = Error::io("open", "x".as_ref(), std::io::Error::from_raw_os_error(24));
    assert!(error.report().contains("ulimit -Hn"), "{}", error.report());
}

#[test]
fn every_problem_of_the_configuration_is_reported_before_anything_runs() {
    let wrong = [
        ("HYDRANT_SINK_ROWS", "30"),
        ("HYDRANT_MEMORY", "1"),
        ("HYDRANT_LOG_FORMAT", "xml"),
        ("HYDRANT_LOG_LEVEL", "inof"),
        ("HYDRANT_METRICS_LISTEN", "9090"),
        ("HYDRANT_APP", "a/b"),
        ("HYDRANT_WORKER_NAME", "-w"),
        ("HYDRANT_CONFIG", "/nonexistent.toml"),
    ];
    let (code, _, stderr) = finish(start("done", &wrong));
    assert_eq!(code, 64);
    assert!(
        stderr.contains("error: 8 problems in the configuration"),
        "{stderr}"
    );
    for (variable, value) in wrong {
        assert!(
            stderr.contains(variable) || stderr.contains(value),
            "{variable}\n{stderr}"
        );
    }
    assert!(!stderr.contains("working"), "{stderr}");
}

#[test]
fn a_panic_of_a_task_drains_and_fails_and_quotes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let temporary = [("TMPDIR", dir.path().to_str().unwrap())];
    let (code, _, stderr) = finish(start("task panics", &temporary));
    assert_eq!(code, 1);
    assert!(
        stderr.contains("error: internal fault at process/src/run/tests.rs"),
        "{stderr}"
    );
    assert!(stderr.contains("drained"), "{stderr}");
    assert!(!stderr.contains("jane"), "{stderr}");
}

#[test]
fn a_panic_is_one_line_with_the_backtrace_in_a_file_of_the_owner() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let temporary = [("TMPDIR", dir.path().to_str().unwrap())];
    let (code, _, stderr) = finish(start("panic", &temporary));
    assert_eq!(code, 1);
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(errors[0].contains("start it again"), "{stderr}");
    assert!(!stderr.contains("stack backtrace"), "{stderr}");
    let path = errors[0].rsplit(" in ").next().unwrap();
    let backtrace = std::fs::read_to_string(path).unwrap();
    assert!(backtrace.contains("run::tests::act"), "{backtrace}");
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let printed = [temporary[0], ("RUST_BACKTRACE", "1")];
    let (code, _, stderr) = finish(start("panic", &printed));
    assert_eq!(code, 1);
    assert!(stderr.contains("run::tests::act"), "{stderr}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn contained_panics_do_not_flood_the_terminal_and_end_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, stderr) = finish(start(
        "contain",
        &[("TMPDIR", dir.path().to_str().unwrap())],
    ));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stderr.matches("internal fault").count(), 5, "{stderr}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn the_first_signal_drains_and_the_second_ends_at_once() {
    for name in ["TERM", "INT"] {
        let mut child = start("drain", &[]);
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        wait_for(&mut lines, "working");
        signal(&child, name);
        wait_for(&mut lines, "drained");
        assert_eq!(finish(child).0, 0);
    }
    let mut child = start("hang", &[]);
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut lines, "working");
    signal(&child, "TERM");
    wait_for(&mut lines, "hanging");
    while child.try_wait().unwrap().is_none() {
        signal(&child, "INT");
    }
    assert_eq!(finish(child).0, 130);
}

#[test]
fn signals_to_a_process_and_its_group_are_one() {
    let mut child = start("hang", &[("PROCESS_TEST_DRAIN", "1s")]);
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut lines, "working");
    let both = format!("kill -TERM {0}; kill -INT {0}; kill -TERM {0}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &both])
            .status()
            .unwrap()
            .success()
    );
    wait_for(&mut lines, "allow more time with `--drain-timeout`");
    assert_eq!(finish(child).0, 1);
}

#[test]
fn a_drain_ends_after_its_timeout() {
    let mut child = start("hang", &[("PROCESS_TEST_DRAIN", "20ms")]);
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut lines, "working");
    signal(&child, "TERM");
    wait_for(&mut lines, "allow more time with `--drain-timeout`");
    assert_eq!(finish(child).0, 1);
}

#[test]
fn a_reader_that_goes_away_is_not_a_failure() {
    for role in ["print", "println"] {
        let mut child = start(role, &[]);
        let mut stdout = child.stdout.take().unwrap();
        let mut some = [0; 4000];
        stdout.read_exact(&mut some).unwrap();
        drop(stdout);
        let (code, _, stderr) = finish(child);
        assert_eq!(code, 0, "{stderr}");
        assert!(!stderr.contains("error"), "{stderr}");
    }
}

#[test]
fn metrics_are_served_on_the_port_that_is_printed() {
    use std::io::Write;
    let mut child = start("drain", &[("HYDRANT_METRICS_LISTEN", "127.0.0.1:0")]);
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("metrics on http://") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0);
    }
    let address = line["metrics on http://".len()..]
        .trim_end()
        .trim_end_matches("/metrics");
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    connection
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains("hydrant_process_budget_total_bytes 536870912"),
        "{answer}"
    );
    signal(&child, "TERM");
    assert_eq!(finish(child).0, 0);
}
