//! The machine of both simulations: its clock and trace, the processes that live on it until they die, and the faults
//! of the whole machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::mutant;
use hydrant_core::{Budget, Context, Random, Result, Workers};
use hydrant_testing::clock::ManualClock;
use hydrant_testing::disk::{At, Loss, SimDisk, SimWorld};
use hydrant_testing::trace::Trace;
use tokio::task::JoinSet;

use super::broken::BrokenVariant;
use super::chance::CallFault;

/// 2026-02-01T00:00:00Z, a month after the fleet's first event.
const WALL: i64 = 1_769_904_000_000_000;

/// The virtual time within which a run must end.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The outcome of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) seed: u64,
    /// The plan as text.
    plan: String,
    /// Everything that is wrong; empty when nothing is.
    pub(super) faults: Vec<String>,
    pub(super) trace: Trace,
}

impl Outcome {
    /// The report of a failure: plan, last events and what is wrong.
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

/// A fault of the whole machine.
#[derive(Clone, Copy, Debug)]
pub(super) enum MachineFault {
    PowerCut(Loss),
    /// The disk has only this much room left, for a while.
    Full {
        room: u64,
        until: Duration,
    },
    /// Wall time jumps.
    Jump {
        micros: i64,
    },
}

/// How a life of a process ended.
pub(super) enum End<T = ()> {
    Died,
    Done(Result<T>),
}

/// The machine; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct SimMachine {
    pub(super) seed: u64,
    pub(super) world: SimWorld,
    pub(super) trace: Trace,
    pub(super) broken: Option<BrokenVariant>,
    clock: ManualClock,
    /// The memory of each process, in bytes.
    budget: u64,
    births: Arc<Mutex<u64>>,
    /// The forward jumps of the wall clock, by the time of each.
    jumps: Arc<Mutex<BTreeMap<Instant, Duration>>>,
}

impl SimMachine {
    /// Runs `job` on a new machine; it answers what is wrong.
    pub(super) fn run(
        seed: u64,
        broken: Option<BrokenVariant>,
        plan: String,
        budget: u64,
        job: impl AsyncFnOnce(SimMachine) -> Vec<String>,
    ) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        let run = async {
            let clock = ManualClock::new(WALL);
            let kept = super::setting("HYDRANT_SIMULATION_EVENTS").unwrap_or(200);
            let trace = Trace::keeping(kept as usize);
            let machine = SimMachine {
                seed,
                world: SimWorld::with(seed, Arc::new(clock.clone()), trace.clone()),
                trace: trace.clone(),
                broken,
                clock,
                budget,
                births: Arc::default(),
                jumps: Arc::default(),
            };
            let ended = tokio::time::timeout(PATIENCE, job(machine)).await;
            Outcome {
                seed,
                plan,
                faults: ended.unwrap_or_else(|_| vec!["the run does not end".to_owned()]),
                trace,
            }
        };
        let mutant = broken.and_then(BrokenVariant::mutant);
        mutant::with(mutant, || runtime.block_on(run))
    }

    /// The wall clock.
    pub(super) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The context of a process that starts now.
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
            budget: Budget::new(self.budget),
        }
    }

    /// Runs one life of a process, which is dead when this returns. Its faults are set before.
    pub(super) async fn life<T>(
        &self,
        name: &str,
        disk: SimDisk,
        job: impl AsyncFnOnce(Context, SimDisk) -> Result<T>,
    ) -> End<T> {
        let context = self.context(&disk);
        let end = tokio::select! {
            biased;
            () = disk.died() => End::Died,
            answer = job(context, disk.clone()) => End::Done(answer),
        };
        match &end {
            End::Died => {}
            End::Done(Ok(_)) => self.trace.event(format_args!("{name} has ended")),
            End::Done(Err(error)) => {
                let error = error.report();
                self.trace.event(format_args!("{name} has failed: {error}"));
            }
        }
        self.world.kill(name);
        end
    }

    /// Runs a process without faults.
    pub(super) async fn task<T>(
        &self,
        name: &str,
        job: impl AsyncFnOnce(Context) -> Result<T>,
    ) -> Result<T, String> {
        let disk = self.world.process(name);
        match self
            .life(name, disk, async |context, _| job(context).await)
            .await
        {
            End::Done(answer) => answer.map_err(|error| format!("{name}: {}", error.report())),
            End::Died => Err(format!("{name} died after the faults had stopped")),
        }
    }

    /// Sets a fault of a living process at a call, counted from now.
    pub(super) fn inject(&self, name: &str, fate: CallFault) {
        let at = match fate.at {
            At::Call(call) => At::Call(self.world.calls(name) + call),
            nth @ At::Nth(..) => nth,
        };
        self.world.inject(name, at, fate.moment, fate.fault);
    }

    pub(super) async fn strike(&self, fault: MachineFault) {
        match fault {
            MachineFault::PowerCut(loss) => self.world.power_cut(loss),
            MachineFault::Full { room, until } => {
                self.world.set_quota(Some(self.world.used_bytes() + room));
                clock::sleep(until).await;
                self.world.set_quota(None);
            }
            MachineFault::Jump { micros } => {
                self.clock.jump(micros);
                let forward = Duration::from_micros(micros.max(0).unsigned_abs());
                *lock(&self.jumps).entry(clock::now()).or_default() += forward;
            }
        }
    }

    /// The most that the age of something made at `made` can appear to be.
    pub(super) fn age_of(&self, made: Instant) -> Duration {
        let jumped: Duration = lock(&self.jumps).range(made..).map(|(_, by)| *by).sum();
        made.elapsed() + jumped
    }
}

/// Waits for all processes, and adds their faults.
pub(super) async fn all_of(processes: &mut JoinSet<Vec<String>>, faults: &mut Vec<String>) {
    while let Some(ended) = processes.join_next().await {
        match ended {
            Ok(found) => faults.extend(found),
            Err(error) => faults.push(format!("a process panicked: {error}")),
        }
    }
}
