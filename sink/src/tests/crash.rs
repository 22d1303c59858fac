//! A process dies at every call of a publish; another one takes over.

use std::path::PathBuf;

use hydrant_testing::disk::{Death, Loss, Moment, SimWorld};

use super::support::*;

/// Takes the shard over where the lake says, and ends its intervals elsewhere than its predecessor.
async fn second_owner(world: &SimWorld, name: &str, what: &str) {
    let process = ProcessSetup::named(world, name).run().await.unwrap();
    let (mut shard, after) = process.claim("000000").await.unwrap();
    let next = after.next_offset().unwrap();
    assert!([0, 3, 5].contains(&next), "{what}: {next}");
    publish(&mut shard, next..8).await.unwrap();
    let uploads = process.lake.list_uploads().await.unwrap();
    assert!(uploads.is_empty(), "{what}: {uploads:?}");
    assert_eq!(temporaries(world).await, [""; 0], "{what}");
}

/// The temporary files of objects of the chain. Those of the table are removed by the next process.
async fn temporaries(world: &SimWorld) -> Vec<String> {
    let disk = world.process("counter").shared();
    let mut left = vec![PathBuf::from(LAKE).join("_hydrant/.temporary")];
    let mut found = Vec::new();
    while let Some(dir) = left.pop() {
        for listed in disk.list(&dir).await.unwrap() {
            let path = dir.join(listed.name);
            match listed.is_dir {
                true => left.push(path),
                false if path.to_string_lossy().contains("/commits/") => {
                    found.push(path.display().to_string());
                }
                false => {}
            }
        }
    }
    found
}

async fn dies_at(seed: u64, nth: u64, moment: Moment, death: Death) -> bool {
    let what = format!("seed {seed}, call {nth}, {moment:?}, {death:?}");
    let world = world(seed);
    let start = ProcessSetup::named(&world, "first");
    world.die_at("first", nth, moment, death);
    let done = live(start.disk.clone(), first_owner(start)).await;
    if done.is_some() {
        return false;
    }
    second_owner(&world, "second", &what).await;
    // A power cut only undoes what no caller has learnt of: the second owner's work stays.
    world.power_cut(Loss::Everything);
    assert_exactly_once(&world, 0..8, &what).await;
    true
}

async fn first_owner(start: ProcessSetup) {
    let process = start.run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    publish(&mut shard, 0..3).await.unwrap();
    publish(&mut shard, 3..5).await.unwrap();
}

/// Rows are exactly once whenever a process dies: it dies at each call of two publishes.
#[tokio::test(start_paused = true)]
async fn rows_are_there_once_wherever_a_process_dies() {
    for (moment, death) in DEATHS {
        let mut nth = 1;
        while dies_at(nth * 13, nth, moment, death).await {
            nth += 1;
        }
        assert!(nth > 60, "only {nth} calls were tried");
    }
}
