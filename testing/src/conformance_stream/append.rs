//! Durability, several writers, origins, and appends that are stored once.

use std::sync::Arc;

use futures::future::join_all;

use super::Harness;
use super::scenario::*;
use hydrant_core::error::{Disposition, Error};
use hydrant_core::position::Position;
use hydrant_core::stream::{Append, Read};

/// What was acknowledged is there for the next process.
pub(super) async fn what_was_acknowledged_survives_its_process(harness: &dyn Harness) {
    let mut stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let mut wanted = Vec::new();
    for name in ["a", "b", "c"] {
        let some = messages(name, 4);
        send(&*writer(&stream).await, &shard, append(&some)).await;
        wanted.extend(some.into_iter().map(|message| message.payload));
        let id = stream.id().clone();
        stream = harness.reopen(stream).await;
        assert_eq!(*stream.id(), id, "it became another stream");
        let found = read_all(&stream, &shard, Position::Begin).await;
        let found: Vec<_> = found.into_iter().map(|one| one.message.payload).collect();
        assert_eq!(found, wanted);
    }
}

/// Appends of several writers at once are all stored, those of each in its order.
pub(super) async fn writers_side_by_side_lose_and_reorder_nothing(harness: &dyn Harness) {
    const WRITERS: usize = 4;
    const APPENDS: usize = 10;
    let stream = harness.create(2).await;
    let shards = stream.shards().await.expect("the shard map can be read");
    let shards: Vec<_> = shards
        .open()
        .map(|shard| (shard.id.clone(), shard.range))
        .collect();
    assert_eq!(shards.len(), 2);
    let writing = (0..WRITERS).map(|w| {
        let (stream, shards) = (&stream, &shards);
        async move {
            let writer = writer(stream).await;
            let mut tickets = Vec::new();
            for n in 0..APPENDS {
                for (shard, range) in shards {
                    let some = messages(&format!("{w}-{n:02}"), 3);
                    let ticket = submit(&*writer, shard, routed_into(*range, append(&some))).await;
                    tickets.push(ticket.expect("an append is taken"));
                }
                tokio::task::yield_now().await;
            }
            for acknowledged in join_all(tickets).await {
                acknowledged.expect("an append is acknowledged");
            }
        }
    });
    join_all(writing).await;
    for (shard, _) in &shards {
        let found = read_all(&stream, shard, Position::Begin).await;
        assert_eq!(found.len(), WRITERS * APPENDS * 3);
        for w in 0..WRITERS {
            let mine = found
                .iter()
                .filter(|one| one.message.payload.contains(&format!("\"from\":\"{w}-")));
            let mine: Vec<_> = mine.map(|one| one.message.payload.clone()).collect();
            let wanted: Vec<_> = (0..APPENDS)
                .flat_map(|n| messages(&format!("{w}-{n:02}"), 3))
                .map(|message| message.payload)
                .collect();
            assert_eq!(mine, wanted);
        }
    }
}

/// A reader finds the origin of each record, and its explicit route where there is one.
pub(super) async fn routes_and_origins_travel_with_records(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let routes = [7, u128::MAX, 1 << 100];
    let explicit = Append {
        routes: routes.into(),
        explicit: true,
        ..from_origin(&messages("a", 3), 5, Some(4), None)
    };
    send(&*writer, &shard, explicit).await;
    send(
        &*writer,
        &shard,
        from_origin(&messages("b", 2), 8, Some(4), None),
    )
    .await;
    let mut all = Vec::new();
    let mut reader = reader(&stream, &shard, Position::Begin).await;
    while all.len() < 5 {
        if let Read::Batch(batch) = next(&mut *reader).await {
            for n in 0..batch.len() {
                let (entry, origin) = batch.origin(n).expect("each record has an origin");
                assert_eq!(
                    (entry.writer, entry.shard.as_str()),
                    (writer_id(), "upstream")
                );
                all.push((origin.position(), batch.hashes.get(n).copied()));
            }
        }
    }
    let positions: Vec<_> = all.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, [5, 6, 7, 8, 9].map(Position::offset));
    let hashes: Vec<_> = all[..3].iter().map(|(_, hash)| *hash).collect();
    assert_eq!(hashes, routes.map(Some));
    let keyed: Vec<_> = messages("b", 2).iter().map(route).collect();
    for ((_, hash), keyed) in all[3..].iter().zip(keyed) {
        assert!(hash.is_none_or(|hash| hash == keyed));
    }
}

async fn payloads(
    stream: &hydrant_core::stream::SharedStream,
    shard: &hydrant_core::ShardId,
) -> Vec<String> {
    let found = read_all(stream, shard, Position::Begin).await;
    found.into_iter().map(|one| one.message.payload).collect()
}

/// An append that is sent again is acknowledged as a duplicate, whole or in part, by this process and the next.
pub(super) async fn an_append_is_stored_once(harness: &dyn Harness) {
    let mut stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let all = messages("a", 9);
    let wanted: Vec<_> = all.iter().map(|message| message.payload.clone()).collect();
    for round in 0..2 {
        let writer = writer(&stream).await;
        let first = send(&*writer, &shard, from_origin(&all[..4], 0, None, None)).await;
        assert_eq!(first.duplicates, if round == 0 { 0 } else { 4 });
        assert_eq!(first.last.is_some(), round == 0);
        let again = send(&*writer, &shard, from_origin(&all[..4], 0, None, None)).await;
        assert_eq!((again.last, again.duplicates), (None, 4));
        let part = send(&*writer, &shard, from_origin(&all[2..6], 2, None, None)).await;
        assert_eq!(part.duplicates, if round == 0 { 2 } else { 4 });
        let inside = send(&*writer, &shard, from_origin(&all[1..3], 1, None, None)).await;
        assert_eq!((inside.last, inside.duplicates), (None, 2));
        let (one, two) = (
            submit(&*writer, &shard, from_origin(&all[6..8], 6, None, None)).await,
            submit(&*writer, &shard, from_origin(&all[8..], 8, None, None)).await,
        );
        for ticket in [one, two] {
            let ticket = ticket.expect("queued appends are taken");
            ticket
                .await
                .expect("queued appends are stored in their order");
        }
        assert_eq!(payloads(&stream, &shard).await, wanted);
        stream = harness.reopen(stream).await;
    }
    let mut other = from_origin(&all[..4], 0, None, None);
    if let Some(entry) = &mut other.entry {
        entry.writer = hydrant_core::origin::WriterId::of_name("another");
    }
    let stored = send(&*writer(&stream).await, &shard, other).await;
    assert_eq!(
        stored.duplicates, 0,
        "another writer's records were taken for these"
    );
}

/// An append that starts after what the shard has would leave a hole.
pub(super) async fn an_append_after_its_mark_is_refused(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 9);
    send(&*writer, &shard, from_origin(&all[..2], 0, None, None)).await;
    let error = match try_send(&*writer, &shard, from_origin(&all[3..5], 3, None, None)).await {
        Err(error) => error,
        Ok(appended) => panic!("a hole was stored: {appended:?}"),
    };
    assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");
    if let Error::OutOfOrder { mark, from, .. } = error {
        assert_eq!((mark, from), (Position::offset(1), Position::offset(2)));
    }
    send(&*writer, &shard, from_origin(&all[2..5], 2, None, None)).await;
    // Nothing of it routed here, and the mark moves all the same.
    send(&*writer, &shard, from_origin(&[], 5, None, Some(6))).await;
    send(&*writer, &shard, from_origin(&all[7..9], 7, None, None)).await;
    let wanted: Vec<_> = [0, 1, 2, 3, 4, 7, 8]
        .map(|n: usize| all[n].payload.clone())
        .into();
    assert_eq!(payloads(&stream, &shard).await, wanted);
}

/// What was confirmed before the writer's session counts as known, in a shard that has never seen it too.
pub(super) async fn a_low_mark_stands_for_what_was_confirmed(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 8);
    let appended = send(&*writer, &shard, from_origin(&all[2..6], 2, Some(3), None)).await;
    assert_eq!(appended.duplicates, 2);
    let appended = send(&*writer, &shard, from_origin(&all[4..8], 4, Some(3), None)).await;
    assert_eq!(appended.duplicates, 2);
    let wanted: Vec<_> = all[4..]
        .iter()
        .map(|message| message.payload.clone())
        .collect();
    assert_eq!(payloads(&stream, &shard).await, wanted);
}

/// What a writer passed over when it began is neither known nor taken later; what it sent is known, and where it begins
/// once more, further on, it passes over what lies between.
pub(super) async fn an_append_from_before_its_origins_start_is_refused(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 12);
    let beginning_at = |start: Option<u64>, from: usize, to: usize| {
        let mut append = from_origin(&all[from..to], from as u64, start, None);
        if let (Some(entry), Some(start)) = (&mut append.entry, start) {
            entry.start = Position::offset(start);
        }
        append
    };
    send(&*writer, &shard, beginning_at(Some(3), 4, 6)).await;
    let refused = try_send(&*writer, &shard, beginning_at(None, 0, 5)).await;
    let error = refused.expect_err("records that were passed over were taken for known ones");
    assert!(
        matches!(&error, Error::Rewound(rewound)
            if (rewound.start, rewound.at) == (Position::offset(3), Position::offset(0))),
        "{error}"
    );
    // A worker of before, which began at the same place, is answered as ever.
    let appended = send(&*writer, &shard, beginning_at(Some(3), 4, 6)).await;
    assert_eq!(appended.duplicates, 2);
    send(&*writer, &shard, beginning_at(Some(8), 9, 11)).await;
    let refused = try_send(&*writer, &shard, beginning_at(Some(3), 6, 10)).await;
    assert!(matches!(refused, Err(Error::Rewound(_))));
    assert_eq!(began(&*writer, &shard).await, [Position::offset(8)]);
    // It holds nothing of what was passed over.
    let appended = send(&*writer, &shard, {
        let mut append = beginning_at(None, 9, 12);
        if let Some(entry) = &mut append.entry {
            entry.from = Position::Begin;
        }
        for claim in &mut append.claims {
            claim.from = Position::Begin;
        }
        append
    })
    .await;
    assert_eq!(appended.duplicates, 2);
    let wanted: Vec<_> = [&all[4..6], &all[9..12]]
        .concat()
        .iter()
        .map(|message| message.payload.clone())
        .collect();
    assert_eq!(payloads(&stream, &shard).await, wanted);
}

/// Dead letters and drops travel beside the records, and each is accounted for once however often it is sent.
pub(super) async fn accounts_count_each_unit_once(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let shard = only_shard(&stream).await;
    let writer = writer(&stream).await;
    let all = messages("a", 4);
    let sending = |from: usize, to: usize, units: Vec<u64>, end: u64| Append {
        input: Some((to - from + units.len()) as u64),
        units: Arc::new(units.into_iter().map(|offset| letter(offset, 1)).collect()),
        ..from_origin(&all[from..to], from as u64, None, Some(end))
    };
    send(&*writer, &shard, sending(0, 2, vec![2, 3], 3)).await;
    send(&*writer, &shard, sending(0, 2, vec![2, 3], 3)).await;
    let all_letters = sending(0, 0, vec![3, 4], 5);
    let only_letters = Append {
        input: all_letters.input,
        units: all_letters.units,
        ..from_origin(&[], 2, None, Some(5))
    };
    send(&*writer, &shard, only_letters).await;
    let mut reader = reader(&stream, &shard, Position::Begin).await;
    let (mut records, mut dead_letters, mut input, mut done) = (0, Vec::new(), 0, Position::Begin);
    loop {
        match next(&mut *reader).await {
            Read::Batch(batch) => {
                records += batch.len() as u64;
                for span in &batch.accounts {
                    assert!(
                        done < span.at && span.at <= batch.to,
                        "{} is not in the batch",
                        span.at
                    );
                    assert!(span.account.balances(), "{:?}", span.account);
                    assert_eq!(span.entry.writer, writer_id());
                    input += span.account.input;
                    dead_letters.extend(
                        span.account
                            .dead_letters
                            .iter()
                            .map(|one| one.sequence.low()),
                    );
                }
                done = batch.to;
            }
            Read::Idle { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((records, dead_letters, input), (2, vec![2, 3, 4], 5));
    let sealed = try_send(&*writer, &"none".into(), append(&all)).await;
    let error = sealed.expect_err("an append to a shard that does not exist");
    assert!(
        matches!(
            error.disposition(),
            Disposition::Refused | Disposition::Reroute
        ),
        "{error}"
    );
}
