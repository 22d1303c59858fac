//! The configuration of `hydrant-transform`: flags, the `[transform]` table, the policy.

use std::sync::Arc;

use hydrant_consumer::InputSettings;
use hydrant_pii::Policy;
use hydrant_process::config::{Flags, Layers, Problems};
use hydrant_stream::Streams;
use serde::Serialize;

use crate::policy;

/// The most shards that a stream is made with.
const SHARDS_MAX: u64 = 4096;

/// The end of the help: the settings that have no flag.
pub const MORE_KEYS: &str = "\
Secrets for tokens have no flag: the environment variable HYDRANT_PII_KEY_FILE, or key-file in the
table [pii] of the configuration file, names a file of lines id = \"secret\"; or they stand in the
table [pii.keys].";

/// The flags. Each outranks its environment variable (`HYDRANT_TRANSFORM_FROM`, ...), which outranks the file.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct TransformArgs {
    /// Stream to read, such as local:data/raw [env: HYDRANT_TRANSFORM_FROM]
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Stream to write; a local one is created if it does not exist [env: HYDRANT_TRANSFORM_TO]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Policy, TOML; the built-in policy `strict` without it [env: HYDRANT_TRANSFORM_POLICY]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<String>,
    /// Where an app without progress starts: earliest, latest or a time [default: earliest]
    #[arg(long, value_name = "START")]
    pub start: Option<String>,
    /// How long to wait for an input that does not exist yet [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub wait: Option<String>,
    /// Exit when everything is processed and no more records arrive
    #[arg(long)]
    pub exit_at_end: bool,
    /// With --exit-at-end: the stream counts as ended after this long without a record [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub idle: Option<String>,
    /// Shards of an output that is created [default: as many as the input has]
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
}

/// The validated settings.
#[derive(Clone, Debug)]
pub struct Config {
    input: InputSettings,
    to: String,
    policy: Arc<Policy>,
    /// The shards of an output that is made.
    ///
    /// Default: as many as the input has open. Raise it when more workers read the output. Cost: files and a sync each.
    pub(crate) shards: Option<u32>,
}

impl Config {
    /// Reads all of it; `None` with a problem.
    pub fn read(
        args: &TransformArgs,
        streams: &Streams,
        layers: &Layers,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut section = layers.section("transform", &Flags::of(args));
        let remedy = "write the stream to read, such as `local:data/raw`";
        let input = InputSettings::read(&mut section, streams, remedy);
        let from = input.from();
        let remedy = "write the stream to write, such as `local:data/clean`";
        let to = section.checked("to", remedy, |url| streams.check(url));
        if !from.is_empty() && from == to {
            section.problem(
                "to",
                format!("`{to}` is the input as well: name another stream"),
            );
        }
        let file = section.path("policy");
        let shards = section.optional_number("shards", 1..=SHARDS_MAX);
        let usable = !section.has_problems();
        section.finish(problems);
        let policy = policy::load(layers, file.as_deref(), problems)?;
        usable.then_some(Config {
            input,
            to,
            policy,
            shards: shards.and_then(|shards| u32::try_from(shards).ok()),
        })
    }

    /// The settings of the input.
    pub fn input(&self) -> &InputSettings {
        &self.input
    }

    /// The URL of the output.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// The policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &TransformArgs) -> Result<Config, String> {
        let mut problems = Problems::new();
        let config = Config::read(args, &Streams::default(), &Layers::default(), &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.into_result().unwrap_err().to_string()),
        }
    }

    #[test]
    fn two_urls_are_enough() {
        let args = TransformArgs {
            from: Some("local:a".to_owned()),
            to: Some("local:b".to_owned()),
            ..TransformArgs::default()
        };
        let config = read(&args).unwrap();
        assert_eq!(config.input().from(), "local:a");
        assert_eq!(config.shards, None);
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let args = TransformArgs {
            from: Some("local:a".to_owned()),
            to: Some("local:a".to_owned()),
            policy: Some("no/such/file".into()),
            start: Some("soon".to_owned()),
            wait: Some("5".to_owned()),
            shards: Some("0".to_owned()),
            ..TransformArgs::default()
        };
        let refusal = read(&args).unwrap_err();
        for part in ["--to", "no/such/file", "--start", "--wait", "--shards"] {
            assert!(refusal.contains(part), "{part} in {refusal}");
        }
        let refusal = read(&TransformArgs::default()).unwrap_err();
        assert!(
            refusal.contains("--from") && refusal.contains("--to"),
            "{refusal}"
        );
    }
}
