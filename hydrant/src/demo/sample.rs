//! Samples of records before and after stripping: compares the raw stream with the rows of the lake.

use std::collections::{HashMap, HashSet};

use hydrant_core::stream::{OpenAt, Read};
use hydrant_core::{Context, Position, Result};
use hydrant_sink::inspect;
use hydrant_sink::lake::{Lakes, TableNames};
use hydrant_stream::Streams;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::directory::DemoDir;

/// The number of samples.
const SAMPLES: usize = 3;
/// Rows of the lake that are searched.
const ROWS: u64 = 2_000;
/// Records of each raw shard that are searched: enough for a long demo, and a bound for an endless one.
const RECORDS: usize = 2_000_000;

/// A record of the raw stream and its row.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    /// The record as it was sent.
    pub(crate) before: String,
    /// The row in the lake, without columns that the record does not have.
    pub(crate) after: String,
}

/// The number by which a record's row is found.
#[derive(Deserialize)]
struct Numbered {
    index: u64,
}

/// Finds records of several kinds of devices that the transform changed.
pub(crate) async fn collect(
    place: &DemoDir,
    table: &str,
    context: &Context,
) -> Result<Vec<Sample>> {
    let lake = Lakes::default()
        .open_read(&place.lake_url(), context)
        .await?;
    let mut rows: HashMap<u64, Value> = HashMap::new();
    let mut take = |row: &str| {
        if let Ok(Value::Object(mut row)) = serde_json::from_str(row)
            && let Some(index) = row.get("index").and_then(Value::as_u64)
        {
            // That is where the row lies, not what it is.
            row.remove("date");
            rows.insert(index, Value::Object(row));
        }
        Ok(())
    };
    inspect::rows(&lake, &TableNames::try_new(table)?, None, ROWS, &mut take).await?;
    let mut samples = Vec::new();
    let mut shapes = HashSet::new();
    let stream = Streams::default().open(&place.raw_url(), context).await?;
    for shard in stream.shards().await?.all() {
        let at = OpenAt::after(Position::Begin);
        let mut reader = stream.reader(&shard.id, at, &context.budget).await?;
        let mut seen = 0;
        while seen < RECORDS
            && let Read::Batch(batch) = reader.next().await?
        {
            seen += batch.len();
            for entry in &batch.records {
                if let Some((shape, sample)) = changed(batch.payload(entry), &rows)
                    && shapes.insert(shape)
                {
                    samples.push(sample);
                    if samples.len() == SAMPLES {
                        return Ok(samples);
                    }
                }
            }
        }
    }
    Ok(samples)
}

/// The record with its row, if the two differ, and the names of its fields, which distinguish the kinds of devices.
fn changed(payload: &[u8], rows: &HashMap<u64, Value>) -> Option<(Vec<String>, Sample)> {
    let Numbered { index } = serde_json::from_slice(payload).ok()?;
    let row = rows.get(&index)?;
    let sent: Value = serde_json::from_slice(payload).ok()?;
    let after = as_sent(&sent, row);
    if after == sent {
        return None;
    }
    let shape = sent.as_object()?.keys().cloned().collect();
    Some((
        shape,
        Sample {
            before: sent.to_string(),
            after: after.to_string(),
        },
    ))
}

/// The row with only the fields that the record has, in the order of the row.
fn as_sent(sent: &Value, row: &Value) -> Value {
    match (sent, row) {
        (Value::Object(sent), Value::Object(row)) => Value::Object(
            row.iter()
                .filter(|(name, value)| sent.contains_key(*name) || !is_empty(value))
                .map(|(name, value)| {
                    let value = sent
                        .get(name)
                        .map_or_else(|| value.clone(), |s| as_sent(s, value));
                    (name.clone(), value)
                })
                .collect(),
        ),
        _ => row.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}
