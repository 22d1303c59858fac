//! What batches hold of the budget on their way: that of their dead letters, and before these are made.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::batch::Span;
use hydrant_core::origin::DeadLetter;
use hydrant_core::stream::Unit;
use hydrant_core::transform::Transformed;
use hydrant_core::{Batch, Budget, Context, Position, Random};
use hydrant_fuzz::memory;

use hydrant_testing::memory::{StreamFaults, StreamTraits};

use super::{context, input, lanes, letter, log, run, small, upstream};
use crate::delivery::{Keys, Session};

const RECORDS: u64 = 200;

/// All records of a batch as dead letters.
fn all_letters(batch: Batch) -> Transformed {
    let input = batch.len() as u32;
    let alike = letter("in", "a", 0);
    let positions = batch.positions().zip(0..);
    let dead_letters = positions.map(|((sequence, ..), index)| {
        let alike = alike.clone();
        (index, DeadLetter { sequence, ..alike })
    });
    Transformed {
        input,
        dead_letters: dead_letters.collect(),
        batch: Batch {
            to: batch.to,
            permit: batch.permit,
            ..Batch::default()
        },
        ..Transformed::default()
    }
}

#[test]
fn dead_letters_hold_their_memory_from_before_they_are_made_until_they_are_stored() {
    run(async {
        let random = Random::seeded(1);
        let stream = log(2, random.clone());
        stream.set_faults(StreamFaults {
            full: 100,
            ..StreamFaults::default()
        });
        let context = context(random);
        let budget = context.budget.clone();
        let lanes = lanes(&stream, Keys::Replaced, &context).await.unwrap();
        let mut session = lanes.session(upstream("a", Position::Begin)).await;
        let mut batch = input(1, "a", 0, RECORDS);
        batch.accounts.clear();
        let dead_letters = (batch.len() * size_of::<Unit>()) as u64;
        batch.permit = budget.acquire(batch.memory_bytes()).await;
        let held = budget.held_bytes();
        session.room(&batch).await.unwrap();
        assert!(budget.held_bytes() >= held + dead_letters);
        let planner = session.planner();
        let routes = planner.routes(&batch);
        let plan = planner.plan(all_letters(batch), &routes, 0).unwrap();
        session.send(plan).await.unwrap();
        let held = budget.held_bytes();
        assert!(
            (dead_letters..dead_letters * 2).contains(&held),
            "{held} of {dead_letters}"
        );
        stream.set_faults(StreamFaults::default());
        session.drain().await.unwrap();
        assert_eq!(budget.held_bytes(), 0);
    });
}

/// Records of two bytes that all become dead letters take no more than their batch was given room for.
#[test]
fn planning_dead_letters_takes_what_their_batch_was_given() {
    const RECORDS: u64 = 10_000;
    run(async {
        let random = Random::seeded(3);
        let context = Context {
            budget: Budget::new(1 << 30),
            ..context(random.clone())
        };
        let stream = log(1, random);
        stream.set_traits(StreamTraits {
            append_bytes_target: 1 << 20,
            ..small()
        });
        let lanes = lanes(&stream, Keys::Replaced, &context).await.unwrap();
        let mut session = lanes.session(upstream("a", Position::Begin)).await;
        let mut batch = input(1, "a", 0, RECORDS);
        batch.accounts.clear();
        batch.segments = Arc::from([Bytes::from(vec![b'x'; 2])]);
        for entry in &mut batch.records {
            (entry.key, entry.payload) = (None, Span::new(0, 2));
        }
        batch.permit = context.budget.acquire(batch.memory_bytes()).await;
        let held = context.budget.held_bytes();
        session.room(&batch).await.unwrap();
        let room = context.budget.held_bytes() - held;
        let planner = session.planner();
        let (plan, taken) = memory(|| {
            let routes = planner.routes(&batch);
            planner.plan(all_letters(batch), &routes, 0).unwrap()
        });
        assert!(taken.peak_bytes <= room, "{taken:?} of {room}");
        let missing = plan.missing_bytes;
        assert!(taken.held_bytes <= missing, "{taken:?} of {missing}");
    });
}

#[test]
fn while_the_budget_is_spent_one_batch_at_a_time_is_given_room() {
    run(async {
        let random = Random::seeded(2);
        let context = context(random.clone());
        let stream = log(2, random);
        let lanes = lanes(&stream, Keys::Replaced, &context).await.unwrap();
        let mut first = lanes.session(upstream("a", Position::Begin)).await;
        let mut other = lanes.session(upstream("b", Position::Begin)).await;
        let budget = &context.budget;
        let mut batches = Vec::new();
        for shard in ["a", "b"] {
            let mut batch = input(2, shard, 0, RECORDS);
            batch.accounts.clear();
            batch.permit = budget.acquire(budget.total_bytes() / 2).await;
            batches.push(batch);
        }
        first.room(&batches[0]).await.unwrap();
        let wait = tokio::time::timeout(Duration::from_secs(9), other.room(&batches[1]));
        assert!(wait.await.is_err(), "both grow beyond the budget");
        let planner = first.planner();
        let routes = planner.routes(&batches[0]);
        let plan = planner.plan(all_letters(batches.remove(0)), &routes, 0);
        first.send(plan.unwrap()).await.unwrap();
        // It is not overdrawn any more: the budget has what its dead letters take.
        other.room(&batches[0]).await.unwrap();
    });
}
