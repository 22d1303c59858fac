//! Processes that open or read a stream while others write to it, stand still or may not be disturbed.

use std::io::ErrorKind;
use std::time::Duration;

use hydrant_core::disk::{LockKind, Open};
use hydrant_core::lease::Progress;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::{Behind, Read, SharedStream, Start, StreamWriter};
use hydrant_core::{Disposition, Position};
use hydrant_testing::disk::{Breakpoint, Death, Fault, Loss, Moment, Op, Rule, SimWorld};

use super::fixture::*;
use crate::{Codec, CreateOptions};

const URL: &str = "local:/data/events";
/// Longer than any test.
const STANDS_STILL: Fault = Fault::Hangs(Duration::from_secs(3600));
/// In which an observer is to have its answer.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn opened(world: &SimWorld, name: &str) -> SharedStream {
    let context = context_on(world.process(name).shared(), 7);
    open(URL, &context).await.unwrap()
}

/// A stream with three records, and the process that made it.
async fn made(world: &SimWorld) -> (SharedStream, std::sync::Arc<dyn StreamWriter>) {
    let context = context_on(world.process("writer").shared(), 1);
    let options = CreateOptions {
        codec: Codec::None,
        ..options(1)
    };
    let stream = create(URL, options, &context).await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), interval("w", 0, 0, 3))
        .await
        .unwrap();
    (stream, writer)
}

fn breakpoint(process: &str, op: Op, path: &str, moment: Moment, fault: Fault) -> Breakpoint {
    Breakpoint {
        process: process.to_owned(),
        op,
        path: path.to_owned(),
        moment,
        fault,
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_stands_still_stops_neither_readers_nor_openers() {
    let places = [
        (Op::WriteAt, ".seg", Moment::After, 6),
        (Op::Sync, ".seg", Moment::Before, 6),
        (Op::Sync, ".seg", Moment::After, 6),
        (Op::WriteAt, "control", Moment::Before, 6),
        (Op::RenameNew, ".seg", Moment::Before, 90),
        (Op::RenameNew, ".seg", Moment::After, 90),
        (Op::Sync, "control", Moment::Before, 90),
    ];
    for (op, path, moment, to) in places {
        let world = SimWorld::new(1);
        let (_stream, writer) = made(&world).await;
        let caught = world.set_breakpoint(breakpoint("writer", op, path, moment, STANDS_STILL));
        let ticket = writer.submit(&first(), interval("w", 0, 3, to)).await;
        let ticket = tokio::spawn(ticket.unwrap());
        caught.await.unwrap();
        let look = async {
            let stream = opened(&world, "observer").await;
            let tip = Position::offset(2);
            // At the end of these places the control file says already that the rest is durable.
            let state = stream.state(&first()).await.unwrap();
            assert!(state.tip >= Some(tip), "{op:?}: {state:?}");
            assert!(stream.start(&first(), Start::Latest).await.unwrap().to >= tip);
            let stored = stored(&stream, &first()).await;
            assert_eq!(stored[..3], [1, 2, 3], "{op:?}");
            for after in [Position::Begin, Position::offset(1), tip] {
                let before = world.calls("observer");
                drop(reader(&stream, &first(), after).await);
                let calls = world.calls("observer") - before;
                assert!(calls <= 10, "{op:?}: opening again made {calls} calls");
            }
        };
        let looked = tokio::time::timeout(AT_ONCE, look).await;
        looked.unwrap_or_else(|_| panic!("{op:?} on {path}: an observer waits for the writer"));
        world.resume("writer");
        ticket.await.unwrap().unwrap();
        let stream = opened(&world, "later").await;
        assert_eq!(
            stored(&stream, &first()).await,
            (1..=to).collect::<Vec<_>>()
        );
    }
}

/// A power cut takes back what the control file said, and the process that makes that good stands still: a position
/// that was read before is not taken for one of another stream.
#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_a_recovery_that_it_needs() {
    let world = SimWorld::new(4);
    let (_stream, writer) = made(&world).await;
    append(&writer, &first(), interval("w", 0, 3, 6))
        .await
        .unwrap();
    world.power_cut(Loss::Everything);
    let caught = world.set_breakpoint(breakpoint(
        "repairer",
        Op::Sync,
        ".seg",
        Moment::Before,
        STANDS_STILL,
    ));
    let recovery = tokio::spawn({
        let world = world.clone();
        async move { drop(opened(&world, "repairer").await) }
    });
    caught.await.unwrap();
    let stream = opened(&world, "observer").await;
    let shard = first();
    let mut open = Box::pin(opened_after(&stream, &shard, Position::offset(5)));
    let early = tokio::time::timeout(AT_ONCE, &mut open).await;
    assert!(early.is_err(), "{early:?}");
    world.resume("repairer");
    recovery.await.unwrap();
    open.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_may_not_lock_reads_what_is_durable() {
    let world = SimWorld::new(1);
    let (stream, writer) = made(&world).await;
    let dies = Fault::Dies(Death::Kill);
    let caught = world.set_breakpoint(breakpoint("writer", Op::Sync, ".seg", Moment::Before, dies));
    let ticket = writer
        .submit(&first(), interval("w", 0, 3, 6))
        .await
        .unwrap();
    let ticket = tokio::spawn(ticket);
    caught.await.unwrap();
    for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
        world.heal();
        for op in [Op::Lock, Op::WriteAt, Op::Truncate] {
            world.fail(Rule {
                kind,
                ..Rule::always(op, "shards")
            });
        }
        let observer = opened(&world, "observer").await;
        assert_eq!(stored(&observer, &first()).await, [1, 2, 3]);
        let beyond = opened_after(&observer, &first(), Position::offset(99)).await;
        let beyond = beyond.unwrap_err();
        let retry = matches!(beyond.disposition(), Disposition::Retry { .. });
        assert!(retry && beyond.to_string().contains("needs recovery"));
    }
    // Once it is recovered, what lies beyond is lost.
    world.heal();
    let observer = opened(&world, "owner").await;
    let beyond = opened_after(&observer, &first(), Position::offset(99)).await;
    let beyond = beyond.unwrap_err();
    assert!(beyond.to_string().contains("after the end"), "{beyond}");
    drop((stream, ticket));
}

/// What origins began in cannot be said while the control file cannot be read: it is not said to be nothing.
#[tokio::test(start_paused = true)]
async fn where_origins_began_is_not_said_of_a_control_file_that_cannot_be_read() {
    let world = SimWorld::new(1);
    let (stream, writer) = made(&world).await;
    let mut later = interval("later", 9, 9, 12);
    if let Some(entry) = &mut later.entry {
        entry.start = Position::offset(9);
    }
    append(&writer, &first(), later).await.unwrap();
    let begun = writer.begun(&first()).await.unwrap();
    assert_eq!(begun[0].start, Position::offset(9));
    // A living process holds the lock, and will mend both slots.
    let other = world.process("other").shared();
    let shard = home(&*other, "/data/events").await.join("shards/000000");
    let lock = other.lock(&shard.join("lock"), LockKind::Exclusive).await;
    let control = other.open(&shard.join("control"), Open::Write).await;
    let torn = vec![vec![0xff; 1024].into()];
    control.unwrap().write_at(0, torn).await.unwrap();
    let begun = writer.begun(&first()).await.unwrap_err();
    let retry = matches!(begun.disposition(), Disposition::Retry { .. });
    assert!(
        retry && begun.to_string().contains("needs recovery"),
        "{begun}"
    );
    drop(lock);
    let begun = writer.begun(&first()).await.unwrap();
    assert_eq!(begun[0].start, Position::offset(9));
    drop(stream);
}

/// A reshard died; a reader sees that it had begun. Before it looks into the manifest another process completes it,
/// appends, and another reshard closes the shard. Answers what the reader reads up to the end.
async fn reads_to_the_end_of_a_shard_closed_meanwhile() -> Vec<u64> {
    let world = SimWorld::new(1);
    let (stream, writer) = made(&world).await;
    let dies = Fault::Dies(Death::Kill);
    let caught = world.set_breakpoint(breakpoint(
        "splitter",
        Op::Open,
        "shards/000001/lock",
        Moment::Before,
        dies,
    ));
    let split = tokio::spawn({
        let stream = opened(&world, "splitter").await;
        async move { stream.admin().split(&first(), None).await }
    });
    caught.await.unwrap();
    // Not through a new process, which would complete it at once.
    let observer = {
        let quiet = Rule {
            kind: ErrorKind::PermissionDenied,
            ..Rule::always(Op::Lock, "shards/000000")
        };
        world.fail(quiet);
        let observer = opened(&world, "observer").await;
        world.heal();
        observer
    };
    let mut reader = reader(&observer, &first(), Position::Begin).await;
    let mut all: Vec<u64> = read_all(&mut reader)
        .await
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    let caught = world.set_breakpoint(breakpoint(
        "observer",
        Op::Stat,
        "manifest.json",
        Moment::Before,
        STANDS_STILL,
    ));
    let rest = tokio::spawn(async move {
        let mut rest = Vec::new();
        loop {
            match reader.next().await.unwrap() {
                Read::Batch(batch) => rest.extend(numbers(&batch).into_iter().map(|(_, n)| n)),
                Read::Idle { .. } => {}
                Read::End { .. } => return rest,
                gap @ Read::Gap { .. } => panic!("{gap:?}"),
            }
        }
    });
    // It looks at the control file again, which says the same.
    let other = world.process("other").shared();
    let shard = home(&*other, "/data/events").await.join("shards/000000");
    let control = other.open(&shard.join("control"), Open::Write).await;
    let control = control.unwrap();
    let bytes = control.read_at(0, 1024).await.unwrap();
    control.write_at(0, vec![bytes]).await.unwrap();
    caught.await.unwrap();
    append(&writer, &first(), interval("w", 0, 3, 6))
        .await
        .unwrap();
    stream.admin().split(&first(), None).await.unwrap();
    world.resume("observer");
    all.extend(rest.await.unwrap());
    drop(split);
    all
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_is_read_to_the_end_that_it_has() {
    let all = reads_to_the_end_of_a_shard_closed_meanwhile().await;
    assert_eq!(all, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_shard_ended_on_a_stale_control_file_is_cut_short() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let all = mutant::with(Some(Mutant::EndedOnStaleControl), || {
        runtime.block_on(reads_to_the_end_of_a_shard_closed_meanwhile())
    });
    assert_eq!(all, [1, 2, 3]);
}

/// The disk calls of a worker that takes over and uses each of so many shards.
async fn calls_of_a_take_over(shards: u32) -> u64 {
    let world = SimWorld::new(1);
    let maker = context_on(world.process("maker").shared(), 1);
    drop(create(URL, options(shards), &maker).await.unwrap());
    let stream = opened(&world, "worker").await;
    let writer = stream.writer().await.unwrap();
    // The manifest was read, and is the same.
    world.fail(Rule::always(Op::ReadAt, "manifest.json"));
    for shard in stream.shards().await.unwrap().all() {
        let id = &shard.id;
        let tip = stream.state(id).await.unwrap().tip;
        assert_eq!(tip, Some(Position::Begin));
        stream.start(id, Start::Earliest).await.unwrap();
        let mut reader = reader(&stream, id, Position::Begin).await;
        assert!(matches!(reader.next().await.unwrap(), Read::Idle { .. }));
        let p = Position::Begin;
        append(&writer, id, tracked("w", p, p, Position::offset(1), &[]))
            .await
            .unwrap();
    }
    world.calls("worker")
}

#[tokio::test(start_paused = true)]
async fn a_take_over_costs_as_much_a_shard_with_many_shards_as_with_few() {
    let (few, many) = (
        calls_of_a_take_over(64).await,
        calls_of_a_take_over(256).await,
    );
    assert!(many <= 4 * few, "{few} calls for 64 shards, {many} for 256");
}

/// What a shard holds is not known while no slot of its control file is intact: it is not taken for an empty one.
#[tokio::test(start_paused = true)]
async fn a_shard_whose_end_is_unreadable_is_not_an_empty_one() {
    let world = SimWorld::new(6);
    made(&world).await;
    let stream = opened(&world, "observer").await;
    let disk = world.process("holder").shared();
    let home = home(&*disk, "/data/events").await;
    let shard = home.join("shards").join(first().as_str());
    let lock = shard.join("lock");
    let lock = disk.try_lock(&lock, LockKind::Exclusive).await.unwrap();
    let control = shard.join("control");
    let control = disk.open(&control, Open::Write).await.unwrap();
    let torn = vec![vec![0xFF; 1024].into()];
    control.write_at(0, torn).await.unwrap();
    let state = stream.state(&first()).await.unwrap();
    assert_eq!((state.tip, state.records), (None, None));
    let begun = Progress::default();
    let unknown = stream.behind(&first(), &begun).await.unwrap_err();
    assert!(matches!(unknown.disposition(), Disposition::Retry { .. }));
    // The holder of the lock is the one that can make it good.
    let unknown = stream.start(&first(), Start::Latest).await.unwrap_err();
    assert!(matches!(unknown.disposition(), Disposition::Retry { .. }));
    drop(lock);
    let start = stream.start(&first(), Start::Latest).await.unwrap();
    assert_eq!(start.to, Position::offset(2));
    assert_eq!(stream.state(&first()).await.unwrap().tip, Some(start.to));
    assert_eq!(
        stream.behind(&first(), &begun).await.unwrap(),
        Behind::Records(3)
    );
}
