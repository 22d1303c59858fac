//! Every broken variant must fall within a hundred seeds of the pipeline, or three hundred of the writers, or the
//! simulation is too weak to be believed.

use hydrant_core::mutant::Mutant;

use super::broken::Broken;
use super::machine::Outcome;
use super::world::simulate;
use super::{run, seeds, writers};

/// Seeds of the pipeline in which a mutant must fall.
const SEEDS: u64 = 100;

/// Seeds of the writers, which are shorter.
const SEEDS_OF_WRITERS: u64 = 300;

/// The mutant falls in a simulation. With `HYDRANT_SIMULATION_SEEDS` all of these seeds run and the rate is printed.
#[allow(
    clippy::print_stdout,
    reason = "the seed at which it fell, and the rate"
)]
fn falls_in(
    broken: Broken,
    default: u64,
    simulate: impl Fn(u64, Option<Broken>) -> Outcome + Sync,
) {
    let (seeds, all) = seeds(default);
    let count = seeds.end - seeds.start;
    let failed = run(seeds, all, |seed| simulate(seed, Some(broken)));
    let first = failed.first();
    let first = first.unwrap_or_else(|| panic!("{broken:?} survives {count} seeds"));
    if all {
        println!("{broken:?} falls in {} of {count} seeds", failed.len());
    }
    println!("{broken:?} falls: seed {}: {}", first.seed, first.faults[0]);
}

/// Falls in the simulation of the pipeline.
fn falls(broken: Broken) {
    falls_in(broken, SEEDS, simulate);
}

/// Falls in the simulation of several writers.
fn falls_among_writers(broken: Broken) {
    falls_in(broken, SEEDS_OF_WRITERS, writers::simulate);
}

#[test]
fn falls_marks_of_merged_shards_by_max() {
    falls(Broken::Inside(Mutant::MergedByMax));
}

#[test]
fn falls_marks_of_merged_shards_by_min() {
    falls(Broken::Inside(Mutant::MergedByMin));
}

#[test]
fn falls_children_without_inheritance() {
    falls_among_writers(Broken::Inside(Mutant::ChildrenWithoutMarks));
}

#[test]
fn falls_marks_not_stored() {
    falls_among_writers(Broken::Inside(Mutant::MarksNotStored));
}

#[test]
fn falls_an_out_of_order_append_accepted() {
    falls_among_writers(Broken::Inside(Mutant::OutOfOrderAccepted));
}

#[test]
fn falls_marks_kept_after_a_failure() {
    falls_among_writers(Broken::Inside(Mutant::MarksKeptAfterFailure));
}

#[test]
fn falls_a_dead_tail_synced_in_place() {
    falls(Broken::Inside(Mutant::TailSyncedInPlace));
}

#[test]
fn falls_readers_past_the_durable_end() {
    falls(Broken::Inside(Mutant::ReadersPastDurableEnd));
}

#[test]
fn falls_from_of_the_reader() {
    falls(Broken::Inside(Mutant::FromOfReader));
}

#[test]
fn falls_publish_before_the_commit_record() {
    falls(Broken::PublishedBeforeRecord);
}

#[test]
fn falls_ledger_before_the_output() {
    falls(Broken::LedgerBeforeOutput);
}

#[test]
fn falls_ledger_before_the_reveal() {
    falls(Broken::LedgerBeforeReveal);
}

#[test]
fn falls_rename_instead_of_link() {
    falls(Broken::RenamedRecords);
}

#[test]
fn falls_exclusive_create_instead_of_link() {
    falls(Broken::ExclusiveRecords);
}

#[test]
fn falls_no_directory_fsync() {
    falls(Broken::DirectoriesNotSynced);
}

#[test]
fn falls_no_directory_fsync_by_the_observer() {
    falls(Broken::ObserversDoNotSync);
}

#[test]
fn falls_children_before_parents() {
    falls(Broken::ChildrenBeforeParents);
}

#[test]
fn falls_buffers_kept_over_a_reopen() {
    falls(Broken::BuffersKept);
}

#[test]
fn falls_a_partition_published_alone() {
    falls(Broken::PartitionAlone);
}

#[test]
fn falls_found_records_not_finished() {
    falls(Broken::FoundUnfinished);
}

#[test]
fn falls_a_clean_up_before_the_finish() {
    falls(Broken::CleanedBeforeFinish);
}

#[test]
fn falls_a_clean_up_of_what_begins_at_the_tip() {
    falls(Broken::Inside(Mutant::CleanedAtTip));
}

#[test]
fn falls_an_origin_that_is_used_again() {
    falls_among_writers(Broken::OriginsReused);
}

#[test]
fn falls_marks_not_recomputed_after_a_torn_tail() {
    falls_among_writers(Broken::Inside(Mutant::TailWithoutMarks));
}

#[test]
fn falls_routes_that_differ_between_workers() {
    falls(Broken::RoutedByWorker);
}

#[test]
fn falls_mine_by_interval() {
    falls(Broken::MineByInterval);
}

#[test]
fn falls_letters_in_the_order_of_arrival() {
    falls(Broken::Inside(Mutant::LettersAsTheyCame));
}

#[test]
fn falls_names_that_are_drawn() {
    falls(Broken::Inside(Mutant::NamesDrawn));
}

#[test]
fn falls_a_rebuild_without_a_look() {
    falls(Broken::RebuiltWithoutLook);
}

#[test]
fn falls_a_rebuild_without_a_claim() {
    falls(Broken::RebuiltUnclaimed);
}

#[test]
fn falls_a_rebuild_by_other_rules() {
    falls(Broken::RebuiltOtherwise);
}

#[test]
fn falls_the_durable_end_before_the_sync() {
    falls_among_writers(Broken::DurableEndBeforeSync);
}

#[test]
fn falls_a_leftover_segment_overlooked() {
    falls_among_writers(Broken::Inside(Mutant::LeftoverOverlooked));
}

#[test]
fn falls_a_lock_freed_before_the_call_it_guards() {
    falls_among_writers(Broken::Inside(Mutant::LockFreedEarly));
}

#[test]
fn falls_an_end_told_on_a_stale_control_file() {
    falls_among_writers(Broken::Inside(Mutant::EndedOnStaleControl));
}

#[test]
fn falls_waits_for_locks_on_threads() {
    falls_among_writers(Broken::Inside(Mutant::LocksWaitOnThreads));
}

#[test]
fn falls_an_append_acknowledged_past_a_fence() {
    falls_among_writers(Broken::Inside(Mutant::AcknowledgedPastFence));
}

#[test]
fn falls_a_fence_that_readers_do_not_see() {
    falls_among_writers(Broken::Inside(Mutant::FenceUnseen));
}

#[test]
fn falls_a_fenced_shard_that_ends_at_its_control_file() {
    falls_among_writers(Broken::Inside(Mutant::EndedAtControl));
}
