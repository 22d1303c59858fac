//! Transactions to a broker: outputs and progress in one transaction, zombies, late requests, lost
//! answers.
//!
//! Two processes work on one partition of two records. `Progress::Offsets` is broker to the same
//! broker: a transactional id a process, consumed offsets in the transaction, fenced by the group's
//! generation. `Progress::Topic` is anything else to a broker: a transactional id a source shard,
//! progress as one more record of the transaction.
//!
//! The broker is one whose client speaks transactions v1: a clean commit leaves the epoch as it is.

use crate::catalog::{Check, model, mutant};
use crate::search::{Broken, Model, Promise, Steps, broken};

const RECORDS: u8 = 2;

/// Adds what process `who` does.
fn go(
    steps: &mut Steps<State>,
    at: &State,
    who: usize,
    what: impl std::fmt::Display,
    change: impl FnOnce(&mut State),
) {
    steps.change(at, || format!("process {who} {what}"), change);
}

#[derive(Clone, Copy, PartialEq)]
enum Progress {
    Offsets,
    Topic,
}

/// The rules; all hold in the protocol.
#[derive(Clone)]
struct Rules {
    id_by_shard: bool,
    generation_checked: bool,
    init_before_read: bool,
    progress_inside: bool,
    progress_last: bool,
    stable_read: bool,
    buffers_dropped: bool,
    new_after_doubt: bool,
    broker_verifies: bool,
    unknown_commit_repeated: bool,
    abort_rereads: bool,
}

const RULES: Rules = Rules {
    id_by_shard: true,
    generation_checked: true,
    init_before_read: true,
    progress_inside: true,
    progress_last: true,
    stable_read: true,
    buffers_dropped: true,
    new_after_doubt: true,
    broker_verifies: true,
    unknown_commit_repeated: true,
    abort_rereads: true,
};

#[derive(Clone)]
struct Transactions {
    progress: Progress,
    rules: Rules,
    assignments: u8,
    late: u8,
    aborts: u8,
}

#[derive(Clone, Copy, Hash, PartialEq)]
enum Phase {
    Nothing,
    Open,
    Prepared,
}

/// A transactional id, as its coordinator knows it.
#[derive(Clone, Hash)]
struct Id {
    epoch: u8,
    phase: Phase,
    records: Vec<u8>,
    progress: Option<u8>,
    /// Records that lie in the partition and that the coordinator does not know of.
    hanging: Vec<u8>,
}

#[derive(Clone, Copy, Hash, PartialEq)]
enum Turn {
    Down,
    Assigned,
    Ready,
    Running,
    /// A commit was sent and not answered.
    Unknown,
}

#[derive(Clone, Hash)]
struct Process {
    turn: Turn,
    epoch: u8,
    /// The generation of the group that it believes in.
    generation: u8,
    at: u8,
    /// Whether its producer has an epoch.
    initialised: bool,
}

/// A request that its sender no longer waits for.
#[derive(Clone, Hash)]
struct Late {
    id: usize,
    epoch: u8,
    /// A record to append, or the end of a transaction.
    record: Option<u8>,
}

#[derive(Clone, Hash)]
struct State {
    committed: Vec<u8>,
    progress: u8,
    ids: [Id; 2],
    processes: [Process; 2],
    generation: u8,
    owner: usize,
    late: Option<Late>,
    lates: u8,
    aborts: u8,
}

impl Transactions {
    fn id(&self, process: usize) -> usize {
        if self.progress == Progress::Topic && self.rules.id_by_shard {
            0
        } else {
            process
        }
    }

    fn finish(next: &mut State, id: usize) {
        let id = &mut next.ids[id];
        id.phase = Phase::Nothing;
        next.committed.append(&mut id.records);
        next.committed.append(&mut id.hanging);
        if let Some(progress) = id.progress.take() {
            next.progress = progress;
        }
    }

    fn abort(next: &mut State, id: usize) {
        let id = &mut next.ids[id];
        // Where the coordinator knows of no transaction, it writes no marker.
        if id.phase == Phase::Open {
            id.hanging.clear();
        }
        id.phase = Phase::Nothing;
        id.records.clear();
        id.progress = None;
    }

    /// Leaves a process whose transaction failed where the protocol wants it.
    fn start_again(&self, process: &mut Process) {
        let at = process.at;
        *process = Process {
            turn: Turn::Assigned,
            initialised: false,
            ..process.clone()
        };
        if !self.rules.new_after_doubt {
            process.initialised = true;
        }
        if !self.rules.abort_rereads {
            process.at = at;
        }
    }

    fn process(&self, at: &State, who: usize, steps: &mut Steps<State>) {
        let me = &at.processes[who];
        let mine = self.id(who);
        let id = &at.ids[mine];
        let is_new = me.turn == Turn::Down || me.generation < at.generation;
        if is_new && at.generation < self.assignments {
            let generation = at.generation + 1;
            let goes_on = !self.rules.buffers_dropped && me.turn == Turn::Running;
            go(
                steps,
                at,
                who,
                format!("is assigned the partition, generation {generation}"),
                |next| {
                    next.generation = generation;
                    next.owner = who;
                    let me = &mut next.processes[who];
                    me.generation = generation;
                    // Who does not drop what it buffered before goes on with it.
                    if !goes_on {
                        me.turn = Turn::Assigned;
                        me.at = 0;
                        me.initialised = false;
                    }
                },
            );
        }
        let fenced = me.initialised && me.epoch < id.epoch;
        match me.turn {
            Turn::Down => {}
            Turn::Assigned if !me.initialised && self.rules.init_before_read => {
                self.init(at, who, Turn::Ready, steps);
            }
            Turn::Assigned | Turn::Ready => {
                let waits = self.rules.stable_read
                    && self.progress == Progress::Offsets
                    && at.ids.iter().any(|id| id.progress.is_some());
                if !waits {
                    go(
                        steps,
                        at,
                        who,
                        format!("reads the progress: {}", at.progress),
                        |next| {
                            let me = &mut next.processes[who];
                            me.at = if self.rules.abort_rereads {
                                at.progress
                            } else {
                                me.at.max(at.progress)
                            };
                            me.turn = Turn::Running;
                        },
                    );
                }
            }
            Turn::Running if !me.initialised => self.init(at, who, Turn::Running, steps),
            Turn::Running => self.running(at, who, steps),
            Turn::Unknown if fenced || id.phase == Phase::Open => {
                // It was not committed when it is asked again: now it is, or it is fenced.
                if !fenced {
                    go(steps, at, who, "repeats its commit", |next| {
                        next.ids[mine].phase = Phase::Prepared;
                    });
                }
            }
            Turn::Unknown if id.phase == Phase::Nothing => {
                go(
                    steps,
                    at,
                    who,
                    "learns that its commit went through",
                    |next| {
                        let me = &mut next.processes[who];
                        me.turn = if self.rules.new_after_doubt {
                            Turn::Assigned
                        } else {
                            Turn::Running
                        };
                        me.initialised = !self.rules.new_after_doubt;
                    },
                );
                if !self.rules.unknown_commit_repeated {
                    go(
                        steps,
                        at,
                        who,
                        "takes its commit for failed and processes again",
                        |next| {
                            let me = &mut next.processes[who];
                            me.turn = Turn::Running;
                            me.at = at.progress.saturating_sub(1);
                        },
                    );
                }
            }
            Turn::Unknown => {}
        }
        if me.turn != Turn::Down && fenced && at.owner == who && me.turn != Turn::Assigned {
            go(
                steps,
                at,
                who,
                "learns that it was fenced, and starts again",
                |next| {
                    self.start_again(&mut next.processes[who]);
                    next.processes[who].initialised = false;
                },
            );
        }
        if me.turn != Turn::Down && at.generation < self.assignments {
            go(steps, at, who, "dies", |next| {
                next.processes[who].turn = Turn::Down
            });
        }
    }

    fn init(&self, at: &State, who: usize, turn: Turn, steps: &mut Steps<State>) {
        let mine = self.id(who);
        let mut next = at.clone();
        if next.ids[mine].phase == Phase::Prepared {
            Transactions::finish(&mut next, mine);
        } else {
            Transactions::abort(&mut next, mine);
        }
        next.ids[mine].epoch += 1;
        let epoch = next.ids[mine].epoch;
        let me = &mut next.processes[who];
        *me = Process {
            turn,
            epoch,
            initialised: true,
            ..me.clone()
        };
        steps.add(
            || format!("process {who} initialises a producer, epoch {epoch}"),
            next,
        );
    }

    fn running(&self, at: &State, who: usize, steps: &mut Steps<State>) {
        let me = &at.processes[who];
        let mine = self.id(who);
        let id = &at.ids[mine];
        if me.epoch != id.epoch {
            return;
        }
        let open = id.phase != Phase::Prepared;
        let may_produce = id.progress.is_none() || !self.rules.progress_last;
        let record = me.at + 1;
        if open && record <= RECORDS && id.records.len() < 2 && may_produce {
            go(steps, at, who, format!("produces {record}"), |next| {
                next.ids[mine].records.push(record);
                next.ids[mine].phase = Phase::Open;
                next.processes[who].at = record;
            });
            if at.lates < self.late && at.late.is_none() {
                go(
                    steps,
                    at,
                    who,
                    format!("produces {record}, waits no longer for it and aborts"),
                    |next| {
                        next.lates += 1;
                        next.late = Some(Late {
                            id: mine,
                            epoch: me.epoch,
                            record: Some(record),
                        });
                        Transactions::abort(next, mine);
                        self.start_again(&mut next.processes[who]);
                    },
                );
            }
        }
        if id.phase == Phase::Open && at.aborts < self.aborts {
            go(steps, at, who, "aborts", |next| {
                next.aborts += 1;
                Transactions::abort(next, mine);
                self.start_again(&mut next.processes[who]);
            });
        }
        if !self.rules.progress_inside {
            if id.phase == Phase::Open {
                go(steps, at, who, "commits", |next| {
                    Transactions::finish(next, mine)
                });
            } else if me.at > at.progress && open {
                go(
                    steps,
                    at,
                    who,
                    format!("writes its progress {} elsewhere", me.at),
                    |next| {
                        next.progress = me.at;
                    },
                );
            }
            return;
        }
        if id.phase == Phase::Open && id.progress.is_none() && !id.records.is_empty() {
            let current = self.progress == Progress::Topic
                || !self.rules.generation_checked
                || me.generation == at.generation;
            if current {
                go(
                    steps,
                    at,
                    who,
                    format!("adds its progress {}", me.at),
                    |next| {
                        next.ids[mine].progress = Some(me.at);
                    },
                );
            }
        }
        if id.phase == Phase::Open && id.progress.is_some() {
            go(steps, at, who, "commits", |next| {
                next.ids[mine].phase = Phase::Prepared
            });
            go(steps, at, who, "commits, the answer is lost", |next| {
                next.ids[mine].phase = Phase::Prepared;
                next.processes[who].turn = Turn::Unknown;
            });
            if at.lates < self.late && at.late.is_none() {
                go(
                    steps,
                    at,
                    who,
                    "commits twice, the first request is still under way",
                    |next| {
                        next.lates += 1;
                        next.late = Some(Late {
                            id: mine,
                            epoch: me.epoch,
                            record: None,
                        });
                        next.ids[mine].phase = Phase::Prepared;
                        next.processes[who].turn = Turn::Unknown;
                    },
                );
            }
        }
    }

    fn late(&self, at: &State, late: &Late, steps: &mut Steps<State>) {
        let id = &at.ids[late.id];
        let mut next = at.clone();
        next.late = None;
        steps.add(
            || "the late request is refused or lost".into(),
            next.clone(),
        );
        if late.epoch != id.epoch {
            return;
        }
        match late.record {
            None if id.phase == Phase::Open => {
                next.ids[late.id].phase = Phase::Prepared;
                steps.add(|| "the late commit ends the next transaction".into(), next);
            }
            Some(record) if id.phase == Phase::Open => {
                next.ids[late.id].records.push(record);
                steps.add(
                    || format!("the late record {record} joins the next transaction"),
                    next,
                );
            }
            Some(record) if id.phase == Phase::Nothing && !self.rules.broker_verifies => {
                next.ids[late.id].hanging.push(record);
                steps.add(
                    || format!("the late record {record} lands outside a transaction"),
                    next,
                );
            }
            _ => {}
        }
    }
}

impl Model for Transactions {
    type State = State;

    fn start(&self) -> State {
        let id = || Id {
            epoch: 0,
            phase: Phase::Nothing,
            records: Vec::new(),
            progress: None,
            hanging: Vec::new(),
        };
        let process = || Process {
            turn: Turn::Down,
            epoch: 0,
            generation: 0,
            at: 0,
            initialised: false,
        };
        State {
            committed: Vec::new(),
            progress: 0,
            ids: [id(), id()],
            processes: [process(), process()],
            generation: 0,
            owner: 0,
            late: None,
            lates: 0,
            aborts: 0,
        }
    }

    fn steps(&self, at: &State, steps: &mut Steps<State>) {
        for who in 0..2 {
            self.process(at, who, steps);
        }
        for (index, id) in at.ids.iter().enumerate() {
            let mut next = at.clone();
            match id.phase {
                Phase::Prepared => {
                    Transactions::finish(&mut next, index);
                    steps.add(
                        || format!("the broker completes the commit of id {index}"),
                        next,
                    );
                }
                Phase::Open if at.aborts < self.aborts || self.is_left(at, index) => {
                    next.aborts += u8::from(!self.is_left(at, index));
                    next.ids[index].epoch += 1;
                    Transactions::abort(&mut next, index);
                    steps.add(|| format!("the transaction of id {index} times out"), next);
                }
                _ => {}
            }
        }
        if let Some(late) = &at.late {
            self.late(at, late, steps);
        }
    }

    fn broken(&self, at: &State) -> Option<Broken> {
        for (index, record) in at.committed.iter().enumerate() {
            let before = &at.committed[..index];
            if before.contains(record) {
                return broken(
                    Promise::NothingDoubled,
                    format!("record {record} is committed twice"),
                );
            }
            if before.iter().any(|other| other > record) {
                return broken(Promise::OrderPerKey, format!("record {record} comes late"));
            }
        }
        let lost = (1..=at.progress).find(|record| !at.committed.contains(record));
        lost.and_then(|record| {
            let what = format!("record {record} is behind the progress and not committed");
            broken(Promise::NothingLost, what)
        })
    }

    fn is_end(&self, at: &State) -> bool {
        at.generation == self.assignments
            && (at.committed.len() == RECORDS as usize || self.nobody_is_up(at))
    }
}

impl Transactions {
    /// Whether the process that opened the transaction of `id` will not end it.
    fn is_left(&self, at: &State, id: usize) -> bool {
        self.id(at.owner) != id || self.nobody_is_up(at)
    }

    /// Whether the last assignment went to a process that died: nothing more happens then.
    fn nobody_is_up(&self, at: &State) -> bool {
        at.processes[at.owner].turn == Turn::Down
    }
}

pub(crate) fn checks() -> Vec<Check> {
    let offsets = Transactions {
        progress: Progress::Offsets,
        rules: RULES,
        assignments: 3,
        late: 1,
        aborts: 1,
    };
    let topic = Transactions {
        progress: Progress::Topic,
        ..offsets.clone()
    };
    let mutant = |name, base: &Transactions, change: fn(&mut Rules)| {
        let mut config = base.clone();
        change(&mut config.rules);
        mutant("transactions", name, config)
    };
    vec![
        model(
            "transactions",
            "offsets, 3 owners, late request, abort",
            offsets.clone(),
        ),
        model(
            "transactions",
            "topic, 3 owners, late request, abort",
            topic.clone(),
        ),
        mutant(
            "transactions: offsets not fenced by the group",
            &offsets,
            |r| {
                r.generation_checked = false;
            },
        ),
        mutant("transactions: offsets read unstable", &offsets, |r| {
            r.stable_read = false
        }),
        mutant(
            "transactions: buffers of a lost partition kept",
            &offsets,
            |r| {
                r.buffers_dropped = false;
            },
        ),
        mutant("transactions: id by process, no group", &topic, |r| {
            r.id_by_shard = false
        }),
        mutant("transactions: progress read before init", &topic, |r| {
            r.init_before_read = false
        }),
        mutant("transactions: progress outside", &topic, |r| {
            r.progress_inside = false
        }),
        mutant("transactions: produced after the progress", &topic, |r| {
            r.progress_last = false
        }),
        mutant("transactions: same producer after doubt", &topic, |r| {
            r.new_after_doubt = false
        }),
        mutant("transactions: broker does not verify", &topic, |r| {
            r.broker_verifies = false
        }),
        mutant(
            "transactions: unknown commit processed again",
            &topic,
            |r| {
                r.unknown_commit_repeated = false;
            },
        ),
        mutant("transactions: goes on after an abort", &topic, |r| {
            r.abort_rereads = false
        }),
    ]
}
