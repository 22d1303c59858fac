//! The configuration of `hydrant-sink`: flags over environment over the `[sink]` table over defaults.

use std::time::Duration;

use hydrant_consumer::InputSettings;
use hydrant_process::config::{Flags, Layers, Problems, Section};
use hydrant_stream::Streams;
use serde::Serialize;

use crate::encode::{Compression, EncodeOptions, ParquetProfile};
use crate::lake::{Lakes, TableNames};
use crate::schema::ColumnType;
use crate::shard::flush_rules::{FLUSH_BYTES, FLUSH_INTERVAL, FlushRules};
use crate::table::layout_text::NO_PARTITION;
use crate::table::partition::PartitionSpec;
use crate::table::spec::{OnConflict, TableRules};

/// The table's name when none is given.
pub const TABLE_DEFAULT: &str = "events";

/// Event times are judged by the time at which an interval was opened, so an interval must not grow old.
const FLUSH_INTERVAL_MAX: Duration = Duration::from_secs(3600);
const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The most that a decoder takes.
const FLUSH_BYTES_MAX: u64 = 1 << 30;
const FLUSH_BYTES_MIN: u64 = 1 << 10;
const COLUMNS_MAX: u64 = 100_000;
const ROW_GROUP_BYTES_MIN: u64 = 1 << 20;
const ROW_GROUP_BYTES_MAX: u64 = 1 << 30;
const ZSTD_LEVEL_MAX: u64 = 22;
const LATENESS_MIN: Duration = Duration::from_secs(3600);
/// A hundred years.
const LATENESS_MAX: Duration = Duration::from_secs(100 * 31_557_600);
/// The largest offset that a layout takes.
const OFFSET_MINUTES_MAX: i64 = 18 * 60;

/// The end of the help: the keys of `[sink]` that have no flag.
pub const MORE_KEYS: &str = "\
Settings without a flag are keys of the table [sink] of the configuration file, or environment
variables such as HYDRANT_SINK_FROZEN=true:
  columns             in the file only: table of names and types, such as price = \"DECIMAL(9,2)\",
                      instead of the types that the first records suggest
  frozen              true: new keys become no columns [default: false]
  on-conflict         rescue what a column does not take, or dead-letter its record [default: rescue]
  columns-max         most columns of the table [default: 2000]
  utc-offset-minutes  where days and hours begin: minutes east of UTC, not --time-zone [default: 0]
  lateness-max        rows that came into the stream later than this after their event time, such
                      as 30d, share one partition a month
  compression         zstd, snappy, lz4 or none [default: zstd]
  zstd-level          1 to 22 [default: 1]
  row-group-bytes     1MiB to 1GiB [default: 64MiB]
  parquet-profile     compatible, which every reader takes, or modern [default: compatible]
  bloom-filters       columns that queries look up by value";

/// The forms of an event time, for the long help.
const EVENT_TIME_FORMAT_HELP: &str = "\
Another form of event times, as of strftime, such as `%d.%m.%Y %H:%M:%S` (may be repeated).
It is tried before the forms that are known anyway, all but RFC 3339:
  2026-01-31T10:00:00.123Z, also with +0100, -03, +05:30, a space before the zone or for the T,
  a comma before the fraction, without seconds, or the date alone
  2026/01/31 10:00:00, 20260131T100000Z, 20260131100000, 202601311000, 2026-W05-6, 2026-031
  31/Jan/2026:10:00:00 +0100            web servers
  Sat, 31 Jan 2026 10:00:00 GMT         e-mail and HTTP
  Sat Jan 31 10:00:00 2026              C; also with a zone, and as JavaScript has it
  Jan 31 10:00:00                       syslog: the last such day
  1769853600, 1769853600.123            since 1970, as number or text: below 1e11 seconds, below
                                        1e14 milliseconds, below 1e17 microseconds, else nanoseconds
A year has four digits, or two behind a day of the week or with a zone: 26-Nov-30 is no time. A text
of ten digits that may be an hour of this century, such as 2026013110, is no time either, because it
may be seconds since 1970 from 2033 on: name the format `%Y%m%d%H` if it is. A text of 8, 12 or 14
digits that begins with 19 or 20 is a date or no time, never a number since 1970.
A JSON number is always one since 1970, also 20260131: dates are texts.";

/// The flags. Each outranks its environment variable (`HYDRANT_SINK_FROM`, ...), which outranks the file.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct SinkArgs {
    /// Stream to read, such as local:data/clean [env: HYDRANT_SINK_FROM]
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Lake to write, such as file:data/lake [env: HYDRANT_SINK_TO]
    #[arg(long, value_name = "LAKE-URL")]
    pub to: Option<String>,
    /// Table of the lake [default: events]
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Publish records after this time at the latest [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub flush_interval: Option<String>,
    /// Publish when this much input has arrived [default: 128MiB]
    #[arg(long, value_name = "BYTES")]
    pub flush_bytes: Option<String>,
    /// Field that holds the event time, such as `meta.time`
    /// (default: event_time, timestamp, ts, time or @timestamp, the first that can be read)
    #[arg(long, value_name = "FIELD")]
    pub event_time: Option<String>,
    /// Zone of event times that are written without one: UTC, an offset such as +02:00, or a name
    /// such as Europe/Berlin; the days of partitions stay those of UTC [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Another form of event times, such as `%d.%m.%Y %H:%M:%S` (may be repeated)
    #[arg(
        long,
        value_name = "FORMAT",
        long_help = EVENT_TIME_FORMAT_HELP
    )]
    pub event_time_format: Vec<String>,
    /// Partition by `date` or `hour` and by fields, separated by commas, or by `none`; `date=NAME`
    /// gives the column of the day another name [default: date]
    #[arg(long, value_name = "PARTS")]
    pub partition: Option<String>,
    /// Add columns that say where each row came from
    #[arg(long)]
    pub provenance: bool,
    /// Where to start in a shard of which the lake has nothing: earliest, latest or a time [default: earliest]
    #[arg(long, value_name = "START")]
    pub start: Option<String>,
    /// How long to wait for an input that does not exist yet [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub wait: Option<String>,
    /// Exit when everything is published and no more records arrive
    #[arg(long)]
    pub exit_at_end: bool,
    /// With --exit-at-end: the stream counts as ended after this long without a record [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub idle: Option<String>,
}

/// The validated settings.
#[derive(Clone, Debug)]
pub struct Config {
    input: InputSettings,
    lakes: Lakes,
    to: String,
    names: TableNames,
    /// The rules of the table.
    pub(crate) rules: TableRules,
    /// When intervals are published.
    ///
    /// Default: 128 MiB of input or 60 s. Raise them for fewer and larger files. Cost: memory, and rows appear later.
    pub(crate) flush: FlushRules,
}

impl Config {
    /// Reads all settings. Returns `None` when one is wrong; `problems` says which.
    pub fn read(
        args: &SinkArgs,
        (streams, lakes): (&Streams, &Lakes),
        layers: &Layers,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut section = layers.section("sink", &Flags::of(args));
        let remedy = "write the stream to read, such as `local:data/clean`";
        let input = InputSettings::read(&mut section, streams, remedy);
        let remedy = "write the lake to write, such as `file:data/lake`";
        let to = section.checked("to", remedy, |url| lakes.check(url));
        let names = read_names(&mut section);
        let rules = read_rules(&mut section);
        let interval = section.duration_within(
            "flush-interval",
            FLUSH_INTERVAL,
            FLUSH_INTERVAL_MIN..=FLUSH_INTERVAL_MAX,
        );
        let bytes = section.bytes_within(
            "flush-bytes",
            FLUSH_BYTES,
            FLUSH_BYTES_MIN..=FLUSH_BYTES_MAX,
        );
        let usable = !section.has_problems();
        section.finish(problems);
        let names = names.filter(|_| usable)?;
        let flush = FlushRules { bytes, interval };
        Some(Config {
            input,
            lakes: lakes.clone(),
            to,
            names,
            rules,
            flush,
        })
    }

    /// The settings of the input.
    pub fn input(&self) -> &InputSettings {
        &self.input
    }

    /// What opens the lake.
    pub fn lakes(&self) -> &Lakes {
        &self.lakes
    }

    /// The URL of the lake.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// The table.
    ///
    /// Default: `events`.
    pub fn names(&self) -> &TableNames {
        &self.names
    }
}

fn read_names(section: &mut Section) -> Option<TableNames> {
    let table = section.text("table");
    let names = TableNames::try_new(table.as_deref().unwrap_or(TABLE_DEFAULT));
    let names = names.map_err(|error| section.problem("table", error.to_string()));
    names.ok()
}

/// Reads the rules of the table:
///
/// - `partition`: `date`, `hour` or fields, or `none`. Default: `date`. Add fields that queries filter by.
///   Cost: a file for each value and interval.
/// - `utc-offset-minutes`: the time zone of days and hours. Default: 0.
/// - `time-zone`: the zone of event times that are written without one. Default: UTC.
/// - `event-time-format`: forms of event times beside the known ones. Default: none.
/// - `columns`: a table of names and types that the first records do not decide. Default: none.
/// - `frozen`: whether other keys become no columns. Default: no.
/// - `on-conflict`: what becomes of a value that its column does not take. Default: it is rescued.
/// - `columns-max`: bound of the columns of the table. Default: 2000. Cost: memory.
/// - `lateness-max`: how long after their event time rows may come into the stream that lie in the partition of their own
///   day. Default: however late. Lower it when late data makes many small files. Cost: late rows lie in the partition of the first day of their month.
/// - `compression`, `zstd-level`, `row-group-bytes`, `bloom-filters`: how files are written. Default: zstd at level 1,
///   64 MiB, none.
/// - `parquet-profile`: `compatible` or `modern`, which readers must understand the encodings. Default: compatible.
fn read_rules(section: &mut Section) -> TableRules {
    let mut rules = TableRules::default();
    let partition = section.list("partition");
    if section.is_given("partition") {
        rules.partition = match partition == [NO_PARTITION] {
            true => Vec::new(),
            false => partition,
        };
    }
    let minutes = section.integer(
        "utc-offset-minutes",
        0,
        -OFFSET_MINUTES_MAX..=OFFSET_MINUTES_MAX,
    );
    rules.offset_minutes = i32::try_from(minutes).unwrap_or_default();
    let layout = PartitionSpec::try_new(&rules.partition, rules.offset_minutes);
    let layout = layout.map_err(|error| section.problem("partition", error.to_string()));
    rules.event_time = section.text("event-time");
    if let Some(path) = &rules.event_time
        && path.split('.').any(str::is_empty)
    {
        let message = format!("`{path}` has an empty part: write for example `meta.time`");
        section.problem("event-time", message);
    }
    let zone = section.parsed("time-zone", str::parse);
    rules.time_zone = zone.unwrap_or_default();
    rules.event_time_formats = section.list_with_commas("event-time-format");
    if let Err(error) = rules.time_reader(0) {
        section.problem("event-time-format", error.to_string());
    }
    rules.provenance = section.flag("provenance", false);
    for (name, kind) in section.table("columns") {
        match kind.parse::<ColumnType>() {
            Ok(kind) => rules.declared.push((name, kind)),
            Err(error) => {
                section.problem_in("columns", &name, format!("column `{name}`: {error}"));
            }
        }
    }
    let layout = layout.and_then(|layout| {
        let declared = layout.with_declared(&rules.declared);
        declared.map_err(|error| section.problem("columns", error.to_string()))
    });
    if let Ok(layout) = layout
        && let Err((column, why)) = rules.first_schema_in(&layout)
    {
        let column = column.unwrap_or_default();
        section.problem_in("columns", &column, why);
    }
    rules.frozen = section.flag("frozen", false);
    let choices = [
        ("rescue", OnConflict::Rescue),
        ("dead-letter", OnConflict::DeadLetter),
    ];
    rules.on_conflict = section.choice("on-conflict", &choices, OnConflict::Rescue);
    let columns_max = section.number("columns-max", rules.columns_max as u64, 1..=COLUMNS_MAX);
    rules.columns_max = usize::try_from(columns_max).unwrap_or(usize::MAX);
    let range = LATENESS_MIN..=LATENESS_MAX;
    let lateness = section.optional_duration_within("lateness-max", range);
    let micros = lateness.and_then(|lateness| i64::try_from(lateness.as_micros()).ok());
    rules.lateness_max_micros = micros;
    rules.encode = read_encoding(section);
    rules
}

fn read_encoding(section: &mut Section) -> EncodeOptions {
    let mut options = EncodeOptions::default();
    let level = section.number("zstd-level", 1, 1..=ZSTD_LEVEL_MAX);
    let zstd = Compression::Zstd(i32::try_from(level).unwrap_or(1));
    let choices = [
        ("zstd", zstd),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("none", Compression::None),
    ];
    options.compression = section.choice("compression", &choices, zstd);
    let profiles = [
        ("compatible", ParquetProfile::Compatible),
        ("modern", ParquetProfile::Modern),
    ];
    options.profile = section.choice("parquet-profile", &profiles, options.profile);
    let bytes = section.bytes_within(
        "row-group-bytes",
        options.row_group_bytes as u64,
        ROW_GROUP_BYTES_MIN..=ROW_GROUP_BYTES_MAX,
    );
    options.row_group_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    options.bloom_filters = section.list("bloom-filters");
    if options.bloom_filters.iter().any(String::is_empty) {
        section.problem(
            "bloom-filters",
            "it names no column: write the names of columns, or leave it out",
        );
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &SinkArgs, file: &str) -> Result<Config, String> {
        let mut problems = Problems::new();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hydrant.toml");
        std::fs::write(&path, file).unwrap();
        let layers = Layers::load(Some(&path), [], &mut problems);
        let connections = (&Streams::default(), &Lakes::default());
        let config = Config::read(args, connections, &layers, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.into_result().unwrap_err().to_string()),
        }
    }

    fn args() -> SinkArgs {
        SinkArgs {
            from: Some("local:a".to_owned()),
            to: Some("file:b".to_owned()),
            ..SinkArgs::default()
        }
    }

    #[test]
    fn two_urls_are_enough() {
        let config = read(&args(), "").unwrap();
        assert_eq!(config.names().table(), TABLE_DEFAULT);
        assert_eq!(config.flush, FlushRules::default());
        assert_eq!(config.input().from(), "local:a");
        assert!(!config.rules.provenance);
    }

    #[test]
    fn a_file_says_what_a_table_is() {
        let file = "[sink]\ntable = \"devices\"\npartition = [\"hour\", \"region\"]\nfrozen = true\n\
                    time-zone = \"Europe/Berlin\"\nevent-time-format = [\"%d.%m.%Y, %H:%M\"]\n\
                    compression = \"lz4\"\nparquet-profile = \"modern\"\nflush-interval = \"5s\"\nbloom-filters = [\"id\"]\n\
                    [sink.columns]\nid = \"VARCHAR\"\nprice = \"DECIMAL(9,2)\"\n";
        let config = read(
            &SinkArgs {
                provenance: true,
                ..args()
            },
            file,
        )
        .unwrap();
        let rules = &config.rules;
        assert_eq!(config.names().table(), "devices");
        assert_eq!(rules.partition, ["hour", "region"]);
        assert_eq!(rules.time_zone.to_string(), "Europe/Berlin");
        assert_eq!(rules.event_time_formats, ["%d.%m.%Y, %H:%M"]);
        assert!(rules.frozen && rules.provenance);
        assert_eq!(rules.declared.len(), 2);
        assert_eq!(rules.encode.compression, Compression::Lz4);
        assert_eq!(rules.encode.profile, ParquetProfile::Modern);
        assert_eq!(config.flush.interval, Duration::from_secs(5));
        assert_eq!(rules.encode.bloom_filters, ["id"]);
    }

    #[test]
    fn a_table_without_partitions_can_be_said_by_flag_and_in_the_file() {
        let flag = SinkArgs {
            partition: Some("none".to_owned()),
            ..args()
        };
        for (args, file) in [
            (flag, ""),
            (args(), "[sink]\npartition = []\n"),
            (args(), "[sink]\npartition = \"none\"\n"),
            (args(), "[sink]\npartition = [\"none\"]\n"),
        ] {
            assert!(read(&args, file).unwrap().rules.partition.is_empty());
        }
    }

    #[test]
    fn a_mistake_is_reported_once_where_it_was_made() {
        let wrong = SinkArgs {
            partition: Some("date;region".to_owned()),
            ..args()
        };
        let said = read(&wrong, "").unwrap_err();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("flag `--partition`") && said.contains("`date,region`"),
            "{said}"
        );
        let file = "[sink]\nevent-time-format = \"%d.%m.%Y, %H:%M\"\nlateness-max = \"30\"\n[sink.columns]\nok = \"BIGINT\"\n\
                    n = \"INTEGER\"\nmeta.at = \"DATE\"\n\"a..b\" = \"DATE\"\n";
        let said = read(&args(), file).unwrap_err();
        for part in [
            "(line 2): `%d.%m.%Y, %H:%M` holds a comma",
            "(line 3): `30` has no unit: write for example `30h` or `30d`",
            "(line 6): column `n`: `INTEGER` is not a column type: did you mean BIGINT?",
            "(line 7): `meta.at` is read as tables",
            "(line 8): `a..b` is not a path of a column",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert_eq!(said.lines().count(), 6, "{said}");
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let file = "[sink]\ntable = \"a/b\"\npartition = [\"date\", \"date\"]\ncompresion = \"lz4\"\n\
                    flush-interval = \"5d\"\ntime-zone = \"Mars\"\nevent-time-format = [\"%H\"]\n[sink.columns]\nid = \"TEXT\"\n";
        let reported = read(
            &SinkArgs {
                start: Some("soon".to_owned()),
                ..SinkArgs::default()
            },
            file,
        );
        let reported = reported.unwrap_err();
        for part in [
            "from",
            "to",
            "table",
            "partition",
            "compression",
            "flush-interval",
            "columns",
            "time-zone",
            "event-time-format",
            "--start",
        ] {
            assert!(reported.contains(part), "{part} in {reported}");
        }
    }
}
