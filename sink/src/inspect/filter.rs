//! Conditions on rows: `region = 'eu' AND temp >= 20 AND _rescued IS NOT NULL`.
//!
//! Owns their grammar: comparisons of a column with a literal, `IS NULL` and `IS NOT NULL`, joined by `AND`. A column is a
//! path with dots; double quotes stand around a name that holds other characters. As in SQL, a comparison with null is
//! not true. A number and a text compare as numbers if the text is one, else as texts.

use std::cmp::Ordering;
use std::str::FromStr;

use serde_json::Value;

/// Chooses rows.
#[derive(Clone, Debug, PartialEq)]
pub struct RowFilter {
    conditions: Vec<Condition>,
}

/// A condition that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a condition, at `{rest}`: write for example `region = 'eu' AND temp >= 20`, `a.b IS NOT NULL` or \
     `\"a b\" != true`"
)]
pub struct ParseFilterError {
    text: String,
    rest: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    path: Vec<String>,
    test: ConditionTest,
}

#[derive(Clone, Debug, PartialEq)]
enum ConditionTest {
    IsNull(bool),
    Compare(Vec<Ordering>, Value),
}

impl RowFilter {
    /// The condition that a column has no value, as it is written.
    pub fn is_null(column: &str) -> String {
        let mut rest = column;
        match name(&mut rest) {
            Some(_) if rest.is_empty() && !column.starts_with(['"', ' ']) => {
                format!("{column} IS NULL")
            }
            _ => format!("\"{}\" IS NULL", column.replace('"', "\"\"")),
        }
    }

    /// Whether the row has what the conditions ask for.
    pub fn chooses(&self, row: &Value) -> bool {
        self.conditions.iter().all(|condition| condition.holds(row))
    }

    /// Whether rows may be chosen of which this much is known: the columns that `known` has.
    pub(super) fn may_choose(&self, known: &Value) -> bool {
        let is_known = |condition: &&Condition| known.get(&condition.path[0]).is_some();
        let mut conditions = self.conditions.iter().filter(is_known);
        conditions.all(|condition| condition.holds(known))
    }
}

impl Condition {
    fn holds(&self, row: &Value) -> bool {
        let mut value = Some(row);
        for name in &self.path {
            value = value.and_then(|value| value.get(name));
        }
        let value = value.filter(|value| !value.is_null());
        match (&self.test, value) {
            (ConditionTest::IsNull(wanted), value) => value.is_none() == *wanted,
            (ConditionTest::Compare(..), None) => false,
            (ConditionTest::Compare(wanted, literal), Some(value)) => {
                compare(value, literal).is_some_and(|order| wanted.contains(&order))
            }
        }
    }
}

fn compare(value: &Value, literal: &Value) -> Option<Ordering> {
    if let (Some(value), Some(literal)) = (value.as_i64(), literal.as_i64()) {
        return Some(value.cmp(&literal));
    }
    let number = |value: &Value| match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    };
    match (value, literal) {
        (Value::Bool(value), Value::Bool(literal)) => Some(value.cmp(literal)),
        (Value::String(value), Value::String(literal)) => Some(value.cmp(literal)),
        _ => match (number(value), number(literal)) {
            (Some(value), Some(literal)) => f64::partial_cmp(&value, &literal),
            _ => Some(text_of(value).cmp(&text_of(literal))),
        },
    }
}

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

impl FromStr for RowFilter {
    type Err = ParseFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text;
        let mut conditions = Vec::new();
        loop {
            let before = rest;
            let Some(condition) = read_condition(&mut rest) else {
                return Err(ParseFilterError {
                    text: text.to_owned(),
                    rest: before.trim().to_owned(),
                });
            };
            conditions.push(condition);
            if rest.trim().is_empty() {
                return Ok(RowFilter { conditions });
            }
            if !word(&mut rest, "AND") {
                return Err(ParseFilterError {
                    text: text.to_owned(),
                    rest: rest.trim().to_owned(),
                });
            }
        }
    }
}

fn read_condition(rest: &mut &str) -> Option<Condition> {
    let mut path = vec![name(rest)?];
    while let Some(after) = rest.strip_prefix('.') {
        *rest = after;
        path.push(name(rest)?);
    }
    if word(rest, "IS") {
        let is_null = !word(rest, "NOT");
        let test = ConditionTest::IsNull(is_null);
        return word(rest, "NULL").then_some(Condition { path, test });
    }
    use Ordering::{Equal, Greater, Less};
    let operators: [(&str, &[Ordering]); 8] = [
        ("<=", &[Less, Equal]),
        (">=", &[Greater, Equal]),
        ("!=", &[Less, Greater]),
        ("<>", &[Less, Greater]),
        ("==", &[Equal]),
        ("=", &[Equal]),
        ("<", &[Less]),
        (">", &[Greater]),
    ];
    let text = rest.trim_start();
    let (operator, wanted) = operators
        .iter()
        .find(|(operator, _)| text.starts_with(operator))?;
    *rest = &text[operator.len()..];
    let literal = literal(rest)?;
    let test = ConditionTest::Compare(wanted.to_vec(), literal);
    Some(Condition { path, test })
}

/// A name: bare, or in double quotes, which stand twice in it.
fn name(rest: &mut &str) -> Option<String> {
    *rest = rest.trim_start();
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '@' | '-'));
    let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = after;
    (!name.is_empty()).then(|| name.to_owned())
}

fn literal(rest: &mut &str) -> Option<Value> {
    *rest = rest.trim_start();
    if rest.starts_with('\'') {
        return quoted(rest, '\'').map(Value::String);
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (text, after) = rest.split_at(end);
    *rest = after;
    let value: Value = serde_json::from_str(text).ok()?;
    (value.is_number() || value.is_boolean()).then_some(value)
}

fn quoted(rest: &mut &str, quote: char) -> Option<String> {
    let mut text = String::new();
    *rest = rest.strip_prefix(quote)?;
    loop {
        let (part, after) = rest.split_once(quote)?;
        text.push_str(part);
        *rest = after;
        match rest.strip_prefix(quote) {
            Some(after) => {
                text.push(quote);
                *rest = after;
            }
            None => return Some(text),
        }
    }
}

/// Takes a word, in any case.
fn word(rest: &mut &str, wanted: &str) -> bool {
    let text = rest.trim_start();
    let end = text
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let found = text[..end].eq_ignore_ascii_case(wanted);
    if found {
        *rest = &text[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_choose_rows_as_sql_does() {
        let row = json!({"region":"eu","temp":20.5,"n":9007199254740993_i64,"ok":true,"hour":"07",
                         "o":{"x":1,"y z":"q'"},"date":"2026-01-31","gone":null});
        for (condition, chooses) in [
            ("region = 'eu'", true),
            ("region='us'", false),
            ("temp >= 20.5 and temp < 21", true),
            ("temp > 20.5", false),
            ("n = 9007199254740993", true),
            ("n != 9007199254740992", true),
            ("ok = true AND ok <> false", true),
            ("hour = 7", true),
            ("hour = '07'", true),
            ("o.x == 1 AND o.\"y z\" = 'q'''", true),
            ("date >= '2026-01-01' AND date < '2026-02-01'", true),
            ("gone IS NULL and region is not null", true),
            ("missing IS NULL", true),
            ("missing != 1", false),
            ("gone = 1", false),
            ("o.missing.deeper IS NOT NULL", false),
            ("region > 5", true),
        ] {
            let filter: RowFilter = condition.parse().unwrap();
            assert_eq!(filter.chooses(&row), chooses, "{condition}");
        }
    }

    #[test]
    fn any_column_can_be_asked_for_its_nulls() {
        assert_eq!(RowFilter::is_null("tenant"), "tenant IS NULL");
        for name in [
            "tenant", "a.b", "a b", " a", "it's", "q\"", "\"q\"", "null", "ä@-_", "",
        ] {
            let filter: RowFilter = RowFilter::is_null(name).parse().unwrap();
            assert!(filter.chooses(&json!({ name: null })), "{name}");
            assert!(!filter.chooses(&json!({ name: 1 })), "{name}");
        }
    }

    #[test]
    fn files_are_left_out_by_what_is_known_of_their_rows() {
        let filter: RowFilter = "date = '2026-01-31' AND temp > 1".parse().unwrap();
        assert!(filter.may_choose(&json!({"date":"2026-01-31"})));
        assert!(!filter.may_choose(&json!({"date":"2026-01-30"})));
        assert!(!filter.may_choose(&json!({"date":null})));
        assert!(filter.may_choose(&json!({})));
    }

    #[test]
    fn what_is_no_condition_is_refused_where_it_goes_wrong() {
        for (text, rest) in [
            ("", ""),
            ("region", "region"),
            ("region =", "region ="),
            ("region = eu", "region = eu"),
            ("region = 'eu", "region = 'eu"),
            ("a = 1 OR b = 2", "OR b = 2"),
            ("a = 1 AND", ""),
            ("a = [1]", "a = [1]"),
            ("a IS 5", "a IS 5"),
        ] {
            let error = text.parse::<RowFilter>().unwrap_err();
            assert_eq!(error.rest, rest, "{text}");
        }
    }
}
