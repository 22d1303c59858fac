//! What a reader knows of each origin, and what it keeps of an aggregate.
//!
//! Promises: a function of marks and aggregate alone, so that what is read again from its marks is
//! the same again.

pub(super) const ORIGINS: usize = 3;

/// The first and the last slot of a range of routes.
pub(super) type Range = (u8, u8);

pub(super) fn overlap(a: Range, b: Range) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

pub(super) fn within(slot: u8, range: Range) -> bool {
    range.0 <= slot && slot <= range.1
}

/// One output of one input record: a record, or a unit that only our readers see.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) origin: u8,
    /// The position of the input record.
    pub(super) position: u8,
    /// Which output of that record.
    pub(super) index: u8,
    pub(super) slot: u8,
    pub(super) unit: bool,
}

impl Item {
    /// Position and output in one number.
    pub(super) fn code(&self) -> u8 {
        self.position * 2 + self.index
    }
}

/// The last code of a position.
pub(super) fn code_of(position: u8) -> u8 {
    if position == 0 { 0 } else { position * 2 + 1 }
}

/// No item of this origin, range and interval `(from, to]` is outside the aggregate.
#[derive(Clone, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) origin: u8,
    pub(super) range: Range,
    pub(super) low: Option<u8>,
    pub(super) from: u8,
    pub(super) to: u8,
}

#[derive(Clone, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Aggregate {
    pub(super) lane: Range,
    pub(super) items: u16,
    pub(super) claims: Vec<Claim>,
    /// For mutants whose workers differ in routes.
    pub(super) worker: u8,
    pub(super) epoch: u8,
}

/// What is known in one range: a set of codes for each origin, bit 0 for the beginning.
#[derive(Clone, Hash, PartialEq)]
pub(super) struct Segment {
    pub(super) range: Range,
    pub(super) sets: [u16; ORIGINS],
    pub(super) epochs: [u8; ORIGINS],
}

impl Segment {
    pub(super) fn empty(range: Range) -> Segment {
        Segment {
            range,
            sets: [1; ORIGINS],
            epochs: [0; ORIGINS],
        }
    }

    pub(super) fn restricted(&self, range: Range) -> Segment {
        let range = (self.range.0.max(range.0), self.range.1.min(range.1));
        Segment {
            range,
            ..self.clone()
        }
    }
}

/// All codes up to `code`.
pub(super) fn up_to(code: u8) -> u16 {
    ((2u32 << code) - 1) as u16
}

/// How a reader finds the place of a unit.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum UnitPlace {
    /// By the one route that all units of its origin have.
    Route,
    /// It counts if the lane lies in the shard, and is known if one segment of the lane knows it,
    AnySegment,
    /// or if all do,
    AllSegments,
    /// or if the first one does.
    FirstSegment,
}

/// The reader's rules; all hold in the protocol.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) tags_read: bool,
    pub(super) sets: bool,
    pub(super) origin_by_record: bool,
    pub(super) output_index: bool,
    pub(super) origins_distinct: bool,
    pub(super) filtered_first: bool,
    pub(super) filtered_moves_nothing: bool,
    pub(super) claims_cut_segments: bool,
    pub(super) no_first_sight: bool,
    pub(super) epochs_ignored: bool,
    pub(super) units: UnitPlace,
    /// Takes an aggregate whole or not at all, as the KCL does.
    pub(super) whole: bool,
}

pub(super) const READING: Reading = Reading {
    tags_read: true,
    sets: true,
    origin_by_record: true,
    output_index: true,
    origins_distinct: true,
    filtered_first: true,
    filtered_moves_nothing: true,
    claims_cut_segments: true,
    no_first_sight: true,
    epochs_ignored: true,
    units: UnitPlace::Route,
    whole: false,
};

impl Reading {
    fn origin(&self, origin: u8) -> usize {
        if self.origins_distinct {
            origin as usize
        } else {
            0
        }
    }

    fn code(&self, item: &Item) -> u8 {
        if self.output_index {
            item.code()
        } else {
            item.position * 2
        }
    }

    /// Reads one aggregate of the shard `range`: moves `marks`, and says what is kept, in order.
    /// `slot` says where each item belongs.
    pub(super) fn read(
        &self,
        items: &[Item],
        slot: impl Fn(usize) -> u8,
        range: Range,
        marks: &mut Vec<Segment>,
        aggregate: &Aggregate,
    ) -> Vec<usize> {
        let all = || (0..items.len()).filter(|item| aggregate.items >> item & 1 == 1);
        let lane_inside = range.0 <= aggregate.lane.0 && aggregate.lane.1 <= range.1;
        let here = |item: &usize| {
            if items[*item].unit && self.units != UnitPlace::Route {
                lane_inside
            } else {
                within(slot(*item), range)
            }
        };
        if !self.tags_read && all().count() == 1 {
            return all().collect();
        }
        if self.whole && !all().all(|item| here(&item)) {
            if !self.filtered_moves_nothing {
                for item in all() {
                    let origin = self.origin(items[item].origin);
                    marks
                        .iter_mut()
                        .for_each(|s| s.sets[origin] |= up_to(items[item].code()));
                }
            }
            return Vec::new();
        }
        if self.claims_cut_segments {
            cut(marks, &aggregate.claims);
        }
        let mut passed: Vec<usize> = all()
            .filter(|item| !self.filtered_first || here(item))
            .collect();
        if !self.epochs_ignored {
            passed.retain(|&item| {
                let origin = self.origin(items[item].origin);
                let segment = marks.iter_mut().find(|s| within(slot(item), s.range));
                segment.is_none_or(|segment| {
                    let newest = &mut segment.epochs[origin];
                    *newest = (*newest).max(aggregate.epoch);
                    aggregate.epoch == *newest
                })
            });
        }
        for claim in &aggregate.claims {
            let origin = self.origin(claim.origin);
            for segment in marks.iter_mut().filter(|s| overlap(s.range, claim.range)) {
                if !self.no_first_sight && segment.sets[origin] == 1 {
                    segment.sets[origin] |= up_to(claim.from);
                }
                segment.sets[origin] |= up_to(claim.low.unwrap_or(0));
            }
        }
        let mut kept = Vec::new();
        let mut dropped_by_aggregate = [false; ORIGINS];
        for item in passed.iter().copied() {
            let Item { origin, .. } = items[item];
            let origin = self.origin(origin);
            let code = self.code(&items[item]);
            if !self.origin_by_record {
                // One origin an aggregate: what is known of the last item is known of all.
                let last = passed
                    .iter()
                    .rev()
                    .find(|&&i| self.origin(items[i].origin) == origin);
                let code = last.map_or(code, |&last| self.code(&items[last]));
                if passed.first() == Some(&item) {
                    dropped_by_aggregate[origin] = marks
                        .iter()
                        .any(|s| within(slot(item), s.range) && s.sets[origin] >> code & 1 == 1);
                }
                if dropped_by_aggregate[origin] {
                    continue;
                }
                kept.push(item);
                for s in marks.iter_mut().filter(|s| within(slot(item), s.range)) {
                    s.sets[origin] |= up_to(code);
                }
                continue;
            }
            let knows = |segment: &Segment| segment.sets[origin] >> code & 1 == 1;
            let mut places: Vec<usize> = (0..marks.len())
                .filter(|&s| {
                    if items[item].unit && self.units != UnitPlace::Route {
                        overlap(marks[s].range, aggregate.lane)
                    } else {
                        within(slot(item), marks[s].range)
                    }
                })
                .collect();
            if self.units == UnitPlace::FirstSegment && items[item].unit {
                places.truncate(1);
            }
            if places.is_empty() {
                // Only without the filter: nothing is known of what belongs elsewhere.
                kept.push(item);
                continue;
            }
            let known = if self.units == UnitPlace::AllSegments && items[item].unit {
                places.iter().all(|&s| knows(&marks[s]))
            } else {
                places.iter().any(|&s| knows(&marks[s]))
            };
            if known {
                continue;
            }
            kept.push(item);
            for place in places {
                marks[place].sets[origin] |= if self.sets { 1 << code } else { up_to(code) };
            }
        }
        for claim in &aggregate.claims {
            let origin = self.origin(claim.origin);
            for segment in marks.iter_mut().filter(|s| overlap(s.range, claim.range)) {
                let interval = up_to(claim.to) & !up_to(claim.from);
                segment.sets[origin] |= if self.sets { interval } else { up_to(claim.to) };
            }
        }
        join(marks);
        kept
    }
}

/// Cuts the segments that a claim covers in part.
fn cut(marks: &mut Vec<Segment>, claims: &[Claim]) {
    for claim in claims {
        for first in [claim.range.0, claim.range.1 + 1] {
            let split = marks
                .iter()
                .position(|s| s.range.0 < first && first <= s.range.1);
            if let Some(at) = split {
                let mut lower = marks[at].clone();
                lower.range.1 = first - 1;
                marks[at].range.0 = first;
                marks.insert(at, lower);
            }
        }
    }
}

/// Makes one segment of neighbours that know the same.
fn join(marks: &mut Vec<Segment>) {
    marks.dedup_by(|later, earlier| {
        let same = earlier.sets == later.sets && earlier.epochs == later.epochs;
        if same {
            earlier.range.1 = later.range.1;
        }
        same
    });
}
