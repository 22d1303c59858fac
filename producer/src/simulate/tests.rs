//! What the simulator promises, over whole fleets.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::*;

fn spec() -> FleetSpec {
    FleetSpec {
        devices: 97,
        ..FleetSpec::default()
    }
}

fn fleet(spec: &FleetSpec) -> Fleet {
    Fleet::try_new(spec).unwrap()
}

fn record(fleet: &Fleet, index: u64) -> (Vec<u8>, Meta) {
    let mut bytes = Vec::new();
    let meta = fleet.record(index, &mut bytes);
    (bytes, meta)
}

/// FNV-1a over the first 1,000 records with a line end each.
fn fingerprint(seed: u64) -> u64 {
    let fleet = fleet(&FleetSpec {
        seed,
        malformed_share: 0.05,
        ..FleetSpec::default()
    });
    let mut bytes = Vec::new();
    for index in 0..1_000 {
        fleet.record(index, &mut bytes);
        bytes.push(b'\n');
    }
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        })
}

/// A change here changes what users' seeds mean: tests and benchmarks compare lakes with
/// regenerated records.
#[test]
fn records_of_a_seed_never_change() {
    assert_eq!(
        [1, 2, 42].map(fingerprint),
        [
            17046468140823123860,
            15018958942427208029,
            4489396519188294122
        ]
    );
}

#[test]
fn a_record_depends_on_seed_and_index_only() {
    let (first, second) = (fleet(&spec()), fleet(&spec()));
    let backwards: Vec<_> = (0..500).rev().map(|index| record(&first, index)).collect();
    for (index, expected) in (0..500).zip(backwards.into_iter().rev()) {
        assert_eq!(record(&second, index), expected);
    }
    let other = fleet(&FleetSpec { seed: 2, ..spec() });
    assert_ne!(record(&first, 7), record(&other, 7));
}

#[test]
fn a_record_is_appended_and_its_key_lies_in_the_buffer() {
    let fleet = fleet(&FleetSpec {
        malformed_share: 0.3,
        pii: PiiShares::ALL,
        ..spec()
    });
    let mut buffer = b"before".to_vec();
    for index in 0..2_000 {
        let start = buffer.len();
        let meta = fleet.record(index, &mut buffer);
        let (alone, alone_meta) = record(&fleet, index);
        assert_eq!(&buffer[start..], &alone[..]);
        assert_eq!(&buffer[meta.key.clone()], &alone[alone_meta.key.clone()]);
        assert!(buffer[meta.key].starts_with(meta.kind.name().as_bytes()));
        assert!(!alone.contains(&b'\n'));
    }
    assert!(buffer.starts_with(b"before{"));
}

#[test]
fn seq_rises_by_one_per_device_and_every_device_speaks_each_round() {
    for devices in [1, 2, 12, 97, 1_000] {
        let fleet = fleet(&FleetSpec { devices, ..spec() });
        let mut next_seq = HashMap::new();
        for index in 0..devices * 5 {
            let (device, seq) = fleet.device_and_seq(index);
            assert!(device < devices);
            let expected = next_seq.entry(device).or_insert(0);
            assert_eq!(
                seq, *expected,
                "device {device} of {devices} at index {index}"
            );
            *expected += 1;
        }
        assert_eq!(next_seq.len() as u64, devices);
        assert!(next_seq.values().all(|&next| next == 5));
    }
}

#[test]
fn rounds_differ_in_order() {
    let fleet = fleet(&spec());
    let orders: HashSet<Vec<u64>> = (0..20)
        .map(|round| {
            (0..97)
                .map(|at| fleet.device_and_seq(round * 97 + at).0)
                .collect()
        })
        .collect();
    assert!(orders.len() > 15, "{}", orders.len());
}

#[test]
fn a_device_has_one_key_and_a_key_one_device() {
    let fleet = fleet(&FleetSpec {
        malformed_share: 0.2,
        pii: PiiShares {
            partition_keys: 0.5,
            ..PiiShares::NONE
        },
        ..spec()
    });
    let mut keys: HashMap<u64, Vec<u8>> = HashMap::new();
    for index in 0..2_000 {
        let (bytes, meta) = record(&fleet, index);
        let key = bytes[meta.key].to_vec();
        assert_eq!(*keys.entry(meta.device).or_insert_with(|| key.clone()), key);
    }
    assert_eq!(keys.values().collect::<HashSet<_>>().len(), 97);
    let personal = keys.values().filter(|key| key.contains(&b'/')).count();
    assert!((25..75).contains(&personal), "{personal}");
}

#[test]
fn well_formed_records_carry_what_meta_says() {
    let fleet = fleet(&FleetSpec {
        malformed_share: 0.0,
        ..spec()
    });
    let mut lengths = Vec::new();
    for index in 0..5_000 {
        let (bytes, meta) = record(&fleet, index);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["index"], index);
        assert_eq!(value["seq"], meta.seq);
        assert_eq!(value["kind"], meta.kind.name());
        assert_eq!(
            value["device_id"].as_str().unwrap().as_bytes(),
            &bytes[meta.key]
        );
        if let Some(millis) = value.get("ts") {
            assert_eq!(
                millis.as_i64().unwrap(),
                meta.event_micros.div_euclid(1_000)
            );
        } else {
            assert!(value["event_time"].as_str().unwrap().ends_with('Z'));
        }
        lengths.push(bytes.len());
    }
    assert!(lengths.iter().all(|length| (150..=700).contains(length)));
    let kinds: HashSet<_> = (0..97).map(|index| record(&fleet, index).1.kind).collect();
    assert_eq!(kinds.len(), 6);
}

#[test]
fn the_malformed_share_is_no_json_and_about_as_large_as_asked() {
    let fleet = fleet(&FleetSpec {
        malformed_share: 0.1,
        ..spec()
    });
    let (mut malformed, mut truncated, mut not_utf8, mut bare) = (0, 0, 0, 0);
    for index in 0..10_000 {
        let (bytes, meta) = record(&fleet, index);
        assert_eq!(
            serde_json::from_slice::<Value>(&bytes).is_err(),
            meta.malformed
        );
        if meta.malformed {
            malformed += 1;
            match (bytes[0], std::str::from_utf8(&bytes)) {
                (b'{', Ok(_)) => truncated += 1,
                (b'{', Err(_)) => not_utf8 += 1,
                _ => bare += 1,
            }
        }
    }
    assert!((900..1_100).contains(&malformed), "{malformed}");
    assert!(truncated > 200 && not_utf8 > 200 && bare > 200);
}

#[test]
fn late_records_lie_hours_or_days_back_and_cross_dates() {
    let spec = FleetSpec {
        late_share: 0.1,
        ..spec()
    };
    let fleet = fleet(&spec);
    let mut dates = HashSet::new();
    let mut late = 0;
    for index in 0..10_000 {
        let meta = record(&fleet, index).1;
        let scheduled = spec.start_micros + (index * spec.interval_micros / spec.devices) as i64;
        let behind_s = (scheduled - meta.event_micros) / 1_000_000;
        if meta.late {
            late += 1;
            assert!((2_600..=8 * 86_400).contains(&behind_s), "{behind_s}");
        } else {
            assert!((-902..=900).contains(&behind_s), "{behind_s}");
        }
        dates.insert(meta.event_micros.div_euclid(86_400_000_000));
    }
    assert!((900..1_100).contains(&late), "{late}");
    assert!(dates.len() >= 7, "{}", dates.len());
}

#[test]
fn planted_personal_data_stands_in_the_record() {
    let fleet = fleet(&FleetSpec {
        malformed_share: 0.1,
        pii: PiiShares::ALL,
        ..spec()
    });
    let mut count = 0;
    for index in 0..5_000 {
        let (bytes, meta) = record(&fleet, index);
        let planted = fleet.planted(index);
        for text in &planted {
            assert!(text.len() >= 8, "{text}");
            assert!(
                bytes
                    .windows(text.len())
                    .any(|window| window == text.as_bytes()),
                "{text}"
            );
        }
        assert!(meta.malformed || planted.len() >= 3, "{planted:?}");
        count += planted.len();
    }
    assert!(count > 15_000, "{count}");
}

#[test]
fn without_shares_no_personal_data_is_planted() {
    let fleet = fleet(&FleetSpec {
        pii: PiiShares::NONE,
        malformed_share: 0.0,
        ..spec()
    });
    for index in 0..2_000 {
        assert_eq!(fleet.planted(index), Vec::<String>::new());
        let text = String::from_utf8(record(&fleet, index).0).unwrap();
        assert!(!text.contains('@') && !text.contains("\"name\""), "{text}");
    }
}

#[test]
fn every_place_for_personal_data_is_used() {
    let fleet = fleet(&FleetSpec {
        malformed_share: 0.0,
        pii: PiiShares::ALL,
        ..spec()
    });
    let mut all = String::new();
    for index in 0..5_000 {
        all.push_str(std::str::from_utf8(&record(&fleet, index).0).unwrap());
    }
    for sign in [
        "\"device_id\":\"gateway/02:",
        "\"contact_email\":\"",
        "\"prepaid_card\":",
        "\"patient\":{\"account\":",
        "\"ssn\":\"",
        "\"birth_date\":\"19",
        "\"iban\":\"DE",
        "\"token\":\"eyJ",
        "\"notify\":{\"push\":true,\"",
        "upload key AKIA",
        "paid with card ",
        "; SSN ",
        "peer [2001:db8:",
        "station 02:",
        "Bearer eyJ",
        "{\\\"user\\\":\\\"",
        "\"coordinates\":[",
    ] {
        assert!(all.contains(sign), "{sign}");
    }
}

/// Type of each column by path; a list's elements share one.
fn collect_types(path: &str, value: &Value, types: &mut BTreeMap<String, HashSet<&'static str>>) {
    let kind = match value {
        Value::Null => return,
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "fraction",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(items) => {
            for item in items {
                collect_types(&format!("{path}[]"), item, types);
            }
            "list"
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                collect_types(&format!("{path}.{name}"), field, types);
            }
            "object"
        }
    };
    types.entry(path.to_owned()).or_default().insert(kind);
}

fn conflicting_columns(spec: &FleetSpec) -> Vec<String> {
    let fleet = fleet(spec);
    let mut types = BTreeMap::new();
    for index in 0..5_000 {
        if let Ok(value) = serde_json::from_slice(&record(&fleet, index).0) {
            collect_types("", &value, &mut types);
        }
    }
    types.retain(|_, kinds| kinds.len() > 1);
    types.into_keys().collect()
}

#[test]
fn a_column_has_one_type_unless_a_conflict_is_asked_for() {
    assert_eq!(conflicting_columns(&spec()), Vec::<String>::new());
    assert_eq!(
        conflicting_columns(&FleetSpec {
            pii: PiiShares::ALL,
            ..spec()
        }),
        [""; 0]
    );
    assert_eq!(
        conflicting_columns(&FleetSpec {
            conflict_share: 0.01,
            ..spec()
        }),
        [".firmware"]
    );
}

#[test]
fn extremes_of_index_and_time_do_not_break_records() {
    for start_micros in [-62_100_000_000_000_000, 253_402_300_799_999_000] {
        let fleet = fleet(&FleetSpec {
            start_micros,
            interval_micros: u64::MAX,
            devices: 3,
            late_share: 1.0,
            malformed_share: 0.0,
            ..spec()
        });
        for index in [0, 1, 2, u64::MAX - 1, u64::MAX] {
            let (bytes, meta) = record(&fleet, index);
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["index"], index);
            assert!(meta.event_micros <= 253_402_300_799_999_000);
        }
    }
}

#[test]
fn fleets_that_cannot_be_are_refused_with_a_remedy() {
    let refusals = [
        FleetSpec {
            devices: 0,
            ..spec()
        },
        FleetSpec {
            devices: DEVICES_MAX + 1,
            ..spec()
        },
        FleetSpec {
            malformed_share: 1.5,
            ..spec()
        },
        FleetSpec {
            late_share: f64::NAN,
            ..spec()
        },
        FleetSpec {
            start_micros: i64::MAX,
            ..spec()
        },
        FleetSpec {
            pii: PiiShares {
                text: -1.0,
                ..PiiShares::NONE
            },
            ..spec()
        },
    ];
    for refused in refusals {
        let message = Fleet::try_new(&refused).unwrap_err().to_string();
        assert!(message.contains("give "), "{message}");
    }
    assert!(
        Fleet::try_new(&FleetSpec {
            devices: DEVICES_MAX,
            ..spec()
        })
        .is_ok()
    );
}
