//! Leases: rows that are swapped by counter, owners that are judged by what an observer sees of
//! them, ledgers that an epoch fences.
//!
//! Time goes in ticks. A worker that runs renews and looks once a tick; one that is stopped does
//! nothing, while its clock goes on. The lease time is three ticks.

use crate::catalog::{Check, model, mutant};
use crate::search::{Broken, Model, Promise, Steps, broken};

const LEASE: u8 = 3;
const NOBODY: u8 = 9;

/// The rules; all hold in the protocol.
#[derive(Clone)]
struct Rules {
    swap_by_counter: bool,
    age_since_change: bool,
    own_clock: bool,
    renewed_before_taking: bool,
    ledger_fenced: bool,
    three_listings: bool,
}

const RULES: Rules = Rules {
    swap_by_counter: true,
    age_since_change: true,
    own_clock: true,
    renewed_before_taking: true,
    ledger_fenced: true,
    three_listings: true,
};

#[derive(Clone)]
struct Leases {
    rules: Rules,
    ticks: u8,
    stops: u8,
    misses: u8,
}

#[derive(Clone, Copy, Hash, PartialEq)]
struct Row {
    owner: u8,
    epoch: u8,
    counter: u8,
    progress: u8,
}

impl Row {
    fn version(self) -> (u8, u8) {
        (self.epoch, self.counter)
    }
}

#[derive(Clone, Hash)]
struct Worker {
    running: bool,
    /// Whether it has had its turn since the last tick.
    acted: bool,
    /// The version that it last saw of the row, and how long ago that was new to it.
    seen: Option<(u8, u8)>,
    age: u8,
    /// Listings in a row that lacked the row.
    lacked: u8,
    /// Ticks since it last wrote something: a row, or its own sign of life.
    silent: u8,
    /// Turns that it missed while the other one had its own.
    missed: u8,
    /// The row that it believes to own.
    mine: Option<Row>,
    /// How far its output is.
    done: u8,
    /// A swap that it was stopped in: what it expects and what it writes.
    swap: Option<(Row, Row)>,
}

#[derive(Clone, Hash)]
struct State {
    row: Option<Row>,
    workers: [Worker; 2],
    ticks: u8,
    stops: u8,
    misses: u8,
    wrong: Option<&'static str>,
}

impl Leases {
    /// Writes `new` where `expected` is: what the store does in one step.
    fn swap(&self, next: &mut State, who: usize, expected: Option<Row>, new: Row) -> bool {
        let same = match (next.row, expected) {
            (Some(row), Some(expected)) => {
                row.counter == expected.counter && row.epoch == expected.epoch
            }
            (row, expected) => row.is_none() && expected.is_none(),
        };
        if self.rules.swap_by_counter && !same {
            return false;
        }
        let old = next.row.map_or(NOBODY, |row| row.owner);
        if old != NOBODY && old as usize != who {
            let victim = &next.workers[old as usize];
            if victim.running && victim.missed == 0 && victim.mine.is_some() {
                next.wrong = Some("the lease of a worker that missed no turn was taken");
            }
        }
        self.write(next, new);
        next.workers[who].mine = Some(new);
        next.workers[who].silent = 0;
        true
    }

    fn write(&self, next: &mut State, row: Row) {
        if next.row.is_some_and(|old| old.progress > row.progress) {
            next.wrong = Some("the progress went back");
        }
        next.row = Some(row);
    }

    fn turn(&self, at: &State, who: usize, steps: &mut Steps<State>) {
        let me = &at.workers[who];
        if let Some((expected, new)) = me.swap {
            let mut next = at.clone();
            next.workers[who].swap = None;
            let won = self.swap(&mut next, who, Some(expected), new);
            if !won {
                let still = |row: &Row| row.owner as usize == who && row.epoch == new.epoch;
                next.workers[who].mine = at.row.filter(still);
            }
            steps.add(|| format!("worker {who} completes its swap: {won}"), next);
            return;
        }
        let mut acted = at.clone();
        acted.workers[who].acted = true;
        // A listing beside a swap may lack the row; its owner renews from what it knows.
        if at.misses < self.misses && at.row.is_some() && me.mine.is_none() {
            let mut next = acted.clone();
            next.misses += 1;
            self.lacks(&mut next, who);
            steps.add(
                || format!("worker {who} lists the rows and misses one"),
                next,
            );
        }
        let Some(row) = at.row else {
            self.lacks(&mut acted, who);
            steps.add(
                || format!("worker {who} lists the rows and finds none"),
                acted,
            );
            return;
        };
        let next_me = &mut acted.workers[who];
        next_me.lacked = 0;
        let fresh = me.seen != Some(row.version());
        if fresh {
            next_me.age = 0;
        }
        next_me.seen = Some(row.version());
        if row.owner as usize == who && me.mine.is_some() {
            let renewed = Row {
                counter: row.counter + 1,
                ..row
            };
            let mut stopped = acted.clone();
            let won = self.swap(&mut acted, who, Some(row), renewed);
            acted.workers[who].seen = Some(renewed.version());
            steps.add(|| format!("worker {who} renews: {won}"), acted);
            if at.stops < self.stops {
                stopped.stops += 1;
                stopped.workers[who].running = false;
                stopped.workers[who].acted = false;
                stopped.workers[who].swap = Some((row, renewed));
                steps.add(
                    || format!("worker {who} is stopped in its renewal"),
                    stopped,
                );
            }
            return;
        }
        next_me.mine = None;
        let age = if self.rules.age_since_change {
            next_me.age
        } else {
            at.ticks
        };
        let age = if self.rules.own_clock { age } else { age + 1 };
        let awake = !self.rules.renewed_before_taking || me.silent < LEASE;
        if row.owner == NOBODY || (age >= LEASE && awake) {
            let taken = Row {
                owner: who as u8,
                epoch: row.epoch + 1,
                counter: row.counter + 1,
                ..row
            };
            let won = self.swap(&mut acted, who, Some(row), taken);
            acted.workers[who].done = row.progress;
            steps.add(
                || format!("worker {who} takes the lease, epoch {}: {won}", taken.epoch),
                acted,
            );
        } else {
            acted.workers[who].silent = 0;
            steps.add(
                || format!("worker {who} looks: counter {}", row.counter),
                acted,
            );
        }
    }

    fn lacks(&self, next: &mut State, who: usize) {
        let me = &mut next.workers[who];
        me.lacked += 1;
        me.silent = 0;
        let enough = if self.rules.three_listings { 3 } else { 1 };
        if me.lacked >= enough {
            me.lacked = 0;
            if !self.rules.three_listings || next.row.is_none() {
                let epoch = next.row.map_or(0, |row| row.epoch + 1);
                let new = Row {
                    owner: who as u8,
                    epoch,
                    counter: 0,
                    progress: 0,
                };
                self.write(next, new);
                let me = &mut next.workers[who];
                me.mine = Some(new);
                me.seen = Some(new.version());
                me.age = 0;
                me.done = 0;
            }
        }
    }
}

impl Model for Leases {
    type State = State;

    fn start(&self) -> State {
        let worker = || Worker {
            running: true,
            acted: false,
            seen: None,
            age: 0,
            lacked: 0,
            silent: 0,
            missed: 0,
            mine: None,
            done: 0,
            swap: None,
        };
        State {
            row: Some(Row {
                owner: NOBODY,
                epoch: 0,
                counter: 0,
                progress: 0,
            }),
            workers: [worker(), worker()],
            ticks: 0,
            stops: 0,
            misses: 0,
            wrong: None,
        }
    }

    fn steps(&self, at: &State, steps: &mut Steps<State>) {
        for who in 0..2 {
            let me = &at.workers[who];
            if !me.running {
                let mut next = at.clone();
                next.workers[who].running = true;
                steps.add(|| format!("worker {who} continues"), next);
                continue;
            }
            if !me.acted || me.swap.is_some() {
                self.turn(at, who, steps);
            }
            if at.stops < self.stops {
                let mut next = at.clone();
                next.stops += 1;
                next.workers[who].running = false;
                steps.add(|| format!("worker {who} is stopped"), next);
            }
            let Some(mine) = me.mine else { continue };
            if me.done < 2 {
                let mut next = at.clone();
                next.workers[who].done += 1;
                steps.add(
                    || format!("worker {who}'s output has {}", me.done + 1),
                    next,
                );
            }
            if let Some(row) = at.row
                && me.done > mine.progress
                && (row.epoch == mine.epoch || !self.rules.ledger_fenced)
            {
                let mut next = at.clone();
                let written = Row {
                    progress: me.done,
                    counter: row.counter + 1,
                    ..row
                };
                self.write(&mut next, written);
                next.workers[who].mine = Some(Row {
                    epoch: mine.epoch,
                    ..written
                });
                steps.add(
                    || format!("worker {who} writes its progress {}", me.done),
                    next,
                );
            }
        }
        // Those that run have had their turn before the clock goes on.
        if at.ticks < self.ticks
            && at
                .workers
                .iter()
                .all(|w| !w.running || (w.acted && w.swap.is_none()))
        {
            let mut next = at.clone();
            next.ticks += 1;
            let anybody = at.workers.iter().any(|w| w.acted);
            for worker in &mut next.workers {
                worker.missed = if worker.acted {
                    0
                } else {
                    worker.missed + u8::from(anybody)
                };
                worker.acted = false;
                worker.age = (worker.age + 1).min(LEASE);
                worker.silent = (worker.silent + 1).min(LEASE);
                worker.missed = worker.missed.min(LEASE);
            }
            steps.add(|| "a tick".into(), next);
        }
    }

    fn broken(&self, at: &State) -> Option<Broken> {
        if let Some(wrong) = at.wrong {
            return broken(Promise::OneMeaning, wrong);
        }
        None
    }

    fn is_end(&self, at: &State) -> bool {
        at.ticks == self.ticks
    }
}

pub(crate) fn checks() -> Vec<Check> {
    let base = Leases {
        rules: RULES,
        ticks: 5,
        stops: 2,
        misses: 2,
    };
    let mutant = |name, change: fn(&mut Rules)| {
        let mut config = base.clone();
        change(&mut config.rules);
        mutant("leases", name, config)
    };
    vec![
        model(
            "leases",
            "5 ticks, 2 stops",
            Leases {
                misses: 0,
                ..base.clone()
            },
        ),
        model(
            "leases",
            "5 ticks, a stop, 2 rows missed in listings",
            Leases {
                stops: 1,
                ..base.clone()
            },
        ),
        mutant("leases: swapped blindly", |r| r.swap_by_counter = false),
        mutant("leases: age since the start", |r| {
            r.age_since_change = false
        }),
        mutant("leases: age by another's clock", |r| r.own_clock = false),
        mutant("leases: taken right after a pause", |r| {
            r.renewed_before_taking = false
        }),
        mutant("leases: ledger not fenced", |r| r.ledger_fenced = false),
        mutant("leases: one listing that lacks a row", |r| {
            r.three_listings = false
        }),
    ]
}
