//! The conditions by which a copy takes records: on the partition key and on fields of JSON payloads.
//!
//! | text | takes records |
//! |---|---|
//! | `key=TEXT` | whose partition key is TEXT |
//! | `key^=TEXT` | whose partition key starts with TEXT |
//! | `/POINTER=VALUE` | whose payload is JSON with this value at this JSON pointer (RFC 6901): `/device/type=thermo`, `/ok=true`, `/level=3` |
//!
//! VALUE is compared as JSON where it is JSON (`3`, `true`, `"3"`), and otherwise as the text of a string; an object
//! or array matches nothing. All of several filters must match. A tombstone has no fields, so no filter on one matches it.
//! A filter on a field cannot read a payload that is not JSON: such a record is poison, see [`super::OnPoison`].

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::format::PoisonReason;

/// A condition on a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// The partition key is this text.
    Key(String),
    /// The partition key starts with this text.
    KeyPrefix(String),
    /// The payload has this value at a pointer.
    Field {
        /// The JSON pointer.
        pointer: String,
        /// The value as it was written.
        text: String,
        /// The value as JSON.
        value: Value,
    },
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || {
            format!(
                "`{text}` is not a filter: write `key=TEXT`, `key^=TEXT` or `/POINTER=VALUE` such as `/device/type=thermo`"
            )
        };
        if let Some(prefix) = text.strip_prefix("key^=") {
            return Ok(Filter::KeyPrefix(prefix.to_owned()));
        }
        let (left, right) = text.split_once('=').ok_or_else(bad)?;
        match left {
            "key" => Ok(Filter::Key(right.to_owned())),
            pointer if pointer.starts_with('/') => {
                let value =
                    serde_json::from_str(right).unwrap_or_else(|_| Value::String(right.to_owned()));
                if value.is_object() || value.is_array() {
                    return Err(bad());
                }
                let (pointer, text) = (pointer.to_owned(), right.to_owned());
                Ok(Filter::Field {
                    pointer,
                    text,
                    value,
                })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Filter::Key(key) => write!(f, "key={key}"),
            Filter::KeyPrefix(prefix) => write!(f, "key^={prefix}"),
            Filter::Field { pointer, text, .. } => write!(f, "{pointer}={text}"),
        }
    }
}

/// Why a filter on a field cannot read a payload.
const NOT_JSON: PoisonReason = "not_json";

/// Whether all filters match; the payload, of which a tombstone has none, is parsed at most once.
pub(crate) fn all_hold(
    filters: &[Filter],
    key: Option<&[u8]>,
    payload: Option<&[u8]>,
) -> Result<bool, PoisonReason> {
    #[cfg(test)]
    super::tests::panic_if_asked("fault:filter", payload.unwrap_or_default());
    let mut parsed: Option<Value> = None;
    for filter in filters {
        let holds = match filter {
            Filter::Key(wanted) => key == Some(wanted.as_bytes()),
            Filter::KeyPrefix(prefix) => key.is_some_and(|key| key.starts_with(prefix.as_bytes())),
            Filter::Field {
                pointer,
                text,
                value,
            } => {
                let json = match (parsed.take(), payload) {
                    (Some(json), _) => json,
                    (None, None) => return Ok(false),
                    (None, Some(payload)) => {
                        serde_json::from_slice(payload).map_err(|_| NOT_JSON)?
                    }
                };
                let holds = json.pointer(pointer).is_some_and(|found| {
                    found == value || found.as_str().is_some_and(|found| found == text)
                });
                parsed = Some(json);
                holds
            }
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(filter: &str, key: Option<&str>, payload: &str) -> Result<bool, PoisonReason> {
        all_hold(
            &[filter.parse().unwrap()],
            key.map(str::as_bytes),
            Some(payload.as_bytes()),
        )
    }

    #[test]
    fn conditions_hold_as_the_table_says() {
        assert_eq!(holds("key=a", Some("a"), ""), Ok(true));
        assert_eq!(holds("key=a", Some("ab"), ""), Ok(false));
        assert_eq!(holds("key=a=b", Some("a=b"), ""), Ok(true));
        assert_eq!(holds("key^=a", Some("ab"), ""), Ok(true));
        assert_eq!(holds("key^=a", None, ""), Ok(false));
        let payload = r#"{"a":{"b~":"3"},"n":3,"ok":true,"l":["x"]}"#;
        assert_eq!(holds("/a/b~0=3", None, payload), Ok(true));
        assert_eq!(holds("/a/b~0=\"3\"", None, payload), Ok(true));
        assert_eq!(holds("/n=3", None, payload), Ok(true));
        assert_eq!(holds("/n=\"3\"", None, payload), Ok(false));
        assert_eq!(holds("/ok=true", None, payload), Ok(true));
        assert_eq!(holds("/l/0=x", None, payload), Ok(true));
        assert_eq!(holds("/absent=x", None, payload), Ok(false));
        assert_eq!(holds("/n=3", None, "{torn"), Err(NOT_JSON));
        let of_tombstone = |filter: &str| all_hold(&[filter.parse().unwrap()], Some(b"k"), None);
        assert_eq!(of_tombstone("/n=3"), Ok(false));
        assert_eq!(of_tombstone("key=k"), Ok(true));
    }

    #[test]
    fn all_of_several_must_hold() {
        let filters = ["key^=d", "/n=1", "/m=2"].map(|text| text.parse().unwrap());
        let hold = |payload: &str| all_hold(&filters, Some(b"dev"), Some(payload.as_bytes()));
        assert_eq!(hold(r#"{"n":1,"m":2}"#), Ok(true));
        assert_eq!(hold(r#"{"n":1,"m":3}"#), Ok(false));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_the_forms() {
        for text in ["", "key", "a=b", "/a", "/a={}"] {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.contains("key^=TEXT"), "{error}");
        }
    }
}
