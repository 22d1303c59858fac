//! Broken variants of the marks, which the tests of the readers must detect. Without the feature `mutants` nothing here
//! does anything.

use super::known::{Edge, KnownSet};
use super::{HashSegment, ItemVerdict, TagClaim, TagEntry, TagItem, covered};
use crate::mutant::{self, Mutant};
use crate::shard::HashRange;

/// Lets an item of another shard count as read, or hands it on.
pub(super) fn foreign(segments: &mut [HashSegment], item: &TagItem) -> Option<ItemVerdict> {
    if mutant::is(Mutant::FilteredMoveMarks) {
        let past = Edge::past(item.origin);
        let segments = segments.iter_mut();
        segments.for_each(|segment| segment.known.add(Edge::BEGIN, past));
    }
    mutant::is(Mutant::RangeNotFiltered).then_some(ItemVerdict::Kept)
}

/// Lets the first claim of an origin count everything before it as read.
pub(super) fn first_sight(segment: &mut HashSegment, claim: &TagClaim) {
    if mutant::is(Mutant::FirstSightKnowsBefore) && segment.known.is_empty() {
        segment.known.add(Edge::BEGIN, Edge::after(claim.from));
    }
}

/// What becomes of a unit when it counts by the range of its lane instead of by its route.
pub(super) fn unit_by_lane(
    segments: &mut [HashSegment],
    item: &TagItem,
    entry: &TagEntry,
    range: HashRange,
) -> Option<ItemVerdict> {
    let by_any = mutant::is(Mutant::UnitKnownByAnySegment);
    let by_all = mutant::is(Mutant::UnitKnownByAllSegments);
    if !(by_any || by_all || mutant::is(Mutant::UnitKnownByFirstSegment)) {
        return None;
    }
    let first = entry.claims.iter().map(|claim| claim.range.first).min()?;
    let last = entry.claims.iter().map(|claim| claim.range.last).max()?;
    let lane = HashRange { first, last };
    if lane.intersect(range) != Some(lane) {
        return Some(ItemVerdict::Elsewhere);
    }
    let mut places: Vec<_> = covered(segments, lane, range.first).collect();
    if !by_any && !by_all {
        places.truncate(1);
    }
    let edge = Edge::before(item.origin);
    let knows = |segment: &&mut HashSegment| segment.known.contains(edge);
    let is_known = match by_all {
        true => places.iter().all(knows),
        false => places.iter().any(knows),
    };
    if is_known {
        return Some(ItemVerdict::Duplicate);
    }
    for segment in places {
        segment.known.add(edge, Edge::past(item.origin));
    }
    Some(ItemVerdict::Kept)
}

/// Gives all segments of a merged shard one set.
pub(super) fn merge(segments: &mut [HashSegment]) {
    let (by_max, by_min) = (
        mutant::is(Mutant::MergedByMax),
        mutant::is(Mutant::MergedByMin),
    );
    if !(by_max || by_min) {
        return;
    }
    let tops = segments.iter().map(|segment| segment.known.top());
    let top = match by_max {
        true => tops.max(),
        false => tops.min(),
    };
    for segment in segments {
        segment.known = KnownSet::default();
        segment.known.add(Edge::BEGIN, top.unwrap_or(Edge::BEGIN));
    }
}
