//! The senders' side: workers, lanes, claims and checkpoints.

use super::reader::{
    Aggregate, Claim, Item, ORIGINS, Range, Reading, Segment, code_of, overlap, within,
};
use crate::search::{Broken, Model, Promise, Steps, broken};

const SLOTS: usize = 4;
const FREE: u8 = 9;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Inherit {
    ByRange,
    Maximum,
    Minimum,
    Nothing,
}

/// When a checkpoint may be claimed as `low`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Low {
    /// Once this session has known it durable for the time in which the service places what it has
    /// acknowledged.
    Aged,
    /// The one at the session's start, at once.
    Start,
    /// The newest one, at once.
    Newest,
}

/// What an answer from another shard than the predicted one confirms.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mispredicted {
    /// Everything if all of it belongs to that shard, else nothing.
    WholeOrNothing,
    /// Everything.
    Unchecked,
    /// The origins whose items all belong there.
    ByEntry,
}

#[derive(Clone)]
pub(super) struct Sending {
    /// One unconfirmed request a lane; else two.
    pub(super) one_unconfirmed: bool,
    pub(super) lanes_wait: bool,
    pub(super) mispredicted: Mispredicted,
    pub(super) credit_within_shard: bool,
    pub(super) low: Low,
    pub(super) claim_by_range: bool,
    pub(super) from_sent: bool,
    pub(super) ordered_by_shard: bool,
    pub(super) route_fixed: bool,
    pub(super) unit_route_fixed: bool,
    pub(super) child_waits: bool,
    pub(super) checkpoint_on_answer: bool,
    pub(super) inherit: Inherit,
    pub(super) ended_kept: bool,
}

pub(super) const SENDING: Sending = Sending {
    one_unconfirmed: true,
    lanes_wait: true,
    mispredicted: Mispredicted::WholeOrNothing,
    credit_within_shard: true,
    low: Low::Aged,
    claim_by_range: true,
    from_sent: true,
    ordered_by_shard: true,
    route_fixed: true,
    unit_route_fixed: true,
    child_waits: true,
    checkpoint_on_answer: true,
    inherit: Inherit::ByRange,
    ended_kept: true,
};

#[derive(Clone)]
pub(super) struct Claims {
    pub(super) reading: Reading,
    pub(super) sending: Sending,
    pub(super) maps: Vec<Vec<Range>>,
    pub(super) items: Vec<Item>,
    pub(super) ends: [u8; ORIGINS],
    pub(super) parents: [&'static [usize]; ORIGINS],
    /// Whether the service may acknowledge a put and place it behind later ones of others.
    pub(super) places_late: bool,
    /// Whether a put of one worker may also be placed behind its own later ones.
    pub(super) unordered: bool,
    /// Whether a shard's new owner waits until what was acknowledged is placed.
    pub(super) takes_wait: bool,
    pub(super) order_promised: bool,
    /// Whether a reader that sees a gap before a claim may rely on it.
    pub(super) gaps_are_real: bool,
    pub(super) takes: u8,
    pub(super) crashes: u8,
    pub(super) requests: usize,
    pub(super) sends: u8,
    pub(super) latest: bool,
}

#[derive(Clone, Hash)]
pub(super) struct Session {
    pub(super) current: bool,
    pub(super) epoch: u8,
    /// The newest checkpoint that it knows durable, and the one that it may claim.
    pub(super) known: u8,
    pub(super) aged: u8,
    pub(super) start: u8,
    pub(super) confirmed: [u8; SLOTS],
    pub(super) answered: u16,
}

#[derive(Clone, Hash, Default)]
pub(super) struct Worker {
    pub(super) map: u8,
    pub(super) sessions: [Option<Session>; ORIGINS],
}

#[derive(Clone, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    pub(super) aggregate: Aggregate,
    pub(super) predicted: Range,
    pub(super) map: u8,
    /// The slot that decides which shard gets it.
    pub(super) route: u8,
    /// The shard that has it.
    pub(super) landed: Option<Range>,
    /// Whether its sender still waits for the answer.
    pub(super) awaited: bool,
    /// Acknowledged, not placed yet.
    pub(super) acknowledged: bool,
    /// How many unplaced puts of its worker it has to follow.
    pub(super) follows: u8,
}

#[derive(Clone, Hash)]
pub(super) struct Shard {
    pub(super) range: Range,
    pub(super) marks: Vec<Segment>,
}

#[derive(Clone, Hash)]
pub(super) struct State {
    pub(super) map: u8,
    pub(super) shards: Vec<Shard>,
    pub(super) kept: u16,
    /// What was there before a reader began at the newest record.
    pub(super) before: u16,
    pub(super) began_late: bool,
    pub(super) ledger: [u8; ORIGINS],
    pub(super) owners: [u8; ORIGINS],
    pub(super) workers: [Worker; 2],
    pub(super) requests: Vec<Request>,
    pub(super) takes: u8,
    pub(super) crashes: u8,
    pub(super) sends: u8,
    pub(super) wrong: Option<(u8, u8)>,
}

pub(super) const DOUBLED: u8 = 0;
pub(super) const REORDERED: u8 = 1;
pub(super) const GAP: u8 = 2;

impl Claims {
    pub(super) fn slot(&self, item: usize, worker: u8) -> u8 {
        let Item { slot, unit, .. } = self.items[item];
        let moves = if unit {
            !self.sending.unit_route_fixed
        } else {
            !self.sending.route_fixed
        };
        if moves && worker == 1 { 3 - slot } else { slot }
    }

    fn name(&self, item: usize) -> String {
        let Item {
            origin,
            position,
            index,
            unit,
            ..
        } = self.items[item];
        let origin = (b'A' + origin) as char;
        let index = if index > 0 { "'" } else { "" };
        if unit {
            format!("unit {origin}{position}{index}")
        } else {
            format!("{origin}{position}{index}")
        }
    }

    pub(super) fn names(&self, items: u16) -> String {
        let names: Vec<String> = (0..self.items.len())
            .filter(|i| items >> i & 1 == 1)
            .map(|i| self.name(i))
            .collect();
        format!("[{}]", names.join(" "))
    }

    fn lane(&self, worker: u8, origin: usize, range: Range) -> Vec<usize> {
        (0..self.items.len())
            .filter(|&i| self.items[i].origin as usize == origin)
            .filter(|&i| within(self.slot(i, worker), range))
            .collect()
    }

    fn is_confirmed(&self, session: &Session, worker: u8, item: usize) -> bool {
        if self.sending.one_unconfirmed {
            self.items[item].code() <= session.confirmed[self.slot(item, worker) as usize]
        } else {
            session.answered >> item & 1 == 1
        }
    }

    fn session(&self, at: &State, origin: usize, epoch: u8) -> Session {
        let start = code_of(at.ledger[origin]);
        let before = |i: &usize| {
            self.items[*i].origin as usize == origin && self.items[*i].position <= at.ledger[origin]
        };
        Session {
            current: true,
            epoch,
            known: start,
            aged: 0,
            start,
            confirmed: [start; SLOTS],
            answered: (0..self.items.len())
                .filter(before)
                .fold(0, |all, i| all | 1 << i),
        }
    }

    fn takes(&self, at: &State, steps: &mut Steps<State>) {
        let unplaced = at.requests.iter().any(|r| r.acknowledged);
        for origin in (0..ORIGINS).filter(|&o| self.ends[o] > 0) {
            let early = self.sending.child_waits
                && self.parents[origin]
                    .iter()
                    .any(|&p| at.ledger[p] < self.ends[p]);
            for worker in 0..2 {
                let owner = at.owners[origin];
                let may = owner == FREE || (owner as usize != worker && at.takes < self.takes);
                let stale = at.workers[worker].sessions[origin].is_some();
                // The first worker starts, so that only takeovers differ.
                let first = owner == FREE && at.crashes == 0 && worker == 1;
                if early || !may || stale || first || (self.takes_wait && unplaced) {
                    continue;
                }
                let shard = (b'A' + origin as u8) as char;
                let name = || {
                    format!(
                        "worker {worker} takes {shard} at checkpoint {}",
                        at.ledger[origin]
                    )
                };
                steps.change(at, name, |next| {
                    if owner != FREE {
                        next.takes += 1;
                        if let Some(old) = &mut next.workers[owner as usize].sessions[origin] {
                            old.current = false;
                        }
                    }
                    next.owners[origin] = worker as u8;
                    let epoch = next.takes + next.crashes;
                    next.workers[worker].sessions[origin] = Some(self.session(at, origin, epoch));
                });
            }
        }
    }

    fn claim(&self, at: &State, worker: u8, origin: usize, range: Range, sent: u16) -> Vec<Claim> {
        let Some(session) = &at.workers[worker as usize].sessions[origin] else {
            return Vec::new();
        };
        let low = match self.sending.low {
            Low::Aged => session.aged,
            Low::Start => session.start,
            Low::Newest => session.known,
        };
        let low = Some(low).filter(|low| *low > 0);
        let lane = self.lane(worker, origin, range);
        let first = lane.iter().position(|i| sent >> i & 1 == 1).unwrap_or(0);
        let next = lane[first..].iter().find(|i| sent >> **i & 1 == 0);
        let to = next.map_or(code_of(self.ends[origin]), |&i| self.items[i].code() - 1);
        let claim = |range, from: u8| Claim {
            origin: origin as u8,
            range,
            low,
            from,
            to: to.max(from),
        };
        let confirmed = |slot: u8| session.confirmed[slot as usize];
        if !self.sending.one_unconfirmed {
            let previous = first
                .checked_sub(1)
                .map_or(0, |i| self.items[lane[i]].code());
            let least = lane
                .iter()
                .filter(|&&i| !self.is_confirmed(session, worker, i))
                .map(|&i| self.items[i].code() - 1)
                .min();
            let from = if self.sending.from_sent {
                previous.max(session.start)
            } else {
                least
                    .unwrap_or(session.start)
                    .min(previous.max(session.start))
            };
            return vec![claim(range, from)];
        }
        if !self.sending.claim_by_range {
            let least = (range.0..=range.1).map(confirmed).min().unwrap_or(0);
            return vec![claim(range, least)];
        }
        let mut claims: Vec<Claim> = Vec::new();
        for slot in range.0..=range.1 {
            match claims.last_mut() {
                Some(last) if confirmed(last.range.0) == confirmed(slot) => last.range.1 = slot,
                _ => claims.push(claim((slot, slot), confirmed(slot))),
            }
        }
        claims
    }

    fn sends(&self, at: &State, worker: u8, steps: &mut Steps<State>) {
        let me = &at.workers[worker as usize];
        if at.requests.len() >= self.requests || at.sends >= self.sends {
            return;
        }
        for &range in &self.maps[me.map as usize] {
            let mine = || {
                at.requests
                    .iter()
                    .filter(|r| r.aggregate.worker == worker && r.awaited)
            };
            let busy = mine()
                .filter(|r| {
                    if self.sending.lanes_wait {
                        overlap(r.predicted, range)
                    } else {
                        r.predicted == range
                    }
                })
                .count();
            if busy >= if self.sending.one_unconfirmed { 1 } else { 2 } {
                continue;
            }
            let flying = if self.sending.one_unconfirmed && self.sending.lanes_wait {
                0
            } else {
                mine().fold(0, |all, r| all | r.aggregate.items)
            };
            let pending: Vec<Vec<usize>> = (0..ORIGINS)
                .map(|origin| match &me.sessions[origin] {
                    None => Vec::new(),
                    Some(session) => self
                        .lane(worker, origin, range)
                        .into_iter()
                        .filter(|&i| !self.is_confirmed(session, worker, i) && flying >> i & 1 == 0)
                        .collect(),
                })
                .collect();
            let mut choices = vec![0u16];
            for list in &pending {
                let mut more = Vec::new();
                for chosen in &choices {
                    for count in 0..=list.len().min(2) {
                        more.push(list[..count].iter().fold(*chosen, |all, i| all | 1 << i));
                    }
                }
                choices = more;
            }
            for items in choices.into_iter().filter(|items| *items != 0) {
                self.send(at, worker, range, items, steps);
            }
        }
    }

    fn send(&self, at: &State, worker: u8, range: Range, items: u16, steps: &mut Steps<State>) {
        let map = at.workers[worker as usize].map;
        let all = || (0..self.items.len()).filter(|i| items >> i & 1 == 1);
        let claims = (0..ORIGINS)
            .filter(|&origin| all().any(|i| self.items[i].origin as usize == origin))
            .flat_map(|origin| self.claim(at, worker, origin, range, items))
            .collect();
        let record = all()
            .find(|&i| !self.items[i].unit)
            .or_else(|| all().next());
        let route = record.map_or(range.0, |i| self.slot(i, worker));
        let epoch = all()
            .filter_map(|i| {
                at.workers[worker as usize].sessions[self.items[i].origin as usize].as_ref()
            })
            .map(|session| session.epoch)
            .max();
        let aggregate = Aggregate {
            lane: range,
            items,
            claims,
            worker,
            epoch: epoch.unwrap_or(0),
        };
        let before = at.requests.iter().filter(|r| {
            r.acknowledged
                && r.aggregate.worker == worker
                && within(r.route, range)
                && (self.sending.ordered_by_shard || r.predicted == range)
        });
        let follows = if self.unordered {
            0
        } else {
            before.map(|r| r.follows + 1).max().unwrap_or(0)
        };
        let request = Request {
            aggregate,
            predicted: range,
            map,
            route,
            landed: None,
            awaited: true,
            acknowledged: false,
            follows,
        };
        let name = || {
            format!(
                "worker {worker} sends {} to lane {}-{}",
                self.names(items),
                range.0,
                range.1
            )
        };
        steps.change(at, name, |next| {
            next.sends += 1;
            next.requests.push(request);
            next.requests.sort_unstable();
        });
    }

    fn sessions(&self, at: &State, worker: usize, steps: &mut Steps<State>) {
        for origin in 0..ORIGINS {
            let Some(session) = &at.workers[worker].sessions[origin] else {
                continue;
            };
            let shard = (b'A' + origin as u8) as char;
            if !session.current {
                let name = || format!("worker {worker} notices that it lost {shard}");
                steps.change(at, name, |next| {
                    next.workers[worker].sessions[origin] = None
                });
                continue;
            }
            let sent = at
                .requests
                .iter()
                .filter(|r| r.aggregate.worker as usize == worker);
            let sent = sent.fold(0, |all, r| all | r.aggregate.items);
            let missing = (0..self.items.len())
                .filter(|&i| self.items[i].origin as usize == origin)
                .filter(|&i| !self.is_confirmed(session, worker as u8, i))
                .filter(|i| self.sending.checkpoint_on_answer || sent >> i & 1 == 0)
                .map(|i| self.items[i].position - 1)
                .min();
            let to = missing.unwrap_or(self.ends[origin]);
            if to > at.ledger[origin] {
                let name = || format!("worker {worker} checkpoints {shard} at {to}");
                steps.change(at, name, |next| {
                    next.ledger[origin] = to;
                    if let Some(session) = &mut next.workers[worker].sessions[origin] {
                        session.known = code_of(to);
                    }
                    if !self.sending.ended_kept && to == self.ends[origin] {
                        for shard in &mut next.shards {
                            shard.marks.iter_mut().for_each(|s| s.sets[origin] = 1);
                        }
                    }
                });
            }
        }
    }
}

impl Model for Claims {
    type State = State;

    fn start(&self) -> State {
        let shards = self.maps[0]
            .iter()
            .map(|&range| Shard {
                range,
                marks: vec![Segment::empty(range)],
            })
            .collect();
        State {
            map: 0,
            shards,
            kept: 0,
            before: 0,
            began_late: false,
            ledger: [0; ORIGINS],
            owners: [FREE; ORIGINS],
            workers: Default::default(),
            requests: Vec::new(),
            takes: 0,
            crashes: 0,
            sends: 0,
            wrong: None,
        }
    }

    fn steps(&self, at: &State, steps: &mut Steps<State>) {
        self.takes(at, steps);
        for worker in 0..2 {
            let me = &at.workers[worker];
            if at.crashes < self.crashes && me.sessions.iter().any(Option::is_some) {
                steps.change(
                    at,
                    || format!("worker {worker} dies"),
                    |next| {
                        next.crashes += 1;
                        next.workers[worker] = Worker {
                            map: at.map,
                            ..Worker::default()
                        };
                        for owner in next.owners.iter_mut().filter(|o| **o as usize == worker) {
                            *owner = FREE;
                        }
                        next.requests.retain(|r| {
                            r.aggregate.worker as usize != worker || r.landed.is_none()
                        });
                        for request in &mut next.requests {
                            request.awaited &= request.aggregate.worker as usize != worker;
                        }
                        next.requests.sort_unstable();
                    },
                );
            }
            if me.map < at.map {
                steps.change(
                    at,
                    || format!("worker {worker} reads the map"),
                    |next| {
                        next.workers[worker].map = at.map;
                    },
                );
            }
            self.sends(at, worker as u8, steps);
            self.sessions(at, worker, steps);
        }
        self.requests(at, steps);
        let unplaced = at.requests.iter().any(|r| r.acknowledged);
        let sessions = || at.workers.iter().flat_map(|w| w.sessions.iter().flatten());
        if self.sending.low == Low::Aged && !unplaced && sessions().any(|s| s.aged < s.known) {
            steps.change(
                at,
                || "all that was acknowledged is placed by now".into(),
                |next| {
                    for worker in &mut next.workers {
                        worker
                            .sessions
                            .iter_mut()
                            .flatten()
                            .for_each(|s| s.aged = s.known);
                    }
                },
            );
        }
        if !unplaced {
            self.reshard(at, steps);
        }
        if self.latest && !at.began_late {
            steps.change(
                at,
                || "a reader begins at the newest record".into(),
                |next| {
                    next.began_late = true;
                    next.before = next.kept;
                    next.kept = 0;
                    for shard in &mut next.shards {
                        shard.marks = vec![Segment::empty(shard.range)];
                    }
                },
            );
        }
    }

    fn broken(&self, at: &State) -> Option<Broken> {
        if let Some((what, item)) = at.wrong {
            let name = self.name(item as usize);
            return match what {
                DOUBLED => broken(Promise::NothingDoubled, format!("{name} is kept twice")),
                REORDERED => {
                    let what = format!("{name} comes after a later one of its key");
                    broken(Promise::OrderPerKey, what)
                }
                _ => broken(
                    Promise::OneMeaning,
                    "a reader counts a gap where nothing is missing",
                ),
            };
        }
        let coming = at.requests.iter().filter(|r| r.acknowledged);
        let coming = coming.fold(at.kept | at.before, |all, r| all | r.aggregate.items);
        let lost = (0..self.items.len()).find(|&i| {
            let item = &self.items[i];
            item.position <= at.ledger[item.origin as usize] && coming >> i & 1 == 0
        });
        lost.and_then(|item| {
            let what = format!("{} is checkpointed and never read", self.name(item));
            broken(Promise::NothingLost, what)
        })
    }

    fn is_end(&self, at: &State) -> bool {
        // The bounds may end a run early: then nothing is promised but what was checkpointed.
        at.sends == self.sends || (at.ledger == self.ends && at.requests.is_empty())
    }
}
