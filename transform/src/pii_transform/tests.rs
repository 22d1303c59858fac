//! Batches through scanners: each record has one fate, bytes change only where they must, and a panic hurts one record.

use bytes::Bytes;
use hydrant_core::batch::{Entry, RunBuilder, Span, Step};
use hydrant_core::headers::put_header;
use hydrant_core::origin::DeadLetter;
use hydrant_core::workers::INTERNAL_FAULT;
use hydrant_core::{Position, Sequence, ShardId, StreamId};
use hydrant_pii::{QuarantineReason, ScanVerdict};
use proptest::prelude::*;

use super::scan::span;
use super::*;

/// Decides by the first byte: `r` redacts, `q` quarantines, `d` drops, `p` panics, anything else is clean. What is
/// redacted becomes `R` and the rest of the bytes.
struct Fake {
    found: bool,
}

impl Fake {
    fn scan(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
        self.found = false;
        match bytes.first() {
            Some(b'r') => {
                self.found = true;
                out.push(b'R');
                out.extend_from_slice(&bytes[1..]);
                ScanVerdict::Redacted
            }
            Some(b'q') => ScanVerdict::Quarantined {
                reason: QuarantineReason::TooDeep,
            },
            Some(b'd') => ScanVerdict::Dropped { rule: 0 },
            Some(b'p') => {
                out.extend_from_slice(b"half of it");
                panic!("the scanner has a fault");
            }
            _ => ScanVerdict::Clean,
        }
    }
}

impl Scanner for Fake {
    fn payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
        self.scan(payload, out)
    }

    fn key(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
        self.scan(key, out)
    }

    fn key_beside(&mut self, _: &[u8], _: &mut Vec<u8>) -> ScanVerdict {
        ScanVerdict::Clean
    }

    fn finding(&self, index: usize) -> Option<(&'static str, &'static str)> {
        (self.found && index == 0).then_some(("fake", "label"))
    }
}

fn fake() -> PiiTransform {
    PiiTransform::with(Arc::new(Policy::strict()), |_| {
        Box::new(Fake { found: false })
    })
}

type KeyedRecord = (Option<String>, String);

fn batch(records: &[KeyedRecord]) -> Batch {
    let mut bytes = Vec::new();
    let mut put = |text: &str| {
        let start = bytes.len();
        bytes.extend_from_slice(text.as_bytes());
        span(start, bytes.len())
    };
    let entries = records.iter().map(|(key, payload)| Entry {
        segment: 0,
        key: key.as_deref().map(&mut put),
        payload: Span::default(),
        stamp: payload.len() as i64,
    });
    let mut entries: Vec<_> = entries.collect();
    for (entry, (_, payload)) in entries.iter_mut().zip(records) {
        entry.payload = put(payload);
    }
    let mut runs = RunBuilder::default();
    for n in 0..records.len() as u64 {
        // A hole every five records.
        runs.push(Sequence::from(n + n / 5), 0, Step::Sequence, 7);
    }
    Batch {
        segments: Arc::from([Bytes::from(bytes)]),
        records: entries,
        hashes: (0..records.len() as u128).collect(),
        runs: runs.finish(),
        to: Position::offset(999),
        ..Batch::default()
    }
}

fn apply(transform: &PiiTransform, records: &[KeyedRecord]) -> Transformed {
    let source = Source {
        stream: &StreamId::new("raw", "1"),
        shard: &ShardId::new("0001"),
        now: 5,
    };
    transform.apply(batch(records), source).unwrap()
}

fn redacted(text: &str) -> String {
    match text.strip_prefix('r') {
        Some(rest) => format!("R{rest}"),
        None => text.to_owned(),
    }
}

fn record() -> impl Strategy<Value = KeyedRecord> {
    let text = "[cccrrqdp][a-c]{0,3}";
    let key = prop_oneof![
        2 => Just(None),
        5 => "[cccr][ab]{0,1}".prop_map(Some),
        1 => "[qdp]".prop_map(Some),
    ];
    (key, text)
}

/// Panics of the scanner are part of these tests and print nothing.
fn quietly<T>(test: impl FnOnce() -> T) -> T {
    use std::sync::Once;
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let fault = panic.payload().downcast_ref::<&str>();
            if fault != Some(&"the scanner has a fault") {
                hook(panic);
            }
        }));
    });
    test()
}

proptest! {
    #[test]
    fn each_record_has_the_fate_that_its_scan_gave_it(
        records in prop::collection::vec(record(), 0..60),
    ) {
        let transformed = quietly(|| apply(&fake(), &records));
        let whole = batch(&records);
        let mut wanted = Vec::new();
        let mut dead_letters = Vec::new();
        let mut dropped = Vec::new();
        for (index, (key, payload)) in records.iter().enumerate() {
            let index = index as u32;
            let key_fate = key.as_deref().and_then(|key| key.chars().next()).unwrap_or('c');
            let payload_fate = payload.chars().next().unwrap();
            let shown = key.as_deref().map(redacted);
            match (key_fate, payload_fate) {
                ('d', _) | ('c' | 'r', 'd') => dropped.push(index),
                ('p', _) | ('c' | 'r', 'p') => dead_letters.push((index, INTERNAL_FAULT)),
                ('q', _) | (_, 'q') => dead_letters.push((index, "too_deep")),
                _ => wanted.push((index, shown, redacted(payload), key_fate == 'r')),
            }
        }
        let out = &transformed.batch;
        prop_assert_eq!(transformed.input as usize, records.len());
        prop_assert_eq!(out.to, whole.to);
        let got: Vec<_> = out
            .records
            .iter()
            .zip(&transformed.sources)
            .zip(&transformed.rekeyed)
            .map(|((entry, source), rekeyed)| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                (*source, out.key(entry).map(text), text(out.payload(entry)), *rekeyed)
            })
            .collect();
        prop_assert_eq!(got, wanted);
        let got: Vec<_> = out.positions().collect();
        let positions: Vec<_> = whole.positions().collect();
        let of_sources = transformed.sources.iter().map(|source| positions[*source as usize]);
        prop_assert_eq!(got, of_sources.collect::<Vec<_>>());
        prop_assert_eq!(&out.hashes, &transformed.sources.iter().map(|s| u128::from(*s)).collect::<Vec<_>>());
        let got: Vec<_> = transformed.dropped.iter().map(|(index, _)| *index).collect();
        prop_assert_eq!(got, dropped);
        for ((index, letter), (wanted, reason)) in transformed.dead_letters.iter().zip(&dead_letters) {
            prop_assert_eq!((index, &*letter.reason, letter.key.as_deref()), (wanted, *reason, None));
            let (sequence, sub, _) = positions[*index as usize];
            prop_assert_eq!((letter.sequence, letter.sub), (sequence, sub));
            prop_assert_eq!(letter.length as usize, records[*index as usize].1.len());
            prop_assert_eq!(&*letter.shard.to_string(), "0001");
        }
        prop_assert_eq!(transformed.dead_letters.len(), dead_letters.len());
    }
}

/// The same batch with what only some streams have: no payload where it was `t`, headers, arrivals of their own.
fn with_columns(mut batch: Batch) -> Batch {
    let mut segment = batch.segments[0].to_vec();
    for index in 0..batch.len() {
        let entry = &mut batch.records[index];
        let tombstone = segment[entry.payload.start as usize..].starts_with(b"t");
        if tombstone && entry.payload.len > 0 {
            entry.payload.len = 0;
            batch.tombstones.push(index as u32);
        }
        let start = segment.len();
        if index % 3 > 0 {
            put_header(&mut segment, "secret", Some(b"ann@example.org"));
        }
        batch.headers.push(span(start, segment.len()));
        batch.arrivals.push(100 + index as i64);
    }
    batch.segments = Arc::from([Bytes::from(segment)]);
    assert!(batch.is_aligned());
    batch
}

proptest! {
    /// A tombstone stays one with its key scanned, arrivals stay with their records, and no header passes.
    #[test]
    fn what_only_some_streams_have_goes_on_with_its_record_or_not_at_all(
        records in prop::collection::vec((record(), any::<bool>()), 0..40),
    ) {
        let records: Vec<KeyedRecord> = records.into_iter().map(|((key, payload), tombstone)| {
            (key, if tombstone { "t".to_owned() } else { payload })
        }).collect();
        let source = Source { stream: &StreamId::new("raw", "1"), shard: &ShardId::new("0001"), now: 5 };
        let whole = with_columns(batch(&records));
        let applied = quietly(|| fake().apply(with_columns(batch(&records)), source));
        let transformed = applied.unwrap();
        let out = &transformed.batch;
        prop_assert!(out.is_aligned() && out.headers.is_empty());
        let mut wanted = Vec::new();
        for (index, (key, payload)) in records.iter().enumerate() {
            let fate = key.as_deref().and_then(|key| key.chars().next()).unwrap_or('c');
            if payload == "t" && "cr".contains(fate) {
                wanted.push((index as u32, key.as_deref().map(redacted)));
            }
        }
        let found: Vec<_> = out.tombstones.iter().map(|at| {
            let entry = &out.records[*at as usize];
            let key = out.key(entry).map(|key| String::from_utf8(key.to_vec()).unwrap());
            (transformed.sources[*at as usize], key)
        }).collect();
        prop_assert_eq!(found, wanted);
        for (at, source) in transformed.sources.iter().enumerate() {
            prop_assert_eq!(out.arrival(at), whole.arrival(*source as usize));
        }
        let dead_letters = transformed.dead_letters.iter().map(|(index, letter)| (&records[*index as usize].1, letter));
        for (payload, letter) in dead_letters.filter(|(payload, _)| *payload == "t") {
            prop_assert_eq!((payload.as_str(), letter.length), ("t", 0));
        }
    }
}

#[test]
fn a_tombstone_leaves_without_personal_data_in_its_key() {
    let transform = PiiTransform::new(Arc::new(Policy::strict()));
    let source = Source {
        stream: &StreamId::new("raw", "1"),
        shard: &ShardId::new("0001"),
        now: 5,
    };
    let records = [
        record_of(Some("device-1"), "t"),
        record_of(Some("ann@example.org"), "t"),
        record_of(None, "t"),
    ];
    let transformed = transform.apply(with_columns(batch(&records)), source);
    let transformed = transformed.unwrap();
    let out = &transformed.batch;
    assert_eq!(out.tombstones, [0, 1, 2]);
    assert_eq!(transformed.rekeyed, [false, true, false]);
    let keys: Vec<_> = out.records.iter().map(|entry| out.key(entry)).collect();
    assert_eq!(keys, [Some(&b"device-1"[..]), Some(b"[EMAIL]"), None]);
}

fn record_of(key: Option<&str>, payload: &str) -> KeyedRecord {
    (key.map(str::to_owned), payload.to_owned())
}

#[test]
fn a_clean_batch_stays_where_it_is_and_a_changed_one_frees_the_old_bytes() {
    let clean = [record_of(Some("k"), "{}"), record_of(None, "[]")];
    let before = batch(&clean);
    let segment = before.segments[0].clone();
    let after = apply(&fake(), &clean).batch;
    assert_eq!(after.segments.len(), 1);
    assert_eq!(after.segments[0].len(), segment.len());
    assert_eq!(after.records, before.records);
    let changed = [record_of(Some("k"), "r1"), record_of(Some("k"), "r2")];
    let after = apply(&fake(), &changed).batch;
    assert_eq!(after.segments.len(), 1);
    // The key stands in the new segment once.
    assert_eq!(&after.segments[0][..], b"R1kR2");
}

/// A batch of which nothing is passed on may have many thousands of dead letters.
#[test]
fn letters_of_a_batch_share_their_texts_and_records_that_are_gone_take_nothing() {
    let records: Vec<_> = (0..100).map(|_| record_of(None, "q")).collect();
    let transformed = apply(&fake(), &records);
    let dead_letters: Vec<_> = transformed.dead_letters.iter().map(|(_, l)| l).collect();
    assert_eq!(dead_letters.len(), 100);
    for two in dead_letters.windows(2) {
        let texts = |l: &DeadLetter| [&l.stream, &l.stage, &l.reason].map(Arc::clone);
        for (a, b) in texts(two[0]).iter().zip(&texts(two[1])) {
            assert!(Arc::ptr_eq(a, b), "{a} is there twice");
        }
    }
    assert_eq!(transformed.batch.records.capacity(), 0);
}

#[test]
fn one_record_that_panics_is_quarantined_and_its_neighbours_are_passed_on() {
    let records = [
        record_of(Some("rk"), "r1"),
        record_of(Some("rk"), "p"),
        record_of(Some("rk"), "r2"),
    ];
    let transformed = quietly(|| apply(&fake(), &records));
    let out = &transformed.batch;
    let payloads: Vec<_> = out.records.iter().map(|entry| out.payload(entry)).collect();
    assert_eq!(payloads, [b"R1", b"R2"]);
    let keys: Vec<_> = out
        .records
        .iter()
        .map(|entry| out.key(entry).unwrap())
        .collect();
    assert_eq!(keys, [b"Rk", b"Rk"]);
    assert_eq!(transformed.dead_letters.len(), 1);
    assert_eq!(transformed.dead_letters[0].0, 1);
    assert_eq!(&*transformed.dead_letters[0].1.reason, INTERNAL_FAULT);
    assert!(
        !out.segments
            .iter()
            .any(|segment| segment.starts_with(b"half"))
    );
}

#[test]
fn the_strict_policy_leaves_no_personal_data_in_records_keys_or_letters() {
    let transform = PiiTransform::new(Arc::new(Policy::strict()));
    assert_eq!(transform.digest().len(), 64);
    let records = [
        record_of(Some("device-1"), r#"{"temp":22.6}"#),
        record_of(Some("ann@example.org"), r#"{"temp":1}"#),
        record_of(Some("device-1"), r#"{"mail":"ann@example.org"}"#),
        record_of(Some("ann@example.org"), r#"{"mail":"ann@exam"#),
    ];
    let transformed = apply(&transform, &records);
    let out = &transformed.batch;
    assert_eq!(out.len(), 3);
    assert_eq!(transformed.rekeyed, [false, true, false]);
    assert_eq!(out.key(&out.records[1]), Some(b"[EMAIL]".as_slice()));
    assert_eq!(out.payload(&out.records[2]), br#"{"mail":"[EMAIL]"}"#);
    let (index, letter) = &transformed.dead_letters[0];
    assert_eq!((*index, letter.key.as_deref()), (3, None));
    assert_eq!(&*letter.reason, "malformed_json");
    assert_eq!(letter.length, 17);
    let printed = format!("{letter:?}");
    assert!(!printed.contains("ann"), "{printed}");
}

/// What becomes of the key beside this payload, and whether the payload leaves.
fn key_beside(transform: &PiiTransform, key: &str, payload: &str) -> (String, String) {
    let transformed = apply(transform, &[record_of(Some(key), payload)]);
    let out = &transformed.batch;
    assert_eq!(out.len(), 1, "{key} {payload}");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let entry = &out.records[0];
    let shown = text(out.key(entry).unwrap());
    assert_eq!(transformed.rekeyed, [shown != key], "{key} {payload}");
    // Routing is that of the input key.
    assert_eq!(out.hashes, [0]);
    (shown, text(out.payload(entry)))
}

#[test]
fn a_key_leaves_without_what_was_found_in_its_payload() {
    let transform = PiiTransform::new(Arc::new(Policy::strict()));
    for (key, payload, shown) in [
        ("536904399", r#"{"ssn":"536904399"}"#, "[SSN]"),
        ("536904399", r#"{"ssn":536904399}"#, "[SSN]"),
        ("536904399", r#"{"ssn":5.36904399E8}"#, "[SSN]"),
        ("536904399", r#"{"a":"536-90-4399"}"#, "[SSN]"),
        ("536 90 4399", r#"{"ssn":"536904399"}"#, "[SSN]"),
        (
            "acme-536904399",
            r#"{"tenant":"acme","ssn":"536904399"}"#,
            "acme-[SSN]",
        ),
        (
            "acme:536904399:7",
            r#"{"user":{"ssn":"536904399"}}"#,
            "acme:[SSN]:7",
        ),
        (
            "536904399536904398",
            r#"{"ssn":["536904399","536904398"]}"#,
            "[SSN][SSN]",
        ),
        ("0171 1234567", r#"{"phone":"0171 1234567"}"#, "[PHONE]"),
        ("01711234567", r#"{"phone":"0171/1234567"}"#, "[PHONE]"),
        (
            "x-01711234567",
            r#"{"phone":"+49 171 1234567"}"#,
            "x-[PHONE]",
        ),
        ("4155552671", r#"{"phone":14155552671}"#, "[PHONE]"),
        ("Jane Doe", r#"{"user":{"name":"Jane Doe"}}"#, "[NAME]"),
        ("jane_doe", r#"{"full_name":"Jane Doe"}"#, "[NAME]"),
        (
            "doe.jane.17",
            r#"{"first_name":"Jane","last_name":"Doe"}"#,
            "[NAME].[NAME].17",
        ),
        (
            "JaneDoe",
            r#"{"first_name":"Jane","last_name":"Doe"}"#,
            "[NAME][NAME]",
        ),
        ("ZOË", r#"{"first_name":"Zoë"}"#, "[NAME]"),
        ("Zo%C3%AB/1", r#"{"first_name":"Zoë"}"#, "[NAME]/1"),
        (
            "1 main st",
            r#"{"user":{"address":"1 Main St."}}"#,
            "[ADDRESS]",
        ),
        ("1980-05-17", r#"{"dob":"1980-05-17"}"#, "[BIRTH_DATE]"),
        ("19800517", r#"{"dob":"1980-05-17"}"#, "[BIRTH_DATE]"),
        (
            "4111111111111112",
            r#"{"card_number":"4111 1111 1111 1112"}"#,
            "[CARD]",
        ),
        (
            "de89370400440532013000",
            r#"{"a":"DE89 3704 0044 0532 0130 00"}"#,
            "[IBAN]",
        ),
        ("001B44113AB7", r#"{"mac":"00:1b:44:11:3a:b7"}"#, "[MAC]"),
        (
            "gw/001b44113ab7/3",
            r#"{"mac":"001B.4411.3AB7"}"#,
            "gw/[MAC]/3",
        ),
        (
            "52.520008,13.404954",
            r#"{"lat":52.520008,"lon":13.404954}"#,
            "[GEO],[GEO]",
        ),
        ("-13.404954", r#"{"lon":-13.404954}"#, "-[GEO]"),
        ("1154605313", r#"{"ip":1154605313}"#, "[IP]"),
        ("root@host", r#"{"email":"Root@Host"}"#, "[EMAIL]"),
        (
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            r#"{"secret_key":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}"#,
            "[AWS_KEY]",
        ),
        (
            "536904399",
            r#"{"type":"ssn","value":"536904399"}"#,
            "[SSN]",
        ),
        ("536904399", r#"{"m":"{\"ssn\":\"536904399\"}"}"#, "[SSN]"),
        ("536904399", r#"{"m":"x ssn=536904399"}"#, "[SSN]"),
        (
            "jane@x.org/536904399",
            r#"{"ssn":"536904399"}"#,
            "[EMAIL]/[SSN]",
        ),
        // What was not found in the payload stays, as do words that only hold a short value.
        ("536904398", r#"{"ssn":"536904399"}"#, "536904398"),
        ("device-17", r#"{"ip":"10.1.2.3"}"#, "device-17"),
        ("channel-3", r#"{"first_name":"Ann"}"#, "channel-3"),
        ("device-5", r#"{"dob":{"year":1980,"month":5}}"#, "device-5"),
        ("ann-5", r#"{"first_name":"Ann"}"#, "[NAME]-5"),
        ("1980", r#"{"dob":"1980-05-17"}"#, "1980"),
    ] {
        let (key, payload) = key_beside(&transform, key, payload);
        assert_eq!(key, shown, "{payload}");
    }
}

#[test]
fn a_key_of_json_beside_its_payload_stays_json() {
    let transform = PiiTransform::new(Arc::new(Policy::strict()));
    let (key, _) = key_beside(
        &transform,
        r#"{"who":"Jane Doe","n":[536904399,"x"]}"#,
        r#"{"full_name":"jane doe","ssn":536904399}"#,
    );
    assert_eq!(key, r#"{"who":"[NAME]","n":[null,"x"]}"#);
}

#[test]
fn rules_of_a_policy_count_for_the_key_too() {
    let with = |rules: &str| {
        let mut keys = hydrant_pii::TokenKeys::none();
        keys.insert("a", &[7; 32]).unwrap();
        let text = format!("[policy]\nname = \"t\"\n{rules}");
        PiiTransform::new(Arc::new(Policy::from_toml(&text, &keys).unwrap()))
    };
    let badge = "[[rule]]\nkey = \"badge\"\naction = \"label\"\nlabel = \"[BADGE]\"";
    let (key, _) = key_beside(&with(badge), "t-7731", r#"{"badge":7731}"#);
    assert_eq!(key, "t-[BADGE]");
    for (action, payload, left) in [
        ("drop-field", r#"{"a":1,"x":"77-31"}"#, r#"{"a":1}"#),
        ("drop-field", r#"{"a":1,"x":{"b":["7731"]}}"#, r#"{"a":1}"#),
        ("drop-field", r#"{"a":1,"x":{"7731":true}}"#, r#"{"a":1}"#),
        ("null", r#"{"a":1,"x":7731}"#, r#"{"a":1,"x":null}"#),
    ] {
        let rule = format!("[[rule]]\npath = \"$.x\"\naction = \"{action}\"");
        let (key, payload) = key_beside(&with(&rule), "7731", payload);
        assert_eq!((&*key, &*payload), ("[REDACTED]", left), "{action}");
    }
    let keep = "[[rule]]\nclass = \"email\"\naction = \"keep\"";
    let (key, _) = key_beside(
        &with(keep),
        "x-root",
        r#"{"email":"root@host","ip":"10.1.2.3"}"#,
    );
    assert_eq!(key, "x-root");
    // With a key for tokens, all of the partition key is one token.
    let tokens = with("key = \"a\"\n");
    let (first, _) = key_beside(&tokens, "t-536904399", r#"{"ssn":"536904399"}"#);
    assert!(first.starts_with("tok_key_a_"), "{first}");
    let (again, _) = key_beside(&tokens, "t-536904399", r#"{"ssn":536904399}"#);
    assert_eq!(again, first);
    let (other, _) = key_beside(&tokens, "u-536904399", r#"{"ssn":536904399}"#);
    assert_ne!(other, first);
}

#[test]
fn a_key_beside_a_payload_that_cannot_be_scanned_does_not_leave() {
    let transform = PiiTransform::new(Arc::new(Policy::strict()));
    for payload in [
        r#"{"ssn":"536904399","#,
        r#"{"a":NaN,"ssn":"536904399"}"#,
        "536904399 536904399",
    ] {
        let transformed = apply(&transform, &[record_of(Some("536904399"), payload)]);
        assert!(transformed.batch.is_empty());
        let printed = format!("{:?}", transformed.dead_letters);
        assert!(!printed.contains("536904399"), "{printed}");
    }
}

#[test]
fn a_key_that_is_too_long_to_look_through_does_not_leave_beside_findings() {
    let transform = PiiTransform::new(Arc::new(Policy::strict()));
    let key = "4155552672/".repeat(1_000);
    let (kept, _) = key_beside(&transform, &key, r#"{"temp":22}"#);
    assert!(kept == key);
    let (shown, _) = key_beside(&transform, &key, r#"{"phone":4155552672}"#);
    assert!(shown == "[PHONE]/", "{} bytes", shown.len());
}
