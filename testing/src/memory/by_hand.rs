//! What a test does to a stream without a writer or an administrator: it appends records that say where they lie, to a
//! stream that checks appends, names shards, forgets them, and orders failures of reads.

use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::batch::Batch;
use hydrant_core::budget::Permit;
use hydrant_core::clock::SharedClock;
use hydrant_core::error::Error;
use hydrant_core::shard::{HashRange, Shard, ShardId};
use hydrant_core::stream::Append;

use super::leases::MemoryLeases;
use super::state::MemoryShardLog;
use super::stream::MemoryStream;

impl MemoryStream {
    /// An empty stream of shards `a`, `b`, ... that checks origins at append.
    pub fn lettered(name: &str, shards: u8, clock: SharedClock) -> Self {
        let stream = MemoryStream::new(name, 0, clock);
        for (range, letter) in HashRange::even(shards.into()).into_iter().zip('a'..) {
            stream.reshard(&[], [(range, Some(ShardId::new(letter.to_string())))]);
        }
        stream
    }

    /// The lease store of an app.
    pub fn leases(&self, app: &str) -> MemoryLeases {
        let mut state = self.shared.lock();
        state.apps.entry(app.to_owned()).or_default().clone()
    }

    /// Appends `count` records of at least `bytes` bytes; each starts with its shard and offset, and arrives at the time
    /// that its offset says.
    pub fn append(&self, shard: &str, count: usize, bytes: usize) {
        for _ in 0..count {
            self.append_with(shard, |offset| {
                let mut text = format!("{shard}:{offset}");
                while text.len() < bytes {
                    text.push('.');
                }
                text.into()
            });
        }
    }

    /// Appends one record with these bytes.
    pub fn append_payload(&self, shard: &str, payload: &'static [u8]) {
        self.append_with(shard, |_| payload.into());
    }

    /// Appends all records of a batch at once.
    pub fn append_batch(&self, shard: &str, batch: Batch) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let log = state.checked(&shard.into()).expect("the shard exists");
        let append = Append {
            record_indexes: (0..batch.len() as u32).collect(),
            routes: vec![log.shard.range.first; batch.len()].into(),
            batch: Arc::new(batch),
            explicit: false,
            entry: None,
            claims: Vec::new(),
            input: None,
            units: Arc::default(),
            permit: Permit::default(),
        };
        log.append(append, now).expect("the shard is open");
        drop(state);
        self.shared.notify();
    }

    fn append_with(&self, shard: &str, payload: impl FnOnce(u64) -> Bytes) {
        let mut state = self.shared.lock();
        let log = state.checked(&shard.into());
        log.expect("the shard exists").put(payload);
        drop(state);
        self.shared.notify();
    }

    /// Splits a shard in the middle into children with these names.
    pub fn split_into(&self, shard: &str, low: &str, high: &str) {
        let range = self.open_shard(shard).range;
        let middle = range.middle().and_then(|at| range.split(at));
        let (a, b) = middle.expect("the shard has more than one hash");
        let children = [(a, Some(low.into())), (b, Some(high.into()))];
        self.reshard(&[shard.into()], children);
    }

    /// Merges two neighbours into a child with this name.
    pub fn merge_into(&self, a: &str, b: &str, child: &str) {
        let (x, y) = (self.open_shard(a).range, self.open_shard(b).range);
        let range = x.join(y).expect("the shards are neighbours");
        self.reshard(&[a.into(), b.into()], [(range, Some(child.into()))]);
    }

    /// Adds a shard without parents, as a partition is added to a topic.
    pub fn add_partition(&self, id: &str) {
        self.reshard(&[], [(HashRange::ALL, Some(id.into()))]);
    }

    fn reshard<const N: usize>(
        &self,
        parents: &[ShardId],
        children: [(HashRange, Option<ShardId>); N],
    ) {
        let resharded = self.shared.reshard(self.shared.landed(), parents, children);
        resharded.expect("the parents are open");
    }

    /// Forgets a shard, all of whose records have passed retention.
    pub fn forget(&self, shard: &str) {
        let mut state = self.shared.lock();
        state.shards.remove(&shard.into());
        state.map_version += 1;
        drop(state);
        self.shared.notify();
    }

    fn open_shard(&self, shard: &str) -> Shard {
        let mut state = self.shared.landed();
        let log = state.open_shard(&shard.into());
        log.expect("the shard is open").shard().clone()
    }

    /// The open shards.
    pub fn open_shards(&self) -> Vec<Shard> {
        let state = self.shared.lock();
        let shards = state.shards.values().map(MemoryShardLog::shard);
        shards.filter(|shard| !shard.closed).cloned().collect()
    }

    /// The offsets that were ever appended, by shard.
    pub fn all(&self) -> Vec<(ShardId, u64)> {
        let state = self.shared.lock();
        let logs = state.shards.values().filter_map(|log| match log {
            MemoryShardLog::Checked(log) => Some(log),
            MemoryShardLog::Stored(_) => None,
        });
        logs.flat_map(|log| (0..log.next()).map(|n| (log.shard.id.clone(), n)))
            .collect()
    }

    /// Limits batches to this many appends.
    pub fn batch_appends(&self, most: usize) {
        self.shared.lock().batch_appends = most;
        self.shared.notify();
    }

    /// Makes the next reads of a shard fail with these errors, last first.
    pub fn fail_reads(&self, shard: &str, errors: Vec<Error>) {
        self.shared.lock().read_errors.insert(shard.into(), errors);
        self.shared.notify();
    }
}
