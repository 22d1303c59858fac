//! The suite of streams whose readers deduplicate must fail on readers and writers that break a rule.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;

use crate::clock::ManualClock;
use crate::conformance_stream::{self, DropsCopies, Harness};
use crate::memory::MemoryStream;
use hydrant_core::Random;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::SharedStream;

struct Storing;

#[async_trait]
impl Harness for Storing {
    async fn create(&self, shards: u32) -> SharedStream {
        let clock = Arc::new(ManualClock::new(1));
        let random = Random::seeded(2);
        Arc::new(MemoryStream::storing("memory", shards, clock, random))
    }

    async fn reopen(&self, stream: SharedStream) -> SharedStream {
        stream
    }

    fn drops_copies(&self) -> DropsCopies {
        DropsCopies::AtReader
    }

    fn has_tips(&self) -> bool {
        false
    }
}

/// Whether the suite fails with a broken variant.
fn fails(broken: Option<Mutant>) -> bool {
    let suite = async || {
        let suite = AssertUnwindSafe(conformance_stream::conforms(&Storing));
        suite.catch_unwind().await.is_err()
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    mutant::with(broken, || runtime.block_on(suite()))
}

#[test]
fn the_suite_of_readers_catches_each_broken_rule() {
    use Mutant::*;
    assert!(!fails(None));
    let survivors: Vec<Mutant> = [
        FilteredMoveMarks,
        RangeNotFiltered,
        ClaimOfWholeSegments,
        FirstSightKnowsBefore,
        HighWaterMark,
        OriginPerStoredRecord,
        OutputIndexIgnored,
        MarksKeptOverRewind,
        MarksNotStored,
        ChildrenWithoutMarks,
        MergedByMax,
        MergedByMin,
        MarksAhead,
        MarksBehind,
        AnsweringShardUnchecked,
        RecordsSentRaw,
        QueuedBehindFailure,
        SeveralUnconfirmed,
    ]
    .into_iter()
    .filter(|broken| !fails(Some(*broken)))
    .collect();
    assert!(survivors.is_empty(), "{survivors:?} were not caught");
}
