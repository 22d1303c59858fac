//! Readers that stop anywhere and start again from what they stored: position and marks.
//!
//! A shard of fixed contents, with copies, is split; late copies land in the children. A reader hands
//! on what it keeps when it publishes; what it read since is gone when it stops.

use super::reader::{Aggregate, Claim, Item, READING, Range, Segment};
use crate::catalog::{Check, model, mutant};
use crate::search::{Broken, Model, Promise, Steps, broken};

/// The rules; all hold in the protocol.
#[derive(Clone)]
struct Rules {
    marks_stored: bool,
    marks_not_ahead: bool,
    marks_not_behind: bool,
    cut_at_boundaries: bool,
    rewound_forgets: bool,
    child_waits: bool,
    never_holds: bool,
}

const RULES: Rules = Rules {
    marks_stored: true,
    marks_not_ahead: true,
    marks_not_behind: true,
    cut_at_boundaries: true,
    rewound_forgets: true,
    child_waits: true,
    never_holds: true,
};

#[derive(Clone)]
struct Readers {
    rules: Rules,
    items: Vec<Item>,
    /// Range, contents; the first is the parent of the others.
    shards: Vec<(Range, Vec<Aggregate>)>,
    stops: u8,
    rewinds: u8,
}

#[derive(Clone, Hash)]
struct Stored {
    position: u8,
    marks: Vec<Segment>,
}

#[derive(Clone, Hash)]
struct Reader {
    stored: Stored,
    /// The marks of one boundary before.
    previous: Vec<Segment>,
    open: Option<Open>,
    /// What was published since its beginning, in order, with the marks from which it follows.
    published: Vec<u8>,
    last: Option<(Stored, Vec<u8>)>,
}

#[derive(Clone, Hash)]
struct Open {
    position: u8,
    marks: Vec<Segment>,
    before: Vec<Segment>,
    unpublished: Vec<u8>,
    held: Option<u8>,
}

#[derive(Clone, Hash)]
struct State {
    readers: Vec<Option<Reader>>,
    stops: u8,
    rewinds: u8,
    differs: bool,
}

impl Readers {
    fn read(&self, shard: usize, marks: &mut Vec<Segment>, aggregate: &Aggregate) -> Vec<u8> {
        let slot = |item: usize| self.items[item].slot;
        let kept = READING.read(&self.items, slot, self.shards[shard].0, marks, aggregate);
        kept.into_iter().map(|item| item as u8).collect()
    }

    /// Whether an aggregate begins after a record that is missing here.
    fn has_gap(&self, marks: &[Segment], aggregate: &Aggregate) -> bool {
        aggregate.claims.iter().any(|claim| {
            let all_before = ((2u32 << claim.from) - 1) as u16;
            marks.iter().any(|s| {
                super::reader::overlap(s.range, claim.range)
                    && s.sets[claim.origin as usize] & all_before != all_before
            })
        })
    }

    fn shard(&self, at: &State, index: usize, steps: &mut Steps<State>) {
        let (range, log) = &self.shards[index];
        let Some(reader) = &at.readers[index] else {
            self.begin(at, index, steps);
            return;
        };
        let Some(open) = &reader.open else {
            steps.change(
                at,
                || {
                    format!(
                        "the reader of {range:?} opens at {}",
                        reader.stored.position
                    )
                },
                |next| {
                    let Some(reader) = &mut next.readers[index] else {
                        return;
                    };
                    let mut marks = reader.stored.marks.clone();
                    if !self.rules.marks_stored {
                        marks = vec![Segment::empty(*range)];
                    }
                    reader.open = Some(Open {
                        position: reader.stored.position,
                        before: marks.clone(),
                        marks,
                        unpublished: Vec::new(),
                        held: None,
                    });
                },
            );
            return;
        };
        if let Some(aggregate) = log.get(open.position as usize) {
            let hold = !self.rules.never_holds
                && open.held.is_none()
                && self.has_gap(&open.marks, aggregate);
            if hold {
                steps.change(
                    at,
                    || format!("the reader of {range:?} holds {}", open.position),
                    |next| {
                        let Some(Some(reader)) = next.readers.get_mut(index) else {
                            return;
                        };
                        let Some(open) = &mut reader.open else { return };
                        open.held = Some(open.position);
                        open.position += 1;
                    },
                );
            }
            steps.change(
                at,
                || format!("the reader of {range:?} reads {}", open.position),
                |next| {
                    let Some(Some(reader)) = next.readers.get_mut(index) else {
                        return;
                    };
                    let Some(open) = &mut reader.open else { return };
                    open.before = open.marks.clone();
                    let kept = self.read(index, &mut open.marks, aggregate);
                    open.unpublished.extend(kept);
                    open.position += 1;
                    if let Some(held) = open.held.take() {
                        let kept = self.read(index, &mut open.marks, &log[held as usize]);
                        open.unpublished.extend(kept);
                    }
                },
            );
        }
        if open.position > reader.stored.position && open.held.is_none() {
            self.publish(at, index, steps);
        }
        if at.stops < self.stops {
            steps.change(
                at,
                || format!("the reader of {range:?} stops"),
                |next| {
                    next.stops += 1;
                    if let Some(reader) = &mut next.readers[index] {
                        reader.open = None;
                    }
                },
            );
        }
        if at.rewinds < self.rewinds && index == 0 && open.unpublished.is_empty() {
            // The operator empties the output and begins again; no child has begun.
            if at.readers[1..].iter().all(Option::is_none) {
                steps.change(
                    at,
                    || format!("{range:?} is set back to its beginning"),
                    |next| {
                        next.rewinds += 1;
                        let marks = if self.rules.rewound_forgets {
                            vec![Segment::empty(*range)]
                        } else {
                            reader.stored.marks.clone()
                        };
                        next.readers[index] = Some(Reader {
                            stored: Stored {
                                position: 0,
                                marks: marks.clone(),
                            },
                            previous: marks,
                            open: None,
                            published: Vec::new(),
                            last: None,
                        });
                    },
                );
            }
        }
        if let Some((from, content)) = &reader.last {
            // What is lost after it was published is made again from the marks before it.
            let mut marks = from.marks.clone();
            let mut again = Vec::new();
            for aggregate in &log[from.position as usize..reader.stored.position as usize] {
                again.extend(self.read(index, &mut marks, aggregate));
            }
            if again != *content {
                steps.change(
                    at,
                    || format!("an interval of {range:?} is made again"),
                    |next| {
                        next.differs = true;
                    },
                );
            }
        }
    }

    fn publish(&self, at: &State, index: usize, steps: &mut Steps<State>) {
        let range = self.shards[index].0;
        let published = |next: &mut State, marks: Option<Vec<Segment>>, cut: bool| {
            let Some(Some(reader)) = next.readers.get_mut(index) else {
                return;
            };
            let Some(open) = &mut reader.open else { return };
            let from = reader.stored.clone();
            let content = if cut {
                open.unpublished.drain(..1).collect()
            } else {
                std::mem::take(&mut open.unpublished)
            };
            reader.published.extend(&content);
            reader.previous = reader.stored.marks.clone();
            reader.stored.position = open.position;
            reader.stored.marks = marks.unwrap_or_else(|| open.marks.clone());
            if !cut {
                reader.last = Some((from, content));
            }
        };
        let Some(Some(Reader {
            open: Some(open),
            stored,
            ..
        })) = at.readers.get(index)
        else {
            return;
        };
        let to = open.position;
        if self.rules.marks_not_ahead || to as usize == self.shards[index].1.len() {
            let marks = (!self.rules.marks_not_behind && to > stored.position + 1)
                .then(|| open.before.clone());
            let name = || format!("the reader of {range:?} publishes to {to}");
            steps.change(at, name, |next| published(next, marks, false));
        } else {
            // The marks of what was read ahead.
            let mut ahead = open.marks.clone();
            self.read(index, &mut ahead, &self.shards[index].1[to as usize]);
            let name = || {
                format!(
                    "the reader of {range:?} publishes to {to} with marks of {}",
                    to + 1
                )
            };
            steps.change(at, name, |next| published(next, Some(ahead), false));
        }
        if !self.rules.cut_at_boundaries && open.unpublished.len() > 1 {
            let name = || format!("the reader of {range:?} publishes a part of {}", to - 1);
            steps.change(at, name, |next| published(next, None, true));
        }
    }

    /// A child begins with its parent's final marks.
    fn begin(&self, at: &State, index: usize, steps: &mut Steps<State>) {
        let (range, _) = self.shards[index];
        let Some(parent) = &at.readers[0] else { return };
        let ended = parent.stored.position as usize == self.shards[0].1.len();
        if ended || !self.rules.child_waits {
            let marks: Vec<Segment> = parent
                .stored
                .marks
                .iter()
                .filter(|s| super::reader::overlap(s.range, range))
                .map(|s| s.restricted(range))
                .collect();
            steps.change(
                at,
                || format!("the reader of {range:?} begins"),
                |next| {
                    next.readers[index] = Some(Reader {
                        stored: Stored {
                            position: 0,
                            marks: marks.clone(),
                        },
                        previous: marks,
                        open: None,
                        published: Vec::new(),
                        last: None,
                    });
                },
            );
        }
    }
}

impl Model for Readers {
    type State = State;

    fn start(&self) -> State {
        let marks = vec![Segment::empty(self.shards[0].0)];
        let parent = Reader {
            stored: Stored {
                position: 0,
                marks: marks.clone(),
            },
            previous: marks,
            open: None,
            published: Vec::new(),
            last: None,
        };
        let mut readers = vec![None; self.shards.len()];
        readers[0] = Some(parent);
        State {
            readers,
            stops: 0,
            rewinds: 0,
            differs: false,
        }
    }

    fn steps(&self, at: &State, steps: &mut Steps<State>) {
        for index in 0..self.shards.len() {
            self.shard(at, index, steps);
        }
    }

    fn broken(&self, at: &State) -> Option<Broken> {
        if at.differs {
            return broken(
                Promise::OneMeaning,
                "what is made again differs from what was there",
            );
        }
        let name = |item: u8| format!("A{}", self.items[item as usize].position);
        let all: Vec<u8> = at
            .readers
            .iter()
            .flatten()
            .flat_map(|reader| reader.published.clone())
            .collect();
        if let Some(twice) = (0..all.len()).find(|&i| all[..i].contains(&all[i])) {
            return broken(
                Promise::NothingDoubled,
                format!("{} is published twice", name(all[twice])),
            );
        }
        if self.is_end(at) {
            let lost = (0..self.items.len() as u8).find(|item| !all.contains(item));
            if let Some(lost) = lost {
                return broken(
                    Promise::NothingLost,
                    format!("{} is never published", name(lost)),
                );
            }
        }
        None
    }

    fn is_end(&self, at: &State) -> bool {
        at.readers
            .iter()
            .zip(&self.shards)
            .all(|(reader, (_, log))| {
                reader
                    .as_ref()
                    .is_some_and(|reader| reader.stored.position as usize == log.len())
            })
    }
}

pub(super) fn checks() -> Vec<Check> {
    let record = |position, slot| Item {
        origin: 0,
        position,
        index: 0,
        slot,
        unit: false,
    };
    let items = vec![
        record(1, 0),
        record(2, 2),
        record(3, 0),
        record(4, 2),
        record(5, 0),
    ];
    let aggregate = |items: &[usize], range: Range, from: u8, to: u8| Aggregate {
        lane: range,
        items: items.iter().fold(0, |all, i| all | 1 << i),
        claims: vec![Claim {
            origin: 0,
            range,
            low: None,
            from,
            to,
        }],
        worker: 0,
        epoch: 0,
    };
    let first = aggregate(&[0, 1], (0, 3), 0, 5);
    let third = aggregate(&[2], (0, 3), 5, 7);
    let fourth = aggregate(&[3], (0, 3), 7, 9);
    // The fourth record comes before the third, and copies of what there is land late.
    let parent = vec![first.clone(), fourth.clone(), third.clone(), first.clone()];
    let left = vec![third, aggregate(&[4], (0, 1), 9, 11)];
    let right = vec![first, fourth];
    let base = Readers {
        rules: RULES,
        items,
        shards: vec![((0, 3), parent), ((0, 1), left), ((2, 3), right)],
        stops: 3,
        rewinds: 1,
    };
    let mutant = |name, change: fn(&mut Rules)| {
        let mut config = base.clone();
        change(&mut config.rules);
        mutant("reading", name, config)
    };
    vec![
        model(
            "reading",
            "a split with copies, 3 stops, a rewind",
            base.clone(),
        ),
        mutant("reading: marks not stored", |r| r.marks_stored = false),
        mutant("reading: marks ahead of their position", |r| {
            r.marks_not_ahead = false
        }),
        mutant("reading: marks behind their position", |r| {
            r.marks_not_behind = false
        }),
        mutant("reading: published inside an aggregate", |r| {
            r.cut_at_boundaries = false
        }),
        mutant("reading: marks kept over a rewind", |r| {
            r.rewound_forgets = false
        }),
        mutant("reading: child before its parent's end", |r| {
            r.child_waits = false
        }),
        mutant("reading: gap held for a while", |r| r.never_holds = false),
    ]
}
