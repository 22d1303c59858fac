//! What the metrics of the consumer runtime and of copies count, for the process that serves them.

/// In each line the name of a metric and a sentence about it.
pub(crate) const METRICS: &str = "\
hydrant_consumer_claims Shards that this worker reads.
hydrant_consumer_records_total Records read.
hydrant_consumer_read_bytes_total Bytes read.
hydrant_consumer_lag_records Records not yet published.
hydrant_consumer_lag_seconds Age of the oldest unread data, where records cannot be counted.
hydrant_consumer_published_total Publishes, by reason.
hydrant_consumer_interruptions_total Interruptions of shard tasks, by reason.
hydrant_consumer_dead_letters_total Records that a copy could not write, by reason.
";
