use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hydrant_core::Error;
use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
use hydrant_core::headers::{put_header, read_headers};
use hydrant_core::lease::{OutputId, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::{HashRange, Shard, StreamId};
use hydrant_core::stage::{Flush, Opened, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_core::transform::{Source, Transform, Transformed};
use hydrant_testing::memory::MemoryStream;

use super::*;
use crate::runtime::testing::{RunningWorker, context, memory_stream};
use crate::runtime::{RunSpec, Summary};

mod pinned;

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

/// Panics over a payload that holds `marker`.
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
    let filter = RecordFilter::new(filters.clone(), OnPoison::DeadLetter);
    let text = filter
        .text(&batch(5, &records), CopyFormat::Ndjson, source)
        .unwrap();
    assert_eq!(
        String::from_utf8(text.text).unwrap(),
        "{\"n\":0}\n{\"n\":2}\n"
    );
    let dead_letters: Vec<(String, &str)> = text
        .dead_letters
        .iter()
        .map(|letter| (letter.sequence.to_string(), &*letter.reason))
        .collect();
    let faulted = |sequence: &str| (sequence.to_owned(), "internal_fault");
    assert_eq!(dead_letters, [faulted("6"), faulted("8")]);

    let filtered = apply(&filter, batch(5, &records));
    assert_eq!(filtered.sources, [0, 2, 3]);
    assert_eq!(
        (filtered.dead_letters.len(), filtered.dropped.len()),
        (1, 1)
    );
    assert_eq!(filtered.dead_letters[0].0, 1);

    let stops = RecordFilter::new(filters, OnPoison::Stop);
    let error = stops
        .text(&batch(5, &records), CopyFormat::Ndjson, source)
        .unwrap_err();
    assert!(error.to_string().contains("internal_fault"), "{error}");
}

fn apply(filter: &RecordFilter, batch: Batch) -> Transformed {
    let source = Source {
        stream: &StreamId::new("memory", "memory"),
        shard: &"a".into(),
        now: 5,
    };
    filter.apply(batch, source).unwrap()
}

pub(super) fn pick_all(batch: &Batch) -> Vec<u32> {
    (0..batch.len() as u32).collect()
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

fn everything(on_poison: OnPoison) -> RecordFilter {
    RecordFilter::new(Vec::new(), on_poison)
}

fn print_stage(printer: Printer, filter: RecordFilter, budget_bytes: u64) -> PrintStage {
    PrintStage {
        output: OutputId::stdout(),
        stream: StreamId::new("memory", "memory"),
        filter,
        format: CopyFormat::Ndjson,
        printer,
        context: context(1, budget_bytes),
        overdraft: Arc::default(),
    }
}

/// Opens a copy to a file; `continues` says that it runs under an app.
async fn file_stage(
    path: &Path,
    on_poison: OnPoison,
    continues: bool,
) -> hydrant_core::Result<PrintStage> {
    let at = path.to_owned();
    let printer =
        Printer::start(move || FileText::open(&at, CopyFormat::Ndjson, continues)).await?;
    Ok(print_stage(printer, everything(on_poison), 1 << 20))
}

/// Like [`file_stage`] under an app, once the thread of a dead copy has closed the file.
async fn file_stage_of_the_next(path: &Path) -> PrintStage {
    loop {
        match file_stage(path, OnPoison::Stop, true).await {
            Ok(stage) => return stage,
            Err(error) if error.to_string().contains("another process") => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Copies everything into a file that is absent or empty, without an app.
async fn copy_to(
    path: &Path,
    stream: &Arc<MemoryStream>,
    on_poison: OnPoison,
) -> hydrant_core::Result<Summary> {
    let mut spec = spec(stream, file_stage(path, on_poison, false).await?);
    spec.keeps_progress = false;
    RunningWorker::start(spec).ended().await
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
async fn a_copy_without_an_app_takes_a_new_file_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/out.ndjson");
    let stream = memory_stream(3);
    stream.append("a", 35, 0);
    stream.append("b", 5, 0);
    for _ in 0..2 {
        copy_to(&path, &stream, OnPoison::Stop).await.unwrap();
        assert_eq!(lines(&path), all(&stream));
        // The thread that prints closes the file when its last job is done.
        let error = loop {
            let error = copy_to(&path, &stream, OnPoison::Stop).await.unwrap_err();
            if !error.to_string().contains("another process") {
                break error;
            }
        };
        assert!(error.to_string().contains("is not empty"), "{error}");
        assert_eq!(lines(&path), all(&stream));
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn a_copy_under_an_app_appends_where_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let stream = memory_stream(2);
    for _ in 0..3 {
        stream.append("a", 20, 0);
        stream.append("b", 5, 0);
        let stage = file_stage_of_the_next(&path).await;
        RunningWorker::start(spec(&stream, stage))
            .ended()
            .await
            .unwrap();
        assert_eq!(lines(&path), all(&stream));
    }
}

/// A line or a file that a death left without an end does not spoil the next line.
#[tokio::test]
async fn a_torn_line_is_ended_before_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    std::fs::write(&path, "a:0\na:").unwrap();
    let stream = memory_stream(1);
    stream.append("a", 2, 0);
    let stage = file_stage_of_the_next(&path).await;
    RunningWorker::start(spec(&stream, stage))
        .ended()
        .await
        .unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "a:0\na:\na:0\na:1\n");
}

#[tokio::test]
async fn deaths_at_any_time_lose_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let stream = memory_stream(2);
    stream.batch_appends(3);
    let random = hydrant_core::Random::seeded(5);
    for _ in 0..30 {
        stream.append("a", 4, 0);
        stream.append("b", 3, 0);
        let stage = file_stage_of_the_next(&path).await;
        let worker = RunningWorker::start(spec(&stream, stage));
        for _ in 0..random.below(3000) {
            tokio::task::yield_now().await;
        }
        drop(worker);
    }
    let stage = file_stage_of_the_next(&path).await;
    RunningWorker::start(spec(&stream, stage))
        .ended()
        .await
        .unwrap();
    let mut lines = lines(&path);
    lines.dedup();
    assert_eq!(lines, all(&stream));
}

#[tokio::test]
async fn foreign_files_and_second_writers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("foreign");
    std::fs::write(&foreign, "precious").unwrap();
    let refused = file_stage(&foreign, OnPoison::Stop, false).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    assert_eq!(std::fs::read(&foreign).unwrap(), b"precious");

    let refused = file_stage(dir.path(), OnPoison::Stop, true).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("is a directory"), "{error}");

    let path = dir.path().join("out");
    let _first = file_stage(&path, OnPoison::Stop, true).await.unwrap();
    let refused = file_stage(&path, OnPoison::Stop, true).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
}

/// Another copy writes its last text and ends while this one opens the file.
#[test]
fn a_file_is_measured_under_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..50 {
        let path = dir.path().join(n.to_string());
        let open = || FileText::open(&path, CopyFormat::Ndjson, false);
        let mut first = open().unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                loop {
                    match open() {
                        Err(error) if error.to_string().contains("another process") => {}
                        opened => return opened,
                    }
                }
            });
            std::thread::sleep(Duration::from_millis(1));
            first.write(b"precious\n").unwrap();
            drop(first);
            let error = second.join().unwrap().err().expect("it is refused");
            assert!(error.to_string().contains("is not empty"), "{error}");
        });
    }
}

#[tokio::test]
async fn poison_stops_waits_or_becomes_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let stream = memory_stream(1);
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
    let dead_letters = lines(&dir.path().join("letters.dead-letters.ndjson"));
    assert_eq!(dead_letters.len(), 1);
    let letter: serde_json::Value = serde_json::from_str(&dead_letters[0]).unwrap();
    assert_eq!(
        (&letter["reason"], &letter["sequence"]),
        (&"line_break".into(), &"2".into())
    );
    assert!(
        !dead_letters[0].contains("lines"),
        "a dead letter holds no payload"
    );

    let filter = everything(OnPoison::Retry);
    let id = StreamId::new("memory", "memory");
    let place = hydrant_core::transform::Source {
        stream: &id,
        shard: &"a".into(),
        now: 0,
    };
    let error = filter
        .text(&batch(0, &[(None, b"\xff")]), CopyFormat::Ndjson, place)
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

/// Records before one that cannot be copied arrive, each once, however often that one is tried.
#[tokio::test]
async fn poison_holds_up_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy");
    let poisoned = || {
        let stream = memory_stream(1);
        stream.batch_appends(2);
        stream.append("a", 4, 0);
        stream.append_payload("a", b"two\nlines");
        stream.append("a", 2, 0);
        stream
    };
    let wanted = ["a:0", "a:1", "a:2", "a:3"];
    let (into_file, onto_paper) = (poisoned(), poisoned());
    let printed = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..2 {
        let stage = file_stage_of_the_next(&path).await;
        let copied = RunningWorker::start(spec(&into_file, stage)).ended().await;
        copied.unwrap_err();
        assert_eq!(lines(&path), wanted);
        let paper = Paper(Arc::clone(&printed));
        let printer = Printer::start(move || Ok(paper)).await.unwrap();
        let stage = print_stage(printer, everything(OnPoison::Stop), 1 << 20);
        let copied = RunningWorker::start(spec(&onto_paper, stage)).ended().await;
        copied.unwrap_err();
        let text = String::from_utf8(printed.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
    }
}

/// Keeps what is printed.
struct Paper(Arc<Mutex<Vec<u8>>>);

impl TextOutput for Paper {
    fn write(&mut self, text: &[u8]) -> hydrant_core::Result<bool> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(true)
    }
}

/// An output without a reader.
struct NoReader;

impl TextOutput for NoReader {
    fn write(&mut self, _text: &[u8]) -> hydrant_core::Result<bool> {
        Ok(false)
    }
}

#[tokio::test]
async fn printing_prints_everything_and_stops_counting_without_a_reader() {
    let stream = memory_stream(2);
    stream.append("a", 25, 0);
    stream.append("b", 25, 0);
    let printed = Arc::new(Mutex::new(Vec::new()));
    let paper = Paper(Arc::clone(&printed));
    let printer = Printer::start(move || Ok(paper)).await.unwrap();
    let stage = print_stage(printer, everything(OnPoison::Stop), 1 << 20);
    RunningWorker::start(spec(&stream, stage))
        .ended()
        .await
        .unwrap();
    let text = String::from_utf8(printed.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 50);

    stream.append("a", 1, 0);
    let printer = Printer::start(|| Ok(NoReader)).await.unwrap();
    let stage = print_stage(printer, everything(OnPoison::Stop), 1 << 20);
    let worker = RunningWorker::start(spec(&stream, stage));
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    worker.drained().await.unwrap();
}

#[test]
fn a_record_that_no_filter_takes_has_no_text() {
    let filter = RecordFilter::new(vec!["key^=x".parse().unwrap()], OnPoison::Stop);
    let id = StreamId::new("memory", "memory");
    let place = hydrant_core::transform::Source {
        stream: &id,
        shard: &"a".into(),
        now: 0,
    };
    let filtered = filter.text(&batch(0, &[(None, b"a")]), CopyFormat::Ndjson, place);
    assert!(filtered.unwrap().text.is_empty());
}

#[test]
fn a_filtered_batch_keeps_positions_and_accounts_for_every_record() {
    let filter = RecordFilter::new(
        vec!["key=k".parse().unwrap(), "/n=1".parse().unwrap()],
        OnPoison::DeadLetter,
    );
    let records: &[(Option<&[u8]>, &[u8])] = &[
        (Some(b"k"), b"{\"n\":1}"),
        (Some(b"x"), b"{\"n\":1}"),
        (Some(b"k"), b"torn"),
        (Some(b"k"), b"{\"n\":1}"),
    ];
    let out = apply(&filter, batch(10, records));
    assert_eq!(
        out.input as usize,
        out.batch.len() + out.dead_letters.len() + out.dropped.len()
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
    let (index, letter) = &out.dead_letters[0];
    assert_eq!(
        (*index, &*letter.reason, &letter.key),
        (2, "not_json", &None)
    );
    assert_ne!(filter.digest(), everything(OnPoison::DeadLetter).digest());
}

/// Headers in the bytes of a batch, one named after each record; the records of these indexes are tombstones.
pub(super) fn with_columns(mut batch: Batch, tombstones: &[u32]) -> Batch {
    let mut segment = batch.segments[0].to_vec();
    for index in 0..batch.len() {
        let start = segment.len();
        put_header(&mut segment, &format!("h{index}"), Some(b"v"));
        let len = segment.len() - start;
        batch.headers.push(Span::new(start as u32, len as u32));
        batch.arrivals.push(100 + index as i64);
    }
    for index in tombstones {
        batch.records[*index as usize].payload.len = 0;
    }
    batch.tombstones = tombstones.to_vec();
    batch.segments = [segment.into()].into();
    assert!(batch.is_aligned());
    batch
}

#[test]
fn a_filtered_batch_keeps_headers_tombstones_and_arrivals_of_its_records() {
    let filters = vec!["key=k".parse().unwrap()];
    let filter = RecordFilter::new(filters, OnPoison::DeadLetter);
    let record = |key| (Some(key), &b"1"[..]);
    let records: [(Option<&[u8]>, &[u8]); 5] =
        [b"k", b"x", b"k", b"x", b"k"].map(|key: &[u8; 1]| record(&key[..]));
    let whole = with_columns(batch(10, &records), &[1, 2, 3]);
    let out = apply(&filter, whole);
    assert_eq!(out.sources, [0, 2, 4]);
    let out = out.batch;
    assert!(out.is_aligned());
    assert_eq!(
        (&out.tombstones[..], &out.arrivals[..]),
        (&[1][..], &[100, 102, 104][..])
    );
    let names = (0..3).map(|index| {
        let mut headers = read_headers(out.headers(index));
        headers.next().unwrap().unwrap().name.to_owned()
    });
    assert_eq!(names.collect::<Vec<_>>(), ["h0", "h2", "h4"]);

    // A filter on a field takes no tombstone, and finds nothing wrong with one.
    let filters = vec!["/n=1".parse().unwrap()];
    let filter = RecordFilter::new(filters, OnPoison::Stop);
    let records: [(Option<&[u8]>, &[u8]); 2] = [(None, b"{\"n\":1}"), (None, b"")];
    let whole = with_columns(batch(10, &records), &[1]);
    let out = apply(&filter, whole);
    assert_eq!((&out.sources[..], out.dropped.len()), (&[0][..], 1));
}

/// A text that is longer than its records finds memory while others hold all of it.
#[tokio::test]
async fn a_text_without_memory_overdraws_the_budget() {
    let printed = Arc::new(Mutex::new(Vec::new()));
    let paper = Paper(Arc::clone(&printed));
    let printer = Printer::start(move || Ok(paper)).await.unwrap();
    let mut stage = print_stage(printer, everything(OnPoison::Stop), 16 << 10);
    stage.format = CopyFormat::Json;
    let context = stage.context.clone();
    let shard = Shard {
        id: "0".into(),
        range: HashRange::ALL,
        parents: Vec::new(),
        closed: false,
    };
    let opened = stage.open(Opened {
        claim: ClaimId {
            shard: shard.id.clone(),
            grant: 1,
        },
        shard,
        after: Progress::default(),
        start: Position::Begin,
        generation: 0,
        parents: Vec::new(),
    });
    let mut shard = opened.await.unwrap();
    let _all = context.budget.acquire(16 << 10).await;
    let records = vec![(None, &b"1"[..]); 500];
    let pushed = shard.push(Read::Batch(batch(0, &records)));
    let pushed = tokio::time::timeout(Duration::from_secs(60), pushed).await;
    pushed.expect("one text at a time overdraws").unwrap();
    assert_eq!(
        shard.publish(Flush::Drain).await.unwrap().to,
        Position::offset(499)
    );
    let lines = printed
        .lock()
        .unwrap()
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    assert_eq!(lines, 500);
}
