//! One machine, its processes, and the faults of a plan.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hydrant_core::clock;
use hydrant_core::mutant;
use hydrant_core::shutdown::Phase;
use hydrant_core::testing::clock::ManualClock;
use hydrant_core::testing::disk::{At, Fall, Loss, Moment, Op, Rule, SimDisk, SimWorld, Snare};
use hydrant_core::testing::trace::Trace;
use hydrant_core::{Budget, Context, Error, Random, Result, Shutdown, Workers};
use tokio::task::JoinSet;

use super::broken::Broken;
use super::oracle;
use super::plan::{Fate, Fault, Log, Plan, Role, Shape};
use super::roles::{self, Orders};
use super::witness::{self, Given, Told};

/// 2026-02-01T00:00:00Z, a month after the fleet's first event.
const WALL: i64 = 1_769_904_000_000_000;

/// Virtual time after which a run that was healed must have ended.
const PATIENCE: Duration = Duration::from_secs(600);

/// In this time records on their way arrive, and nothing new comes.
const CALM: Duration = Duration::from_millis(60);

/// What came of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) seed: u64,
    /// What was drawn, in words.
    pub(super) plan: String,
    /// What is wrong; empty when nothing is.
    pub(super) faults: Vec<String>,
    pub(super) trace: Trace,
}

impl Outcome {
    /// Everything that is needed to understand a failure.
    pub(super) fn report(&self) -> String {
        let Outcome {
            seed,
            plan,
            faults,
            trace,
        } = self;
        format!(
            "seed {seed} (HYDRANT_SIMULATION_SEED={seed})\nplan:\n{plan}\nthe last events:\n{}\nseed {seed}:\n  {}",
            trace.last_events(),
            faults.join("\n  "),
        )
    }
}

/// Runs one seed.
pub(super) fn simulate(seed: u64, broken: Option<Broken>) -> Outcome {
    let mutant = broken.and_then(Broken::mutant);
    mutant::with(mutant, || run(seed, broken))
}

fn run(seed: u64, broken: Option<Broken>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    let plan = Plan::draw(seed, broken);
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
#[derive(Clone, Debug)]
pub(super) struct Machine {
    seed: u64,
    pub(super) world: SimWorld,
    clock: ManualClock,
    trace: Trace,
    shape: Arc<Shape>,
    told: Arc<Mutex<std::collections::BTreeSet<u64>>>,
    given: Given,
    broken: Option<Broken>,
    /// Processes that live, and how to ask them to end.
    running: Arc<Mutex<BTreeMap<String, Shutdown>>>,
    births: Arc<Mutex<u64>>,
}

/// How a process ended.
enum End {
    Died,
    Done(Result<()>),
}

impl Machine {
    fn new(seed: u64, plan: &Plan, broken: Option<Broken>) -> Self {
        let clock = ManualClock::new(WALL);
        let trace =
            Trace::keeping(super::setting("HYDRANT_SIMULATION_EVENTS").unwrap_or(200) as usize);
        let world = SimWorld::with(seed, Arc::new(clock.clone()), trace.clone());
        Machine {
            seed,
            world,
            clock,
            trace,
            shape: Arc::new(plan.shape.clone()),
            told: Arc::default(),
            given: Given::default(),
            broken,
            running: Arc::default(),
            births: Arc::default(),
        }
    }

    /// What a process that starts now sees.
    pub(super) fn context(&self, disk: &SimDisk) -> Context {
        let birth = {
            let mut births = self.births.lock().unwrap_or_else(PoisonError::into_inner);
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
            budget: Budget::new(self.shape.budget),
        }
    }

    /// A short-lived process that nothing befalls but the plan.
    async fn task<T>(
        &self,
        name: &str,
        fate: Option<Fate>,
        job: impl AsyncFnOnce(Context) -> Result<T>,
    ) -> Option<Result<T>> {
        let disk = self.world.process(name);
        if let Some(Fate {
            calls,
            moment,
            fall,
        }) = fate
        {
            self.world.befall(name, At::Call(calls), moment, fall);
        }
        let context = self.context(&disk);
        let ended = tokio::select! {
            biased;
            () = disk.died() => None,
            answer = job(context) => Some(answer),
        };
        self.world.kill(name);
        ended
    }

    /// One life of a process.
    async fn life(&self, name: &str, role: Role, to_the_end: bool) -> End {
        let disk = self.world.process(name);
        let shutdown = Shutdown::new();
        self.lock_running()
            .insert(name.to_owned(), shutdown.clone());
        let context = self.context(&disk);
        let told = Told {
            indexes: Arc::clone(&self.told),
            disk: disk.clone(),
            trace: self.trace.clone(),
        };
        let orders = Orders {
            name: name.to_owned(),
            role,
            to_the_end,
            shutdown,
            broken: self.broken,
        };
        let end = tokio::select! {
            biased;
            () = disk.died() => End::Died,
            answer = roles::run(orders, &self.shape, &context, &told) => End::Done(answer),
        };
        self.lock_running().remove(name);
        match &end {
            End::Died => {}
            End::Done(Ok(())) => self.trace.event(format_args!("{name} has ended")),
            End::Done(Err(error)) => {
                self.trace
                    .event(format_args!("{name} has failed: {}", error.report()));
            }
        }
        self.world.kill(name);
        end
    }

    fn lock_running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Shutdown>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process that is started again whenever it dies or fails, until the faults stop.
    async fn lives(
        self,
        name: String,
        role: Role,
        chance: Random,
        storm: clock::Instant,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        while clock::now() < storm {
            let end = self.life(&name, role, false).await;
            match end {
                End::Done(Ok(())) => break,
                End::Done(Err(error @ Error::Corrupt { .. })) => {
                    faults.push(format!("{name}: {}", error.report()));
                }
                End::Died | End::Done(Err(_)) => {}
            }
            if role == Role::Producer && !self.shape.producer_returns {
                break;
            }
            clock::sleep(Duration::from_millis(10 + chance.below(700))).await;
        }
        faults
    }

    /// Somebody who reads along, and starts again where he was.
    async fn watches(self, storm: clock::Instant) {
        while clock::now() < storm {
            let (given, left) = (self.given.clone(), self.shape.left);
            let job = async move |context| witness::watch(context, given, left).await;
            if let Some(Err(error)) = self.task("watcher", None, job).await {
                self.trace
                    .event(format_args!("the watcher failed: {}", error.report()));
            }
            clock::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The whole run; answers what is wrong in the end.
    async fn live(self, plan: &Plan) -> Vec<String> {
        let shape = Arc::clone(&self.shape);
        let job = async |context: Context| roles::create(&shape, &context).await;
        if let Some(Err(error)) = self.task("maker", None, job).await {
            return vec![format!("the streams cannot be made: {}", error.report())];
        }
        self.world.set_sync_time(shape.sync_time);
        self.world.detach(shape.detached);
        let start = clock::now();
        let storm = start + plan.storm;
        let chance = Random::seeded(self.seed ^ 0x11fe);
        let mut processes = JoinSet::new();
        for (name, role) in plan.shape.processes() {
            let chance = Random::seeded(chance.u64());
            processes.spawn(self.clone().lives(name, role, chance, storm));
        }
        let mut watcher = JoinSet::new();
        watcher.spawn(self.clone().watches(storm));
        let mut events = JoinSet::new();
        for step in plan.steps.clone() {
            let machine = self.clone();
            events.spawn(async move {
                clock::sleep_until(Some(start + step.at)).await;
                machine.strike(step.fault).await;
            });
        }
        clock::sleep_until(Some(storm)).await;
        self.trace.event("the faults stop");
        events.shutdown().await;
        self.world.kill("operator");
        self.heal();
        self.end_or_kill(plan.shape.drained);
        let mut faults = Vec::new();
        while let Some(ended) = processes.join_next().await {
            match ended {
                Ok(found) => faults.extend(found),
                Err(error) => faults.push(format!("a process panicked: {error}")),
            }
        }
        faults.extend(self.finish(plan).await);
        // The watcher has seen the last record by now.
        self.world.kill("watcher");
        watcher.shutdown().await;
        if faults.is_empty() {
            faults.extend(self.judge().await);
        }
        faults
    }

    fn heal(&self) {
        self.world.heal();
        self.world.set_quota(None);
        for (name, _) in self.shape.processes() {
            self.world.resume(&name);
        }
    }

    fn end_or_kill(&self, drain: bool) {
        let running = self.lock_running().clone();
        for (name, shutdown) in running {
            if drain {
                shutdown.advance(Phase::Draining);
            } else {
                self.world.kill(&name);
            }
        }
    }

    /// Brings everything that is stored to the lake.
    async fn finish(&self, plan: &Plan) -> Vec<String> {
        let mut faults = Vec::new();
        let roles = [Role::Producer, Role::Transform, Role::Fused, Role::Sink];
        for role in roles {
            if role == Role::Producer && !plan.shape.producer_returns {
                continue;
            }
            let mut processes = JoinSet::new();
            for (name, _) in plan
                .shape
                .processes()
                .into_iter()
                .filter(|(_, is)| *is == role)
            {
                let machine = self.clone();
                processes.spawn(async move {
                    match machine.life(&name, role, true).await {
                        End::Done(Ok(())) => None,
                        End::Done(Err(error)) => Some(format!("{name}: {}", error.report())),
                        End::Died => Some(format!("{name} died after the faults had stopped")),
                    }
                });
            }
            while let Some(ended) = processes.join_next().await {
                match ended {
                    Ok(fault) => faults.extend(fault),
                    Err(error) => faults.push(format!("a process panicked: {error}")),
                }
            }
            if !faults.is_empty() {
                break;
            }
        }
        faults
    }

    /// Looks at the logs, cuts the power once more, and looks at the lake.
    async fn judge(&self) -> Vec<String> {
        let logs = self.task("reader", None, async |context| {
            oracle::read_logs(&context).await
        });
        let logs = match logs.await {
            Some(Ok(logs)) => logs,
            Some(Err(error)) => {
                return vec![format!("the logs cannot be read: {}", error.report())];
            }
            None => return vec!["the reader of the logs died".to_owned()],
        };
        // What was told done must not need the page cache.
        self.world.power_cut(Loss::Everything);
        let lake = self.task("auditor", None, async |context| {
            oracle::read_lake(&context).await
        });
        let lake = match lake.await {
            Some(Ok(lake)) => lake,
            Some(Err(error)) => {
                return vec![format!("the lake cannot be read: {}", error.report())];
            }
            None => return vec!["the reader of the lake died".to_owned()],
        };
        let told = self
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut faults = self.given.judge(&logs.stored, false);
        faults.extend(oracle::judge(&self.shape, &logs, &lake, &told));
        self.trace.event(format_args!(
            "{} records were told stored, {} rows and {} dead letters were found",
            told.len(),
            lake.rows.len(),
            lake.letters.len(),
        ));
        faults
    }

    async fn operate(&self, fate: Option<Fate>, job: impl AsyncFnOnce(Context) -> Result<()>) {
        if let Some(Err(error)) = self.task("operator", fate, job).await {
            let error = error.report();
            self.trace
                .event(format_args!("the operator failed: {error}"));
        }
    }

    async fn sweep(&self) {
        let job = async move |context: Context| roles::sweep(&context).await;
        self.operate(None, job).await;
    }

    /// Two owners at the same slot of a chain, see [`Fault::Rivals`].
    async fn rivals(&self, hold: Duration, fall: Fall) {
        let source = "producer";
        self.world.hang(source);
        clock::sleep(CALM).await;
        let former = self.world.snare(Snare {
            process: String::new(),
            op: Op::LinkNew,
            path: "/r/".to_owned(),
            moment: Moment::Before,
            fall: Fall::Hangs(hold),
        });
        let former = tokio::time::timeout(hold, former).await;
        if let Ok(Ok(former)) = former {
            let log = if self.shape.fused {
                Log::Raw
            } else {
                Log::Clean
            };
            let job = async move |context: Context| roles::disown(log, &context).await;
            self.operate(None, job).await;
            let latter = self.world.snare(Snare {
                process: String::new(),
                op: Op::LinkNew,
                path: former.path,
                moment: Moment::After,
                fall,
            });
            if let Ok(Ok(_)) = tokio::time::timeout(hold, latter).await {
                clock::sleep(CALM).await;
            }
            self.world.resume(&former.process);
        }
        self.world.resume(source);
    }

    /// Lets a fault befall the machine.
    async fn strike(self, fault: Fault) {
        self.trace.event(format_args!("{fault:?}"));
        let name = |slot: usize| self.shape.processes()[slot].0.clone();
        match fault {
            Fault::Befall { slot, fate } => {
                let name = name(slot);
                let calls = self.world.calls(&name) + fate.calls;
                let at = At::Call(calls);
                self.world.befall(&name, at, fate.moment, fate.fall);
            }
            Fault::PowerCut(loss) => self.world.power_cut(loss),
            Fault::Fail {
                op,
                path,
                skip,
                times,
                moment,
                kind,
            } => self.world.fail(Rule {
                op,
                path: path.to_owned(),
                skip,
                times,
                moment,
                kind,
            }),
            Fault::Heal => self.world.heal(),
            Fault::Full { room, until } => {
                self.world.set_quota(Some(self.world.used_bytes() + room));
                clock::sleep(until).await;
                self.world.set_quota(None);
            }
            Fault::Jump { micros } => self.clock.jump(micros),
            Fault::Hang { slot, until } => {
                let name = name(slot);
                self.world.hang(&name);
                clock::sleep(until).await;
                self.world.resume(&name);
            }
            Fault::Usurp { log, slot, until } => {
                let name = name(slot);
                self.world.hang(&name);
                let job = async move |context: Context| roles::disown(log, &context).await;
                self.operate(None, job).await;
                clock::sleep(until).await;
                self.world.resume(&name);
            }
            Fault::Rivals { hold, fall } => self.rivals(hold, fall).await,
            Fault::Caught {
                op,
                path,
                moment,
                death,
            } => drop(self.world.snare(Snare {
                process: String::new(),
                op,
                path: path.to_owned(),
                moment,
                fall: Fall::Dies(death),
            })),
            Fault::Sweep => self.sweep().await,
            Fault::Remake { death } => {
                let letters = self.world.snare(Snare {
                    process: String::new(),
                    op: Op::RenameNew,
                    path: "/dead-letters/".to_owned(),
                    moment: Moment::Before,
                    fall: Fall::Dies(death),
                });
                if letters.await.is_ok() {
                    self.sweep().await;
                }
            }
            Fault::Reshard {
                log,
                merge,
                which,
                fate,
            } => {
                let job =
                    async move |context: Context| roles::reshard(log, merge, which, &context).await;
                self.operate(fate, job).await;
            }
        }
    }
}
