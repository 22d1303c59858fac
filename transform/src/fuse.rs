//! Fuses a transform and a stage into one stage, with no stream between them.
//!
//! [`FusedStage`] applies a transform to each batch and hands the result to another stage, such as the sink. What became
//! no record travels as accounts at the positions where it was, so that the inner stage counts every unit that came in,
//! wherever it ends an interval.
//! Commit, fence and progress are the inner stage's alone; how far it published is how far the input is done.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::batch::{AccountOf, AccountSpan};
use hydrant_core::clock::Instant;
use hydrant_core::lease::Progress;
use hydrant_core::origin::{DeadLetter, WriterId};
use hydrant_core::shard::Shard;
use hydrant_core::stage::{Flush, Opened, Output, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_core::transform::{Source, Transform};
use hydrant_core::{Batch, Context, Overdraft, Permit, Position, Result, StreamId};

/// A stage whose records go through a transform first.
pub struct FusedStage {
    shared: Arc<FusedContext>,
    inner: Arc<dyn Stage>,
}

struct FusedContext {
    transform: Arc<dyn Transform>,
    input: StreamId,
    app: String,
    context: Context,
    /// Of the batches that grew while they were changed, until the inner stage has taken them.
    overdraft: Overdraft,
}

impl fmt::Debug for FusedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FusedStage({:?}, {:?})",
            self.shared.transform, self.inner
        )
    }
}

impl FusedStage {
    /// From `input` by `transform` into `inner`.
    pub fn new(
        app: &str,
        input: StreamId,
        transform: Arc<dyn Transform>,
        inner: Arc<dyn Stage>,
        context: Context,
    ) -> Self {
        FusedStage {
            shared: Arc::new(FusedContext {
                transform,
                input,
                app: app.to_owned(),
                context,
                overdraft: Overdraft::default(),
            }),
            inner,
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Stage for FusedStage {
    fn scope(&self) -> Scope {
        self.inner.scope()
    }

    fn output(&self) -> Option<Output> {
        self.inner.output()
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        self.inner.resume(shard).await
    }

    async fn published_to(&self, shard: &Shard) -> Result<Option<Position>> {
        self.inner.published_to(shard).await
    }

    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>> {
        let of = AccountOf {
            writer: WriterId::of_app(&self.shared.app, claim.generation, &self.shared.input),
            shard: claim.shard.id.clone(),
        };
        Ok(Box::new(FusedShard {
            shared: Arc::clone(&self.shared),
            of,
            inner: self.inner.open(claim).await?,
        }))
    }

    async fn publish_all(&self, why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        self.inner.publish_all(why).await
    }
}

impl FusedContext {
    /// Waits for this much memory beyond what a batch holds.
    async fn room(&self, bytes: u64) -> Permit {
        self.context
            .budget
            .acquire_more(bytes, &self.overdraft)
            .await
    }

    /// What a batch has grown by, out of the room that it was given, as far as that goes.
    async fn resize_permit(&self, mut room: Permit, bytes: u64) -> Permit {
        room.shrink_to(bytes);
        if room.bytes() == bytes && !room.is_overdrawn() {
            return room;
        }
        if let Some(permit) = self.context.budget.try_acquire(bytes) {
            return permit;
        }
        if room.bytes() == bytes {
            return room;
        }
        drop(room);
        self.room(bytes).await
    }
}

/// What a batch may grow by: by the bytes that a change writes again, and by the accounts of its records, whichever of
/// them become dead letters, beside the transform's list of these. Nothing for one that is counted elsewhere.
fn growth_bytes(batch: &Batch) -> u64 {
    if batch.permit.bytes() == 0 {
        return 0;
    }
    let listed = size_of::<(u32, DeadLetter)>();
    let counted = size_of::<AccountSpan>() + size_of::<DeadLetter>();
    batch.memory_bytes() + (batch.len() * (listed + counted)) as u64
}

struct FusedShard {
    shared: Arc<FusedContext>,
    of: AccountOf,
    inner: Box<dyn ShardStage>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ShardStage for FusedShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        let Read::Batch(batch) = read else {
            return self.inner.push(read).await;
        };
        let room = self.shared.room(growth_bytes(&batch)).await;
        let shared = Arc::clone(&self.shared);
        let of = self.of.clone();
        let now = shared.context.clock.wall_micros();
        let workers = shared.context.workers.clone();
        let job = move || -> Result<_> {
            let source = Source {
                stream: &shared.input,
                shard: &of.shard,
                now,
            };
            let runs = batch.runs.clone();
            let transformed = shared.transform.apply(batch, source)?;
            let mut batch = transformed.into_batch(of, &runs);
            let needed = batch.memory_bytes() + batch.account_bytes();
            let held = batch.permit.bytes();
            batch.permit.shrink_to(needed);
            // One that holds nothing is counted elsewhere.
            let missing = if held == 0 {
                0
            } else {
                needed.saturating_sub(held)
            };
            Ok((batch, missing))
        };
        let (batch, missing) = workers.run(job).await??;
        // The inner stage may wait for memory while this is held. That ends: the shard that holds the inner stage's overdraft
        // never waits for this one.
        let _grown = self.shared.resize_permit(room, missing).await;
        self.inner.push(Read::Batch(batch)).await
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        self.inner.due(now)
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    async fn changed(&mut self) {
        self.inner.changed().await;
    }

    async fn publish(&mut self, why: Flush) -> Result<Progress> {
        self.inner.publish(why).await
    }

    fn outlives_a_failed_push(&self) -> bool {
        self.inner.outlives_a_failed_push()
    }

    async fn settle(&mut self) {
        self.inner.settle().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use bytes::Bytes;
    use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
    use hydrant_core::{HashRange, Position, Sequence, ShardId, clock};
    use hydrant_pii::Policy;

    use super::*;
    use crate::PiiTransform;

    /// Remembers what reached it.
    #[derive(Debug, Default)]
    struct Inner {
        reads: Arc<Mutex<Vec<Read>>>,
    }

    #[async_trait]
    impl Stage for Inner {
        fn scope(&self) -> Scope {
            Scope::Worker
        }

        async fn resume(&self, _: &Shard) -> Result<Option<Progress>> {
            let to = Position::offset(3);
            Ok(Some(Progress {
                to,
                ..Progress::default()
            }))
        }

        async fn published_to(&self, _: &Shard) -> Result<Option<Position>> {
            Ok(None)
        }

        async fn open(&self, _: Opened) -> Result<Box<dyn ShardStage>> {
            let reads = Arc::clone(&self.reads);
            Ok(Box::new(Inner { reads }))
        }
    }

    #[async_trait]
    impl ShardStage for Inner {
        async fn push(&mut self, read: Read) -> Result<()> {
            let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            reads.push(read);
            Ok(())
        }

        fn due(&self, _: Instant) -> Option<Flush> {
            Some(Flush::Size)
        }

        fn deadline(&self) -> Option<Instant> {
            None
        }

        async fn publish(&mut self, _: Flush) -> Result<Progress> {
            Ok(Progress {
                to: Position::offset(7),
                ..Progress::default()
            })
        }
    }

    fn batch(payloads: &[&str]) -> Batch {
        let mut bytes = Vec::new();
        let mut runs = RunBuilder::default();
        let mut records = Vec::new();
        for (n, payload) in payloads.iter().enumerate() {
            let payload_span = Span::new(bytes.len() as u32, payload.len() as u32);
            bytes.extend_from_slice(payload.as_bytes());
            records.push(Entry {
                segment: 0,
                key: None,
                payload: payload_span,
                stamp: 0,
            });
            runs.push(Sequence::from(n as u64), 0, Step::Sequence, 0);
        }
        Batch {
            segments: Arc::from([Bytes::from(bytes)]),
            records,
            runs: runs.finish(),
            to: Position::offset(9),
            ..Batch::default()
        }
    }

    #[tokio::test]
    async fn the_inner_stage_gets_what_went_on_and_an_account_of_the_rest() {
        let context = Context::system(1 << 20).unwrap();
        let reads = Arc::default();
        let inner = Arc::new(Inner {
            reads: Arc::clone(&reads),
        });
        let transform = Arc::new(PiiTransform::new(Arc::new(Policy::strict())));
        let input = StreamId::new("raw", "1");
        let fused = FusedStage::new("app", input.clone(), transform, inner, context.clone());
        assert_eq!(fused.scope(), Scope::Worker);
        let shard = Shard {
            id: "000001".into(),
            range: HashRange::ALL,
            parents: Vec::new(),
            closed: false,
        };
        let resumed = fused.resume(&shard).await.unwrap().unwrap();
        assert_eq!(resumed.to, Position::offset(3));
        let claim = Opened {
            claim: ClaimId {
                shard: shard.id.clone(),
                grant: 1,
            },
            shard: shard.clone(),
            after: resumed,
            start: Position::Begin,
            generation: 2,
            parents: Vec::new(),
        };
        let mut stage = fused.open(claim).await.unwrap();
        let mut raw = batch(&[r#"{"a":1}"#, r#"{"a":"#, r#"{"ip":"68.161.225.1"}"#]);
        let bytes = raw.memory_bytes();
        raw.permit = context.budget.acquire(bytes).await;
        stage.push(Read::Batch(raw)).await.unwrap();
        let through = Position::offset(12);
        stage.push(Read::Idle { through }).await.unwrap();
        assert_eq!(stage.due(clock::now()), Some(Flush::Size));
        let published = stage.publish(Flush::Size).await.unwrap();
        assert_eq!(published.to, Position::offset(7));
        let reads = std::mem::take(&mut *reads.lock().unwrap());
        let [Read::Batch(clean), Read::Idle { .. }] = &reads[..] else {
            panic!("{reads:?}");
        };
        assert_eq!(clean.len(), 2);
        assert_eq!(
            clean.payload(&clean.records[1]),
            br#"{"ip":"68.161.225.0/24"}"#
        );
        let needed = clean.memory_bytes() + clean.account_bytes();
        assert_eq!(clean.permit.bytes(), needed.min(bytes));
        // The letter counts where its record was; each record counts for itself.
        let [letter] = &clean.accounts[..] else {
            panic!("{:?}", clean.accounts);
        };
        assert_eq!(letter.at, Position::offset(1));
        assert_eq!((letter.account.input, letter.account.records), (1, 0));
        assert_eq!(&*letter.account.dead_letters[0].reason, "malformed_json");
        assert_eq!(letter.account.dead_letters[0].shard, shard.id);
        assert!(letter.account.balances());
        let writer = WriterId::of_app("app", 2, &input);
        assert_eq!(letter.entry.writer, writer);
        let of = clean.accounts_records.as_ref().unwrap();
        assert_eq!((of.writer, &of.shard), (writer, &shard.id));
        drop(reads);
        assert_eq!(context.budget.held_bytes(), 0);
    }

    /// Records of two bytes that all become dead letters take no more than their batch was given room for.
    #[tokio::test]
    async fn accounts_of_dead_letters_take_what_their_batch_was_given() {
        let context = Context::system(1 << 26).unwrap();
        let transform = PiiTransform::new(Arc::new(Policy::strict()));
        let (stream, shard) = (StreamId::new("raw", "1"), ShardId::from("000001"));
        let of = AccountOf {
            writer: WriterId::of_name("app"),
            shard: shard.clone(),
        };
        let source = Source {
            stream: &stream,
            shard: &shard,
            now: 0,
        };
        // What the engine takes, it takes once.
        drop(transform.apply(batch(&["ab"]), source));
        let mut raw = batch(&["ab"; 10_000]);
        raw.permit = context.budget.acquire(raw.memory_bytes()).await;
        let room = growth_bytes(&raw);
        let (clean, taken) = hydrant_fuzz::memory(|| {
            let runs = raw.runs.clone();
            let transformed = transform.apply(raw, source).unwrap();
            transformed.into_batch(of, &runs)
        });
        assert_eq!(clean.accounts.len(), 10_000);
        assert!(taken.peak_bytes <= room, "{taken:?} of {room}");
        let needed = clean.memory_bytes() + clean.account_bytes();
        // The index of the records was there before.
        assert!(taken.held_bytes <= needed, "{taken:?} of {needed}");
    }
}
