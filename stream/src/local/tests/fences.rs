//! A writer stands still, and another one continues by fencing the shard.

mod every_call;
mod faults;
mod made_again;
mod makers;
mod parts;
mod power_cuts;
mod slow_disk;
mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hydrant_core::disk::Disk;
use hydrant_core::stream::{SharedStream, StreamWriter};
use hydrant_core::{Error, Position};
use hydrant_testing::disk::{Breakpoint, Fault, Moment, Op, SimWorld};
use tokio::task::JoinHandle;

use super::crashes::{SeenRecords, look};
use super::fixture::*;
use crate::{Codec, CreateOptions};

const URL: &str = "local:/data/events";
/// Longer than any test.
const STANDS_STILL: Fault = Fault::Hangs(Duration::from_secs(3600));
/// The time in which another writer continues.
const IN_TIME: Duration = Duration::from_secs(5);
/// In which an observer is to have its answer.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Records of an append that fits beside others into a segment.
const FEW: u64 = 6;
/// Records of an append that starts a new segment.
const MANY: u64 = 45;
/// The numbers of records that are trimmed, and those of the other writer, begin here.
const TRIMMED: u64 = 10_000;
const OTHERS: u64 = 1_000;

async fn opened(world: &SimWorld, name: &str, seed: u64) -> SharedStream {
    let context = context_on(world.process(name).shared(), seed);
    open(URL, &context).await.unwrap()
}

/// A stream whose oldest segment holds what will be trimmed.
async fn made(world: &SimWorld) {
    let context = context_on(world.process("maker").shared(), 1);
    let options = CreateOptions {
        codec: Codec::None,
        ..options(1)
    };
    let stream = create(URL, options, &context).await.unwrap();
    let mut maker = Sender::of(stream, "maker", TRIMMED).await;
    maker.send(MANY).await.unwrap();
    maker.send(MANY).await.unwrap();
}

/// A writer that sends its records in order, as a lane does: what meets a closed shard goes to its children.
struct Sender {
    stream: SharedStream,
    writer: Arc<dyn StreamWriter>,
    name: &'static str,
    low: u64,
    /// Up to where it knows that all is stored.
    done: Arc<AtomicU64>,
}

impl Sender {
    async fn of(stream: SharedStream, name: &'static str, from: u64) -> Self {
        Sender {
            writer: stream.writer().await.unwrap(),
            stream,
            name,
            low: from,
            done: Arc::new(AtomicU64::new(from)),
        }
    }

    async fn send(&mut self, records: u64) -> hydrant_core::Result<()> {
        let from = self.done.load(Ordering::SeqCst);
        let to = from + records;
        let p = |n: u64| {
            if n == 0 {
                Position::Begin
            } else {
                Position::offset(n)
            }
        };
        'again: loop {
            let map = self.stream.shards().await?;
            let mut tickets = Vec::new();
            for shard in map.open() {
                let here = (from + 1..=to).filter(|n| shard.range.contains(route(*n)));
                let here: Vec<u64> = here.collect();
                let append = tracked(self.name, p(self.low), p(from), p(to), &here);
                match self.writer.submit(&shard.id, append).await {
                    Ok(ticket) => tickets.push(ticket),
                    Err(Error::Sealed { .. }) => continue 'again,
                    Err(error) => return Err(error),
                }
            }
            let mut is_closed = false;
            for ticket in tickets {
                match ticket.await {
                    Ok(_) => {}
                    Err(Error::Sealed { .. }) => is_closed = true,
                    Err(error) => return Err(error),
                }
            }
            if !is_closed {
                self.done.store(to, Ordering::SeqCst);
                return Ok(());
            }
        }
    }
}

fn breakpoint(process: &str, op: Op, path: &str, moment: Moment) -> Breakpoint {
    Breakpoint {
        process: process.to_owned(),
        op,
        path: path.to_owned(),
        moment,
        fault: STANDS_STILL,
    }
}

/// The first writer stands still at a call of an append, with this much of its origin stored before.
struct Stopped {
    world: SimWorld,
    second: Sender,
    done: Arc<AtomicU64>,
    appends: JoinHandle<()>,
}

async fn stopped(op: Op, path: &str, moment: Moment) -> Stopped {
    let world = SimWorld::new(1);
    made(&world).await;
    let second = opened(&world, "second", 3).await;
    let second = Sender::of(second, "second", OTHERS).await;
    let stream = opened(&world, "first", 2).await;
    let mut sender = Sender::of(stream, "first", 0).await;
    for _ in 0..2 {
        sender.send(FEW).await.unwrap();
    }
    let done = Arc::clone(&sender.done);
    let caught = world.set_breakpoint(breakpoint("first", op, path, moment));
    let appends = tokio::spawn(async move { sender.send(FEW).await.unwrap() });
    caught.await.unwrap();
    Stopped {
        world,
        second,
        done,
        appends,
    }
}

/// What is stored of both, for a process that opens the stream now.
async fn stored_now(world: &SimWorld) -> Vec<u64> {
    let stream = opened(world, "judge", 9).await;
    let mut all = look(&stream, &mut SeenRecords::new()).await;
    all.retain(|n| *n < TRIMMED);
    all.sort_unstable();
    all
}

fn both(first: u64, second: u64) -> Vec<u64> {
    (1..=first).chain(OTHERS + 1..=OTHERS + second).collect()
}

/// The names in a directory of the stream's home, with the bytes of each.
async fn names(world: &SimWorld, dir: &str) -> Vec<(String, u64)> {
    let probe = world.process("probe");
    let path = home(&probe, "/data/events").await.join(dir);
    let listed = probe.list(&path).await.unwrap();
    listed.into_iter().map(|l| (l.name, l.len)).collect()
}
