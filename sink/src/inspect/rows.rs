//! The rows of a table, as JSON.

use bytes::Bytes;
use hydrant_core::Result;
use hydrant_core::lake::SharedLake;
use serde_json::{Map, Value};

use super::condition::BoundFilter;
use super::damaged;
use super::filter::RowFilter;
use crate::encode::{EncodeError, each_row};
use crate::lake::TableNames;
use crate::schema::{PartitionColumn, PartitionKind, registry};
use crate::table::partition_path::{columns_of, is_default};
use crate::verify;

/// The ending of data files.
const PARQUET: &str = ".parquet";

/// What was read of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsRead {
    /// The rows that were given.
    pub rows: u64,
    /// Whether rows were left unread, because as many as were wanted had been given.
    pub is_cut: bool,
}

/// Gives up to `most` rows that `filter` chooses to `take`, with the columns of their directory: those of the newest
/// partition first, and those without a value for it last.
///
/// # Errors
/// Those of the lake and of `take`; refused when the filter does not fit the table; fatal when a file is not Parquet.
pub async fn rows(
    lake: &SharedLake,
    names: &TableNames,
    filter: Option<&RowFilter>,
    most: u64,
    take: &mut (dyn FnMut(&str) -> Result<()> + Send),
) -> Result<RowsRead> {
    let schema = match filter {
        Some(_) => verify::schema(lake, names).await?,
        None => registry::newest(lake, names).await?.unwrap_or_default(),
    };
    let bind = |filter| BoundFilter::bind(filter, &schema);
    let filter = filter.map(bind).transpose()?;
    let filter = filter.as_ref();
    let prefix = names.data();
    let mut keys = Vec::new();
    let mut seen = |object: hydrant_core::lake::Object| {
        if object.key.ends_with(PARQUET) {
            keys.push(object.key);
        }
    };
    lake.visit(&prefix, &mut seen).await?;
    keys.sort_by_cached_key(|key| {
        let parts = key[prefix.len()..].split('/');
        let values = parts.map(|part| (!is_default(part)).then(|| part.to_owned()));
        values.collect::<Vec<_>>()
    });
    let mut read = RowsRead::default();
    for key in keys.iter().rev() {
        let columns = typed(columns_of(&key[prefix.len()..]), &schema.partition_columns);
        let known = Value::Object(columns);
        if filter.is_some_and(|filter| !filter.may_choose(&known)) {
            continue;
        }
        let Some(body) = lake.get(key).await? else {
            continue;
        };
        let ended = rows_of(body, &known, filter, most, &mut read, take)?;
        ended.map_err(|error| damaged(lake, names, key, &error))?;
        if read.is_cut {
            break;
        }
    }
    Ok(read)
}

/// The columns of a directory with the types of the schema; a DATE is a text in JSON.
fn typed(mut columns: Map<String, Value>, partition: &[PartitionColumn]) -> Map<String, Value> {
    for column in partition {
        let Some(value) = columns.get_mut(&column.name) else {
            continue;
        };
        let text = value.as_str().unwrap_or_default();
        let typed = match column.kind {
            PartitionKind::Bigint => text.parse::<i64>().ok().map(Value::from),
            PartitionKind::Boolean => text.parse::<bool>().ok().map(Value::from),
            PartitionKind::Date | PartitionKind::Varchar | PartitionKind::Undecided => None,
        };
        if let Some(typed) = typed {
            *value = typed;
        }
    }
    columns
}

fn rows_of(
    body: Bytes,
    known: &Value,
    filter: Option<&BoundFilter>,
    most: u64,
    read: &mut RowsRead,
    take: &mut (dyn FnMut(&str) -> Result<()> + Send),
) -> Result<Result<(), EncodeError>> {
    let mut failed = None;
    let mut columns = serde_json::to_string(known).expect("an object of texts is JSON");
    columns.remove(0);
    let ended = each_row(body, &mut |row| {
        read.is_cut = read.rows >= most;
        if read.is_cut {
            return false;
        }
        let mut line = String::from_utf8_lossy(row).into_owned();
        if columns.len() > 1 {
            line.pop();
            if line.len() > 1 {
                line.push(',');
            }
            line.push_str(&columns);
        }
        let is_chosen = filter.is_none_or(|filter| {
            serde_json::from_str(&line).is_ok_and(|row: Value| filter.chooses(&row))
        });
        if is_chosen {
            match take(&line) {
                Ok(()) => read.rows += 1,
                Err(error) => failed = Some(error),
            }
        }
        failed.is_none()
    });
    failed.map_or(Ok(ended), Err)
}
