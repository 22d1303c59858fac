//! One shard on its way into the lake.
//!
//! Owns the open interval of a claimed shard: when it is sealed, and that it fills while the one before it is published.
//! Promises that `to` is fixed before the first byte is encoded, that at most one interval is published and not visible,
//! that an empty interval leaves no record, and that progress covers only what is visible. Refuses to continue after
//! another owner took the slot, or after a publish failed: the interval that ran ahead goes with this shard.

use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::batch::Batch;
use hydrant_core::clock::{self, Instant};
use hydrant_core::lease::Progress;
use hydrant_core::stage::{Flush, ShardStage};
use hydrant_core::stream::Read;
use hydrant_core::{Error, Interval, Permit, Position, Result};
use tokio::task::JoinSet;

use super::buffer::{Buffer, EndMarks, StreamShard, TakeOutcome};
use super::context::SinkContext;
use super::pressure::Holder;
use super::publishing::{Ended, Publishing, record};
use crate::lake::Publisher;
use crate::table::dead_letter::StoredDeadLetter;

/// How often the bytes of a batch an interval may grow by before the budget is asked again.
const GROWTH: u64 = 4;

/// The bytes that an interval may grow by before the budget is asked again. All dead letters of earlier stages in the
/// batch are part of them.
pub(crate) fn growth_bytes(batch: &Batch) -> u64 {
    let dead_letters = batch
        .accounts
        .iter()
        .flat_map(|span| &span.account.dead_letters);
    let dead_letters: u64 = dead_letters.map(StoredDeadLetter::bytes_of).sum();
    batch.memory_bytes() * GROWTH + dead_letters
}

/// One shard on its way into the lake.
#[derive(Debug)]
pub(crate) struct SinkShard {
    shared: Arc<SinkContext>,
    stream_shard: StreamShard,
    /// The publisher of the chain, unless an interval is being published: then it is in there.
    publisher: Option<Publisher>,
    /// The interval that is being published.
    publishing: Option<Publishing>,
    /// The position up to which everything is visible.
    published: Position,
    /// Where the next interval begins: the end of the last one that was sealed.
    sealed: Position,
    /// The open interval; absent while there is nothing in it.
    buffer: Option<Box<Buffer>>,
    /// The permit for the memory of the open interval.
    permit: Permit,
    /// The permit for what it takes beyond that, while the budget is spent.
    overdrawn: Permit,
    /// The batch that did not fit into the open interval, and the index of its first record that is left.
    rest: Option<(Batch, usize)>,
    /// The position up to which batches were pushed.
    to: Position,
    /// The reader's marks at `to`.
    place: EndMarks,
    /// When the oldest input that is in no sealed interval was pushed.
    since: Option<Instant>,
    ended: bool,
    holder: Holder,
    /// When the newest record of this owner became visible.
    rests_since: Option<Instant>,
    /// The mark of a record that nothing followed, on its way.
    marking: JoinSet<()>,
}

impl SinkShard {
    /// The shard `stream_shard`, after what `publisher` has published.
    pub(crate) fn new(
        shared: Arc<SinkContext>,
        stream_shard: StreamShard,
        publisher: Publisher,
    ) -> Self {
        let to = publisher.to;
        SinkShard {
            stream_shard,
            holder: shared.holders.enter(),
            shared,
            publisher: Some(publisher),
            publishing: None,
            published: to,
            sealed: to,
            buffer: None,
            permit: Permit::default(),
            overdrawn: Permit::default(),
            rest: None,
            to,
            place: EndMarks::default(),
            since: None,
            ended: false,
            rests_since: None,
            marking: JoinSet::new(),
        }
    }

    fn open_buffer(&mut self) -> Result<Box<Buffer>> {
        if let Some(buffer) = self.buffer.take() {
            return Ok(buffer);
        }
        let shared = &self.shared;
        let opened = shared.context.clock.wall_micros();
        let base = shared.registry.newest();
        let buffer = Buffer::open(
            &self.stream_shard,
            &shared.rules,
            &base,
            opened,
            self.sealed,
            self.to,
        )?;
        Ok(Box::new(buffer.at(self.place.clone())))
    }

    /// Decodes a batch from record `start` on. The raw bytes are freed, and the permit covers the decoded ones instead.
    ///
    /// The interval grows only within a permit that it has already: tiny records take many times their bytes. While the
    /// budget is spent, one shard at a time grows and then uploads what it has.
    async fn feed(&mut self, mut batch: Batch, mut start: usize) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let context = &shared.context;
        let raw = std::mem::take(&mut batch.permit);
        let growth = growth_bytes(&batch);
        self.since.get_or_insert_with(clock::now);
        // Whether the interval ends at the next boundary of aggregates.
        let mut ending = false;
        loop {
            let room = self.room(growth).await;
            let mut buffer = self.open_buffer()?;
            let arrived = context.clock.wall_micros();
            let decoding = context.workers.run(move || {
                let taken = buffer.take(&batch, start, arrived, growth, ending);
                (buffer, batch, taken)
            });
            let (buffer, taken);
            (buffer, batch, taken) = decoding.await?;
            self.to = self.to.max(buffer.to);
            self.place = buffer.place.clone();
            self.buffer = Some(buffer);
            let full_at = match taken? {
                TakeOutcome::All => {
                    drop(batch);
                    // A permit of another budget goes back there.
                    self.permit.merge(raw);
                    self.resize_permits(room).await;
                    return Ok(());
                }
                TakeOutcome::Full { next: index } => {
                    self.resize_permits(room).await;
                    Some(index)
                }
                TakeOutcome::Grown {
                    next: index,
                    between_aggregates,
                } => {
                    self.resize_permits(room).await;
                    start = index;
                    ending = self.is_short();
                    (ending && between_aggregates).then_some(index)
                }
            };
            if let Some(index) = full_at {
                batch.permit = raw;
                self.rest = Some((batch, index));
                return Ok(());
            }
        }
    }

    /// Waits for the memory that the open interval may grow by. One that exceeds the budget already grows on with its
    /// overdraft, which it would wait for without end.
    async fn room(&mut self, bytes: u64) -> Permit {
        if self.is_short() {
            self.overdrawn.overdraw(bytes);
            return std::mem::take(&mut self.overdrawn);
        }
        let shared = &self.shared;
        let budget = &shared.context.budget;
        budget.acquire_more(bytes, &shared.overdraft).await
    }

    /// Makes the permits cover exactly the bytes of the open interval. What the budget does not have comes out of `room`,
    /// or waits for the overdraft: until these bytes are uploaded no other shard exceeds the budget.
    async fn resize_permits(&mut self, mut room: Permit) {
        debug_assert!(!self.is_short());
        let wanted = self.open_bytes();
        if !room.is_overdrawn() {
            self.permit.merge(std::mem::take(&mut room));
        }
        self.permit.shrink_to(wanted);
        let missing = wanted - self.permit.bytes();
        let budget = &self.shared.context.budget;
        if let Some(more) = budget.try_acquire(missing) {
            room = more;
        } else if room.is_overdrawn() {
            room.overdraw(missing.saturating_sub(room.bytes()));
            room.shrink_to(missing);
        } else {
            room = budget.acquire_more(missing, &self.shared.overdraft).await;
        }
        match room.is_overdrawn() {
            true => self.overdrawn = room,
            false => self.permit.merge(room),
        }
        debug_assert!(self.permit.bytes() + self.overdrawn.bytes() >= wanted);
        self.holder.set(wanted);
    }

    /// The bytes of the open interval.
    fn open_bytes(&self) -> u64 {
        self.buffer.as_ref().map_or(0, |buffer| buffer.bytes())
    }

    /// Whether the open interval takes memory that the budget does not have.
    fn is_short(&self) -> bool {
        self.overdrawn.is_overdrawn()
    }

    /// Seals the open interval and begins to publish it, after the one before it is visible.
    async fn seal(&mut self, why: Flush) -> Result<()> {
        self.finish_publish().await?;
        self.since = None;
        let Some(buffer) = self.buffer.take() else {
            return Ok(());
        };
        self.holder.set(0);
        let memory = (
            std::mem::take(&mut self.permit),
            std::mem::take(&mut self.overdrawn),
            self.holder.publishes(buffer.bytes()),
        );
        if buffer.is_empty() {
            return Ok(());
        }
        let publisher = self.take_publisher()?;
        self.sealed = buffer.to;
        let (shared, stream_shard) = (&self.shared, &self.stream_shard);
        let publishing = Publishing::start(shared, stream_shard, publisher, buffer, memory, why);
        self.publishing = Some(publishing);
        Ok(())
    }

    /// Takes the publisher, which has published everything that was sealed.
    fn take_publisher(&mut self) -> Result<Publisher> {
        self.check_publisher()?;
        self.publisher.take().ok_or_else(|| self.failed())
    }

    /// Checks that nothing that was sealed is left invisible.
    fn check_publisher(&self) -> Result<()> {
        let publisher = self.publisher.as_ref().ok_or_else(|| self.failed())?;
        publisher.check_owner()?;
        match publisher.to == self.sealed {
            true => Ok(()),
            false => Err(self.failed()),
        }
    }

    fn failed(&self) -> Error {
        Error::fatal(format!(
            "an interval of shard `{}` could not be published: the shard has to be opened again",
            self.stream_shard.shard,
        ))
    }

    /// Waits until the interval that is being published is visible. Cancel-safe.
    async fn finish_publish(&mut self) -> Result<()> {
        if let Some(publishing) = &mut self.publishing {
            publishing.ended().await;
        }
        self.take_over().map(drop)
    }

    /// Takes over a publish that has ended, and returns whether there was one. Fails from the first that failed on.
    fn take_over(&mut self) -> Result<bool> {
        let Some(publishing) = &mut self.publishing else {
            return self.check_publisher().map(|()| false);
        };
        let Some(Ended { publisher, result }) = publishing.take_ended() else {
            return Ok(false);
        };
        self.publishing = None;
        self.publisher = publisher;
        result?;
        self.published = self.sealed;
        self.rests_since = Some(clock::now());
        Ok(true)
    }

    /// Marks the newest record as finished once nothing has followed it for two flush intervals: a busy chain needs no
    /// marks. Cancel-safe.
    async fn rest(&mut self) {
        let deadline = self
            .rests_since
            .map(|since| since + 2 * self.shared.flush.interval);
        clock::sleep_until(deadline).await;
        let is_empty = self.buffer.as_ref().is_none_or(|buffer| buffer.is_empty());
        let publisher = self.publisher.as_mut().filter(|_| is_empty);
        if let Some(marking) = publisher.and_then(Publisher::take_mark) {
            self.marking.spawn(marking);
        }
    }

    /// Records in the lake that the shard has ended. Its children start after that.
    async fn publish_end(&mut self) -> Result<()> {
        let mut publisher = self.take_publisher()?;
        if publisher.to != Position::End {
            let interval = Interval::new(publisher.to, Position::End);
            let opened = self.shared.context.clock.wall_micros();
            let (shared, stream_shard) = (&self.shared, &self.stream_shard);
            let mut record = record(shared, stream_shard, &publisher, interval, opened);
            if let Some(marks) = self.place.to_bytes() {
                record.marks = marks;
            }
            let result = publisher.publish(&record).await;
            self.publisher = Some(publisher);
            result?;
        } else {
            self.publisher = Some(publisher);
        }
        self.published = Position::End;
        self.sealed = Position::End;
        self.to = Position::End;
        Ok(())
    }

    /// Whether the open interval takes no more.
    fn is_full(&self) -> bool {
        let input = self
            .buffer
            .as_ref()
            .map_or(0, |buffer| buffer.input_bytes());
        self.rest.is_some() || input >= self.shared.flush.bytes
    }
}

#[async_trait]
impl ShardStage for SinkShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        if self.ended {
            return Err(Error::fatal(
                "the reader returned records after the end of the shard",
            ));
        }
        while let Some((batch, start)) = self.rest.take() {
            let alone = self.is_short();
            self.seal(Flush::Size).await?;
            if alone {
                self.finish_publish().await?;
            }
            self.feed(batch, start).await?;
        }
        let (before, mut final_marks) = (self.to, Vec::new());
        match read {
            Read::Batch(batch) if batch.counts_nothing() => {
                self.to = self.to.max(batch.to);
                self.place.follow(&batch, batch.to);
            }
            Read::Batch(batch) => self.feed(batch, 0).await?,
            Read::Idle { through } => self.to = self.to.max(through),
            Read::Gap {
                from,
                to,
                why,
                marks,
            } => {
                tracing::warn!(shard = %self.stream_shard.shard, %from, %to, why, "the stream no longer has these records, so the table will lack them");
                let mut buffer = self.open_buffer()?;
                buffer.gap(from, to, why);
                self.to = self.to.max(to);
                self.place.set(marks);
                self.buffer = Some(buffer);
            }
            Read::End { marks, .. } => {
                self.ended = true;
                final_marks = marks;
            }
        }
        if let Some(buffer) = &mut self.buffer
            && self.rest.is_none()
        {
            buffer.advance(self.to, &self.place);
        }
        self.place.set(final_marks);
        if self.to > before || self.ended {
            self.since.get_or_insert_with(clock::now);
        }
        Ok(())
    }

    /// A full interval and the end are due although one is being published, which the publish then waits for.
    fn due(&self, now: Instant) -> Option<Flush> {
        if let Some(publishing) = &self.publishing
            && publishing.has_ended()
        {
            return Some(publishing.why());
        }
        let since = self.since?;
        if self.ended {
            return Some(Flush::End);
        }
        if self.is_full() {
            return Some(Flush::Size);
        }
        if self.is_short() {
            return Some(Flush::Memory);
        }
        if self.publishing.is_some() {
            return None;
        }
        if now.saturating_duration_since(since) >= self.shared.flush.interval {
            return Some(Flush::Time);
        }
        let pressed = self.shared.context.budget.is_pressed() && self.holder.is_largest();
        pressed.then_some(Flush::Memory)
    }

    fn deadline(&self) -> Option<Instant> {
        if self.publishing.is_some() {
            return None;
        }
        self.since.map(|since| since + self.shared.flush.interval)
    }

    async fn changed(&mut self) {
        match &mut self.publishing {
            Some(publishing) => publishing.ended().await,
            None => {
                self.rest().await;
                std::future::pending().await
            }
        }
    }

    async fn settle(&mut self) {
        // While an interval is published, the publisher is in there.
        if let Some(marking) = self.publisher.as_mut().and_then(Publisher::take_mark) {
            marking.await;
        }
        while self.marking.join_next().await.is_some() {}
    }

    async fn publish(&mut self, why: Flush) -> Result<Progress> {
        let all = matches!(why, Flush::Revoke | Flush::Drain | Flush::End);
        let mut why = Some(why);
        if self.take_over()? && !all {
            // That is what was due; what has become due meanwhile is published next.
            why = self.due(clock::now());
        }
        while let Some(why) = why {
            // What takes more than its permit covers is published before anything else is taken.
            let alone = all || self.is_short();
            if alone || self.is_full() || self.publishing.is_none() {
                self.seal(why).await?;
            }
            if alone {
                self.finish_publish().await?;
            }
            let Some((batch, start)) = self.rest.take() else {
                break;
            };
            self.feed(batch, start).await?;
            if !all {
                break;
            }
        }
        if self.ended {
            self.finish_publish().await?;
            self.publish_end().await?;
        }
        // What is not visible is not progress.
        let waits = self.publishing.is_some() || self.buffer.is_some();
        Ok(Progress {
            to: if waits { self.published } else { self.to },
            ..Progress::default()
        })
    }
}
