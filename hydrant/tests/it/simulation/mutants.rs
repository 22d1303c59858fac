//! Every broken variant must fall within a hundred seeds, or the simulation is too weak to be believed.

use hydrant_core::mutant::Mutant;

use super::broken::Broken;
use super::world::simulate;
use super::{run, setting};

/// Seeds in which a mutant must fall.
const SEEDS: u64 = 100;

#[allow(clippy::print_stdout, reason = "the seed at which it fell")]
fn falls(broken: Broken) {
    let seeds = match setting("HYDRANT_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let failed = run(seeds, |seed| simulate(seed, Some(broken)));
    let outcome = failed.unwrap_or_else(|| panic!("{broken:?} survives {SEEDS} seeds"));
    println!(
        "{broken:?} falls: seed {}: {}",
        outcome.seed, outcome.faults[0]
    );
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
    falls(Broken::Inside(Mutant::ChildrenWithoutMarks));
}

#[test]
fn falls_marks_not_stored() {
    falls(Broken::Inside(Mutant::MarksNotStored));
}

#[test]
fn falls_an_out_of_order_append_accepted() {
    falls(Broken::Inside(Mutant::OutOfOrderAccepted));
}

#[test]
fn falls_marks_kept_after_a_failure() {
    falls(Broken::Inside(Mutant::MarksKeptAfterFailure));
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
    falls(Broken::DurableEndBeforeSync);
}
