use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
use hydrant_core::lease::{OutputId, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::{HashRange, Shard, StreamId};
use hydrant_core::stage::{Flush, Opened, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_core::{Error, clock};

use super::*;
use crate::runtime::testing::{MemoryLeases, MemoryStream, Worker, context};
use crate::runtime::{RunSpec, Summary};

/// Records at offsets from `first` on.
pub(super) fn batch(first: u64, records: &[(Option<&[u8]>, &[u8])]) -> Batch {
    let mut segment = Vec::new();
    let mut runs = RunBuilder::default();
    let mut entries = Vec::new();
    for (n, (key, payload)) in (0u64..).zip(records) {
        let mut span = |bytes: &[u8]| {
            let start = segment.len() as u32;
            segment.extend_from_slice(bytes);
            Span::new(start, bytes.len() as u32)
        };
        let key = key.map(&mut span);
        let payload = span(payload);
        entries.push(Entry {
            segment: 0,
            key,
            payload,
            stamp: 0,
        });
        runs.push((first + n).into(), 0, Step::Sequence, 0);
    }
    Batch {
        segments: [segment.into()].into(),
        records: entries,
        runs: runs.finish(),
        to: Position::offset(first + records.len() as u64 - 1),
        ..Batch::default()
    }
}

/// Panics over a payload that asks for it.
pub(super) fn panic_if_asked(marker: &str, payload: &[u8]) {
    let found = payload
        .windows(marker.len())
        .any(|text| text == marker.as_bytes());
    assert!(!found, "a fault that a test asked for");
}

/// A filter or a format that panics over a record makes poison of it and changes nothing else.
#[test]
fn a_panic_costs_its_record_alone() {
    let records: [(Option<&[u8]>, &[u8]); 5] = [
        (Some(b"a"), b"{\"n\":0}"),
        (Some(b"a"), b"\"fault:filter\""),
        (Some(b"a"), b"{\"n\":2}"),
        (Some(b"a"), b"\"fault:format\""),
        (Some(b"b"), b"{\"n\":4}"),
    ];
    let (stream, shard) = (StreamId::new("s", "1"), "0".into());
    let source = hydrant_core::transform::Source {
        stream: &stream,
        shard: &shard,
        now: 7,
    };
    let filters = vec!["key=a".parse().unwrap()];
    let sieve = Sieve::new(filters.clone(), OnPoison::DeadLetter);
    let text = sieve
        .text(&batch(5, &records), Format::Ndjson, source)
        .unwrap();
    assert_eq!(
        String::from_utf8(text.text).unwrap(),
        "{\"n\":0}\n{\"n\":2}\n"
    );
    let letters: Vec<(String, &str)> = text
        .letters
        .iter()
        .map(|letter| (letter.sequence.to_string(), &*letter.reason))
        .collect();
    let faulted = |sequence: &str| (sequence.to_owned(), "internal_fault");
    assert_eq!(letters, [faulted("6"), faulted("8")]);

    let sifted = sieve
        .transformed(batch(5, &records), &stream, &shard, 7)
        .unwrap();
    assert_eq!(sifted.sources, [0, 2, 3]);
    assert_eq!((sifted.letters.len(), sifted.dropped.len()), (1, 1));
    assert_eq!(sifted.letters[0].0, 1);

    let stops = Sieve::new(filters, OnPoison::Stop);
    let error = stops
        .text(&batch(5, &records), Format::Ndjson, source)
        .unwrap_err();
    assert!(error.to_string().contains("internal_fault"), "{error}");
}

pub(super) fn pick_all(batch: &Batch) -> Vec<u32> {
    (0..batch.len() as u32).collect()
}

fn stream(shards: u8) -> Arc<MemoryStream> {
    MemoryStream::new(shards, MemoryLeases::new(true))
}

fn spec(stream: &Arc<MemoryStream>, stage: impl Stage + 'static) -> RunSpec {
    let shutdown = hydrant_core::Shutdown::new();
    let stream = Arc::clone(stream) as _;
    let mut spec = RunSpec::new(
        context(1, 1 << 20),
        stream,
        "app",
        Arc::new(stage),
        shutdown,
    );
    spec.exit_at_end = true;
    spec.idle = Duration::from_millis(50);
    spec
}

fn everything(on_poison: OnPoison) -> Sieve {
    Sieve::new(Vec::new(), on_poison)
}

async fn file_stage(path: &Path, sieve: Sieve) -> hydrant_core::Result<FileStage> {
    let id = StreamId::new("memory", "1");
    let output = FileOutput::open(path, id, context(1, 1 << 20)).await?;
    Ok(FileStage::new(output, sieve, Format::Ndjson))
}

async fn copy_to(
    path: &Path,
    stream: &Arc<MemoryStream>,
    on_poison: OnPoison,
) -> hydrant_core::Result<Summary> {
    let stage = file_stage(path, everything(on_poison)).await?;
    let mut spec = spec(stream, stage);
    spec.stream = Alone::around(spec.stream);
    Worker::start(spec).ended().await
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn all(stream: &MemoryStream) -> Vec<String> {
    let mut all: Vec<_> = stream
        .all()
        .iter()
        .map(|(shard, offset)| format!("{shard}:{offset}"))
        .collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn a_file_goes_on_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/out.ndjson");
    let stream = stream(3);
    stream.append("a", 35, 0);
    stream.append("b", 5, 0);
    copy_to(&path, &stream, OnPoison::Stop).await.unwrap();
    assert_eq!(lines(&path), all(&stream));
    copy_to(&path, &stream, OnPoison::Stop).await.unwrap();
    stream.append("a", 1, 0);
    stream.append("c", 7, 0);
    copy_to(&path, &stream, OnPoison::Stop).await.unwrap();
    assert_eq!(lines(&path), all(&stream));
}

#[tokio::test]
async fn a_file_that_was_removed_is_copied_anew_and_a_second_one_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let (path, second) = (dir.path().join("out"), dir.path().join("second"));
    let stream = stream(2);
    stream.append("a", 35, 0);
    stream.append("b", 5, 0);
    // All runs are of one app and share its rows.
    let copy = async |path: &Path, seed| {
        let id = StreamId::new("memory", "1");
        let output = FileOutput::open(path, id, context(seed, 1 << 20)).await;
        let stage = FileStage::new(output.unwrap(), everything(OnPoison::Stop), Format::Ndjson);
        Worker::start(spec(&stream, stage)).ended().await.unwrap();
        assert_eq!(lines(path), all(&stream));
    };
    for seed in 0..2 {
        copy(&path, seed).await;
        std::fs::remove_file(&path).unwrap();
    }
    copy(&path, 3).await;
    copy(&second, 4).await;
    stream.append("b", 5, 0);
    copy(&path, 5).await;
    copy(&second, 6).await;
    for path in [path, second] {
        assert_eq!(lines(&path), all(&stream));
    }
}

/// Rows name the file before anything is in it: what "latest" was when the copy began must not be forgotten.
#[tokio::test]
async fn a_file_is_the_same_output_before_anything_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let identity = async |seed| {
        let id = StreamId::new("memory", "1");
        let output = FileOutput::open(&path, id, context(seed, 1 << 20)).await;
        let stage = FileStage::new(output.unwrap(), everything(OnPoison::Stop), Format::Ndjson);
        stage.output().unwrap().id
    };
    let first = identity(1).await;
    assert_eq!(first, identity(2).await);
    std::fs::remove_file(&path).unwrap();
    assert_ne!(first, identity(3).await, "it begins again");
}

#[tokio::test]
async fn what_was_never_committed_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let stream = stream(1);
    stream.append("a", 5, 0);
    copy_to(&path, &stream, OnPoison::Stop).await.unwrap();
    let mut torn = std::fs::read(&path).unwrap();
    torn.extend_from_slice(b"a:5\na:6\na:");
    std::fs::write(&path, torn).unwrap();
    stream.append("a", 4, 0);
    copy_to(&path, &stream, OnPoison::Stop).await.unwrap();
    assert_eq!(lines(&path), all(&stream));
}

#[tokio::test]
async fn deaths_at_any_time_neither_lose_nor_double_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let stream = stream(2);
    stream.batch_records(3);
    let random = hydrant_core::Random::seeded(5);
    for _ in 0..30 {
        stream.append("a", 4, 0);
        stream.append("b", 3, 0);
        let stage = loop {
            // The lock of the dead goes when its last task is gone.
            match file_stage(&path, everything(OnPoison::Stop)).await {
                Ok(stage) => break stage,
                Err(error) if error.to_string().contains("another process") => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let mut spec = spec(&stream, stage);
        spec.stream = Alone::around(spec.stream);
        let worker = Worker::start(spec);
        for _ in 0..random.below(3000) {
            tokio::task::yield_now().await;
        }
        drop(worker);
    }
    loop {
        match copy_to(&path, &stream, OnPoison::Stop).await {
            Err(error) if error.to_string().contains("another process") => {
                tokio::task::yield_now().await;
            }
            ended => break drop(ended.unwrap()),
        }
    }
    assert_eq!(lines(&path), all(&stream));
}

/// A copy that dies while it replaces its record leaves a temporary file, which the next one removes, and no other.
#[tokio::test]
async fn temporary_files_of_dead_copies_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let stream = stream(1);
    stream.append("a", 1, 0);
    copy_to(&path, &stream, OnPoison::Stop).await.unwrap();
    let left = [
        "..out.copy.json.0123456789abcdef0123456789abcdef.tmp",
        "..out.copy.json.x.copy.json.0123456789abcdef0123456789abcdef.tmp",
        "..other.copy.json.0123456789abcdef0123456789abcdef.tmp",
        "out.tmp",
    ];
    for name in left {
        std::fs::write(dir.path().join(name), "{").unwrap();
    }
    copy_to(&path, &stream, OnPoison::Stop).await.unwrap();
    let is_there = |name: &&str| dir.path().join(name).exists();
    let kept: Vec<&str> = left.into_iter().filter(is_there).collect();
    assert_eq!(kept, left[1..]);
    assert_eq!(lines(&path), all(&stream));
}

#[tokio::test]
async fn foreign_files_and_second_writers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("foreign");
    std::fs::write(&foreign, "precious").unwrap();
    let error = file_stage(&foreign, everything(OnPoison::Stop))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("was not made by a copy"),
        "{error}"
    );
    assert_eq!(std::fs::read(&foreign).unwrap(), b"precious");

    let path = dir.path().join("out");
    let first = file_stage(&path, everything(OnPoison::Stop)).await.unwrap();
    let error = file_stage(&path, everything(OnPoison::Stop))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    drop(first);
    let stream = stream(1);
    stream.append("a", 1, 0);
    copy_to(&path, &stream, OnPoison::Stop).await.unwrap();
    let other = StreamId::new("memory", "2");
    let error = FileOutput::open(&path, other, context(1, 1 << 20))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("memory@1"), "{error}");
}

#[tokio::test]
async fn a_copy_goes_on_where_its_dead_letters_were_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(1);
    stream.append_payload("a", b"two\nlines");
    let (path, letters) = (
        dir.path().join("out"),
        dir.path().join("out.dead-letters.ndjson"),
    );
    copy_to(&path, &stream, OnPoison::DeadLetter).await.unwrap();
    assert_eq!(lines(&letters).len(), 1);
    std::fs::remove_file(&letters).unwrap();
    stream.append("a", 1, 0);
    stream.append_payload("a", b"two\nmore");
    copy_to(&path, &stream, OnPoison::DeadLetter).await.unwrap();
    let again = lines(&letters);
    assert!(!again.is_empty() && again.iter().all(|letter| letter.starts_with('{')));
}

#[tokio::test]
async fn poison_stops_waits_or_becomes_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(1);
    stream.append("a", 2, 0);
    stream.append_payload("a", b"two\nlines");
    stream.append("a", 2, 0);
    let path = dir.path().join("stopped");
    let error = copy_to(&path, &stream, OnPoison::Stop).await.unwrap_err();
    assert!(
        error.to_string().contains("the record at 2.0 of shard `a`"),
        "{error}"
    );

    let path = dir.path().join("letters");
    copy_to(&path, &stream, OnPoison::DeadLetter).await.unwrap();
    assert_eq!(lines(&path), ["a:0", "a:1", "a:3", "a:4"]);
    let letters = lines(&dir.path().join("letters.dead-letters.ndjson"));
    assert_eq!(letters.len(), 1);
    let letter: serde_json::Value = serde_json::from_str(&letters[0]).unwrap();
    assert_eq!(
        (&letter["reason"], &letter["sequence"]),
        (&"line_break".into(), &"2".into())
    );
    assert!(
        !letters[0].contains("lines"),
        "a dead letter holds no payload"
    );

    let sieve = everything(OnPoison::Retry);
    let id = StreamId::new("memory", "1");
    let place = hydrant_core::transform::Source {
        stream: &id,
        shard: &"a".into(),
        now: 0,
    };
    let error = sieve
        .text(&batch(0, &[(None, b"\xff")]), Format::Ndjson, place)
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

/// Records before one that cannot be copied arrive, each once, however often that one is tried.
#[tokio::test]
async fn poison_holds_up_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy");
    let stream = stream(1);
    stream.batch_records(2);
    stream.append("a", 4, 0);
    stream.append_payload("a", b"two\nlines");
    stream.append("a", 2, 0);
    let wanted = ["a:0", "a:1", "a:2", "a:3"];
    let printed = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..2 {
        copy_to(&path, &stream, OnPoison::Stop).await.unwrap_err();
        assert_eq!(lines(&path), wanted);
        let paper = Arc::clone(&printed);
        let printer = Printer::start(move |text| {
            paper.lock().unwrap().extend_from_slice(text);
            Ok(true)
        });
        let print = PrintStage::new(
            OutputId::stdout(),
            StreamId::new("memory", "1"),
            everything(OnPoison::Stop),
            Format::Ndjson,
            printer.unwrap(),
            context(1, 1 << 20),
        );
        let mut spec = spec(&stream, print);
        spec.app = "print".to_owned();
        Worker::start(spec).ended().await.unwrap_err();
        let text = String::from_utf8(printed.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
    }
}

#[tokio::test]
async fn printing_tells_everything_and_stops_counting_when_nobody_reads() {
    let stream = stream(2);
    stream.append("a", 25, 0);
    stream.append("b", 25, 0);
    let printed = Arc::new(Mutex::new(Vec::new()));
    let paper = Arc::clone(&printed);
    let printer = Printer::start(move |text| {
        paper.lock().unwrap().extend_from_slice(text);
        Ok(true)
    });
    let print = |printer| {
        let id = StreamId::new("memory", "1");
        let sieve = Sieve::new(vec!["key^=x".parse().unwrap()], OnPoison::Stop);
        let all = everything(OnPoison::Stop);
        let taken = PrintStage::new(
            OutputId::stdout(),
            id.clone(),
            all,
            Format::Ndjson,
            printer,
            context(1, 1 << 20),
        );
        (taken, sieve)
    };
    let (stage, none) = print(printer.unwrap());
    Worker::start(spec(&stream, stage)).ended().await.unwrap();
    let text = String::from_utf8(printed.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 50);
    let id = StreamId::new("memory", "1");
    let place = hydrant_core::transform::Source {
        stream: &id,
        shard: &"a".into(),
        now: 0,
    };
    let filtered = none
        .text(&batch(0, &[(None, b"a")]), Format::Ndjson, place)
        .unwrap();
    assert!(filtered.text.is_empty());

    stream.append("a", 1, 0);
    let (stage, _) = print(Printer::start(|_| Ok(false)).unwrap());
    let worker = Worker::start(spec(&stream, stage));
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    worker.drained().await.unwrap();
}

#[test]
fn a_filtered_batch_keeps_positions_and_answers_for_every_record() {
    let sieve = Sieve::new(
        vec!["key=k".parse().unwrap(), "/n=1".parse().unwrap()],
        OnPoison::DeadLetter,
    );
    let records: &[(Option<&[u8]>, &[u8])] = &[
        (Some(b"k"), b"{\"n\":1}"),
        (Some(b"x"), b"{\"n\":1}"),
        (Some(b"k"), b"torn"),
        (Some(b"k"), b"{\"n\":1}"),
    ];
    let id = StreamId::new("memory", "1");
    let out = sieve
        .transformed(batch(10, records), &id, &"a".into(), 5)
        .unwrap();
    assert_eq!(
        out.input as usize,
        out.batch.len() + out.letters.len() + out.dropped.len()
    );
    assert_eq!(
        (out.sources.as_slice(), out.batch.to),
        (&[0, 3][..], Position::offset(13))
    );
    let offsets: Vec<_> = out
        .batch
        .positions()
        .map(|(s, ..)| s.offset().unwrap())
        .collect();
    assert_eq!(offsets, [10, 13]);
    let (index, letter) = &out.letters[0];
    assert_eq!(
        (*index, &*letter.reason, &letter.key),
        (2, "not_json", &None)
    );
    assert_ne!(sieve.digest(), everything(OnPoison::DeadLetter).digest());
}

/// Texts that are longer than their records wait for memory while others of the same shard hold some.
#[tokio::test]
async fn long_texts_of_a_small_budget_wait_for_no_one_who_waits() {
    const RECORDS: u64 = 500;
    let dir = tempfile::tempdir().unwrap();
    let context = context(1, 16 << 10);
    let path = dir.path().join("copy");
    let output = FileOutput::open(&path, StreamId::new("s", "1"), context.clone());
    let sieve = Sieve::new(Vec::new(), OnPoison::DeadLetter);
    let stage = FileStage::new(output.await.unwrap(), sieve, Format::Json);
    let open = |id: &str| {
        let shard = Shard {
            id: id.into(),
            range: HashRange::ALL,
            parents: Vec::new(),
            closed: false,
        };
        stage.open(Opened {
            claim: ClaimId {
                shard: shard.id.clone(),
                grant: 1,
            },
            shard,
            after: Progress::default(),
            start: Position::Begin,
            generation: 0,
            parents: Vec::new(),
        })
    };
    let (mut first, mut second) = (open("0").await.unwrap(), open("1").await.unwrap());
    let some = |from: u64| {
        let records = vec![(None, &b"1"[..]); RECORDS as usize];
        Read::Batch(batch(from, &records))
    };
    let patience = Duration::from_secs(60);
    // The second one is overdrawn: with another text the shard would wait for itself, and all others for it.
    let pushed = async {
        first.push(some(0)).await?;
        assert_eq!(first.due(clock::now()), None);
        first.push(some(RECORDS)).await
    };
    let pushed = tokio::time::timeout(patience, pushed).await;
    pushed.expect("a shard waits for itself").unwrap();
    assert_eq!(first.due(clock::now()), Some(Flush::Memory));
    let mut waiting = second.push(some(0));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there is no memory for it"),
        () = context.budget.pressure() => {}
    }
    let published = first.publish(Flush::Memory).await.unwrap();
    assert_eq!(published.to, Position::offset(2 * RECORDS - 1));
    let pushed = tokio::time::timeout(patience, waiting).await;
    pushed.expect("a publish gives memory back").unwrap();
    second.publish(Flush::Drain).await.unwrap();
    let lines = std::fs::read(&path).unwrap();
    let lines = lines.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines as u64, 3 * RECORDS);
}
