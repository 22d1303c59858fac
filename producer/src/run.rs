//! Runs a producer: from input to chunk, batch, plan, lanes and ledger.
//!
//! ```text
//! input ─(2 chunks)─> batcher ─> planned on a worker ─> lanes (16 MiB, 256 appends) ─> stream
//!                                                          └─ confirmed ─> ledger (every 250 ms)
//! ```
//! Every chunk holds bytes of the budget until its batch is durable, so that a slow stream slows the
//! input. One task owns everything behind the input; it never waits for one of its parts alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hydrant_core::clock::{self, Instant};
use hydrant_core::origin::WriterId;
use hydrant_core::shutdown::Phase;
use hydrant_core::stream::SharedStream;
use hydrant_core::{Context, Error, Position, Result, ShardId, Shutdown, StreamId};
use hydrant_stream::delivery::{Delivery, Keys, Plan, Session, Upstream, deliver_into};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::batcher::{Batcher, Flight, InputChunk, ReadyBatch, position};
use crate::config::{Config, InputSpec, Remembered};
use crate::input::chunk_source::{self, ChunkSource};
use crate::input::files::own_files::OwnFiles;
use crate::input::indexer::ChunkLimits;
use crate::input::pace::SendPace;
use crate::key::KeyTemplate;
use crate::ledger::ProducerLedger;
use crate::ledger::writer::LedgerWriter;
use crate::output;
use crate::report::{Counters, EndCause, RunReport, RunTally};

mod waiting;

use waiting::{OpenedFile, Queue, WaitingChunk};

/// Chunks between the input and the batcher: one is taken while the next is made.
const CHUNKS: usize = 2;

/// Sends everything that the input has into the stream, which is made if it is local and absent.
///
/// Ends when the input does, or after `shutdown` began to drain: then the input stops, and everything
/// accepted is stored before the report is made. `counters` show the progress on the way.
///
/// # Errors
/// Refused when configuration, input and ledger do not fit together: nothing was sent then. Fatal when
/// the input or the stream fails on the way; what was accepted before is stored where that is possible.
pub async fn run(
    config: Config,
    context: &Context,
    shutdown: Shutdown,
    counters: Option<Arc<Counters>>,
) -> Result<RunReport> {
    if let InputSpec::Files(files) = &config.origin {
        let (own, files) = (OwnFiles::of(&config), files.clone());
        context.workers.run(move || own.check(&files)).await??;
    }
    let stream = output::open(&config, context).await?;
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
) -> Result<RunReport> {
    let delivery = deliver_into(&stream, Keys::Kept, context).await?;
    let record_bytes_max = usize::try_from(config.record_bytes).unwrap_or(usize::MAX);
    let limits = ChunkLimits {
        record_bytes_max: record_bytes_max.min(delivery.record_bytes_max()),
        keys: delivery.keys(),
        chunk_bytes: usize::try_from(config.chunk_bytes()).unwrap_or(usize::MAX),
    };
    let named = RunReport {
        url: stream.url().to_owned(),
        stream: stream.id().to_string(),
        name: config.remembered.as_ref().map(|who| who.name.clone()),
        ..RunReport::default()
    };
    let _unstored = Unstored {
        counters: Arc::clone(&counters),
        is_remembered: config.remembered.is_some(),
    };
    let key = config.key.as_ref().map(KeyTemplate::text);
    let mut tally = RunTally::new(counters, named).wanting_key(key);
    let mut source = ChunkSource::open(config, context, limits)?;
    let ledger = match &config.remembered {
        Some(Remembered { name, ledger }) => {
            let input = chunk_source::identity(config);
            Some(ProducerLedger::open(context, ledger, name, stream.id(), input).await?)
        }
        None => None,
    };
    let by_file = ledger.is_some() && matches!(config.origin, InputSpec::Files(_));
    source.start(ledger.as_ref());
    let start = ledger.as_ref().map_or(0, ProducerLedger::next_index);
    let mut way = Way::new(config, ledger.as_ref(), delivery, stream.id(), context);
    if !by_file {
        way.turn_to(0, "", start).await?;
    }
    let shards = stream.shards().await?.open().count();
    let pace = config.rate.map(|rate| SendPace::new(rate, config.linger));
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let mut tasks = JoinSet::new();
    tasks.spawn(feed(source, pace, sender, shutdown.clone()));
    let mut sending = Sending {
        context: context.clone(),
        way,
        batcher: Batcher::new(config.batch_bytes(shards), config.linger, shards),
        chunks: Some(chunks),
        waiting: Queue::new(context.budget.total_bytes()),
        planning: None,
        flights: VecDeque::new(),
        ledger_writer: ledger.map(LedgerWriter::new),
        by_file,
        shutdown: shutdown.clone(),
        next_index: start,
        started: None,
        input_error: None,
    };
    let elapsed = tokio::select! {
        biased;
        () = shutdown.reached(Phase::Aborting) => {
            return Err(Error::fatal("a second signal ended the producer at once"));
        }
        done = sending.run(&mut tally) => done?,
    };
    check_feeding(tasks.join_next().await)?;
    if let Some(error) = sending.input_error.take() {
        if sending.started.is_some() {
            tracing::warn!(
                next_index = sending.next_index,
                "the input failed; everything that was read is stored"
            );
        }
        return Err(error);
    }
    let ended = if shutdown.is_draining() {
        EndCause::Drained
    } else {
        EndCause::Input
    };
    let duplicates = sending.way.duplicates();
    Ok(tally.report(ended, duplicates, elapsed, sending.next_index))
}

/// Warns, however a run ends, of records that were accepted and are not known to be stored.
struct Unstored {
    counters: Arc<Counters>,
    is_remembered: bool,
}

impl Drop for Unstored {
    fn drop(&mut self) {
        let records = self
            .counters
            .accepted()
            .saturating_sub(self.counters.durable());
        if records == 0 {
            return;
        }
        if self.is_remembered {
            tracing::warn!(
                records,
                "the run ended before these records were known to be stored: start again with the same `--ledger`, which \
                 sends them again and stores nothing twice"
            );
        } else {
            tracing::warn!(
                records,
                "the run ended before these records were known to be stored: some of them may be missing in the stream; with \
                 `--name` and `--ledger` they would be sent again"
            );
        }
    }
}

/// The path into the stream: a session for each file that has origins of its own, one at a time.
struct Way {
    delivery: Arc<dyn Delivery>,
    output: StreamId,
    writer: WriterId,
    /// The beginning of the origin shards of all files.
    shard: String,
    session: Option<Box<dyn Session>>,
    /// The number of the file that is on its way.
    number: u32,
    /// Of each file that is or was on its way, the index below which everything is durable.
    durable: BTreeMap<u32, u64>,
    duplicates: u64,
}

impl Way {
    /// The origin of this producer's records: the ledger, across restarts; else a random id of this run, which makes
    /// its own retries harmless.
    fn new(
        config: &Config,
        ledger: Option<&ProducerLedger>,
        delivery: Arc<dyn Delivery>,
        output: &StreamId,
        context: &Context,
    ) -> Self {
        let (writer, shard) = match (&config.remembered, ledger) {
            (Some(who), Some(ledger)) => (
                WriterId::of_name(&who.name),
                format!("input-{}", ledger.id()),
            ),
            _ => (
                WriterId::of_run(&context.random.identity()),
                "input".to_owned(),
            ),
        };
        Way {
            delivery,
            output: output.clone(),
            writer,
            shard,
            session: None,
            number: 0,
            durable: BTreeMap::new(),
            duplicates: 0,
        }
    }

    fn is_at(&self, number: u32) -> bool {
        self.session.is_some() && self.number == number
    }

    /// Whether the file of this number is on its way or was before.
    fn knows(&self, number: u32) -> bool {
        self.durable.contains_key(&number)
    }

    /// Forgets files that are not on their way and never come again.
    fn forget(&mut self, numbers: &[u32]) {
        for number in numbers.iter().filter(|number| **number != self.number) {
            self.durable.remove(number);
        }
    }

    /// Begins with the file of this number, at `start` if it was not on its way before. Nothing is on its way.
    async fn turn_to(&mut self, number: u32, origin: &str, start: u64) -> Result<()> {
        if let Some(session) = self.session.take() {
            self.duplicates += session.duplicates();
        }
        self.number = number;
        let durable = *self.durable.entry(number).or_insert(start);
        let upstream = Upstream {
            writer: self.writer,
            claim: None,
            stream: self.output.clone(),
            shard: ShardId::new(format!("{}{origin}", self.shard)),
            start: Position::Begin,
            after: position(durable),
            // It sends records only.
            unit_route: 0,
            stage: Arc::from("producer"),
        };
        self.session = Some(self.delivery.open(upstream).await?);
        Ok(())
    }

    /// Ends the origin of a run: no other one goes on with it.
    async fn end(&mut self) -> Result<()> {
        if let Some(session) = self.session.as_mut().filter(|_| self.writer.is_run()) {
            session.end().await?;
            session.drain().await?;
        }
        Ok(())
    }

    fn duplicates(&self) -> u64 {
        self.duplicates
            + self
                .session
                .as_ref()
                .map_or(0, |session| session.duplicates())
    }
}

/// Hands chunks on until the input ends or the process drains.
async fn feed(
    mut source: ChunkSource,
    mut pace: Option<SendPace>,
    chunks: mpsc::Sender<Result<InputChunk>>,
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

/// Fails if the feeding task panicked, which must not look like the end of the input.
fn check_feeding(ended: Option<std::result::Result<(), JoinError>>) -> Result<()> {
    match ended {
        Some(Err(_)) => Err(Error::panicked("the task that reads the input")),
        _ => Ok(()),
    }
}

type Planning = BoxFuture<'static, Result<(Plan, Flight)>>;

/// Everything behind the input.
struct Sending {
    context: Context,
    way: Way,
    batcher: Batcher,
    /// `None` once the input has ended.
    chunks: Option<mpsc::Receiver<Result<InputChunk>>>,
    /// What was taken from the input: a chunk of another file waits until nothing is on its way and the ledger knows
    /// that file.
    waiting: Queue,
    planning: Option<Planning>,
    /// What is sent and not confirmed, oldest first.
    flights: VecDeque<Flight>,
    ledger_writer: Option<LedgerWriter>,
    by_file: bool,
    shutdown: Shutdown,
    /// Everything below is durable; of files, the sum of their indexes.
    next_index: u64,
    started: Option<Instant>,
    input_error: Option<Error>,
}

impl Sending {
    /// Until the input has ended and everything of it is durable and noted; answers how long that took.
    async fn run(&mut self, tally: &mut RunTally) -> Result<Duration> {
        while self.step(tally).await? {}
        self.way.end().await?;
        let elapsed = self
            .started
            .map_or_else(Default::default, |at| at.elapsed());
        if let Some(ledger_writer) = &mut self.ledger_writer {
            ledger_writer.finish(&self.shutdown).await?;
        }
        Ok(elapsed)
    }

    /// One event; `false` when there is nothing left to wait for.
    async fn step(&mut self, tally: &mut RunTally) -> Result<bool> {
        self.work_off(tally).await?;
        let is_free = self.planning.is_none() && self.waiting.is_empty();
        let may_take = is_free || self.by_file && self.waiting.has_room();
        let linger = match (is_free, self.flights.is_empty()) {
            (true, true) => self.batcher.deadline(),
            (true, false) => self.batcher.deadline_while_busy(),
            (false, _) => None,
        };
        tokio::select! {
            biased;
            // Cancel-safe by the session's promise.
            moved = or_never(self.way.session.as_mut().map(|one| one.advance())), if !self.flights.is_empty() => {
                moved?;
                self.note_confirmed(tally);
            }
            // Cancel-safe: the future stays where it is until it is done.
            planned = or_never(self.planning.as_mut()), if self.planning.is_some() => {
                self.planning = None;
                let (plan, flight) = planned?;
                self.flights.push_back(flight);
                if let Some(session) = &mut self.way.session {
                    session.send(plan).await?;
                }
                self.note_confirmed(tally);
            }
            // Cancel-safe by the ledger_writer's promise.
            written = or_never(self.ledger_writer.as_mut().map(LedgerWriter::turn)), if self.ledger_writer.is_some() => written?,
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
            chunk = or_never(self.chunks.as_mut().map(mpsc::Receiver::recv)), if may_take && self.chunks.is_some() => {
                self.receive(chunk);
            }
            else => return Ok(false),
        }
        Ok(!(self.chunks.is_none() && self.waiting.is_empty() && self.is_idle()))
    }

    /// Whether nothing is on its way.
    fn is_idle(&self) -> bool {
        self.planning.is_none() && self.flights.is_empty() && self.batcher.deadline().is_none()
    }

    fn receive(&mut self, chunk: Option<Result<InputChunk>>) {
        match chunk {
            Some(Ok(chunk)) => {
                let number = chunk.part.number;
                let mut waiting = WaitingChunk {
                    chunk,
                    opened: None,
                };
                // A file of which this run sent nothing is noted in the ledger ahead, many at once. Of others it is not
                // known yet how far they are stored.
                if !self.way.knows(number) && !self.waiting.holds(number) {
                    open(&mut self.ledger_writer, &mut waiting);
                }
                self.waiting.push(waiting);
            }
            ended => {
                self.chunks = None;
                self.input_error = ended.and_then(Result::err);
            }
        }
    }

    /// Sends the chunks that wait and may be sent.
    async fn work_off(&mut self, tally: &mut RunTally) -> Result<()> {
        while self.planning.is_none() {
            let Some(WaitingChunk { chunk, .. }) = self.waiting.front() else {
                if self.chunks.is_none() {
                    let ready = self.batcher.flush();
                    self.plan(ready);
                }
                return Ok(());
            };
            let is_at = !self.by_file || self.way.is_at(chunk.part.number);
            if chunk.is_note() {
                if let Some(note) = self.waiting.pop() {
                    self.note(note);
                }
            } else if is_at {
                let ready = self.waiting.pop().and_then(|chunk| self.take(chunk, tally));
                self.plan(ready);
            } else if self.batcher.deadline().is_some() {
                let ready = self.batcher.flush();
                self.plan(ready);
            } else if self.shutdown.is_draining() {
                // None of it was accepted: the next run reads it again. The input ends with it, since what comes behind it
                // may be of the file that is on its way, and would be stored behind a gap.
                self.waiting.clear();
                self.chunks = None;
            } else if !self.flights.is_empty() || !self.turn().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes note of a file that brings no record, and of files that are not remembered any more.
    fn note(&mut self, chunk: InputChunk) {
        if let Some(ledger_writer) = &mut self.ledger_writer
            && !chunk.part.forgets.is_empty()
        {
            ledger_writer.forget(&chunk.part.forgets);
            self.way.forget(&chunk.part.forgets);
        }
        let Some(mark) = chunk.part.mark else {
            return;
        };
        let is_on_its_way = self.way.is_at(mark.number) && !self.is_idle();
        if is_on_its_way {
            if let Some(mark) = self.batcher.mark(mark)
                && let Some(last) = self.flights.back_mut()
            {
                last.mark = Some(mark);
            }
        } else if let Some(ledger_writer) = &mut self.ledger_writer {
            ledger_writer.note_file(*mark);
        }
    }

    /// Turns to the file of the first chunk that waits, once the ledger knows it durably; nothing is on its way.
    async fn turn(&mut self) -> Result<bool> {
        let Some(waiting) = self.waiting.front() else {
            return Ok(false);
        };
        open(&mut self.ledger_writer, waiting);
        let start = match (waiting.opened, &mut self.ledger_writer) {
            (Some(opened), Some(ledger_writer)) if !ledger_writer.has_written(opened.note) => {
                ledger_writer.hurry(opened.note);
                return Ok(false);
            }
            (Some(opened), _) => opened.start,
            (None, _) => 0,
        };
        let part = waiting.chunk.part.clone();
        self.way.turn_to(part.number, &part.origin, start).await?;
        Ok(true)
    }

    fn take(&mut self, chunk: InputChunk, tally: &mut RunTally) -> Option<ReadyBatch> {
        self.started.get_or_insert(chunk.produced);
        let keyless = chunk
            .records
            .iter()
            .filter(|entry| entry.key.is_none())
            .count();
        tally.accepted(chunk.records.len() as u64, keyless as u64, chunk.bytes());
        tally.refused(&chunk.part.name, &chunk.refused);
        self.batcher.push(chunk)
    }

    fn plan(&mut self, ready: Option<ReadyBatch>) {
        let Some(ReadyBatch { batch, flight }) = ready else {
            return;
        };
        let Some(planner) = self.way.session.as_ref().map(|session| session.planner()) else {
            return;
        };
        let workers = self.context.workers.clone();
        self.planning = Some(Box::pin(async move {
            let plan = workers.run(move || planner.plan_records(batch)).await??;
            Ok((plan, flight))
        }));
    }

    /// Notes what the stream has confirmed.
    fn note_confirmed(&mut self, tally: &mut RunTally) {
        let confirmed = self.way.session.as_ref().map(|session| session.confirmed());
        let Some(done) = confirmed.and_then(|confirmed| confirmed.next_offset()) else {
            return;
        };
        let now = clock::now();
        let durable = self.way.durable.entry(self.way.number).or_default();
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.end <= done) {
            let took = now.saturating_duration_since(flight.produced);
            tally.durable(flight.records, flight.bytes, took);
            debug_assert!(flight.end >= *durable, "batches are confirmed in order");
            self.next_index += flight.end.saturating_sub(*durable);
            *durable = flight.end.max(*durable);
            if let (Some(ledger_writer), Some(mark)) = (&mut self.ledger_writer, flight.mark) {
                ledger_writer.note_file(*mark);
            }
        }
        if let Some(ledger_writer) = &mut self.ledger_writer
            && !self.by_file
        {
            ledger_writer.note(self.next_index);
        }
    }
}

/// Notes the file that a chunk opens in the ledger, which has it before its first record is sent.
fn open(ledger_writer: &mut Option<LedgerWriter>, waiting: &mut WaitingChunk) {
    if let (Some(entry), Some(ledger_writer)) = (waiting.chunk.part.opens.take(), ledger_writer) {
        waiting.opened = Some(OpenedFile {
            start: entry.index,
            note: ledger_writer.open_file(*entry),
        });
    }
}

/// What `future` gives; never anything where there is none.
async fn or_never<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_message_of_a_panic_over_the_input_is_withheld() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            let line = r#"{"name":"Zoë"}"#;
            panic!("byte index 12 is not a char boundary of {line}");
        });
        let error = check_feeding(tasks.join_next().await).expect_err("a panic");
        let text = error.report();
        assert!(text.contains("reads the input panicked"), "{text}");
        assert!(!text.contains("Zoë"), "{text}");
        check_feeding(None).expect("no panic");
    }
}
