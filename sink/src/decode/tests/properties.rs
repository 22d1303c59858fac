//! What holds for any records.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::schema::ColumnType;
use crate::schema::declared::declared_schema;

/// Values whose kinds follow from their keys, so that most records of a flush fit one another:
/// key `i` holds integers, `s` strings, and so on; `x` holds anything.
fn value_under(key: char, depth: u32) -> BoxedStrategy<Value> {
    match key {
        'i' => prop_oneof![any::<i64>().prop_map(Value::from), Just(Value::Null)].boxed(),
        'm' => prop_oneof![(-(1_i64 << 40)..=1 << 40).prop_map(Value::from), fraction(),].boxed(),
        'b' => any::<bool>().prop_map(Value::from).boxed(),
        's' => any::<String>().prop_map(Value::from).boxed(),
        'o' if depth > 0 => object(depth - 1).prop_map(Value::Object).boxed(),
        'l' if depth > 0 => prop::collection::vec(object(depth - 1).prop_map(Value::Object), 0..3)
            .prop_map(Value::from)
            .boxed(),
        'x' => prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "[a-z]{0,9}".prop_map(Value::from),
            fraction(),
            Just(Value::from(Map::new())),
            Just(Value::from(vec![1])),
        ]
        .boxed(),
        _ => Just(Value::Null).boxed(),
    }
}

/// Doubles with few digits: the other parser rounds long ones differently. How every double is read
/// is tested beside the reader of numbers.
fn fraction() -> impl Strategy<Value = Value> {
    any::<i32>().prop_map(|value| Value::from(f64::from(value) / 64.0))
}

fn object(depth: u32) -> BoxedStrategy<Map<String, Value>> {
    let entry = |key: char| {
        prop::option::of(value_under(key, depth)).prop_map(move |value| (key.to_string(), value))
    };
    let entries: Vec<_> = "imbsolx".chars().map(entry).collect();
    let kept = entries
        .prop_shuffle()
        .prop_map(|entries: Vec<(String, Option<Value>)>| {
            entries
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)))
                .collect()
        });
    kept.boxed()
}

/// Appends the records and answers which became rows.
fn append(decoder: &mut Decoder, records: &[Vec<u8>]) -> Vec<bool> {
    records
        .iter()
        .map(|record| decoder.append(record, &ORIGIN) == DecodeOutcome::Row)
        .collect()
}

fn written(decoder: Decoder) -> (TableSchema, Vec<String>, Vec<ConformReject>) {
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    (schema, rows_of(&conformed), conformed.rejects)
}

fn records() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(object(3).prop_map(Value::Object), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn refused_records_leave_no_trace(
        records in records(),
        cut in prop::collection::vec(any::<prop::sample::Index>(), 12),
        noise in any::<u64>(),
    ) {
        let good: Vec<Vec<u8>> =
            records.iter().map(|record| serde_json::to_vec(record).unwrap()).collect();
        let mut all = Vec::new();
        for (index, (record, cut)) in good.iter().zip(&cut).enumerate() {
            if noise >> index & 1 == 1 {
                all.push(record[..cut.index(record.len())].to_vec());
            }
            all.push(record.clone());
        }
        let mut with_bad = decoder(&TableSchema::default());
        let taken = append(&mut with_bad, &all);
        let kept: Vec<Vec<u8>> =
            all.iter().zip(taken).filter(|(_, taken)| *taken).map(|(record, _)| record.clone()).collect();
        let mut without_bad = decoder(&TableSchema::default());
        prop_assert!(append(&mut without_bad, &kept).iter().all(|taken| *taken));
        let (schema, lines, _) = written(with_bad);
        let (wanted_schema, wanted_lines, _) = written(without_bad);
        prop_assert_eq!(schema, wanted_schema);
        prop_assert_eq!(lines, wanted_lines);
    }

    #[test]
    fn a_flush_cut_anywhere_gives_a_schema_that_holds_both_parts(
        records in records(),
        cut in any::<prop::sample::Index>(),
    ) {
        let payloads: Vec<Vec<u8>> =
            records.iter().map(|record| serde_json::to_vec(record).unwrap()).collect();
        let (first, second) = payloads.split_at(cut.index(payloads.len()));
        let mut decoder_of_first = decoder(&TableSchema::default());
        append(&mut decoder_of_first, first);
        let base = decoder_of_first.finish().schema().clone().with_number(1);
        let mut decoder_of_second = decoder(&base);
        append(&mut decoder_of_second, second);
        let decoded = decoder_of_second.finish();
        let grown = decoded.schema().clone();
        let joined = base.join(&grown, 2_000);
        prop_assert_eq!(joined.conflicts, vec![]);
        prop_assert!(joined.schema.same_content(&grown));
        let stored = super::stored(&grown);
        prop_assert_eq!(&stored, &grown);
    }

    #[test]
    fn whatever_won_each_row_is_kept_or_refused(ours in records(), theirs in records()) {
        let payloads = |records: &[Value]| -> Vec<Vec<u8>> {
            records.iter().map(|record| serde_json::to_vec(record).unwrap()).collect()
        };
        let mut their_decoder = decoder(&TableSchema::default());
        append(&mut their_decoder, &payloads(&theirs));
        let winner = their_decoder.finish().schema().clone();
        let mut decoder = decoder(&TableSchema::default());
        append(&mut decoder, &payloads(&ours));
        let decoded = decoder.finish();
        let rows = decoded.rows();
        let target = winner.join(decoded.schema(), 2_000).schema;
        let conformed = decoded.conform(&target, PROVENANCE).unwrap();
        let kept: usize = conformed.partitions.iter().map(|rows| rows.rows.num_rows()).sum();
        prop_assert_eq!(kept + conformed.rejects.len(), rows);
        let mut records: Vec<u32> = conformed.rejects.iter().map(|reject| reject.record).collect();
        for partition in &conformed.partitions {
            prop_assert_eq!(partition.records.len(), partition.rows.num_rows());
            records.extend(&partition.records);
        }
        records.sort_unstable();
        records.dedup();
        prop_assert_eq!(records.len(), rows);
    }

    #[test]
    fn rows_are_the_same_in_whichever_partition_they_lie(
        ours in records(),
        theirs in records(),
        days in prop::collection::vec(0_i64..4, 12),
    ) {
        let mut winner = decoder(&TableSchema::default());
        for record in &theirs {
            drop(winner.append(&serde_json::to_vec(record).unwrap(), &ORIGIN));
        }
        let winner = winner.finish().schema().clone();
        let rows_on = |day_of: &dyn Fn(usize) -> i64| {
            let mut decoder = decoder(&TableSchema::default());
            for (index, record) in ours.iter().enumerate() {
                let day = Some(NOW_MICROS - day_of(index) * 86_400_000_000);
                let origin = RowOrigin { stamp_micros: day, ..ORIGIN };
                drop(decoder.append(&serde_json::to_vec(record).unwrap(), &origin));
            }
            let decoded = decoder.finish();
            let target = winner.join(decoded.schema(), 2_000).schema;
            let conformed = decoded.conform(&target, PROVENANCE).unwrap();
            assert!(conformed.partitions.iter().all(|rows| rows.records.is_sorted()));
            let records = conformed.partitions.iter().flat_map(|rows| rows.records.clone());
            let mut rows: Vec<(u32, String)> = records.zip(rows_of(&conformed)).collect();
            rows.sort();
            (rows, conformed.rejects)
        };
        prop_assert_eq!(rows_on(&|_| 0), rows_on(&|index| days[index]));
    }

    #[test]
    fn any_bytes_are_taken_or_refused_like_another_parser_would(
        text in r#"[{}\[\]:,\"\\a-cuntrue0-9.eE+\- \t]{0,24}"#,
    ) {
        for record in [text.clone(), format!(r#"{{"a":{text}}}"#), format!(r#"{{"a":"{text}"}}"#)] {
            let appended = decoder(&TableSchema::default()).append(record.as_bytes(), &ORIGIN);
            let value = serde_json::from_str::<Value>(&record);
            match appended {
                DecodeOutcome::Row => prop_assert!(value.is_ok_and(|value| value.is_object())),
                DecodeOutcome::Rejected(reject) if reject.reason == RejectReason::MALFORMED_JSON => {
                    prop_assert!(value.is_err(), "{}: {}", record, reject);
                }
                DecodeOutcome::Rejected(_) => {}
                DecodeOutcome::Full => prop_assert!(false),
            }
        }
    }
}

#[test]
fn a_record_cut_at_any_byte_is_refused() {
    let record = r#"{"a":{"b":[1,-2.5e3,null,7]},"c":"x\u00e9\n","d":false , "e":{}}"#;
    for end in 0..record.len() {
        let appended = decoder(&TableSchema::default()).append(&record.as_bytes()[..end], &ORIGIN);
        let DecodeOutcome::Rejected(reject) = appended else {
            panic!("{end}")
        };
        assert_eq!(
            reject.reason,
            RejectReason::MALFORMED_JSON,
            "{}",
            &record[..end]
        );
        assert!(reject.offset <= end, "{reject}");
    }
    let appended = decoder(&TableSchema::default()).append(record.as_bytes(), &ORIGIN);
    assert_eq!(appended, DecodeOutcome::Row);
}

proptest! {
    /// A number may be written in any way that JSON allows, anywhere: it is a value or a reason to refuse its record.
    #[test]
    fn a_number_of_any_form_stops_nothing(
        numbers in prop::collection::vec("-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,30})?", 1..4),
        forms in prop::collection::vec(0_usize..6, 1..12),
    ) {
        let decimal = ColumnType::Decimal { precision: 9, scale: 2 };
        let schema = declared_schema(&[("price".to_owned(), decimal)]).unwrap();
        let mut decoder = decoder(&schema);
        let mut rejected = 0;
        for (form, number) in forms.iter().zip(numbers.iter().cycle()) {
            let record = match form {
                0 => format!("{{\"n\":{number}}}"),
                1 => format!("{{\"o\":{{\"n\":{number}}}}}"),
                2 => format!("{{\"l\":[{{\"b\":{number}}},{{\"b\":1}}]}}"),
                3 => format!("{{\"ts\":{number}}}"),
                4 => format!("{{\"ts\":\"{number}\",\"v\":[[{number}]]}}"),
                _ => format!("{{\"price\":{number}}}"),
            };
            match decoder.append(record.as_bytes(), &ORIGIN) {
                DecodeOutcome::Row => {}
                DecodeOutcome::Rejected(_) => rejected += 1,
                DecodeOutcome::Full => prop_assert!(false, "a few records fill no decoder"),
            }
        }
        prop_assert_eq!(decoder.rows() + rejected, forms.len());
        let (_, rows, rejects) = written(decoder);
        prop_assert_eq!(rows.len() + rejects.len() + rejected, forms.len());
    }
}
