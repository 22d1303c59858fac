//! Streams that store what comes as it comes: their readers deduplicate, and what a reader knows travels with its place.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Harness;
use super::scenario::*;
use crate::must;
use hydrant_core::budget::Budget;
use hydrant_core::error::{Disposition, Error};
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::shard::{HashRange, Shard, ShardId};
use hydrant_core::stream::{Append, OpenAt, Read, SharedStream};

/// What a reader gave, up to the tip or the end of its shard.
#[derive(Debug, Default)]
struct Reading {
    found: Vec<Found>,
    /// Copies that the reader dropped, each number with the position at which it counts.
    duplicates: Vec<(Position, u64)>,
    /// Units of all accounts, each number with the position at which it counts.
    accounted: Vec<(Position, u64)>,
    /// Every place at which an interval may end, with its marks.
    places: Vec<Progress>,
    /// What is stored when everything is.
    last: Progress,
}

impl Reading {
    fn payloads(&self) -> Vec<String> {
        let found = self.found.iter();
        found.map(|one| one.message.payload.clone()).collect()
    }

    fn dropped(&self) -> u64 {
        self.duplicates.iter().map(|(_, count)| count).sum()
    }
}

async fn read_from(stream: &SharedStream, shard: &ShardId, at: OpenAt) -> Reading {
    let mut reading = Reading::default();
    if let OpenAt::After { progress, .. } = &at {
        reading.last.to = progress.to;
    }
    let mut reader = open(stream, shard, at, &Budget::new(AMPLE_BYTES)).await;
    loop {
        let batch = match next(&mut *reader).await {
            Read::Batch(batch) => batch,
            Read::Idle { through } => {
                assert_eq!(through, reading.last.to);
                return reading;
            }
            Read::End { marks, .. } => {
                reading.last.to = Position::End;
                reading.last.marks = marks;
                return reading;
            }
            gap @ Read::Gap { .. } => panic!("a shard that was not trimmed gave {gap:?}"),
        };
        let marks = batch.marks.clone().expect("a batch hands out its marks");
        let some = found(&batch);
        let sequences = some.windows(2);
        let ends = sequences.filter(|two| two[0].position.sequence() != two[1].position.sequence());
        for to in ends.map(|two| two[0].position).chain([batch.to]) {
            reading.places.push(Progress {
                to,
                marks: marks.at(to),
                ..Progress::default()
            });
        }
        reading
            .last
            .clone_from(&reading.places[reading.places.len() - 1]);
        for (at, _) in &batch.duplicates {
            assert!(*at <= batch.to, "{at} is not in the batch");
        }
        let accounts = batch.accounts.iter();
        reading
            .accounted
            .extend(accounts.map(|span| (span.at, span.account.input)));
        reading.duplicates.extend(&batch.duplicates);
        reading.found.extend(some);
    }
}

async fn read_new(stream: &SharedStream, shard: &ShardId) -> Reading {
    read_from(stream, shard, OpenAt::after(Position::Begin)).await
}

fn names(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|one| one.payload.clone()).collect()
}

/// What of an append routes into `range`, with claims for that range alone.
fn within(append: Append, range: HashRange) -> Append {
    let here: Vec<usize> = (0..append.record_indexes.len())
        .filter(|n| range.contains(append.routes[*n]))
        .collect();
    let entry = append.entry.clone().map(|mut entry| {
        let origins: Vec<_> = entry.origins.iter().collect();
        entry.origins = here.iter().map(|n| origins[*n]).collect();
        entry
    });
    let claims = append.claims.iter().map(|claim| {
        let mut claim = *claim;
        claim.range = range;
        claim
    });
    Append {
        record_indexes: here.iter().map(|n| append.record_indexes[*n]).collect(),
        routes: here.iter().map(|n| append.routes[*n]).collect(),
        claims: claims.collect(),
        entry,
        ..append
    }
}

async fn shard(stream: &SharedStream, id: &ShardId) -> Shard {
    let map = must(stream.shards().await, "read the shard map");
    map.get(id).cloned().expect("the shard is in the map")
}

/// An append that is sent again, whole or in part, is read once; another writer's records are not taken for its.
pub(super) async fn what_is_stored_twice_is_read_once(harness: &dyn Harness) {
    let mut stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let all = messages("a", 9);
    let sends = [(0, 4), (0, 4), (2, 6), (1, 3), (6, 8), (8, 9), (0, 9)];
    for (n, (from, to)) in sends.into_iter().enumerate() {
        let append = from_origin(&all[from..to], from as u64, None, None);
        let appended = send(&*writer(&stream).await, &shard, append).await;
        assert_eq!(appended.shard, shard);
        if n == 3 {
            stream = harness.reopen(stream).await;
        }
    }
    let reading = read_new(&stream, &shard).await;
    assert_eq!(reading.payloads(), names(&all));
    assert_eq!(reading.dropped(), 4 + 2 + 2 + 9);
    let mut other = from_origin(&all[..4], 0, None, None);
    if let Some(entry) = &mut other.entry {
        entry.writer = hydrant_core::origin::WriterId::of_name("another");
    }
    send(&*writer(&stream).await, &shard, other).await;
    assert_eq!(read_new(&stream, &shard).await.found.len(), 13);
}

/// A record that comes after a later one of its origin is read when it comes, and so is one of which nothing was claimed;
/// what a claim passes over is not taken for known.
pub(super) async fn what_comes_late_is_read_when_it_comes(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 12);
    let sending = |from: usize, to: usize| from_origin(&all[from..to], from as u64, None, None);
    for append in [sending(6, 9), sending(0, 3), sending(6, 12), sending(3, 6)] {
        send(&*writer, &shard, append).await;
    }
    let reading = read_new(&stream, &shard).await;
    let wanted = [&all[6..9], &all[..3], &all[9..], &all[3..6]].concat();
    assert_eq!(reading.payloads(), names(&wanted));
    assert_eq!(reading.dropped(), 3);
}

/// The second output of an upstream record is another record than the first.
pub(super) async fn outputs_of_one_record_are_told_apart(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 2);
    for n in [0, 0, 1, 0, 1] {
        let mut append = from_origin(&all[n..=n], 0, None, None);
        if let Some(entry) = &mut append.entry {
            let origin = hydrant_core::origin::Origin {
                index: n as u32,
                ..hydrant_core::origin::Origin::default()
            };
            entry.origins = [origin].into_iter().collect();
            // The first one leaves the second out, and claims nothing.
            entry.to = if n == 0 { Position::Begin } else { entry.to };
        }
        send(&*writer, &shard, append).await;
    }
    let reading = read_new(&stream, &shard).await;
    assert_eq!(reading.payloads(), names(&all));
    assert_eq!(reading.dropped(), 3);
}

/// What was confirmed before the writer's session counts as known, in a shard that has never seen it too.
pub(super) async fn a_low_mark_is_known_to_readers(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 8);
    send(&*writer, &shard, from_origin(&all[4..6], 4, Some(3), None)).await;
    send(&*writer, &shard, from_origin(&all[2..8], 2, None, None)).await;
    let reading = read_new(&stream, &shard).await;
    assert_eq!(reading.payloads(), names(&all[4..]));
    assert_eq!(reading.dropped(), 4);
}

/// A reader that is opened at any place with the marks of that place gives what the one before it would have given.
pub(super) async fn marks_are_restored_at_every_place(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 20);
    let sends = [
        (0, 5),
        (3, 8),
        (8, 9),
        (0, 9),
        (12, 15),
        (9, 14),
        (15, 20),
        (0, 20),
    ];
    for (n, (from, to)) in sends.into_iter().enumerate() {
        let mut append = from_origin(&all[from..to], from as u64, None, None);
        append.input = Some((to - from + 1) as u64);
        // All units of an origin have one route; each of them comes twice.
        let mut unit = letter(from as u64, 1);
        unit.origin.index = 7;
        append.units = std::sync::Arc::new(vec![unit]);
        if let (Some(entry), true) = (&mut append.entry, n == 2) {
            entry.origins = [].into_iter().collect();
            append.record_indexes = [].into();
            append.routes = [].into();
            append.input = Some(1);
        }
        send(&*writer, &shard, append).await;
    }
    let whole = read_new(&stream, &shard).await;
    let mut seen = whole.payloads();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), whole.found.len(), "a record is read twice");
    assert!(whole.places.len() > 4, "{:?}", whole.places);
    let after = |counts: &[(Position, u64)], to: Position| -> BTreeMap<Position, u64> {
        let left = counts.iter().filter(|(at, _)| *at > to);
        left.copied().collect()
    };
    for place in &whole.places {
        let rest = read_from(&stream, &shard, OpenAt::progress(place.clone())).await;
        let wanted: Vec<_> = whole
            .found
            .iter()
            .filter(|one| one.position > place.to)
            .map(|one| (one.position, one.message.payload.clone()))
            .collect();
        let found: Vec<_> = rest
            .found
            .iter()
            .map(|one| (one.position, one.message.payload.clone()))
            .collect();
        assert_eq!(found, wanted, "after {}", place.to);
        for (counted, all) in [
            (&rest.duplicates, &whole.duplicates),
            (&rest.accounted, &whole.accounted),
        ] {
            assert_eq!(
                after(counted, place.to),
                after(all, place.to),
                "{}",
                place.to
            );
        }
    }
}

/// A place that is lower than the one that its marks were stored with was set back: what they know would hide what is to
/// be read again.
pub(super) async fn a_place_that_was_set_back_has_no_marks(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 6);
    for n in 0..3 {
        let some = &all[n * 2..n * 2 + 2];
        send(
            &*writer,
            &shard,
            from_origin(some, n as u64 * 2, None, None),
        )
        .await;
    }
    let whole = read_new(&stream, &shard).await;
    let set_back = Progress {
        to: whole.found[1].position,
        ..whole.last.clone()
    };
    let again = read_from(&stream, &shard, OpenAt::progress(set_back)).await;
    assert_eq!(again.payloads(), names(&all[2..]));
}

/// A child knows what the readers of its parents knew, by hash, through a split and the merge that undoes it.
pub(super) async fn children_know_what_the_readers_of_their_parents_knew(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let parent = shard(&stream, &only_shard(&stream).await).await;
    let writer = writer(&stream).await;
    let all = messages("a", 20);
    let sending = |from: usize, to: usize| from_origin(&all[from..to], from as u64, None, None);
    send(&*writer, &parent.id, sending(0, 10)).await;
    let admin = stream.admin();
    let children = must(admin.split(&parent.id, None).await, "split a shard");
    let parent_read = read_new(&stream, &parent.id).await;
    assert_eq!(parent_read.last.to, Position::End);
    assert_eq!(parent_read.payloads(), names(&all[..10]));
    let mut parents = Vec::new();
    let mut found = parent_read.payloads();
    for (n, id) in children.iter().enumerate() {
        let child = shard(&stream, id).await;
        // What the parent has comes again; only one child gets the second half.
        send(&*writer, id, within(sending(0, 10), child.range)).await;
        if n == 0 {
            send(&*writer, id, within(sending(10, 20), child.range)).await;
        }
        parents.push(child);
    }
    let merged = must(
        admin.merge(&children[0], &children[1]).await,
        "merge shards",
    );
    let mut final_progress = Vec::new();
    for child in parents {
        let at = OpenAt::After {
            progress: Progress::default(),
            parents: vec![(parent.id.clone(), parent_read.last.clone())],
        };
        let reading = read_from(&stream, &child.id, at).await;
        let known = all[..10]
            .iter()
            .filter(|one| child.range.contains(route(one)));
        assert_eq!(reading.dropped(), known.count() as u64);
        found.extend(reading.payloads());
        final_progress.push((child.id.clone(), reading.last.clone()));
    }
    send(&*writer, &merged, sending(0, 20)).await;
    let at = OpenAt::After {
        progress: Progress::default(),
        parents: final_progress,
    };
    found.extend(read_from(&stream, &merged, at).await.payloads());
    let mut wanted = names(&all);
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

/// What is meant for a shard that was split is answered by the shard that took it when all of it belongs there, and is to
/// be routed again when not; either way it is read once.
pub(super) async fn what_another_shard_took_is_read_once(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let parent = shard(&stream, &only_shard(&stream).await).await;
    let writer = writer(&stream).await;
    let all = messages("a", 20);
    let sending = |from: usize, to: usize| from_origin(&all[from..to], from as u64, None, None);
    must(
        stream.admin().split(&parent.id, None).await,
        "split a shard",
    );
    let refused = try_send(&*writer, &parent.id, sending(0, 10)).await;
    let error = refused.expect_err("records of two shards were confirmed by one of them");
    assert_eq!(error.disposition(), Disposition::Reroute, "{error}");
    let map = must(stream.shards().await, "read the shard map");
    let (low, high) = (map.route(0), map.route(u128::MAX));
    let (low, high) = (low.expect("a shard of hash 0"), high.expect("a shard"));
    for child in [high, low] {
        // The lower one has what belongs to the higher one, which tells it nothing of its own.
        let strange = within(sending(5, 20), high.range);
        try_send(&*writer, &parent.id, strange)
            .await
            .expect_err("it belongs elsewhere");
        send(&*writer, &child.id, within(sending(0, 10), child.range)).await;
    }
    // The first hash of the parent is that of the lower child.
    let appended = send(&*writer, &parent.id, within(sending(10, 20), low.range)).await;
    assert_eq!(appended.shard, low.id);
    send(&*writer, &high.id, within(sending(10, 20), high.range)).await;
    let mut found = Vec::new();
    for child in [low, high] {
        found.extend(read_new(&stream, &child.id).await.payloads());
    }
    let mut wanted = names(&all);
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

/// A claim says something of its own range only, also where it covers a part of a shard.
pub(super) async fn a_claim_holds_in_its_range_only(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 10);
    let (low, high) = HashRange::ALL.split(1 << 127).expect("two halves");
    for range in [low, high, low, high] {
        let append = within(from_origin(&all, 0, None, None), range);
        assert!(
            (1..10).contains(&append.record_indexes.len()),
            "no key routes there"
        );
        send(&*writer, &shard, append).await;
    }
    let reading = read_new(&stream, &shard).await;
    let (mut found, mut wanted) = (reading.payloads(), names(&all));
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    assert_eq!(reading.dropped(), 10);
}

/// Behind an append that failed nothing of its origin is taken before the sender knows.
pub(super) async fn nothing_is_taken_behind_what_failed(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let parent = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 20);
    must(stream.admin().split(&parent, None).await, "split a shard");
    let map = must(stream.shards().await, "read the shard map");
    let low = map.route(0).expect("a shard of hash 0").range;
    let sending = |from: usize, to: usize| from_origin(&all[from..to], from as u64, None, None);
    let mut tickets = Vec::new();
    let first = submit(&*writer, &parent, sending(0, 10)).await;
    tickets.push(must(first, "hand an append in"));
    for (from, to) in [(10, 15), (15, 20)] {
        let behind = submit(&*writer, &parent, within(sending(from, to), low)).await;
        tickets.push(must(behind, "hand an append in"));
        // The failure is there, and nobody has looked yet.
        hydrant_core::clock::sleep(Duration::from_millis(200)).await;
    }
    for ticket in tickets {
        let error = ticket
            .await
            .expect_err("an append behind a failed one was taken");
        let disposition = error.disposition();
        let is_out_of_order = matches!(error, Error::OutOfOrder { .. });
        assert!(
            disposition == Disposition::Reroute || is_out_of_order,
            "{error}"
        );
    }
    let child = map.route(0).expect("a shard of hash 0");
    let found = read_new(&stream, &child.id).await.payloads();
    let late = names(&all[10..]);
    assert!(found.iter().all(|one| !late.contains(one)), "{found:?}");
}
