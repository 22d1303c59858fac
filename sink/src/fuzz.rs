//! Everything of the sink that reads bytes from outside, fuzzed: see `docs/fuzzing.md`.

use hydrant_fuzz::Target;

use crate::decode::{DecodeOutcome, Decoder, Provenance, RejectReason, RowOrigin};
use crate::encode::{EncodeOptions, encode, head, write_json_row};
use crate::lake::{COMMIT_VERSION, Commit};
use crate::schema::{ColumnType, PartitionKind, TableSchema};
use crate::table::event_time::{TimeReader, parse_rfc3339};
use crate::table::partition::{PartitionKey, PartitionSpec};
use crate::table::partition_value::ReadValue;
use crate::table::spec::TableRules;
use crate::table::zone::Zone;

const NOW_MICROS: i64 = 1_780_000_000_000_000;

const ORIGIN: RowOrigin<'_> = RowOrigin {
    stamp_micros: None,
    arrival_micros: NOW_MICROS,
    sequence: "17",
    sub: 3,
};

const PROVENANCE: Provenance<'_> = Provenance {
    stream: "s",
    shard: "0",
};

/// A record that every table takes.
const GOOD: &[u8] = br#"{"zzz":"good"}"#;

/// Writes records to Parquet and reads them back: the rows in order as JSON, and the reasons why the others were
/// refused.
fn rows(records: &[&[u8]], options: TableRules) -> (Vec<Vec<u8>>, Vec<RejectReason>) {
    let schema = TableSchema::default();
    let mut decoder =
        Decoder::try_new(&schema, &options, NOW_MICROS).expect("a new table has any layout");
    let mut refused = Vec::new();
    for record in records {
        match decoder.append(record, &ORIGIN) {
            DecodeOutcome::Row => {}
            DecodeOutcome::Full => break,
            DecodeOutcome::Rejected(reject) => {
                assert!(reject.to_string().starts_with(reject.reason.code()));
                assert!(reject.offset <= record.len());
                refused.push(reject.reason);
            }
        }
    }
    assert!(decoder.rows() + refused.len() <= records.len());
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let conformed = decoded
        .conform(&schema, PROVENANCE)
        .expect("rows fit their own schema");
    let mut all = Vec::new();
    for partition in &conformed.partitions {
        let batch = partition.rows.to_batch().expect("rows are spread");
        let schema = batch.schema();
        let mut file = Vec::new();
        encode(&partition.rows, &EncodeOptions::default(), &[], &mut file)
            .expect("a file in memory");
        let read = head(bytes::Bytes::from(file), records.len()).expect("the file is one of ours");
        for (row, read) in read.into_iter().enumerate() {
            let mut written = Vec::new();
            write_json_row(schema.fields(), batch.columns(), row, &mut written)
                .expect("a table's types are written");
            assert_eq!(
                read.escape_ascii().to_string(),
                written.escape_ascii().to_string()
            );
            all.push((partition.records[row], read));
        }
    }
    all.sort();
    (all.into_iter().map(|(_, row)| row).collect(), refused)
}

/// On a thread like those that encode.
#[test]
fn records_become_rows_or_leave_no_trace() {
    let thread = std::thread::Builder::new().stack_size(hydrant_core::workers::STACK_BYTES);
    let run = thread.spawn(fuzz_records).expect("a thread starts");
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Lines as records: each is a row that Parquet gives back or is refused, and a refused one leaves
/// no trace in the rows around it.
fn fuzz_records() {
    let make = |random: &mut hydrant_fuzz::FuzzRandom| {
        let records: Vec<_> = (0..random.usize(1..4))
            .map(|_| hydrant_fuzz::json(random))
            .collect();
        records.join(&b'\n')
    };
    let tokens = [
        "null",
        "\"ts\":",
        "2026-01-02T03:04:05Z",
        "1.5e-99999999999999999999",
        "{\"a\":",
        "[]",
        "\n{",
    ];
    let target = Target::new("sink-decoder").made_by(&make).tokens(&tokens);
    target.memory(32 << 20, 4_096).run(|input| {
        let records: Vec<&[u8]> = input.split(|byte| *byte == b'\n').take(8).collect();
        let options = || {
            let mut options = TableRules::default();
            if input.len() % 3 == 0 {
                options.partition = ["date", "id", "a"].map(str::to_owned).to_vec();
            }
            options
        };
        let (_, refused) = rows(&records, options());
        let around = [GOOD, records[0], GOOD];
        let (rows, alone) = rows(&around, options());
        if !alone.is_empty() {
            assert_eq!(rows, [GOOD, GOOD]);
        }
        refused
    });
}

/// Times are read as another library reads them, and nothing else is a time.
#[test]
fn times_are_read_as_chrono_reads_them() {
    Target::new("sink-times")
        .tokens(&[
            "2026-01-02T03:04:05Z",
            "2024-02-29",
            "23:59:60",
            ".123456789",
            "+05:30",
            "-00:00",
            "t",
            " ",
            "Fri, 2 Jan 2026 03:04:05 +0100",
            "2/Jan/2026:03:04:05 ",
            "Jan 29",
            "Feb 29 03:04:05",
            "2026W021T",
            "20260102030405",
            "1767323045.25",
            "e9",
            ",5",
            "GMT",
            "[Europe/Berlin]",
            "z",
            "0000-",
            "9999-12-31",
        ])
        .bytes_max(200)
        .run(|input| {
            let found = parse_rfc3339(input);
            let text = std::str::from_utf8(input).ok();
            // chrono does not accept a leap second in the middle of a minute.
            let leap = input.get(17..19) == Some(b"60");
            let wanted = text.and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
            if let Some(wanted) = wanted.filter(|_| !leap) {
                assert_eq!(found, Some(wanted.timestamp_micros()));
            } else if let Some(found) = found {
                assert!(
                    leap || wanted.is_some(),
                    "chrono does not accept the time {found}"
                );
            }
            let reader = TimeReader::try_new(Zone::default(), &[], 1_795_219_200_000_000);
            let read = reader.expect("no format").text(input);
            if found.is_some() {
                assert_eq!(read, found);
            }
            let mail = text.and_then(|text| chrono::DateTime::parse_from_rfc2822(text).ok());
            if let (Some(mail), Some(read)) = (mail, read) {
                assert!(input.windows(3).any(|at| at == b":60") || mail.timestamp_micros() == read);
            }
            read.is_some()
        });
}

/// A layout gives paths that no record can leave.
#[test]
fn values_stay_within_their_directory() {
    Target::new("sink-partitions")
        .tokens(&["..", "/", "%2F", "=", "\0"])
        .bytes_max(400)
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            let parts: Vec<&str> = text.split(',').collect();
            let token = serde_json::to_vec(&text).expect("a text is JSON");
            if let Ok(spec) = PartitionSpec::try_new(&parts, 0) {
                let columns = spec.columns_for(&TableSchema::default());
                let values = (0..spec.fields().len())
                    .map(|slot| ReadValue::of(&token, spec.value_bytes_max(slot)).value);
                let key = PartitionKey {
                    bucket: None,
                    values: values.collect(),
                };
                let path = key.path(&spec, &columns.expect("a layout of no table"));
                let mut parts = path.split('/').filter(|part| !part.is_empty());
                assert!(parts.all(|part| part.len() <= 255 && part.split('=').count() == 2));
                assert!(path.len() <= 544 && !path.contains("/_") && !path.starts_with('_'));
            }
            let read = ReadValue::of(&token, 1_200);
            let Some(value) = read.value.filter(|_| read.is_whole) else {
                return 0;
            };
            let value = value.in_path(PartitionKind::Varchar).expect("a text");
            let safe = |c: char| {
                !c.is_ascii()
                    || c.is_ascii_alphanumeric()
                    || matches!(c, '-' | '_' | '.' | '~' | '%')
            };
            assert!(
                value.chars().all(safe) && !value.starts_with('.'),
                "{value}"
            );
            let mut decoded = Vec::new();
            let mut parts = value.split('%');
            decoded.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
            for part in parts {
                decoded.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
                decoded.extend_from_slice(&part.as_bytes()[2..]);
            }
            assert_eq!(decoded, text.as_bytes());
            1
        });
}

/// A schema that is read is valid, and reads itself again.
#[test]
fn schemas_are_refused_or_come_back() {
    Target::new("sink-schemas")
        .tokens(&[
            "\"depth\":",
            "\"type\":",
            "\"STRUCT\"",
            "\"LIST\"",
            "DECIMAL(38,38)",
            "\"BIGINT\"",
            "\"name\":",
            "\"declared\":true",
            "\"partition_columns\":",
            "\"source\":\"date\"",
            "\"provenance\":true",
            "\"number\":",
        ])
        .run(|input| match serde_json::from_slice::<TableSchema>(input) {
            Ok(schema) => {
                let json = serde_json::to_vec(&schema).expect("schemas have a form");
                let again: TableSchema = serde_json::from_slice(&json).expect("it wrote itself");
                assert_eq!(again, schema);
                let _arrow = schema.to_arrow();
                String::new()
            }
            Err(error) => without_numbers(&error.to_string()),
        });
}

/// A type that is read reads itself again.
#[test]
fn column_types_are_refused_or_come_back() {
    Target::new("sink-types")
        .tokens(&[
            "BIGINT",
            "DOUBLE",
            "DECIMAL(",
            "BOOLEAN",
            "VARCHAR",
            "STRUCT(",
            "[]",
            "\"a\"\"b\"",
            ", ",
            "(",
            ")",
            "struct(a varchar)",
        ])
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            text.parse::<ColumnType>()
                .map(|kind| {
                    assert_eq!(kind.to_string().parse(), Ok(kind));
                })
                .is_ok()
        });
}

/// Records of commits: the inputs are their JSON, the seal is made here, as a fuzzer never meets a checksum.
#[test]
fn commits_are_refused_or_come_back() {
    Target::new("sink-commits")
        .tokens(&[
            "\"version\":1",
            "\"intervals\":[",
            "\"from\":",
            "\"to\":",
            "\"counts\":{",
            "\"end\":true",
            "\"files\":[",
            "\"dead-letters\"",
            "\"marks\":[",
        ])
        .run(|input| {
            assert!(Commit::from_body("k", input).is_err() || input.len() > 100);
            let Some(open) = input.strip_suffix(b"}") else {
                return String::new();
            };
            let crc = crc32c::crc32c(input);
            let mut sealed = open.to_vec();
            sealed.extend_from_slice(format!(",\"crc\":\"{crc:08x}\"}}\n").as_bytes());
            match Commit::from_body("k", &sealed) {
                Ok(commit) => {
                    assert!(commit.version <= COMMIT_VERSION);
                    let again = Commit::from_body("k", &commit.to_body());
                    assert_eq!(again.expect("it wrote itself"), commit);
                    let balance = commit.counts.check("k");
                    balance.map_or_else(|_| "unbalanced".to_owned(), |()| "sound".to_owned())
                }
                Err(error) => without_numbers(&error.to_string()),
            }
        });
}

/// A message without the parts that depend on the input.
fn without_numbers(message: &str) -> String {
    assert!(!message.is_empty());
    message
        .chars()
        .filter(|c| c.is_alphabetic() || *c == ' ')
        .take(80)
        .collect()
}
