//! What the help texts call a default is what an empty configuration does.
//!
//! A setting that is given the value of its `[default: ..]` must leave the validated configuration as it is without.

use std::fmt::Debug;

use clap::Command;
use hydrant_consumer::config::ConsumerArgs;
use hydrant_process::config::{Layers, Problems};
use hydrant_producer::config::{ProducerArgs, SHARDS_DEFAULT};
use hydrant_sink::config::{MORE_KEYS, SinkArgs};
use hydrant_sink::lake::Lakes;
use hydrant_stream::Streams;
use hydrant_transform::config::TransformArgs;

use crate::test_dir::TestDir;

/// The settings whose default is taken later, since the configuration says whether they were given.
const TAKEN_LATER: [(&str, u64); 1] = [("shards", SHARDS_DEFAULT)];

/// The value in a help text's `[default: ..]`. One with a blank is a sentence, and no value of a setting.
fn default_in(help: &str) -> Option<&str> {
    let (_, rest) = help.split_once("[default: ")?;
    let (value, _) = rest.split_once(']')?;
    (!value.contains(' ')).then_some(value)
}

/// Compares each default in the help of the flags `A`, and answers how many there are. Beside a flag stands the first
/// of `beside` with which it can be given.
fn compare<A: clap::Args, C: Debug>(
    beside: &[&[&str]],
    read: impl Fn(&A, &Layers, &mut Problems) -> Option<C>,
) -> usize {
    let command = A::augment_args(Command::new("flags"));
    let config = |words: &[&str]| {
        let words = [&["flags"], words].concat();
        let matches = command.clone().try_get_matches_from(words);
        let args = A::from_arg_matches(&matches.expect("flags")).expect("flags");
        let mut problems = Problems::new();
        let config = read(&args, &Layers::default(), &mut problems);
        let config = config.filter(|_| problems.is_empty());
        config.map(|config| format!("{config:?}"))
    };
    let mut compared = 0;
    for flag in command.get_arguments() {
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        let Some(value) = default_in(&help) else {
            continue;
        };
        let name = flag.get_long().expect("a flag");
        compared += 1;
        if let Some((_, default)) = TAKEN_LATER.iter().find(|(taken, _)| *taken == name) {
            assert_eq!(value, default.to_string(), "`--{name}`");
            continue;
        }
        let given = format!("--{name}={value}");
        let mut possible = beside.iter().filter_map(|words| {
            let with = config(&[*words, &[given.as_str()]].concat())?;
            Some((with, config(words).expect("the flags beside it are enough")))
        });
        let (with, without) = possible
            .next()
            .unwrap_or_else(|| panic!("`{given}` is refused"));
        assert_eq!(with, without, "`{given}` is not the default");
    }
    compared
}

#[test]
fn a_flag_with_its_default_changes_nothing() {
    let streams = Streams::default();
    let between: &[&[&str]] = &[&["--from", "local:a", "--to", "local:b"]];
    let producers: &[&[&str]] = &[
        &["--to", "local:a", "--simulate", "5"],
        &["--to", "local:a", "--input", "lines"],
    ];
    let compared = [
        compare(producers, |args: &ProducerArgs, layers, problems| {
            hydrant_producer::Config::read(args, &streams, layers, problems)
        }),
        compare(between, |args: &TransformArgs, layers, problems| {
            hydrant_transform::config::Config::read(args, &streams, layers, problems)
        }),
        compare(
            &[&["--from", "local:a"]],
            |args: &ConsumerArgs, layers, problems| {
                hydrant_consumer::config::Config::read(args, &streams, layers, problems)
            },
        ),
        compare(
            &[&["--from", "local:a", "--to", "file:b"]],
            |args: &SinkArgs, layers, problems| {
                let connections = (&streams, &Lakes::default());
                hydrant_sink::config::Config::read(args, connections, layers, problems)
            },
        ),
    ];
    assert_eq!(compared, [10, 3, 6, 8], "defaults in the help texts");
}

#[test]
fn a_key_of_the_sink_with_its_default_changes_nothing() {
    let place = TestDir::new();
    let config = |text: &str| {
        place.write(
            "sink.toml",
            format!("[sink]\nfrom = \"local:a\"\nto = \"file:b\"\n{text}"),
        );
        let mut problems = Problems::new();
        let layers = Layers::load(Some(&place.path("sink.toml")), [], &mut problems);
        let connections = (&Streams::default(), &Lakes::default());
        let args = SinkArgs::default();
        let config = hydrant_sink::config::Config::read(&args, connections, &layers, &mut problems);
        problems.into_result().expect(text);
        format!("{:?}", config.expect("a configuration"))
    };
    let without = config("");
    let mut compared = 0;
    for line in MORE_KEYS.lines() {
        let Some(value) = default_in(line) else {
            continue;
        };
        let key = line.split_whitespace().next().expect("a key");
        let is_bare = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
        let value = if is_bare {
            value.to_owned()
        } else {
            format!("\"{value}\"")
        };
        assert_eq!(config(&format!("{key} = {value}\n")), without, "{line}");
        compared += 1;
    }
    assert_eq!(compared, 8, "{MORE_KEYS}");
}
