//! Event times, partitions and the rows in them.

use super::*;
use crate::schema::declared::declared_schema;
use crate::schema::{Column, ColumnType, PartitionKind};
use crate::table::event_time::UntimedReason;
use crate::table::spec::OnConflict;

const OLD: i64 = 1_577_836_800_000_000;

/// A table with a column, so that records without any value are rows.
fn partitions_by(parts: &str) -> Vec<String> {
    parts.split(',').map(str::to_owned).collect()
}

fn with_a_column() -> TableSchema {
    TableSchema::try_new(vec![Column::new("k", ColumnType::Bigint)]).unwrap()
}

/// The paths of the partitions of the records, each with its rows' indexes.
fn layout(options: TableRules, records: &[&str]) -> Vec<(String, Vec<u32>)> {
    layout_under(&with_a_column(), options, records)
}

fn layout_under(
    schema: &TableSchema,
    options: TableRules,
    records: &[&str],
) -> Vec<(String, Vec<u32>)> {
    let mut decoder = Decoder::try_new(schema, &options, NOW_MICROS).unwrap();
    let origin = RowOrigin {
        stamp_micros: Some(OLD),
        ..ORIGIN
    };
    for record in records {
        assert_eq!(
            decoder.append(record.as_bytes(), &origin),
            DecodeOutcome::Row,
            "{record}"
        );
    }
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    conformed
        .partitions
        .into_iter()
        .map(|rows| (rows.path, rows.records))
        .collect()
}

fn path_of(options: TableRules, record: &str) -> String {
    layout(options, &[record]).remove(0).0
}

fn date_of(record: &str) -> String {
    path_of(TableRules::default(), record)
}

#[test]
fn the_first_readable_well_known_field_is_the_event_time() {
    let first = r#"{"@timestamp":"2026-01-05T00:00:00Z","time":"2026-01-04T00:00:00Z","ts":"2026-01-03T00:00:00Z","timestamp":"2026-01-02T00:00:00Z","event_time":"2026-01-01T00:00:00Z"}"#;
    for (record, date) in [
        (first, "2026-01-01"),
        (&first.replace("event_time", "x"), "2026-01-02"),
        (
            &first.replace(r#""2026-01-01T00:00:00Z""#, "null"),
            "2026-01-02",
        ),
        (&first.replace("2026-01-01T", "no"), "2026-01-02"),
        (
            r#"{"event_time":{"s":1},"timestamp":[1767398400],"ts":"","time":true,"@timestamp":1767225600}"#,
            "2026-01-01",
        ),
        (
            r#"{"event_time":"later","timestamp":"no"}"#,
            "__HIVE_DEFAULT_PARTITION__",
        ),
        (r#"{"@timestamp":"2026-01-05T00:00:00Z"}"#, "2026-01-05"),
        (r#"{"nested":{"ts":"2026-01-05T00:00:00Z"}}"#, "2020-01-01"),
        (r#"{"Timestamp":"2026-01-05T00:00:00Z"}"#, "2020-01-01"),
        (r#"{"ts":"2026-01-05T00:00:00\u005a"}"#, "2026-01-05"),
        (r#"{"ts":"26\/Jun\/2023:14:24:53 +0800"}"#, "2023-06-26"),
        (r#"{"ts":"2023-06-26T23:30:00-0100"}"#, "2023-06-27"),
        (r#"{"ts":true}"#, "__HIVE_DEFAULT_PARTITION__"),
        (r#"{"ts":{}}"#, "__HIVE_DEFAULT_PARTITION__"),
        (r#"{"ts":""}"#, "__HIVE_DEFAULT_PARTITION__"),
        ("{}", "2020-01-01"),
    ] {
        assert_eq!(date_of(record), format!("date={date}"), "{record}");
    }
}

#[test]
fn numbers_are_times_by_their_magnitude() {
    for (number, date) in [
        ("1767225600", "2026-01-01"),
        ("1767225600.5", "2026-01-01"),
        ("1767225600000", "2026-01-01"),
        ("1767225600000000", "2026-01-01"),
        ("1767225600000000000", "2026-01-01"),
        ("1.7672256e9", "2026-01-01"),
        (r#""1767225600""#, "2026-01-01"),
        (r#""1767225600000.5""#, "2026-01-01"),
        ("1.7672256E18", "2026-01-01"),
        ("99999999999", "__HIVE_DEFAULT_PARTITION__"),
        ("100000000000", "__HIVE_DEFAULT_PARTITION__"),
        ("946684799", "__HIVE_DEFAULT_PARTITION__"),
        ("946684800", "2000-01-01"),
        ("1795305600", "2026-11-22"),
        ("1795305601", "__HIVE_DEFAULT_PARTITION__"),
        ("-1767225600", "__HIVE_DEFAULT_PARTITION__"),
        ("0", "__HIVE_DEFAULT_PARTITION__"),
        ("-0", "__HIVE_DEFAULT_PARTITION__"),
        ("1e300", "__HIVE_DEFAULT_PARTITION__"),
    ] {
        assert_eq!(
            date_of(&format!(r#"{{"ts":{number}}}"#)),
            format!("date={date}"),
            "{number}"
        );
    }
}

#[test]
fn a_configured_field_is_the_only_event_time() {
    let at = |field: &str| TableRules {
        event_time: Some(field.to_owned()),
        ..TableRules::default()
    };
    let record = r#"{"ts":1767225600,"when":{"at":"2026-03-01T00:00:00+01:00","ts":1}}"#;
    assert_eq!(path_of(at("when.at"), record), "date=2026-02-28");
    assert_eq!(
        path_of(at("when"), record),
        "date=__HIVE_DEFAULT_PARTITION__"
    );
    assert_eq!(path_of(at("gone"), record), "date=2020-01-01");
    assert_eq!(path_of(at("when.at.x"), record), "date=2020-01-01");
    let dotted = r#"{"when":{"at":1767225600},"when.at":1772323200}"#;
    assert_eq!(path_of(at("when.at"), dotted), "date=2026-03-01");
    let known = decode(&TableSchema::default(), &[record]).schema().clone();
    assert_eq!(
        layout_under(&known, at("when.at"), &[record])[0].0,
        "date=2026-02-28"
    );
}

#[test]
fn a_row_without_an_event_time_takes_the_stamp_or_else_the_arrival() {
    for (stamp_micros, path) in [(Some(OLD), "date=2020-01-01"), (None, "date=2026-11-21")] {
        let mut decoder = decoder(&with_a_column());
        let origin = RowOrigin {
            stamp_micros,
            ..ORIGIN
        };
        assert_eq!(decoder.append(b"{}", &origin), DecodeOutcome::Row);
        let decoded = decoder.finish();
        let schema = decoded.schema().clone();
        let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
        assert_eq!(conformed.partitions[0].path, path);
        assert!(conformed.untimed.is_empty());
    }
}

#[test]
fn rows_without_a_believable_time_are_counted_by_reason() {
    let mut decoder = decoder(&TableSchema::default());
    for (record, stamp) in [
        (r#"{"ts":1}"#, NOW_MICROS),
        (r#"{"time":"x"}"#, NOW_MICROS),
        (r#"{"ts":1767225600}"#, 0),
        (r#"{"event_time":"2027-01-01","ts":1767225600}"#, NOW_MICROS),
        (r#"{"a":1}"#, 0),
        (r#"{"a":1}"#, NOW_MICROS),
    ] {
        let origin = RowOrigin {
            stamp_micros: Some(stamp),
            ..ORIGIN
        };
        assert_eq!(
            decoder.append(record.as_bytes(), &origin),
            DecodeOutcome::Row
        );
    }
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    assert_eq!(
        conformed.untimed,
        [
            (0, UntimedReason::TooEarly),
            (1, UntimedReason::Unreadable),
            (3, UntimedReason::TooLate),
            (4, UntimedReason::Missing),
        ]
    );
}

#[test]
fn rows_keep_their_order_within_a_partition() {
    let records: Vec<String> = (0..9)
        .map(|n| format!(r#"{{"n":{n},"ts":{}}}"#, 1_767_225_600 + n % 3 * 86_400))
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    assert_eq!(
        layout(TableRules::default(), &records),
        [
            ("date=2026-01-01".to_owned(), vec![0, 3, 6]),
            ("date=2026-01-02".to_owned(), vec![1, 4, 7]),
            ("date=2026-01-03".to_owned(), vec![2, 5, 8]),
        ]
    );
    assert_eq!(rows(&records).len(), 9);
}

#[test]
fn hours_and_fields_partition_on_request() {
    let by = |spec: &str| TableRules {
        partition: partitions_by(spec),
        ..TableRules::default()
    };
    let record = r#"{"ts":"2026-01-01T07:59:59Z","region":"eu/west é","n":1.5,"b":true}"#;
    for (spec, path) in [
        ("hour", "date=2026-01-01/hour=07"),
        ("region,date", "date=2026-01-01/region=eu%2Fwest%20é"),
        ("n", "n=1.5"),
        ("b,gone", "b=true/gone=__HIVE_DEFAULT_PARTITION__"),
        ("hour,b", "date=2026-01-01/hour=07/b=true"),
    ] {
        assert_eq!(path_of(by(spec), record), path);
    }
    for (value, segment) in [
        ("null", "__HIVE_DEFAULT_PARTITION__"),
        (r#""""#, "__HIVE_DEFAULT_PARTITION__"),
        (r#"{"a":1}"#, "__HIVE_DEFAULT_PARTITION__"),
        (r#""..""#, "%2E."),
        (r#""a\u0062=\n""#, "ab%3D%0A"),
    ] {
        let record = format!(r#"{{"region":{value}}}"#);
        assert_eq!(path_of(by("region"), &record), format!("region={segment}"));
    }
    let written_twice = [
        r#"{"region":"a"}"#,
        r#"{"region":"b"}"#,
        r#"{"region":"\u0061"}"#,
    ];
    assert_eq!(
        layout(by("region"), &written_twice),
        [
            ("region=a".to_owned(), vec![0, 2]),
            ("region=b".to_owned(), vec![1])
        ]
    );
}

#[test]
fn field_values_are_never_mixed_up_across_fields() {
    let options = TableRules {
        partition: partitions_by("a,b"),
        ..TableRules::default()
    };
    let records = [r#"{"a":"x"}"#, r#"{"b":"x"}"#, r#"{"b":"x","a":null}"#];
    let null = "__HIVE_DEFAULT_PARTITION__";
    assert_eq!(
        layout(options, &records),
        [
            (format!("a={null}/b=x"), vec![1, 2]),
            (format!("a=x/b={null}"), vec![0])
        ]
    );
}

#[test]
fn a_field_with_the_name_of_a_partition_is_rescued_from_the_first_record_on() {
    let record = r#"{"Date":"mine","_date":"mine too"}"#;
    assert_eq!(date_of(record), "date=2020-01-01");
    assert_eq!(
        rows(&[record]),
        [r#"{"_date":"mine too","_rescued":"{\"Date\":\"mine\"}"}"#]
    );
    let named = TableRules {
        partition: partitions_by("date=event_date"),
        ..TableRules::default()
    };
    assert_eq!(path_of(named, record), "event_date=2020-01-01");
    let decoded = decode(&TableSchema::default(), &[r#"{"a":1}"#]);
    let fixed = decoded.schema().clone();
    let reject = reject_of(&fixed, &[r#"{"a":1,"Date":"mine"}"#]);
    assert_eq!(
        (reject.reason, &*reject.column),
        (RejectReason::RESERVED_COLUMN, "Date")
    );

    let late = decode(
        &TableSchema::default(),
        &[r#"{"a":1}"#, r#"{"a":2,"date":"mine"}"#],
    );
    let conformed = late.conform(&fixed, PROVENANCE).unwrap();
    assert_eq!(conformed.partitions[0].path, "date=2026-11-21");
    let rows = rows_of(&conformed);
    assert_eq!(rescued_of(&rows[1]), r#"{"date":"mine"}"#);
}

/// The partition column's type, and each row with the path that it lies in.
fn partitioned(schema: &TableSchema, records: &[&str]) -> (TableSchema, Vec<(String, String)>) {
    let by_region = TableRules {
        partition: partitions_by("region"),
        ..TableRules::default()
    };
    let mut decoder = Decoder::try_new(schema, &by_region, NOW_MICROS).unwrap();
    for record in records {
        let outcome = decoder.append(record.as_bytes(), &ORIGIN);
        assert_eq!(outcome, DecodeOutcome::Row, "{record}");
    }
    let decoded = decoder.finish();
    let schema = match schema.number {
        0 => decoded.schema().clone().with_number(1),
        _ => schema.clone(),
    };
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    assert_eq!(conformed.rejects, []);
    let mut found = Vec::new();
    for partition in &conformed.partitions {
        assert!(partition.records.is_sorted());
        let rows = rows_of(&Conformed {
            partitions: vec![partition.clone()],
            ..conformed.clone()
        });
        found.extend(rows.into_iter().map(|row| (partition.path.clone(), row)));
    }
    (schema, found)
}

/// The column of a partition lies in the path, with its type in the schema; what the path does not give back is rescued.
#[test]
fn a_partition_field_lies_in_the_path_only() {
    let null = "region=__HIVE_DEFAULT_PARTITION__";
    let rescued = |value: &str| format!(r#""_rescued":"{{\"region\":{value}}}""#);
    let long = "x".repeat(300);
    for (records, kind, expected) in [
        (
            vec![
                r#"{"n":1,"region":7}"#,
                r#"{"n":2,"region":7.0}"#,
                r#"{"n":3,"region":null}"#,
                r#"{"n":4}"#,
            ],
            PartitionKind::Bigint,
            vec![
                ("region=7", 1, None),
                ("region=7", 2, None),
                (null, 3, None),
                (null, 4, None),
            ],
        ),
        (
            vec![r#"{"n":1,"region":true}"#, r#"{"n":2,"region":false}"#],
            PartitionKind::Boolean,
            vec![("region=false", 2, None), ("region=true", 1, None)],
        ),
        (
            vec![
                r#"{"n":1,"region":"007"}"#,
                r#"{"n":2,"region":7}"#,
                r#"{"n":3,"region":"7"}"#,
            ],
            PartitionKind::Varchar,
            vec![
                ("region=007", 1, None),
                ("region=7", 2, Some("7".to_owned())),
                ("region=7", 3, None),
            ],
        ),
        (
            vec![
                r#"{"n":1,"region":1.50}"#,
                r#"{"n":2,"region":""}"#,
                r#"{"n":3,"region":{"a":[1]}}"#,
                r#"{"n":4,"region":"__HIVE_DEFAULT_PARTITION__"}"#,
            ],
            PartitionKind::Varchar,
            vec![
                (null, 2, Some(r#"\"\""#.to_owned())),
                (null, 3, Some(r#"{\"a\":[1]}"#.to_owned())),
                (
                    null,
                    4,
                    Some(r#"\"__HIVE_DEFAULT_PARTITION__\""#.to_owned()),
                ),
                ("region=1.5", 1, Some("1.5".to_owned())),
            ],
        ),
        (
            vec![r#"{"n":1}"#],
            PartitionKind::Varchar,
            vec![(null, 1, None)],
        ),
    ] {
        let (schema, rows) = partitioned(&TableSchema::default(), &records);
        assert_eq!(schema.partition_columns[0].kind, kind);
        assert!(schema.columns.iter().all(|column| column.name == "n"));
        let expected = expected.into_iter().map(|(path, n, value)| {
            let rescued = value.map_or(String::new(), |value| format!(",{}", rescued(&value)));
            (path.to_owned(), format!("{{\"n\":{n}{rescued}}}"))
        });
        let mut expected: Vec<_> = expected.collect();
        let mut rows = rows;
        expected.sort();
        rows.sort();
        assert_eq!(rows, expected);
    }
    let (schema, _) = partitioned(&TableSchema::default(), &[r#"{"n":1,"region":7}"#]);
    let record = format!(r#"{{"n":5,"region":"{long}"}}"#);
    let (_, rows) = partitioned(
        &schema,
        &[
            r#"{"n":2,"region":"a"}"#,
            r#"{"n":3,"region":8}"#,
            r#"{"n":4,"region":"b"}"#,
            &record,
        ],
    );
    let expected = [
        ("region=8", r#"{"n":3}"#.to_owned()),
        (null, format!("{{\"n\":2,{}}}", rescued(r#"\"a\""#))),
        (null, format!("{{\"n\":4,{}}}", rescued(r#"\"b\""#))),
        (
            null,
            format!("{{\"n\":5,{}}}", rescued(&format!(r#"\"{long}\""#))),
        ),
    ];
    assert_eq!(rows, expected.map(|(path, row)| (path.to_owned(), row)));
}

/// A partition field that is declared VARCHAR takes scalars as their texts, and one that is declared BIGINT integers.
#[test]
fn a_declared_partition_field_has_its_type_from_the_first_row_on() {
    let of = |kind: ColumnType, records: &[&str]| {
        let rules = TableRules {
            partition: partitions_by("region"),
            declared: vec![("region".to_owned(), kind)],
            ..TableRules::default()
        };
        let schema = rules.first_schema().unwrap();
        let mut decoder = Decoder::try_new(&schema, &rules, NOW_MICROS).unwrap();
        for record in records {
            decoder.append(record.as_bytes(), &ORIGIN);
        }
        let decoded = decoder.finish();
        let schema = stored(decoded.schema());
        assert!(schema.partition_columns[0].declared);
        let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
        let paths = conformed.partitions.iter().map(|rows| rows.path.clone());
        (paths.collect::<Vec<_>>(), rows_of(&conformed))
    };
    let records = [r#"{"n":1,"region":"a"}"#, r#"{"n":2,"region":7.0}"#];
    let (paths, rows) = of(ColumnType::Varchar, &records);
    assert_eq!(paths, ["region=7", "region=a"]);
    assert_eq!(rows, [r#"{"n":2}"#, r#"{"n":1}"#]);
    let (paths, rows) = of(ColumnType::Bigint, &records);
    assert_eq!(paths, ["region=7", "region=__HIVE_DEFAULT_PARTITION__"]);
    assert_eq!(
        rows,
        [r#"{"n":2}"#, r#"{"n":1,"_rescued":"{\"region\":\"a\"}"}"#]
    );
}

/// Without rescue a record whose value its path does not give back is refused.
#[test]
fn a_partition_value_that_does_not_fit_is_refused_where_nothing_is_rescued() {
    let rules = TableRules {
        partition: partitions_by("region"),
        on_conflict: OnConflict::DeadLetter,
        ..TableRules::default()
    };
    let mut decoder = Decoder::try_new(&TableSchema::default(), &rules, NOW_MICROS).unwrap();
    let mut append = |record: &str| decoder.append(record.as_bytes(), &ORIGIN);
    assert_eq!(append(r#"{"n":1,"region":"a"}"#), DecodeOutcome::Row);
    assert_eq!(append(r#"{"n":2,"region":7}"#), DecodeOutcome::Row);
    assert_eq!(append(r#"{"n":3,"region":[]}"#), DecodeOutcome::Row);
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    let rejects: Vec<_> = conformed
        .rejects
        .iter()
        .map(|reject| {
            let row = String::from_utf8(reject.row.clone()).unwrap();
            (reject.record, reject.reject.reason, row)
        })
        .collect();
    let wanted = [
        (
            1,
            RejectReason::PARTITION_VALUE,
            r#"{"n":2,"region":7}"#.to_owned(),
        ),
        (
            2,
            RejectReason::PARTITION_VALUE,
            r#"{"n":3,"region":[]}"#.to_owned(),
        ),
    ];
    assert_eq!(rejects, wanted);
    assert_eq!(conformed.partitions[0].path, "region=a");
}

#[test]
fn late_rows_share_a_partition_a_month() {
    let late = || TableRules {
        lateness_max_micros: Some(30 * 86_400_000_000),
        ..TableRules::default()
    };
    for (time, date) in [
        ("2026-11-20T10:00:00Z", "2026-11-20"),
        ("2026-10-22T00:00:00Z", "2026-10-22"),
        ("2026-10-21T23:59:59Z", "2026-10-01"),
        ("2001-02-03T04:05:06Z", "2001-02-01"),
    ] {
        let record = format!(r#"{{"ts":"{time}"}}"#);
        assert_eq!(path_of(late(), &record), format!("date={date}"));
    }
}

/// An outage of the sink makes no row late: the stream had it in time.
#[test]
fn a_row_is_late_by_when_the_stream_took_it() {
    const DAY: i64 = 86_400_000_000;
    let rules = TableRules {
        lateness_max_micros: Some(30 * DAY),
        ..TableRules::default()
    };
    for (arrival, time, date) in [
        (NOW_MICROS - 60 * DAY, "2026-09-20T10:00:00Z", "2026-09-20"),
        (NOW_MICROS - 60 * DAY, "2026-08-23T00:00:00Z", "2026-08-23"),
        (NOW_MICROS - 60 * DAY, "2026-08-22T23:59:59Z", "2026-08-01"),
        (NOW_MICROS, "2026-09-20T10:00:00Z", "2026-09-01"),
        // A stream without a time of its own judges none.
        (0, "2026-09-20T10:00:00Z", "2026-09-20"),
    ] {
        let mut decoder = Decoder::try_new(&with_a_column(), &rules, NOW_MICROS).unwrap();
        let origin = RowOrigin {
            arrival_micros: arrival,
            ..ORIGIN
        };
        let record = format!(r#"{{"ts":"{time}"}}"#);
        let appended = decoder.append(record.as_bytes(), &origin);
        assert_eq!(appended, DecodeOutcome::Row);
        let decoded = decoder.finish();
        let schema = decoded.schema().clone();
        let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
        assert_eq!(conformed.partitions[0].path, format!("date={date}"));
    }
}

#[test]
fn a_table_keeps_its_layout() {
    let fixed = decode(&with_a_column(), &["{}"]).schema().clone();
    for spec in ["hour", "date,region", "region"] {
        let partition = partitions_by(spec);
        let options = TableRules {
            partition,
            ..TableRules::default()
        };
        assert!(
            Decoder::try_new(&fixed, &options, NOW_MICROS).is_err(),
            "{spec}"
        );
    }
}

#[test]
fn a_full_decoder_takes_no_more_and_loses_nothing() {
    let options = TableRules {
        rows_max: 2,
        ..TableRules::default()
    };
    let mut decoder = Decoder::try_new(&TableSchema::default(), &options, NOW_MICROS).unwrap();
    let record = |day: i64| format!(r#"{{"new{day}":1,"ts":{}}}"#, 1_767_225_600 + day * 86_400);
    for (day, outcome) in [
        (0, DecodeOutcome::Row),
        (1, DecodeOutcome::Row),
        (2, DecodeOutcome::Full),
        (0, DecodeOutcome::Full),
    ] {
        assert_eq!(decoder.append(record(day).as_bytes(), &ORIGIN), outcome);
    }
    assert_eq!((decoder.rows(), decoder.at.rejected), (2, 0));
    let decoded = decoder.finish();
    let columns = &decoded.schema().columns;
    assert!(columns.iter().all(|column| column.name != "new2"));
    let schema = decoded.schema().clone();
    let partitions = decoded.conform(&schema, PROVENANCE).unwrap().partitions;
    assert_eq!(partitions[0].records, [0]);
}

#[test]
fn partitions_count_as_bytes() {
    let by_region = TableRules {
        partition: partitions_by("region"),
        ..TableRules::default()
    };
    let bytes = |regions: usize| {
        let schema = TableSchema::default();
        let mut decoder = Decoder::try_new(&schema, &by_region, NOW_MICROS).unwrap();
        for n in 0..4_000 {
            let record = format!(r#"{{"n":{n},"region":"r{:04}"}}"#, n % regions);
            assert_eq!(
                decoder.append(record.as_bytes(), &ORIGIN),
                DecodeOutcome::Row
            );
        }
        decoder.column_bytes()
    };
    let (few, many) = (bytes(2), bytes(2_000));
    assert!(
        (2_048..4_096).contains(&((many - few) / 1_998)),
        "{few} {many}"
    );
}

#[test]
fn a_nested_event_time_is_found_whatever_column_takes_its_object() {
    let rules = |frozen: bool, on_conflict: OnConflict| TableRules {
        event_time: Some("meta.at.time".to_owned()),
        frozen,
        on_conflict,
        ..TableRules::default()
    };
    let record = r#"{"k":1,"meta":{"x":{"time":1},"at" : {"\u0074ime":"2026-03-01T00:00:00Z"}}}"#;
    let types = [
        "JSON",
        "VARCHAR",
        "MAP(VARCHAR, JSON)",
        "BIGINT",
        "BIGINT[]",
    ];
    let mut schemas: Vec<TableSchema> = types
        .iter()
        .map(|kind| declared_schema(&[("meta".to_owned(), kind.parse().unwrap())]).unwrap())
        .collect();
    schemas.extend([with_a_column(), TableSchema::default()]);
    for schema in &schemas {
        for (frozen, on_conflict) in [
            (false, OnConflict::Rescue),
            (true, OnConflict::Rescue),
            (false, OnConflict::DeadLetter),
        ] {
            let rules = rules(frozen, on_conflict);
            let mut decoder = Decoder::try_new(schema, &rules, NOW_MICROS).unwrap();
            decoder.append(record.as_bytes(), &ORIGIN);
            let times = decoder.mark().event_times.map(|times| times.min);
            assert_eq!(times, Some(1_772_323_200_000_000), "{schema:?}, {frozen}");
        }
    }
    for record in [
        r#"{"k":1,"meta":{"at":{"time":null}}}"#,
        r#"{"k":1,"meta":{"at":["time"]}}"#,
        r#"{"k":1,"meta":{"at":{}, "time":"2026-03-01"}}"#,
        r#"{"k":1,"meta":"2026-03-01"}"#,
    ] {
        let found = layout_under(&schemas[0], rules(false, OnConflict::Rescue), &[record]);
        assert_eq!(found[0].0, "date=2020-01-01", "{record}");
    }
}
