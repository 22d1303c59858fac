//! The configuration of `hydrant-consumer`: flags and the `[consumer]` table.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hydrant_core::settings::refuse_tilde;
use hydrant_process::config::{Flags, Layers, Problems};
use hydrant_stream::{StreamUrl, Streams};
use serde::Serialize;

use crate::copy::{CopyFormat, Filter, OnPoison};
use crate::input::InputSettings;
use crate::runtime::LEASE_TIME_RANGE;

/// The flags. A flag outranks its environment variable (`HYDRANT_CONSUMER_FROM`, ...), which outranks the file.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct ConsumerArgs {
    /// Stream to read, such as local:data/raw [env: HYDRANT_CONSUMER_FROM]
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Target: `-` for standard output, a file, a device or named pipe, or the URL of a stream [default: -]
    #[arg(long, value_name = "-|FILE|URL", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Where an app without progress starts: earliest, latest or a time [default: earliest]
    #[arg(long, value_name = "START")]
    pub start: Option<String>,
    /// Format outside of a stream: ndjson (the payload, one a line), json (one object a line, with position and key)
    /// or raw (the bytes of the payload and nothing else) [default: ndjson]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Take only records with `key=TEXT`, `key^=PREFIX` or `/json/pointer=VALUE`; all filters must match
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// What to do with a record that the format cannot express or a filter cannot read: retry, dead-letter or stop
    /// [default: dead-letter]
    #[arg(long, value_name = "WHAT")]
    pub on_poison: Option<String>,
    /// Exit when everything is copied and no more records arrive
    #[arg(long)]
    pub exit_at_end: bool,
    /// With --exit-at-end: the stream counts as ended after this long without a record [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub idle: Option<String>,
    /// How long to wait for a stream that does not exist yet [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub wait: Option<String>,
    /// A worker that is silent for this long loses its shards [default: 10s in a local stream]
    #[arg(long, value_name = "DURATION")]
    pub lease_time: Option<String>,
}

/// The target of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyTarget {
    /// Standard output.
    Stdout,
    /// A file, a device or a named pipe.
    File(PathBuf),
    /// A stream.
    Stream(String),
}

impl fmt::Display for CopyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyTarget::Stdout => f.write_str("standard output"),
            CopyTarget::File(path) => write!(f, "`{}`", path.display()),
            CopyTarget::Stream(url) => write!(f, "`{url}`"),
        }
    }
}

impl CopyTarget {
    /// Refuses what looks like the URL of an unknown kind, which is probably a mistyped one.
    fn parse(text: &str) -> Result<Self, String> {
        if text == "-" || text == "/dev/stdout" {
            return Ok(CopyTarget::Stdout);
        }
        if StreamUrl::is_meant_by(text) {
            return Ok(CopyTarget::Stream(text.to_owned()));
        }
        let path = match text.split_once(':') {
            Some(("file", path)) => path,
            Some((scheme, _)) if is_scheme(scheme) => {
                return Err(format!(
                    "`{scheme}:` is not a kind of target: write a stream, such as `local:data/copy`, or `./{text}` for \
                     a file"
                ));
            }
            _ => text,
        };
        let path = PathBuf::from(path);
        refuse_tilde(&path).map_err(|error| error.to_string())?;
        Ok(CopyTarget::File(path))
    }
}

/// Whether a text may be the scheme of a URL (RFC 3986, section 3.1); a single letter is a name.
fn is_scheme(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.len() > 1 && text.as_bytes()[0].is_ascii_alphabetic() && text.bytes().all(is_inside)
}

/// The validated settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The input.
    pub input: InputSettings,
    /// The target. Default: standard output.
    pub to: CopyTarget,
    /// The format of records outside of a stream. Default: ndjson.
    pub format: CopyFormat,
    /// The filters. Default: none, which takes all records.
    pub filters: Vec<Filter>,
    /// What to do with a record that cannot be copied. Default: dead-letter.
    pub on_poison: OnPoison,
    /// After how long a silent worker loses its shards. Default: as the stream says.
    pub lease_time: Option<Duration>,
}

impl Config {
    /// Reads all settings and reports every problem; `None` if there is one.
    pub fn read(
        args: &ConsumerArgs,
        streams: &Streams,
        layers: &Layers,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut section = layers.section("consumer", &Flags::of(args));
        let remedy = "write the stream to read, such as `local:data/raw`";
        let input = InputSettings::read(&mut section, streams, remedy);
        let from = input.from();
        let to = section.text("to").unwrap_or_else(|| "-".to_owned());
        if !from.is_empty() && from == to {
            section.problem(
                "to",
                format!("`{to}` is also the input: name another target"),
            );
        }
        let to = CopyTarget::parse(&to).unwrap_or_else(|problem| {
            section.problem("to", problem);
            CopyTarget::Stdout
        });
        if let CopyTarget::Stream(url) = &to
            && let Err(error) = streams.check(url)
        {
            section.problem("to", error.to_string());
        }
        if matches!(to, CopyTarget::Stream(_)) && section.is_given("format") {
            section.problem(
                "format",
                "a stream takes records unchanged: leave `format` out",
            );
        }
        let mut filters = Vec::new();
        for text in section.list("filter") {
            match text.parse() {
                Ok(filter) => filters.push(filter),
                Err(error) => section.problem("filter", error),
            }
        }
        let format = section.choice("format", CopyFormat::CHOICES, CopyFormat::Ndjson);
        let on_poison = section.choice("on-poison", OnPoison::CHOICES, OnPoison::DeadLetter);
        let lease_time = section.optional_duration_within("lease-time", LEASE_TIME_RANGE);
        let usable = !section.has_problems();
        section.finish(problems);
        usable.then_some(Config {
            input,
            to,
            format,
            filters,
            on_poison,
            lease_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &ConsumerArgs) -> Result<Config, String> {
        let mut problems = Problems::new();
        let layers = Layers::load(None, [], &mut problems);
        let config = Config::read(args, &Streams::default(), &layers, &mut problems);
        match problems.into_result() {
            Ok(()) => Ok(config.unwrap()),
            Err(error) => Err(error.report()),
        }
    }

    fn given(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_defaults_print_from_the_beginning() {
        let config = read(&ConsumerArgs {
            from: given("local:a"),
            ..Default::default()
        })
        .unwrap();
        assert_eq!(config.to, CopyTarget::Stdout);
        assert_eq!(config.format, CopyFormat::Ndjson);
        assert_eq!(config.on_poison, OnPoison::DeadLetter);
    }

    #[test]
    fn targets_are_distinguished_by_their_form() {
        for (text, target) in [
            ("-", CopyTarget::Stdout),
            ("out.ndjson", CopyTarget::File("out.ndjson".into())),
            ("file:/tmp/a:b", CopyTarget::File("/tmp/a:b".into())),
            ("local:data/x", CopyTarget::Stream("local:data/x".into())),
            ("sqs://x", CopyTarget::Stream("sqs://x".into())),
        ] {
            assert_eq!(CopyTarget::parse(text), Ok(target), "{text}");
        }
        for text in ["lcoal:copy", "LOCAL:copy", "Local:data/x", "s3+x:y"] {
            let refused = CopyTarget::parse(text).unwrap_err();
            assert!(refused.contains(&format!("./{text}")), "{refused}");
        }
        for text in ["~/copy.ndjson", "file:~/copy.ndjson"] {
            let refused = CopyTarget::parse(text).unwrap_err();
            assert!(refused.contains("only shells read"), "{refused}");
        }
        for text in ["./lcoal:copy", "a:b", "2026-11-30T08:00:00.ndjson"] {
            assert_eq!(CopyTarget::parse(text), Ok(CopyTarget::File(text.into())));
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let args = ConsumerArgs {
            to: given("local:b"),
            start: given("yesterday"),
            format: given("xml"),
            filter: vec!["x".to_owned(), "key=a".to_owned()],
            on_poison: given("ignore"),
            lease_time: given("1ms"),
            ..Default::default()
        };
        let text = read(&args).unwrap_err();
        for word in [
            "from",
            "yesterday",
            "xml",
            "key^=TEXT",
            "ignore",
            "lease-time",
        ] {
            assert!(text.contains(word), "{word} is missing in {text}");
        }
    }
}
