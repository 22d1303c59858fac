//! Mutants: broken variants of the protocols, which the simulation must detect.
//!
//! Each mutant is one wrong decision, at one place, on a thread that asks for it. Without the feature `mutants`, [`is`]
//! is constantly `false` and the wrong code is compiled out.

/// A wrong decision inside a crate. The simulation has decorators for the wrong decisions that can be made at a seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutant {
    /// The child of a merge takes the larger of its parents' marks for its whole range.
    MergedByMax,
    /// The child of a merge takes the smaller of its parents' marks for its whole range.
    MergedByMin,
    /// Children of a reshard do not inherit their parents' marks.
    ChildrenWithoutMarks,
    /// Segments do not begin with the marks that hold at their base.
    MarksNotStored,
    /// An append whose predecessor is missing is accepted.
    OutOfOrderAccepted,
    /// The marks of a failed append stay.
    MarksKeptAfterFailure,
    /// A duplicate is acknowledged before its first copy is durable.
    DuplicateAcknowledgedEarly,
    /// The tail of a dead process is synced in place instead of written again.
    TailSyncedInPlace,
    /// The marks of the tail of a dead process are lost when the tail is written again.
    TailWithoutMarks,
    /// Readers read bytes that are not durable yet.
    ReadersPastDurableEnd,
    /// A process that catches up looks for the segment that a dead holder left under its old name.
    LeftoverOverlooked,
    /// A wait for a lock occupies one of the disk threads.
    LocksWaitOnThreads,
    /// A lock is released while a call under it still runs, because the waiter of the call was dropped.
    LockFreedEarly,
    /// A reader ends a closed shard at the end that it read earlier.
    EndedOnStaleControl,
    /// An append is acknowledged although the shard was fenced meanwhile.
    AcknowledgedPastFence,
    /// The end of a fenced shard is read before the fence mark is written.
    EndBeforeMark,
    /// A reader does not check whether the shard is fenced.
    FenceUnseen,
    /// A fenced shard ends where its control file says, even if the manifest names a later end.
    EndedAtControl,
    /// A sink keeps its buffer when it is opened again.
    BuffersKept,
    /// A sink begins at the position of the ledger instead of at the end of its chain.
    FromOfReader,
    /// A sink ends an interval among records with one sequence number.
    AggregatesCut,
    /// A sink keeps the interval that it filled ahead of a slot which another owner took.
    RanAheadKept,
    /// A sink removes uploads whose interval begins where its chain ends.
    CleanedAtTip,
    /// A sink says that a record is finished before its files are visible.
    MarkedEarly,
    /// A sink does not look whether a file that vanished was taken away on purpose.
    LayoutUnseen,
    /// A sink does not start when a file vanished whose records the stream no longer has.
    VanishedIsFatal,
    /// A sink gives a file up without a record that says so.
    GivenUpUnrecorded,
    /// A sink takes a record whose answer was lost, and that is not there, for one that will never be.
    UnknownPutForgotten,
    /// Files are taken away before the record that says so.
    ExpiredBeforeRecord,
    /// A sink writes dead letters in their order of arrival.
    LettersAsTheyCame,
    /// The name of a file is random instead of a function of its interval.
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
    /// A reader holds back what came after a later record of its origin, and passes its place meanwhile.
    GapHeld,
    /// A child begins with the marks that its parent had before the last that is in it.
    MarksBeforeTheEnd,
    /// All of an origin in a stored record is judged by the last of it.
    OriginPerStoredRecord,
    /// The outputs of one upstream record share one item number.
    OutputIndexIgnored,
    /// A reader that is set back keeps the marks of where it was.
    MarksKeptOverRewind,
    /// Marks are stored of what was read ahead of their position.
    MarksAhead,
    /// Marks are stored of a place before their position.
    MarksBehind,
    /// A lane claims for its whole range the least of what was confirmed in the parts of it.
    LeastFrom,
    /// Each append that a lane has under way claims from what is confirmed on.
    FromConfirmed,
    /// The checkpoint with which a session began is claimed at once.
    StartAsLow,
    /// The newest progress of a session is claimed at once.
    NewestAsLow,
    /// What another shard took counts in the whole range of its lane.
    CreditBeyondShard,
    /// The lane of a child begins while something is under way to its parent.
    NewLaneBesideOld,
    /// The lane of a child begins with what was sent last.
    NewestRoutedFirst,
    /// A unit that is not a record goes to the first hash of the shard that has its origin's route.
    UnitsByLane,
    /// What was sent counts as confirmed.
    ConfirmedWhenSent,
    /// A writer does not look which shard took what it sent.
    AnsweringShardUnchecked,
    /// Each append of a put that another shard took is confirmed if that shard owns its records.
    EntriesConfirmedAlone,
    /// A put that another shard took is confirmed if that shard owns its records, wherever its units belong.
    UnitsConfirmedWithRecords,
    /// What waits for room is handed in although something of its lane failed before it.
    ParkedBehindFailure,
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

    /// Whether this thread runs with this mutant.
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

/// Always `false`.
#[cfg(not(any(test, feature = "mutants")))]
#[inline(always)]
pub const fn is(_: Mutant) -> bool {
    false
}
