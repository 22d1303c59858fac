//! A stream in memory: one that checks origins at append, as the embedded log does, or one that stores what comes as it
//! comes, as Kinesis does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::leases::MemoryLeases;
use super::state::{DedupMode, MemoryShardLog, StreamFaults, StreamShared, StreamTraits, Withheld};
use super::storing::{SiftingReader, StoringWriter};
use hydrant_core::admin::{Admin, LeaseAccess, Repair, Reshard, Retention, Trim};
use hydrant_core::budget::Budget;
use hydrant_core::clock::{self, SharedClock};
use hydrant_core::error::{Error, Result};
use hydrant_core::hash::Routing;
use hydrant_core::interval::Interval;
use hydrant_core::lease::{Lease, LeaseStore, Progress, rows_that_count};
use hydrant_core::marks::TagEntry;
use hydrant_core::position::Position;
use hydrant_core::random::Random;
use hydrant_core::shard::{ShardId, ShardMap, StreamId};
use hydrant_core::stream::{
    Append, Assignment, Begun, Behind, Join, KeyRule, OpenAt, Read, ShardReader, ShardState, Start,
    Stream, StreamWriter, Ticket,
};

/// A stream in memory; each clone is the stream as one process sees it.
#[derive(Debug)]
pub struct MemoryStream {
    pub(super) shared: Arc<StreamShared>,
    seen_map: Mutex<u64>,
}

impl Clone for MemoryStream {
    fn clone(&self) -> Self {
        MemoryStream::over(Arc::clone(&self.shared))
    }
}

impl MemoryStream {
    /// An empty stream of `shards` shards that checks origins at append; `clock` stamps arrivals.
    pub fn new(name: &str, shards: u32, clock: SharedClock) -> Self {
        MemoryStream::checking(name, shards, clock, Random::seeded(0))
    }

    /// An empty stream that checks origins at append. `random` chooses its faults.
    pub fn checking(name: &str, shards: u32, clock: SharedClock, random: Random) -> Self {
        let shared = StreamShared::new(name, shards, clock, random, DedupMode::AtAppend);
        MemoryStream::over(Arc::new(shared))
    }

    /// An empty stream that stores what comes as it comes and lets its readers deduplicate. `random` chooses its numbers
    /// and its faults.
    pub fn storing(name: &str, shards: u32, clock: SharedClock, random: Random) -> Self {
        let shared = StreamShared::new(name, shards, clock, random, DedupMode::AtReader);
        MemoryStream::over(Arc::new(shared))
    }

    fn over(shared: Arc<StreamShared>) -> Self {
        let seen_map = Mutex::new(shared.lock().map_version);
        MemoryStream { shared, seen_map }
    }

    /// From now on this happens to what is sent.
    pub fn set_faults(&self, faults: StreamFaults) {
        self.shared.set_faults(faults);
    }

    /// From now on it says this of itself.
    pub fn set_traits(&self, traits: StreamTraits) {
        self.shared.lock().traits = traits;
    }

    /// From now on a shard withholds this from those who append.
    pub fn withhold(&self, what: Option<(ShardId, Withheld)>) {
        self.shared.lock().withheld = what;
        self.shared.notify();
    }

    /// What the appends that a shard of a stream without checks took say of their origins.
    pub fn tags(&self, shard: &ShardId) -> Vec<TagEntry> {
        let mut state = self.shared.landed();
        let log = state.stored(shard).ok();
        log.map_or_else(Vec::new, |log| log.tags().cloned().collect())
    }

    /// Lets everything land that is under way.
    pub fn land_everything(&self) {
        self.shared.land_everything();
    }

    /// Lets all workers of all apps look gone that are at work now.
    pub fn disown_workers(&self) {
        let apps: Vec<_> = self.shared.lock().apps.values().cloned().collect();
        apps.iter().for_each(MemoryLeases::disown_workers);
    }

    /// How many records came to readers after later ones of their origins.
    pub fn origin_gaps(&self) -> u64 {
        self.shared.origin_gaps()
    }
}

#[derive(Debug)]
struct MemoryReader {
    shared: Arc<StreamShared>,
    shard: ShardId,
    budget: Budget,
    after: Position,
    said_idle: bool,
}

impl MemoryReader {
    /// What comes next and the bytes it needs; `None` when there is nothing to tell.
    fn look(&mut self) -> Result<Option<(Read, u64)>> {
        let mut state = self.shared.landed();
        state.fail_read(&self.shard)?;
        let (map, appends_max) = (state.map(), state.batch_appends);
        let shard = state.checked(&self.shard)?;
        let (tip, kept) = (shard.tip(), shard.kept_after());
        if self.after < kept {
            let gap = Read::Gap {
                from: self.after,
                to: kept,
                why: "retention passed".to_owned(),
                marks: Vec::new(),
            };
            return Ok(Some((gap, 0)));
        }
        if self.after < tip {
            let batch = shard.batch(self.after.next_offset().unwrap_or(u64::MAX), appends_max);
            let bytes = batch
                .segments
                .iter()
                .map(|segment| segment.len() as u64)
                .sum();
            return Ok(Some((Read::Batch(batch), bytes)));
        }
        if shard.shard.closed {
            let children = map
                .children(&self.shard)
                .map(|child| child.id.clone())
                .collect();
            return Ok(Some((
                Read::End {
                    children,
                    marks: Vec::new(),
                },
                0,
            )));
        }
        Ok((!self.said_idle).then_some((Read::Idle { through: tip }, 0)))
    }
}

#[async_trait]
impl ShardReader for MemoryReader {
    async fn next(&mut self) -> Result<Read> {
        loop {
            let shared = Arc::clone(&self.shared);
            let changed = shared.changed();
            let Some((mut read, bytes)) = self.look()? else {
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = clock::sleep_until(shared.next_due()) => {}
                }
                continue;
            };
            if let Read::Batch(batch) = &mut read {
                // Dropped while it waits, the call has taken nothing.
                batch.permit = self.budget.acquire(bytes).await;
            }
            self.said_idle = matches!(read, Read::Idle { .. });
            match &read {
                Read::Batch(batch) => self.after = batch.to,
                Read::Gap { to, .. } => self.after = *to,
                Read::Idle { .. } | Read::End { .. } => {}
            }
            return Ok(read);
        }
    }
}

#[async_trait]
impl StreamWriter for MemoryStream {
    async fn submit(&self, shard: &ShardId, append: Append) -> Result<Ticket> {
        self.shared.append(shard, append).await
    }

    async fn begun(&self, shard: &ShardId) -> Result<Vec<Begun>> {
        Ok(self.shared.lock().checked(shard)?.begun())
    }

    fn checks_appends(&self) -> bool {
        true
    }

    fn reorders_within(&self) -> Duration {
        Duration::ZERO
    }

    fn routing(&self) -> Routing {
        self.shared.lock().traits.routing.clone()
    }

    fn keys(&self) -> KeyRule {
        KeyRule::Any
    }

    fn keeps_headers(&self) -> bool {
        true
    }

    fn record_bytes_max(&self) -> usize {
        self.shared.lock().traits.record_bytes_max
    }

    fn append_bytes_target(&self) -> usize {
        self.shared.lock().traits.append_bytes_target
    }
}

#[async_trait]
impl Stream for MemoryStream {
    fn id(&self) -> &StreamId {
        &self.shared.id
    }

    fn url(&self) -> &str {
        &self.shared.url
    }

    async fn shards(&self) -> Result<ShardMap> {
        Ok(self.shared.map())
    }

    async fn shards_changed(&self) -> Result<()> {
        loop {
            let changed = self.shared.changed();
            {
                let version = self.shared.lock().map_version;
                let mut seen = self.seen_map.lock().unwrap_or_else(PoisonError::into_inner);
                if *seen != version {
                    *seen = version;
                    return Ok(());
                }
            }
            changed.await;
        }
    }

    async fn states(&self) -> Result<Vec<ShardState>> {
        let state = self.shared.landed();
        Ok(state.shards.values().map(MemoryShardLog::state).collect())
    }

    async fn state(&self, shard: &ShardId) -> Result<ShardState> {
        Ok(self.shared.landed().shard(shard)?.state())
    }

    async fn behind(&self, shard: &ShardId, after: &Progress) -> Result<Behind> {
        let now = self.shared.now();
        Ok(self.shared.landed().shard(shard)?.behind(after, now))
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress> {
        let now = self.shared.now();
        Ok(self.shared.landed().shard(shard)?.start(start, now))
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        if self.shared.mode == DedupMode::AtReader {
            let shard = self.shared.lock().shard(shard)?.shard().clone();
            let reader = SiftingReader::open(&self.shared, &shard, at, budget)?;
            return Ok(Box::new(reader));
        }
        let after = self.shared.lock().checked(shard)?.place_of(&at);
        Ok(Box::new(MemoryReader {
            shared: Arc::clone(&self.shared),
            shard: shard.clone(),
            budget: budget.clone(),
            after,
            said_idle: false,
        }))
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        Ok(match self.shared.mode {
            DedupMode::AtAppend => Arc::new(self.clone()),
            DedupMode::AtReader => Arc::new(StoringWriter::new(&self.shared)),
        })
    }

    async fn assignment(&self, join: &Join) -> Result<Assignment> {
        let leases = self.leases(&join.app);
        Ok(Assignment::Leases(Arc::new(leases) as Arc<dyn LeaseStore>))
    }

    async fn apps(&self) -> Result<Vec<String>> {
        Ok(self.shared.lock().apps.keys().cloned().collect())
    }

    async fn app_progress(&self, app: &str) -> Result<Vec<Lease>> {
        let leases = self.shared.lock().apps.get(app).cloned();
        match leases {
            Some(leases) => Ok(rows_that_count(
                &leases.generations().await?,
                leases.list().await?,
            )),
            None => Ok(Vec::new()),
        }
    }

    fn admin(&self) -> Admin {
        Admin::of(&Arc::new(self.clone()))
    }
}

#[async_trait]
impl LeaseAccess for MemoryStream {
    async fn leases(&self, app: &str) -> Result<Arc<dyn LeaseStore>> {
        let mut state = self.shared.lock();
        Ok(Arc::new(
            state.apps.entry(app.to_owned()).or_default().clone(),
        ))
    }
}

#[async_trait]
impl Reshard for MemoryStream {
    async fn split(&self, shard: &ShardId, at: Option<u128>) -> Result<Vec<ShardId>> {
        let mut state = self.shared.landed();
        let range = state.open_shard(shard)?.shard().range;
        let halves = at.or_else(|| range.middle()).and_then(|at| range.split(at));
        let Some((low, high)) = halves else {
            return Err(Error::refused(format!(
                "shard `{shard}` cannot be split there"
            )));
        };
        let parents = [shard.clone()];
        let children = [(low, None), (high, None)];
        Ok(self.shared.reshard(state, &parents, children)?.to_vec())
    }

    async fn merge(&self, a: &ShardId, b: &ShardId) -> Result<ShardId> {
        if a == b {
            return Err(Error::refused(format!(
                "shard `{a}` cannot be merged with itself"
            )));
        }
        let mut state = self.shared.landed();
        let first = state.open_shard(a)?.shard().range;
        let second = state.open_shard(b)?.shard().range;
        let Some(range) = first.join(second) else {
            return Err(Error::refused(format!(
                "shards `{a}` and `{b}` are not neighbours"
            )));
        };
        let parents = [a.clone(), b.clone()];
        let [child] = self.shared.reshard(state, &parents, [(range, None)])?;
        Ok(child)
    }
}

#[async_trait]
impl Retention for MemoryStream {
    async fn trim(&self, shard: Option<&ShardId>, what: Trim) -> Result<u64> {
        let mut state = self.shared.landed();
        if let Some(shard) = shard {
            state.shard(shard)?;
        }
        let chosen = state
            .shards
            .values_mut()
            .filter(|one| shard.is_none_or(|id| one.shard().id == *id));
        let freed = chosen.map(|one| {
            one.trim(|last, arrival, bytes| match what {
                Trim::After(position) => last <= position,
                Trim::OlderThan(micros) => arrival < micros,
                Trim::ToBytes(most) => bytes > most,
            })
        });
        let freed = freed.sum();
        drop(state);
        self.shared.notify();
        Ok(freed)
    }
}

#[async_trait]
impl Repair for MemoryStream {
    async fn repair(&self, shard: &ShardId) -> Result<Vec<Interval>> {
        self.shared.lock().shard(shard)?;
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use crate::conformance_stream::{self, DropsCopies};
    use crate::memory::MemoryHarness;

    #[tokio::test(start_paused = true)]
    async fn it_conforms_wherever_copies_are_dropped() {
        for drops_copies in [DropsCopies::AtAppend, DropsCopies::AtReader] {
            let around = |stream| stream;
            let harness = MemoryHarness {
                drops_copies,
                around,
            };
            conformance_stream::conforms(&harness).await;
        }
    }
}
