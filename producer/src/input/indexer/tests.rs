//! Keys, refusals and indexes in chunks.

use std::sync::Arc;

use hydrant_testing::clock::ManualClock;

use super::*;
use crate::input::{LineReader, ReadOptions};

fn chunks(text: &str, key: Option<&str>, record_bytes_max: usize) -> Vec<InputChunk> {
    chunks_for(KeyRule::Any, text, key, record_bytes_max)
}

fn chunks_for(
    keys: KeyRule,
    text: &str,
    key: Option<&str>,
    record_bytes_max: usize,
) -> Vec<InputChunk> {
    let indexer = Indexer {
        key: key.map(|key| KeyTemplate::parse(key).unwrap()),
        limits: ChunkLimits {
            record_bytes_max,
            keys,
            chunk_bytes: 1_000,
        },
        clock: Arc::new(ManualClock::new(77)),
    };
    let reading = ReadOptions::lines(record_bytes_max);
    let mut reader = LineReader::new("t", text.as_bytes(), reading);
    let mut chunks = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        chunks.push(indexer.chunk(block, None, reader.next_index(), 0));
    }
    chunks
}

#[test]
fn a_key_that_the_stream_does_not_take_is_refused_by_reason() {
    let keys = KeyRule::Text { chars_max: 3 };
    let text = "{\"id\":\"\u{fc}bc\"}\n{\"id\":\"abcd\"}\n{\"id\":\"\"}\n{\"no\":1}\n";
    let chunk = chunks_for(keys, text, Some("id"), 1_000).remove(0);
    let kept: Vec<_> = records(&chunk).into_iter().map(|(key, _)| key).collect();
    // A field without text makes no key.
    assert_eq!(kept, [Some("\u{fc}bc".to_owned()), None, None]);
    let refused: Vec<_> = chunk
        .refused
        .iter()
        .map(|one| (one.index, one.reason.name()))
        .collect();
    assert_eq!(refused, [(1, "key_too_long")]);
}

fn records(chunk: &InputChunk) -> Vec<(Option<String>, String)> {
    let text = |segment: u32, span: Span| {
        let start = span.start as usize;
        let bytes = &chunk.segments[segment as usize][start..start + span.len as usize];
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    chunk
        .records
        .iter()
        .map(|one| {
            (
                one.key.map(|key| text(one.segment, key)),
                text(one.segment, one.payload),
            )
        })
        .collect()
}

#[test]
fn a_key_in_the_line_is_not_copied_and_another_lies_beside_a_copy() {
    let text = "{\"id\":\"a7\",\"n\":1}\n{\"id\":\"\\u0062\",\"n\":2}\nno json\n{\"id\":3}\n";
    let chunk = chunks(text, Some("id"), 1_000).remove(0);
    let lines: Vec<&str> = text.lines().collect();
    let some = |key: &str, line: usize| (Some(key.to_owned()), lines[line].to_owned());
    assert_eq!(
        records(&chunk),
        [
            some("a7", 0),
            some("b", 1),
            (None, lines[2].to_owned()),
            some("3", 3)
        ]
    );
    let segments: Vec<u32> = chunk.records.iter().map(|one| one.segment).collect();
    assert_eq!(segments, [0, 1, 0, 0]);
    let stamp = chunk.records[0].stamp;
    assert!(stamp >= 77 && chunk.records.iter().all(|one| one.stamp == stamp));
    assert_eq!((chunk.runs, chunk.end), (vec![(0, 0)], 4));

    let joined = chunks("{\"a\":1,\"b\":\"x\"}", Some("{b}/{a}"), 1_000).remove(0);
    assert_eq!(records(&joined)[0].0.as_deref(), Some("x/1"));
}

#[test]
fn lines_keep_their_numbers_over_empty_and_refused_ones() {
    let text = "{}\n\n{\"k\":\"0123456789\"}\n123456789012345678901234567890\n[]\n";
    let chunk = chunks(text, Some("k"), 25).remove(0);
    assert_eq!(
        records(&chunk),
        [(None, "{}".to_owned()), (None, "[]".to_owned())]
    );
    assert_eq!(chunk.runs, [(0, 0), (1, 4)]);
    assert_eq!(chunk.end, 5);
    let refused: Vec<(u64, &str)> = chunk
        .refused
        .iter()
        .map(|one| (one.index, one.reason.name()))
        .collect();
    assert_eq!(refused, [(2, "record_too_large"), (3, "line_too_long")]);
}

#[test]
fn a_record_whose_key_panics_is_refused_and_counted_and_the_others_are_sent() {
    let text = "{\"k\":\"a\"}\n{\"k\":\"fault:key\"}\n{\"k\":\"b\"}\n";
    let chunk = chunks(text, Some("k"), 100).remove(0);
    let keys: Vec<Option<String>> = records(&chunk).into_iter().map(|one| one.0).collect();
    assert_eq!(keys, [Some("a".to_owned()), Some("b".to_owned())]);
    assert_eq!((&chunk.runs[..], chunk.end), (&[(0, 0), (1, 2)][..], 3));
    let refused: Vec<(u64, &str)> = chunk
        .refused
        .iter()
        .map(|one| (one.index, one.reason.name()))
        .collect();
    assert_eq!(refused, [(1, "internal_fault")]);
}

#[test]
fn what_breaks_a_limit_is_refused_with_its_line() {
    let deep = "[".repeat(65) + &"]".repeat(65);
    let text = format!("{{}}\n{deep}\n{{}}\n");
    let chunk = chunks(&text, None, 1_000).remove(0);
    assert_eq!(chunk.records.len(), 2);
    let refused: Vec<_> = chunk
        .refused
        .iter()
        .map(|one| (one.line, one.reason))
        .collect();
    assert_eq!(refused, [(2, Refusal::TooDeep)]);
}
