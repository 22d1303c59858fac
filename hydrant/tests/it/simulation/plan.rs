//! The plan of a seed: the shape of the pipeline and the faults that happen to it, as data.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use hydrant_core::Random;
use hydrant_core::mutant::Mutant;
use hydrant_testing::disk::{At, Death, Fault, Loss, Moment, Op};
use hydrant_testing::memory::StreamFaults;

use super::broken::BrokenVariant;
use super::chance::{CallFault, Chance};
use super::machine::MachineFault;
use crate::taking::Taking;

/// How long faults happen; then everything runs to its end.
const FAULT_PHASE: Duration = Duration::from_millis(2_500);

/// The plan of one run.
#[derive(Clone, Debug)]
pub(super) struct PipelinePlan {
    pub(super) shape: PipelineShape,
    /// The faults, by the time at which they happen.
    pub(super) steps: Vec<FaultStep>,
    /// When the faults stop.
    pub(super) fault_phase: Duration,
}

/// What runs: the processes and their settings.
#[derive(Clone, Debug)]
pub(super) struct PipelineShape {
    pub(super) records: u64,
    /// Records per second during the fault phase.
    pub(super) rate: u64,
    pub(super) devices: u64,
    pub(super) shards: u32,
    pub(super) transforms: usize,
    pub(super) sinks: usize,
    /// Whether transform and sink are one process, with no stream between.
    pub(super) fused: bool,
    /// Whether the producer starts again after it died: if not, only acknowledged records count.
    pub(super) producer_returns: bool,
    /// Whether processes that live when the faults stop are drained instead of killed.
    pub(super) drained: bool,
    pub(super) segment_bytes: u64,
    pub(super) linger: Duration,
    pub(super) flush_bytes: u64,
    pub(super) flush_interval: Duration,
    pub(super) budget: u64,
    /// The most rows of an interval, with a partition for each device: intervals end where one more has no room.
    pub(super) rows_max: Option<usize>,
    /// One in this many appends, or its answer, is lost; 0 for none.
    pub(super) loss: u64,
    /// Syncs take up to this long.
    pub(super) sync_time: Duration,
    /// The most by which abandoned calls are late; `None` when they are cancelled.
    pub(super) detached: Option<Duration>,
    /// The number of threads of each process for its calls.
    pub(super) threads: Option<usize>,
    /// Whether other calls happen in the middle of listings.
    pub(super) torn: bool,
    /// The retention, which exceeds any run with all its clock jumps: nothing may be removed.
    pub(super) retention_time: Option<Duration>,
    /// The watcher drops one in this many calls of its readers; 0 for none.
    pub(super) left: u64,
    /// What happens to what is sent to the streams, when a service holds them and not the machine's disk.
    pub(super) service: Option<StreamFaults>,
}

/// A process of the pipeline, by its index in [`PipelineShape::processes`].
pub(super) type Slot = usize;

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Producer,
    Transform,
    Sink,
    /// Transform and sink in one process.
    Fused,
}

/// The streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    Raw,
    Clean,
}

/// A fault and the time at which it happens.
#[derive(Clone, Debug)]
pub(super) struct FaultStep {
    pub(super) at: Duration,
    pub(super) fault: PipelineFault,
}

/// A fault that happens to the pipeline.
#[derive(Clone, Debug)]
pub(super) enum PipelineFault {
    /// At one of its calls, a process dies alone or with the machine, hangs for longer than a lease, gets an error, or
    /// unwinds while its threads still work.
    AtCall { slot: Slot, fate: CallFault },
    /// A fault of the whole machine.
    Machine(MachineFault),
    /// Calls on paths that contain a word fail, always or a number of times.
    Fail {
        op: Op,
        path: &'static str,
        skip: u32,
        times: Option<u32>,
        moment: Moment,
        kind: ErrorKind,
    },
    /// All failing calls work again.
    Heal,
    /// A process hangs for a while.
    Hang { slot: Slot, until: Duration },
    /// A process hangs for a while, and other processes take over its shards.
    TakeOver {
        log: Log,
        slot: Slot,
        until: Duration,
    },
    /// Two owners publish one interval. While no new records come, one owner hangs before it puts its commit record;
    /// another takes over its shards, puts a record in the same slot, and meets `fault` before it reveals a file; then
    /// the first one continues.
    ContendingOwners { hold: Duration, fault: Fault },
    /// The next process that makes such a call dies at it.
    DieAt {
        op: Op,
        path: &'static str,
        moment: Moment,
        death: Death,
    },
    /// The uploads in the lake are removed.
    Sweep,
    /// The next process that commits dead letters dies before it reveals them, and the uploads are removed.
    Remake { death: Death },
    /// Files of the table are taken away; the operator may die meanwhile.
    Take {
        how: Taking,
        which: usize,
        fate: Option<CallFault>,
    },
    /// A shard is split, or two neighbours are merged; the operator may die meanwhile.
    Reshard {
        log: Log,
        merge: bool,
        which: u64,
        fate: Option<CallFault>,
    },
}

impl PipelineFault {
    /// Whether the fault may remove a committed file before it is revealed.
    pub(super) fn removes_files(&self) -> bool {
        matches!(self, PipelineFault::Sweep | PipelineFault::Remake { .. })
    }
}

impl PipelineShape {
    /// Makes it likely that the simulation kills a broken variant.
    fn suit(&mut self, broken: BrokenVariant) {
        match broken {
            BrokenVariant::Inside(
                Mutant::MergedByMax | Mutant::MergedByMin | Mutant::ClaimOfWholeSegments,
            ) => {
                self.shards = 3;
                self.loss = 6;
                self.fused = false;
            }
            BrokenVariant::MineByInterval => {
                self.sinks = 2;
                self.flush_bytes = 1 << 20;
                self.flush_interval = Duration::from_millis(250);
            }
            // Leave time for another owner between the upload of a file and its commit record.
            BrokenVariant::Inside(Mutant::CleanedAtTip) => {
                self.sinks = 2;
                self.fused = false;
                self.sync_time = Duration::from_millis(30);
                self.flush_interval = Duration::from_millis(100);
            }
            BrokenVariant::ChildrenBeforeParents | BrokenVariant::RoutedByWorker => {
                self.fused = false;
                self.transforms = 2;
            }
            // Appends take time.
            BrokenVariant::LedgerBeforeOutput => {
                self.fused = false;
                self.transforms = 2;
                self.sync_time = Duration::from_millis(30);
            }
            // Written bytes can be read for longer before they are durable, and are cut differently when they are sent
            // again.
            BrokenVariant::Inside(Mutant::ReadersPastDurableEnd) => {
                self.sync_time = Duration::from_millis(30);
                self.linger = Duration::ZERO;
                self.producer_returns = true;
            }
            _ => {}
        }
    }

    /// Whether the streams place what was acknowledged before what is sent later.
    pub(super) fn keeps_order(&self) -> bool {
        self.service.is_none_or(|faults| faults.placed_late == 0)
    }

    /// All processes of the pipeline: name and role.
    pub(super) fn processes(&self) -> Vec<(String, Role)> {
        let mut all = vec![("producer".to_owned(), Role::Producer)];
        if self.fused {
            all.extend((1..=self.sinks).map(|n| (format!("fused-{n}"), Role::Fused)));
        } else {
            all.extend((1..=self.transforms).map(|n| (format!("transform-{n}"), Role::Transform)));
            all.extend((1..=self.sinks).map(|n| (format!("sink-{n}"), Role::Sink)));
        }
        all
    }
}

impl fmt::Display for PipelinePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:?}", self.shape)?;
        let mut steps = self.steps.iter();
        steps.try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

impl PipelinePlan {
    /// Draws everything that `seed` decides before the run.
    ///
    /// A broken variant gets most of its faults where it may show.
    pub(super) fn draw(seed: u64, broken: Option<BrokenVariant>) -> Self {
        let chance = Chance(Random::seeded(seed ^ 0x05ee_d0f7_8e91_a11d));
        let mut shape = chance.shape();
        let broken = broken.filter(|_| super::is_steered());
        if let Some(broken) = broken {
            shape.suit(broken);
        }
        let slots = shape.processes().len() as u64;
        let mut steps: Vec<FaultStep> = (0..2 + chance.below(8))
            .flat_map(|_| {
                let at = chance.millis(0, FAULT_PHASE.as_millis() as u64);
                match broken {
                    Some(broken) if chance.percent(60) => chance.faults_for(broken, slots, at),
                    _ => vec![FaultStep {
                        at,
                        fault: chance.fault(slots),
                    }],
                }
            })
            .collect();
        steps.extend(Self::draw_operator(seed, &steps));
        steps.sort_by_key(|step| step.at);
        PipelinePlan {
            shape,
            steps,
            fault_phase: FAULT_PHASE,
        }
    }

    /// Draws what is taken away in half of the runs. Missing files are given up only where nobody removes uploads: what
    /// never was visible would be given up too.
    fn draw_operator(seed: u64, faults: &[FaultStep]) -> Vec<FaultStep> {
        let chance = Chance(Random::seeded(seed ^ 0x7a4e_11aa));
        let removes = faults.iter().any(|step| step.fault.removes_files());
        let count = chance.one(&[0, 0, 3, 6]);
        let takings = [Taking::Partition, Taking::Before, Taking::ByHand];
        let step = |_| FaultStep {
            at: chance.millis(300, FAULT_PHASE.as_millis() as u64),
            fault: PipelineFault::Take {
                how: match chance.percent(20) && !removes {
                    true => Taking::Missing,
                    false => chance.one(&takings),
                },
                which: chance.below(1_000) as usize,
                fate: chance.percent(40).then(|| chance.fate(120)),
            },
        };
        (0..count).map(step).collect()
    }

    /// The same plan over streams of a service.
    pub(super) fn over_service(mut self, seed: u64, broken: Option<BrokenVariant>) -> Self {
        let chance = Chance(Random::seeded(seed ^ 0x5e41_71ce));
        // What is lost is lost by the service, whose writer knows.
        self.shape.loss = 0;
        self.shape.service = Some(StreamFaults {
            lost: chance.one(&[0, 2, 5]),
            answer_lost: chance.one(&[0, 2, 5]),
            late: chance.one(&[0, 3, 8]),
            throttled: chance.one(&[0, 0, 5]),
            placed_late: chance.one(&[0, 5, 20]),
            ..StreamFaults::default()
        });
        // Intervals that end where an aggregate finds no room.
        let cuts = broken.and_then(BrokenVariant::mutant) == Some(Mutant::AggregatesCut);
        if seed % 8 == 3 || (cuts && super::is_steered()) {
            self.shape.rows_max = Some(7);
        }
        let is_of_order = matches!(
            broken.and_then(BrokenVariant::mutant),
            Some(Mutant::QueuedBehindFailure | Mutant::SeveralUnconfirmed)
        );
        if let (Some(faults), true) = (&mut self.shape.service, is_of_order && super::is_steered())
        {
            // What follows a failure goes on, and order is promised.
            (faults.lost, faults.placed_late) = (20, 0);
        }
        self
    }
}

impl Chance {
    fn shape(&self) -> PipelineShape {
        let fused = self.percent(15);
        let records = 60 + self.below(120);
        PipelineShape {
            records,
            rate: records * 1_000 / (300 + self.below(1_400)),
            devices: 4 + self.below(12),
            shards: self.one(&[1, 2, 2, 3]),
            transforms: self.one(&[1, 2, 2]),
            sinks: self.one(&[1, 2, 2]),
            fused,
            producer_returns: self.percent(65),
            drained: self.percent(50),
            segment_bytes: self.one(&[4 << 10, 8 << 10, 1 << 20]),
            linger: Duration::from_millis(self.one(&[0, 0, 2, 5])),
            flush_bytes: self.one(&[2 << 10, 6 << 10, 1 << 20, 1 << 20]),
            flush_interval: Duration::from_millis(self.one(&[100, 250, 700, 700])),
            budget: self.one(&[1 << 20, 4 << 20, 16 << 20]),
            rows_max: None,
            loss: self.one(&[0, 0, 40, 12]),
            sync_time: Duration::from_micros(self.one(&[0, 500, 8_000, 30_000])),
            detached: self.one(&[None, Some(Duration::ZERO), Some(Duration::from_millis(40))]),
            threads: self.one(&[None, None, Some(2), Some(8)]),
            torn: self.percent(30),
            retention_time: self.one(&[None, None, Some(Duration::from_secs(100_000))]),
            left: self.one(&[0, 4, 12]),
            service: None,
        }
    }

    fn fate(&self, calls: u64) -> CallFault {
        CallFault {
            at: At::Call(1 + self.below(calls)),
            moment: self.moment(),
            fault: match self.below(100) {
                0..65 => Fault::Dies(self.death()),
                65..85 => Fault::Hangs(self.millis(300, 6_000)),
                85..93 => Fault::Fails(ErrorKind::Other),
                _ => Fault::Unwinds(self.millis(1, 30)),
            },
        }
    }

    fn fault(&self, slots: u64) -> PipelineFault {
        match self.below(100) {
            0..30 => PipelineFault::AtCall {
                slot: self.below(slots) as usize,
                fate: self.fate(150),
            },
            30..34 => self.contending_owners(),
            34..42 => self.remake(),
            42..48 => PipelineFault::Machine(self.power_cut()),
            48..58 => PipelineFault::Fail {
                op: self.one(&[Op::Sync, Op::Sync, Op::SyncDir, Op::WriteAt, Op::LinkNew]),
                path: self.one(&[
                    "raw/stream-",
                    "clean/stream-",
                    "lake/",
                    "_apps",
                    "ledger",
                    "/",
                ]),
                skip: self.below(20) as u32,
                times: if self.percent(80) {
                    Some(1 + self.below(2) as u32)
                } else {
                    None
                },
                moment: self.moment(),
                kind: ErrorKind::Other,
            },
            58..63 => PipelineFault::Heal,
            63..69 => PipelineFault::Machine(self.full(20_000, 500, 3_500)),
            69..75 => PipelineFault::Machine(self.jump(4_000_000_000)),
            75..79 => PipelineFault::Hang {
                slot: self.below(slots) as usize,
                until: self.millis(1_000, 6_000),
            },
            79..84 => self.take_over(slots),
            84..87 => PipelineFault::Sweep,
            _ => self.reshard(),
        }
    }

    fn take_over(&self, slots: u64) -> PipelineFault {
        PipelineFault::TakeOver {
            log: self.one(&[Log::Raw, Log::Clean]),
            slot: self.below(slots) as usize,
            until: self.millis(10, 900),
        }
    }

    fn contending_owners(&self) -> PipelineFault {
        let fault = if self.percent(50) {
            Fault::Dies(Death::Kill)
        } else {
            Fault::Hangs(self.millis(200, 900))
        };
        let hold = self.millis(600, 1_500);
        PipelineFault::ContendingOwners { hold, fault }
    }

    fn remake(&self) -> PipelineFault {
        let death = self.death();
        PipelineFault::Remake { death }
    }

    fn reshard(&self) -> PipelineFault {
        PipelineFault::Reshard {
            log: self.one(&[Log::Raw, Log::Clean, Log::Clean]),
            merge: self.percent(45),
            which: self.below(1_000),
            fate: self.percent(40).then(|| self.fate(60)),
        }
    }

    /// Faults that are likely to kill a broken variant.
    fn faults_for(&self, broken: BrokenVariant, slots: u64, at: Duration) -> Vec<FaultStep> {
        let step = |at, fault| FaultStep { at, fault };
        let later = at + self.millis(50, 600);
        match broken {
            BrokenVariant::MineByInterval => vec![step(at, self.contending_owners())],
            BrokenVariant::LedgerBeforeOutput => {
                let fate = CallFault {
                    fault: Fault::Dies(self.death()),
                    ..self.fate(150)
                };
                let slot = 1 + self.below(2) as usize;
                vec![step(at, PipelineFault::AtCall { slot, fate })]
            }
            BrokenVariant::Inside(Mutant::NamesDrawn) => vec![step(at, self.remake())],
            BrokenVariant::BuffersKept
            | BrokenVariant::FoundUnfinished
            | BrokenVariant::RenamedRecords
            | BrokenVariant::Inside(Mutant::FromOfReader) => vec![step(at, self.take_over(slots))],
            // A sink hangs after its upload, and puts its commit record when it continues. Meanwhile the other sink
            // starts again, and lists the uploads.
            BrokenVariant::Inside(Mutant::CleanedAtTip) => {
                let (one, other) = (slots - 1 - self.below(2), 2 * slots - 3);
                let hold = PipelineFault::TakeOver {
                    log: Log::Clean,
                    slot: one as usize,
                    until: self.millis(200, 700),
                };
                let fate = CallFault {
                    at: At::Call(1),
                    moment: Moment::Before,
                    fault: Fault::Dies(Death::Kill),
                };
                let slot = (other - one) as usize;
                let soon = at + self.millis(1, 30);
                vec![
                    step(at, hold),
                    step(soon, PipelineFault::AtCall { slot, fate }),
                ]
            }
            BrokenVariant::RebuiltWithoutLook | BrokenVariant::RebuiltUnclaimed => {
                vec![step(at, PipelineFault::Sweep)]
            }
            // Claims and units meet shards that are not those that they were sent to.
            BrokenVariant::Inside(
                Mutant::UnitKnownByAnySegment
                | Mutant::UnitKnownByAllSegments
                | Mutant::UnitKnownByFirstSegment,
            ) => {
                let reshard = |merge| PipelineFault::Reshard {
                    log: Log::Clean,
                    merge,
                    which: self.below(1_000),
                    fate: None,
                };
                vec![step(at, reshard(false)), step(later, reshard(true))]
            }
            BrokenVariant::Inside(
                Mutant::MergedByMax | Mutant::MergedByMin | Mutant::ClaimOfWholeSegments,
            ) => {
                let merge = PipelineFault::Reshard {
                    log: self.one(&[Log::Raw, Log::Clean]),
                    merge: true,
                    which: 0,
                    fate: None,
                };
                vec![step(at, merge), step(later, self.reshard())]
            }
            // The owner of the parent hangs, and another process owns a child.
            BrokenVariant::ChildrenBeforeParents => {
                let split = PipelineFault::Reshard {
                    log: Log::Raw,
                    merge: false,
                    which: self.below(1_000),
                    fate: None,
                };
                let hang = PipelineFault::Hang {
                    slot: 1 + self.below(2) as usize,
                    until: self.millis(200, 1_000),
                };
                vec![step(at, hang), step(at + self.millis(0, 100), split)]
            }
            // A sync fails, the truncation of the lost bytes fails, and later the power is cut.
            BrokenVariant::Inside(Mutant::TailSyncedInPlace) => {
                let fail = |op, times| PipelineFault::Fail {
                    op,
                    path: "shards",
                    skip: 0,
                    times,
                    moment: Moment::Before,
                    kind: ErrorKind::Other,
                };
                vec![
                    step(at, fail(Op::Sync, Some(2))),
                    step(at, fail(Op::Truncate, Some(2))),
                    step(
                        later,
                        PipelineFault::Machine(MachineFault::PowerCut(Loss::Everything)),
                    ),
                ]
            }
            // The power is cut again and again while a process syncs bytes that others have read.
            BrokenVariant::Inside(Mutant::ReadersPastDurableEnd) => {
                let cut = |at| {
                    let fate = CallFault {
                        fault: Fault::Dies(Death::PowerCut(Loss::Everything)),
                        ..self.fate(80)
                    };
                    let slot = self.below(slots) as usize;
                    step(at, PipelineFault::AtCall { slot, fate })
                };
                let times = [at, later, later + self.millis(50, 600)];
                times.into_iter().map(cut).collect()
            }
            // A sink dies once a file is visible and before anything proves it, and an operator dies who has removed the file.
            BrokenVariant::Inside(Mutant::ExpiredBeforeRecord) => {
                let dies = |op, path, moment| PipelineFault::DieAt {
                    op,
                    path,
                    moment,
                    death: Death::Kill,
                };
                let take = PipelineFault::Take {
                    how: self.one(&[Taking::Partition, Taking::Before]),
                    which: self.below(1_000) as usize,
                    fate: None,
                };
                vec![
                    step(at, dies(Op::RenameNew, "/events/", Moment::After)),
                    step(at, dies(Op::LinkNew, "/layout/", Moment::Before)),
                    step(at + self.millis(20, 300), take),
                ]
            }
            // A process dies while it writes a commit record under its final name, which starts with a nine and not
            // with a dot.
            BrokenVariant::ExclusiveRecords => vec![step(
                at,
                PipelineFault::DieAt {
                    op: Op::WriteAt,
                    path: "/r/9",
                    moment: self.moment(),
                    death: self.death(),
                },
            )],
            // A process dies after it put a commit record whose name is not durable, and the power is cut once a
            // successor that found the record has revealed its files.
            BrokenVariant::ObserversDoNotSync => {
                let caught = |op, path, moment, death| PipelineFault::DieAt {
                    op,
                    path,
                    moment,
                    death,
                };
                let put = caught(Op::LinkNew, "/r/", Moment::After, Death::Kill);
                let cut = Death::PowerCut(Loss::Everything);
                let shown = caught(Op::SyncDir, "/staging/", Moment::Before, cut);
                vec![step(at, put), step(later, shown)]
            }
            BrokenVariant::DirectoriesNotSynced => {
                let fate = CallFault {
                    fault: Fault::Dies(Death::PowerCut(Loss::Everything)),
                    ..self.fate(80)
                };
                let slot = self.below(slots) as usize;
                vec![step(at, PipelineFault::AtCall { slot, fate })]
            }
            _ => {
                let (slot, fate) = (self.below(slots) as usize, self.fate(150));
                vec![step(at, PipelineFault::AtCall { slot, fate })]
            }
        }
    }
}
