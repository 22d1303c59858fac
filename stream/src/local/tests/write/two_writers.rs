//! Two processes append to one shard, and one of them dies at any call.

use hydrant_core::Context;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::{SharedStream, StreamWriter};
use hydrant_testing::disk::{Breakpoint, Death, Fault, Loss, Moment, Op, SimWorld};

use super::super::fixture::*;
use crate::{Codec, CreateOptions};

const URL: &str = "local:/events";
/// Records of an append that fits beside others into a segment.
const FEW: u64 = 15;
/// Records of an append that starts a new segment unless it comes first.
const MANY: u64 = 45;

/// A stream of small segments without compression.
async fn made(world: &SimWorld) {
    let options = CreateOptions {
        codec: Codec::None,
        ..options(1)
    };
    let maker = context_on(world.process("maker").shared(), 1);
    drop(create(URL, options, &maker).await.unwrap());
}

/// A process that appends in the name of one origin, which knows what was acknowledged.
struct Appender {
    name: &'static str,
    stream: SharedStream,
    writer: std::sync::Arc<dyn StreamWriter>,
    done: u64,
}

impl Appender {
    async fn new(world: &SimWorld, name: &'static str, seed: u64) -> Self {
        let context = context_on(world.process(name).shared(), seed);
        let stream = open(URL, &context).await.unwrap();
        let writer = stream.writer().await.unwrap();
        Appender {
            name,
            stream,
            writer,
            done: 0,
        }
    }

    async fn append(&mut self, records: u64) {
        let to = self.done + records;
        let next = interval(self.name, 0, self.done, to);
        append(&self.writer, &first(), next).await.unwrap();
        self.done = to;
    }
}

/// What is stored of both origins, for a process that opens the stream now. Both count their records from 1.
async fn stored_by_all(world: &SimWorld) -> Vec<u64> {
    let context: Context = context_on(world.process("reader").shared(), 9);
    let stream = open(URL, &context).await.unwrap();
    stored(&stream, &first()).await
}

/// How often the records up to `done` are there, which two origins have appended as far as they know.
fn copies(stored: &[u64], n: u64) -> usize {
    stored.iter().filter(|one| **one == n).count()
}

/// B appends between appends of A, several in a row, and dies at its call `nth`; A continues. Answers whether B died.
async fn dies_at(nth: u64, moment: Moment, death: Death) -> bool {
    let world = SimWorld::new(nth);
    made(&world).await;
    let mut a = Appender::new(&world, "a", 2).await;
    let disk = world.process("b");
    world.die_at("b", nth, moment, death);
    a.append(FEW).await;
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    let together = async {
        let context = context_on(disk.shared(), 3);
        let stream = open(URL, &context).await.unwrap();
        let writer = stream.writer().await.unwrap();
        let mut done = 0;
        for _ in 0..4 {
            for records in [FEW, MANY] {
                let next = interval("b", 0, done, done + records);
                append(&writer, &first(), next).await.unwrap();
                done += records;
                acknowledged.store(done, std::sync::atomic::Ordering::SeqCst);
            }
            a.append(FEW).await;
        }
    };
    let lived = tokio::select! {
        biased;
        () = disk.died() => false,
        () = together => true,
    };
    let by_b = acknowledged.load(std::sync::atomic::Ordering::SeqCst);
    let mut by_a = a.done;
    if matches!(death, Death::Kill) {
        for _ in 0..2 {
            a.append(FEW).await;
        }
        by_a = a.done;
    }
    let stored = stored_by_all(&world).await;
    for n in 1..=by_a.max(by_b) {
        let wanted = usize::from(n <= by_a) + usize::from(n <= by_b);
        let found = copies(&stored, n);
        assert!(
            (wanted..=2).contains(&found),
            "call {nth}, {moment:?}, {death:?}: record {n} is there {found} times, {wanted} were acknowledged"
        );
    }
    if matches!(death, Death::Kill) {
        assert_eq!(stored, self::stored(&a.stream, &first()).await);
    }
    !lived
}

#[tokio::test(start_paused = true)]
async fn an_appender_loses_nothing_when_the_other_one_dies_at_any_call() {
    for moment in [Moment::Before, Moment::After] {
        for death in [Death::Kill, Death::PowerCut(Loss::Some)] {
            let mut nth = 1;
            while dies_at(nth, moment, death).await {
                nth += 1;
            }
            assert!(nth > 60, "only {nth} calls were tried");
        }
    }
}

#[test]
fn a_leftover_that_is_overlooked_loses_what_was_acknowledged() {
    let is_killed = |nth| {
        let tried = std::panic::catch_unwind(|| {
            mutant::with(Some(Mutant::LeftoverOverlooked), || {
                paused().block_on(dies_at(nth, Moment::After, Death::Kill))
            })
        });
        match tried {
            Ok(true) => Some(false),
            Ok(false) => None,
            Err(_) => Some(true),
        }
    };
    assert!(
        (1..).map_while(is_killed).any(|killed| killed),
        "it survives"
    );
}

/// A knows the first append of B not yet when B names the next segment and dies. Answers what A knows to be stored.
async fn named_and_died() -> (SimWorld, Appender) {
    let world = SimWorld::new(1);
    made(&world).await;
    let mut a = Appender::new(&world, "a", 2).await;
    a.append(FEW).await;
    let mut b = Appender::new(&world, "b", 3).await;
    b.append(FEW).await;
    let died = world.set_breakpoint(Breakpoint {
        process: "b".to_owned(),
        op: Op::RenameNew,
        path: ".seg".to_owned(),
        moment: Moment::After,
        fault: Fault::Dies(Death::Kill),
    });
    tokio::select! {
        biased;
        caught = died => assert_eq!(caught.unwrap().process, "b"),
        () = b.append(MANY) => panic!("no segment was named"),
    }
    a.append(FEW).await;
    (world, a)
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_a_dead_holder_named_is_found_after_catching_up() {
    let (world, a) = named_and_died().await;
    let stored = stored_by_all(&world).await;
    for n in 1..=a.done {
        assert!(copies(&stored, n) >= 1, "record {n} of a is lost");
    }
    // B's second append was written whole, and is kept once.
    assert_eq!(stored.len() as u64, 3 * FEW + MANY);
}

/// A build that overlooked the segment has acknowledged records below the offset at which it begins: no process continues as
/// if they had never been there.
#[test]
fn a_segment_that_begins_below_the_durable_end_is_refused() {
    let runtime = paused();
    let (world, a) = mutant::with(Some(Mutant::LeftoverOverlooked), || {
        runtime.block_on(named_and_died())
    });
    runtime.block_on(async {
        drop(a);
        let context = context_on(world.process("c").shared(), 4);
        let stream = open(URL, &context).await.unwrap();
        let begin = hydrant_core::Position::Begin;
        let error = opened_after(&stream, &first(), begin).await.unwrap_err();
        assert!(
            matches!(error, hydrant_core::Error::Corrupt { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("durable end"), "{error}");
    });
}
