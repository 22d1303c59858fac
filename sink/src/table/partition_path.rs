//! The columns that a file has by its place: `date=2026-01-31/region=eu/x.parquet`.

use serde_json::{Map, Value};

use crate::table::path_text::DEFAULT_PARTITION;

/// The columns of the path of a file below its table, as texts; null for the default partition.
pub(crate) fn columns_of(path: &str) -> Map<String, Value> {
    let parts = path.split('/');
    let parts = parts.filter_map(|part| part.split_once('='));
    let columns = parts.map(|(name, value)| {
        let value = match value {
            DEFAULT_PARTITION => Value::Null,
            value => Value::String(decoded(value)),
        };
        (decoded(name), value)
    });
    columns.collect()
}

/// Whether a component of a path is that of rows without a value.
pub(crate) fn is_default(part: &str) -> bool {
    part.split_once('=')
        .is_some_and(|(_, value)| value == DEFAULT_PARTITION)
}

/// A text without percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let hex = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let columns = columns_of(
            "date=2026-01-31/a%20b=M%C3%BCnchen%2F%25/hour=__HIVE_DEFAULT_PARTITION__/x%.parquet",
        );
        let wanted = json!({"date":"2026-01-31","a b":"München/%","hour":null});
        assert_eq!(Value::Object(columns), wanted);
        assert!(columns_of("x.parquet").is_empty());
    }
}
