//! Broken variants of the protocols, which the simulation must catch.
//!
//! Each is one decision taken wrongly, at one place, for a thread that asks for it. Without the feature `mutants` every
//! question is answered with a constant no, and nothing of this is in the program.

/// A decision taken wrongly. Those that a decorator at a seam can express are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutant {
    /// The child of a merge takes the larger of its parents' marks for its whole range.
    MergedByMax,
    /// The child of a merge takes the smaller of its parents' marks for its whole range.
    MergedByMin,
    /// Children of a reshard know nothing of their parents' marks.
    ChildrenWithoutMarks,
    /// Segments do not begin with the marks that hold at their base.
    MarksNotStored,
    /// An append whose predecessor is missing is taken all the same.
    OutOfOrderAccepted,
    /// Marks of an append that failed stay.
    MarksKeptAfterFailure,
    /// A duplicate is acknowledged before its first copy is durable.
    DuplicateToldEarly,
    /// The tail of a dead process is synced where it is instead of being written again.
    TailSyncedInPlace,
    /// The marks of a tail that a dead process left are not taken up when the tail is written again.
    TailWithoutMarks,
    /// Readers read what is written, durable or not.
    ReadersPastDurableEnd,
    /// A process that catches up looks for a segment that a dead holder left under the name of before.
    LeftoverOverlooked,
    /// A wait for a lock takes one of the threads that carry disk calls out.
    LocksWaitOnThreads,
    /// A lock is let go while a call that it guards still runs, when nobody waits for the call any more.
    LockFreedEarly,
    /// A reader takes a closed shard as read to its end by what it knew of the end before.
    EndedOnStaleControl,
    /// An append is acknowledged without looking whether the shard was fenced meanwhile.
    AcknowledgedPastFence,
    /// Where a fenced shard ends is read before its mark is there.
    EndBeforeMark,
    /// A reader does not look whether the shard is fenced.
    FenceUnseen,
    /// A fenced shard ends where its control file says, if that is less than what the manifest says.
    EndedAtControl,
    /// A sink takes records that it has taken before.
    BuffersKept,
    /// A sink begins at what the ledger says instead of at the end of its chain.
    FromOfReader,
    /// A sink removes uploads whose interval begins where its chain ends.
    CleanedAtTip,
    /// A sink writes dead letters in the order in which it came upon them.
    LettersAsTheyCame,
    /// The name of a file is drawn instead of following from its interval.
    NamesDrawn,
    /// A reader counts what belongs to another shard as read.
    FilteredMoveMarks,
    /// A reader hands on what belongs to another shard.
    RangeNotFiltered,
    /// A claim counts for the whole of a segment that it covers in part.
    ClaimOfWholeSegments,
    /// The first claim of an origin counts everything before it as read.
    FirstSightKnowsBefore,
    /// A reader counts everything before what it has read as read.
    HighWaterMark,
    /// A unit counts by the range of its lane, and is known when one segment of it knows it.
    UnitKnownByAnySegment,
    /// A unit counts by the range of its lane, and is known when all segments of it know it.
    UnitKnownByAllSegments,
    /// A unit counts by the range of its lane, and is known when the first segment of it knows it.
    UnitKnownByFirstSegment,
    /// What is known of an origin is forgotten when its end arrives.
    EndedPrunedAtOnce,
    /// All of an origin in a stored record is judged by the last of it.
    OriginPerStoredRecord,
    /// The outputs of one upstream record are not told apart.
    OutputIndexIgnored,
    /// A reader that is set back keeps the marks of where it was.
    MarksKeptOverRewind,
    /// Marks are stored of what was read ahead of their position.
    MarksAhead,
    /// Marks are stored of a place before their position.
    MarksBehind,
    /// A writer does not look which shard took what it sent.
    AnsweringShardUnchecked,
    /// What is queued behind something of its origin that failed is sent.
    QueuedBehindFailure,
    /// A lane sends while what it sent before is unconfirmed.
    SeveralUnconfirmed,
    /// A record is sent without its origin.
    RecordsSentRaw,
}

#[cfg(any(test, feature = "mutants"))]
mod active {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this thread asked for this mutant.
    pub fn is(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }

    /// Runs `job` with a mutant on this thread.
    pub fn with<T>(mutant: Option<Mutant>, job: impl FnOnce() -> T) -> T {
        let before = ACTIVE.replace(mutant);
        let result = job();
        ACTIVE.set(before);
        result
    }
}

#[cfg(any(test, feature = "mutants"))]
pub use active::{is, with};

/// No.
#[cfg(not(any(test, feature = "mutants")))]
#[inline(always)]
pub const fn is(_: Mutant) -> bool {
    false
}
