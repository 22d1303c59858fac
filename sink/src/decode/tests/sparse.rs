//! Columns of which few rows have a value are what they would be if all had one.

use std::collections::BTreeMap;

use super::*;

/// A record with one of many columns, of each kind, on one of three days.
fn record(n: usize) -> String {
    let key = n % 40;
    let value = match n % 8 {
        0 => format!("{{\"number{key}\":{n}"),
        1 => format!("{{\"double{key}\":{n}.5"),
        2 => format!("{{\"text{key}\":\"text {n}\""),
        3 => format!("{{\"flag{key}\":{}", n.is_multiple_of(3)),
        4 => format!("{{\"list{key}\":[{n},null]"),
        5 => {
            format!("{{\"object{key}\":{{\"a\":{n},\"b\":{{\"c\":\"{n}\"}},\"d\":[{{\"e\":{n}}}]}}")
        }
        6 => format!("{{\"objects{key}\":[{{\"a\":{n}}},{{\"b\":\"{n}\"}}]"),
        _ => format!("{{\"same\":{n},\"none{key}\":null"),
    };
    format!(
        "{value},\"n\":{n},\"time\":\"2026-11-2{}T00:00:00Z\"}}",
        n % 3
    )
}

/// What a row holds, without what is null.
fn by_number(rows: &[String]) -> BTreeMap<u64, serde_json::Value> {
    fn without_nulls(value: &mut serde_json::Value) {
        if let Some(object) = value.as_object_mut() {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(without_nulls);
        }
        if let Some(list) = value.as_array_mut() {
            list.iter_mut().for_each(without_nulls);
        }
    }
    let rows = rows.iter().map(|row| {
        let mut row: serde_json::Value = serde_json::from_str(row).unwrap();
        without_nulls(&mut row);
        (row["n"].as_u64().unwrap(), row)
    });
    rows.collect()
}

fn decoded(records: &[String]) -> DecodedRows {
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    decode(&TableSchema::default(), &records)
}

#[test]
fn values_of_few_rows_come_back_in_every_partition() {
    for count in [1, 7, 100, 2_000] {
        let records: Vec<String> = (0..count).map(record).collect();
        let rows = decoded(&records);
        let schema = rows.schema().clone();
        let conformed = rows.conform(&schema, PROVENANCE).unwrap();
        assert_eq!(conformed.partitions.len(), count.min(3));
        assert_eq!(by_number(&rows_of(&conformed)), by_number(&records));
        let all: Vec<u32> = (0..rows.rows() as u32).rev().step_by(2).collect();
        let some = rows
            .take(&all)
            .unwrap()
            .conform(&schema, PROVENANCE)
            .unwrap();
        let (found, sent) = (by_number(&rows_of(&some)), by_number(&records));
        assert_eq!(found.len(), all.len());
        assert!(found.iter().all(|(n, row)| sent[n] == *row));
    }
}

/// What another sink stored first decides of rare values too, each in its own row.
#[test]
fn rare_values_that_do_not_fit_are_rescued_in_their_rows() {
    let mut records: Vec<String> = (0..300).map(|n| format!("{{\"n\":{n}}}")).collect();
    records[37] = "{\"n\":37,\"rare\":{\"deep\":\"x\"},\"wide\":5,\"twin\":1}".to_owned();
    records[211] = "{\"n\":211,\"rare\":{\"deep\":\"y\"},\"wide\":9007199254740993}".to_owned();
    let rows = decoded(&records);
    let first = ["{\"n\":1,\"rare\":{\"deep\":1},\"wide\":0.5,\"Twin\":2}"];
    let stored = decode(&TableSchema::default(), &first).schema().clone();
    let conformed = rows.conform(&stored, PROVENANCE).unwrap();
    assert_eq!(conformed.rejects, []);
    let rows = by_number(&rows_of(&conformed));
    assert_eq!(rows.len(), 300);
    let rescued = |n: u64| -> serde_json::Value {
        serde_json::from_str(rows[&n]["_rescued"].as_str().unwrap()).unwrap()
    };
    assert_eq!(
        rescued(37),
        serde_json::json!({"rare": {"deep": "x"}, "twin": 1})
    );
    assert_eq!(
        rescued(211),
        serde_json::json!({"rare": {"deep": "y"}, "wide": 9_007_199_254_740_993_u64})
    );
    assert_eq!(rows[&37]["wide"], 5.0);
    let others = rows.iter().filter(|(n, _)| ![37, 211].contains(*n));
    assert!(
        others
            .into_iter()
            .all(|(n, row)| *row == serde_json::json!({"n": n}))
    );
}

/// Rows of a wide table take what their values take.
#[test]
fn a_row_of_a_wide_table_takes_little() {
    let wide: Vec<String> = (0..1_900).map(|n| format!("\"column{n}\":{n}.5")).collect();
    let schema = decode(
        &TableSchema::default(),
        &[&format!("{{{}}}", wide.join(","))],
    );
    let schema = stored(schema.schema());
    let mut decoder = decoder(&schema);
    for n in 0..20_000 {
        let record = format!("{{\"column{}\":{n}}}", n * 7 % 1_900);
        assert_eq!(
            decoder.append(record.as_bytes(), &ORIGIN),
            DecodeOutcome::Row
        );
    }
    let size = decoder.size();
    // A double for each column took 15 KB.
    assert!(size.arrays < 20_000 * 100, "{size:?}");
    let (rows, memory) = hydrant_fuzz::memory(|| {
        let rows = decoder.finish();
        rows.conform(&schema, PROVENANCE).unwrap().partitions[0]
            .rows
            .num_rows()
    });
    assert_eq!(rows, 20_000);
    assert!(memory.peak_bytes < 10 << 20, "{memory:?}");
}
