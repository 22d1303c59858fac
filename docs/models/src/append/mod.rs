//! Lanes into a log that checks at append: marks by origin and hash range, retries from the oldest
//! unconfirmed append, splits, merges, takeovers, zombies, lost answers and power cuts.
//!
//! A route is one of four slots. An item is one record of an input shard (its origin). A frame
//! becomes durable by a sync; a power cut takes the frames that are not.

mod scenarios;

pub(crate) use scenarios::checks;

use crate::search::{Broken, Model, Promise, Steps, broken};

const SLOTS: usize = 4;
const ORIGINS: usize = 3;
const FREE: u8 = 9;

type Range = (u8, u8);

/// How children get their marks from their parents.
#[derive(Clone, Copy, PartialEq)]
enum Inherit {
    ByRange,
    Maximum,
    Minimum,
    Nothing,
}

/// The rules; all hold in the protocol.
#[derive(Clone)]
struct Rules {
    marks: bool,
    order_checked: bool,
    marks_in_frame: bool,
    duplicates_wait: bool,
    recounted_after_cut: bool,
    inherit: Inherit,
    closed_refuses: bool,
    route_fixed: bool,
    child_waits: bool,
    checkpoint_on_answer: bool,
    origins_distinct: bool,
}

const RULES: Rules = Rules {
    marks: true,
    order_checked: true,
    marks_in_frame: true,
    duplicates_wait: true,
    recounted_after_cut: true,
    inherit: Inherit::ByRange,
    closed_refuses: true,
    route_fixed: true,
    child_waits: true,
    checkpoint_on_answer: true,
    origins_distinct: true,
};

#[derive(Clone)]
struct Item {
    origin: u8,
    position: u8,
    slot: u8,
}

/// What is sent where, and how often the environment may strike.
#[derive(Clone)]
struct Append {
    rules: Rules,
    /// The shards' ranges, one map after another.
    maps: Vec<Vec<Range>>,
    items: Vec<Item>,
    ends: [u8; ORIGINS],
    parents: [&'static [usize]; ORIGINS],
    /// Requests of a lane that may be under way at once.
    depth: usize,
    takes: u8,
    kills: u8,
    cuts: u8,
    faults: u8,
}

#[derive(Clone, Hash, PartialEq)]
struct Segment {
    range: Range,
    marks: [u8; ORIGINS],
}

#[derive(Clone, Hash)]
struct Frame {
    items: u16,
    /// The marks after it.
    marks: Vec<Segment>,
}

#[derive(Clone, Hash)]
struct Shard {
    range: Range,
    closed: bool,
    first_marks: Vec<Segment>,
    marks: Vec<Segment>,
    log: Vec<Frame>,
    durable: u8,
}

#[derive(Clone, Hash)]
struct Request {
    origin: u8,
    shard: u8,
    items: u16,
    /// Range and `from`.
    claims: Vec<(Range, u8)>,
    to: u8,
    /// The length of the log that must be durable before the answer.
    landed: Option<u8>,
}

#[derive(Clone, Hash)]
struct Session {
    current: bool,
    low: u8,
    sent: [u8; SLOTS],
    confirmed: [u8; SLOTS],
}

#[derive(Clone, Hash, Default)]
struct Worker {
    map: u8,
    sessions: [Option<Session>; ORIGINS],
    requests: Vec<Request>,
}

#[derive(Clone, Hash)]
struct State {
    map: u8,
    shards: Vec<Shard>,
    ledger: [u8; ORIGINS],
    owners: [u8; ORIGINS],
    workers: [Worker; 2],
    takes: u8,
    kills: u8,
    cuts: u8,
    faults: u8,
}

fn overlap(a: Range, b: Range) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

fn within(slot: u8, range: Range) -> bool {
    range.0 <= slot && slot <= range.1
}

impl Append {
    fn route(&self, item: usize, worker: usize) -> u8 {
        let slot = self.items[item].slot;
        if !self.rules.route_fixed && worker == 1 && item == 0 {
            3 - slot
        } else {
            slot
        }
    }

    fn mark_of(&self, origin: u8) -> usize {
        if self.rules.origins_distinct {
            origin as usize
        } else {
            0
        }
    }

    fn name(&self, item: usize) -> String {
        let Item {
            origin, position, ..
        } = self.items[item];
        format!("{}{position}", (b'A' + origin) as char)
    }

    fn names(&self, items: u16) -> String {
        let names: Vec<String> = (0..self.items.len())
            .filter(|i| items >> i & 1 == 1)
            .map(|i| self.name(i))
            .collect();
        names.join(" ")
    }

    fn shard(range: Range, marks: Vec<Segment>) -> Shard {
        let first_marks = marks.clone();
        Shard {
            range,
            closed: false,
            first_marks,
            marks,
            log: Vec::new(),
            durable: 0,
        }
    }

    /// How far `origin` may be checkpointed: all that is routed at or before is `known`.
    fn checkpoint(&self, worker: usize, origin: usize, known: &[u8; SLOTS]) -> u8 {
        let end = self.ends[origin];
        let missing = (0..self.items.len()).filter(|&i| self.items[i].origin as usize == origin);
        let missing =
            missing.filter(|&i| self.items[i].position > known[self.route(i, worker) as usize]);
        missing
            .map(|i| self.items[i].position - 1)
            .min()
            .unwrap_or(end)
    }

    fn takes(&self, at: &State, steps: &mut Steps<State>) {
        for origin in (0..ORIGINS).filter(|&o| self.ends[o] > 0) {
            let waits = self.rules.child_waits
                && self.parents[origin]
                    .iter()
                    .any(|&p| at.ledger[p] < self.ends[p]);
            for worker in 0..2 {
                let owner = at.owners[origin];
                let may = owner == FREE || (owner as usize != worker && at.takes < self.takes);
                if waits || !may || at.workers[worker].sessions[origin].is_some() {
                    continue;
                }
                let mut next = at.clone();
                if owner != FREE {
                    next.takes += 1;
                    if let Some(old) = &mut next.workers[owner as usize].sessions[origin] {
                        old.current = false;
                    }
                }
                next.owners[origin] = worker as u8;
                let low = at.ledger[origin];
                next.workers[worker].sessions[origin] = Some(Session {
                    current: true,
                    low,
                    sent: [low; SLOTS],
                    confirmed: [low; SLOTS],
                });
                let shard = (b'A' + origin as u8) as char;
                steps.add(
                    || format!("worker {worker} takes {shard} at checkpoint {low}"),
                    next,
                );
            }
        }
    }

    fn sends(&self, at: &State, worker: usize, origin: usize, steps: &mut Steps<State>) {
        let me = &at.workers[worker];
        let Some(session) = &me.sessions[origin] else {
            return;
        };
        for &range in &self.maps[me.map as usize] {
            let shard = at
                .shards
                .iter()
                .rposition(|s| s.range == range)
                .expect("made with the map");
            let mine = || me.requests.iter().filter(|r| r.origin as usize == origin);
            let queued = mine().filter(|r| r.shard as usize == shard).count();
            let elsewhere = mine().any(|r| {
                r.shard as usize != shard && overlap(at.shards[r.shard as usize].range, range)
            });
            if queued >= self.depth || elsewhere {
                continue;
            }
            let reached = if queued > 0 {
                session.sent
            } else {
                session.confirmed
            };
            let routed: Vec<usize> = (0..self.items.len())
                .filter(|&i| self.items[i].origin as usize == origin)
                .filter(|&i| within(self.route(i, worker), range))
                .collect();
            let pending: Vec<usize> = routed
                .iter()
                .copied()
                .filter(|&i| self.items[i].position > reached[self.route(i, worker) as usize])
                .collect();
            for count in 1..=pending.len().min(2) {
                let items = pending[..count].iter().fold(0u16, |all, i| all | 1 << i);
                let last = self.items[pending[count - 1]].position;
                let later = routed
                    .iter()
                    .map(|&i| self.items[i].position)
                    .filter(|&p| p > last);
                let to = later.min().map_or(self.ends[origin], |p| p - 1);
                let slots = range.0..=range.1;
                let claims: Vec<(Range, u8)> =
                    slots.map(|s| ((s, s), reached[s as usize])).collect();
                let mut next = at.clone();
                let next_me = &mut next.workers[worker];
                if let Some(session) = &mut next_me.sessions[origin] {
                    session.sent = reached;
                    session.sent[range.0 as usize..=range.1 as usize].fill(to);
                }
                next_me.requests.push(Request {
                    origin: origin as u8,
                    shard: shard as u8,
                    items,
                    claims,
                    to,
                    landed: None,
                });
                steps.add(
                    || {
                        let names = self.names(items);
                        format!(
                            "worker {worker} queues {names} for slots {}-{}",
                            range.0, range.1
                        )
                    },
                    next,
                );
            }
        }
    }

    /// Lets the log take a request, under the shard's lock.
    fn lands(&self, at: &State, worker: usize, request: usize, steps: &mut Steps<State>) {
        let Request {
            origin,
            shard,
            items,
            claims,
            to,
            ..
        } = &at.workers[worker].requests[request];
        let names = || self.names(*items);
        let mut next = at.clone();
        let target = &mut next.shards[*shard as usize];
        if target.closed && self.rules.closed_refuses {
            next.workers[worker].requests.remove(request);
            steps.add(
                || format!("{} of worker {worker}: the shard is closed", names()),
                next,
            );
            return;
        }
        let low = at.workers[worker].sessions[*origin as usize]
            .as_ref()
            .map_or(0, |s| s.low);
        let origin = self.mark_of(*origin);
        let mut marks = target.marks.clone();
        for segment in &mut marks {
            segment.marks[origin] = segment.marks[origin].max(low);
            let gap = claims.iter().any(|(range, from)| {
                overlap(*range, segment.range) && *from > segment.marks[origin]
            });
            if gap && self.rules.order_checked {
                next.workers[worker].requests.remove(request);
                steps.add(
                    || format!("{} of worker {worker}: out of order", names()),
                    next,
                );
                return;
            }
        }
        let mut new = 0u16;
        for item in (0..self.items.len()).filter(|i| items >> i & 1 == 1) {
            let slot = self.route(item, worker);
            let mark = marks
                .iter()
                .find(|s| within(slot, s.range))
                .map_or(0, |s| s.marks[origin]);
            if !self.rules.marks || self.items[item].position > mark {
                new |= 1 << item;
            }
        }
        let request = &mut next.workers[worker].requests[request];
        if new != 0 {
            for segment in &mut marks {
                segment.marks[origin] = segment.marks[origin].max(*to);
            }
            target.marks.clone_from(&marks);
            target.log.push(Frame { items: new, marks });
            request.landed = Some(target.log.len() as u8);
        } else {
            let waits = self.rules.duplicates_wait;
            request.landed = Some(if waits { target.log.len() as u8 } else { 0 });
        }
        steps.add(
            || {
                format!(
                    "{} of worker {worker} is appended, new: [{}]",
                    names(),
                    self.names(new)
                )
            },
            next,
        );
    }

    fn requests(&self, at: &State, worker: usize, steps: &mut Steps<State>) {
        let requests = &at.workers[worker].requests;
        for (index, request) in requests.iter().enumerate() {
            let lane = (request.origin, request.shard);
            let first = requests[..index]
                .iter()
                .all(|r| (r.origin, r.shard) != lane || r.landed.is_some());
            let named =
                |what: &str| format!("{} of worker {worker}: {what}", self.names(request.items));
            match request.landed {
                None if first => {
                    self.lands(at, worker, index, steps);
                    if at.faults < self.faults {
                        let mut next = at.clone();
                        next.faults += 1;
                        next.workers[worker].requests.remove(index);
                        steps.add(|| named("the call fails"), next);
                    }
                }
                Some(length) => {
                    if at.faults < self.faults {
                        let mut next = at.clone();
                        next.faults += 1;
                        next.workers[worker].requests.remove(index);
                        steps.add(|| named("the answer is lost"), next);
                    }
                    if at.shards[request.shard as usize].durable >= length {
                        let mut next = at.clone();
                        let request = next.workers[worker].requests.remove(index);
                        let range = at.shards[request.shard as usize].range;
                        let session = &mut next.workers[worker].sessions[request.origin as usize];
                        if let Some(session) = session {
                            for slot in range.0..=range.1 {
                                let known = &mut session.confirmed[slot as usize];
                                *known = (*known).max(request.to);
                            }
                        }
                        steps.add(|| named("acknowledged"), next);
                    }
                }
                None => {}
            }
        }
    }

    fn sessions(&self, at: &State, worker: usize, steps: &mut Steps<State>) {
        for origin in 0..ORIGINS {
            let Some(session) = &at.workers[worker].sessions[origin] else {
                continue;
            };
            let shard = (b'A' + origin as u8) as char;
            if !session.current {
                let busy = at.workers[worker]
                    .requests
                    .iter()
                    .any(|r| r.origin as usize == origin);
                if !busy {
                    let mut next = at.clone();
                    next.workers[worker].sessions[origin] = None;
                    steps.add(
                        || format!("worker {worker} notices that it lost {shard}"),
                        next,
                    );
                }
                continue;
            }
            let known = if self.rules.checkpoint_on_answer {
                &session.confirmed
            } else {
                &session.sent
            };
            let to = self.checkpoint(worker, origin, known);
            if to > at.ledger[origin] {
                let mut next = at.clone();
                next.ledger[origin] = to;
                steps.add(
                    || format!("worker {worker} checkpoints {shard} at {to}"),
                    next,
                );
            }
        }
    }

    fn power_cut(&self, at: &State, kept: usize, steps: &mut Steps<State>) {
        let mut next = at.clone();
        next.cuts += 1;
        next.workers = [Worker::default(), Worker::default()];
        next.workers.iter_mut().for_each(|w| w.map = at.map);
        next.owners = [FREE; ORIGINS];
        for shard in &mut next.shards {
            shard.log.truncate(shard.durable as usize + kept);
            shard.durable = shard.log.len() as u8;
            if !self.rules.marks_in_frame {
                shard.marks.clone_from(&shard.first_marks);
            } else if self.rules.recounted_after_cut {
                let last = shard.log.last().map(|frame| &frame.marks);
                shard.marks = last.unwrap_or(&shard.first_marks).clone();
            }
        }
        steps.add(
            || format!("the power is cut, {kept} unsynced frames survive"),
            next,
        );
    }

    fn reshard(&self, at: &State, steps: &mut Steps<State>) {
        let Some(map) = self.maps.get(at.map as usize + 1) else {
            return;
        };
        let mut next = at.clone();
        next.map += 1;
        let mut parents = Vec::new();
        for shard in &mut next.shards {
            if !shard.closed && !map.contains(&shard.range) {
                shard.closed = true;
                shard.durable = shard.log.len() as u8;
                parents.push(shard.clone());
            }
        }
        let open: Vec<Range> = next
            .shards
            .iter()
            .filter(|s| !s.closed)
            .map(|shard| shard.range)
            .collect();
        for &range in map.iter().filter(|range| !open.contains(range)) {
            let mut segments: Vec<Segment> = parents
                .iter()
                .flat_map(|parent| parent.marks.iter())
                .filter(|segment| overlap(segment.range, range))
                .map(|segment| Segment {
                    range: (segment.range.0.max(range.0), segment.range.1.min(range.1)),
                    marks: segment.marks,
                })
                .collect();
            if self.rules.inherit != Inherit::ByRange {
                let mut marks = [0; ORIGINS];
                for (origin, mark) in marks.iter_mut().enumerate() {
                    let all = segments.iter().map(|s| s.marks[origin]);
                    *mark = match self.rules.inherit {
                        Inherit::Maximum => all.max().unwrap_or(0),
                        Inherit::Minimum => all.min().unwrap_or(0),
                        _ => 0,
                    };
                }
                segments = vec![Segment { range, marks }];
            }
            next.shards.push(Append::shard(range, segments));
        }
        steps.add(|| format!("the output is resharded to {map:?}"), next);
    }
}

impl Model for Append {
    type State = State;

    fn start(&self) -> State {
        let shards = self.maps[0].iter().map(|&range| {
            Append::shard(
                range,
                vec![Segment {
                    range,
                    marks: [0; ORIGINS],
                }],
            )
        });
        State {
            map: 0,
            shards: shards.collect(),
            ledger: [0; ORIGINS],
            owners: [FREE; ORIGINS],
            workers: Default::default(),
            takes: 0,
            kills: 0,
            cuts: 0,
            faults: 0,
        }
    }

    fn steps(&self, at: &State, steps: &mut Steps<State>) {
        self.takes(at, steps);
        for worker in 0..2 {
            let me = &at.workers[worker];
            if at.kills < self.kills && me.sessions.iter().any(Option::is_some) {
                let mut next = at.clone();
                next.kills += 1;
                next.workers[worker] = Worker {
                    map: at.map,
                    ..Worker::default()
                };
                for owner in next.owners.iter_mut().filter(|o| **o as usize == worker) {
                    *owner = FREE;
                }
                steps.add(|| format!("worker {worker} is killed"), next);
            }
            if me.map < at.map {
                let mut next = at.clone();
                next.workers[worker].map = at.map;
                steps.add(|| format!("worker {worker} reads the map"), next);
            }
            for origin in 0..ORIGINS {
                self.sends(at, worker, origin, steps);
            }
            self.requests(at, worker, steps);
            self.sessions(at, worker, steps);
        }
        for (index, shard) in at.shards.iter().enumerate() {
            if (shard.durable as usize) < shard.log.len() {
                let mut next = at.clone();
                next.shards[index].durable = shard.log.len() as u8;
                steps.add(|| format!("shard {:?} is synced", shard.range), next);
            }
        }
        if at.cuts < self.cuts {
            let unsynced = at
                .shards
                .iter()
                .map(|s| s.log.len() - s.durable as usize)
                .max();
            for kept in 0..=unsynced.unwrap_or(0).min(1) {
                self.power_cut(at, kept, steps);
            }
        }
        self.reshard(at, steps);
    }

    fn broken(&self, at: &State) -> Option<Broken> {
        let mut stored = 0u16;
        for shard in &at.shards {
            for frame in &shard.log {
                for item in (0..self.items.len()).filter(|i| frame.items >> i & 1 == 1) {
                    if stored >> item & 1 == 1 {
                        let what = format!("{} is stored twice", self.name(item));
                        return broken(Promise::NothingDoubled, what);
                    }
                    let later = (item + 1..self.items.len()).find(|&other| {
                        stored >> other & 1 == 1 && self.items[other].slot == self.items[item].slot
                    });
                    if let Some(later) = later {
                        let what = format!("{} after {}", self.name(item), self.name(later));
                        return broken(Promise::OrderPerKey, what);
                    }
                    stored |= 1 << item;
                }
            }
        }
        for (index, item) in self.items.iter().enumerate() {
            if stored >> index & 1 == 1 {
                continue;
            }
            if at.ledger[item.origin as usize] >= item.position {
                let what = format!("{} is checkpointed and not stored", self.name(index));
                return broken(Promise::NothingLost, what);
            }
        }
        None
    }

    fn is_end(&self, at: &State) -> bool {
        at.ledger == self.ends
    }
}
