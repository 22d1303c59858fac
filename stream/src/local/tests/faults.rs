//! Disks that fail, fill up and rot, and streams that vanish.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::admin::Trim;
use hydrant_core::disk::{LockKind, Open};
use hydrant_core::lease::Progress;
use hydrant_core::stream::{Read, SharedStream, Start};
use hydrant_core::{Error, Interval, Position};
use hydrant_testing::disk::{Loss, Moment, Op, Rule, SimWorld};

use super::fixture::*;
use crate::CreateOptions;
use crate::local::format::segment;

const URL: &str = "local:/data/events";

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_made_good_once_and_loses_nothing_in_a_power_cut() {
    for seed in 0..8 {
        let world = SimWorld::new(seed);
        let ctx = context_on(world.process("a").shared(), seed);
        let stream = create(URL, options(1), &ctx).await.unwrap();
        let writer = stream.writer().await.unwrap();
        append(&writer, &first(), interval("w", 0, 0, 3))
            .await
            .unwrap();
        world.fail(Rule {
            moment: if seed % 2 == 0 {
                Moment::Before
            } else {
                Moment::After
            },
            ..Rule::once(Op::Sync, ".seg")
        });
        append(&writer, &first(), interval("w", 0, 3, 6))
            .await
            .unwrap();
        append(&writer, &first(), interval("w", 0, 6, 9))
            .await
            .unwrap();
        world.power_cut(Loss::Everything);
        let ctx = context_on(world.process("b").shared(), seed);
        let stream = open(URL, &ctx).await.unwrap();
        assert_eq!(stored(&stream, &first()).await, (1..=9).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_failed_sync_is_fatal_and_acknowledges_nothing() {
    let world = SimWorld::new(1);
    let ctx = context_on(world.process("a").shared(), 1);
    let stream = create(URL, options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), interval("w", 0, 0, 3))
        .await
        .unwrap();
    world.fail(Rule::always(Op::Sync, ".seg"));
    let error = append(&writer, &first(), interval("w", 0, 3, 6))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Fatal { .. }), "{error}");
    world.heal();
    let error = append(&writer, &first(), interval("w", 0, 3, 6))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Fatal { .. }), "{error}");
    assert_eq!(stored(&stream, &first()).await, [1, 2, 3]);
    // A new process continues, and trusts nothing of it.
    let ctx = context_on(world.process("b").shared(), 2);
    let stream = open(URL, &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), interval("w", 0, 3, 7))
        .await
        .unwrap();
    world.power_cut(Loss::Everything);
    let ctx = context_on(world.process("c").shared(), 3);
    let stream = open(URL, &ctx).await.unwrap();
    assert_eq!(stored(&stream, &first()).await, (1..=7).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_appends_stays_readable_and_recovers_by_itself() {
    let world = SimWorld::new(1);
    let ctx = context_on(world.process("a").shared(), 1);
    let stream = create(URL, options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    let mut done = 0;
    world.set_quota(Some(world.used_bytes() + 3000));
    let error = loop {
        match append(&writer, &first(), interval("w", 0, done, done + 5)).await {
            Ok(_) => done += 5,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(done > 0);
    for _ in 0..3 {
        let error = append(&writer, &first(), interval("w", 0, done, done + 5))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        assert_eq!(
            stored(&stream, &first()).await,
            (1..=done).collect::<Vec<_>>()
        );
    }
    world.set_quota(None);
    append(&writer, &first(), interval("w", 0, done, done + 5))
        .await
        .unwrap();
    assert_eq!(
        stored(&stream, &first()).await,
        (1..=done + 5).collect::<Vec<_>>()
    );
}

/// The frames are durable when the control file cannot be written, as on a full disk that copies what it writes. They are
/// taken in later, and a sender that sends them again finds them there.
#[tokio::test(start_paused = true)]
async fn a_control_file_that_cannot_be_written_is_named() {
    for (seed, kind) in (0..16).zip(
        [ErrorKind::StorageFull, ErrorKind::Other]
            .into_iter()
            .cycle(),
    ) {
        let world = SimWorld::new(seed);
        let ctx = context_on(world.process("a").shared(), 1);
        let stream = create(URL, options(1), &ctx).await.unwrap();
        let writer = stream.writer().await.unwrap();
        append(&writer, &first(), interval("w", 0, 0, 3))
            .await
            .unwrap();
        world.fail(Rule {
            kind,
            ..Rule::once(Op::WriteAt, "control")
        });
        let failed = append(&writer, &first(), interval("w", 0, 3, 6)).await;
        let (error, ctx) = (
            failed.unwrap_err(),
            context_on(world.process("b").shared(), 2),
        );
        let (writer, to) = if kind == ErrorKind::StorageFull {
            assert!(matches!(error, Error::Full { .. }), "{error}");
            (writer, 6)
        } else {
            let says = error.to_string();
            assert!(matches!(error, Error::Fatal { .. }), "{says}");
            assert!(says.contains("its control file cannot say so"), "{says}");
            let stream = open(URL, &ctx).await.unwrap();
            assert_eq!(stored(&stream, &first()).await, [1, 2, 3, 4, 5, 6]);
            (stream.writer().await.unwrap(), 9)
        };
        append(&writer, &first(), interval("w", 0, 3, to))
            .await
            .unwrap();
        let all: Vec<u64> = (1..=to).collect();
        assert_eq!(stored(&stream, &first()).await, all);
    }
}

/// A writer that died while it made a segment may have left as much as marks and frames take.
#[tokio::test(start_paused = true)]
async fn a_full_disk_is_freed_of_what_a_dead_writer_left() {
    let world = SimWorld::new(1);
    let ctx = context_on(world.process("a").shared(), 1);
    let stream = create(URL, options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), interval("w", 0, 0, 5))
        .await
        .unwrap();
    let disk = world.process("dead").shared();
    let dir = home(&*disk, "/data/events").await.join("shards/000000");
    let left = dir.join(".0000000099-00000000000000000000.seg.x.tmp");
    let file = disk.open(&left, Open::Create).await.unwrap();
    file.write_at(0, vec![Bytes::from(vec![7; 100_000])])
        .await
        .unwrap();
    world.set_quota(Some(world.used_bytes()));
    let refused = append(&writer, &first(), interval("w", 0, 5, 10)).await;
    assert!(
        matches!(refused, Ok(_) | Err(Error::Full { .. })),
        "{refused:?}"
    );
    if refused.is_err() {
        append(&writer, &first(), interval("w", 0, 5, 10))
            .await
            .unwrap();
    }
    assert_eq!(
        stored(&stream, &first()).await,
        (1..=10).collect::<Vec<_>>()
    );
}

/// A shard with several segments on a disk that takes nothing more, and how many records it has.
async fn filled(world: &SimWorld, stream: &SharedStream) -> u64 {
    let writer = stream.writer().await.unwrap();
    world.set_quota(Some(world.used_bytes() + 20_000));
    let mut done = 0;
    while append(&writer, &first(), interval("w", 0, done, done + 5))
        .await
        .is_ok()
    {
        done += 5;
    }
    // To the last byte.
    world.set_quota(Some(world.used_bytes()));
    done
}

#[tokio::test(start_paused = true)]
async fn trimming_makes_room_on_a_full_disk() {
    for what in [Trim::ToBytes(9_000), Trim::ToBytes(0)] {
        let world = SimWorld::new(1);
        let ctx = context_on(world.process("a").shared(), 1);
        let stream = create(URL, options(1), &ctx).await.unwrap();
        let done = filled(&world, &stream).await;
        let admin = stream.admin();
        let freed = admin.trim(Some(&first()), what).await.unwrap();
        assert!(freed > 9_000, "{what:?}: {freed}");
        let left = stream.states().await.unwrap()[0].bytes.unwrap();
        assert!(left < 9_000, "{what:?}: {left}");
        let writer = stream.writer().await.unwrap();
        append(&writer, &first(), interval("w", 0, done, done + 5))
            .await
            .unwrap();
        // With one segment left there is nothing to be gained.
        admin.trim(Some(&first()), Trim::ToBytes(0)).await.unwrap();
        append(&writer, &first(), interval("w", 0, done + 5, done + 10))
            .await
            .unwrap();
        world.set_quota(Some(world.used_bytes()));
        let error = admin.trim(Some(&first()), Trim::ToBytes(0)).await;
        assert!(matches!(error, Err(Error::Full { .. })), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_cannot_be_trimmed_keeps_the_others_from_nothing() {
    let world = SimWorld::new(1);
    let ctx = context_on(world.process("a").shared(), 1);
    let stream = create(URL, options(2), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    let shards = stream.shards().await.unwrap();
    for shard in shards.open() {
        let here = (0..200).filter(|n| shard.range.contains(route(*n)));
        let here = plain(&here.collect::<Vec<_>>());
        append(&writer, &shard.id, here).await.unwrap();
    }
    let other = world.process("other").shared();
    let lock = home(&*other, "/data/events")
        .await
        .join("shards/000000/lock");
    let _held = other.lock(&lock, LockKind::Exclusive).await.unwrap();
    let error = stream
        .admin()
        .trim(None, Trim::ToBytes(0))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("lock of shard `000000`"),
        "{error}"
    );
    let states = stream.states().await.unwrap();
    assert_eq!(states[0].kept_after, Position::Begin);
    assert_eq!(Some(states[1].kept_after), states[1].tip);
}

#[tokio::test(start_paused = true)]
async fn a_tail_torn_at_any_byte_is_cut_and_an_intact_one_is_kept() {
    // The frame is on disk but the control file does not say so: the process died before it did.
    let world = SimWorld::new(3);
    let ctx = context_on(world.process("a").shared(), 3);
    let stream = create(URL, options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), interval("w", 0, 0, 3))
        .await
        .unwrap();
    let disk = world.process("surgeon").shared();
    let dir = &home(&*disk, "/data/events").await.join("shards/000000");
    let control = disk.open(&dir.join("control"), Open::Write).await.unwrap();
    let before = control.read_at(0, 4096).await.unwrap();
    append(&writer, &first(), interval("w", 0, 3, 6))
        .await
        .unwrap();
    let name = disk
        .list(dir)
        .await
        .unwrap()
        .into_iter()
        .find(|l| l.name.ends_with(".seg"))
        .unwrap();
    let segment = disk.open(&dir.join(&name.name), Open::Write).await.unwrap();
    let whole = segment.read_at(0, 1 << 20).await.unwrap();
    world.kill("a");
    let files = disk.list(dir).await.unwrap();
    for cut in (0..whole.len()).rev().step_by(7).chain([whole.len()]) {
        // Back to the state before the control file was written, with the tail cut at this byte.
        for listed in disk.list(dir).await.unwrap() {
            if !files.contains(&listed) && listed.name.ends_with(".seg") && listed.name != name.name
            {
                disk.remove(&dir.join(&listed.name)).await.unwrap();
            }
        }
        control.write_at(0, vec![before.clone()]).await.unwrap();
        let cut_off = whole.slice(..cut);
        segment.truncate(0).await.unwrap();
        segment.write_at(0, vec![cut_off]).await.unwrap();
        let ctx = context_on(world.process("b").shared(), 4);
        let Ok(stream) = open(URL, &ctx).await else {
            panic!("the stream cannot be opened with its tail cut at {cut}");
        };
        let kept = stream.states().await.unwrap()[0].tip;
        let intact = cut == whole.len();
        assert_eq!(
            kept,
            Some(Position::offset(if intact { 6 } else { 3 } - 1)),
            "cut at {cut}"
        );
        let writer = stream.writer().await.unwrap();
        let missing = append(&writer, &first(), interval("w", 0, 0, 9)).await;
        if let Err(error) = missing {
            // Durable bytes are missing: that is corruption, and said so.
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            break;
        }
        assert_eq!(
            stored(&stream, &first()).await,
            (1..=9).collect::<Vec<_>>(),
            "cut at {cut}"
        );
    }
}

/// Frames past the durable end count only where the offsets go on: these are whole, and stood elsewhere.
#[tokio::test(start_paused = true)]
async fn an_intact_frame_in_a_wrong_place_is_cut() {
    let world = SimWorld::new(3);
    let ctx = context_on(world.process("a").shared(), 3);
    let stream = create(URL, options(1), &ctx).await.unwrap();
    let dir = &home(&*ctx.disk, "/data/events").await.join("shards/000000");
    let newest = segment::list(&*ctx.disk, dir).await.unwrap().remove(0);
    let file = dir.join(segment::name(newest.number, newest.base));
    let file = ctx.disk.open(&file, Open::Write).await.unwrap();
    let from = file.len().await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), interval("w", 0, 0, 3))
        .await
        .unwrap();
    let end = file.len().await.unwrap();
    let frame = file.read_at(from, (end - from) as usize).await.unwrap();
    file.write_at(end, vec![frame]).await.unwrap();
    world.kill("a");
    let ctx = context_on(world.process("b").shared(), 4);
    let stream = open(URL, &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), interval("w", 0, 0, 6))
        .await
        .unwrap();
    assert_eq!(stored(&stream, &first()).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(segment::list(&*ctx.disk, dir).await.unwrap().len(), 1);
}

#[tokio::test]
async fn corruption_stops_the_shard_until_it_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context(1);
    let stream = create(&url(&dir), CreateOptions::default(), &ctx)
        .await
        .unwrap();
    let writer = stream.writer().await.unwrap();
    let home = home(&*ctx.disk, dir.path().join("events")).await;
    let shard = home.join("shards/000000");
    let mut ends = Vec::new();
    for n in 0..10 {
        append(&writer, &first(), interval("w", 0, n * 2, n * 2 + 2))
            .await
            .unwrap();
        let listed = ctx.disk.list(&shard).await.unwrap();
        ends.push(
            listed
                .iter()
                .find(|l| l.name.ends_with(".seg"))
                .unwrap()
                .clone(),
        );
    }
    let path = shard.join(&ends[0].name);
    let file = ctx.disk.open(&path, Open::Write).await.unwrap();
    for (frame, at) in [(3usize, ends[3].len - 1), (6, ends[5].len + 9)] {
        let old = file.read_at(at, 1).await.unwrap()[0];
        file.write_at(at, vec![Bytes::copy_from_slice(&[!old])])
            .await
            .unwrap();
        assert!(frame < 10);
    }
    let mut broken = reader(&stream, &first(), Position::Begin).await;
    let Read::Batch(batch) = broken.next().await.unwrap() else {
        panic!("no batch")
    };
    assert_eq!(batch.len(), 6);
    for _ in 0..2 {
        let error = broken.next().await.unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt { path: p, offset, .. }
            if *p == path && *offset == ends[2].len),
            "{error}"
        );
    }
    let lost = stream.admin().repair(&first()).await.unwrap();
    let p = Position::offset;
    assert_eq!(
        lost,
        [Interval::new(p(5), p(7)), Interval::new(p(11), p(13))]
    );
    assert!(stream.admin().repair(&first()).await.unwrap().is_empty());
    let mut read = Vec::new();
    let mut gaps = Vec::new();
    loop {
        match broken.next().await.unwrap() {
            Read::Batch(batch) => read.extend(numbers(&batch).into_iter().map(|(_, n)| n)),
            Read::Gap { from, to, .. } => gaps.push(Interval::new(from, to)),
            Read::Idle { .. } => break,
            Read::End { .. } => panic!("the shard is open"),
        }
    }
    assert_eq!(gaps, lost);
    assert_eq!(read, [9, 10, 11, 12, 15, 16, 17, 18, 19, 20]);
    // Another process appends behind it, and knows its marks.
    let theirs = open(&url(&dir), &context(2)).await.unwrap();
    let their_writer = theirs.writer().await.unwrap();
    let appended = append(&their_writer, &first(), interval("w", 0, 18, 22))
        .await
        .unwrap();
    assert_eq!(appended.duplicates, 2);
}

#[tokio::test]
async fn a_reader_is_told_of_what_retention_took() {
    let dir = tempfile::tempdir().unwrap();
    let stream = create(&url(&dir), options(1), &context(1)).await.unwrap();
    let writer = stream.writer().await.unwrap();
    let mut slow = reader(&stream, &first(), Position::Begin).await;
    for n in 0..200 {
        append(&writer, &first(), interval("w", 0, n * 4, n * 4 + 4))
            .await
            .unwrap();
    }
    let admin = stream.admin();
    let freed = admin
        .trim(None, Trim::After(Position::offset(399)))
        .await
        .unwrap();
    assert!(freed > 0);
    let kept = stream.states().await.unwrap()[0].kept_after;
    assert!(
        kept <= Position::offset(399) && kept > Position::offset(200),
        "{kept}"
    );
    let Read::Gap { from, to, .. } = slow.next().await.unwrap() else {
        panic!("no gap")
    };
    // A reader that had not begun to read learns all of it.
    assert_eq!((from, to), (Position::Begin, kept));
    let rest = read_all(&mut slow).await;
    assert_eq!(rest.last().unwrap().1, 800);
    assert_eq!(rest.first().unwrap().0, kept.next_offset().unwrap());
    let earliest = stream.start(&first(), Start::Earliest).await.unwrap();
    assert_eq!(earliest, Progress::starting(kept));
    // Marks stay although the frames are gone.
    let again = append(&writer, &first(), interval("w", 0, 0, 800))
        .await
        .unwrap();
    assert_eq!((again.last, again.duplicates), (None, 800));
    admin.trim(Some(&first()), Trim::ToBytes(0)).await.unwrap();
    assert_eq!(
        stream.states().await.unwrap()[0].kept_after,
        Position::offset(799)
    );
    let again = append(&writer, &first(), interval("w", 0, 700, 801))
        .await
        .unwrap();
    assert_eq!(
        (again.last, again.duplicates),
        (Some(Position::offset(800)), 100)
    );
}

#[tokio::test]
async fn retention_by_bytes_acts_when_segments_fill() {
    let dir = tempfile::tempdir().unwrap();
    let limited = CreateOptions {
        retention_bytes: Some(20_000),
        ..options(1)
    };
    let stream = create(&url(&dir), limited, &context(1)).await.unwrap();
    let writer = stream.writer().await.unwrap();
    for n in 0..600 {
        append(&writer, &first(), interval("w", 0, n * 4, n * 4 + 4))
            .await
            .unwrap();
    }
    let state = &stream.states().await.unwrap()[0];
    assert!(state.bytes.unwrap() < 28_000, "{state:?}");
    assert!(state.kept_after > Position::Begin);
    assert_eq!(state.records, Some(2400));
}

#[tokio::test]
async fn a_stream_made_again_is_not_mistaken_for_its_predecessor() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context(1);
    let old = create(&url(&dir), options(1), &ctx).await.unwrap();
    let old_writer = old.writer().await.unwrap();
    append(&old_writer, &first(), plain(&[1, 2])).await.unwrap();
    let mut old_reader = reader(&old, &first(), Position::Begin).await;
    read_all(&mut old_reader).await;
    let (answered, new) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(30), old_reader.next()),
        async {
            delete(&url(&dir), &ctx).await.unwrap();
            create(&url(&dir), options(1), &context(9)).await.unwrap()
        }
    );
    let error = answered.expect("the reader waits without end").unwrap_err();
    assert!(error.to_string().contains("deleted"), "{error}");
    assert_ne!(old.id(), new.id());
    let error = append(&old_writer, &first(), plain(&[3]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("deleted"), "{error}");
    assert!(old.shards().await.is_err());
    assert!(opened_after(&old, &first(), Position::Begin).await.is_err());
    let writer = new.writer().await.unwrap();
    append(&writer, &first(), plain(&[7])).await.unwrap();
    assert_eq!(stored(&new, &first()).await, [7]);
    delete(&url(&dir), &ctx).await.unwrap();
    assert!(matches!(
        delete(&url(&dir), &ctx).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_reader_behind_does_not_take_a_stream_made_again_for_a_damaged_one() {
    // More than fits into a batch, twice.
    let many: Vec<u64> = (0..20_000).collect();
    let options = || CreateOptions::with_shards(1);
    for has_begun in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let ctx = context(1);
        let old = create(&url(&dir), options(), &ctx).await.unwrap();
        let writer = old.writer().await.unwrap();
        for _ in 0..2 {
            append(&writer, &first(), plain(&many)).await.unwrap();
        }
        let mut behind = reader(&old, &first(), Position::Begin).await;
        if has_begun {
            assert_eq!(next_batch(&mut behind).await.len(), many.len());
        }
        delete(&url(&dir), &ctx).await.unwrap();
        let new = create(&url(&dir), options(), &context(9)).await.unwrap();
        let writer = new.writer().await.unwrap();
        for _ in 0..3 {
            append(&writer, &first(), plain(&many)).await.unwrap();
        }
        let error = behind.next().await.unwrap_err();
        assert!(error.to_string().contains("deleted"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_dropped_at_any_await_has_read_nothing() {
    let world = SimWorld::new(5);
    let ctx = context_on(world.process("a").shared(), 5);
    let stream = create(URL, options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    for n in 0..30 {
        append(&writer, &first(), plain(&[n * 2, n * 2 + 1]))
            .await
            .unwrap();
    }
    let mut reader = reader(&stream, &first(), Position::Begin).await;
    let mut all = Vec::new();
    let mut polls = 0;
    'tip: loop {
        // Dropped after ever more polls until it answers.
        for most in 1.. {
            let mut next = reader.next();
            for _ in 0..most {
                polls += 1;
                match futures::poll!(&mut next) {
                    std::task::Poll::Ready(Ok(Read::Batch(batch))) => {
                        all.extend(numbers(&batch).into_iter().map(|(_, n)| n));
                        continue 'tip;
                    }
                    std::task::Poll::Ready(Ok(_)) => break 'tip,
                    std::task::Poll::Ready(Err(error)) => panic!("{error}"),
                    std::task::Poll::Pending => tokio::task::yield_now().await,
                }
            }
        }
    }
    assert_eq!(all, (0..60).collect::<Vec<_>>());
    assert!(polls > 20);
}
