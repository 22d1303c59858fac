//! The processes of a run: writers, a reader that reads along, and an operator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::batch::{Entry, Span};
use hydrant_core::clock::{self, Instant};
use hydrant_core::origin::{Origin, OriginEntry, WriterId};
use hydrant_core::stream::{Append, ClaimedRange, SharedStream, StreamWriter, Ticket};
use hydrant_core::{
    Batch, Context, Error, Position, Random, Result, Sequence, Shard, ShardId, hash,
};
use hydrant_stream::{Codec, CreateOptions};
use hydrant_testing::disk::{Loss, SimDisk};
use tokio::task::JoinSet;

use super::super::broken::BrokenVariant;
use super::super::machine::{End, Outcome, SimMachine, all_of, lock};
use super::super::plan::Log;
use super::super::streams::SimStreams;
use super::super::witness::{self, ReaderWitness};
use super::judge::{self, FinalLog, RecordNumber};
use super::plan::{ANSWERED, WritersFault, WritersPlan, WritersShape};

/// The memory of a process.
const BUDGET: u64 = 8 << 20;

/// The last record of each origin up to which all are acknowledged.
pub(super) type AckedThrough = BTreeMap<usize, u64>;

/// Runs one seed.
pub(in super::super) fn simulate(seed: u64, broken: Option<BrokenVariant>) -> Outcome {
    let mut plan = WritersPlan::draw(seed);
    match broken.and_then(BrokenVariant::mutant) {
        Some(mutant) if super::super::is_steered() => plan.steer(mutant),
        _ => plan.let_one_stand_still(seed),
    }
    SimMachine::run(seed, broken, plan.to_string(), BUDGET, async |machine| {
        let fleet = WriterFleet {
            machine,
            shape: Arc::new(plan.shape.clone()),
            acked: Arc::default(),
            sent: Arc::default(),
            given: ReaderWitness::default(),
        };
        fleet.live(&plan).await
    })
}

/// All processes; cheap to clone.
#[derive(Clone)]
struct WriterFleet {
    machine: SimMachine,
    shape: Arc<WritersShape>,
    acked: Arc<Mutex<AckedThrough>>,
    /// When each record was first sent.
    sent: Arc<Mutex<BTreeMap<RecordNumber, Instant>>>,
    given: ReaderWitness,
}

/// The route hash of record `n` of an origin.
pub(super) fn route(origin: usize, n: u64) -> u128 {
    hash::route_of_key(format!("{origin}-{n}").as_bytes())
}

/// The payload of a record. Most are small; a large one begins a new segment.
fn payload(origin: usize, n: u64, bytes_max: u64) -> String {
    let mut text = format!("{origin}:{n}:");
    let drawn = route(origin, n) as u64;
    let len = drawn / 4
        % if drawn.is_multiple_of(4) {
            bytes_max
        } else {
            60
        };
    text.extend(std::iter::repeat_n('x', len as usize));
    text
}

/// The origin and number of the record with this payload.
pub(super) fn record_of(payload: &[u8]) -> Option<(usize, u64)> {
    let text = std::str::from_utf8(payload).ok()?;
    let mut parts = text.split(':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn place_of(n: u64) -> Position {
    match n {
        0 => Position::Begin,
        n => Position::offset(n),
    }
}

/// The append of an interval of an origin to one shard, sent by `writer`.
fn append(
    origin: usize,
    writer: &str,
    shard: &Shard,
    (low, from, to): (u64, u64, u64),
    bytes_max: u64,
) -> Append {
    let here = (from + 1..=to).filter(|n| shard.range.contains(route(origin, *n)));
    let here: Vec<u64> = here.collect();
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    for n in &here {
        let text = payload(origin, *n, bytes_max);
        let span = Span::new(bytes.len() as u32, text.len() as u32);
        bytes.extend_from_slice(text.as_bytes());
        records.push(Entry {
            segment: 0,
            key: None,
            payload: span,
            stamp: *n as i64,
        });
    }
    let origin_of = |n: &u64| Origin {
        sequence: Sequence::from(*n),
        sub: 0,
        index: 0,
    };
    Append {
        batch: Arc::new(Batch {
            segments: Arc::new([Bytes::from(bytes)]),
            records,
            ..Batch::default()
        }),
        record_indexes: (0..here.len() as u32).collect(),
        routes: here.iter().map(|n| route(origin, *n)).collect(),
        explicit: true,
        entry: Some(OriginEntry {
            writer: WriterId::of_name(writer),
            shard: ShardId::new("input"),
            start: Position::Begin,
            low: place_of(low),
            from: place_of(from),
            to: place_of(to),
            origins: here.iter().map(origin_of).collect(),
            account: None,
        }),
        claims: vec![ClaimedRange {
            range: shard.range,
            from: place_of(from),
        }],
        ..Append::default()
    }
}

/// One life of a process that appends.
struct WriterSession {
    fleet: WriterFleet,
    origin: usize,
    disk: SimDisk,
    stream: SharedStream,
    /// The session uses one writer, because the log keeps the order of appends of one writer.
    writer: Arc<dyn StreamWriter>,
    random: Random,
    pace: Duration,
    /// The acknowledged record at its start.
    low: u64,
    /// The last record that was acknowledged to it.
    done: u64,
    /// Whether it may wait for long.
    may_wait: bool,
}

/// An interval in flight.
struct OnItsWay {
    began: clock::Instant,
    from: u64,
    to: u64,
    tickets: Vec<Ticket>,
}

impl WriterSession {
    /// Appends to the end, or until an error after which it cannot continue.
    async fn work(&mut self) -> Result<()> {
        let shape = Arc::clone(&self.fleet.shape);
        let mut sent = self.done;
        let mut waiting = VecDeque::new();
        loop {
            let mut failed = None;
            while waiting.len() < shape.in_flight && sent < shape.records && failed.is_none() {
                let to = (sent + 1 + self.random.below(3)).min(shape.records);
                let began = clock::now();
                match self.submit(sent, to).await {
                    Ok(tickets) => waiting.push_back(OnItsWay {
                        began,
                        from: sent,
                        to,
                        tickets,
                    }),
                    Err(error) => failed = Some(error),
                }
                sent = to;
            }
            if failed.is_none() {
                let Some(first) = waiting.pop_front() else {
                    return Ok(());
                };
                failed = self.answered(first).await.err();
            }
            if let Some(error) = failed {
                let from = self.done;
                for behind in waiting.drain(..) {
                    // It is refused because its predecessor failed, or stored and acknowledged.
                    drop(self.answered(behind).await);
                }
                self.bear(from, error)?;
                sent = self.done;
            }
            let pause = self.pace.as_micros() as u64;
            clock::sleep(Duration::from_micros(self.random.below(pause))).await;
        }
    }

    async fn submit(&self, from: u64, to: u64) -> Result<Vec<Ticket>> {
        let map = self.stream.shards().await?;
        let mut tickets = Vec::new();
        let origin = self.origin;
        let writer = match self.fleet.machine.broken {
            Some(BrokenVariant::OriginsReused) => "writer".to_owned(),
            _ => format!("writer-{origin}"),
        };
        for n in from + 1..=to {
            let mut sent = lock(&self.fleet.sent);
            sent.entry((origin, n)).or_insert_with(clock::now);
        }
        for shard in map.open() {
            let (interval, most) = ((self.low, from, to), self.fleet.shape.record_bytes_max);
            let append = append(origin, &writer, shard, interval, most);
            tickets.push(self.writer.submit(&shard.id, append).await?);
        }
        Ok(tickets)
    }

    /// Waits for all answers of an interval, which is acknowledged when all succeed and nothing before it is missing.
    async fn answered(&mut self, interval: OnItsWay) -> Result<()> {
        let mut failed = None;
        for ticket in interval.tickets {
            if let Err(error) = ticket.await {
                failed.get_or_insert(error);
            }
        }
        let waited = clock::now().duration_since(interval.began);
        if waited > ANSWERED && !self.may_wait && self.disk.is_alive() {
            return Err(Error::fatal(format!(
                "the log has kept origin {} waiting for {waited:?}",
                self.origin
            )));
        }
        match failed {
            Some(error) => Err(error),
            None if self.disk.is_alive() && self.done == interval.from => {
                self.done = interval.to;
                let mut acked = lock(&self.fleet.acked);
                let known = acked.entry(self.origin).or_default();
                *known = self.done.max(*known);
                let (origin, done) = (self.origin, self.done);
                let trace = &self.fleet.machine.trace;
                trace.event(format_args!("{origin} was acknowledged up to {done}"));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Passes on errors after which a session cannot continue.
    fn bear(&self, from: u64, error: Error) -> Result<()> {
        match error {
            Error::OutOfOrder { mark, .. } if mark < place_of(from) => Err(Error::fatal(format!(
                "the log has {} of origin {} and had acknowledged {from}",
                mark, self.origin
            ))),
            Error::Sealed { .. } | Error::Full { .. } | Error::OutOfOrder { .. } => Ok(()),
            other => Err(other),
        }
    }
}

impl WriterFleet {
    fn origin_of(&self, process: usize) -> usize {
        match self.shape.twins {
            true => process.min(self.shape.writers - 2),
            false => process,
        }
    }

    /// The work of a process; the last process reads.
    async fn work(self, process: usize, context: Context, disk: SimDisk) -> Result<()> {
        if process == self.shape.writers {
            let left = self.shape.left;
            return witness::watch_stream(
                Log::Raw,
                SimStreams::Embedded,
                context,
                self.given,
                left,
            )
            .await;
        }
        let origin = self.origin_of(process);
        let low = lock(&self.acked).get(&origin).copied().unwrap_or_default();
        let stream = SimStreams::Embedded.open(Log::Raw, &context).await?;
        let mut session = WriterSession {
            origin,
            disk,
            writer: stream.writer().await?,
            stream,
            random: context.random.clone(),
            pace: self.shape.paces[process],
            low,
            done: low,
            may_wait: self.shape.may_wait[process],
            fleet: self,
        };
        session.work().await
    }

    /// Starts a process again whenever it has died, until the faults stop.
    async fn lives(self, process: usize, plan: WritersPlan, faults_end: Instant) -> Vec<String> {
        let name = format!("process-{process}");
        let chance = Random::seeded(self.machine.seed ^ (process as u64) << 40);
        let mut faults = Vec::new();
        for life in 0.. {
            if clock::now() >= faults_end {
                break;
            }
            let disk = self.machine.world.process(&name);
            let mine = |(of, in_life)| (of, in_life) == (process, life);
            for fault in plan.faults.iter().filter(|f| mine((f.process, f.life))) {
                self.machine.inject(&name, fault.fate);
            }
            let fleet = self.clone();
            let job = async move |context, disk| fleet.work(process, context, disk).await;
            match self.machine.life(&name, disk, job).await {
                End::Done(Ok(())) => break,
                End::Done(Err(error)) => faults.extend(unforgivable(&name, &error)),
                End::Died => {}
            }
            clock::sleep(Duration::from_millis(1 + chance.below(400))).await;
        }
        faults
    }

    async fn strike(self, fault: WritersFault) {
        self.machine.trace.event(format_args!("{fault:?}"));
        match fault {
            WritersFault::Machine(fault) => self.machine.strike(fault).await,
            WritersFault::Reshard {
                merge,
                which,
                mut fate,
            } => loop {
                let disk = self.machine.world.process("operator");
                if let Some(fate) = fate.take() {
                    self.machine.inject("operator", fate);
                }
                let job = async move |context: Context, _| {
                    SimStreams::Embedded
                        .reshard(Log::Raw, merge, which, &context)
                        .await
                };
                // The trace holds the failure.
                match self.machine.life("operator", disk, job).await {
                    End::Done(_) => return,
                    End::Died => clock::sleep(Duration::from_millis(4)).await,
                }
            },
        }
    }

    async fn live(self, plan: &WritersPlan) -> Vec<String> {
        let (shape, world) = (Arc::clone(&self.shape), &self.machine.world);
        let options = CreateOptions {
            shards: shape.shards,
            // Keeps the sizes as they are drawn.
            codec: Codec::None,
            segment_bytes: shape.segment_bytes,
            linger: shape.linger,
            retention_bytes: shape.retention_bytes,
            retention_time: shape.retention_time,
        };
        let job = async |context: Context| {
            hydrant_stream::local::create(Log::Raw.dir(), &options, &context).await
        };
        if let Err(fault) = self.machine.task("maker", job).await {
            return vec![fault];
        }
        world.set_sync_time(shape.sync_time);
        world.detach(shape.detached);
        world.set_threads(shape.threads);
        world.tear_listings(shape.torn);
        let start = clock::now();
        let faults_end = start + plan.fault_phase;
        let lives = |process| self.clone().lives(process, plan.clone(), faults_end);
        let mut processes = JoinSet::new();
        for process in 0..shape.writers {
            processes.spawn(lives(process));
        }
        let mut reader = JoinSet::new();
        if shape.reader {
            reader.spawn(lives(shape.writers));
        }
        let mut events = JoinSet::new();
        for (at, fault) in plan.steps.clone() {
            let fleet = self.clone();
            events.spawn(async move {
                clock::sleep_until(Some(start + at)).await;
                fleet.strike(fault).await;
            });
        }
        let mut faults = Vec::new();
        let ended = all_of(&mut processes, &mut faults);
        // Processes that still run are killed and joined below.
        drop(tokio::time::timeout_at(faults_end, ended).await);
        self.machine.trace.event("the faults stop");
        events.shutdown().await;
        world.heal();
        world.set_quota(None);
        world.kill("operator");
        reader.shutdown().await;
        for process in 0..=shape.writers {
            world.kill(&format!("process-{process}"));
        }
        all_of(&mut processes, &mut faults).await;
        let mut reader = JoinSet::new();
        if shape.reader {
            reader.spawn(self.clone().ends(shape.writers));
        }
        if faults.is_empty() {
            let mut processes = JoinSet::new();
            for process in 0..shape.writers {
                processes.spawn(self.clone().ends(process));
            }
            all_of(&mut processes, &mut faults).await;
        }
        // The reader has had time to see the last record.
        clock::sleep(Duration::from_millis(50)).await;
        reader.shutdown().await;
        if faults.is_empty() {
            faults.extend(self.judge().await.unwrap_or_else(|fault| vec![fault]));
        }
        faults
    }

    /// Runs the last life of a process, to its end.
    async fn ends(self, process: usize) -> Vec<String> {
        let name = format!("process-{process}");
        let fleet = self.clone();
        let disk = self.machine.world.process(&name);
        let job = async move |context, disk| fleet.work(process, context, disk).await;
        match self.machine.life(&name, disk, job).await {
            End::Done(Ok(())) => Vec::new(),
            End::Done(Err(error)) => vec![format!("{name}: {}", error.report())],
            End::Died => vec![format!("{name} died after the faults had stopped")],
        }
    }

    /// Cuts the power once more in every second run, and judges the log.
    async fn judge(&self) -> Result<Vec<String>, String> {
        self.machine
            .world
            .kill(&format!("process-{}", self.shape.writers));
        if self.machine.seed.is_multiple_of(2) {
            self.machine.world.power_cut(Loss::Everything);
        }
        let job = async |context: Context| {
            Ok(FinalLog {
                stored: witness::read_all(Log::Raw, &SimStreams::Embedded, &context)
                    .await?
                    .0,
                states: SimStreams::Embedded
                    .open(Log::Raw, &context)
                    .await?
                    .states()
                    .await?,
            })
        };
        let found = self.machine.task("judge", job).await?;
        let WritersShape {
            retention_bytes,
            retention_time,
            ..
        } = &*self.shape;
        let retained = retention_bytes.is_some() || retention_time.is_some();
        let mut faults = self.given.judge(&found.stored, retained);
        let may_be_gone = |record: RecordNumber| {
            let made = lock(&self.sent).get(&record).copied();
            let age = made.map_or(Duration::ZERO, |made| self.machine.age_of(made));
            retention_bytes.is_some() || retention_time.is_some_and(|most| age >= most)
        };
        faults.extend(judge::judge(&lock(&self.acked), &found, may_be_gone));
        self.machine
            .trace
            .event(format_args!("{} records were found", found.stored.len()));
        faults.truncate(12);
        Ok(faults)
    }
}

/// The message of an error that no fault excuses.
fn unforgivable(name: &str, error: &Error) -> Option<String> {
    let is_wrong = matches!(error, Error::Fatal { message } if message.starts_with("the log has"));
    let is = is_wrong || matches!(error, Error::Corrupt { .. });
    is.then(|| format!("{name}: {}", error.report()))
}
