//! The way of a record: input, chunk, batch, plan, lanes, ledger.
//!
//! ```text
//! input ─(2 chunks)─> batcher ─> planned on a worker ─> lanes (16 MiB, 256 appends) ─> stream
//!                                                          └─ confirmed ─> ledger (every 250 ms)
//! ```
//! Every chunk holds bytes of the budget until its batch is durable, so that a slow stream slows the
//! input. One task owns everything behind the input; it never waits for one of its parts alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hydrant_core::clock::{self, Instant};
use hydrant_core::origin::WriterId;
use hydrant_core::shutdown::Phase;
use hydrant_core::stream::SharedStream;
use hydrant_core::{Context, Error, Position, Result, ShardId, Shutdown};
use hydrant_stream::delivery::{LaneSession, Lanes, Limits as LaneLimits, Plan, Routing, Upstream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::batcher::{Batcher, Chunk, Flight, Ready};
use crate::config::Config;
use crate::ledger::{Claim, Keeper, Ledger};
use crate::pace::Pace;
use crate::report::{Counters, Ended, Report, Subject, Tally};
use crate::source::{Limits, Source};
use crate::wire;

/// Chunks between the input and the batcher: one is taken while the next is made.
const CHUNKS: usize = 2;

/// Sends everything that the input has into the stream, which is made if it is local and absent.
///
/// Ends when the input does, or after `shutdown` began to drain: then the input stops, and everything
/// accepted is stored before the report is made. `counters` tell of the progress on the way.
///
/// # Errors
/// Refused when configuration, input and ledger do not fit together: nothing was sent then. Fatal when
/// the input or the stream fails on the way; what was accepted before is stored where that is possible.
pub async fn run(
    config: Config,
    context: &Context,
    shutdown: Shutdown,
    counters: Option<Arc<Counters>>,
) -> Result<Report> {
    let stream = wire::open(&config, context).await?;
    run_into(
        stream,
        &config,
        context,
        &shutdown,
        counters.unwrap_or_default(),
    )
    .await
}

/// Like [`run`], into a stream that is open already.
///
/// # Errors
/// As [`run`].
pub async fn run_into(
    stream: SharedStream,
    config: &Config,
    context: &Context,
    shutdown: &Shutdown,
    counters: Arc<Counters>,
) -> Result<Report> {
    let claim = match &config.remembered {
        Some(remembered) => Some(Claim::take(context, &remembered.ledger).await?),
        None => None,
    };
    let lanes = Lanes::open(
        SharedStream::clone(&stream),
        Routing::Natural,
        LaneLimits::default(),
        context,
    )
    .await?;
    let limits = Limits {
        record_bytes_max: lanes.record_bytes_max(),
        chunk_bytes: usize::try_from(config.batch_bytes).unwrap_or(usize::MAX),
    };
    let subject = Subject {
        url: stream.url().to_owned(),
        stream: stream.id().to_string(),
        name: config.remembered.as_ref().map(|who| who.name.clone()),
    };
    let mut tally = Tally::new(counters);
    let opening = Source::open(config, context, limits);
    let mut source = tokio::select! {
        biased;
        // An input that never says anything has lost nothing.
        () = shutdown.draining() => {
            let noted = match &claim {
                Some(claim) => claim.noted(context).await?,
                None => 0,
            };
            return Ok(tally.report(subject, Ended::Drained, 0, Duration::ZERO, noted));
        }
        source = opening => source?,
    };
    let ledger = match (claim, &config.remembered) {
        (Some(claim), Some(who)) => Some(
            claim
                .open(context, &who.name, stream.id(), source.identity())
                .await?,
        ),
        _ => None,
    };
    let (writer, shard) = identity(config, ledger.as_ref(), context);
    let start = ledger.as_ref().map_or(0, Ledger::next_index);
    source.start(start);
    let session = lanes
        .session(Upstream {
            writer,
            stream: stream.id().clone(),
            shard,
            start: Position::Begin,
            after: position(start),
            stage: Arc::from("producer"),
        })
        .await;
    let pace = config.rate.map(|rate| Pace::new(rate, config.linger));
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let mut tasks = JoinSet::new();
    tasks.spawn(feed(source, pace, sender, shutdown.clone()));
    let mut sending = Sending {
        context: context.clone(),
        session,
        batcher: Batcher::new(config.batch_bytes, config.linger),
        chunks: Some(chunks),
        planning: None,
        flights: VecDeque::new(),
        keeper: ledger.map(Keeper::new),
        next_index: start,
        started: None,
        input_error: None,
    };
    let elapsed = tokio::select! {
        biased;
        () = shutdown.reached(Phase::Aborting) => {
            return Err(Error::fatal(
                "ended at once: what was accepted and is not yet stored is lost, unless a ledger \
                 sends it again",
            ));
        }
        done = sending.run(&mut tally) => done?,
    };
    // A panic of the feeding task must not look like the end of the input.
    if let Some(Err(failure)) = tasks.join_next().await {
        return Err(Error::fatal(format!(
            "the task that reads the input ended: {failure}"
        )));
    }
    if let Some(error) = sending.input_error.take() {
        let durable = sending.next_index;
        tracing::warn!(
            next_index = durable,
            "the input failed; what came before it is stored"
        );
        return Err(error);
    }
    let ended = if shutdown.is_draining() {
        Ended::Drained
    } else {
        Ended::Input
    };
    let duplicates = sending.session.duplicates();
    Ok(tally.report(subject, ended, duplicates, elapsed, sending.next_index))
}

/// By what the stream knows this producer's records again: the ledger across restarts; else something
/// drawn for this run, which makes its own retries harmless.
fn identity(config: &Config, ledger: Option<&Ledger>, context: &Context) -> (WriterId, ShardId) {
    match (&config.remembered, ledger) {
        (Some(who), Some(ledger)) => (
            WriterId::of_name(&who.name),
            ShardId::new(format!("input-{}", ledger.id())),
        ),
        _ => {
            let drawn = context.random.identity();
            (WriterId::of_run(&drawn), ShardId::new("input"))
        }
    }
}

/// The checkpoint that says that everything below `index` is done.
fn position(index: u64) -> Position {
    match index {
        0 => Position::Begin,
        index => Position::offset(index - 1),
    }
}

/// Hands chunks on until the input ends or the process drains.
async fn feed(
    mut source: Source,
    mut pace: Option<Pace>,
    chunks: mpsc::Sender<Result<Chunk>>,
    shutdown: Shutdown,
) {
    loop {
        let next = tokio::select! {
            biased;
            // A chunk that is lost here was not accepted.
            () = shutdown.draining() => return,
            next = source.next(pace.as_mut()) => next,
        };
        let (chunk, last) = match next {
            Ok(None) => return,
            Ok(Some(chunk)) => (Ok(chunk), false),
            Err(error) => (Err(error), true),
        };
        if chunks.send(chunk).await.is_err() || last {
            return;
        }
    }
}

type Planning = BoxFuture<'static, Result<(Plan, Flight)>>;

/// Everything behind the input.
struct Sending {
    context: Context,
    session: LaneSession,
    batcher: Batcher,
    /// `None` once the input has ended.
    chunks: Option<mpsc::Receiver<Result<Chunk>>>,
    planning: Option<Planning>,
    /// What is sent and not confirmed, oldest first.
    flights: VecDeque<Flight>,
    keeper: Option<Keeper>,
    /// Everything below is durable.
    next_index: u64,
    started: Option<Instant>,
    input_error: Option<Error>,
}

impl Sending {
    /// Until the input has ended and everything of it is durable and noted; answers how long that took.
    async fn run(&mut self, tally: &mut Tally) -> Result<Duration> {
        while self.step(tally).await? {}
        let elapsed = self
            .started
            .map_or_else(Default::default, |at| at.elapsed());
        if let Some(keeper) = &mut self.keeper {
            keeper.finish().await?;
        }
        Ok(elapsed)
    }

    /// One event; `false` when there is nothing left to wait for.
    async fn step(&mut self, tally: &mut Tally) -> Result<bool> {
        let may_take = self.planning.is_none();
        let linger = if may_take {
            self.batcher.deadline()
        } else {
            None
        };
        tokio::select! {
            biased;
            // Cancel-safe by the session's promise.
            moved = self.session.advance(), if !self.flights.is_empty() => {
                moved?;
                self.settle(tally);
            }
            // Cancel-safe: the future stays where it is until it is done.
            planned = present(&mut self.planning), if self.planning.is_some() => {
                self.planning = None;
                let (plan, flight) = planned?;
                self.flights.push_back(flight);
                self.session.send(plan).await?;
                self.settle(tally);
            }
            // Cancel-safe by the keeper's promise.
            kept = keep(&mut self.keeper), if self.keeper.is_some() => kept?,
            // Cancel-safe: a sleep holds nothing.
            () = clock::sleep_until(linger), if linger.is_some() => {
                let ready = self.batcher.flush();
                self.plan(ready);
            }
            // Cancel-safe: waiting takes nothing. A batch that grows holds what the input waits for.
            () = self.context.budget.pressure(), if linger.is_some() => {
                let ready = self.batcher.flush();
                self.plan(ready);
            }
            // Cancel-safe: a chunk is taken out only when it is returned.
            chunk = receive(&mut self.chunks), if may_take && self.chunks.is_some() => {
                let ready = self.take(chunk, tally);
                self.plan(ready);
            }
            else => return Ok(false),
        }
        Ok(!self.is_done())
    }

    fn is_done(&self) -> bool {
        self.chunks.is_none()
            && self.planning.is_none()
            && self.flights.is_empty()
            && self.batcher.deadline().is_none()
    }

    fn take(&mut self, chunk: Option<Result<Chunk>>, tally: &mut Tally) -> Option<Ready> {
        let chunk = match chunk {
            Some(Ok(chunk)) => chunk,
            ended => {
                self.chunks = None;
                self.input_error = ended.and_then(Result::err);
                return self.batcher.flush();
            }
        };
        self.started.get_or_insert(chunk.produced);
        let keyless = chunk
            .records
            .iter()
            .filter(|entry| entry.key.is_none())
            .count();
        tally.accepted(chunk.records.len() as u64, keyless as u64, chunk.bytes());
        tally.refused(&chunk.refused);
        self.batcher.push(chunk)
    }

    fn plan(&mut self, ready: Option<Ready>) {
        let Some(Ready { batch, flight }) = ready else {
            return;
        };
        let planner = self.session.planner();
        let workers = self.context.workers.clone();
        self.planning = Some(Box::pin(async move {
            let plan = workers.run(move || planner.plan_records(batch)).await??;
            Ok((plan, flight))
        }));
    }

    /// Takes note of what is durable.
    fn settle(&mut self, tally: &mut Tally) {
        let Some(done) = self.session.confirmed().next_offset() else {
            return;
        };
        let now = clock::now();
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.end <= done) {
            let took = now.saturating_duration_since(flight.produced);
            tally.durable(flight.records, flight.bytes, took);
            self.next_index = self.next_index.max(flight.end);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.note(self.next_index);
        }
    }
}

async fn present<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn keep(keeper: &mut Option<Keeper>) -> Result<()> {
    match keeper {
        Some(keeper) => keeper.turn().await,
        None => std::future::pending().await,
    }
}

async fn receive(chunks: &mut Option<mpsc::Receiver<Result<Chunk>>>) -> Option<Result<Chunk>> {
    match chunks {
        Some(chunks) => chunks.recv().await,
        None => std::future::pending().await,
    }
}
