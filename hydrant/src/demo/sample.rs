//! Some records before and after stripping: the raw stream beside the rows of the lake.

use hydrant_core::stream::Read;
use hydrant_core::{Context, Position, Result};
use hydrant_sink::lake::{TableNames, open_read};
use hydrant_sink::verify;
use serde::Serialize;
use serde_json::Value;

use super::place::Place;

/// How many are shown.
const SAMPLES: usize = 3;
/// Rows of the lake among which they are looked for.
const ROWS: usize = 2_000;

/// A record of the raw stream and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    /// As it was sent.
    pub(crate) before: String,
    /// As it lies in the lake; columns that the record has not are left out.
    pub(crate) after: String,
}

/// Finds records that were changed on their way.
pub(crate) async fn collect(place: &Place, table: &str, context: &Context) -> Result<Vec<Sample>> {
    let lake = open_read(&place.lake_url(), context).await?;
    let rows = verify::head(&lake, &TableNames::try_new(table)?, ROWS).await?;
    let rows: Vec<Value> = rows
        .iter()
        .filter_map(|row| serde_json::from_str(row).ok())
        .collect();
    let row_of = |index: &Value| rows.iter().find(|row| row.get("index") == Some(index));

    let stream = hydrant_stream::open(&place.raw_url(), context).await?;
    let mut samples: Vec<Sample> = Vec::new();
    for shard in stream.shards().await?.all() {
        let mut reader = stream.reader(&shard.id, &context.budget).await?;
        reader.open(Position::Begin).await?;
        let Read::Batch(batch) = reader.next().await? else {
            continue;
        };
        for entry in &batch.records {
            let Ok(sent) = serde_json::from_slice::<Value>(batch.payload(entry)) else {
                continue;
            };
            let Some(row) = sent.get("index").and_then(row_of) else {
                continue;
            };
            let after = as_sent(&sent, row);
            // One of each kind: kinds differ in what they call themselves.
            let kind = sent.get("kind").cloned();
            let shown = samples.iter().any(|sample| {
                serde_json::from_str::<Value>(&sample.before)
                    .ok()
                    .and_then(|v| v.get("kind").cloned())
                    == kind
            });
            if after != sent && !shown {
                samples.push(Sample {
                    before: sent.to_string(),
                    after: after.to_string(),
                });
            }
            if samples.len() == SAMPLES {
                return Ok(samples);
            }
        }
    }
    Ok(samples)
}

/// The row with the fields that the record has, in its order.
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
