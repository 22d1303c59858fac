//! The suite of streams whose readers deduplicate must fail on readers and writers that break a rule.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::conformance_stream::{self, DropsCopies};
use crate::memory::MemoryHarness;
use hydrant_core::mutant::{self, Mutant};

/// Whether the suite fails with a broken variant.
fn fails(broken: Option<Mutant>) -> bool {
    let harness = MemoryHarness {
        drops_copies: DropsCopies::AtReader,
        around: |stream| stream,
    };
    let suite = async || {
        let suite = AssertUnwindSafe(conformance_stream::conforms(&harness));
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
