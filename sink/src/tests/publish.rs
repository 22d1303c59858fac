//! What stands in the lake after publishes.

use hydrant_core::Position;
use hydrant_core::stage::Flush;
use hydrant_core::stream::Read;

use super::support::*;

#[tokio::test]
async fn records_become_rows_in_the_partitions_of_their_event_times() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, after) = process.claim("000000").await.unwrap();
    assert_eq!(after, Position::Begin);
    let progress = publish(&mut shard, 0..20).await.unwrap();
    assert_eq!(progress.to, Position::offset(19));
    let progress = publish(&mut shard, 20..25).await.unwrap();
    assert_eq!(progress.to, Position::offset(24));
    assert_exactly_once(&world, 0..25, "").await;
    let files = process.lake.list(&names().data()).await.unwrap();
    assert_eq!(files.len(), 4, "{files:?}");
    assert!(
        files
            .iter()
            .all(|file| file.key.starts_with("devices/date=2026-11-"))
    );
    assert!(process.lake.list_uploads().await.unwrap().is_empty());
    assert_eq!(process.context.budget.held_bytes(), 0);
}

#[tokio::test]
async fn an_ended_shard_says_so_after_its_last_rows() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    shard
        .push(Read::Batch(batch(0, &payloads(0..5))))
        .await
        .unwrap();
    shard
        .push(Read::End {
            children: Vec::new(),
            marks: Vec::new(),
        })
        .await
        .unwrap();
    assert_eq!(shard.due(hydrant_core::clock::now()), Some(Flush::End));
    let progress = shard.publish(Flush::End).await.unwrap();
    assert_eq!(progress.to, Position::End);
    let (_, after) = process.claim("000000").await.unwrap();
    assert_eq!(after, Position::End);
    assert_exactly_once(&world, 0..5, "").await;
}
