//! The pipeline on one machine, and the faults of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hydrant_core::clock;
use hydrant_core::shutdown::Phase;
use hydrant_core::{Context, Error, Random, Result, Shutdown};
use hydrant_testing::disk::{Breakpoint, Fault, Loss, Moment, Op, Rule, SimDisk};
use tokio::task::JoinSet;

use super::broken::BrokenVariant;
use super::chance::CallFault;
use super::machine::{End, Outcome, SimMachine, all_of, lock};
use super::oracle;
use super::plan::{Log, PipelineFault, PipelinePlan, PipelineShape, Role};
use super::roles::{self, Orders};
use super::streams::SimStreams;
use super::witness::{self, AckWitness, ReaderWitness};
use crate::taking::{TableOperator, TakenFiles};

/// Time for records on their way to arrive, while no new ones come.
const QUIET_PHASE: Duration = Duration::from_millis(60);

/// Runs one seed.
pub(super) fn simulate(seed: u64, broken: Option<BrokenVariant>) -> Outcome {
    live(seed, broken, PipelinePlan::draw(seed, broken))
}

/// Runs one seed over streams of a service, whose readers deduplicate.
pub(super) fn simulate_over_service(seed: u64, broken: Option<BrokenVariant>) -> Outcome {
    live(
        seed,
        broken,
        PipelinePlan::draw(seed, broken).over_service(seed, broken),
    )
}

fn live(seed: u64, broken: Option<BrokenVariant>, plan: PipelinePlan) -> Outcome {
    let text = plan.to_string();
    SimMachine::run(seed, broken, text, plan.shape.budget, async |machine| {
        let pipeline = SimPipeline {
            streams: SimStreams::of(&plan.shape, seed, machine.clock()),
            machine,
            shape: Arc::new(plan.shape.clone()),
            acked: Arc::default(),
            given: ReaderWitness::default(),
            taken: TakenFiles::default(),
            running: Arc::default(),
        };
        pipeline.live(&plan).await
    })
}

/// The pipeline; cheap to clone.
#[derive(Clone, Debug)]
struct SimPipeline {
    machine: SimMachine,
    streams: SimStreams,
    shape: Arc<PipelineShape>,
    acked: Arc<Mutex<BTreeSet<u64>>>,
    given: ReaderWitness,
    /// What operators took from the table.
    taken: TakenFiles,
    /// The running processes, each with its shutdown.
    running: Arc<Mutex<BTreeMap<String, Shutdown>>>,
}

impl SimPipeline {
    /// Runs one life of a process.
    async fn life(&self, name: &str, role: Role, to_the_end: bool) -> End {
        let disk = self.machine.world.process(name);
        let shutdown = Shutdown::new();
        lock(&self.running).insert(name.to_owned(), shutdown.clone());
        let orders = Orders {
            name: name.to_owned(),
            role,
            to_the_end,
            shutdown,
            broken: self.machine.broken,
        };
        let job = async |context: Context, disk: SimDisk| {
            let acked = AckWitness {
                indexes: Arc::clone(&self.acked),
                disk,
                trace: self.machine.trace.clone(),
            };
            let streams = &self.streams;
            roles::run(orders, &self.shape, &context, &acked, streams).await
        };
        let end = self.machine.life(name, disk, job).await;
        lock(&self.running).remove(name);
        end
    }

    /// Starts a process again whenever it dies or fails, until the faults stop.
    async fn lives(
        self,
        name: String,
        role: Role,
        chance: Random,
        faults_end: clock::Instant,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        while clock::now() < faults_end {
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

    /// Runs a process that reads along, and starts it again at its position.
    async fn watches(self, faults_end: clock::Instant) {
        while clock::now() < faults_end {
            let (given, left) = (self.given.clone(), self.shape.left);
            let streams = self.streams.clone();
            let job = async move |context| witness::watch(streams, context, given, left).await;
            // The trace holds the failure.
            drop(self.machine.task("watcher", job).await);
            clock::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Runs the plan, and answers what is wrong.
    async fn live(self, plan: &PipelinePlan) -> Vec<String> {
        let (shape, world) = (Arc::clone(&self.shape), &self.machine.world);
        let streams = self.streams.clone();
        let job = async |context: Context| streams.create(&shape, &context).await;
        if let Err(fault) = self.machine.task("maker", job).await {
            return vec![fault];
        }
        world.set_sync_time(shape.sync_time);
        world.detach(shape.detached);
        world.set_threads(shape.threads);
        world.tear_listings(shape.torn);
        self.streams.set_faults(shape.service);
        let start = clock::now();
        let faults_end = start + plan.fault_phase;
        let chance = Random::seeded(self.machine.seed ^ 0x11fe);
        let mut processes = JoinSet::new();
        for (name, role) in plan.shape.processes() {
            let chance = Random::seeded(chance.u64());
            processes.spawn(self.clone().lives(name, role, chance, faults_end));
        }
        let mut watcher = JoinSet::new();
        watcher.spawn(self.clone().watches(faults_end));
        let mut events = JoinSet::new();
        for step in plan.steps.clone() {
            let pipeline = self.clone();
            events.spawn(async move {
                clock::sleep_until(Some(start + step.at)).await;
                pipeline.strike(step.fault).await;
            });
        }
        clock::sleep_until(Some(faults_end)).await;
        self.machine.trace.event("the faults stop");
        self.streams.set_faults(None);
        events.shutdown().await;
        world.kill("operator");
        world.kill("taker");
        world.heal();
        world.set_quota(None);
        for (name, _) in self.shape.processes() {
            world.resume(&name);
        }
        self.end_or_kill(plan.shape.drained);
        let mut faults = Vec::new();
        all_of(&mut processes, &mut faults).await;
        faults.extend(self.finish(plan).await);
        if faults.is_empty() {
            faults.extend(self.complete_takings().await);
        }
        // The watcher has read the last record by now.
        world.kill("watcher");
        watcher.shutdown().await;
        if faults.is_empty() {
            faults.extend(self.judge(plan).await.unwrap_or_else(|fault| vec![fault]));
        }
        faults
    }

    fn end_or_kill(&self, drain: bool) {
        let running = lock(&self.running).clone();
        for (name, shutdown) in running {
            if drain {
                shutdown.advance(Phase::Draining);
            } else {
                self.machine.world.kill(&name);
            }
        }
    }

    /// Completes what operators of the table began.
    async fn complete_takings(&self) -> Vec<String> {
        let job = async |context: Context| {
            let operator = self.operator_of_table(&context).await?;
            operator.complete().await
        };
        let completed = self.machine.task("keeper", job).await;
        completed.err().into_iter().collect()
    }

    async fn operator_of_table(&self, context: &Context) -> Result<TableOperator> {
        let url = format!("file:{}", roles::LAKE);
        TableOperator::open(&url, roles::table(), context, &self.taken).await
    }

    /// Carries all stored records to the lake.
    async fn finish(&self, plan: &PipelinePlan) -> Vec<String> {
        for role in [Role::Producer, Role::Transform, Role::Fused, Role::Sink] {
            if role == Role::Producer && !plan.shape.producer_returns {
                continue;
            }
            let mut processes = JoinSet::new();
            let all = plan.shape.processes().into_iter();
            for (name, _) in all.filter(|(_, is)| *is == role) {
                let pipeline = self.clone();
                processes.spawn(async move {
                    match pipeline.life(&name, role, true).await {
                        End::Done(Ok(())) => Vec::new(),
                        End::Done(Err(error)) => vec![format!("{name}: {}", error.report())],
                        End::Died => vec![format!("{name} died after the faults had stopped")],
                    }
                });
            }
            let mut faults = Vec::new();
            all_of(&mut processes, &mut faults).await;
            if !faults.is_empty() {
                return faults;
            }
        }
        Vec::new()
    }

    /// Reads the logs, cuts the power once more, reads the lake, and judges.
    async fn judge(&self, plan: &PipelinePlan) -> Result<Vec<String>, String> {
        let streams = &self.streams;
        let job = async |context: Context| oracle::read_logs(streams, &context).await;
        let logs = self.machine.task("reader", job).await?;
        let acked = lock(&self.acked).clone();
        let mut faults = self.given.judge(&logs.stored, false);
        if !self.shape.fused {
            faults.extend(oracle::judge_streams(&self.shape, &logs, &acked));
        }
        // Acknowledged records must survive without the page cache.
        self.machine.world.power_cut(Loss::Everything);
        let job = async |context: Context| oracle::read_lake(&context, &self.taken).await;
        let lake = self.machine.task("auditor", job).await?;
        faults.extend(oracle::judge(&self.shape, &logs, &lake, &acked));
        if lake.made_again > 0 && !plan.steps.iter().any(|step| step.fault.removes_files()) {
            faults.push(format!(
                "{} files were rebuilt although none was removed",
                lake.made_again
            ));
        }
        self.machine.trace.event(format_args!(
            "{} records were acknowledged, {} rows and {} dead letters were found",
            acked.len(),
            lake.rows.len(),
            lake.dead_letters.len(),
        ));
        Ok(faults)
    }

    /// Runs a command of the operator; the trace holds its failure.
    async fn operate(&self, fate: Option<CallFault>, job: impl AsyncFnOnce(Context) -> Result<()>) {
        self.operate_as("operator", fate, job).await;
    }

    async fn operate_as(
        &self,
        name: &str,
        fate: Option<CallFault>,
        job: impl AsyncFnOnce(Context) -> Result<()>,
    ) {
        let disk = self.machine.world.process(name);
        if let Some(fate) = fate {
            self.machine.inject(name, fate);
        }
        let job = async |context, _| job(context).await;
        self.machine.life(name, disk, job).await;
    }

    async fn sweep(&self) {
        let job = async move |context: Context| roles::sweep(&context).await;
        self.operate(None, job).await;
    }

    async fn disown(&self, log: Log) {
        let streams = self.streams.clone();
        let job = async move |context: Context| streams.disown(log, &context).await;
        self.operate(None, job).await;
    }

    /// Makes two owners publish at the same slot of a chain, see [`PipelineFault::ContendingOwners`].
    async fn contending_owners(&self, hold: Duration, fault: Fault) {
        let (source, world) = ("producer", &self.machine.world);
        let put = |path: String, moment, fault| {
            world.set_breakpoint(Breakpoint {
                process: String::new(),
                op: Op::LinkNew,
                path,
                moment,
                fault,
            })
        };
        world.hang(source);
        clock::sleep(QUIET_PHASE).await;
        let former = put("/r/".to_owned(), Moment::Before, Fault::Hangs(hold));
        let former = tokio::time::timeout(hold, former).await;
        if let Ok(Ok(former)) = former {
            let fused = self.shape.fused;
            self.disown(if fused { Log::Raw } else { Log::Clean }).await;
            let latter = put(former.path, Moment::After, fault);
            if let Ok(Ok(_)) = tokio::time::timeout(hold, latter).await {
                clock::sleep(QUIET_PHASE).await;
            }
            world.resume(&former.process);
        }
        world.resume(source);
    }

    /// Makes a fault happen.
    async fn strike(self, fault: PipelineFault) {
        self.machine.trace.event(format_args!("{fault:?}"));
        let (machine, world) = (&self.machine, &self.machine.world);
        let name = |slot: usize| self.shape.processes()[slot].0.clone();
        let caught = |op, path: &str, moment, death| {
            world.set_breakpoint(Breakpoint {
                process: String::new(),
                op,
                path: path.to_owned(),
                moment,
                fault: Fault::Dies(death),
            })
        };
        match fault {
            PipelineFault::AtCall { slot, fate } => machine.inject(&name(slot), fate),
            PipelineFault::Machine(fault) => machine.strike(fault).await,
            PipelineFault::Fail {
                op,
                path,
                skip,
                times,
                moment,
                kind,
            } => world.fail(Rule {
                op,
                path: path.to_owned(),
                skip,
                times,
                moment,
                kind,
            }),
            PipelineFault::Heal => world.heal(),
            PipelineFault::Hang { slot, until } => {
                let name = name(slot);
                world.hang(&name);
                clock::sleep(until).await;
                world.resume(&name);
            }
            PipelineFault::TakeOver { log, slot, until } => {
                let name = name(slot);
                world.hang(&name);
                self.disown(log).await;
                clock::sleep(until).await;
                world.resume(&name);
            }
            PipelineFault::ContendingOwners { hold, fault } => {
                self.contending_owners(hold, fault).await
            }
            PipelineFault::DieAt {
                op,
                path,
                moment,
                death,
            } => drop(caught(op, path, moment, death)),
            PipelineFault::Sweep => self.sweep().await,
            PipelineFault::Remake { death } => {
                let dead_letters = caught(Op::RenameNew, "/dead-letters/", Moment::Before, death);
                if dead_letters.await.is_ok() {
                    self.sweep().await;
                }
            }
            PipelineFault::Take { how, which, fate } => {
                let pipeline = self.clone();
                let job = async move |context: Context| {
                    let operator = pipeline.operator_of_table(&context).await?;
                    operator.take(how, which).await
                };
                self.operate_as("taker", fate, job).await;
            }
            PipelineFault::Reshard {
                log,
                merge,
                which,
                fate,
            } => {
                let streams = self.streams.clone();
                let job = async move |context: Context| {
                    streams.reshard(log, merge, which, &context).await
                };
                self.operate(fate, job).await;
            }
        }
    }
}
