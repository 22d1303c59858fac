//! The log on disk: two processes append under one lock, a reader follows the durable end.
//!
//! A frame that is written lies in the page cache; a sync makes it durable; a sync that fails marks
//! the pages clean without writing them, so that a second sync says "done" and means nothing.

use crate::catalog::{Check, model, mutant};
use crate::search::{Broken, Model, Promise, Steps, broken};

/// The rules; all hold in the protocol.
#[derive(Clone)]
struct Rules {
    readers_stop_at_the_end: bool,
    acknowledged_after_the_end: bool,
    end_after_sync: bool,
    tail_rewritten: bool,
    failed_sync_is_cut: bool,
    lock_outlives_call: bool,
}

const RULES: Rules = Rules {
    readers_stop_at_the_end: true,
    acknowledged_after_the_end: true,
    end_after_sync: true,
    tail_rewritten: true,
    failed_sync_is_cut: true,
    lock_outlives_call: true,
};

#[derive(Clone)]
struct Disk {
    rules: Rules,
    records: u8,
    deaths: u8,
    failures: u8,
    cuts: u8,
}

#[derive(Clone, Copy, Hash, PartialEq, Debug)]
enum Page {
    Dirty,
    /// Marked clean by a sync that failed: readable until the power is cut.
    Forgotten,
    Durable,
}

#[derive(Clone, Copy, Hash, PartialEq, Debug)]
enum Turn {
    Idle,
    /// Holds the lock; what lies past the durable end is not good yet.
    Locked,
    Clean,
    Written,
    /// Knows that its sync failed.
    Failed,
    Synced,
    Named,
}

#[derive(Clone, Hash)]
struct Process {
    turn: Turn,
    record: u8,
}

#[derive(Clone, Hash)]
struct State {
    frames: Vec<(u8, Page)>,
    /// The durable end as the control file says, and what of it survives a power cut.
    end: u8,
    end_on_disk: u8,
    lock: Option<u8>,
    processes: [Process; 2],
    /// A write whose waiter is gone: place and record.
    late: Option<(u8, u8)>,
    next: u8,
    handed_on: Vec<u8>,
    acknowledged: Vec<u8>,
    deaths: u8,
    failures: u8,
    cuts: u8,
}

impl Disk {
    fn turn(&self, at: &State, who: usize, steps: &mut Steps<State>) {
        let me = &at.processes[who];
        let mut go = |what: &str, change: &dyn Fn(&mut State)| {
            steps.change(at, || format!("process {who} {what}"), change);
        };
        match me.turn {
            Turn::Idle if at.lock.is_none() && at.next <= self.records => {
                go("takes the lock", &|next| {
                    next.lock = Some(who as u8);
                    next.processes[who] = Process {
                        turn: Turn::Locked,
                        record: at.next,
                    };
                    next.next += 1;
                });
            }
            Turn::Idle => {}
            Turn::Locked if at.late.is_none() || !self.rules.lock_outlives_call => {
                if at.frames.len() == at.end as usize {
                    go("finds nothing past the durable end", &|next| {
                        next.processes[who].turn = Turn::Clean;
                    });
                } else if self.rules.tail_rewritten {
                    go(
                        "rewrites the tail into a new segment and syncs it",
                        &|next| {
                            next.frames
                                .iter_mut()
                                .for_each(|frame| frame.1 = Page::Durable);
                            next.end = next.frames.len() as u8;
                            next.processes[who].turn = Turn::Clean;
                        },
                    );
                } else {
                    go("syncs the tail in place", &|next| {
                        next.frames
                            .iter_mut()
                            .filter(|frame| frame.1 == Page::Dirty)
                            .for_each(|frame| frame.1 = Page::Durable);
                        next.end = next.frames.len() as u8;
                        next.processes[who].turn = Turn::Clean;
                    });
                }
            }
            Turn::Locked => {}
            Turn::Clean => {
                go("writes its frame", &|next| {
                    next.frames.push((me.record, Page::Dirty));
                    next.processes[who].turn = Turn::Written;
                });
                if at.late.is_none() && at.deaths < self.deaths {
                    go(
                        "stops waiting for its write, which is still under way",
                        &|next| {
                            next.deaths += 1;
                            next.late = Some((next.frames.len() as u8, me.record));
                            if !self.rules.lock_outlives_call {
                                next.lock = None;
                            }
                            next.processes[who].turn = Turn::Idle;
                        },
                    );
                }
            }
            Turn::Written => {
                if !self.rules.acknowledged_after_the_end && !at.acknowledged.contains(&me.record) {
                    go("acknowledges before the sync", &|next| {
                        next.acknowledged.push(me.record)
                    });
                }
                if !self.rules.end_after_sync && (at.end as usize) < at.frames.len() {
                    go("writes the durable end, then syncs", &|next| {
                        next.end = next.frames.len() as u8;
                    });
                }
                go("syncs", &|next| {
                    next.frames
                        .iter_mut()
                        .filter(|frame| frame.1 == Page::Dirty)
                        .for_each(|frame| frame.1 = Page::Durable);
                    next.processes[who].turn = Turn::Synced;
                });
                if at.failures < self.failures {
                    go("learns that its sync failed", &|next| {
                        next.failures += 1;
                        next.frames
                            .iter_mut()
                            .filter(|frame| frame.1 == Page::Dirty)
                            .for_each(|frame| frame.1 = Page::Forgotten);
                        next.processes[who].turn = Turn::Failed;
                    });
                }
            }
            Turn::Failed if self.rules.failed_sync_is_cut => {
                go("cuts to the durable end", &|next| {
                    next.frames.truncate(next.end as usize);
                    next.processes[who].turn = Turn::Clean;
                });
            }
            Turn::Failed => go("syncs once more", &|next| {
                next.processes[who].turn = Turn::Synced
            }),
            Turn::Synced => go("writes the durable end", &|next| {
                next.end = next.frames.len() as u8;
                next.processes[who].turn = Turn::Named;
            }),
            Turn::Named => go("acknowledges and lets the lock go", &|next| {
                next.acknowledged.push(me.record);
                next.acknowledged.sort_unstable();
                next.acknowledged.dedup();
                next.lock = None;
                next.processes[who].turn = Turn::Idle;
            }),
        }
        if at.deaths < self.deaths && me.turn != Turn::Idle {
            go("dies", &|next| {
                next.deaths += 1;
                next.lock = None;
                next.processes[who].turn = Turn::Idle;
            });
        }
    }
}

impl Model for Disk {
    type State = State;

    fn start(&self) -> State {
        State {
            frames: Vec::new(),
            end: 0,
            end_on_disk: 0,
            lock: None,
            processes: [const {
                Process {
                    turn: Turn::Idle,
                    record: 0,
                }
            }; 2],
            late: None,
            next: 1,
            handed_on: Vec::new(),
            acknowledged: Vec::new(),
            deaths: 0,
            failures: 0,
            cuts: 0,
        }
    }

    fn steps(&self, at: &State, steps: &mut Steps<State>) {
        for who in 0..2 {
            self.turn(at, who, steps);
        }
        if let Some((place, record)) = at.late {
            let mut next = at.clone();
            next.late = None;
            if self.rules.lock_outlives_call {
                next.lock = None;
            }
            next.frames.truncate(place as usize);
            next.frames.push((record, Page::Dirty));
            next.frames
                .extend(at.frames.iter().skip(place as usize + 1));
            steps.add(
                || format!("the late write of record {record} lands at {place}"),
                next,
            );
        }
        let readable = if self.rules.readers_stop_at_the_end {
            at.end as usize
        } else {
            at.frames.len()
        };
        if at.handed_on.len() < readable.min(at.frames.len()) {
            let mut next = at.clone();
            next.handed_on.push(at.frames[at.handed_on.len()].0);
            steps.add(
                || format!("the reader hands on offset {}", at.handed_on.len()),
                next,
            );
        }
        if at.end_on_disk < at.end {
            let mut next = at.clone();
            next.end_on_disk = at.end;
            steps.add(|| "the control file reaches the disk".into(), next);
        }
        if at.cuts < self.cuts {
            let durable = at
                .frames
                .iter()
                .take_while(|frame| frame.1 == Page::Durable)
                .count();
            let dirty = at
                .frames
                .iter()
                .take_while(|frame| frame.1 != Page::Forgotten)
                .count();
            for kept in durable..=dirty {
                let mut next = at.clone();
                next.cuts += 1;
                next.frames.truncate(kept);
                next.frames
                    .iter_mut()
                    .for_each(|frame| frame.1 = Page::Durable);
                next.end = at.end_on_disk;
                next.lock = None;
                next.late = None;
                next.processes
                    .iter_mut()
                    .for_each(|process| process.turn = Turn::Idle);
                steps.add(|| format!("the power is cut, {kept} frames survive"), next);
            }
        }
    }

    fn broken(&self, at: &State) -> Option<Broken> {
        for (offset, record) in at.handed_on.iter().enumerate() {
            match at.frames.get(offset) {
                None => {
                    let what = format!("offset {offset}, which was handed on, is gone");
                    return broken(Promise::NothingLost, what);
                }
                Some((now, _)) if now != record => {
                    let what = format!("offset {offset} was record {record} and is record {now}");
                    return broken(Promise::OneMeaning, what);
                }
                Some(_) => {}
            }
        }
        for record in &at.acknowledged {
            if !at.frames.iter().any(|frame| frame.0 == *record) {
                let what = format!("record {record} was acknowledged and is gone");
                return broken(Promise::NothingLost, what);
            }
        }
        if at.end as usize > at.frames.len() {
            return broken(Promise::OneMeaning, "the durable end leads the disk");
        }
        None
    }

    fn is_end(&self, at: &State) -> bool {
        at.next > self.records && at.lock.is_none()
    }
}

pub(crate) fn checks() -> Vec<Check> {
    let base = Disk {
        rules: RULES,
        records: 3,
        deaths: 2,
        failures: 1,
        cuts: 2,
    };
    let mutant = |name, change: fn(&mut Rules)| {
        let mut config = base.clone();
        change(&mut config.rules);
        mutant("disk", name, config)
    };
    vec![
        model(
            "disk",
            "3 records, 2 deaths, a failed sync, 2 power cuts",
            base.clone(),
        ),
        mutant("disk: readers past the durable end", |r| {
            r.readers_stop_at_the_end = false
        }),
        mutant("disk: acknowledged before the sync", |r| {
            r.acknowledged_after_the_end = false
        }),
        mutant("disk: durable end before the sync", |r| {
            r.end_after_sync = false
        }),
        mutant("disk: dead tail synced in place", |r| {
            r.tail_rewritten = false
        }),
        mutant("disk: failed sync tried again in place", |r| {
            r.failed_sync_is_cut = false
        }),
        mutant("disk: lock freed before its call ends", |r| {
            r.lock_outlives_call = false
        }),
    ]
}
