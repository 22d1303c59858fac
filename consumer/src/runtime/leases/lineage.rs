//! The order of parents and children: which shards may be worked on, and where an app starts in a new shard.
//!
//! A child is worked on once the ends of all its parents are in the ledger. If the stream's map no longer lists a
//! parent, the parent's data is gone: the child waits only while a worker still holds it, and then starts with the
//! parent's last marks. A shard that was created after the app started is read from its beginning, whatever `--start`
//! says, because its records are newer than those that the app was reading in the parent. Rows are created children
//! first. A missing row of a shard with an ancestor that has one therefore means that the shard was created after the
//! app started, even across a crash.

use std::collections::BTreeSet;

use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId, ShardMap};
use hydrant_core::stream::Start;

/// Whether an app has published anything in a shard: then all parents of the shard have ended.
pub(crate) fn has_begun(progress: &Progress) -> bool {
    progress.to > progress.start.unwrap_or(Position::Begin)
}

/// Returns the closed shards without a row that have ended.
///
/// Others who share the table remove the row of a shard once its children are under way, while the map still has the shard.
/// It has ended if the app has begun in a descendant, which no worker starts before. A bare row of a descendant says nothing:
/// rows are created children first, so it may be all that a worker has made before it died.
pub(crate) fn ended_without_rows<'a>(
    map: &ShardMap,
    has_row: impl Fn(&ShardId) -> bool,
    progress: impl Fn(&ShardId) -> Option<&'a Progress>,
) -> BTreeSet<ShardId> {
    let is_missing = |shard: &Shard| shard.closed && !has_row(&shard.id);
    if !map.all().iter().any(is_missing) {
        return BTreeSet::new();
    }
    let mut above = BTreeSet::new();
    for shard in children_first(map).into_iter().flatten() {
        if above.contains(&shard.id) || progress(&shard.id).is_some_and(has_begun) {
            above.extend(shard.parents.iter().cloned());
        }
    }
    above.retain(|id| map.get(id).is_some_and(is_missing));
    above
}

/// Whether every parent of `shard` has ended, or is missing from the map and held by no worker, which might still publish.
pub(crate) fn parents_are_done(
    shard: &Shard,
    map: &ShardMap,
    has_ended: impl Fn(&ShardId) -> bool,
    is_held: impl Fn(&ShardId) -> bool,
) -> bool {
    let is_gone = |id: &ShardId| map.get(id).is_none() && !is_held(id);
    let mut parents = shard.parents.iter();
    parents.all(|parent| has_ended(parent) || is_gone(parent))
}

/// Returns a parent of `shard`, also one that the map no longer has.
pub(crate) fn parent(id: &ShardId, shard: &Shard, map: &ShardMap) -> Shard {
    map.get(id).cloned().unwrap_or_else(|| Shard {
        id: id.clone(),
        parents: Vec::new(),
        closed: true,
        ..shard.clone()
    })
}

/// Returns the shards of a map in levels: each shard in a later one than its children.
pub(crate) fn children_first(map: &ShardMap) -> Vec<Vec<&Shard>> {
    let (mut levels, mut left) = (Vec::new(), map.all().iter().collect::<Vec<_>>());
    while !left.is_empty() {
        let parents: BTreeSet<&ShardId> = left.iter().flat_map(|shard| &shard.parents).collect();
        let is_parent = |shard: &&Shard| parents.contains(&shard.id);
        let (above, level): (Vec<_>, Vec<_>) = left.iter().copied().partition(is_parent);
        debug_assert!(!level.is_empty(), "no shard is its own ancestor");
        if level.is_empty() {
            levels.push(above);
            break;
        }
        levels.push(level);
        left = above;
    }
    levels
}

/// Returns where an app starts in a shard without progress; `None` means at the beginning.
pub(crate) fn start_in(start: Start, created_after_start: bool) -> Option<Start> {
    match start {
        Start::Earliest => None,
        Start::Latest if created_after_start => None,
        // A time means the same for parent and child, because arrival times rise along both.
        Start::Latest | Start::At(_) => Some(start),
    }
}

#[cfg(test)]
mod tests {
    use hydrant_core::shard::HashRange;

    use super::*;

    fn shard(name: &str, parents: &[&str]) -> Shard {
        Shard {
            id: name.into(),
            range: HashRange::ALL,
            parents: parents
                .iter()
                .map(|parent| ShardId::from(*parent))
                .collect(),
            closed: false,
        }
    }

    #[test]
    fn children_come_before_their_parents_whatever_their_names() {
        let map = ShardMap::new(vec![
            shard("a", &["z"]),
            shard("b", &["a", "y"]),
            shard("y", &["z"]),
            shard("z", &["trimmed"]),
        ]);
        let order = children_first(&map).into_iter().flatten();
        let order: Vec<_> = order.map(|shard| shard.id.clone()).collect();
        assert_eq!(order.len(), 4);
        let place = |name: &str| order.iter().position(|id| id.as_str() == name);
        for shard in map.all() {
            for parent in shard.parents.iter().filter(|p| map.get(p).is_some()) {
                assert!(
                    place(shard.id.as_str()) < place(parent.as_str()),
                    "{order:?}"
                );
            }
        }
    }

    #[test]
    fn a_parent_that_is_gone_is_waited_for_only_while_it_is_held() {
        let map = ShardMap::new(vec![shard("a", &[]), shard("b", &["a", "gone"])]);
        let child = map.get(&"b".into()).unwrap();
        let (none, all) = (|_: &ShardId| false, |_: &ShardId| true);
        let a = |id: &ShardId| id.as_str() == "a";
        assert!(!parents_are_done(child, &map, none, none));
        assert!(!parents_are_done(child, &map, a, all));
        assert!(parents_are_done(child, &map, a, none));
        assert!(parents_are_done(child, &map, all, all));
    }

    #[test]
    fn only_latest_depends_on_when_a_shard_was_born() {
        assert_eq!(start_in(Start::Earliest, false), None);
        assert_eq!(start_in(Start::Latest, false), Some(Start::Latest));
        assert_eq!(start_in(Start::Latest, true), None);
        assert_eq!(start_in(Start::At(5), true), Some(Start::At(5)));
    }
}
