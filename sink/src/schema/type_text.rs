//! The types of columns as text: how messages write them and how a configuration file does.

use std::fmt;
use std::str::FromStr;

use super::types::{Column, ColumnType, EpochUnit};

/// The words for the units of numbers in a TIMESTAMP column.
const EPOCH_UNITS: [(&str, EpochUnit); 4] = [
    ("s", EpochUnit::Seconds),
    ("ms", EpochUnit::Millis),
    ("us", EpochUnit::Micros),
    ("ns", EpochUnit::Nanos),
];

impl fmt::Display for ColumnType {
    /// Writes the type as DuckDB does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision},{scale})"),
            Self::Struct(fields) => {
                let fields = fields.iter().map(|field| {
                    let name = field.name.replace('"', "\"\"");
                    format!("\"{name}\" {}", field.kind)
                });
                write!(f, "STRUCT({})", fields.collect::<Vec<_>>().join(", "))
            }
            Self::List(item) => write!(f, "{}[]", item.kind),
            Self::Map(value) => write!(f, "MAP(VARCHAR, {})", value.kind),
            Self::Timestamp(unit) => match EPOCH_UNITS.iter().find(|(_, known)| known == unit) {
                Some((word, _)) => write!(f, "TIMESTAMP({word})"),
                None => f.write_str("TIMESTAMP"),
            },
            scalar => f.write_str(scalar.word()),
        }
    }
}

/// A declared type that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a column type: write BIGINT, DOUBLE, DECIMAL(p,s), BOOLEAN, VARCHAR, DATE, TIMESTAMP or TIMESTAMP(s), (ms), \
     (us), (ns), JSON, MAP(VARCHAR, TYPE), STRUCT(name TYPE, ...) or TYPE[]"
)]
pub struct ParseTypeError(String);

impl FromStr for ColumnType {
    type Err = ParseTypeError;

    /// Reads a type as it is written in a configuration file, in DuckDB's words.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text.trim();
        let refused = || ParseTypeError(text.to_owned());
        let kind = read_type(&mut rest, 0).ok_or_else(refused)?;
        if rest.trim().is_empty() {
            Ok(kind)
        } else {
            Err(refused())
        }
    }
}

fn read_type(rest: &mut &str, depth: usize) -> Option<ColumnType> {
    if depth > 32 {
        return None;
    }
    let word = take_while(rest, |c| c.is_ascii_alphanumeric() || c == '_');
    let mut kind = match word.to_ascii_uppercase().as_str() {
        "BIGINT" => ColumnType::Bigint,
        "DOUBLE" => ColumnType::Double,
        "BOOLEAN" => ColumnType::Boolean,
        "VARCHAR" => ColumnType::Varchar,
        "DATE" => ColumnType::Date,
        "JSON" => ColumnType::Json,
        "TIMESTAMP" if take(rest, '(').is_some() => {
            let word = take_while(rest, |c| c.is_ascii_alphabetic());
            let unit = EPOCH_UNITS.iter().find(|(known, _)| *known == word)?;
            take(rest, ')')?;
            ColumnType::Timestamp(unit.1)
        }
        "TIMESTAMP" => ColumnType::Timestamp(EpochUnit::BySize),
        "MAP" => {
            take(rest, '(')?;
            let key = take_while(rest, |c| c.is_ascii_alphabetic());
            take(rest, ',').filter(|()| key.eq_ignore_ascii_case("VARCHAR"))?;
            let value = Column::new("value", read_type(rest, depth + 1)?);
            take(rest, ')')?;
            ColumnType::Map(Box::new(value))
        }
        "DECIMAL" => {
            take(rest, '(')?;
            let precision = take_while(rest, |c| c.is_ascii_digit()).parse().ok()?;
            take(rest, ',')?;
            let scale = take_while(rest, |c| c.is_ascii_digit()).parse().ok()?;
            take(rest, ')')?;
            if !(1..=38).contains(&precision) || scale > precision {
                return None;
            }
            ColumnType::Decimal { precision, scale }
        }
        "STRUCT" => {
            take(rest, '(')?;
            let mut fields = Vec::new();
            loop {
                fields.push(Column::new(read_name(rest)?, read_type(rest, depth + 1)?));
                if take(rest, ',').is_none() {
                    break;
                }
            }
            take(rest, ')')?;
            ColumnType::Struct(fields)
        }
        _ => return None,
    };
    let mut lists = 0;
    while take(rest, '[').is_some() {
        take(rest, ']')?;
        lists += 1;
        if depth + lists > 32 {
            return None;
        }
        kind = ColumnType::List(Box::new(Column::new("element", kind)));
    }
    Some(kind)
}

/// Reads a name: bare, or in double quotes, which stand twice in it.
pub(super) fn read_name(rest: &mut &str) -> Option<String> {
    if take(rest, '"').is_none() {
        let name = take_while(rest, |c| c.is_alphanumeric() || c == '_');
        return (!name.is_empty()).then(|| name.to_owned());
    }
    let mut name = String::new();
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        *rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                *rest = after;
            }
            None => return (!name.is_empty()).then_some(name),
        }
    }
}

pub(super) fn take(rest: &mut &str, expected: char) -> Option<()> {
    *rest = rest.trim_start().strip_prefix(expected)?;
    Some(())
}

fn take_while<'a>(rest: &mut &'a str, wanted: impl Fn(char) -> bool) -> &'a str {
    let text = rest.trim_start();
    let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    word
}
