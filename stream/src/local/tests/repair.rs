//! Shards that lost bytes or files, and what a repair makes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::admin::Trim;
use hydrant_core::batch::{Entry, Span};
use hydrant_core::disk::{Open, SharedDisk, write_new};
use hydrant_core::stream::{Append, Read, SharedStream};
use hydrant_core::{Batch, Error, Interval, Position, Result};
use hydrant_testing::disk::{Breakpoint, Fault, Loss, Moment, Op, SimWorld};

use super::fixture::*;
use crate::local::format::segment::{self, ListedSegment};
use crate::{Codec, CreateOptions};

const URL: &str = "local:/data/events";

/// A machine with a stream of one shard, whose files are damaged while no process writes it.
struct DamagedShard {
    world: SimWorld,
    /// The disk of no process of the stream.
    disk: SharedDisk,
    shard: PathBuf,
    /// Where the newest segment ended before the first append, and after each.
    ends: Vec<u64>,
}

impl DamagedShard {
    /// A stream to which a process appended the records up to each of these, and ended.
    async fn with(appends: &[u64]) -> DamagedShard {
        let world = SimWorld::new(1);
        let ctx = context_on(world.process("writer").shared(), 1);
        let options = CreateOptions {
            codec: Codec::None,
            ..options(1)
        };
        let stream = create(URL, options, &ctx).await.unwrap();
        let disk = world.process("surgeon").shared();
        let shard = home(&*disk, "/data/events").await.join("shards/000000");
        let mut damaged = DamagedShard {
            world,
            disk,
            shard,
            ends: Vec::new(),
        };
        damaged.ends.push(damaged.newest_bytes().await);
        let mut done = 0;
        for &to in appends {
            damaged.append(&stream, done, &[to]).await;
            damaged.ends.push(damaged.newest_bytes().await);
            done = to;
        }
        drop(stream);
        damaged.world.kill("writer");
        damaged
    }

    async fn append(&self, stream: &SharedStream, from: u64, appends: &[u64]) {
        let writer = stream.writer().await.unwrap();
        let mut done = from;
        for &to in appends {
            // What was acknowledged is confirmed: a sender says so.
            let next = interval("w", done, done, to);
            append(&writer, &first(), next).await.unwrap();
            done = to;
        }
    }

    /// The stream as a process sees it that starts now.
    async fn opened(&self, name: &str) -> SharedStream {
        let ctx = context_on(self.world.process(name).shared(), 2);
        open(URL, &ctx).await.unwrap()
    }

    async fn segments(&self) -> Vec<ListedSegment> {
        segment::list(&*self.disk, &self.shard).await.unwrap()
    }

    async fn newest_bytes(&self) -> u64 {
        self.segments().await.last().unwrap().len
    }

    fn path(&self, listed: &ListedSegment) -> PathBuf {
        let name = segment::name(listed.number, listed.base);
        self.shard.join(name)
    }

    async fn bytes(&self, path: &Path) -> Bytes {
        let file = self.disk.open(path, Open::Read).await.unwrap();
        file.read_at(0, 16 << 20).await.unwrap()
    }

    async fn write(&self, path: &Path, at: u64, bytes: Bytes) {
        let file = self.disk.open(path, Open::Write).await.unwrap();
        file.write_at(at, vec![bytes]).await.unwrap();
        file.sync().await.unwrap();
    }

    /// Turns one byte over.
    async fn damage(&self, path: &Path, at: u64) {
        let old = self.bytes(path).await[at as usize];
        self.write(path, at, Bytes::copy_from_slice(&[!old])).await;
    }

    async fn cut(&self, path: &Path, len: u64) {
        let file = self.disk.open(path, Open::Write).await.unwrap();
        file.truncate(len).await.unwrap();
    }

    async fn repair(&self) -> Result<Vec<Interval>> {
        self.opened("operator").await.admin().repair(&first()).await
    }
}

/// The records that a new reader finds, and the gaps.
async fn read(stream: &SharedStream) -> (Vec<u64>, Vec<Interval>) {
    let mut reader = reader(stream, &first(), Position::Begin).await;
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match reader.next().await.unwrap() {
            Read::Batch(batch) => records.extend(numbers(&batch).into_iter().map(|(_, n)| n)),
            Read::Gap { from, to, .. } => gaps.push(Interval::new(from, to)),
            Read::Idle { .. } => return (records, gaps),
            Read::End { .. } => panic!("the shard is open"),
        }
    }
}

/// The positions of the records after `from` up to `to`.
fn lost(from: u64, to: u64) -> Interval {
    let p = |n: u64| n.checked_sub(1).map_or(Position::Begin, Position::offset);
    Interval::new(p(from), p(to))
}

/// A file system lost the end of the segment that is appended to: a repair gives up what is missing, and what comes
/// later is appended behind it.
#[tokio::test(start_paused = true)]
async fn a_shard_that_was_cut_short_takes_appends_once_it_is_repaired() {
    let ends = DamagedShard::with(&[3, 6, 9]).await.ends;
    let (head, whole) = (ends[0], ends[3]);
    for cut in (0..whole).step_by(5).chain([head, whole - 1]) {
        let damaged = DamagedShard::with(&[3, 6, 9]).await;
        let newest = damaged.path(&damaged.segments().await[0]);
        damaged.cut(&newest, cut).await;
        let repaired = damaged.repair().await;
        if cut < head {
            // Without its head there is nothing to append to, and nothing is given up.
            let error = repaired.unwrap_err().to_string();
            assert!(error.contains("restore the file"), "cut at {cut}: {error}");
            let skips = damaged.shard.join("skips.json");
            assert!(damaged.disk.stat(&skips).await.unwrap().is_none());
            continue;
        }
        let kept = 3 * (ends.iter().filter(|end| **end <= cut).count() as u64 - 1);
        assert_eq!(repaired.unwrap(), [lost(kept, 9)], "cut at {cut}");
        assert!(damaged.repair().await.unwrap().is_empty());
        let stream = damaged.opened("successor").await;
        damaged.append(&stream, 9, &[12, 15]).await;
        let records: Vec<u64> = (1..=kept).chain(10..=15).collect();
        assert_eq!(read(&stream).await, (records, vec![lost(kept, 9)]));
        // What was appended is as durable as ever.
        damaged.world.power_cut(Loss::Everything);
        let stream = damaged.opened("later").await;
        let (records, gaps) = read(&stream).await;
        assert_eq!(records.last(), Some(&15), "cut at {cut}: {gaps:?}");
    }
}

/// A reader names what it found: a frame that was cut is none that another process changes.
#[tokio::test(start_paused = true)]
async fn a_reader_of_a_shard_that_was_cut_short_says_so() {
    let damaged = DamagedShard::with(&[30]).await;
    let newest = damaged.path(&damaged.segments().await[0]);
    damaged.cut(&newest, damaged.ends[1] - 1).await;
    let stream = damaged.opened("reader").await;
    let mut reader = reader(&stream, &first(), Position::Begin).await;
    let error = reader.next().await.unwrap_err().to_string();
    assert!(error.contains("a frame is cut short"), "{error}");
}

/// What is missing is not searched byte by byte.
#[tokio::test(start_paused = true)]
async fn a_repair_reads_no_more_than_is_there() {
    let many: Vec<u64> = (1..=40).map(|n| n * 100).collect();
    let damaged = DamagedShard::with(&many).await;
    let segments = damaged.segments().await;
    let newest = segments.last().unwrap();
    let durable = newest.len;
    damaged.cut(&damaged.path(newest), durable / 2).await;
    let stream = damaged.opened("operator").await;
    let before = damaged.world.calls("operator");
    stream.admin().repair(&first()).await.unwrap();
    let calls = damaged.world.calls("operator") - before;
    assert!(calls < 500, "{calls} calls for {durable} bytes");
}

fn up_to(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

/// Where a segment that is not there ends is not known: nothing of another one is given up for it.
#[tokio::test(start_paused = true)]
async fn a_shard_that_lacks_a_segment_is_not_repaired() {
    let many: Vec<u64> = (1..=30).map(|n| n * 10).collect();
    let damaged = DamagedShard::with(&many).await;
    let segments = damaged.segments().await;
    assert!(segments.len() > 3);
    for missing in &segments[1..] {
        let path = damaged.path(missing);
        let bytes = damaged.bytes(&path).await;
        damaged.disk.remove(&path).await.unwrap();
        let error = damaged.repair().await.unwrap_err();
        let says = error.to_string();
        assert!(matches!(error, Error::Corrupt { .. }), "{says}");
        assert!(says.contains("is missing: restore"), "{says}");
        write_new(&*damaged.disk, &path, bytes).await.unwrap();
        assert!(damaged.repair().await.unwrap().is_empty());
        let stream = damaged.opened("reader").await;
        assert_eq!(read(&stream).await, (up_to(300), Vec::new()));
    }
}

/// A question for what is missing is answered as an append to the shard is.
#[tokio::test(start_paused = true)]
async fn where_origins_began_is_not_asked_again_and_again_of_a_missing_segment() {
    let many: Vec<u64> = (1..=30).map(|n| n * 10).collect();
    let damaged = DamagedShard::with(&many).await;
    let newest = damaged.segments().await.pop().unwrap();
    damaged.disk.remove(&damaged.path(&newest)).await.unwrap();
    let stream = damaged.opened("asker").await;
    let writer = stream.writer().await.unwrap();
    let shard = first();
    let asking = tokio::time::timeout(Duration::from_secs(60), writer.begun(&shard));
    let error = asking.await.expect("no answer").unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let refused = append(&writer, &shard, interval("w", 300, 300, 310)).await;
    assert_eq!(refused.unwrap_err().to_string(), error.to_string());
}

/// Removed segments are not a hole: a power cut may bring some of the removed files back.
#[tokio::test(start_paused = true)]
async fn what_came_back_of_what_was_removed_is_not_repaired() {
    let many: Vec<u64> = (1..=30).map(|n| n * 10).collect();
    let damaged = DamagedShard::with(&many).await;
    let segments = damaged.segments().await;
    let oldest = damaged.path(&segments[0]);
    let bytes = damaged.bytes(&oldest).await;
    let kept = segments[3].base;
    let stream = damaged.opened("operator").await;
    let before = Trim::After(Position::offset(kept - 1));
    stream.admin().trim(None, before).await.unwrap();
    write_new(&*damaged.disk, &oldest, bytes).await.unwrap();
    assert!(damaged.repair().await.unwrap().is_empty());
}

/// What a repair searches may be gigabytes: writers go on meanwhile, and nothing is fenced.
#[tokio::test(start_paused = true)]
async fn a_repair_that_searches_for_long_holds_up_no_writer() {
    let damaged = DamagedShard::with(&[3, 6, 9]).await;
    let newest = damaged.segments().await[0].clone();
    let stream = damaged.opened("successor").await;
    // In the body of the last frame.
    damaged.damage(&damaged.path(&newest), newest.len - 1).await;
    let caught = damaged.world.set_breakpoint(Breakpoint {
        process: "operator".to_owned(),
        op: Op::ReadAt,
        path: ".seg".to_owned(),
        moment: Moment::Before,
        fault: Fault::Hangs(Duration::from_secs(3600)),
    });
    let searching = damaged.opened("operator").await;
    let searching = tokio::spawn(async move { searching.admin().repair(&first()).await });
    caught.await.unwrap();
    let appending = damaged.append(&stream, 9, &[12]);
    let appended = tokio::time::timeout(Duration::from_secs(1), appending).await;
    appended.expect("a repair holds up a writer");
    damaged.world.resume("operator");
    assert_eq!(searching.await.unwrap().unwrap(), [lost(6, 9)]);
    assert_eq!(stream.shards().await.unwrap().all().len(), 1);
    let records = (1..=6).chain(10..=12).collect();
    assert_eq!(read(&stream).await, (records, vec![lost(6, 9)]));
}

/// The control file may fall behind in a power cut: not to before a place that was skipped, behind which recovery would
/// find nothing.
#[tokio::test(start_paused = true)]
async fn what_is_appended_behind_a_skipped_place_survives_a_power_cut() {
    let damaged = DamagedShard::with(&[3, 6, 9]).await;
    let newest = damaged.segments().await[0].clone();
    let ends = &damaged.ends;
    damaged.damage(&damaged.path(&newest), ends[2] - 1).await;
    assert_eq!(damaged.repair().await.unwrap(), [lost(3, 6)]);
    let stream = damaged.opened("successor").await;
    damaged.append(&stream, 9, &[12]).await;
    damaged.world.power_cut(Loss::Everything);
    let stream = damaged.opened("later").await;
    let records = (1..=3).chain(7..=12).collect();
    assert_eq!(read(&stream).await, (records, vec![lost(3, 6)]));
}

/// A frame is lost with all its bytes: the next one is intact where it stands, and only its predecessor is given up.
#[tokio::test(start_paused = true)]
async fn an_intact_frame_behind_missing_offsets_is_kept() {
    let damaged = DamagedShard::with(&[3, 6, 9]).await;
    let newest = damaged.segments().await[0].clone();
    let ends = &damaged.ends;
    let path = damaged.path(&newest);
    let third = damaged.bytes(&path).await.slice(ends[2] as usize..);
    let end = ends[1] + third.len() as u64;
    damaged.write(&path, ends[1], third).await;
    damaged.cut(&path, end).await;
    let stream = damaged.opened("reader").await;
    let mut stopped = reader(&stream, &first(), Position::Begin).await;
    assert_eq!(next_batch(&mut stopped).await.len(), 3);
    assert!(stopped.next().await.is_err());
    assert_eq!(damaged.repair().await.unwrap(), [lost(3, 6)]);
    assert!(damaged.repair().await.unwrap().is_empty());
    let gap = stopped.next().await.unwrap();
    assert!(matches!(gap, Read::Gap { .. }), "{gap:?}");
    assert_eq!(next_batch(&mut stopped).await.len(), 3);
    let stream = damaged.opened("successor").await;
    damaged.append(&stream, 9, &[12]).await;
    let records = (1..=3).chain(7..=12).collect();
    assert_eq!(read(&stream).await, (records, vec![lost(3, 6)]));
}

/// A record may hold a frame of its own stream, such as a segment that was stored in it: one whose offsets the shard has
/// not reached where it stands does not count as a frame of the shard.
#[tokio::test(start_paused = true)]
async fn a_frame_inside_a_record_is_not_taken_for_one_of_the_shard() {
    // The same stream at a later time, which chance makes the same.
    let later = DamagedShard::with(&[30, 33]).await;
    let listed = later.segments().await[0].clone();
    let bytes = later.bytes(&later.path(&listed)).await;
    let magic = bytes.windows(4).rposition(|four| four == b"HYDf").unwrap();
    let inner = bytes.slice(magic..);
    let damaged = DamagedShard::with(&[]).await;
    let stream = damaged.opened("writer").await;
    let writer = stream.writer().await.unwrap();
    let holding = Batch {
        records: vec![Entry {
            segment: 0,
            key: None,
            payload: Span::new(0, inner.len() as u32),
            stamp: 0,
        }],
        segments: vec![inner].into(),
        ..Batch::default()
    };
    let holding = Append {
        batch: Arc::new(holding),
        ..plain(&[1])
    };
    append(&writer, &first(), holding).await.unwrap();
    append(&writer, &first(), plain(&[2, 3])).await.unwrap();
    let path = damaged.path(&damaged.segments().await[0]);
    damaged.damage(&path, damaged.ends[0]).await;
    assert_eq!(damaged.repair().await.unwrap(), [lost(0, 1)]);
    assert_eq!(read(&stream).await, (vec![2, 3], vec![lost(0, 1)]));
}
