//! Data that ages: of quiet and closed shards, over restarts, and while the wall clock jumps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::admin::Trim;
use hydrant_core::clock::{self, Clock};
use hydrant_core::disk::{Disk, Open};
use hydrant_core::stream::{Read, SharedStream, StreamWriter};
use hydrant_core::{Context, Position};
use hydrant_testing::clock::ManualClock;
use hydrant_testing::disk::SimWorld;

use super::super::fixture::*;
use crate::{Codec, CreateOptions};

const URL: &str = "local:/data/events";
const AGE: Duration = Duration::from_secs(80);
const YEAR: i64 = 365 * 24 * 3600 * 1_000_000;

/// A machine with a stream whose data is kept for [`AGE`].
struct Machine {
    world: SimWorld,
    clock: ManualClock,
}

/// A process that writes.
struct Writing {
    stream: SharedStream,
    writer: Arc<dyn StreamWriter>,
}

impl Machine {
    async fn new(options: CreateOptions) -> Self {
        let machine = Machine {
            world: SimWorld::new(1),
            clock: ManualClock::new(1_700_000_000_000_000),
        };
        let made = create(URL, options, &machine.context("maker")).await;
        drop(made.unwrap());
        machine
    }

    async fn by_age() -> Self {
        Machine::new(CreateOptions {
            retention_time: Some(AGE),
            codec: Codec::None,
            ..options(1)
        })
        .await
    }

    fn context(&self, name: &str) -> Context {
        Context {
            clock: Arc::new(self.clock.clone()),
            ..context_on(self.world.process(name).shared(), 1)
        }
    }

    async fn writes(&self, name: &str) -> Writing {
        let stream = open(URL, &self.context(name)).await.unwrap();
        let writer = stream.writer().await.unwrap();
        Writing { stream, writer }
    }
}

impl Writing {
    async fn append(&self, from: u64, to: u64) {
        let next = interval("w", 0, from, to);
        append(&self.writer, &first(), next).await.unwrap();
    }

    /// The first record that is kept; `None` when none is.
    async fn oldest(&self) -> Option<u64> {
        let kept = self.stream.state(&first()).await.unwrap().kept_after;
        let mut reader = reader(&self.stream, &first(), kept).await;
        let all = read_all(&mut reader).await;
        all.first().map(|(_, n)| *n)
    }
}

async fn seconds(seconds: u64) {
    clock::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn data_goes_by_age_from_a_shard_to_which_nothing_is_appended() {
    let machine = Machine::by_age().await;
    let writing = machine.writes("a").await;
    writing.append(0, 3).await;
    seconds(60).await;
    assert_eq!(writing.oldest().await, Some(1));
    seconds(50).await;
    assert_eq!(writing.oldest().await, None);
    let state = writing.stream.state(&first()).await.unwrap();
    assert_eq!(Some(state.kept_after), state.tip);
    // The marks stay, and the segment that took the place of the old one is not replaced again and again.
    let bytes = state.bytes;
    seconds(500).await;
    assert_eq!(writing.stream.state(&first()).await.unwrap().bytes, bytes);
    let again = append(&writing.writer, &first(), interval("w", 0, 0, 4)).await;
    assert_eq!(again.unwrap().duplicates, 3);
}

#[tokio::test(start_paused = true)]
async fn data_goes_by_age_from_a_shard_to_which_little_is_appended() {
    let machine = Machine::by_age().await;
    let writing = machine.writes("a").await;
    for n in 0..60 {
        writing.append(n, n + 1).await;
        seconds(5).await;
        let oldest = writing.oldest().await.unwrap();
        // One record in five seconds: sixteen are younger than the limit.
        assert!(
            oldest <= (n + 1).saturating_sub(15).max(1),
            "{oldest} at {n}"
        );
        // A segment's age and a look later than they could go.
        assert!(oldest + 22 > n, "{oldest} is still there at {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn data_goes_by_age_from_a_closed_shard() {
    let machine = Machine::by_age().await;
    let writing = machine.writes("a").await;
    writing.append(0, 3).await;
    let admin = writing.stream.admin();
    admin.split(&first(), None).await.unwrap();
    seconds(60).await;
    assert_eq!(writing.oldest().await, Some(1));
    seconds(50).await;
    let state = writing.stream.state(&first()).await.unwrap();
    assert_eq!((Some(state.kept_after), state.bytes), (state.tip, Some(0)));
    assert_eq!(writing.oldest().await, None);
}

#[tokio::test(start_paused = true)]
async fn data_ages_over_restarts_although_nothing_arrives() {
    let machine = Machine::by_age().await;
    let writing = machine.writes("a").await;
    writing.append(0, 3).await;
    drop(writing);
    for n in 0..10 {
        let writing = machine.writes("a").await;
        if n < 2 {
            assert_eq!(writing.oldest().await, Some(1), "start {n}");
        }
        seconds(25).await;
    }
    assert_eq!(machine.writes("a").await.oldest().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_forward_removes_nothing() {
    let machine = Machine::by_age().await;
    let writing = machine.writes("a").await;
    writing.append(0, 60).await;
    seconds(20).await;
    machine.clock.jump(10 * YEAR);
    // Each of these starts a segment.
    for n in 1..5 {
        writing.append(n * 60, n * 60 + 60).await;
    }
    seconds(30).await;
    assert_eq!(writing.oldest().await, Some(1));
    // Also after a start with the clock put right; and what was stamped by the wrong one goes in its turn.
    machine.clock.jump(-10 * YEAR);
    let writing = machine.writes("a").await;
    writing.append(300, 360).await;
    assert_eq!(writing.oldest().await, Some(1));
    seconds(60).await;
    assert_eq!(writing.oldest().await, Some(61));
    seconds(80).await;
    assert_eq!(writing.oldest().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_backward_removes_nothing() {
    let machine = Machine::by_age().await;
    let writing = machine.writes("a").await;
    writing.append(0, 60).await;
    seconds(20).await;
    machine.clock.jump(-10 * YEAR);
    writing.append(60, 120).await;
    seconds(20).await;
    machine.clock.jump(10 * YEAR);
    writing.append(120, 180).await;
    seconds(40).await;
    assert_eq!(writing.oldest().await, Some(1));
    // What was stamped in the past stays as long as what came after it.
    seconds(30).await;
    assert_eq!(writing.oldest().await, Some(61));
    seconds(80).await;
    assert_eq!(writing.oldest().await, None);
    assert!(machine.clock.wall_micros() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_gives_its_bytes_to_its_children() {
    let machine = Machine::new(CreateOptions {
        retention_bytes: Some(20_000),
        ..options(1)
    })
    .await;
    let writing = machine.writes("a").await;
    for n in 0..100 {
        writing.append(n * 10, n * 10 + 10).await;
    }
    let admin = writing.stream.admin();
    let children = admin.split(&first(), None).await.unwrap();
    let bytes = async || writing.stream.state(&first()).await.unwrap().bytes.unwrap();
    seconds(2 * 3600).await;
    assert!(bytes().await > 10_000, "the children hold nothing yet");
    for (n, child) in children.iter().enumerate() {
        let mut done = 0;
        for _ in 0..150 {
            let mine: Vec<u64> = (done + 1..)
                .filter(|n| {
                    let low = route(*n) < u128::MAX / 2;
                    low == (child == &children[0])
                })
                .take(10)
                .collect();
            let to = mine[9];
            let p = |n: u64| match n {
                0 => Position::Begin,
                n => Position::offset(n),
            };
            let next = tracked("c", Position::Begin, p(done), p(to), &mine);
            append(&writing.writer, child, next).await.unwrap();
            done = to;
        }
        seconds(2 * 3600).await;
        match n {
            0 => assert!(bytes().await > 10_000, "one child holds nothing yet"),
            _ => assert_eq!(bytes().await, 0),
        }
    }
}

/// To a day in 1970.
fn until_1970(machine: &Machine) -> i64 {
    YEAR / 2 - machine.clock.wall_micros()
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_starts_in_1970_removes_nothing_early_and_keeps_nothing_too_long() {
    let machine = Machine::by_age().await;
    let unset = until_1970(&machine);
    machine.clock.jump(unset);
    let writing = machine.writes("a").await;
    // Each of these starts a segment.
    writing.append(0, 60).await;
    seconds(20).await;
    writing.append(60, 120).await;
    seconds(20).await;
    assert_eq!(writing.oldest().await, Some(1));
    machine.clock.jump(-unset);
    writing.append(120, 180).await;
    seconds(20).await;
    assert_eq!(writing.oldest().await, Some(1));
    drop(writing);
    // A start that finds the clock set does not take the first ones for old.
    let writing = machine.writes("a").await;
    writing.append(180, 240).await;
    seconds(40).await;
    assert_eq!(writing.oldest().await, Some(1));
    // The stream's time stood still from the last arrival before the start on, for twenty seconds.
    seconds(55).await;
    assert_eq!(writing.oldest().await, Some(181));
    seconds(40).await;
    assert_eq!(writing.oldest().await, None);
}

/// Also behind data with a date, than which its own stamps are older.
#[tokio::test(start_paused = true)]
async fn what_was_stamped_in_1970_goes_although_nothing_follows() {
    for (is_behind, closes) in [(false, false), (false, true), (true, false), (true, true)] {
        let case = format!("behind data with a date: {is_behind}, closed: {closes}");
        let machine = Machine::by_age().await;
        let writing = machine.writes("a").await;
        // Each append starts a segment.
        let from = if is_behind { 60 } else { 0 };
        if is_behind {
            writing.append(0, from).await;
            seconds(20).await;
        }
        let unset = until_1970(&machine);
        machine.clock.jump(unset);
        writing.append(from, from + 60).await;
        if closes {
            let admin = writing.stream.admin();
            admin.split(&first(), None).await.unwrap();
        }
        machine.clock.jump(-unset);
        seconds(70).await;
        assert!(
            writing.oldest().await.is_some_and(|n| n <= from + 1),
            "{case}"
        );
        // It ages from when what stood before it has gone.
        seconds(if is_behind { 130 } else { 50 }).await;
        assert_eq!(writing.oldest().await, None, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_at_the_start_and_put_right_removes_in_time() {
    let machine = Machine::by_age().await;
    let writing = machine.writes("a").await;
    writing.append(0, 60).await;
    seconds(20).await;
    writing.append(60, 120).await;
    drop(writing);
    machine.clock.jump(-YEAR);
    let writing = machine.writes("a").await;
    seconds(20).await;
    assert_eq!(writing.oldest().await, Some(1));
    machine.clock.jump(YEAR);
    seconds(20).await;
    assert_eq!(writing.oldest().await, Some(1));
    // Also while little is appended, which starts segments by the stream's time only.
    for n in 120..160 {
        writing.append(n, n + 1).await;
        seconds(5).await;
    }
    assert!(writing.oldest().await.is_some_and(|n| n > 130));
    // The stream's time stood still while the clock was behind.
    seconds(140).await;
    assert_eq!(writing.oldest().await, None);
}

/// A stream that was not written for long has a time from before what is appended then.
#[tokio::test(start_paused = true)]
async fn what_is_appended_after_a_long_silence_stays_as_long_as_all_else() {
    let machine = Machine::by_age().await;
    let writing = machine.writes("a").await;
    writing.append(0, 3).await;
    drop(writing);
    machine.clock.jump(YEAR);
    let writing = machine.writes("a").await;
    for n in 1..60 {
        writing.append(n * 3, n * 3 + 3).await;
        seconds(5).await;
        let oldest = writing.oldest().await.unwrap();
        // Sixteen appends are younger than the limit.
        let limit = (n * 3).saturating_sub(44).max(1);
        assert!(oldest <= limit, "{oldest} at {n}");
    }
    seconds(300).await;
    assert_eq!(writing.oldest().await, None);
}

/// What an operator removes of the children says nothing of how much the parent may keep.
#[tokio::test(start_paused = true)]
async fn a_trimmed_child_leaves_its_parent_the_bytes_it_may_keep() {
    let machine = Machine::new(CreateOptions {
        retention_bytes: Some(40_000),
        ..options(1)
    })
    .await;
    let writing = machine.writes("a").await;
    for n in 0..100 {
        writing.append(n * 10, n * 10 + 10).await;
    }
    let admin = writing.stream.admin();
    let children = admin.split(&first(), None).await.unwrap();
    let bytes = async || writing.stream.state(&first()).await.unwrap().bytes.unwrap();
    let before = bytes().await;
    for child in &children {
        let mine = (1..).find(|n| {
            let low = route(*n) < u128::MAX / 2;
            low == (child == &children[0])
        });
        let next = plain(&[mine.unwrap()]);
        append(&writing.writer, child, next).await.unwrap();
        let everything = Trim::After(Position::End);
        admin.trim(Some(child), everything).await.unwrap();
        let state = writing.stream.state(child).await.unwrap();
        assert_eq!(state.kept_after, Position::offset(0));
    }
    seconds(2 * 3600).await;
    assert_eq!(bytes().await, before);
}

/// One segment of one shard is damaged: the data of the others ages all the same, and that of its own before it.
#[tokio::test(start_paused = true)]
async fn data_goes_by_age_beside_a_shard_that_is_damaged() {
    let machine = Machine::new(CreateOptions {
        retention_time: Some(AGE),
        codec: Codec::None,
        ..options(2)
    })
    .await;
    let writing = machine.writes("a").await;
    let map = writing.stream.shards().await.unwrap();
    for shard in map.open() {
        let here: Vec<u64> = (1..=40)
            .filter(|n| shard.range.contains(route(*n)))
            .collect();
        append(&writing.writer, &shard.id, plain(&here))
            .await
            .unwrap();
    }
    let probe = machine.world.process("probe");
    let dir = home(&probe, "/data/events").await.join("shards/000001");
    let mut names = probe.list(&dir).await.unwrap();
    names.retain(|listed| listed.name.ends_with(".seg"));
    let path = dir.join(&names[0].name);
    let file = probe.open(&path, Open::Write).await.unwrap();
    let wrong = bytes::Bytes::from_static(&[0xff; 4]);
    file.write_at(30, vec![wrong]).await.unwrap();
    seconds(600).await;
    let state = writing.stream.state(&first()).await.unwrap();
    assert_eq!(Some(state.kept_after), state.tip);
    let state = writing.stream.state(&"000001".into()).await.unwrap();
    assert_ne!(Some(state.kept_after), state.tip);
}

/// A shard whose first two segments were removed.
struct Trimmed {
    dir: tempfile::TempDir,
    /// The directory of the shard.
    shard: PathBuf,
    /// The first segment, which is gone.
    gone: (PathBuf, Vec<u8>),
    /// What is left.
    rest: Vec<u64>,
}

async fn trimmed() -> Trimmed {
    let dir = tempfile::tempdir().unwrap();
    let options = CreateOptions {
        segment_bytes: 4 << 10,
        ..options(1)
    };
    let stream = create(&url(&dir), options, &context(1)).await.unwrap();
    let writer = stream.writer().await.unwrap();
    for n in 0..80 {
        let append_ten = interval("w", 0, n * 10, n * 10 + 10);
        append(&writer, &first(), append_ten).await.unwrap();
    }
    let home = home(
        &hydrant_core::disk::real::RealDisk::new(),
        dir.path().join("events"),
    )
    .await;
    let shard = home.join("shards/000000");
    let segments = || {
        let names = std::fs::read_dir(&shard).unwrap();
        let names = names.map(|entry| entry.unwrap().path());
        let mut names: Vec<_> = names.filter(|path| path.extension().is_some()).collect();
        names.sort();
        names
    };
    let before = segments();
    assert!(before.len() > 3, "{before:?}");
    let back = std::fs::read(&before[0]).unwrap();
    let kept = before[2].file_stem().unwrap().to_str().unwrap();
    let base: u64 = kept.split_once('-').unwrap().1.parse().unwrap();
    let what = Trim::After(Position::offset(base - 1));
    let admin = stream.admin();
    admin.trim(Some(&first()), what).await.unwrap();
    assert_eq!(segments(), before[2..]);
    let rest = left(&stream).await;
    let gone = (before[0].clone(), back);
    Trimmed {
        dir,
        shard,
        gone,
        rest,
    }
}

impl Trimmed {
    async fn is_whole(&self) {
        let stream = open(&url(&self.dir), &context(2)).await.unwrap();
        let writer = stream.writer().await.unwrap();
        assert_eq!(left(&stream).await, self.rest);
        append(&writer, &first(), interval("w", 0, 800, 810))
            .await
            .unwrap();
        assert_eq!(left(&stream).await.len(), self.rest.len() + 10);
    }
}

/// A power cut that takes back a removal, but not that of the next segment, and tears both slots of the control file:
/// what came back holds nothing of the shard any more.
#[tokio::test]
async fn a_removed_segment_that_came_back_without_the_next_one_is_passed_over() {
    let trimmed = trimmed().await;
    std::fs::write(&trimmed.gone.0, &trimmed.gone.1).unwrap();
    let control = trimmed.shard.join("control");
    let torn = vec![0xFF; std::fs::read(&control).unwrap().len()];
    std::fs::write(&control, torn).unwrap();
    trimmed.is_whole().await;
}

/// A power cut after later appends takes one slot of the control file back to what was durable, and tears the other one:
/// either says where the shard begins.
#[tokio::test]
async fn either_slot_of_a_control_file_says_where_a_trimmed_shard_begins() {
    for slot in [0, 512] {
        let trimmed = trimmed().await;
        let path = trimmed.shard.join("control");
        let mut control = std::fs::read(&path).unwrap();
        control[slot..slot + 128].fill(0xFF);
        std::fs::write(&path, control).unwrap();
        trimmed.is_whole().await;
    }
}

/// What is left of the first shard, for who reads from its beginning.
async fn left(stream: &SharedStream) -> Vec<u64> {
    let mut reader = reader(stream, &first(), Position::Begin).await;
    let mut all = Vec::new();
    loop {
        match reader.next().await.unwrap() {
            Read::Batch(batch) => all.extend(numbers(&batch).into_iter().map(|(_, n)| n)),
            Read::Gap { .. } => assert!(all.is_empty()),
            Read::Idle { .. } | Read::End { .. } => return all,
        }
    }
}
