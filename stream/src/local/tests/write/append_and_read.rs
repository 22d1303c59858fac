//! Appending and reading where nothing goes wrong.

use hydrant_core::lease::Progress;
use hydrant_core::stream::{Behind, OpenAt, Read, Start};
use hydrant_core::{Error, Position};
use hydrant_testing::disk::{Op, Rule, SimWorld};

use super::super::fixture::*;

#[tokio::test]
async fn what_is_appended_is_read_in_order_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context(1);
    let stream = create(&url(&dir), options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    let mut tickets = Vec::new();
    for n in 0..200u64 {
        let append = plain(&[n * 3, n * 3 + 1, n * 3 + 2]);
        tickets.push(writer.submit(&first(), append).await.unwrap());
        if n % 20 == 0 {
            tickets.pop().unwrap().await.unwrap();
        }
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
    let mut from_begin = reader(&stream, &first(), Position::Begin).await;
    let all = read_all(&mut from_begin).await;
    assert_eq!(all, (0..600).map(|n| (n, n)).collect::<Vec<_>>());
    for after in [0, 1, 2, 3, 298, 299, 300, 598, 599] {
        let mut reader = reader(&stream, &first(), Position::offset(after)).await;
        let rest = read_all(&mut reader).await;
        assert_eq!(rest, (after + 1..600).map(|n| (n, n)).collect::<Vec<_>>());
    }
    let state = &stream.states().await.unwrap()[0];
    assert_eq!(state.tip, Some(Position::offset(599)));
    assert_eq!(state.records, Some(600));
    let latest = stream.start(&first(), Start::Latest).await.unwrap();
    assert_eq!(Some(latest.to), state.tip);
    let all = stream.start(&first(), Start::At(0)).await.unwrap();
    assert_eq!(all, Progress::default());
}

/// The place before the first record of a time is found when a reader begins there, not before.
#[tokio::test]
async fn a_start_that_was_kept_as_it_was_asked_for_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context(1);
    let stream = create(&url(&dir), options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    let asked = |start| Progress {
        began: Some(start),
        ..Progress::default()
    };
    append(&writer, &first(), plain(&[1, 2])).await.unwrap();
    let newest = stream.state(&first()).await.unwrap().newest_arrival;
    let later = asked(Start::At(newest.unwrap() + 1));
    let all = asked(Start::At(0));
    let behind = async |progress| stream.behind(&first(), progress).await.unwrap();
    assert_eq!(behind(&later).await, Behind::Done);
    assert_eq!(behind(&all).await, Behind::Records(2));
    let open = async |progress: &Progress| {
        let at = OpenAt::progress(progress.clone());
        stream.reader(&first(), at, &ctx.budget).await.unwrap()
    };
    let mut from_later = open(&later).await;
    assert!(matches!(
        from_later.next().await.unwrap(),
        Read::Idle { .. }
    ));
    assert_eq!(read_all(&mut open(&all).await).await, [(0, 1), (1, 2)]);
    let passed = Progress {
        to: Position::offset(0),
        ..later
    };
    assert_eq!(read_all(&mut open(&passed).await).await, [(1, 2)]);
}

#[tokio::test]
async fn another_process_sees_what_is_appended_and_adds_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let mine = create(&url(&dir), options(1), &context(1)).await.unwrap();
    let theirs = open(&url(&dir), &context(2)).await.unwrap();
    let (my_writer, their_writer) = (mine.writer().await.unwrap(), theirs.writer().await.unwrap());
    let mut reader = reader(&theirs, &first(), Position::Begin).await;
    assert!(matches!(
        reader.next().await.unwrap(),
        Read::Idle {
            through: Position::Begin
        }
    ));
    for n in 0..60u64 {
        let writer = if n % 2 == 0 {
            &my_writer
        } else {
            &their_writer
        };
        let appended = append(writer, &first(), plain(&[n])).await.unwrap();
        assert_eq!(appended.last, Some(Position::offset(n)));
        assert_eq!(numbers(&next_batch(&mut reader).await), [(n, n)]);
        if n % 3 == 0 {
            let Read::Idle { through } = reader.next().await.unwrap() else {
                panic!("the tip is not answered");
            };
            assert_eq!(through, Position::offset(n));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_segment_is_read_without_listing_the_directory_again() {
    let world = SimWorld::new(1);
    let ctx = context_on(world.process("a").shared(), 1);
    let stream = create("local:/events", options(1), &ctx).await.unwrap();
    let writer = stream.writer().await.unwrap();
    for n in 0..60u64 {
        let mut one = plain(&[n * 2, n * 2 + 1]);
        // Frames with and without stored routes never share a batch.
        one.explicit = n % 2 == 0;
        append(&writer, &first(), one).await.unwrap();
    }
    let mut reader = reader(&stream, &first(), Position::Begin).await;
    let mut all = Vec::new();
    let mut take = async |all: &mut Vec<_>| match reader.next().await {
        Ok(Read::Batch(batch)) => {
            all.extend(numbers(&batch));
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(error) => Err(error),
    };
    assert!(take(&mut all).await.unwrap());
    world.fail(Rule::always(Op::List, "shards/000000"));
    let mut without_listing = 0;
    while take(&mut all).await.is_ok() {
        without_listing += 1;
    }
    assert!(without_listing > 5, "{without_listing} batches");
    world.heal();
    while take(&mut all).await.unwrap() {}
    assert_eq!(all, (0..120).map(|n| (n, n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_missing_stream_names_the_command_that_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(&url(&dir), &context(1)).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { message }
        if message.contains(&format!("hydrant stream create {} --shards N", url(&dir)))));
    create(&url(&dir), options(2), &context(1)).await.unwrap();
    let error = create(&url(&dir), options(2), &context(1))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Refused { .. }));
}
