//! Times as devices write them, through the real sink: each names its partition, as the settings of time say.

use serde_json::{Value, json};

use crate::test_dir::TestDir;

/// The hours of the rows of a table by their number, as `date/hour`.
fn hours(place: &TestDir, settings: &str, flags: &[&str], records: &[Value]) -> Vec<String> {
    place.write("hydrant.toml", format!("[sink]\n{settings}\n"));
    place.create("local:raw", 1);
    let numbered: Vec<String> = (0..records.len())
        .map(|nr| {
            let mut record = records[nr].clone();
            record["nr"] = json!(nr);
            record.to_string()
        })
        .collect();
    let numbered: Vec<&str> = numbered.iter().map(String::as_str).collect();
    place.put("local:raw", &numbered);
    let mut sink = vec!["--from", "local:raw", "--to", "file:lake"];
    sink.extend([
        "--exit-at-end",
        "--idle",
        "100ms",
        "--config",
        "hydrant.toml",
    ]);
    sink.extend(flags);
    place.run("hydrant-sink", &sink).expect(0, &[]);
    place.sound("file:lake");
    let answer = place.run("hydrant", &["lake", "cat", "file:lake"]);
    let mut found = vec![String::new(); records.len()];
    for line in answer.expect(0, &[]).out.lines() {
        let row: Value = serde_json::from_str(line).expect("a line of JSON");
        let nr = row["nr"].as_u64().expect("a number") as usize;
        let text = |name: &str| row[name].as_str().unwrap_or("none").to_owned();
        found[nr] = format!("{}/{}", text("date"), text("hour"));
    }
    found
}

fn timestamps(times: &[(Value, &str)]) -> Vec<Value> {
    let records = times.iter().map(|(time, _)| json!({ "timestamp": time }));
    records.collect()
}

#[test]
fn the_forms_of_time_name_their_hours_in_a_zone_of_the_user() {
    let place = TestDir::new();
    let times = [
        (json!("2026-01-31T10:00:00Z"), "2026-01-31/10"),
        (json!("2026-01-31T10:00:00+0530"), "2026-01-31/04"),
        (json!("2026-01-31 10:00:00,250 -03"), "2026-01-31/13"),
        // Berlin, in winter and in summer.
        (json!("2026-01-31T10:00:00"), "2026-01-31/09"),
        (json!("2026-07-01 00:30"), "2026-06-30/22"),
        // A day alone is that day.
        (json!("2026-07-01"), "2026-07-01/00"),
        (json!("01.07.2026"), "2026-07-01/00"),
        (json!("2026-W27-3"), "2026-07-01/00"),
        (json!("20260701T003000"), "2026-06-30/22"),
        // Of the user's forms; the first that fits counts.
        (json!("31.01.2026, 10:00"), "2026-01-31/09"),
        (json!("01/02/2026 10:00:00"), "2026-02-01/09"),
        (json!(1_769_853_600), "2026-01-31/10"),
        (json!("1769853600123"), "2026-01-31/10"),
        (json!(1_769_853_600_123_456_i64), "2026-01-31/10"),
        // Neither can be a time of a device.
        (json!("1999-12-31T23:59:59Z"), "none/none"),
        (json!("2099-01-01T00:00:00Z"), "none/none"),
        (json!("02-01-2026"), "none/none"),
        (json!("unknown"), "none/none"),
    ];
    let flags = [
        "--partition",
        "hour",
        "--time-zone",
        "Europe/Berlin",
        "--event-time-format",
        "%d.%m.%Y, %H:%M",
        "--event-time-format",
        "%d.%m.%Y",
        "--event-time-format",
        "%d/%m/%Y %H:%M:%S",
    ];
    let found = hours(&place, "", &flags, &timestamps(&times));
    let wanted: Vec<&str> = times.iter().map(|(_, hour)| *hour).collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_first_time_that_can_be_read_counts() {
    let by_default = [
        json!({"event_time":"n/a","timestamp":"2026-01-31T10:00:00Z","ts":1}),
        json!({"time":1_769_853_600,"event_time":"2026-01-30T10:00:00Z"}),
        json!({"timestamp":{"seconds":1},"@timestamp":"2026-01-29"}),
        json!({"event_time":null,"timestamp":"soon","ts":true}),
    ];
    let found = hours(&TestDir::new(), "", &[], &by_default);
    assert_eq!(
        found,
        [
            "2026-01-31/none",
            "2026-01-30/none",
            "2026-01-29/none",
            "none/none"
        ]
    );
    let named = [
        json!({"meta":{"at":"2026-01-31T10:00:00Z"},"timestamp":"2026-01-30"}),
        json!({"meta.at":"2026-01-31T10:00:00Z","meta":{"at":"2026-01-29"}}),
        json!({"meta":{"at":"soon"},"timestamp":"2026-01-30"}),
    ];
    let found = hours(&TestDir::new(), "", &["--event-time", "meta.at"], &named);
    assert_eq!(found, ["2026-01-31/none", "2026-01-31/none", "none/none"]);
}

#[test]
fn rows_that_are_late_by_more_share_a_partition_a_month() {
    let place = TestDir::new();
    let now = chrono::Utc::now();
    let ago = |days: i64| now - chrono::TimeDelta::days(days);
    let records: Vec<Value> = (0..200)
        .map(|days| json!({ "timestamp": ago(days).to_rfc3339() }))
        .collect();
    let found = hours(&place, "lateness-max = \"30d\"", &[], &records);
    for (days, found) in (0..200).zip(found) {
        let format = if days <= 29 { "%Y-%m-%d" } else { "%Y-%m-01" };
        // Between the sink's present and ours.
        if days != 30 {
            assert_eq!(
                found,
                format!("{}/none", ago(days).format(format)),
                "{days}"
            );
        }
    }
}
