//! The types of columns as text: how messages write them and how a configuration file does.

use std::fmt;
use std::str::FromStr;

use hydrant_process::config::nearest;

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
#[error("`{text}` is not a column type: {why}")]
pub struct ParseTypeError {
    text: String,
    why: String,
}

/// All types, for messages.
const TYPES: &str = "write BIGINT, DOUBLE, DECIMAL(p,s), BOOLEAN, VARCHAR, DATE, TIMESTAMP or TIMESTAMP(s), (ms), (us), (ns), \
                     JSON, MAP(VARCHAR, TYPE), STRUCT(name TYPE, ...) or TYPE[]";

/// The words of types as they stand here, in lower case.
const WORDS: [&str; 10] = [
    "bigint",
    "double",
    "decimal",
    "boolean",
    "varchar",
    "date",
    "timestamp",
    "json",
    "map",
    "struct",
];

/// What other systems call a type, and how it is written here.
const OTHER_WORDS: [(&str, &[&str]); 8] = [
    (
        "BIGINT",
        &[
            "INTEGER", "INT", "LONG", "SMALLINT", "TINYINT", "HUGEINT", "UBIGINT", "INT2", "INT4",
            "INT8", "INT16", "INT32", "INT64",
        ],
    ),
    (
        "DOUBLE",
        &[
            "FLOAT", "REAL", "NUMBER", "FLOAT4", "FLOAT8", "FLOAT32", "FLOAT64",
        ],
    ),
    ("BOOLEAN", &["BOOL", "LOGICAL", "BIT"]),
    (
        "VARCHAR",
        &["STRING", "TEXT", "CHAR", "STR", "UTF8", "UUID"],
    ),
    ("DECIMAL(p,s)", &["NUMERIC", "DEC", "MONEY"]),
    ("TIMESTAMP", &["DATETIME", "TIMESTAMPTZ"]),
    ("STRUCT(name TYPE, ...)", &["OBJECT", "RECORD", "ROW"]),
    ("TYPE[]", &["LIST", "ARRAY"]),
];

/// How deep a declared type may nest.
const DEPTH_MAX: usize = 32;

impl FromStr for ColumnType {
    type Err = ParseTypeError;

    /// Reads a type as it is written in a configuration file, in DuckDB's words.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text.trim();
        let refused = |why| ParseTypeError {
            text: text.to_owned(),
            why,
        };
        let kind = read_type(&mut rest, 0).map_err(refused)?;
        match rest.trim() {
            "" => Ok(kind),
            rest => Err(refused(format!(
                "`{rest}` follows the type {kind}: leave it out"
            ))),
        }
    }
}

fn read_type(rest: &mut &str, depth: usize) -> Result<ColumnType, String> {
    let too_deep = || format!("it nests more than {DEPTH_MAX} levels deep");
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let close = |rest: &mut &str| {
        take(rest, ')').ok_or_else(|| match rest.trim_start() {
            "" => "a `)` is missing at its end".to_owned(),
            rest => format!("a `)` is missing before `{rest}`"),
        })
    };
    let word = take_while(rest, |c| c.is_ascii_alphanumeric() || c == '_');
    let mut kind = match word.to_ascii_uppercase().as_str() {
        "BIGINT" => ColumnType::Bigint,
        "DOUBLE" => ColumnType::Double,
        "BOOLEAN" => ColumnType::Boolean,
        "VARCHAR" => ColumnType::Varchar,
        "DATE" => ColumnType::Date,
        "JSON" => ColumnType::Json,
        "TIMESTAMP" if take(rest, '(').is_some() => {
            let word = take_while(rest, |c| c.is_ascii_alphanumeric());
            let unit = EPOCH_UNITS.iter().find(|(known, _)| *known == word);
            let (_, unit) = unit.ok_or_else(|| {
                format!("what numbers count is `s`, `ms`, `us` or `ns`, not `{word}`: write for example TIMESTAMP(ms)")
            })?;
            close(rest)?;
            ColumnType::Timestamp(*unit)
        }
        "TIMESTAMP" => ColumnType::Timestamp(EpochUnit::BySize),
        "MAP" => {
            let keys = take(rest, '(').map(|()| take_while(rest, |c| c.is_ascii_alphanumeric()));
            match keys.zip(take(rest, ',')) {
                Some((keys, ())) if keys.eq_ignore_ascii_case("VARCHAR") => {}
                Some((keys, ())) if !keys.is_empty() => {
                    return Err(format!(
                        "the keys of an object are texts, not `{keys}`: write MAP(VARCHAR, TYPE)"
                    ));
                }
                _ => return Err("write MAP(VARCHAR, TYPE)".to_owned()),
            }
            let value = Column::new("value", read_type(rest, depth + 1)?);
            close(rest)?;
            ColumnType::Map(Box::new(value))
        }
        "DECIMAL" => {
            let mut digits = |before| {
                take(rest, before)?;
                take_while(rest, |c| c.is_ascii_digit()).parse::<u8>().ok()
            };
            let (Some(precision), Some(scale)) = (digits('('), digits(',')) else {
                return Err("it needs all its digits and those behind the point: write for example DECIMAL(9,2)".to_owned());
            };
            close(rest)?;
            if !(1..=38).contains(&precision) {
                return Err(format!("a DECIMAL has 1 to 38 digits, not {precision}"));
            }
            if scale > precision {
                return Err(format!(
                    "of {precision} digits {scale} cannot be behind the point: the second number is at most the first"
                ));
            }
            ColumnType::Decimal { precision, scale }
        }
        "STRUCT" => {
            take(rest, '(').ok_or("write STRUCT(name TYPE, ...)")?;
            let mut fields = Vec::new();
            loop {
                let name = read_name(rest).ok_or(
                    "a field needs a name, in double quotes if it has more than letters, digits and `_`: write for example \
                     STRUCT(x BIGINT, \"a b\" DOUBLE)",
                )?;
                let kind =
                    read_type(rest, depth + 1).map_err(|why| format!("field `{name}`: {why}"))?;
                fields.push(Column::new(name, kind));
                if take(rest, ',').is_none() {
                    break;
                }
            }
            close(rest)?;
            ColumnType::Struct(fields)
        }
        other => return Err(unknown_word(word, other)),
    };
    let mut lists = 0;
    while take(rest, '[').is_some() {
        take(rest, ']').ok_or("a list is written TYPE[]")?;
        lists += 1;
        if depth + lists > DEPTH_MAX {
            return Err(too_deep());
        }
        kind = ColumnType::List(Box::new(Column::new("element", kind)));
    }
    Ok(kind)
}

/// What is wrong with a word that names no type; `upper` is the word in upper case.
fn unknown_word(word: &str, upper: &str) -> String {
    let meant = OTHER_WORDS.iter().find(|(_, words)| words.contains(&upper));
    let meant = meant.map(|(meant, _)| (*meant).to_owned());
    let meant = meant.or_else(|| Some(nearest(word, WORDS)?.to_ascii_uppercase()));
    match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => TYPES.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_not_one_is_refused_with_the_reason() {
        for (text, why) in [
            ("INTEGER", "did you mean BIGINT?"),
            ("int", "did you mean BIGINT?"),
            ("bool", "did you mean BOOLEAN?"),
            ("STRING", "did you mean VARCHAR?"),
            ("FLOAT", "did you mean DOUBLE?"),
            ("BIGNT", "did you mean BIGINT?"),
            ("NUMERIC(9,2)", "did you mean DECIMAL(p,s)?"),
            ("INT[]", "did you mean BIGINT?"),
            ("", "write BIGINT, DOUBLE"),
            ("geometry", "write BIGINT, DOUBLE"),
            ("DECIMAL(40,2)", "1 to 38 digits, not 40"),
            ("DECIMAL(0,0)", "1 to 38 digits, not 0"),
            ("DECIMAL(5,9)", "of 5 digits 9 cannot be behind the point"),
            ("DECIMAL", "write for example DECIMAL(9,2)"),
            ("DECIMAL(9)", "write for example DECIMAL(9,2)"),
            ("DECIMAL(900,2)", "write for example DECIMAL(9,2)"),
            ("DECIMAL(9,2", "a `)` is missing at its end"),
            (
                "MAP(BIGINT, DOUBLE)",
                "texts, not `BIGINT`: write MAP(VARCHAR, TYPE)",
            ),
            ("MAP", "write MAP(VARCHAR, TYPE)"),
            ("MAP(VARCHAR)", "write MAP(VARCHAR, TYPE)"),
            ("MAP(VARCHAR, INT)", "did you mean BIGINT?"),
            ("STRUCT(x BIGINT", "a `)` is missing at its end"),
            (
                "STRUCT(x BIGINT y DOUBLE)",
                "a `)` is missing before `y DOUBLE)`",
            ),
            ("STRUCT(x INT)", "field `x`: did you mean BIGINT?"),
            ("STRUCT(a-b BIGINT)", "field `a`: "),
            ("STRUCT(-b BIGINT)", "\"a b\" DOUBLE"),
            ("STRUCT", "write STRUCT(name TYPE, ...)"),
            ("TIMESTAMP(9)", "`s`, `ms`, `us` or `ns`, not `9`"),
            ("VARCHAR(20)", "`(20)` follows the type VARCHAR"),
            ("BIGINT[", "TYPE[]"),
            (&"MAP(VARCHAR, ".repeat(40), "more than 32 levels"),
            (&format!("BIGINT{}", "[]".repeat(40)), "more than 32 levels"),
        ] {
            let refused = text.parse::<ColumnType>().unwrap_err().to_string();
            assert!(
                refused.contains(&format!("`{text}`")) && refused.contains(why),
                "{refused}"
            );
        }
        let kind: ColumnType = "STRUCT(x bigint, \"a b\" DECIMAL(9,2)[])".parse().unwrap();
        assert_eq!(
            kind.to_string(),
            "STRUCT(\"x\" BIGINT, \"a b\" DECIMAL(9,2)[])"
        );
    }
}
