//! Batches through scanners: each record has one fate, bytes change only where they must, and a panic hurts one record.

use bytes::Bytes;
use hydrant_core::batch::{Entry, RunBuilder, Span, Step};
use hydrant_core::{Position, Sequence, ShardId, StreamId};
use proptest::prelude::*;

use super::scan::span;
use super::*;

/// Decides by the first byte: `r` redacts, `q` quarantines, `d` drops, `p` panics, anything else is clean. What is
/// redacted becomes `R` and the rest of the bytes.
struct Fake {
    found: bool,
}

impl Fake {
    fn scan(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Fate {
        self.found = false;
        match bytes.first() {
            Some(b'r') => {
                self.found = true;
                out.push(b'R');
                out.extend_from_slice(&bytes[1..]);
                Fate::Redacted
            }
            Some(b'q') => Fate::Quarantined("q"),
            Some(b'd') => Fate::Dropped("rule".into()),
            Some(b'p') => {
                out.extend_from_slice(b"half of it");
                panic!("the scanner has a fault");
            }
            _ => Fate::Clean,
        }
    }
}

impl Scanner for Fake {
    fn payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Fate {
        self.scan(payload, out)
    }

    fn key(&mut self, key: &[u8], out: &mut Vec<u8>) -> Fate {
        self.scan(key, out)
    }

    fn findings(&self, tell: &mut dyn FnMut(&'static str, &'static str)) {
        if self.found {
            tell("fake", "label");
        }
    }
}

fn fake() -> PiiTransform {
    let make = || -> Box<dyn Scanner> { Box::new(Fake { found: false }) };
    PiiTransform::with(Box::new(make), "00".to_owned(), "fake".to_owned())
}

type Record = (Option<String>, String);

fn batch(records: &[Record]) -> Batch {
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

fn apply(transform: &PiiTransform, records: &[Record]) -> Transformed {
    let source = Source {
        stream: &StreamId::new("raw", "1"),
        shard: &ShardId::new("0001"),
        now: 5,
    };
    transform.apply(batch(records), source)
}

fn redacted(text: &str) -> String {
    match text.strip_prefix('r') {
        Some(rest) => format!("R{rest}"),
        None => text.to_owned(),
    }
}

fn record() -> impl Strategy<Value = Record> {
    let text = "[cccrrqdp][a-c]{0,3}";
    let key = prop_oneof![
        2 => Just(None),
        5 => "[cccr][ab]{0,1}".prop_map(Some),
        1 => "[qdp]".prop_map(Some),
    ];
    (key, text)
}

/// Panics of the scanner are part of these tests and tell nothing.
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
        let mut letters = Vec::new();
        let mut dropped = Vec::new();
        for (index, (key, payload)) in records.iter().enumerate() {
            let index = index as u32;
            let key_fate = key.as_deref().and_then(|key| key.chars().next()).unwrap_or('c');
            let payload_fate = payload.chars().next().unwrap();
            let shown = key.as_deref().map(redacted);
            match (key_fate, payload_fate) {
                ('d', _) | ('c' | 'r', 'd') => dropped.push(index),
                ('p', _) | ('c' | 'r', 'p') => letters.push((index, PANICKED, None)),
                ('q', _) => letters.push((index, "q", None)),
                (_, 'q') => letters.push((index, "q", shown)),
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
        for ((index, letter), (wanted, reason, key)) in transformed.letters.iter().zip(&letters) {
            prop_assert_eq!((index, &*letter.reason, letter.key.as_deref()), (wanted, *reason, key.as_deref()));
            let (sequence, sub, _) = positions[*index as usize];
            prop_assert_eq!((letter.sequence, letter.sub), (sequence, sub));
            prop_assert_eq!(letter.length as usize, records[*index as usize].1.len());
            prop_assert_eq!(&*letter.shard.to_string(), "0001");
        }
        prop_assert_eq!(transformed.letters.len(), letters.len());
    }
}

fn record_of(key: Option<&str>, payload: &str) -> Record {
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

#[test]
fn one_record_that_panics_is_quarantined_and_its_neighbours_go_on() {
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
    assert_eq!(transformed.letters.len(), 1);
    assert_eq!(transformed.letters[0].0, 1);
    assert_eq!(&*transformed.letters[0].1.reason, PANICKED);
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
    let (index, letter) = &transformed.letters[0];
    assert_eq!((*index, letter.key.as_deref()), (3, Some("[EMAIL]")));
    assert_eq!(&*letter.reason, "malformed_json");
    assert_eq!(letter.length, 17);
    let told = format!("{letter:?}");
    assert!(!told.contains("ann"), "{told}");
}
