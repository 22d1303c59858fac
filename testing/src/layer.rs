//! Doubles that change a few answers of a seam: a layer says what it lies on and what it answers itself.
//!
//! [`Layered`] passes on every method of the seam, those with a default included, so that none that is added later goes
//! past a double unnoticed.

use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use hydrant_core::admin::Admin;
use hydrant_core::budget::Budget;
use hydrant_core::disk::{Disk, DiskFile, Listed, Lock, LockKind, Open, SharedDisk, Stat, Watch};
use hydrant_core::error::Result;
use hydrant_core::hash::Routing;
use hydrant_core::lake::{Lake, Object, Put, Reveal, Sealed, Upload};
use hydrant_core::lease::{Lease, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId, ShardMap, StreamId};
use hydrant_core::stage::{Flush, Opened, Output, Scope, ShardStage, Stage};
use hydrant_core::stream::{
    Append, Assignment, Begun, Behind, Join, KeyRule, OpenAt, ShardReader, ShardState, Start,
    Stream, StreamWriter, Ticket,
};
use hydrant_core::subscription::ClaimId;

/// A seam with a layer on it.
#[derive(Debug)]
pub struct Layered<L>(pub L);

impl<L> Deref for Layered<L> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.0
    }
}

macro_rules! layer {
    (
        $layer:ident on $seam:ident {
            $(fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*
            $(async fn $later:ident($($given:ident: $kind:ty),*) -> $answer:ty;)*
        }
    ) => {
        #[doc = concat!("A layer on a [`", stringify!($seam), "`].")]
        #[async_trait]
        pub trait $layer: Send + Sync + fmt::Debug {
            /// What answers where the layer does not.
            fn below(&self) -> &dyn $seam;
            $(
                #[doc = concat!("See [`", stringify!($seam), "::", stringify!($name), "`].")]
                fn $name(&self, $($arg: $type),*) -> $out {
                    self.below().$name($($arg),*)
                }
            )*
            $(
                #[doc = concat!("See [`", stringify!($seam), "::", stringify!($later), "`].")]
                async fn $later(&self, $($given: $kind),*) -> $answer {
                    self.below().$later($($given),*).await
                }
            )*
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<L: $layer> $seam for Layered<L> {
            $(
                fn $name(&self, $($arg: $type),*) -> $out {
                    self.0.$name($($arg),*)
                }
            )*
            $(
                async fn $later(&self, $($given: $kind),*) -> $answer {
                    self.0.$later($($given),*).await
                }
            )*
        }
    };
}

layer! {
    StreamLayer on Stream {
        fn id() -> &StreamId;
        fn url() -> &str;
        fn states_every() -> Duration;
        fn before(record: Position) -> Option<Position>;
        fn admin() -> Admin;
        async fn shards() -> Result<ShardMap>;
        async fn shards_changed() -> Result<()>;
        async fn states() -> Result<Vec<ShardState>>;
        async fn state(shard: &ShardId) -> Result<ShardState>;
        async fn behind(shard: &ShardId, after: &Progress) -> Result<Behind>;
        async fn start(shard: &ShardId, start: Start) -> Result<Progress>;
        async fn reader(shard: &ShardId, at: OpenAt, budget: &Budget) -> Result<Box<dyn ShardReader>>;
        async fn writer() -> Result<Arc<dyn StreamWriter>>;
        async fn assignment(join: &Join) -> Result<Assignment>;
        async fn apps() -> Result<Vec<String>>;
        async fn app_progress(app: &str) -> Result<Vec<Lease>>;
    }
}

layer! {
    WriterLayer on StreamWriter {
        fn checks_appends() -> bool;
        fn reorders_within() -> Duration;
        fn routing() -> Routing;
        fn keys() -> KeyRule;
        fn keeps_headers() -> bool;
        fn record_bytes_max() -> usize;
        fn append_bytes_target() -> usize;
        async fn submit(shard: &ShardId, append: Append) -> Result<Ticket>;
        async fn begun(shard: &ShardId) -> Result<Vec<Begun>>;
    }
}

layer! {
    StageLayer on Stage {
        fn scope() -> Scope;
        fn output() -> Option<Output>;
        async fn resume(shard: &Shard) -> Result<Option<Progress>>;
        async fn published_to(shard: &Shard) -> Result<Option<Position>>;
        async fn open(claim: Opened) -> Result<Box<dyn ShardStage>>;
        async fn publish_all(why: Flush) -> Result<Vec<(ClaimId, Progress)>>;
    }
}

layer! {
    LakeLayer on Lake {
        fn url() -> &str;
        async fn put_new(key: &str, body: Bytes) -> Result<Put>;
        async fn upload(key: &str) -> Result<Box<dyn Upload>>;
        async fn reveal(sealed: &Sealed) -> Result<Reveal>;
        async fn discard(upload: &str) -> Result<()>;
        async fn get(key: &str) -> Result<Option<Bytes>>;
        async fn get_range(key: &str, range: Range<u64>) -> Result<Option<Bytes>>;
        async fn head(key: &str) -> Result<Option<Object>>;
        async fn page(prefix: &str, after: &str, most: usize) -> Result<Vec<Object>>;
        async fn list(prefix: &str) -> Result<Vec<Object>>;
        async fn visit(prefix: &str, seen: &mut (dyn FnMut(Object) + Send)) -> Result<()>;
        async fn list_dirs(prefix: &str) -> Result<Vec<String>>;
        async fn list_uploads() -> Result<Vec<(String, String)>>;
        async fn tidy(prefix: &str) -> Result<()>;
        async fn delete_many(keys: &[String]) -> Result<()>;
        async fn delete(key: &str) -> Result<()>;
    }
}

layer! {
    DiskLayer on Disk {
        fn at_once(work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()>;
        fn by_umask() -> Option<SharedDisk>;
        fn apart(place: &Path) -> Option<SharedDisk>;
        async fn open(path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
        async fn create_dir_all(path: &Path) -> io::Result<()>;
        async fn make_dirs(path: &Path) -> io::Result<()>;
        async fn list(path: &Path) -> io::Result<Vec<Listed>>;
        async fn first(path: &Path, after: &str, most: usize) -> io::Result<Vec<Listed>>;
        async fn stat(path: &Path) -> io::Result<Option<Stat>>;
        async fn remove(path: &Path) -> io::Result<()>;
        async fn remove_dir(path: &Path) -> io::Result<()>;
        async fn rename(from: &Path, to: &Path) -> io::Result<()>;
        async fn rename_new(from: &Path, to: &Path) -> io::Result<()>;
        async fn link_new(from: &Path, to: &Path) -> io::Result<()>;
        async fn sync_dir(path: &Path) -> io::Result<()>;
        async fn lock(path: &Path, kind: LockKind) -> io::Result<Box<dyn Lock>>;
        async fn try_lock(path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>>;
        async fn watch(path: &Path) -> io::Result<Box<dyn Watch>>;
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::conformance_stream::DropsCopies;
    use crate::disk::SimWorld;
    use crate::memory::{MemoryHarness, MemoryLake};
    use crate::{conformance_disk, conformance_lake, conformance_stream};
    use hydrant_core::stream::SharedStream;

    /// Changes nothing.
    #[derive(Debug)]
    struct Nothing<T>(T);

    #[async_trait]
    impl StreamLayer for Nothing<SharedStream> {
        fn below(&self) -> &dyn Stream {
            &*self.0
        }

        async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
            let writer = self.0.writer().await?;
            Ok(Arc::new(Layered(Nothing(writer))))
        }
    }

    impl WriterLayer for Nothing<Arc<dyn StreamWriter>> {
        fn below(&self) -> &dyn StreamWriter {
            &*self.0
        }
    }

    impl LakeLayer for Nothing<MemoryLake> {
        fn below(&self) -> &dyn Lake {
            &self.0
        }
    }

    impl DiskLayer for Nothing<SharedDisk> {
        fn below(&self) -> &dyn Disk {
            &*self.0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_nothing_conforms() {
        for drops_copies in [DropsCopies::AtAppend, DropsCopies::AtReader] {
            let around = |stream| Arc::new(Layered(Nothing(stream))) as SharedStream;
            let harness = MemoryHarness {
                drops_copies,
                around,
            };
            conformance_stream::conforms(&harness).await;
        }
        let lake = async || Arc::new(Layered(Nothing(MemoryLake::new()))) as Arc<dyn Lake>;
        conformance_lake::conforms(lake).await;
        let world = SimWorld::new(1);
        let [one, two] = ["a", "b"].map(|name| Layered(Nothing(world.process(name).shared())));
        conformance_disk::conforms(&one, &two, &PathBuf::from("/root")).await;
    }
}
