//! Each broken variant must be killed within a hundred seeds of the pipeline, or three hundred of the writers;
//! otherwise the simulation is too weak.

use hydrant_core::mutant::Mutant;

use super::broken::BrokenVariant;
use super::machine::Outcome;
use super::world::{simulate, simulate_over_service};
use super::{run, seeds, writers};

/// Seeds of the pipeline within which a mutant must be killed.
const SEEDS: u64 = 100;

/// Seeds of the writers, whose runs are shorter.
const SEEDS_OF_WRITERS: u64 = 300;

/// Checks that a simulation kills the mutant. With `HYDRANT_SIMULATION_SEEDS` all of these seeds run and the rate is
/// printed.
#[allow(clippy::print_stdout, reason = "the seed that killed it, and the rate")]
fn killed_in(
    broken: BrokenVariant,
    default: u64,
    simulate: impl Fn(u64, Option<BrokenVariant>) -> Outcome + Sync,
) {
    let (seeds, all) = seeds(default);
    let count = seeds.end - seeds.start;
    let failed = run(seeds, all, |seed| simulate(seed, Some(broken)));
    let first = failed.first();
    let first = first.unwrap_or_else(|| panic!("{broken:?} survives {count} seeds"));
    if all {
        println!("{broken:?} is killed in {} of {count} seeds", failed.len());
    }
    println!(
        "{broken:?} is killed by seed {}: {}",
        first.seed, first.faults[0]
    );
}

/// Checks that the simulation of the pipeline kills the mutant.
fn killed(broken: BrokenVariant) {
    killed_in(broken, SEEDS, simulate);
}

/// Checks that the simulation of several writers kills the mutant.
fn killed_among_writers(broken: BrokenVariant) {
    killed_in(broken, SEEDS_OF_WRITERS, writers::simulate);
}

/// Checks that the simulation over streams whose readers deduplicate kills the mutant.
fn killed_over_a_service(broken: BrokenVariant) {
    killed_in(broken, SEEDS, simulate_over_service);
}

#[test]
fn kills_marks_of_merged_shards_by_max() {
    killed(BrokenVariant::Inside(Mutant::MergedByMax));
}

#[test]
fn kills_marks_of_merged_shards_by_min() {
    killed(BrokenVariant::Inside(Mutant::MergedByMin));
}

#[test]
fn kills_children_without_inheritance() {
    killed_among_writers(BrokenVariant::Inside(Mutant::ChildrenWithoutMarks));
}

#[test]
fn kills_marks_not_stored() {
    killed_among_writers(BrokenVariant::Inside(Mutant::MarksNotStored));
}

#[test]
fn kills_an_out_of_order_append_accepted() {
    killed_among_writers(BrokenVariant::Inside(Mutant::OutOfOrderAccepted));
}

#[test]
fn kills_marks_kept_after_a_failure() {
    killed_among_writers(BrokenVariant::Inside(Mutant::MarksKeptAfterFailure));
}

#[test]
fn kills_a_dead_tail_synced_in_place() {
    killed(BrokenVariant::Inside(Mutant::TailSyncedInPlace));
}

#[test]
fn kills_readers_past_the_durable_end() {
    killed(BrokenVariant::Inside(Mutant::ReadersPastDurableEnd));
}

#[test]
fn kills_from_of_the_reader() {
    killed(BrokenVariant::Inside(Mutant::FromOfReader));
}

#[test]
fn kills_publish_before_the_commit_record() {
    killed(BrokenVariant::PublishedBeforeRecord);
}

#[test]
fn kills_ledger_before_the_output() {
    killed(BrokenVariant::LedgerBeforeOutput);
}

#[test]
fn kills_ledger_before_the_reveal() {
    killed(BrokenVariant::LedgerBeforeReveal);
}

#[test]
fn kills_rename_instead_of_link() {
    killed(BrokenVariant::RenamedRecords);
}

#[test]
fn kills_exclusive_create_instead_of_link() {
    killed(BrokenVariant::ExclusiveRecords);
}

#[test]
fn kills_no_directory_fsync() {
    killed(BrokenVariant::DirectoriesNotSynced);
}

#[test]
fn kills_no_directory_fsync_by_the_observer() {
    killed(BrokenVariant::ObserversDoNotSync);
}

#[test]
fn kills_children_before_parents() {
    killed(BrokenVariant::ChildrenBeforeParents);
}

#[test]
fn kills_buffers_kept_over_a_reopen() {
    killed(BrokenVariant::BuffersKept);
}

#[test]
fn kills_a_partition_published_alone() {
    killed(BrokenVariant::PartitionAlone);
}

#[test]
fn kills_found_records_not_finished() {
    killed(BrokenVariant::FoundUnfinished);
}

#[test]
fn kills_a_clean_up_before_the_finish() {
    killed(BrokenVariant::CleanedBeforeFinish);
}

#[test]
fn kills_a_clean_up_of_what_begins_at_the_tip() {
    killed(BrokenVariant::Inside(Mutant::CleanedAtTip));
}

#[test]
fn kills_an_origin_that_is_used_again() {
    killed_among_writers(BrokenVariant::OriginsReused);
}

#[test]
fn kills_marks_not_recomputed_after_a_torn_tail() {
    killed_among_writers(BrokenVariant::Inside(Mutant::TailWithoutMarks));
}

#[test]
fn kills_routes_that_differ_between_workers() {
    killed(BrokenVariant::RoutedByWorker);
}

#[test]
fn kills_mine_by_interval() {
    killed(BrokenVariant::MineByInterval);
}

#[test]
fn kills_aggregates_that_are_cut() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::AggregatesCut));
}

#[test]
fn kills_names_that_are_drawn() {
    killed(BrokenVariant::Inside(Mutant::NamesDrawn));
}

#[test]
fn kills_a_mark_before_the_reveal() {
    killed(BrokenVariant::Inside(Mutant::MarkedEarly));
}

#[test]
fn kills_a_rebuild_of_what_was_taken_away() {
    killed(BrokenVariant::Inside(Mutant::LayoutUnseen));
}

#[test]
fn kills_an_expiry_that_removes_before_its_record() {
    killed(BrokenVariant::Inside(Mutant::ExpiredBeforeRecord));
}

#[test]
fn kills_a_rebuild_without_a_look() {
    killed(BrokenVariant::RebuiltWithoutLook);
}

#[test]
fn kills_a_rebuild_without_a_claim() {
    killed(BrokenVariant::RebuiltUnclaimed);
}

#[test]
fn kills_the_durable_end_before_the_sync() {
    killed_among_writers(BrokenVariant::DurableEndBeforeSync);
}

#[test]
fn kills_a_leftover_segment_overlooked() {
    killed_among_writers(BrokenVariant::Inside(Mutant::LeftoverOverlooked));
}

#[test]
fn kills_a_lock_freed_before_the_call_it_guards() {
    killed_among_writers(BrokenVariant::Inside(Mutant::LockFreedEarly));
}

#[test]
fn kills_an_end_read_from_a_stale_control_file() {
    killed_among_writers(BrokenVariant::Inside(Mutant::EndedOnStaleControl));
}

#[test]
fn kills_waits_for_locks_on_threads() {
    killed_among_writers(BrokenVariant::Inside(Mutant::LocksWaitOnThreads));
}

#[test]
fn kills_an_append_acknowledged_past_a_fence() {
    killed_among_writers(BrokenVariant::Inside(Mutant::AcknowledgedPastFence));
}

#[test]
fn kills_a_fence_that_readers_do_not_see() {
    killed_among_writers(BrokenVariant::Inside(Mutant::FenceUnseen));
}

#[test]
fn kills_a_fenced_shard_that_ends_at_its_control_file() {
    killed_among_writers(BrokenVariant::Inside(Mutant::EndedAtControl));
}

#[test]
fn kills_over_a_service_filtered_records_that_move_marks() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::FilteredMoveMarks));
}

#[test]
fn kills_over_a_service_readers_that_do_not_filter_by_range() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::RangeNotFiltered));
}

#[test]
fn kills_over_a_service_claims_for_whole_segments() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::ClaimOfWholeSegments));
}

#[test]
fn kills_over_a_service_a_bare_high_water_mark() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::HighWaterMark));
}

#[test]
fn kills_over_a_service_one_origin_a_stored_record() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::OriginPerStoredRecord));
}

#[test]
fn kills_over_a_service_units_known_by_any_segment_of_their_lane() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::UnitKnownByAnySegment));
}

#[test]
fn kills_over_a_service_units_known_by_all_segments_of_their_lane() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::UnitKnownByAllSegments));
}

#[test]
fn kills_over_a_service_units_known_by_the_first_segment_of_their_lane() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::UnitKnownByFirstSegment));
}

#[test]
fn kills_over_a_service_marks_of_merged_readers_by_max() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::MergedByMax));
}

#[test]
fn kills_over_a_service_marks_of_merged_readers_by_min() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::MergedByMin));
}

#[test]
fn kills_over_a_service_child_readers_without_marks() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::ChildrenWithoutMarks));
}

#[test]
fn kills_over_a_service_marks_of_readers_not_stored() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::MarksNotStored));
}

#[test]
fn kills_over_a_service_marks_behind_their_position() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::MarksBehind));
}

#[test]
fn kills_over_a_service_an_answering_shard_that_is_not_checked() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::AnsweringShardUnchecked));
}

#[test]
fn kills_over_a_service_records_sent_raw() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::RecordsSentRaw));
}

#[test]
fn kills_over_a_service_what_is_queued_behind_a_failure_sent() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::QueuedBehindFailure));
}

#[test]
fn kills_over_a_service_several_unconfirmed_puts_in_a_lane() {
    killed_over_a_service(BrokenVariant::Inside(Mutant::SeveralUnconfirmed));
}
