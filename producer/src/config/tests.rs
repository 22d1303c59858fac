//! What is refused, how, and what the layers come to.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct ConfigCli {
    #[command(flatten)]
    producer: ProducerArgs,
}

fn load(args: &[&str]) -> (Option<Config>, Problems) {
    load_with(args, &[])
}

fn load_with(args: &[&str], environment: &[(&str, &str)]) -> (Option<Config>, Problems) {
    let cli = ConfigCli::try_parse_from(["producer"].iter().chain(args)).unwrap();
    let mut problems = Problems::new();
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let layers = Layers::load(None, environment, &mut problems);
    let config = Config::read(&cli.producer, &Streams::default(), &layers, &mut problems);
    (config, problems)
}

fn good(args: &[&str]) -> Config {
    let (config, problems) = load(args);
    assert!(problems.is_empty(), "{problems}");
    config.unwrap()
}

/// The problems, each of which one of `words` must name.
fn refused(args: &[&str], words: &[&str]) {
    let (config, problems) = load(args);
    assert!(config.is_none(), "{args:?}");
    assert_eq!(problems.len(), words.len(), "{args:?}: {problems}");
    let text = problems.to_string();
    for word in words {
        assert!(text.contains(word), "{args:?}: `{word}` is not in {text}");
    }
}

const FLEET: &[&str] = &["--to", "local:raw", "--simulate", "10"];

fn fleet(more: &[&'static str]) -> Vec<&'static str> {
    [FLEET, more].concat()
}

#[test]
fn defaults_are_those_of_the_help() {
    let config = good(FLEET);
    let InputSpec::Simulator { spec, records } = &config.origin else {
        panic!("{config:?}");
    };
    assert_eq!((spec, *records), (&FleetSpec::default(), Some(10)));
    assert_eq!(config.records(), Some(10));
    assert_eq!(
        (config.rate, config.shards, config.report.clone()),
        (None, None, None)
    );
    assert_eq!(config.linger, Duration::from_millis(20));
    assert_eq!(config.batch_bytes(4), 4 << 20);
    assert_eq!(config.batch_bytes(300), 300 * (32 << 10));
    assert_eq!(config.batch_bytes(10_000), 16 << 20);
    assert!(config.key.is_none() && config.remembered.is_none());
}

#[test]
fn every_flag_reaches_its_place() {
    let config = good(&fleet(&[
        "--devices",
        "5",
        "--seed",
        "9",
        "--malformed",
        "0.5",
        "--late",
        "0",
        "--pii",
        "off",
        "--start-time",
        "2026-11-21T10:00:00Z",
        "--rate",
        "100",
        "--key",
        "{site}-{id}",
        "--shards",
        "8",
        "--name",
        "edge",
        "--ledger",
        "state/l.json",
        "--report",
        "r.json",
        "--linger",
        "5ms",
        "--batch-bytes",
        "64KiB",
    ]));
    let InputSpec::Simulator { spec, .. } = &config.origin else {
        panic!("{config:?}");
    };
    assert_eq!((spec.devices, spec.seed, spec.pii), (5, 9, PiiShares::NONE));
    assert_eq!((spec.malformed_share, spec.late_share), (0.5, 0.0));
    assert_eq!(spec.start_micros, 1_795_255_200_000_000);
    assert_eq!((config.rate, config.shards), (Some(100), Some(8)));
    assert_eq!(config.key.as_ref().unwrap().text(), "{site}-{id}");
    let who = config.remembered.as_ref().unwrap();
    assert_eq!(
        (who.name.as_str(), &who.ledger),
        ("edge", &PathBuf::from("state/l.json"))
    );
    assert_eq!(config.report, Some(PathBuf::from("r.json")));
    assert_eq!(
        (config.linger, config.batch_bytes(1_000)),
        (Duration::from_millis(5), 65_536)
    );
}

#[test]
fn zero_records_are_no_end_and_a_hyphen_is_standard_input() {
    assert_eq!(
        good(&["--to", "local:raw", "--simulate", "0"]).records(),
        None
    );
    let stdin = good(&["--to", "local:raw", "--input", "-"]);
    assert!(matches!(&stdin.origin, InputSpec::Files(files) if *files == Files::new(["-"])));
    assert_eq!(stdin.at_end(), AtEnd::Send);
}

#[test]
fn several_inputs_keep_their_order_and_say_how_they_are_read() {
    let ledger = ["--name", "edge", "--ledger", "l.json"];
    let to = [
        "--to",
        "local:raw",
        "--input",
        "b,1",
        "--input",
        "logs/*.gz",
    ];
    let config = good(&[&to[..], &ledger].concat());
    let wanted = Files::new(["b,1", "logs/*.gz"]);
    assert!(matches!(&config.origin, InputSpec::Files(files) if *files == wanted));
    assert_eq!(config.at_end(), AtEnd::Wait);
    let more = ["--format", "json", "--at-end", "send", "--follow"];
    let config = good(&[&to[..], &ledger, &more].concat());
    assert_eq!(config.at_end(), AtEnd::Send);
    let wanted = Files {
        format: RecordFormat::Json,
        at_end: Some(AtEnd::Send),
        follow: true,
        ..wanted
    };
    assert!(matches!(&config.origin, InputSpec::Files(files) if *files == wanted));
    let (config, problems) = load_with(
        &["--to", "local:raw"],
        &[("HYDRANT_PRODUCER_INPUT", "a, b")],
    );
    assert!(problems.is_empty(), "{problems}");
    let wanted = Files::new(["a", "b"]);
    assert!(matches!(config.unwrap().origin, InputSpec::Files(files) if files == wanted));
}

#[test]
fn all_problems_are_reported_at_once() {
    refused(
        &fleet(&[
            "--rate", "0", "--linger", "5", "--key", "{", "--shards", "0", "--late", "2",
        ]),
        &["--rate", "--linger", "--key", "--shards", "--late"],
    );
    refused(&[], &["local:data/raw", "--simulate 1000"]);
}

#[test]
fn contradictions_are_refused_with_the_reason() {
    refused(&fleet(&["--input", "-"]), &["leave one of them out"]);
    refused(
        &fleet(&["--follow", "--format", "json"]),
        &["--follow", "--format"],
    );
    let stdin = ["--to", "local:raw", "--input", "-"];
    refused(&[&stdin[..], &["--follow"]].concat(), &["--follow"]);
    refused(&[&stdin[..], &["--input", "-"]].concat(), &["twice"]);
    refused(
        &[&stdin[..], &["--format", "csv", "--at-end", "stop"]].concat(),
        &["`ndjson`", "`wait`"],
    );
    refused(&fleet(&["--name", "edge"]), &["needs `--ledger FILE`"]);
    refused(&fleet(&["--ledger", "l.json"]), &["needs `--name NAME`"]);
    refused(
        &fleet(&["--name", "", "--ledger", "l.json"]),
        &["`--name`: is empty"],
    );
    refused(
        &fleet(&["--name", "a", "--ledger", ".."]),
        &["not the name of a file"],
    );
    refused(
        &[
            "--to",
            "local:raw",
            "--input",
            "f",
            "--seed",
            "2",
            "--pii",
            "off",
        ],
        &["--seed", "--pii"],
    );
    refused(&["--to", "local:raw", "--input", ""], &["is empty"]);
    refused(
        &fleet(&["--start-time", "yesterday"]),
        &["2026-01-01T00:00:00Z"],
    );
    refused(&fleet(&["--devices", "0"]), &["--devices"]);
    refused(
        &["--to", "local:raw", "--simulate", "many"],
        &["whole number"],
    );
}

#[test]
fn flags_outrank_the_environment() {
    let environment = [
        ("HYDRANT_PRODUCER_TO", "local:other"),
        ("HYDRANT_PRODUCER_SEED", "4"),
    ];
    let (config, problems) = load_with(FLEET, &environment);
    assert!(problems.is_empty(), "{problems}");
    let config = config.unwrap();
    assert_eq!(config.to, "local:raw");
    assert!(matches!(config.origin, InputSpec::Simulator { spec, .. } if spec.seed == 4));
}
