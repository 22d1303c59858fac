//! A writer dies at every call around the start of a new segment.

use hydrant_core::stream::Read;
use hydrant_core::{Context, Position};
use hydrant_testing::disk::{Death, Loss, Moment, SimWorld};

use super::super::fixture::*;
use crate::{Codec, CreateOptions};

const URL: &str = "local:/events";
/// Fills a segment, so that each append but the first starts a new one.
const PER_APPEND: u64 = 40;
const APPENDS: u64 = 4;

async fn write(context: &Context, from: u64) {
    let stream = open(URL, context).await.unwrap();
    let shard = stream.shards().await.unwrap().all()[0].id.clone();
    let writer = stream.writer().await.unwrap();
    for n in from..APPENDS {
        let one = interval("w", from * PER_APPEND, n * PER_APPEND, (n + 1) * PER_APPEND);
        append(&writer, &shard, one).await.unwrap();
    }
}

async fn stored(context: &Context) -> Vec<u64> {
    let stream = open(URL, context).await.unwrap();
    let shard = stream.shards().await.unwrap().all()[0].id.clone();
    let mut reader = reader(&stream, &shard, Position::Begin).await;
    let mut all = Vec::new();
    while let Read::Batch(batch) = reader.next().await.unwrap() {
        all.extend(numbers(&batch).into_iter().map(|(_, n)| n));
    }
    all
}

async fn dies_at(nth: u64, moment: Moment, death: Death) -> bool {
    let world = SimWorld::new(nth);
    let options = CreateOptions {
        codec: Codec::None,
        ..options(1)
    };
    let maker = context_on(world.process("maker").shared(), 1);
    drop(create(URL, options, &maker).await.unwrap());
    let disk = world.process("first");
    world.die_at("first", nth, moment, death);
    let context = context_on(disk.shared(), 2);
    let lived = tokio::select! {
        biased;
        () = disk.died() => false,
        () = write(&context, 0) => true,
    };
    write(&context_on(world.process("second").shared(), 3), 0).await;
    let all = stored(&context_on(world.process("reader").shared(), 4)).await;
    let wanted: Vec<u64> = (1..=APPENDS * PER_APPEND).collect();
    assert_eq!(all, wanted, "call {nth}, {moment:?}, {death:?}");
    !lived
}

#[tokio::test(start_paused = true)]
async fn a_segment_never_knows_records_that_were_not_stored() {
    for moment in [Moment::Before, Moment::After] {
        for death in [Death::Kill, Death::PowerCut(Loss::Some)] {
            let mut nth = 1;
            while dies_at(nth, moment, death).await {
                nth += 1;
            }
            assert!(nth > 40, "only {nth} calls were tried");
        }
    }
}
