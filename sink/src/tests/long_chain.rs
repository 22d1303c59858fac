//! What an owner of a chain costs that has grown for years: the first names of its records, never all of them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::disk::{Disk, Listed, SharedDisk};
use hydrant_core::lake::SharedLake;
use hydrant_testing::layer::{DiskLayer, Layered};

use super::support::*;
use crate::lake::{Chain, FileLake};

/// Panics when all records of a chain are listed.
#[derive(Debug)]
struct NeverAll(SharedDisk);

#[async_trait]
impl DiskLayer for NeverAll {
    fn below(&self) -> &dyn Disk {
        &*self.0
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        assert!(!path.ends_with("r"), "all of `{}`", path.display());
        self.0.list(path).await
    }
}

#[tokio::test]
async fn an_owner_of_a_long_chain_lists_its_first_names_only() {
    const RECORDS: u64 = 20;
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    for n in 0..RECORDS {
        publish(&mut shard, n..n + 1).await.unwrap();
    }
    let disk = Arc::new(Layered(NeverAll(world.process("b").shared())));
    let context = context_on(disk, 5, 1 << 20);
    let lake: SharedLake = Arc::new(FileLake::open(Path::new(LAKE), &context).await.unwrap());
    let chain = Chain::new(&lake, &names(), &stream_id(), &"000000".into());
    assert_eq!(chain.tip().await.unwrap().slot(), RECORDS);
    // Nor does who verifies it.
    let mut visited = 0;
    let mut seen = |_| visited += 1;
    lake.visit(&chain.names.records(), &mut seen).await.unwrap();
    assert_eq!(visited, RECORDS);
    // Whatever lies under a prefix, the first objects are the first of all.
    for prefix in [chain.names.records(), names().system(), names().data()] {
        let all = looker(&world).await.list(&prefix).await.unwrap();
        assert!(!all.is_empty(), "{prefix}");
        for most in [1, 3, all.len(), all.len() + 9] {
            let first = looker(&world).await.page(&prefix, "", most).await;
            assert_eq!(first.unwrap(), all[..most.min(all.len())], "{prefix}");
        }
        let mut visited = Vec::new();
        let mut seen = |object| visited.push(object);
        looker(&world)
            .await
            .visit(&prefix, &mut seen)
            .await
            .unwrap();
        visited.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(visited, all, "{prefix}");
    }
}
