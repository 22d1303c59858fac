//! The schema that all sinks of a table share.

use hydrant_core::stage::Flush;
use hydrant_core::stream::Read;
use hydrant_core::{Disposition, Result};

use hydrant_testing::disk::SimWorld;

use super::support::*;
use crate::schema::ColumnType;
use crate::table::spec::{OnConflict, TableRules};
use crate::verify::{Depth, verify};

async fn publish_one(process: &SinkProcess, shard: &str, payload: &str) -> Result<()> {
    let (mut stage, after) = process.claim(shard).await?;
    let next = after.next_offset().unwrap();
    stage
        .push(Read::Batch(batch(next, &[payload.to_owned()])))
        .await?;
    stage.publish(Flush::Drain).await.map(drop)
}

/// Two sinks lay a new table out differently: the slower one is refused, also when it has published nothing by its end.
#[tokio::test]
async fn of_two_layouts_of_a_new_table_the_slower_one_is_refused() {
    let world = world(1);
    let by = |parts: &[&str], name: &'static str| ProcessSetup {
        rules: TableRules {
            partition: parts.iter().map(|part| (*part).to_owned()).collect(),
            ..TableRules::default()
        },
        ..ProcessSetup::named(&world, name)
    };
    let a = by(&["date"], "a").run().await.unwrap();
    let b = by(&["region"], "b").run().await.unwrap();
    let idle = by(&[], "c").run().await.unwrap();
    let same = by(&["date"], "d").run().await.unwrap();
    for sink in [&a, &b, &idle, &same] {
        sink.stage.registry().check_again().await.unwrap();
    }
    let record = "{\"n\":1,\"region\":\"eu\"}";
    publish_one(&a, "000000", record).await.unwrap();
    let refused = publish_one(&b, "000001", record).await.unwrap_err();
    let said = "table `devices` is laid out by `--partition date`, not by `region`";
    assert!(refused.to_string().contains(said), "{refused}");
    let refused = idle.stage.registry().check_again().await.unwrap_err();
    assert!(refused.to_string().contains("not by `none`"), "{refused}");
    for sink in [&a, &same] {
        sink.stage.registry().check_again().await.unwrap();
    }
    assert_eq!(rows_of(&*a.lake, &names().data()).await.len(), 1);
}

/// A frozen table without columns would hold nothing but rescued values, for ever.
#[tokio::test]
async fn a_new_frozen_table_needs_columns() {
    let world = world(1);
    let frozen = |name: &'static str, declared: &[(&str, ColumnType)]| ProcessSetup {
        rules: TableRules {
            frozen: true,
            declared: declared
                .iter()
                .map(|(path, kind)| ((*path).to_owned(), kind.clone()))
                .collect(),
            ..TableRules::default()
        },
        ..ProcessSetup::named(&world, name)
    };
    let refused = frozen("a", &[]).run().await.err().unwrap().to_string();
    assert!(refused.contains("`frozen = true`"), "{refused}");
    let declared = [("n", ColumnType::Bigint)];
    let a = frozen("b", &declared).run().await.unwrap();
    publish_one(&a, "000000", "{\"n\":1}").await.unwrap();
    frozen("c", &[]).run().await.unwrap();
}

/// Two sinks decide on the first schema at once; the slower one finds that its rows fit, or not, one by one.
#[tokio::test]
async fn two_sinks_race_for_a_schema() {
    let world = world(1);
    // Both have seen a table without a schema.
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let b = ProcessSetup::named(&world, "b").run().await.unwrap();
    let c = ProcessSetup::named(&world, "c").run().await.unwrap();
    publish_one(&a, "000000", "{\"n\":1,\"v\":5}")
        .await
        .unwrap();
    publish_one(&b, "000001", "{\"n\":2,\"v\":2.5,\"w\":true}")
        .await
        .unwrap();
    let newest = b.stage.registry().newest();
    assert_eq!(newest.number, 2);
    assert_eq!(newest.column("v").unwrap().kind, ColumnType::Double);
    publish_one(&c, "000002", "{\"n\":3,\"v\":\"x\",\"w\":true}")
        .await
        .unwrap();
    let rows = rows_of(&*a.lake, &names().data()).await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    let row = rows.iter().find(|row| row["n"] == 3).unwrap();
    assert_eq!(
        (&row["_rescued"], &row["w"]),
        (&"{\"v\":\"x\"}".into(), &true.into())
    );
    // Where nothing is rescued, the row becomes a dead letter.
    let strict = TableRules {
        on_conflict: OnConflict::DeadLetter,
        ..TableRules::default()
    };
    let d = ProcessSetup {
        rules: strict,
        ..ProcessSetup::named(&world, "d")
    };
    let d = d.run().await.unwrap();
    publish_one(&d, "000003", "{\"n\":3,\"v\":\"x\",\"w\":true}")
        .await
        .unwrap();
    let dead_letters = rows_of(&*a.lake, &names().dead_letters()).await;
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(dead_letters[0]["reason"], "type_conflict");
    let detail = dead_letters[0]["detail"].as_str().unwrap();
    assert!(detail.contains("column `v`"), "{dead_letters:?}");
    // The first sink still knows number 1 only, and finds out when it needs more than that.
    publish_one(&a, "000000", "{\"n\":4,\"v\":6,\"z\":1}")
        .await
        .unwrap();
    assert_eq!(a.stage.registry().newest().number, 3);
    let report = verify(&a.lake, &names(), Depth::default()).await.unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(
        (report.schema, report.units.rows, report.units.dead_letters),
        (3, 4, 1)
    );
    assert_eq!(report.files_of_older_schemas, 3);
}

#[tokio::test]
async fn an_integer_beyond_2_53_and_a_fraction_exclude_each_other() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let b = ProcessSetup::named(&world, "b").run().await.unwrap();
    publish_one(&a, "000000", "{\"n\":1,\"v\":1}")
        .await
        .unwrap();
    publish_one(&b, "000001", "{\"n\":2,\"v\":9007199254740993}")
        .await
        .unwrap();
    // This sink knows schema 1 and not the large integer.
    publish_one(&a, "000000", "{\"n\":3,\"v\":2.5}")
        .await
        .unwrap();
    let newest = crate::schema::registry::newest(&a.lake, &names())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(newest.column("v").unwrap().kind, ColumnType::Bigint);
    let rows = rows_of(&*a.lake, &names().data()).await;
    let row = rows.iter().find(|row| row["n"] == 3).unwrap();
    assert_eq!(row["_rescued"], "{\"v\":2.5}");
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn a_configuration_against_the_stored_schema_is_refused() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    publish_one(&a, "000000", "{\"n\":1,\"v\":5}")
        .await
        .unwrap();
    let refused = [
        TableRules {
            partition: vec!["hour".to_owned()],
            ..TableRules::default()
        },
        TableRules {
            provenance: true,
            ..TableRules::default()
        },
        TableRules {
            declared: vec![("v".to_owned(), ColumnType::Varchar)],
            ..TableRules::default()
        },
    ];
    for rules in refused {
        let error = ProcessSetup {
            rules,
            ..ProcessSetup::named(&world, "b")
        }
        .run()
        .await
        .unwrap_err();
        assert_eq!(error.disposition(), Disposition::Refused, "{error}");
    }
}

#[tokio::test]
async fn provenance_says_where_rows_came_from() {
    let world = world(1);
    let rules = TableRules {
        provenance: true,
        ..TableRules::default()
    };
    let process = ProcessSetup {
        rules,
        ..ProcessSetup::named(&world, "a")
    }
    .run()
    .await
    .unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    publish(&mut shard, 0..6).await.unwrap();
    let rows = rows_of(&*process.lake, &names().data()).await;
    for row in rows {
        assert_eq!(row["_sequence"], row["n"].to_string());
        assert_eq!(
            (&row["_stream"], &row["_shard"]),
            (&"clean@memory".into(), &"000000".into())
        );
    }
}

/// A process whose configuration declares these columns.
async fn declaring(world: &SimWorld, columns: &[(&str, &str)]) -> Result<SinkProcess> {
    let declared = columns.iter();
    let declared = declared.map(|(path, kind)| ((*path).to_owned(), kind.parse().unwrap()));
    let rules = TableRules {
        declared: declared.collect(),
        ..TableRules::default()
    };
    ProcessSetup {
        rules,
        ..ProcessSetup::named(world, "declaring")
    }
    .run()
    .await
}

#[tokio::test]
async fn columns_that_are_declared_later_take_effect_and_stay() {
    let world = world(1);
    let first = declaring(&world, &[]).await.unwrap();
    let record = "{\"start\":0,\"a\":1,\"n\":5,\"t\":\"x\",\"o\":{\"x\":1}}";
    publish_one(&first, "000000", record).await.unwrap();
    drop(first);
    let columns = [
        ("price", "DECIMAL(9,2)"),
        ("a", "BIGINT"),
        ("n", "DOUBLE"),
        ("t", "VARCHAR"),
        ("o.at", "TIMESTAMP"),
        ("o.y", "MAP(VARCHAR, JSON)"),
    ];
    for start in 1..4 {
        let process = declaring(&world, &columns).await.unwrap();
        let schema = process.stage.registry().newest();
        // The first of these starts stores it, the others find it.
        assert_eq!(schema.number, 2);
        for (name, kind) in [("price", "DECIMAL(9,2)"), ("a", "BIGINT"), ("n", "DOUBLE")] {
            let column = schema.column(name).unwrap();
            assert_eq!(
                (column.kind.to_string().as_str(), column.declared),
                (kind, true)
            );
        }
        let record = format!(
            "{{\"start\":{start},\"price\":12.34,\"a\":1.5,\"n\":1,\"t\":[1],\"o\":{{\"at\":1769817600,\"y\":{{\"k\":[]}}}}}}"
        );
        let shard = format!("00000{start}");
        publish_one(&process, &shard, &record).await.unwrap();
        let rows = rows_of(&*process.lake, &names().data()).await;
        let row = rows.iter().find(|row| row["start"] == start).unwrap();
        assert_eq!(row["price"].as_f64(), Some(12.34));
        assert_eq!(row["_rescued"], "{\"a\":1.5}");
        assert_eq!((&row["t"], &row["n"]), (&"[1]".into(), &1.0.into()));
        assert_eq!(row["o"]["at"], "2026-01-31T00:00:00Z");
        assert_eq!(row["o"]["y"]["k"], "[]");
        assert_eq!(process.stage.registry().newest().number, 2);
    }
}

#[tokio::test]
async fn a_type_that_does_not_join_is_refused_at_start_with_the_way_out() {
    let world = world(1);
    let first = declaring(&world, &[]).await.unwrap();
    let record =
        "{\"i\":1,\"d\":1.5,\"s\":\"x\",\"o\":{\"x\":1},\"l\":[1],\"big\":9007199254740993}";
    publish_one(&first, "000000", record).await.unwrap();
    for (path, kind) in [
        ("i", "VARCHAR"),
        ("i", "DECIMAL(9,2)"),
        ("d", "BIGINT"),
        ("big", "DOUBLE"),
        ("s", "JSON"),
        ("s", "TIMESTAMP"),
        ("s", "DATE"),
        ("o", "MAP(VARCHAR, BIGINT)"),
        ("o.x", "BOOLEAN"),
        ("l[]", "VARCHAR"),
        ("S", "VARCHAR"),
    ] {
        let error = declaring(&world, &[(path, kind)]).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Refused, "{error}");
        let text = error.to_string();
        for word in ["another table", "in the lake", "declared as"] {
            assert!(text.contains(word), "{path} {kind}: {text}");
        }
    }
    let error = declaring(&world, &[("date", "DATE")]).await.unwrap_err();
    assert!(error.to_string().contains("date=event_date"), "{error}");
    let last = declaring(&world, &[]).await.unwrap();
    assert_eq!(last.stage.registry().newest().number, 1);
}

/// Two sinks find a table without a schema; the one that declares nothing stores the first one.
#[tokio::test]
async fn a_declaration_holds_also_when_another_sink_stores_the_first_schema() {
    let record = "{\"a\":1,\"t\":\"2026-01-31T00:00:00Z\"}";
    for (columns, is_taken) in [
        (&[("a", "DOUBLE"), ("b", "DATE")][..], true),
        (&[("t", "TIMESTAMP")], false),
    ] {
        let world = world(1);
        let declaring = declaring(&world, columns).await.unwrap();
        let other = ProcessSetup::named(&world, "other").run().await.unwrap();
        publish_one(&other, "000000", record).await.unwrap();
        let published = publish_one(&declaring, "000001", record).await;
        if is_taken {
            published.unwrap();
            let newest = declaring.stage.registry().newest();
            let kinds = ["a", "b"].map(|name| newest.column(name).unwrap().kind.to_string());
            assert_eq!(kinds, ["DOUBLE", "DATE"]);
        } else {
            let error = published.unwrap_err();
            assert_eq!(error.disposition(), Disposition::Refused, "{error}");
            assert!(
                error.to_string().contains("declared as TIMESTAMP"),
                "{error}"
            );
        }
    }
}
