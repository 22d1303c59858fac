//! One session: ordered, pipelined, idempotent appends of one upstream shard to the shards of an output.
//!
//! A [`LaneSession`] lives as long as the claim of its upstream shard. It keeps every batch until all its appends are
//! confirmed, and a lane per output shard that has received something. Several appends of a lane may be in flight: the
//! output keeps the order of submission and refuses one whose predecessor failed. After a failure a lane waits until
//! everything in flight has been answered and submits again, in order, from its oldest unconfirmed append; what was stored
//! although its answer was lost is found to be a duplicate, by the log or by its readers. When a shard has closed, the new
//! map is used once nothing is under way to a shard that it has closed: unconfirmed appends are routed again, and a lane of a
//! child claims for each part of its range what was confirmed in that part. A shard without room holds up its own lane; what
//! waits for room is taken back when something before it fails.
//!
//! A session holds no task: it makes progress while one of its methods runs, [`Session::tend`] between the others. Every
//! method is cancel-safe: a submission whose fate is unknown is submitted again.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, abortable};
use futures::stream::{FuturesUnordered, StreamExt};
use hydrant_core::clock::{self, Instant};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::{Appended, Ticket};
use hydrant_core::{Batch, Disposition, Error, Permit, Position, Result, ShardId};
use metrics::counter;
use tokio::task::unconstrained;

use super::Session;
use super::begun::FirstPosition;
use super::confirmed_by_range::ConfirmedByRange;
use super::lane::{Lane, LaneState, Sent, append_of};
use super::lane_output::LaneOutput;
use super::output_limits::OutputLimits;
use super::plan::{AppendSlice, Plan, Planner, growth_bytes, reroute};
use super::route::{RouteRule, Table};
use super::upstream::Upstream;

#[derive(Debug)]
struct KeptPlan {
    to: Position,
    unconfirmed: usize,
    /// What the batch takes beside the permit in it, until all of it is confirmed.
    permit: Permit,
}

#[derive(Clone, Copy, Debug, Default)]
struct UnconfirmedAppends {
    bytes: usize,
    appends: usize,
}

/// What became of an append of a lane.
struct LaneNews {
    shard: ShardId,
    id: u64,
    step: LaneStep,
}

enum LaneStep {
    /// The writer has it, or refused it.
    Taken(Result<Ticket>),
    /// It was taken back before the writer had it.
    TakenBack,
    Answered(Result<Appended>),
}

fn answer_of(shard: ShardId, id: u64, ticket: Ticket) -> BoxFuture<'static, LaneNews> {
    let step = ticket.map(LaneStep::Answered);
    step.map(move |step| LaneNews { shard, id, step }).boxed()
}

/// Whether nothing is under way to a shard that `next` has closed: what a child gets must not overtake it.
fn may_change(open: &BTreeMap<ShardId, Lane>, next: &Table) -> bool {
    let mut under_way = open.iter().filter(|(_, lane)| lane.in_flight > 0);
    under_way.all(|(shard, _)| next.get_open(shard).is_some())
        || mutant::is(Mutant::NewLaneBesideOld)
}

/// The appends of one claim; see the module.
pub(super) struct LaneSession {
    output: Arc<LaneOutput>,
    rule: RouteRule,
    upstream: Arc<Upstream>,
    limits: OutputLimits,
    /// The output was not asked yet whether the session may begin here.
    unasked: bool,
    first: Option<FirstPosition>,
    /// What the batch that is being planned may grow by.
    room: Permit,
    table: Arc<Table>,
    /// A newer map, which waits until nothing is under way to the shards that it has closed.
    next: Option<Arc<Table>>,
    began_at: Instant,
    open: BTreeMap<ShardId, Lane>,
    reached: ConfirmedByRange,
    kept: VecDeque<KeptPlan>,
    first_kept: u64,
    confirmed: Position,
    news: FuturesUnordered<BoxFuture<'static, LaneNews>>,
    next_piece: u64,
    unconfirmed: UnconfirmedAppends,
    /// Whether an append may wait to be submitted. Without it no lane is looked at: there may be hundreds.
    waits: bool,
    /// Whether a lane may be at fault.
    faulty: bool,
    duplicates: u64,
    /// What ended it.
    failure: Option<Error>,
}

impl fmt::Debug for LaneSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneSession")
            .field("shard", &self.upstream.shard)
            .field("confirmed", &self.confirmed)
            .field("unconfirmed", &self.unconfirmed)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Session for LaneSession {
    fn planner(&self) -> Planner {
        Planner {
            rule: self.rule.clone(),
            upstream: Arc::clone(&self.upstream),
            table: Arc::clone(&self.table),
            limits: self.limits,
        }
    }

    async fn room(&mut self, batch: &Batch) -> Result<()> {
        // A session that overdraws would wait for itself.
        self.room = Permit::default();
        self.room = self.hold(growth_bytes(batch)).await?;
        Ok(())
    }

    async fn send(&mut self, plan: Plan) -> Result<()> {
        self.pump().await?;
        while self.unconfirmed.appends > 0
            && (self.unconfirmed.bytes >= self.output.limits.bytes
                || self.unconfirmed.appends >= self.output.limits.appends)
        {
            self.wait().await;
            self.pump().await?;
        }
        let permit = self.resize_permit(plan.missing_bytes).await?;
        let is_overdrawn = permit.is_overdrawn();
        let taken = self.take(plan, permit);
        self.checked(taken)?;
        self.pump().await?;
        if is_overdrawn {
            // Another session may wait for its turn to overdraw.
            self.drain().await?;
        }
        Ok(())
    }

    fn skip(&mut self, through: Position) {
        self.first.get_or_insert(FirstPosition::After(through));
        match self.kept.back_mut() {
            Some(last) if last.unconfirmed == 0 => last.to = last.to.max(through),
            _ => self.kept.push_back(KeptPlan {
                to: through,
                unconfirmed: 0,
                permit: Permit::default(),
            }),
        }
        self.move_checkpoint();
    }

    async fn end(&mut self) -> Result<()> {
        // A log that checks knows by itself when an origin has ended.
        if !self.limits.checks_appends && !self.open.is_empty() {
            let to = self.kept.back().map_or(self.confirmed, |kept| kept.to);
            let lanes = self.open.keys();
            let ends = lanes.map(|shard| (shard.clone(), AppendSlice::end()));
            let ends = ends.collect();
            let placed = self.keep(to, Permit::default(), ends);
            self.checked(placed)?;
        }
        self.pump().await
    }

    async fn progress(&mut self) -> Result<Position> {
        self.pump().await?;
        Ok(self.confirmed)
    }

    async fn drain(&mut self) -> Result<Position> {
        loop {
            self.pump().await?;
            if self.kept.is_empty() {
                return Ok(self.confirmed);
            }
            self.wait().await;
        }
    }

    async fn advance(&mut self) -> Result<Position> {
        let before = self.confirmed;
        loop {
            self.pump().await?;
            if self.confirmed != before {
                return Ok(self.confirmed);
            }
            if self.kept.is_empty() {
                std::future::pending::<()>().await;
            }
            self.wait().await;
        }
    }

    async fn tend(&mut self) {
        while self.advance().await.is_ok() {}
        std::future::pending().await
    }

    fn duplicates(&self) -> u64 {
        self.duplicates
    }

    fn is_idle(&self) -> bool {
        self.kept.is_empty()
    }

    fn confirmed(&self) -> Position {
        self.confirmed
    }
}

impl LaneSession {
    pub(super) fn new(
        output: Arc<LaneOutput>,
        upstream: Upstream,
        rule: RouteRule,
        limits: OutputLimits,
        table: Arc<Table>,
    ) -> Self {
        let low = upstream.after;
        // Later on, what was asked when it began holds. A producer, which has no claim, begins with its first record.
        let begins = low == upstream.start && upstream.claim.is_some();
        LaneSession {
            output,
            rule,
            upstream: Arc::new(upstream),
            limits,
            unasked: begins,
            first: None,
            room: Permit::default(),
            table,
            next: None,
            began_at: clock::now(),
            open: BTreeMap::new(),
            reached: ConfirmedByRange::new(low),
            kept: VecDeque::new(),
            first_kept: 0,
            confirmed: low,
            news: FuturesUnordered::new(),
            next_piece: 0,
            unconfirmed: UnconfirmedAppends::default(),
            waits: false,
            faulty: false,
            duplicates: 0,
            failure: None,
        }
    }

    /// What a plan takes, out of the room that its batch was given, as far as that goes.
    async fn resize_permit(&mut self, bytes: u64) -> Result<Permit> {
        let mut room = std::mem::take(&mut self.room);
        room.shrink_to(bytes);
        if room.bytes() == bytes && !room.is_overdrawn() {
            return Ok(room);
        }
        if let Some(permit) = self.output.budget.try_acquire(bytes) {
            return Ok(permit);
        }
        if room.bytes() == bytes {
            return Ok(room);
        }
        drop(room);
        self.hold(bytes).await
    }

    /// Waits for memory, and gives that of confirmed batches back meanwhile.
    async fn hold(&mut self, bytes: u64) -> Result<Permit> {
        let output = Arc::clone(&self.output);
        let mut holding = std::pin::pin!(output.budget.acquire_more(bytes, &output.overdraft));
        loop {
            // Both arms are cancel-safe; the first one is kept.
            tokio::select! {
                biased;
                permit = &mut holding => return Ok(permit),
                confirmed = self.advance() => drop(confirmed?),
            }
        }
    }

    /// Waits for the next answer, for room, or for the end of a delay; returns at once when there is nothing to wait for.
    async fn wait(&mut self) {
        let retry = if self.faulty { self.retry() } else { None };
        if self.news.is_empty() && retry.is_none() {
            return;
        }
        let news = tokio::select! {
            biased;
            // Cancel-safe: news are taken out only when they are returned.
            Some(news) = self.news.next(), if !self.news.is_empty() => news,
            // Cancel-safe: a sleep holds nothing.
            () = clock::sleep_until(retry) => return,
        };
        self.note(news);
    }

    /// When the first lane at fault is tried again, of those that wait for nothing else.
    fn retry(&self) -> Option<Instant> {
        let faults = self
            .open
            .values()
            .filter_map(|lane| lane.fault.map(|fault| (lane, fault)));
        faults
            .filter(|(lane, fault)| match fault.closed {
                true => self.next.is_none(),
                false => lane.in_flight == 0,
            })
            .map(|(_, fault)| fault.not_before)
            .min()
    }

    /// Does everything that can be done without waiting for a confirmation.
    async fn pump(&mut self) -> Result<()> {
        self.check()?;
        while let Some(Some(news)) = self.news.next().now_or_never() {
            self.note(news);
        }
        self.check()?;
        self.ask().await?;
        let mended = self.mend().await;
        self.checked(mended)?;
        self.submit()?;
        self.move_checkpoint();
        Ok(())
    }

    /// Asks the output, before anything is sent or passed over, whether the session may begin where it does.
    async fn ask(&mut self) -> Result<()> {
        let Some(first) = self.first.filter(|_| self.unasked) else {
            return Ok(());
        };
        let (output, upstream) = (Arc::clone(&self.output), Arc::clone(&self.upstream));
        let (stream, writer) = (&*output.stream, &*output.writer);
        let asked = output.beginnings.check(stream, writer, &upstream, first);
        let asked = asked.await;
        self.checked(asked)?;
        self.unasked = false;
        Ok(())
    }

    /// Refuses to go on after a failure.
    fn check(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Ends the session when `result` is a failure.
    fn checked(&mut self, result: Result<()>) -> Result<()> {
        if let Err(error) = result {
            self.failure.get_or_insert(error);
        }
        self.check()
    }

    fn take(&mut self, plan: Plan, permit: Permit) -> Result<()> {
        if plan.pieces.is_empty() {
            self.skip(plan.to);
            return Ok(());
        }
        if self.unasked {
            let pieces = plan.pieces.iter().map(|(_, piece)| piece);
            self.first
                .get_or_insert_with(|| FirstPosition::of(pieces, plan.to));
        }
        let pieces = if Arc::ptr_eq(&plan.table, &self.table) {
            plan.pieces
        } else {
            let pieces = plan.pieces.into_iter().map(|(_, piece)| piece).collect();
            reroute(pieces, &self.table, self.limits, plan.to)?
        };
        self.keep(plan.to, permit, pieces)
    }

    fn keep(
        &mut self,
        to: Position,
        permit: Permit,
        pieces: Vec<(ShardId, AppendSlice)>,
    ) -> Result<()> {
        let batch = self.first_kept + self.kept.len() as u64;
        self.kept.push_back(KeptPlan {
            to,
            unconfirmed: 0,
            permit,
        });
        self.place(batch, pieces)
    }

    fn place(&mut self, batch: u64, pieces: Vec<(ShardId, AppendSlice)>) -> Result<()> {
        for (shard, piece) in pieces {
            let lane = match self.open.entry(shard) {
                Entry::Occupied(lane) => lane.into_mut(),
                Entry::Vacant(free) => {
                    let Some(shard) = self.table.get_open(free.key()) else {
                        return Err(Error::fatal("a record was routed to a closed shard"));
                    };
                    let range = shard.range;
                    free.insert(Lane::new(range, self.reached.over(range)))
                }
            };
            self.unconfirmed.bytes += piece.bytes;
            self.unconfirmed.appends += 1;
            if let Some(kept) = self.kept.get_mut((batch - self.first_kept) as usize) {
                kept.unconfirmed += 1;
            }
            lane.sent.push_back(Sent {
                id: self.next_piece,
                batch,
                state: LaneState::Waiting,
                elsewhere: None,
                piece,
            });
            self.waits = true;
            self.next_piece += 1;
        }
        Ok(())
    }

    /// Submits what waits, lane by lane in order, as far as no lane is at fault. A shard that has no room holds up its own
    /// lane alone.
    fn submit(&mut self) -> Result<()> {
        if !self.waits {
            return Ok(());
        }
        let (mut waits, mut failed) = (false, Ok(()));
        let low = self.low();
        for (shard, lane) in &mut self.open {
            let next = self.next.as_ref();
            if !lane.may_submit() || next.is_some_and(|next| next.get_open(shard).is_none()) {
                waits = true;
                continue;
            }
            for at in 0..lane.sent.len() {
                if lane.sent[at].state != LaneState::Waiting {
                    continue;
                }
                let append = append_of(
                    &self.upstream,
                    low,
                    lane.claims_of(at),
                    &lane.sent[at].piece,
                );
                let id = lane.submitted(at);
                let writer = Arc::clone(&self.output.writer);
                let submitted = shard.clone();
                let submission = async move { writer.submit(&submitted, append).await };
                let mut submission = submission.boxed();
                // Only the writer may make a submission wait: the many lanes of a batch would use up a task's turn.
                match unconstrained(&mut submission).now_or_never() {
                    Some(Ok(ticket)) => self.news.push(answer_of(shard.clone(), id, ticket)),
                    Some(Err(error)) => {
                        let error = lane.refused(at, error, &self.output.random, shard);
                        failed = failed.and(error.map_or(Ok(()), Err));
                        (waits, self.faulty) = (true, true);
                        break;
                    }
                    None => {
                        let (submission, parked) = abortable(submission);
                        lane.parked = Some(parked);
                        waits = true;
                        let shard = shard.clone();
                        let taken = submission.map(move |taken| LaneNews {
                            shard,
                            id,
                            step: taken.map_or(LaneStep::TakenBack, LaneStep::Taken),
                        });
                        self.news.push(taken.boxed());
                        break;
                    }
                }
            }
        }
        self.waits = waits;
        self.checked(failed)
    }

    /// The checkpoint with which the session began, once the output has certainly placed everything up to it before what
    /// is handed in now. An older one than the newest is always safe, and claims join what lies between.
    fn low(&self) -> Position {
        let is_newest = mutant::is(Mutant::NewestAsLow);
        let is_old = clock::now() >= self.began_at + self.output.writer.reorders_within();
        match () {
            () if is_newest => self.confirmed,
            () if is_old || mutant::is(Mutant::StartAsLow) => self.upstream.after,
            () => Position::Begin,
        }
    }

    fn note(&mut self, news: LaneNews) {
        let LaneNews { shard, id, step } = news;
        let Some(lane) = self.open.get_mut(&shard) else {
            return;
        };
        let Some(at) = lane.sent.iter().position(|sent| sent.id == id) else {
            return;
        };
        let answer = match step {
            LaneStep::TakenBack => return,
            LaneStep::Taken(taken) => {
                lane.parked = None;
                self.waits = true;
                match taken {
                    Ok(ticket) => return self.news.push(answer_of(shard, id, ticket)),
                    Err(error) => Err(error),
                }
            }
            LaneStep::Answered(answer) => answer,
        };
        match answer {
            Ok(appended) => {
                let sent = &mut lane.sent[at];
                self.output.appends.increment(1);
                self.output.duplicates.increment(appended.duplicates);
                self.duplicates += appended.duplicates;
                self.unconfirmed.bytes -= sent.piece.bytes;
                self.unconfirmed.appends -= 1;
                if let Some(kept) = self.kept.get_mut((sent.batch - self.first_kept) as usize) {
                    kept.unconfirmed -= 1;
                    if kept.unconfirmed == 0 {
                        kept.permit = Permit::default();
                    }
                }
                let elsewhere = (appended.shard != shard).then_some(appended.shard);
                self.faulty |= elsewhere.is_some();
                lane.stored(at, elsewhere);
            }
            Err(error) => {
                (self.waits, self.faulty) = (true, true);
                let refused = lane.refused(at, error, &self.output.random, &shard);
                self.failure = self.failure.take().or(refused);
            }
        }
    }

    /// Ends faults whose time has come and takes a newer map into use.
    async fn mend(&mut self) -> Result<()> {
        if !self.faulty {
            return Ok(());
        }
        let now = clock::now();
        let mut closed = false;
        for lane in self.open.values_mut() {
            match lane.fault {
                Some(fault) if fault.closed => closed |= fault.not_before <= now,
                Some(fault) if lane.in_flight == 0 && fault.not_before <= now => lane.fault = None,
                _ => {}
            }
        }
        if self.next.is_none() && closed {
            match self.output.table_after(&self.table).await {
                Ok(table) => self.next = Some(table),
                Err(error) => self.postpone(error)?,
            }
        }
        if let Some(next) = self.next.take_if(|next| may_change(&self.open, next)) {
            self.change_map(next)?;
        }
        let at_fault = self.open.values().any(|lane| lane.fault.is_some());
        self.faulty = at_fault || self.next.is_some();
        Ok(())
    }

    /// The map could not be read: closed lanes wait.
    fn postpone(&mut self, error: Error) -> Result<()> {
        let Disposition::Retry { after } = error.disposition() else {
            return Err(error);
        };
        for lane in self.open.values_mut() {
            if lane.fault.is_some_and(|fault| fault.closed) {
                lane.wait_for_map(after, &self.output.random);
            }
        }
        Ok(())
    }

    /// Ends the lanes of closed shards, to which nothing is under way any more, and gives what they had not confirmed to
    /// their children's.
    fn change_map(&mut self, next: Arc<Table>) -> Result<()> {
        self.table = next;
        let table = Arc::clone(&self.table);
        let mut orphans: BTreeMap<u64, Vec<AppendSlice>> = BTreeMap::new();
        for (_, lane) in self
            .open
            .extract_if(.., |shard, _| table.get_open(shard).is_none())
        {
            for part in lane.confirmed_by(&table) {
                self.reached.set(part);
            }
            for sent in lane.sent {
                if sent.state == LaneState::Stored {
                    continue;
                }
                self.unconfirmed.bytes -= sent.piece.bytes;
                self.unconfirmed.appends -= 1;
                if let Some(kept) = self.kept.get_mut((sent.batch - self.first_kept) as usize) {
                    kept.unconfirmed -= 1;
                }
                orphans.entry(sent.batch).or_default().push(sent.piece);
            }
        }
        counter!("hydrant_lanes_reroutes_total").increment(1);
        let mut orphans: Vec<_> = orphans.into_iter().collect();
        if mutant::is(Mutant::NewestRoutedFirst) {
            orphans.reverse();
        }
        for (batch, pieces) in orphans {
            let to = self.kept[(batch - self.first_kept) as usize].to;
            let pieces = reroute(pieces, &table, self.limits, to)?;
            self.place(batch, pieces)?;
        }
        for lane in self.open.values_mut() {
            // The map still shows a shard open that refused as closed: it is read again after a delay.
            if lane.fault.is_some_and(|fault| fault.closed) {
                lane.wait_for_map(Duration::ZERO, &self.output.random);
            }
        }
        Ok(())
    }

    /// Moves the checkpoint over the batches that are confirmed.
    fn move_checkpoint(&mut self) {
        if self.unasked {
            return;
        }
        let is_early = mutant::is(Mutant::ConfirmedWhenSent);
        while let Some(kept) = self
            .kept
            .pop_front_if(|kept| kept.unconfirmed == 0 || is_early)
        {
            self.first_kept += 1;
            self.confirmed = self.confirmed.max(kept.to);
        }
    }
}
