//! Two sessions of one process send the same append, and the machine dies.
//!
//! In the pipeline, a session starts only after its predecessor got all answers. Here both sessions run at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::batch::{Entry, Span};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::origin::{Origin, OriginEntry, WriterId};
use hydrant_core::stream::{Append, ClaimedRange, OpenAt, Read, SharedStream};
use hydrant_core::{
    Batch, Budget, Context, HashRange, Position, Random, Result, Sequence, ShardId, Workers,
};
use hydrant_stream::{CreateOptions, Streams};
use hydrant_testing::disk::{Death, Loss, Moment, SimDisk, SimWorld};

use super::plan::Log;

/// The number of appends; two sessions send each.
const APPENDS: u64 = 6;

fn context(disk: &SimDisk, seed: u64) -> Context {
    let clock = hydrant_testing::clock::ManualClock::new(1);
    Context {
        disk: disk.shared(),
        clock: Arc::new(clock),
        random: Random::seeded(seed),
        workers: Workers::Inline,
        budget: Budget::new(1 << 20),
    }
}

fn append(n: u64) -> Append {
    let payload = Bytes::from(format!("record {n}"));
    let entry = Entry {
        segment: 0,
        key: None,
        payload: Span::new(0, payload.len() as u32),
        stamp: 0,
    };
    let position = |n: u64| n.checked_sub(1).map_or(Position::Begin, Position::offset);
    let origin = Origin {
        sequence: Sequence::from(n),
        sub: 0,
        index: 0,
    };
    Append {
        batch: Arc::new(Batch {
            segments: Arc::new([payload]),
            records: vec![entry],
            ..Batch::default()
        }),
        record_indexes: [0].into(),
        routes: [HashRange::ALL.first].into(),
        explicit: true,
        entry: Some(OriginEntry {
            writer: WriterId::of_name("w"),
            shard: ShardId::new("input"),
            low: Position::Begin,
            from: position(n),
            to: position(n + 1),
            origins: [origin].into_iter().collect(),
            start: Position::Begin,
            account: None,
        }),
        claims: vec![ClaimedRange {
            range: HashRange::ALL,
            from: position(n),
        }],
        ..Append::default()
    }
}

/// Runs one session, and notes how many appends were acknowledged.
async fn session(stream: &SharedStream, acked: &std::cell::Cell<u64>) -> Result<()> {
    let shard = stream.shards().await?.all()[0].id.clone();
    let writer = stream.writer().await?;
    for n in 0..APPENDS {
        writer.submit(&shard, append(n)).await?.await?;
        acked.set(acked.get().max(n + 1));
    }
    Ok(())
}

/// The number of acknowledged records that are missing after a power cut at a call that `seed` decides.
fn lost(seed: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let world = SimWorld::new(seed);
        let options = CreateOptions {
            linger: Duration::from_millis(5),
            ..CreateOptions::default()
        };
        let url = Log::Raw.url();
        let maker = context(&world.process("maker"), 1);
        let made = hydrant_stream::local::create(Log::Raw.dir(), &options, &maker).await;
        assert!(made.expect("an empty disk takes a stream"));
        world.set_sync_time(Duration::from_millis(1));
        let disk = world.process("writer");
        let calls = 1 + seed % 100;
        let death = Death::PowerCut(Loss::Everything);
        world.die_at("writer", calls, Moment::Before, death);
        let acked = std::cell::Cell::new(0);
        let writing = async {
            let stream = Streams::default().open(url, &context(&disk, 2)).await?;
            let (one, other) = (session(&stream, &acked), session(&stream, &acked));
            futures::future::try_join(one, other).await
        };
        tokio::select! {
            biased;
            () = disk.died() => {}
            done = writing => drop(done.expect("nothing fails but the power")),
        }
        let reader = context(&world.process("reader"), 3);
        let stream = Streams::default()
            .open(url, &reader)
            .await
            .expect("the stream opens");
        let shard = ShardId::new("000000");
        let at = OpenAt::after(Position::Begin);
        let opened = stream.reader(&shard, at, &reader.budget).await;
        let mut tail = opened.expect("the shard opens");
        let mut found = 0;
        while let Read::Batch(batch) = tail.next().await.expect("the shard reads") {
            found += batch.len() as u64;
        }
        acked.get().saturating_sub(found)
    })
}

#[test]
fn a_duplicate_is_acknowledged_only_when_its_first_copy_is_durable() {
    assert!((0..100).all(|seed| lost(seed) == 0));
}

#[test]
fn kills_a_duplicate_acknowledged_before_it_is_durable() {
    let mutant = Some(Mutant::DuplicateAcknowledgedEarly);
    let is_killed = |seed| mutant::with(mutant, || lost(seed) > 0);
    assert!((0..100).any(is_killed), "the mutant survives 100 seeds");
}
