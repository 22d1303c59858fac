//! The processes of a run: those that append, one that reads along, and an operator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::batch::{Entry, Span};
use hydrant_core::origin::{Origin, OriginEntry, WriterId};
use hydrant_core::stream::{Append, SharedStream, StreamWriter, Ticket};
use hydrant_core::testing::clock::ManualClock;
use hydrant_core::testing::disk::{Loss, SimDisk, SimWorld};
use hydrant_core::testing::trace::Trace;
use hydrant_core::{
    Batch, Budget, Context, Error, Permit, Position, Random, Result, Sequence, Shard, ShardId,
    Workers, clock, hash,
};
use hydrant_stream::{Codec, CreateOptions};
use tokio::task::JoinSet;

use super::super::broken::Broken;
use super::super::plan::Log;
use super::super::roles;
use super::super::witness::{self, Given};
use super::super::world::Outcome;
use super::judge::{self, Found};
use super::plan::{Fault, Plan, Shape};

/// 2026-02-01T00:00:00Z.
const WALL: i64 = 1_769_904_000_000_000;

/// Virtual time after which a run that was healed must have ended.
const PATIENCE: Duration = Duration::from_secs(600);

/// Up to which record each origin was told that all is stored.
pub(super) type Told = BTreeMap<usize, u64>;

pub(super) fn run(seed: u64, broken: Option<Broken>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    let mut plan = Plan::draw(seed);
    if let Some(mutant) = broken.and_then(Broken::mutant)
        && super::super::is_steered()
    {
        plan.steer(mutant);
    }
    runtime.block_on(async {
        let machine = Machine::new(seed, &plan, broken);
        let faults = match tokio::time::timeout(PATIENCE, machine.clone().live(&plan)).await {
            Ok(faults) => faults,
            Err(_) => vec!["it does not end".to_owned()],
        };
        Outcome {
            seed,
            plan: plan.to_string(),
            faults,
            trace: machine.trace,
        }
    })
}

/// The machine; cheap to clone.
#[derive(Clone)]
struct Machine {
    seed: u64,
    world: SimWorld,
    clock: ManualClock,
    trace: Trace,
    shape: Arc<Shape>,
    broken: Option<Broken>,
    told: Arc<Mutex<Told>>,
    given: Given,
    births: Arc<Mutex<u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Record `n` of an origin: where it goes, and what it says.
pub(super) fn route(origin: usize, n: u64) -> u128 {
    hash::route_of_key(format!("{origin}-{n}").as_bytes())
}

/// Most are small and fit where a large one begins a segment.
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

/// Which record a payload is.
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

/// An interval of an origin as one shard gets it.
fn append(
    origin: usize,
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
        picks: (0..here.len() as u32).collect(),
        routes: here.iter().map(|n| route(origin, *n)).collect(),
        explicit: true,
        entry: Some(OriginEntry {
            writer: WriterId::of_name(&format!("writer-{origin}")),
            shard: ShardId::new("input"),
            start: Position::Begin,
            low: place_of(low),
            from: place_of(from),
            to: place_of(to),
            origins: here.iter().map(origin_of).collect(),
            account: None,
        }),
        input: None,
        units: Vec::new(),
        permit: Permit::default(),
    }
}

/// One process that appends, during one life.
struct Session {
    machine: Machine,
    origin: usize,
    disk: SimDisk,
    stream: SharedStream,
    /// One, as its order of appends is what the log keeps.
    writer: Arc<dyn StreamWriter>,
    random: Random,
    pace: Duration,
    /// What it found told at its start.
    low: u64,
    /// What was told to it.
    done: u64,
}

/// An interval on its way.
struct OnItsWay {
    from: u64,
    to: u64,
    tickets: Vec<Ticket>,
}

impl Session {
    /// Appends to the end; answers what it cannot go on after.
    async fn work(&mut self) -> Result<()> {
        let shape = Arc::clone(&self.machine.shape);
        let mut sent = self.done;
        let mut waiting = VecDeque::new();
        loop {
            let mut failed = None;
            while waiting.len() < shape.in_flight && sent < shape.records && failed.is_none() {
                let to = (sent + 1 + self.random.below(3)).min(shape.records);
                match self.submit(sent, to).await {
                    Ok(tickets) => waiting.push_back(OnItsWay {
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
                    // It is refused for what it follows on, or stored and told.
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
        for shard in map.open() {
            let interval = (self.low, from, to);
            let append = append(
                self.origin,
                shard,
                interval,
                self.machine.shape.record_bytes_max,
            );
            tickets.push(self.writer.submit(&shard.id, append).await?);
        }
        Ok(tickets)
    }

    /// Waits for all answers of an interval; told when all are good and nothing before it is missing.
    async fn answered(&mut self, interval: OnItsWay) -> Result<()> {
        let mut failed = None;
        for ticket in interval.tickets {
            if let Err(error) = ticket.await {
                failed.get_or_insert(error);
            }
        }
        match failed {
            Some(error) => Err(error),
            None if self.disk.is_alive() && self.done == interval.from => {
                self.done = interval.to;
                let mut told = lock(&self.machine.told);
                let known = told.entry(self.origin).or_default();
                *known = self.done.max(*known);
                let (origin, done) = (self.origin, self.done);
                let trace = &self.machine.trace;
                trace.event(format_args!("{origin} was told up to {done}"));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether a session goes on after an error.
    fn bear(&self, from: u64, error: Error) -> Result<()> {
        match error {
            Error::OutOfOrder { mark, .. } if mark < place_of(from) => Err(Error::fatal(format!(
                "the log has {} of origin {} and had told {from}",
                mark, self.origin
            ))),
            Error::Sealed { .. } | Error::Full { .. } | Error::OutOfOrder { .. } => Ok(()),
            other => Err(other),
        }
    }
}

/// How a life ended.
enum End {
    Died,
    Done(Result<()>),
}

impl Machine {
    fn new(seed: u64, plan: &Plan, broken: Option<Broken>) -> Self {
        let clock = ManualClock::new(WALL);
        let kept = super::setting("HYDRANT_SIMULATION_EVENTS").unwrap_or(200);
        let trace = Trace::keeping(kept as usize);
        Machine {
            seed,
            world: SimWorld::with(seed, Arc::new(clock.clone()), trace.clone()),
            clock,
            trace,
            shape: Arc::new(plan.shape.clone()),
            broken,
            told: Arc::default(),
            given: Given::default(),
            births: Arc::default(),
        }
    }

    fn context(&self, disk: &SimDisk) -> Context {
        let birth = {
            let mut births = lock(&self.births);
            *births += 1;
            *births
        };
        Context {
            disk: match self.broken {
                Some(broken) => broken.disk(disk.shared()),
                None => disk.shared(),
            },
            clock: Arc::new(self.clock.clone()),
            random: Random::seeded(self.seed.wrapping_mul(0x9e37_79b9) ^ (birth << 32)),
            workers: Workers::Inline,
            budget: Budget::new(8 << 20),
        }
    }

    /// One life of a process.
    async fn life(&self, name: &str, job: impl AsyncFnOnce(Context, SimDisk) -> Result<()>) -> End {
        let disk = self.world.process(name);
        self.live_until_dead(name, disk, job).await
    }

    async fn live_until_dead(
        &self,
        name: &str,
        disk: SimDisk,
        job: impl AsyncFnOnce(Context, SimDisk) -> Result<()>,
    ) -> End {
        let context = self.context(&disk);
        let end = tokio::select! {
            biased;
            () = disk.died() => End::Died,
            answer = job(context, disk.clone()) => End::Done(answer),
        };
        if let End::Done(Err(error)) = &end {
            let error = error.report();
            self.trace.event(format_args!("{name} has failed: {error}"));
        }
        self.world.kill(name);
        end
    }

    fn origin_of(&self, process: usize) -> usize {
        match self.shape.twins {
            true => process.min(self.shape.writers - 2),
            false => process,
        }
    }

    async fn write(self, process: usize, context: Context, disk: SimDisk) -> Result<()> {
        let origin = self.origin_of(process);
        let low = lock(&self.told).get(&origin).copied().unwrap_or_default();
        let stream = roles::open(Log::Raw, &context).await?;
        let mut session = Session {
            origin,
            disk,
            writer: stream.writer().await?,
            stream,
            random: context.random.clone(),
            pace: self.shape.paces[process],
            low,
            done: low,
            machine: self,
        };
        session.work().await
    }

    async fn read(self, context: Context) -> Result<()> {
        let left = self.shape.left;
        witness::watch_stream(Log::Raw, context, self.given.clone(), left).await
    }

    /// A process that starts again whenever it has died, until the faults stop. The last one reads.
    async fn lives(self, process: usize, plan: Plan, storm: clock::Instant) -> Vec<String> {
        let name = format!("process-{process}");
        let chance = Random::seeded(self.seed ^ (process as u64) << 40);
        let mut faults = Vec::new();
        for life in 0.. {
            if clock::now() >= storm {
                break;
            }
            let disk = self.world.process(&name);
            for fall in &plan.falls {
                if (fall.process, fall.life) == (process, life) {
                    self.world.befall(&name, fall.at, fall.moment, fall.fall);
                }
            }
            let machine = self.clone();
            let job = async move |context, disk| match process == machine.shape.writers {
                true => machine.read(context).await,
                false => machine.write(process, context, disk).await,
            };
            match self.live_until_dead(&name, disk, job).await {
                End::Done(Ok(())) => break,
                End::Done(Err(error)) => faults.extend(unforgivable(&name, &error)),
                End::Died => {}
            }
            clock::sleep(Duration::from_millis(1 + chance.below(400))).await;
        }
        faults
    }

    async fn strike(self, fault: Fault) {
        self.trace.event(format_args!("{fault:?}"));
        match fault {
            Fault::PowerCut(loss) => self.world.power_cut(loss),
            Fault::Full { room, time } => {
                self.world.set_quota(Some(self.world.used_bytes() + room));
                clock::sleep(time).await;
                self.world.set_quota(None);
            }
            Fault::Jump { micros } => self.clock.jump(micros),
            Fault::Reshard {
                merge,
                which,
                at_call,
            } => {
                let mut at_call = at_call;
                loop {
                    let disk = self.world.process("operator");
                    if let Some((at, moment, fall)) = at_call.take() {
                        self.world.befall("operator", at, moment, fall);
                    }
                    let job = async move |context: Context, _| {
                        roles::reshard(Log::Raw, merge, which, &context).await
                    };
                    // What failed is in the trace.
                    match self.live_until_dead("operator", disk, job).await {
                        End::Done(_) => return,
                        End::Died => clock::sleep(Duration::from_millis(4)).await,
                    }
                }
            }
        }
    }

    async fn live(self, plan: &Plan) -> Vec<String> {
        let shape = Arc::clone(&self.shape);
        let options = CreateOptions {
            shards: shape.shards,
            // Sizes as they are drawn.
            codec: Codec::None,
            segment_bytes: shape.segment_bytes,
            linger: shape.linger,
            retention_bytes: shape.retention_bytes,
            ..CreateOptions::default()
        };
        let made = self.life("maker", async |context, _| {
            hydrant_stream::create(Log::Raw.url(), options, &context).await?;
            Ok(())
        });
        if let End::Done(Err(error)) = made.await {
            return vec![format!("the stream cannot be made: {}", error.report())];
        }
        self.world.set_sync_time(shape.sync_time);
        self.world.detach(shape.detached);
        self.world.set_threads(shape.threads);
        let start = clock::now();
        let storm = start + plan.storm;
        let mut processes = JoinSet::new();
        for process in 0..shape.writers {
            processes.spawn(self.clone().lives(process, plan.clone(), storm));
        }
        let mut reader = JoinSet::new();
        if shape.reader {
            reader.spawn(self.clone().lives(shape.writers, plan.clone(), storm));
        }
        let mut events = JoinSet::new();
        for (at, fault) in plan.steps.clone() {
            let machine = self.clone();
            events.spawn(async move {
                clock::sleep_until(Some(start + at)).await;
                machine.strike(fault).await;
            });
        }
        let mut faults = Vec::new();
        let ended = async {
            while let Some(ended) = processes.join_next().await {
                match ended {
                    Ok(found) => faults.extend(found),
                    Err(error) => faults.push(format!("a process panicked: {error}")),
                }
            }
        };
        // Who is in the middle of it is killed below, and joined then.
        drop(tokio::time::timeout_at(storm, ended).await);
        self.trace.event("the faults stop");
        events.shutdown().await;
        self.world.heal();
        self.world.set_quota(None);
        self.world.kill("operator");
        reader.shutdown().await;
        for process in 0..=shape.writers {
            self.world.kill(&format!("process-{process}"));
        }
        while let Some(ended) = processes.join_next().await {
            match ended {
                Ok(found) => faults.extend(found),
                Err(error) => faults.push(format!("a process panicked: {error}")),
            }
        }
        let mut reader = JoinSet::new();
        if shape.reader {
            let machine = self.clone();
            reader.spawn(async move {
                let inner = machine.clone();
                let job = async move |context, _| inner.read(context).await;
                machine.life("reader", job).await
            });
        }
        if faults.is_empty() {
            faults.extend(self.finish().await);
        }
        // The reader has had time to see the last record.
        clock::sleep(Duration::from_millis(50)).await;
        reader.shutdown().await;
        self.world.kill("reader");
        if faults.is_empty() {
            faults.extend(self.judge().await);
        }
        faults
    }

    /// Lets everybody come to the end.
    async fn finish(&self) -> Vec<String> {
        let mut processes = JoinSet::new();
        for process in 0..self.shape.writers {
            let machine = self.clone();
            processes.spawn(async move {
                let name = format!("process-{process}");
                let inner = machine.clone();
                let job = async move |context, disk| inner.write(process, context, disk).await;
                match machine.life(&name, job).await {
                    End::Done(Ok(())) => None,
                    End::Done(Err(error)) => Some(format!("{name}: {}", error.report())),
                    End::Died => Some(format!("{name} died after the faults had stopped")),
                }
            });
        }
        let mut faults = Vec::new();
        while let Some(ended) = processes.join_next().await {
            match ended {
                Ok(fault) => faults.extend(fault),
                Err(error) => faults.push(format!("a process panicked: {error}")),
            }
        }
        faults
    }

    /// Cuts the power once more, every second time, and looks at the log.
    async fn judge(&self) -> Vec<String> {
        if self.seed.is_multiple_of(2) {
            self.world.power_cut(Loss::Everything);
        }
        let found = match self.look().await {
            Ok(found) => found,
            Err(fault) => return vec![fault],
        };
        let told = lock(&self.told).clone();
        let retained = self.shape.retention_bytes.is_some();
        let mut faults = self.given.judge(&found.stored, retained);
        faults.extend(judge::judge(&told, &found));
        self.trace
            .event(format_args!("{} records were found", found.stored.len()));
        faults.truncate(12);
        faults
    }

    async fn look(&self) -> Result<Found, String> {
        let mut found = Found::default();
        let job = async |context: Context, _| {
            found.stored = witness::read_all(Log::Raw, &context).await?;
            found.states = roles::open(Log::Raw, &context).await?.states().await?;
            Ok(())
        };
        match self.life("judge", job).await {
            End::Done(Ok(())) => Ok(found),
            End::Done(Err(error)) => Err(format!("the log cannot be read: {}", error.report())),
            End::Died => Err("the reader of the log died".to_owned()),
        }
    }
}

/// What no process may say, whatever befell it.
fn unforgivable(name: &str, error: &Error) -> Option<String> {
    let told_otherwise =
        matches!(error, Error::Fatal { message } if message.starts_with("the log has"));
    let is = told_otherwise || matches!(error, Error::Corrupt { .. });
    is.then(|| format!("{name}: {}", error.report()))
}
