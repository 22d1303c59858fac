//! Conditions on rows: `region = 'eu' AND temp >= 20 AND _rescued IS NOT NULL`.
//!
//! Owns their grammar: comparisons of a column with a literal, `IS NULL` and `IS NOT NULL`, joined by `AND`. A column is a
//! path with dots; double quotes stand around a name that holds other characters. What the words mean in a table is decided
//! by its schema, in [`BoundFilter`](super::condition::BoundFilter).

use std::cmp::Ordering;
use std::str::FromStr;

use serde_json::Value;

/// What `--where` takes, for its help and its errors.
pub const CONDITION_GRAMMAR: &str = "\
a condition is COLUMN = LITERAL (or !=, <, <=, >, >=), COLUMN IS NULL or COLUMN IS NOT NULL; AND joins several, and there is no \
OR, NOT, IN, LIKE, BETWEEN and no parenthesis. A literal is a text in single quotes, which also writes times and days, a \
number, true or false; a column is a path such as `a.b`, with double quotes around a name that holds other characters than \
letters, digits, `_`, `-` and `@`";

/// Chooses rows.
#[derive(Clone, Debug, PartialEq)]
pub struct RowFilter {
    pub(super) conditions: Vec<Condition>,
}

/// A text that is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a condition, {}: {why}. In short: {CONDITION_GRAMMAR}",
    at(rest)
)]
pub struct ParseFilterError {
    text: String,
    rest: String,
    why: &'static str,
}

fn at(rest: &str) -> String {
    match rest {
        "" => "at its end".to_owned(),
        rest => format!("at `{rest}`"),
    }
}

/// One of the conditions, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) text: String,
    pub(super) path: Vec<String>,
    pub(super) test: ConditionTest,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ConditionTest {
    IsNull(bool),
    /// The orders of the column and the literal that are meant, and the literal: a text, a number or a truth value.
    Compare(Vec<Ordering>, Value),
}

impl RowFilter {
    /// The condition that a column has no value, as it is written.
    pub fn is_null(column: &str) -> String {
        format!("{} IS NULL", quoted_name(column))
    }
}

/// A name as conditions write it.
pub(super) fn quoted_name(name: &str) -> String {
    let is_bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '-');
    match !name.is_empty() && name.chars().all(is_bare) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

const NO_COLUMN: &str = "here begins no name of a column";
const NO_OPERATOR: &str = "a column is followed by =, !=, <, <=, >, >=, IS NULL or IS NOT NULL";
const NO_NULL: &str = "IS is followed by NULL or NOT NULL";
const NO_LITERAL: &str =
    "an operator is followed by a text in single quotes, a number, true or false";
const NO_AND: &str = "a condition is followed by AND and another one";

impl FromStr for RowFilter {
    type Err = ParseFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text;
        let mut conditions = Vec::new();
        loop {
            let read = read_condition(&mut rest).and_then(|condition| {
                conditions.push(condition);
                let is_end = rest.trim().is_empty();
                (is_end || word(&mut rest, "AND"))
                    .then_some(is_end)
                    .ok_or(NO_AND)
            });
            match read {
                Ok(true) => return Ok(RowFilter { conditions }),
                Ok(false) => {}
                Err(why) => {
                    let (text, rest) = (text.to_owned(), rest.trim().to_owned());
                    return Err(ParseFilterError { text, rest, why });
                }
            }
        }
    }
}

/// Reads a condition, up to where it goes wrong.
fn read_condition(rest: &mut &str) -> Result<Condition, &'static str> {
    let start = rest.trim_start();
    let mut path = vec![name(rest).ok_or(NO_COLUMN)?];
    while let Some(after) = rest.strip_prefix('.') {
        *rest = after;
        path.push(name(rest).ok_or(NO_COLUMN)?);
    }
    let test = read_test(rest)?;
    let text = start[..start.len() - rest.len()].to_owned();
    Ok(Condition { text, path, test })
}

fn read_test(rest: &mut &str) -> Result<ConditionTest, &'static str> {
    if word(rest, "IS") {
        let is_null = !word(rest, "NOT");
        let is_said = word(rest, "NULL");
        return is_said
            .then_some(ConditionTest::IsNull(is_null))
            .ok_or(NO_NULL);
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
    let mut operators = operators.iter();
    let (operator, wanted) = operators
        .find(|(operator, _)| text.starts_with(operator))
        .ok_or(NO_OPERATOR)?;
    *rest = &text[operator.len()..];
    let literal = literal(rest).ok_or(NO_LITERAL)?;
    Ok(ConditionTest::Compare(wanted.to_vec(), literal))
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
    let value: Value = serde_json::from_str(&text.to_ascii_lowercase()).ok()?;
    let is_literal = value.is_number() || value.is_boolean();
    is_literal.then(|| {
        *rest = after;
        value
    })
}

fn quoted(rest: &mut &str, quote: char) -> Option<String> {
    let mut text = String::new();
    let mut unread = rest.strip_prefix(quote)?;
    loop {
        let (part, after) = unread.split_once(quote)?;
        text.push_str(part);
        match after.strip_prefix(quote) {
            Some(after) => {
                text.push(quote);
                unread = after;
            }
            None => {
                *rest = after;
                return Some(text);
            }
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
    use super::*;

    #[test]
    fn any_column_can_be_asked_for_its_nulls() {
        assert_eq!(RowFilter::is_null("tenant"), "tenant IS NULL");
        for name in [
            "tenant", "a.b", "a b", " a", "it's", "q\"", "\"q\"", "null", "ä@-_", "",
        ] {
            let filter: RowFilter = RowFilter::is_null(name).parse().unwrap();
            let condition = &filter.conditions[0];
            assert_eq!(condition.path, [name]);
            assert_eq!(condition.test, ConditionTest::IsNull(true));
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_where_it_goes_wrong() {
        for (text, rest, why) in [
            ("", "", NO_COLUMN),
            ("region", "", NO_OPERATOR),
            ("region =", "", NO_LITERAL),
            ("region = eu", "eu", NO_LITERAL),
            ("region = 'eu", "'eu", NO_LITERAL),
            ("\"region = 5", "\"region = 5", NO_COLUMN),
            ("a = 1 OR b = 2", "OR b = 2", NO_AND),
            ("a = 1 AND", "", NO_COLUMN),
            ("a. = 1", "= 1", NO_COLUMN),
            ("a = [1]", "[1]", NO_LITERAL),
            ("a = null", "null", NO_LITERAL),
            ("a IS 5", "5", NO_NULL),
            ("a IS NOT 5", "5", NO_NULL),
            ("NOT a = 1", "a = 1", NO_OPERATOR),
            ("a IN (1, 2)", "IN (1, 2)", NO_OPERATOR),
            ("a LIKE 'x%'", "LIKE 'x%'", NO_OPERATOR),
            ("(a = 1)", "(a = 1)", NO_COLUMN),
        ] {
            let error = text.parse::<RowFilter>().unwrap_err();
            assert_eq!((&*error.rest, error.why), (rest, why), "{text}");
            let message = error.to_string();
            assert!(message.contains("no OR, NOT, IN, LIKE"), "{message}");
        }
    }

    #[test]
    fn conditions_keep_their_text() {
        let filter: RowFilter = " a.\"b \"\"c\" >= 'q''' AND d IS NOT NULL".parse().unwrap();
        let texts: Vec<&str> = filter.conditions.iter().map(|it| &*it.text).collect();
        assert_eq!(texts, ["a.\"b \"\"c\" >= 'q'''", "d IS NOT NULL"]);
        assert_eq!(filter.conditions[0].path, ["a", "b \"c"]);
    }
}
