//! The plan of a seed: the processes, how they append, and the faults that happen to them, as data.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use hydrant_core::Random;
use hydrant_core::mutant::Mutant;
use hydrant_testing::disk::{At, Death, Fault, Moment, Op};

use super::super::chance::{CallFault, Chance};
use super::super::machine::MachineFault;

/// How long faults happen, at most until everything is appended; then all processes run to their ends.
const FAULT_PHASE: Duration = Duration::from_millis(600);
/// The same for a run in which a process hangs so long that others fence its shards, and then continues.
const LONG_FAULT_PHASE: Duration = Duration::from_secs(40);
/// The time within which a writer that does not hang gets its answer: several others may delay it one after another.
pub(super) const ANSWERED: Duration = Duration::from_secs(12);

/// The first calls of a process, at one of which a fault happens: opening takes about thirty calls, an append ten, a
/// new segment ten more.
const CALLS: u64 = 160;

/// The kinds of calls that get faults.
const KINDS: [Op; 8] = [
    Op::Open,
    Op::Lock,
    Op::Watch,
    Op::WriteAt,
    Op::Sync,
    Op::RenameNew,
    Op::SyncDir,
    Op::Truncate,
];

/// The plan of one run.
#[derive(Clone, Debug)]
pub(super) struct WritersPlan {
    pub(super) shape: WritersShape,
    /// The faults of the first lives of the processes.
    pub(super) faults: Vec<PlannedFault>,
    /// The faults of the machine, by time.
    pub(super) steps: Vec<(Duration, WritersFault)>,
    pub(super) fault_phase: Duration,
}

/// What runs: the writers, the reader and the log.
#[derive(Clone, Debug)]
pub(super) struct WritersShape {
    pub(super) writers: usize,
    /// Whether a process reads along.
    pub(super) reader: bool,
    /// Whether the last two processes send the same records, as a zombie and its successor do.
    pub(super) twins: bool,
    /// The number of records of each writer.
    pub(super) records: u64,
    pub(super) record_bytes_max: u64,
    pub(super) shards: u32,
    pub(super) segment_bytes: u64,
    pub(super) linger: Duration,
    pub(super) sync_time: Duration,
    /// The longest pause between two intervals, by process.
    pub(super) paces: [Duration; 3],
    /// The number of intervals that a process has in flight at once.
    pub(super) in_flight: usize,
    /// The most by which abandoned calls are late; `None` when they are cancelled.
    pub(super) detached: Option<Duration>,
    pub(super) threads: Option<usize>,
    /// Whether other calls happen in the middle of listings.
    pub(super) torn: bool,
    pub(super) retention_bytes: Option<u64>,
    pub(super) retention_time: Option<Duration>,
    /// Readers drop one in this many calls; 0 for none.
    pub(super) left: u64,
    /// The writers that may wait for long, because they hang themselves, several processes hang, or the disk is full.
    pub(super) may_wait: [bool; 3],
}

/// A fault of a process at a call of one of its lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedFault {
    pub(super) process: usize,
    pub(super) life: u64,
    pub(super) fate: CallFault,
}

/// A fault of the machine or of the operator.
#[derive(Clone, Copy, Debug)]
pub(super) enum WritersFault {
    Machine(MachineFault),
    /// A shard is split, or two neighbours are merged; the operator may have a fault, and then tries again.
    Reshard {
        merge: bool,
        which: u64,
        fate: Option<CallFault>,
    },
}

impl WritersPlan {
    /// Steers the plan to where a broken variant may show. Only variants that are killed too rarely without steering
    /// are listed.
    pub(super) fn steer(&mut self, mutant: Mutant) {
        let kill = |op, nth, moment| CallFault {
            at: At::Nth(op, nth),
            moment,
            fault: Fault::Dies(Death::Kill),
        };
        let nth = 1 + self.shape.records % 4;
        let (shape, first) = (&mut self.shape, &mut self.faults[0]);
        let brief = Duration::from_millis(2);
        match mutant {
            // A process dies right before it announces a new segment.
            Mutant::LeftoverOverlooked => {
                (shape.shards, shape.reader, first.process) = (1, false, 0);
                first.fate = kill(Op::RenameNew, nth, Moment::After);
            }
            // Calls are late, and their locks are gone.
            Mutant::LockFreedEarly => {
                shape.detached = Some(Duration::from_millis(40));
                first.fate.fault = Fault::Unwinds(Duration::from_millis(30));
            }
            // An operator dies before it writes the manifest, and a reader hangs before it looks at a shard again.
            Mutant::EndedOnStaleControl => {
                (shape.shards, shape.reader, first.process) = (1, true, shape.writers);
                shape.paces = [brief; 3];
                first.fate = CallFault {
                    at: At::Nth(Op::ReadAt, 4 + 2 * nth),
                    moment: Moment::Before,
                    fault: Fault::Hangs(4 * brief),
                };
                let reshard = WritersFault::Reshard {
                    merge: false,
                    which: 0,
                    fate: Some(kill(Op::Rename, 1, Moment::Before)),
                };
                self.steps = vec![(brief * nth as u32, reshard)];
                (shape.records, shape.left) = (60, 0);
                (shape.linger, shape.sync_time) = (Duration::ZERO, Duration::ZERO);
            }
            // A process hangs before a write, and continues when it was fenced.
            Mutant::AcknowledgedPastFence | Mutant::FenceUnseen | Mutant::EndedAtControl => {
                shape.shards = 1;
                (shape.reader, shape.may_wait) = (true, [true; 3]);
                (shape.linger, shape.detached, shape.threads) = (Duration::ZERO, None, None);
                (first.process, first.life) = (0, 0);
                first.fate = CallFault {
                    at: At::Nth(Op::WriteAt, 1 + nth * 2),
                    moment: Moment::Before,
                    fault: Fault::Hangs(Duration::from_secs(15)),
                };
                self.faults.truncate(1);
                self.steps.clear();
                self.fault_phase = LONG_FAULT_PHASE;
            }
            // Two threads per process, and processes that wait for four locks each.
            Mutant::LocksWaitOnThreads => (shape.shards, shape.threads) = (4, Some(2)),
            _ => {}
        }
    }
}

impl fmt::Display for WritersPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:?}", self.shape)?;
        for fault in &self.faults {
            writeln!(f, "  {fault:?}")?;
        }
        let mut steps = self.steps.iter();
        steps.try_for_each(|(at, fault)| writeln!(f, "  {at:?}: {fault:?}"))
    }
}

impl WritersPlan {
    /// Draws everything that `seed` decides before the run. In every second plan the first fault is at a call that
    /// follows from the seed, so that consecutive seeds try every call.
    pub(super) fn draw(seed: u64) -> Self {
        let chance = Chance(Random::seeded(seed ^ 0x0077_2173_0c0f_fee5));
        let shape = chance.shape_of_writers();
        let processes = shape.writers as u64 + u64::from(shape.reader);
        let mut faults: Vec<PlannedFault> = (0..1 + chance.below(4))
            .map(|_| PlannedFault {
                fate: chance.fate_of_call(CALLS),
                process: chance.below(processes) as usize,
                life: chance.one(&[0, 0, 0, 1]),
            })
            .collect();
        faults[0].life = 0;
        if seed.is_multiple_of(2) {
            faults[0].fate.at = At::Call(1 + seed / 2 % CALLS);
        }
        let mut steps: Vec<_> = (0..chance.one(&[0, 0, 1, 1, 2, 3]))
            .map(|_| (chance.micros(FAULT_PHASE), chance.fault_of_machine()))
            .collect();
        steps.sort_by_key(|(at, _)| *at);
        WritersPlan {
            shape,
            faults,
            steps,
            fault_phase: FAULT_PHASE,
        }
    }

    /// In every third run, a process hangs so long that others fence its shards, and then continues. This is drawn
    /// separately, so that the rest of the plan of a seed stays the same.
    pub(super) fn let_one_stand_still(&mut self, seed: u64) {
        let chance = Chance(Random::seeded(seed ^ 0x00fe_ce5f_e4ce));
        if chance.below(3) == 0 {
            self.fault_phase = LONG_FAULT_PHASE;
            let fate = CallFault {
                fault: Fault::Hangs(Duration::from_millis(14_000 + chance.below(12_000))),
                ..chance.fate_of_call(CALLS)
            };
            self.faults.push(PlannedFault {
                process: chance.below(self.shape.writers as u64) as usize,
                life: 0,
                fate,
            });
            for (at, _) in &mut self.steps {
                *at *= 1 + chance.below(40) as u32;
            }
            self.steps.sort_by_key(|(at, _)| *at);
        }
        let is_full = |(_, fault): &(Duration, WritersFault)| {
            matches!(fault, WritersFault::Machine(MachineFault::Full { .. }))
        };
        let is_full = self.steps.iter().any(is_full);
        let hangs = |fate: &CallFault| matches!(fate.fault, Fault::Hangs(_));
        let stands = |process| {
            self.faults
                .iter()
                .any(|fault| fault.process == process && hangs(&fault.fate))
        };
        // Of two hanging processes, one may hang while it replaces the manifest to fence the other, and all wait for
        // the lock of the manifest.
        let reshards = |(_, fault): &&(Duration, WritersFault)| match fault {
            WritersFault::Reshard { fate, .. } => fate.as_ref().is_some_and(hangs),
            WritersFault::Machine(_) => false,
        };
        let faults = self
            .faults
            .iter()
            .filter(|fault| hangs(&fault.fate))
            .count();
        let several = faults + self.steps.iter().filter(reshards).count() > 1;
        self.shape.may_wait = std::array::from_fn(|process| is_full || several || stands(process));
    }
}

impl Chance {
    fn shape_of_writers(&self) -> WritersShape {
        let ms = Duration::from_millis;
        WritersShape {
            writers: self.one(&[2, 2, 2, 3]),
            reader: self.below(2) == 0,
            twins: self.below(3) == 0,
            records: 12 + self.below(30),
            record_bytes_max: self.one(&[300, 2_500, 5_000]),
            shards: self.one(&[1, 1, 1, 1, 2, 4]),
            segment_bytes: self.one(&[4 << 10, 4 << 10, 8 << 10]),
            linger: self.one(&[Duration::ZERO, Duration::ZERO, ms(2)]),
            sync_time: self.one(&[Duration::ZERO, ms(1), ms(8)]),
            paces: std::array::from_fn(|_| self.one(&[ms(2), ms(10), ms(40)])),
            in_flight: self.one(&[1, 1, 2, 4]),
            detached: self.one(&[None, Some(ms(1)), Some(ms(40))]),
            threads: self.one(&[None, Some(2), Some(8)]),
            torn: self.percent(30),
            retention_bytes: self.one(&[None, None, None, Some(12 << 10)]),
            retention_time: self.one(&[None, None, Some(ms(1_000)), Some(ms(100_000_000))]),
            left: self.one(&[0, 4, 20]),
            may_wait: [true; 3],
        }
    }

    /// A fault of a process at one of its first `calls` calls: at any call, or at any call of one kind, so that rare
    /// kinds have their share.
    fn fate_of_call(&self, calls: u64) -> CallFault {
        let at = match self.below(4) {
            0 => At::Call(1 + self.below(calls)),
            _ => At::Nth(self.one(&KINDS), 1 + self.below(4)),
        };
        let fault = match self.below(100) {
            0..60 => Fault::Dies(Death::Kill),
            60..70 => Fault::Dies(Death::PowerCut(self.loss())),
            70..82 => Fault::Hangs(self.millis(20, 3_000)),
            82..92 => Fault::Fails(ErrorKind::Other),
            _ => Fault::Unwinds(self.millis(1, 30)),
        };
        CallFault {
            at,
            moment: self.moment(),
            fault,
        }
    }

    fn fault_of_machine(&self) -> WritersFault {
        match self.below(100) {
            0..15 => WritersFault::Machine(self.power_cut()),
            15..30 => WritersFault::Machine(self.full(6_000, 100, 1_000)),
            30..45 => WritersFault::Machine(self.jump(8_000_000_000)),
            _ => WritersFault::Reshard {
                merge: self.percent(50),
                which: self.below(1_000),
                fate: self.percent(50).then(|| self.fate_of_call(90)),
            },
        }
    }
}
