//! Splits, merges and retention.

use super::scenario::*;
use super::{DropsCopies, Harness};
use crate::must;
use hydrant_core::admin::Trim;
use hydrant_core::error::Disposition;
use hydrant_core::position::Position;
use hydrant_core::shard::{HashRange, ShardId};
use hydrant_core::stream::{Read, SharedStream, StreamWriter};

async fn split(stream: &SharedStream, shard: &ShardId) -> Vec<ShardId> {
    let children = must(stream.admin().split(shard, None).await, "split a shard");
    assert_eq!(children.len(), 2);
    children
}

/// A closed shard takes nothing, unless another one answers in its place.
async fn is_refused(harness: &dyn Harness, writer: &dyn StreamWriter, shard: &ShardId) {
    if harness.drops_copies() == DropsCopies::AtReader {
        return;
    }
    match try_send(writer, shard, append(&messages("late", 1))).await {
        Err(error) => assert_eq!(error.disposition(), Disposition::Reroute, "{error}"),
        Ok(appended) => panic!("a closed shard took an append: {appended:?}"),
    }
}

/// Reads to the end of a closed shard; answers its payloads and children.
async fn to_the_end(stream: &SharedStream, shard: &ShardId) -> (Vec<String>, Vec<ShardId>) {
    let mut reader = reader(stream, shard, Position::Begin).await;
    let mut payloads = Vec::new();
    loop {
        let (found, end) = read(&mut *reader, None).await;
        payloads.extend(found.into_iter().map(|one| one.message.payload));
        match end {
            Some(Read::End { mut children, .. }) => {
                children.sort();
                return (payloads, children);
            }
            Some(Read::Idle { .. }) => {}
            other => panic!("a closed shard gave {other:?}"),
        }
    }
}

/// After a split the parent takes nothing more, ends after its last record, and names two children that share its range.
pub(super) async fn a_split_ends_the_parent_and_opens_two_children(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let parent = only_shard(&stream).await;
    let writer = writer(&stream).await;
    send(&*writer, &parent, append(&messages("a", 3))).await;
    let mut waiting = reader(&stream, &parent, Position::Begin).await;
    read(&mut *waiting, None).await;
    let (end, mut children, ()) =
        tokio::join!(next(&mut *waiting), split(&stream, &parent), async {
            must(
                stream.shards_changed().await,
                "wait for a change of the shard map",
            )
        },);
    children.sort();
    match end {
        Read::End { children, .. } => assert_eq!(children.len(), 2),
        other => panic!("a reader at the tip of a shard that was split gave {other:?}"),
    }
    is_refused(harness, &*writer, &parent).await;
    let map = must(stream.shards().await, "read the shard map");
    assert!(map.get(&parent).is_some_and(|shard| shard.closed));
    let mut open: Vec<_> = map
        .open()
        .map(|shard| (shard.range, shard.id.clone()))
        .collect();
    open.sort();
    assert_eq!(open.len(), 2);
    assert_eq!(open[0].0.join(open[1].0), Some(HashRange::ALL));
    for shard in map.open() {
        assert_eq!(shard.parents, std::slice::from_ref(&parent));
        send(
            &*writer,
            &shard.id,
            routed_into(shard.range, append(&messages(shard.id.as_str(), 2))),
        )
        .await;
    }
    let stream = harness.reopen(stream).await;
    let (payloads, told) = to_the_end(&stream, &parent).await;
    assert_eq!((payloads.len(), told), (3, children.clone()));
    for child in &children {
        assert_eq!(read_all(&stream, child, Position::Begin).await.len(), 2);
    }
}

/// After a merge both parents end and name one child.
pub(super) async fn a_merge_ends_both_parents_and_opens_one_child(harness: &dyn Harness) {
    let stream = harness.create(2).await;
    let writer = writer(&stream).await;
    let map = must(stream.shards().await, "read the shard map");
    let parents: Vec<_> = map.open().map(|shard| shard.id.clone()).collect();
    for shard in map.open() {
        send(
            &*writer,
            &shard.id,
            routed_into(shard.range, append(&messages(shard.id.as_str(), 2))),
        )
        .await;
    }
    let child = must(
        stream.admin().merge(&parents[0], &parents[1]).await,
        "merge shards",
    );
    assert_eq!(only_shard(&stream).await, child);
    for parent in &parents {
        is_refused(harness, &*writer, parent).await;
        let (payloads, children) = to_the_end(&stream, parent).await;
        assert_eq!((payloads.len(), children), (2, vec![child.clone()]));
    }
    let map = must(stream.shards().await, "read the shard map");
    let mut told = map
        .get(&child)
        .map(|shard| shard.parents.clone())
        .unwrap_or_default();
    told.sort();
    assert_eq!(told, parents);
    let again = stream.admin().merge(&parents[0], &parents[1]).await;
    assert!(again.is_err(), "closed shards were merged again");
    let strange = stream.admin().split(&parents[0], None).await;
    assert!(strange.is_err(), "a closed shard was split");
}

/// Records that a parent had are duplicates in its children, by hash, through a split and the merge that undoes it.
pub(super) async fn children_know_what_their_parents_knew(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let parent = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 20);
    send(&*writer, &parent, from_origin(&all[..10], 0, None, None)).await;
    let children = split(&stream, &parent).await;
    let map = must(stream.shards().await, "read the shard map");
    // Only one child takes the second half: the other's mark stays behind.
    let range = map
        .get(&children[0])
        .map(|shard| shard.range)
        .expect("a child is in the map");
    let of = |from: usize, to: usize, range: HashRange| {
        let mut append = from_origin(&all[from..to], from as u64, None, None);
        let here: Vec<usize> = (0..to - from)
            .filter(|n| range.contains(append.routes[*n]))
            .collect();
        append.record_indexes = here.iter().map(|n| *n as u32).collect();
        append.routes = here.iter().map(|n| append.routes[*n]).collect();
        append.entry = append.entry.map(|mut entry| {
            let origins: Vec<_> = entry.origins.iter().collect();
            entry.origins = here.iter().map(|n| origins[*n]).collect();
            entry
        });
        append
    };
    let counted = |append: &hydrant_core::stream::Append| append.record_indexes.len() as u64;
    let known = of(0, 10, range);
    let count = counted(&known);
    assert!(count > 0, "no key routes to the child");
    assert_eq!(send(&*writer, &children[0], known).await.duplicates, count);
    send(&*writer, &children[0], of(0, 20, range)).await;
    let child = must(
        stream.admin().merge(&children[0], &children[1]).await,
        "merge shards",
    );
    let stream = harness.reopen(stream).await;
    let everything = of(0, 20, HashRange::ALL);
    let in_first = counted(&of(10, 20, range));
    let again = send(&*super::scenario::writer(&stream).await, &child, everything).await;
    assert_eq!(again.duplicates, 10 + in_first);
    let mut found = Vec::new();
    for shard in [&parent, &children[0], &children[1], &child] {
        let some = read_all(&stream, shard, Position::Begin).await;
        found.extend(some.into_iter().map(|one| one.message.payload));
    }
    let mut wanted: Vec<_> = all.iter().map(|message| message.payload.clone()).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

/// A shard tells where an origin began of which it has nothing itself, when its parent has; another process learns it
/// too.
pub(super) async fn children_know_where_origins_began(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let parent = only_shard(&stream).await;
    let first = writer(&stream).await;
    assert!(began(&*first, &parent).await.is_empty());
    let mut append = from_origin(&messages("a", 3), 6, None, None);
    if let Some(entry) = &mut append.entry {
        (entry.start, entry.low) = (Position::offset(5), Position::offset(5));
    }
    send(&*first, &parent, append).await;
    for child in split(&stream, &parent).await {
        assert_eq!(began(&*first, &child).await, [Position::offset(5)]);
    }
    let stream = harness.reopen(stream).await;
    let second = writer(&stream).await;
    let map = must(stream.shards().await, "read the shard map");
    for child in map.open() {
        assert_eq!(began(&*second, &child.id).await, [Position::offset(5)]);
    }
}

/// Retention never takes what must stay; a reader before it learns of the gap and goes on after it.
pub(super) async fn what_is_trimmed_is_told_as_a_gap(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    for n in 0..10 {
        send(&*writer, &shard, append(&messages(&format!("{n}"), 2))).await;
    }
    let all = read_all(&stream, &shard, Position::Begin).await;
    let stays_after = all[11].position;
    must(
        stream
            .admin()
            .trim(Some(&shard), Trim::After(stays_after))
            .await,
        "trim a shard",
    );
    let states = must(stream.states().await, "read states");
    let kept_after = states[0].kept_after;
    assert!(
        kept_after <= stays_after,
        "records after {stays_after} were to stay"
    );
    let mut reader = reader(&stream, &shard, Position::Begin).await;
    let mut first = next(&mut *reader).await;
    if kept_after > Position::Begin {
        match first {
            Read::Gap { from, to, why, .. } => {
                assert_eq!((from, to), (Position::Begin, kept_after));
                assert!(!why.is_empty());
            }
            other => panic!("what was trimmed was answered as {other:?}"),
        }
        first = next(&mut *reader).await;
    }
    let Read::Batch(batch) = first else {
        panic!("what was kept was answered as {first:?}");
    };
    let mut kept = found(&batch);
    kept.extend(read(&mut *reader, None).await.0);
    let wanted: Vec<_> = all
        .iter()
        .filter(|one| one.position > kept_after)
        .cloned()
        .collect();
    assert_eq!(sent(&kept), sent(&wanted));
    let from_kept = read_all(&stream, &shard, kept_after).await;
    assert_eq!(
        sent(&from_kept),
        sent(&wanted),
        "reading after `kept_after` loses nothing"
    );
}

/// A reader says that it is at the tip each time that it gets there, also when nothing is left of what brought it on.
pub(super) async fn idle_is_said_again_behind_a_gap(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let mut reader = reader(&stream, &shard, Position::Begin).await;
    read(&mut *reader, None).await;
    for round in ["a", "b"] {
        send(&*writer, &shard, append(&messages(round, 3))).await;
        let all = Trim::ToBytes(0);
        must(stream.admin().trim(Some(&shard), all).await, "trim a shard");
        let mut to = Position::Begin;
        let tip = loop {
            match next(&mut *reader).await {
                Read::Batch(batch) => to = batch.to,
                Read::Gap { to: end, .. } => to = end,
                tip => break tip,
            }
        };
        assert!(
            to > Position::Begin,
            "what was appended is neither read nor lost"
        );
        assert!(
            matches!(tip, Read::Idle { through } if through == to),
            "behind {to} a reader gave {tip:?}"
        );
    }
}
