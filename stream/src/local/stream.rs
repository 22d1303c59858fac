//! A stream in a directory, behind the seam of streams.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use hydrant_core::admin::{Admin, LeaseAccess};
use hydrant_core::disk::{Open, Watch, at_once};
use hydrant_core::error::OrCannot;
use hydrant_core::lease::{Lease, Progress};
use hydrant_core::stream::{
    Assignment, Behind, Join, OpenAt, ShardReader, ShardState, Start, Stream, StreamWriter,
};
use hydrant_core::{Budget, Context, Error, Position, Result, Shard, ShardId, ShardMap, StreamId};

use super::admin::stream_admin::LocalAdmin;
use super::end::durable_end::durable;
use super::format::frame::position_before;
use super::format::manifest::Manifest;
use super::leases::{FileLeases, generations};
use super::read::reader::TailReader;
use super::read::start_position;
use super::stream_dir::StreamDir;
use super::write::observe::observe;
use super::write::writer::LocalWriter;

/// An open stream.
#[derive(Debug)]
pub(crate) struct LocalStream {
    stream_dir: Arc<StreamDir>,
    url: String,
    secret: [u8; 32],
    writer: Mutex<Weak<LocalWriter>>,
    changes: Changes,
}

/// Signals changes of the shard map: to all that wait, or to the next one that does.
#[derive(Debug)]
struct Changes {
    watch: tokio::sync::Mutex<Box<dyn Watch>>,
    /// The manifest's version that callers know.
    known: tokio::sync::watch::Sender<u64>,
}

impl LocalStream {
    /// Opens the stream in `dir`; `None` when there is none.
    pub(crate) async fn open(dir: &Path, url: &str, ctx: &Context) -> Result<Option<Arc<Self>>> {
        if Manifest::read(ctx, dir).await?.is_none() {
            return Ok(None);
        }
        // Watched before it is read, so that no change is missed.
        let watch = ctx.disk.watch(dir).await.or_cannot("watch", dir)?;
        let Some(manifest) = Manifest::read(ctx, dir).await? else {
            return Ok(None);
        };
        let stream_dir = StreamDir::try_new(ctx, dir, &manifest)?;
        let manifest = stream_dir.manifest().await?;
        // Of a closed one the manifest says where it ends, whatever its directory holds.
        for shard in manifest.shards.open() {
            recover(&stream_dir, shard).await?;
        }
        Ok(Some(Arc::new(LocalStream {
            stream_dir,
            url: url.to_owned(),
            secret: manifest.secret()?,
            writer: Mutex::new(Weak::new()),
            changes: Changes {
                watch: tokio::sync::Mutex::new(watch),
                known: tokio::sync::watch::Sender::new(manifest.version),
            },
        })))
    }

    /// What `look` finds, on one thread: hundreds of shards may be looked at at once, each of which has a file open.
    async fn look<T, F>(&self, look: impl FnOnce(Arc<StreamDir>) -> F + Send) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let found = at_once(
            &*self.stream_dir.ctx.disk,
            look(Arc::clone(&self.stream_dir)),
        )
        .await;
        self.stream_dir.unless_gone(found).await
    }

    /// The position to read after for an app that starts now.
    async fn find(&self, shard: &ShardId, start: Start) -> Result<Position> {
        let manifest = self.stream_dir.manifest().await?;
        let shard = manifest.shard(shard)?.clone();
        self.look(
            |stream_dir| async move { start_position::find(&stream_dir, &shard, start).await },
        )
        .await
    }

    /// The position to read after for an app with this progress.
    async fn place_of(&self, shard: &ShardId, progress: &Progress) -> Result<Position> {
        match (progress.to, progress.began) {
            (Position::Begin, Some(start)) => self.find(shard, start).await,
            (to, _) => Ok(to),
        }
    }
}

/// How far an app that has done everything up to `to` is behind a tip. In a log that counts by offsets an account takes
/// one beside the records.
fn behind(state: &ShardState, tip: Position, to: Position) -> Behind {
    if to == Position::End || (to >= tip && !state.shard.closed) {
        return Behind::Done;
    }
    let next = |position: Position| position.next_offset().unwrap_or(u64::MAX);
    let done = next(to.max(state.kept_after));
    Behind::Records(next(tip).saturating_sub(done))
}

async fn state_of(stream_dir: &Arc<StreamDir>, shard: Shard) -> Result<ShardState> {
    let file = stream_dir.control_file(&shard.id, Open::Read).await?;
    let control = durable(stream_dir, &shard, &file).await?.control;
    let segments = stream_dir.segments(&shard.id, None).await?;
    let bytes = segments.iter().map(|s| s.len).sum();
    Ok(ShardState {
        shard,
        tip: control.map(|control| position_before(control.next_offset)),
        kept_after: control.map_or(Position::Begin, |control| {
            position_before(control.first_offset)
        }),
        records: control.map(|control| control.records),
        bytes: Some(bytes),
        newest_arrival: control
            .map(|control| control.newest_arrival)
            .filter(|arrival| *arrival != 0),
    })
}

/// Makes good what a dead writer or a power cut left in a shard, so that readers see all that was acknowledged before.
async fn recover(stream_dir: &Arc<StreamDir>, shard: &Shard) -> Result<()> {
    let file = stream_dir.control_file(&shard.id, Open::Read).await?;
    match observe(stream_dir, shard, &file, |control| control.sealing).await {
        Ok(_) => Ok(()),
        // What is durable can be read; appends are refused with the same words.
        Err(error @ (Error::Full { .. } | Error::Corrupt { .. } | Error::Io { .. })) => {
            tracing::warn!(shard = %shard.id, error = %error.report(), "cannot recover a shard");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Stream for LocalStream {
    fn id(&self) -> &StreamId {
        &self.stream_dir.stream
    }

    fn url(&self) -> &str {
        &self.url
    }

    async fn shards(&self) -> Result<ShardMap> {
        Ok(self.stream_dir.manifest().await?.shards.clone())
    }

    async fn shards_changed(&self) -> Result<()> {
        let mut known = self.changes.known.subscribe();
        let seen = *known.borrow_and_update();
        let look = async {
            // A caller that waits here looks first: the one before it may have been dropped between a change and its
            // look.
            let mut watch = self.changes.watch.lock().await;
            loop {
                let version = self.stream_dir.manifest().await?.version;
                if version != seen {
                    self.changes.known.send_replace(version);
                    return Ok(());
                }
                watch.changed().await;
            }
        };
        // Both arms only wait and look.
        tokio::select! {
            biased;
            // Another caller has seen the change: so has this one.
            answer = known.changed() => {
                drop(answer);
                Ok(())
            }
            answer = look => answer,
        }
    }

    async fn states(&self) -> Result<Vec<ShardState>> {
        let mut states = Vec::new();
        for shard in self.shards().await?.all() {
            let shard = shard.clone();
            let state = self.look(|stream_dir| async move { state_of(&stream_dir, shard).await });
            states.push(state.await?);
        }
        Ok(states)
    }

    async fn state(&self, shard: &ShardId) -> Result<ShardState> {
        let manifest = self.stream_dir.manifest().await?;
        let shard = manifest.shard(shard)?.clone();
        self.look(|stream_dir| async move { state_of(&stream_dir, shard).await })
            .await
    }

    async fn behind(&self, shard: &ShardId, after: &Progress) -> Result<Behind> {
        let to = self.place_of(shard, after).await?;
        let state = self.state(shard).await?;
        let tip = state
            .tip
            .ok_or_else(|| self.stream_dir.unrecovered(shard))?;
        Ok(behind(&state, tip, to))
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress> {
        Ok(Progress::starting(self.find(shard, start).await?))
    }

    fn before(&self, record: Position) -> Option<Position> {
        match record {
            Position::At { sequence, sub: 0 } => sequence.offset().map(position_before),
            Position::At { sequence, sub } => Some(Position::at(sequence, sub - 1)),
            end => Some(end),
        }
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        let after = match at {
            OpenAt::After { progress, .. } => self.place_of(shard, &progress).await?,
            // Past every offset: the reader refuses it.
            OpenAt::At(record) => self.before(record).unwrap_or(record),
        };
        let manifest = self.stream_dir.manifest().await?;
        let shard = manifest.shard(shard)?;
        let reader = TailReader::open(&self.stream_dir, shard, after, budget).await?;
        Ok(Box::new(reader))
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        self.stream_dir.manifest().await?;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.upgrade() {
            return Ok(writer);
        }
        let made = LocalWriter::new(&self.stream_dir, self.secret);
        *writer = Arc::downgrade(&made);
        Ok(made)
    }

    async fn assignment(&self, join: &Join) -> Result<Assignment> {
        let leases = LocalAdmin::new(&self.stream_dir).leases(&join.app).await?;
        Ok(Assignment::Leases(leases))
    }

    async fn apps(&self) -> Result<Vec<String>> {
        let apps = generations::apps(&self.stream_dir).await;
        self.stream_dir.unless_gone(apps).await
    }

    async fn app_progress(&self, app: &str) -> Result<Vec<Lease>> {
        FileLeases::look(&self.stream_dir, app).await
    }

    fn admin(&self) -> Admin {
        Admin::of(&Arc::new(LocalAdmin::new(&self.stream_dir)))
    }
}
