//! The configuration of a producer: flags over environment over the table `[producer]` over defaults.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use hydrant_process::config::{Flags, Layers, Problems, Section};
use hydrant_stream::Streams;
use serde::Serialize;

use crate::input::{AtEnd, RecordFormat};
use crate::key::KeyTemplate;
use crate::simulate::{DEVICES_MAX, Fleet, FleetSpec, PiiShares};

/// The table of the configuration file.
pub const SECTION: &str = "producer";

/// Shards of a stream that is created because it does not exist.
pub const SHARDS_DEFAULT: u64 = 4;

/// How long a record waits for others by default.
pub const LINGER_DEFAULT: Duration = Duration::from_millis(20);

/// Bytes of a batch by default, into a stream of few shards, and the most that is taken from an input at once.
pub const BATCH_BYTES_DEFAULT: u64 = 4 << 20;
/// The same for each shard of a stream of many: a sync of a shard costs as much as some ten kilobytes of records.
const BATCH_BYTES_A_SHARD: u64 = 32 << 10;

const LINGER_MAX: Duration = Duration::from_secs(10);
const BATCH_BYTES_MIN: u64 = 1 << 10;
const BATCH_BYTES_MAX: u64 = 16 << 20;
/// The largest record with its key. Default: what the transform's default policy takes, which would set a larger one
/// aside. Raise it when records are larger, and `[limits] record_bytes` of the policy with it.
const RECORD_BYTES_DEFAULT: u64 = 1 << 20;
const RECORD_BYTES_MIN: u64 = 64;
/// What the local log takes.
const RECORD_BYTES_MAX: u64 = 8 << 20;
/// What the local log takes.
const SHARDS_MAX: u64 = 4_096;
const RATE_MAX: u64 = 1_000_000_000;
const NAME_BYTES_MAX: usize = 128;

/// The flags as text; [`Config::read`] reads their values together with the other layers.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct ProducerArgs {
    /// The stream to write to, such as `local:data/raw`; it is created if it does not exist
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Send this many records of a simulated fleet; with 0 until stopped
    #[arg(long, value_name = "N")]
    pub simulate: Option<String>,
    /// Devices of the simulated fleet [default: 1000]
    #[arg(long, value_name = "D")]
    pub devices: Option<String>,
    /// Which fleet is simulated; the same seed gives the same records [default: 1]
    #[arg(long, value_name = "S")]
    pub seed: Option<String>,
    /// Share of simulated records that are not JSON objects [default: 0.001]
    #[arg(long, value_name = "SHARE")]
    pub malformed: Option<String>,
    /// Share of simulated records that are hours or days late [default: 0.02]
    #[arg(long, value_name = "SHARE")]
    pub late: Option<String>,
    /// Whether simulated records carry personal data: `on` or `off` [default: on]
    #[arg(long, value_name = "on|off")]
    pub pii: Option<String>,
    /// Event time of the first simulated record [default: 2026-01-01T00:00:00Z]
    #[arg(long, value_name = "TIME")]
    pub start_time: Option<String>,
    /// Send the records of a file (plain, gzip or zstd), of the files that match a pattern ('logs/*.gz'), or of standard
    /// input (`-`); may be given several times: inputs are read in that order, the matches of a pattern by name
    #[arg(long, value_name = "FILE|PATTERN")]
    pub input: Vec<String>,
    /// What a record is: a line (`ndjson`), a JSON document or an element of a top-level array (`json`), or whatever
    /// of these the input holds (`auto`) [default: auto]
    #[arg(long, value_name = "auto|ndjson|json")]
    pub format: Option<String>,
    /// What to do with a last record that has no line end: `wait` for the rest of it, or `send` it as it is; with
    /// `--follow`, that of a plain file waits until the file was renamed and is left
    /// [default: wait with a ledger, else send]
    #[arg(long, value_name = "wait|send")]
    pub at_end: Option<String>,
    /// Run until stopped: read what is appended to the files, also across rotation, and new files that match a pattern
    #[arg(long)]
    pub follow: bool,
    /// Send this many records a second [default: as fast as the stream takes them]
    #[arg(long, value_name = "R")]
    pub rate: Option<String>,
    /// The partition key: a field (`device.id`) or a template (`{site}-{device.id}`)
    #[arg(long, value_name = "FIELD|TEMPLATE")]
    pub key: Option<String>,
    /// Shards of a stream that is created because it does not exist [default: 4]
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// The name of this producer; with `--ledger`, a restart continues where the last run ended and stores nothing twice
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The file in which progress is remembered; it is created if it does not exist
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<String>,
    /// Write the final report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<String>,
    /// How long a record may wait for others to be sent with it; up to a second while earlier batches are not stored
    /// yet or hundreds of shards are written; 0 sends each record at once [default: 20ms]
    #[arg(long, value_name = "DURATION")]
    pub linger: Option<String>,
    /// The size at which a batch is sent [default: 4MiB, or 32KiB for each shard up to 16MiB]
    #[arg(long, value_name = "BYTES")]
    pub batch_bytes: Option<String>,
    /// The largest record with its key; larger ones are refused. If you raise it, also raise `record_bytes` in the
    /// transform's policy [default: 1MiB]
    #[arg(long, value_name = "BYTES")]
    pub record_bytes: Option<String>,
}

/// Where records come from.
#[derive(Clone, Debug)]
pub enum InputSpec {
    /// A simulated fleet.
    Simulator {
        /// The fleet.
        spec: FleetSpec,
        /// How many records there are; `None` for no end.
        records: Option<u64>,
    },
    /// Files, or standard input.
    Files(Files),
}

/// Which files are sent, and how they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Paths, patterns, or `-` for standard input, in order.
    pub inputs: Vec<PathBuf>,
    /// What a record is.
    pub format: RecordFormat,
    /// What the end means; `None` for the default.
    pub at_end: Option<AtEnd>,
    /// Whether to continue until stopped.
    pub follow: bool,
}

impl Files {
    /// These inputs, with all defaults.
    pub fn new(inputs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Files {
            inputs: inputs.into_iter().map(Into::into).collect(),
            format: RecordFormat::Auto,
            at_end: None,
            follow: false,
        }
    }
}

/// The name of the producer and its ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The producer's name.
    pub name: String,
    /// The ledger.
    pub ledger: PathBuf,
}

/// What a producer does. [`Config::read`] checks every value.
#[derive(Clone, Debug)]
pub struct Config {
    /// What opens the stream.
    pub streams: Streams,
    /// The stream's URL.
    pub to: String,
    /// Where records come from.
    pub origin: InputSpec,
    /// How partition keys are made, where not as the input has them.
    pub key: Option<KeyTemplate>,
    /// Records a second, at least one; `None` for as fast as the stream takes them.
    pub rate: Option<u64>,
    /// The shards of a stream that has to be made.
    pub shards: Option<u32>,
    /// With a name and a ledger: exactly once across restarts.
    pub remembered: Option<Remembered>,
    /// Where the final report goes beside the terminal.
    pub report: Option<PathBuf>,
    /// How long the first record of a batch waits for others at most.
    pub linger: Duration,
    /// The size at which a batch is sent, 1 KiB to 16 MiB; `None`: by the number of shards.
    pub batch_bytes: Option<u64>,
    /// The largest record with its key.
    pub record_bytes: u64,
}

impl Config {
    /// Records of `origin` into the stream `to`, as fast as it takes them, with all defaults.
    pub fn new(to: impl Into<String>, origin: InputSpec) -> Self {
        Config {
            streams: Streams::default(),
            to: to.into(),
            origin,
            key: None,
            rate: None,
            shards: None,
            remembered: None,
            report: None,
            linger: LINGER_DEFAULT,
            batch_bytes: None,
            record_bytes: RECORD_BYTES_DEFAULT,
        }
    }

    /// The size at which a batch for a stream of so many open shards is sent.
    pub(crate) fn batch_bytes(&self, shards: usize) -> u64 {
        let by_shards = (shards as u64).saturating_mul(BATCH_BYTES_A_SHARD);
        self.batch_bytes
            .unwrap_or_else(|| by_shards.clamp(BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX))
    }

    /// The most that is taken from an input at once.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.batch_bytes.unwrap_or(BATCH_BYTES_DEFAULT)
    }

    /// How many records there will be, where that is known.
    pub fn records(&self) -> Option<u64> {
        match self.origin {
            InputSpec::Simulator { records, .. } => records,
            InputSpec::Files(_) => None,
        }
    }

    /// What the end of an input means.
    pub(crate) fn at_end(&self) -> AtEnd {
        let chosen = match &self.origin {
            InputSpec::Files(files) => files.at_end,
            InputSpec::Simulator { .. } => None,
        };
        let remembered = self.remembered.is_some();
        chosen.unwrap_or(if remembered { AtEnd::Wait } else { AtEnd::Send })
    }

    /// Reads all layers; `None` only with a problem.
    pub fn read(
        args: &ProducerArgs,
        streams: &Streams,
        layers: &Layers,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut section = layers.section(SECTION, &Flags::of(args));
        let config = read(&mut section, streams);
        let sound = !section.has_problems();
        section.finish(problems);
        sound.then_some(config)
    }
}

fn read(section: &mut Section, streams: &Streams) -> Config {
    let remedy = "write the stream's URL, such as `local:data/raw`";
    let to = section.checked("to", remedy, |url| streams.check(url));
    let origin = read_origin(section);
    let key = section
        .text("key")
        .and_then(|template| match KeyTemplate::parse(&template) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                section.problem("key", error.to_string());
                None
            }
        });
    let shards = section.optional_number("shards", 1..=SHARDS_MAX);
    Config {
        streams: streams.clone(),
        to,
        origin,
        key,
        rate: section.optional_number("rate", 1..=RATE_MAX),
        shards: shards.and_then(|shards| u32::try_from(shards).ok()),
        remembered: read_remembered(section),
        report: section.path("report"),
        linger: section.duration_within("linger", LINGER_DEFAULT, Duration::ZERO..=LINGER_MAX),
        batch_bytes: section
            .optional_bytes_within("batch-bytes", BATCH_BYTES_MIN..=BATCH_BYTES_MAX),
        record_bytes: section.bytes_within(
            "record-bytes",
            RECORD_BYTES_DEFAULT,
            RECORD_BYTES_MIN..=RECORD_BYTES_MAX,
        ),
    }
}

fn read_origin(section: &mut Section) -> InputSpec {
    let records = section.optional_number("simulate", 0..=u64::MAX);
    let inputs = section.list("input");
    let simulates = section.is_given("simulate");
    match (simulates, section.is_given("input")) {
        (true, true) => section.problem(
            "input",
            "cannot be given together with `simulate`: leave one of them out",
        ),
        (false, false) => section.missing(
            &["simulate", "input"],
            "no input is given: write `simulate = 1000` (flag `--simulate 1000`) for simulated records, or \
             `input = \"FILE\"` (flag `--input FILE`) for those of a file",
        ),
        _ => {}
    }
    let spec = read_fleet(section, simulates);
    let files = read_files(section, inputs, simulates);
    if simulates || !section.is_given("input") {
        let records = records.filter(|records| *records > 0);
        InputSpec::Simulator { spec, records }
    } else {
        InputSpec::Files(files)
    }
}

fn read_files(section: &mut Section, inputs: Vec<String>, simulates: bool) -> Files {
    if simulates {
        let why = "is for files only: leave it out, or leave `simulate` out";
        refuse_given(section, &["format", "at-end", "follow"], why);
    }
    let formats = "`auto`, `ndjson` or `json`";
    let format = one_of(section, "format", formats, |text| {
        [RecordFormat::Auto, RecordFormat::Ndjson, RecordFormat::Json]
            .into_iter()
            .find(|one| one.name() == text)
    });
    let at_end = one_of(section, "at-end", "`wait` or `send`", |text| match text {
        "wait" => Some(AtEnd::Wait),
        "send" => Some(AtEnd::Send),
        _ => None,
    });
    let follow = section.flag("follow", false);
    if section.is_given("input") && (inputs.is_empty() || inputs.iter().any(String::is_empty)) {
        section.problem("input", "is empty: write a path, or `-` for standard input");
    }
    let stdin = inputs.iter().filter(|input| *input == "-").count();
    if stdin > 0 && follow {
        section.problem(
            "follow",
            "is for files only: standard input is read until it ends anyway",
        );
    }
    if stdin > 1 {
        section.problem(
            "input",
            "names standard input twice, which can be read only once",
        );
    }
    Files {
        at_end,
        follow,
        format: format.unwrap_or_default(),
        ..Files::new(inputs)
    }
}

fn refuse_given(section: &mut Section, keys: &[&'static str], why: &str) {
    for key in keys {
        if section.is_given(key) {
            section.problem(key, why);
        }
    }
}

/// A value out of a few.
fn one_of<T>(
    section: &mut Section,
    key: &'static str,
    values: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let text = section.text(key)?;
    let value = parse(&text);
    if value.is_none() {
        section.problem(
            key,
            format!("`{text}` is not one of its values: write {values}"),
        );
    }
    value
}

fn read_fleet(section: &mut Section, simulates: bool) -> FleetSpec {
    let default = FleetSpec::default();
    if !simulates {
        let keys = ["devices", "seed", "malformed", "late", "pii", "start-time"];
        let why = "is for simulated records only: add `--simulate N`";
        refuse_given(section, &keys, why);
        return default;
    }
    let start_micros = match section.text("start-time") {
        None => default.start_micros,
        Some(text) => parse_time(&text).unwrap_or_else(|| {
            section.problem(
                "start-time",
                format!(
                    "`{text}` is not a time since 1970: write for example `2026-01-01T00:00:00Z`"
                ),
            );
            default.start_micros
        }),
    };
    let spec = FleetSpec {
        seed: section.number("seed", default.seed, 0..=u64::MAX),
        devices: section.number("devices", default.devices, 1..=DEVICES_MAX),
        malformed_share: section.fraction("malformed", default.malformed_share, 0.0..=1.0),
        late_share: section.fraction("late", default.late_share, 0.0..=1.0),
        pii: if section.flag("pii", true) {
            PiiShares::default()
        } else {
            PiiShares::NONE
        },
        start_micros,
        ..default
    };
    if let Err(error) = Fleet::try_new(&spec)
        && !section.has_problems()
    {
        section.problem("simulate", error.to_string());
    }
    spec
}

fn read_remembered(section: &mut Section) -> Option<Remembered> {
    let (name, ledger) = (section.text("name"), section.path("ledger"));
    if let Some(name) = &name
        && (name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control))
    {
        section.problem(
            "name",
            "is too long or has control characters: write 1 to 128 bytes without them",
        );
    }
    match (name, ledger) {
        (Some(name), Some(ledger)) => {
            if ledger.file_name().is_none() {
                section.problem(
                    "ledger",
                    "is not the name of a file: write for example `ledger.json`",
                );
            }
            Some(Remembered { name, ledger })
        }
        // One that was given and refused is not missing.
        _ if section.is_given("name") && section.is_given("ledger") => None,
        (Some(_), None) => {
            section.problem(
                "name",
                "needs `--ledger FILE`, the file in which progress is remembered",
            );
            None
        }
        (None, Some(_)) => {
            section.problem(
                "ledger",
                "needs `--name NAME`, by which the stream knows the records of this producer again",
            );
            None
        }
        (None, None) => None,
    }
}

/// RFC 3339 as microseconds since 1970.
fn parse_time(text: &str) -> Option<i64> {
    let time = humantime::parse_rfc3339_weak(text).ok()?;
    let micros = time.duration_since(UNIX_EPOCH).ok()?.as_micros();
    i64::try_from(micros).ok()
}

#[cfg(test)]
mod tests;
