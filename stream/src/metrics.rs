//! What the metrics of streams count, for the process that serves them.

/// In each line the name of a metric and a sentence about it.
pub const METRICS: &str = "\
hydrant_local_append_bytes_total Bytes appended.
hydrant_local_append_records_total Records appended.
hydrant_local_append_duplicates_total Repeated records that an append left out.
hydrant_local_syncs_total Syncs of appends.
hydrant_local_sync_seconds Seconds per sync.
hydrant_local_group_appends Appends per sync.
hydrant_local_recoveries_total Tails of dead writers recovered.
hydrant_local_fences_total Shards closed because their lock holder had stopped.
hydrant_local_origins Origins that a shard tracks.
hydrant_local_queued_bytes Bytes waiting to be appended.
hydrant_local_read_bytes_total Bytes read.
hydrant_local_read_records_total Records read.
hydrant_local_gaps_total Gaps found by readers.
hydrant_local_read_lag_offsets Offsets between reader and durable end.
hydrant_lanes_appends_total Appends sent.
hydrant_lanes_duplicate_records_total Records that the output already had.
hydrant_lanes_retries_total Appends sent again, by reason.
hydrant_lanes_reroutes_total Changes of the output's shard map.
hydrant_lanes_headers_dropped_total Records sent without their headers.
hydrant_lanes_dead_letters_total Records that the output cannot hold, by reason.
";
