//! What every [`Stream`](hydrant_core::stream::Stream) promises.
//!
//! [`conforms`] panics where an implementation does not keep it. A [`Harness`] makes streams and says which promises
//! the system behind them does not make at all: those checks are left out, everything else runs unchanged. Nothing
//! sleeps; a reader that never answers is found out after [`PATIENCE`], which under paused time passes at once.

mod append;
mod columns;
mod dedup;
mod read;
mod reshard;
mod scenario;

use std::time::Duration;

use async_trait::async_trait;

use hydrant_core::stream::SharedStream;

/// How long a reader may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where a stream drops copies of what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropsCopies {
    /// Where they are appended: what is stored is stored once.
    AtAppend,
    /// Where they are read: appends are stored as they come.
    AtReader,
    /// Nowhere: the order of appends is kept by other means.
    Nowhere,
}

/// Makes streams.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new, empty stream with this many shards.
    async fn create(&self, shards: u32) -> SharedStream;

    /// The stream as another process sees it that starts after this one died: what was acknowledged is in it.
    async fn reopen(&self, stream: SharedStream) -> SharedStream;

    /// Where copies are dropped.
    fn drops_copies(&self) -> DropsCopies {
        DropsCopies::AtAppend
    }

    /// Whether the stream knows its last position, and a position for a start.
    fn has_tips(&self) -> bool {
        true
    }

    /// Whether a record keeps the time at which its producer made it.
    fn keeps_stamps(&self) -> bool {
        true
    }

    /// Whether records without partition key stay without.
    fn keeps_keyless(&self) -> bool {
        true
    }
}

/// Tries everything.
pub async fn conforms(harness: &dyn Harness) {
    read::records_come_back_in_order_as_they_were_sent(harness).await;
    read::reading_resumes_after_any_position(harness).await;
    read::a_place_is_behind_until_everything_is_read(harness).await;
    read::idle_is_told_once_a_tip_and_then_waits(harness).await;
    read::a_dropped_call_has_read_nothing(harness).await;
    read::unread_bytes_stay_within_the_budget(harness).await;
    read::start_positions_are_where_they_say(harness).await;
    append::what_was_acknowledged_survives_its_process(harness).await;
    append::writers_side_by_side_lose_and_reorder_nothing(harness).await;
    append::routes_and_origins_travel_with_records(harness).await;
    columns::headers_and_tombstones_come_back(harness).await;
    let drops_copies = harness.drops_copies();
    if drops_copies == DropsCopies::AtAppend {
        append::an_append_is_stored_once(harness).await;
        append::an_append_after_its_mark_is_refused(harness).await;
        append::a_low_mark_stands_for_what_was_confirmed(harness).await;
        append::an_append_from_before_its_origins_start_is_refused(harness).await;
    }
    if drops_copies == DropsCopies::AtReader {
        dedup::what_is_stored_twice_is_read_once(harness).await;
        dedup::what_comes_late_is_read_when_it_comes(harness).await;
        dedup::outputs_of_one_record_are_told_apart(harness).await;
        dedup::a_low_mark_is_known_to_readers(harness).await;
        dedup::marks_are_restored_at_every_place(harness).await;
        dedup::a_place_that_was_set_back_has_no_marks(harness).await;
        dedup::a_claim_holds_in_its_range_only(harness).await;
    }
    if drops_copies != DropsCopies::Nowhere {
        append::accounts_count_each_unit_once(harness).await;
    }
    let admin = harness.create(1).await.admin();
    if admin.retention.is_some() {
        reshard::what_is_trimmed_is_told_as_a_gap(harness).await;
        reshard::idle_is_said_again_behind_a_gap(harness).await;
    }
    if admin.reshard.is_some() {
        reshard::a_split_ends_the_parent_and_opens_two_children(harness).await;
        reshard::a_merge_ends_both_parents_and_opens_one_child(harness).await;
        if drops_copies == DropsCopies::AtReader {
            dedup::children_know_what_the_readers_of_their_parents_knew(harness).await;
            dedup::what_another_shard_took_is_read_once(harness).await;
            dedup::nothing_is_taken_behind_what_failed(harness).await;
        }
        if drops_copies == DropsCopies::AtAppend {
            reshard::children_know_what_their_parents_knew(harness).await;
            reshard::children_know_where_origins_began(harness).await;
        }
    }
}
