//! What a table shows of its rows, and the declarations that it suggests.

use serde_json::{Value, json};

use hydrant_core::stage::Flush;
use hydrant_core::stream::Read;

use super::support::*;
use crate::inspect::{Suggestion, rows, suggestions};
use crate::schema::declared::declared_schema;
use crate::schema::{ColumnType, TableSchema};
use crate::table::spec::TableRules;

/// A table of these records, published in intervals.
async fn table(rules: TableRules, intervals: &[&[&str]]) -> SinkProcess {
    let world = world(1);
    let setup = ProcessSetup {
        rules,
        ..ProcessSetup::named(&world, "a")
    };
    let process = setup.run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let mut first = 0;
    for records in intervals {
        let records: Vec<String> = records.iter().map(|record| (*record).to_owned()).collect();
        let batch = batch(first, &records);
        first += records.len() as u64;
        shard.push(Read::Batch(batch)).await.unwrap();
        shard.publish(Flush::Drain).await.unwrap();
    }
    process
}

async fn shown(process: &SinkProcess, most: u64) -> Vec<Value> {
    let mut found = Vec::new();
    let mut take = |row: &str| {
        found.push(serde_json::from_str(row).unwrap());
        Ok(())
    };
    rows(&process.lake, &names(), None, most, &mut take)
        .await
        .unwrap();
    found
}

#[tokio::test]
async fn the_newest_partition_is_shown_first_and_those_of_no_value_last() {
    let rules = TableRules {
        partition: vec!["date".to_owned(), "region".to_owned()],
        ..TableRules::default()
    };
    let records = [
        r#"{"n":1,"time":"never","region":"zz"}"#,
        r#"{"n":2,"time":"2026-11-19"}"#,
        r#"{"n":3,"time":"2026-11-20"}"#,
        r#"{"n":4,"time":"2026-11-20","region":"A"}"#,
        r#"{"n":5,"time":"2026-11-20","region":"zz"}"#,
        r#"{"n":6,"time":"2001-01-01","region":"zz"}"#,
        r#"{"n":7,"time":"never"}"#,
    ];
    let process = table(rules, &[&records]).await;
    let order = async |most| {
        let rows = shown(&process, most).await.into_iter();
        let numbers: Vec<i64> = rows.map(|row| row["n"].as_i64().unwrap()).collect();
        numbers
    };
    assert_eq!(order(100).await, [5, 4, 3, 2, 6, 1, 7]);
    assert_eq!(order(2).await, [5, 4]);
}

#[tokio::test]
async fn partition_columns_are_shown_with_their_types() {
    let rules = TableRules {
        partition: ["hour", "n", "ok", "s"].map(str::to_owned).to_vec(),
        ..TableRules::default()
    };
    let records = [
        r#"{"k":1,"time":"2026-11-20T07:00:00Z","n":2,"ok":true,"s":"2"}"#,
        r#"{"k":2,"time":"2026-11-20T07:00:00Z","n":-9007199254740993,"ok":false,"s":"true"}"#,
        r#"{"k":3,"time":"2026-11-20T07:00:00Z"}"#,
    ];
    let process = table(rules, &[&records]).await;
    let mut rows = shown(&process, 100).await;
    rows.sort_by_key(|row| row["k"].as_i64());
    let of = |row: &Value| ["date", "hour", "n", "ok", "s"].map(|name| row[name].clone());
    let (day, hour) = (json!("2026-11-20"), json!("07"));
    let null = Value::Null;
    for (row, wanted) in rows.iter().zip([
        [json!(2), json!(true), json!("2")],
        [
            json!(-9_007_199_254_740_993_i64),
            json!(false),
            json!("true"),
        ],
        [null.clone(), null.clone(), null.clone()],
    ]) {
        let [n, ok, s] = wanted;
        assert_eq!(of(row), [day.clone(), hour.clone(), n, ok, s], "{row}");
    }
}

async fn suggested(process: &SinkProcess) -> Vec<Suggestion> {
    let schema = process.stage.registry().newest();
    suggestions(&process.lake, &names(), &schema, NOW)
        .await
        .unwrap()
}

/// The paths and types of what is not nested any more, with the names of structs and lists before it.
fn leaves(schema: &TableSchema) -> Vec<(Vec<String>, String)> {
    fn add(kind: &ColumnType, path: &[String], found: &mut Vec<(Vec<String>, String)>) {
        let below = |name: &str| [path, &[name.to_owned()]].concat();
        match kind {
            ColumnType::Struct(fields) => {
                for field in fields {
                    add(&field.kind, &below(&field.name), found);
                }
            }
            ColumnType::List(item) => add(&item.kind, &below("[]"), found),
            kind => found.push((path.to_vec(), kind.to_string())),
        }
    }
    let mut found = Vec::new();
    for column in &schema.columns {
        add(&column.kind, std::slice::from_ref(&column.name), &mut found);
    }
    found
}

#[tokio::test]
async fn suggestions_give_a_new_table_the_columns_that_they_name() {
    let at = r#""2026-11-20T00:00:00Z""#;
    let odd = |n: u32| {
        if n.is_multiple_of(3) {
            "\"odd\"".to_owned()
        } else {
            n.to_string()
        }
    };
    let record = |n: u32| {
        let serial = 1_700_000_000 + n;
        let odd = odd(n);
        let tags = if n.is_multiple_of(3) {
            "\"none\"".to_owned()
        } else {
            format!("[{at}]")
        };
        format!(
            r#"{{"n":{n},"geo.time":{at},"a":{{"b.c":"2026-11-20","t":{at}}},"a.b.c":{at},"sp ace":{at},"x[]":{at},"q\"":{at},
            "it's":{at},"l":[{at}],"l2":[{{"a.b":[{at}]}}],"o":{{"p.q":{odd}}},"p.q":1.5,"odd":{odd},"tags":{tags},
            "serial":"{serial}","basic":"20261120T100000Z","digits":"20261120100000","ts":{serial}}}"#
        )
        .replace("\n            ", "")
    };
    let records: Vec<String> = (1..=90).map(record).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let process = table(TableRules::default(), &[&records]).await;
    let before = leaves(&process.stage.registry().newest());
    let suggested = suggested(&process).await;
    let found: Vec<(&str, &str)> = suggested
        .iter()
        .map(|suggestion| (suggestion.path.as_str(), suggestion.kind.as_str()))
        .collect();
    let time = |path| (path, "TIMESTAMP");
    let mut wanted = vec![
        time("\"geo.time\""),
        ("a.\"b.c\"", "DATE"),
        time("a.t"),
        time("\"a.b.c\""),
        time("sp ace"),
        time("\"x[]\""),
        time("\"q\"\"\""),
        time("it's"),
        time("l[]"),
        time("l2[].\"a.b\"[]"),
        ("o.\"p.q\"", "VARCHAR"),
        ("odd", "VARCHAR"),
        ("tags", "JSON"),
        time("basic"),
        time("ts"),
    ];
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    let declared: Vec<(String, ColumnType)> = suggested
        .iter()
        .map(|suggestion| (suggestion.path.clone(), suggestion.kind.parse().unwrap()))
        .collect();
    let rules = TableRules {
        declared: declared.clone(),
        ..TableRules::default()
    };
    let mut wanted = before;
    let declared = leaves(&declared_schema(&declared).unwrap());
    for (path, kind) in &declared {
        let is_there = |(before, _): &&mut (Vec<String>, String)| before.starts_with(path);
        let column = wanted.iter_mut().find(is_there).unwrap();
        *column = (path.clone(), kind.clone());
    }
    let again = table(rules, &[&records]).await;
    let mut after = leaves(&again.stage.registry().newest());
    after.sort();
    wanted.sort();
    assert_eq!(after, wanted);
    for row in shown(&again, 100).await {
        assert_eq!(row["_rescued"], Value::Null, "{row}");
    }
}
