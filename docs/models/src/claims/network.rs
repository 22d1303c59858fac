//! Between senders and readers: requests land, are answered, or neither; answers confirm; the output
//! is resharded.

use super::reader::{ORIGINS, Range, Segment, overlap, up_to, within};
use super::sender::{
    Claims, DOUBLED, GAP, Inherit, Mispredicted, REORDERED, Request, Shard, State,
};
use crate::search::Steps;

impl Claims {
    /// Puts a request into the shard that has its route now, whose reader reads it.
    fn lands(&self, at: &State, index: usize) -> State {
        let mut next = at.clone();
        let request = &at.requests[index];
        let worker = request.aggregate.worker;
        let shard = next
            .shards
            .iter_mut()
            .find(|s| within(request.route, s.range));
        let shard = shard.expect("the shards cover all slots");
        let range = shard.range;
        let gap = request.aggregate.claims.iter().any(|claim| {
            let Some(low) = claim.low else { return false };
            let between = up_to(claim.from) & !up_to(low);
            let segments = shard.marks.iter().filter(|s| overlap(s.range, claim.range));
            segments
                .into_iter()
                .any(|s| s.sets[claim.origin as usize] & between != between)
        });
        if gap && self.gaps_are_real {
            next.wrong = next.wrong.or(Some((GAP, 0)));
        }
        let kept = self.reading.read(
            &self.items,
            |item| self.slot(item, worker),
            range,
            &mut shard.marks,
            &request.aggregate,
        );
        for item in kept {
            if next.kept >> item & 1 == 1 {
                next.wrong = next.wrong.or(Some((DOUBLED, item as u8)));
            }
            let later = (item + 1..self.items.len()).any(|other| {
                next.kept >> other & 1 == 1
                    && !self.items[other].unit
                    && self.items[other].slot == self.items[item].slot
            });
            if self.order_promised && later && !self.items[item].unit {
                next.wrong = next.wrong.or(Some((REORDERED, item as u8)));
            }
            next.kept |= 1 << item;
        }
        if request.awaited {
            next.requests[index].landed = Some(range);
        } else {
            next.requests.remove(index);
        }
        next.requests.sort_unstable();
        next
    }

    fn confirm(&self, next: &mut State, request: &Request, shard: Range) {
        let worker = request.aggregate.worker;
        let map = next.map;
        let me = &mut next.workers[worker as usize];
        let predicted =
            request.predicted == shard && self.maps[request.map as usize].contains(&shard);
        if !predicted {
            me.map = map;
        }
        let items = request.aggregate.items;
        let belongs = |origin: Option<usize>| {
            (0..self.items.len())
                .filter(|i| items >> i & 1 == 1)
                .filter(|&i| origin.is_none_or(|o| self.items[i].origin as usize == o))
                .all(|i| within(self.slot(i, worker), shard))
        };
        for origin in 0..ORIGINS {
            let confirmed = predicted
                || match self.sending.mispredicted {
                    Mispredicted::WholeOrNothing => belongs(None),
                    Mispredicted::Unchecked => true,
                    Mispredicted::ByEntry => belongs(Some(origin)),
                };
            let Some(session) = me.sessions[origin].as_mut().filter(|_| confirmed) else {
                continue;
            };
            for item in (0..self.items.len()).filter(|i| items >> i & 1 == 1) {
                if self.items[item].origin as usize == origin {
                    session.answered |= 1 << item;
                }
            }
            let claims = request
                .aggregate
                .claims
                .iter()
                .filter(|c| c.origin as usize == origin);
            for claim in claims {
                let within_shard = self.sending.credit_within_shard
                    && self.sending.mispredicted != Mispredicted::Unchecked;
                let (first, last) = if within_shard {
                    (claim.range.0.max(shard.0), claim.range.1.min(shard.1))
                } else {
                    claim.range
                };
                for slot in first..=last {
                    let known = &mut session.confirmed[slot as usize];
                    *known = (*known).max(claim.to);
                }
            }
        }
    }

    pub(super) fn requests(&self, at: &State, steps: &mut Steps<State>) {
        for (index, request) in at.requests.iter().enumerate() {
            if index > 0 && at.requests[index - 1] == *request {
                continue;
            }
            let names = || self.names(request.aggregate.items);
            let worker = request.aggregate.worker;
            let same_shard = |other: &Request| {
                at.shards
                    .iter()
                    .any(|s| within(other.route, s.range) && within(request.route, s.range))
            };
            let waits = at.requests.iter().any(|other| {
                other.acknowledged
                    && other.aggregate.worker == worker
                    && other.follows < request.follows
                    && same_shard(other)
            });
            if request.landed.is_none() && !waits {
                let late = if request.awaited { "" } else { " late" };
                steps.add(
                    || format!("{} of worker {worker} lands{late}", names()),
                    self.lands(at, index),
                );
            }
            if let Some(shard) = request.landed {
                steps.change(
                    at,
                    || format!("{} of worker {worker} is answered", names()),
                    |next| {
                        next.requests.remove(index);
                        self.confirm(next, request, shard);
                    },
                );
                steps.change(
                    at,
                    || format!("the answer for {} is lost", names()),
                    |next| {
                        next.requests.remove(index);
                    },
                );
            } else if request.awaited {
                let name = || format!("worker {worker} waits no longer for {}", names());
                steps.change(at, name, |next| {
                    next.requests[index].awaited = false;
                    next.requests.sort_unstable();
                });
                if self.places_late {
                    let shard = at.shards.iter().find(|s| within(request.route, s.range));
                    let shard = shard.map_or(request.predicted, |s| s.range);
                    let name = || {
                        format!(
                            "{} of worker {worker} is answered and not placed yet",
                            names()
                        )
                    };
                    steps.change(at, name, |next| {
                        next.requests[index].awaited = false;
                        next.requests[index].acknowledged = true;
                        next.requests.sort_unstable();
                        self.confirm(next, request, shard);
                    });
                }
            } else if !request.acknowledged {
                steps.change(
                    at,
                    || format!("{} never lands", names()),
                    |next| {
                        next.requests.remove(index);
                    },
                );
            }
        }
    }

    pub(super) fn reshard(&self, at: &State, steps: &mut Steps<State>) {
        let Some(map) = self.maps.get(at.map as usize + 1) else {
            return;
        };
        steps.change(
            at,
            || format!("the output is resharded to {map:?}"),
            |next| {
                next.map += 1;
                let parents = std::mem::take(&mut next.shards);
                for &range in map {
                    if let Some(same) = parents.iter().find(|shard| shard.range == range) {
                        next.shards.push(same.clone());
                        continue;
                    }
                    let mut marks: Vec<Segment> = parents
                        .iter()
                        .flat_map(|parent| parent.marks.iter())
                        .filter(|segment| overlap(segment.range, range))
                        .map(|segment| segment.restricted(range))
                        .collect();
                    if self.sending.inherit != Inherit::ByRange {
                        let mut one = Segment::empty(range);
                        for origin in 0..ORIGINS {
                            let sets = marks.iter().map(|s| s.sets[origin]);
                            one.sets[origin] = match self.sending.inherit {
                                Inherit::Maximum => sets.fold(1, |all, set| all | set),
                                Inherit::Minimum => sets.fold(u16::MAX, |all, set| all & set),
                                _ => 1,
                            };
                        }
                        marks = vec![one];
                    }
                    next.shards.push(Shard { range, marks });
                }
            },
        );
    }
}
