//! What conditions mean in a table.
//!
//! Owns how a value of each type compares with a literal. As in SQL, a comparison with null is not true, and a TIMESTAMP and
//! a DATE are compared as times, in whatever form the literal writes one. Refuses a column that the table does not have and a
//! literal of another type than the column: a comparison that can never hold would look like a table without such rows.
//! DECIMAL values compare as doubles.

use std::cmp::Ordering;

use hydrant_core::{Error, Result};
use serde_json::Value;
use strsim::jaro_winkler;

use super::filter::{Condition, ConditionTest, RowFilter, quoted_name};
use crate::schema::{
    Column, ColumnType, PROVENANCE_COLUMNS, PartitionKind, RESCUED_COLUMN, TableSchema,
};
use crate::table::event_time::{TimeReader, parse_rfc3339};
use crate::table::zone::Zone;

/// How many columns an error names.
const NAMED_MAX: usize = 10;

/// How alike a name must be that an error proposes, from 0 to 1.
const ALIKE_MIN: f64 = 0.8;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Conditions on the rows of a table with a known schema.
#[derive(Debug)]
pub(super) struct BoundFilter {
    conditions: Vec<BoundCondition>,
}

#[derive(Debug)]
struct BoundCondition {
    path: Vec<String>,
    test: BoundTest,
}

#[derive(Debug)]
enum BoundTest {
    IsNull(bool),
    Compare(Vec<Ordering>, Comparand),
}

/// A literal as the type of its column has it.
#[derive(Debug)]
enum Comparand {
    Integer(i64),
    Double(f64),
    Boolean(bool),
    Text(String),
    /// In microseconds since 1970.
    Time(i64),
    /// In days since 1970.
    Day(i64),
}

impl BoundFilter {
    /// Finds the columns of the conditions. A time without a year is none: there is no clock here.
    ///
    /// # Errors
    /// Refused: a column that the schema does not have, or a literal of another type.
    pub(super) fn bind(filter: &RowFilter, schema: &TableSchema) -> Result<Self> {
        let times = TimeReader::try_new(Zone::default(), &[], 0)?;
        let conditions = filter.conditions.iter();
        let conditions =
            conditions.map(|condition| BoundCondition::bind(condition, schema, &times));
        Ok(BoundFilter {
            conditions: conditions.collect::<Result<_>>()?,
        })
    }

    /// Whether the row has what the conditions ask for.
    pub(super) fn chooses(&self, row: &Value) -> bool {
        self.conditions.iter().all(|condition| condition.holds(row))
    }

    /// Whether rows may be chosen of which this much is known: the columns that `known` has.
    pub(super) fn may_choose(&self, known: &Value) -> bool {
        let is_known = |condition: &&BoundCondition| known.get(&condition.path[0]).is_some();
        let mut conditions = self.conditions.iter().filter(is_known);
        conditions.all(|condition| condition.holds(known))
    }
}

impl BoundCondition {
    fn bind(condition: &Condition, schema: &TableSchema, times: &TimeReader) -> Result<Self> {
        let kind = kind_of(&condition.path, schema)?;
        let test = match &condition.test {
            ConditionTest::IsNull(wanted) => BoundTest::IsNull(*wanted),
            ConditionTest::Compare(wanted, literal) => {
                let comparand = Comparand::read(literal, &kind, times).map_err(|write| {
                    let (text, column) = (&condition.text, shown(&condition.path));
                    Error::refused(format!(
                        "`{text}` cannot hold: `{column}` is {}; {write}",
                        kind.outermost()
                    ))
                })?;
                BoundTest::Compare(wanted.clone(), comparand)
            }
        };
        let path = condition.path.clone();
        Ok(BoundCondition { path, test })
    }

    fn holds(&self, row: &Value) -> bool {
        let mut value = Some(row);
        for name in &self.path {
            value = value.and_then(|value| value.get(name));
        }
        let value = value.filter(|value| !value.is_null());
        match (&self.test, value) {
            (BoundTest::IsNull(wanted), value) => value.is_none() == *wanted,
            (BoundTest::Compare(..), None) => false,
            (BoundTest::Compare(wanted, comparand), Some(value)) => comparand
                .compare(value)
                .is_some_and(|order| wanted.contains(&order)),
        }
    }
}

impl Comparand {
    /// Reads a literal for a column of this type, or says what to write.
    fn read(literal: &Value, kind: &ColumnType, times: &TimeReader) -> Result<Self, String> {
        let found = match (kind, literal) {
            (
                ColumnType::Bigint | ColumnType::Double | ColumnType::Decimal { .. },
                Value::Number(number),
            ) => match number.as_i64() {
                Some(integer) => Some(Comparand::Integer(integer)),
                None => number.as_f64().map(Comparand::Double),
            },
            (ColumnType::Boolean, Value::Bool(value)) => Some(Comparand::Boolean(*value)),
            (ColumnType::Varchar | ColumnType::Json, Value::String(text)) => {
                Some(Comparand::Text(text.clone()))
            }
            (ColumnType::Timestamp(_), Value::String(text)) => {
                times.text(text.as_bytes()).map(Comparand::Time)
            }
            (ColumnType::Date, Value::String(text)) => {
                let micros = times.text(text.as_bytes());
                let midnight = micros.filter(|micros| micros % MICROS_PER_DAY == 0);
                midnight.map(|micros| Comparand::Day(micros / MICROS_PER_DAY))
            }
            _ => None,
        };
        let text = match literal {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        found.ok_or_else(|| match kind {
            ColumnType::Timestamp(_) => {
                "write a time in single quotes, such as `'2026-11-30 09:30'` (UTC)".to_owned()
            }
            ColumnType::Date => "write a day in single quotes, such as `'2026-11-30'`".to_owned(),
            ColumnType::Boolean => "write `true` or `false`".to_owned(),
            ColumnType::Varchar | ColumnType::Json => {
                let text = text.replace('\'', "''");
                format!("write a text in single quotes, such as `'{text}'`")
            }
            ColumnType::Struct(fields) => {
                let fields = fields.iter().take(NAMED_MAX);
                let fields: Vec<String> = fields.map(|field| quoted_name(&field.name)).collect();
                format!("name a field of it: {}", fields.join(", "))
            }
            ColumnType::Map(_) => "name a key of it".to_owned(),
            ColumnType::List(_) | ColumnType::Unknown => {
                "conditions compare no items of it: write IS NULL or IS NOT NULL".to_owned()
            }
            _ => "write a number, without quotes".to_owned(),
        })
    }

    fn compare(&self, value: &Value) -> Option<Ordering> {
        match self {
            Comparand::Integer(integer) => match value.as_i64() {
                Some(value) => Some(value.cmp(integer)),
                None => value.as_f64()?.partial_cmp(&(*integer as f64)),
            },
            Comparand::Double(number) => value.as_f64()?.partial_cmp(number),
            Comparand::Boolean(wanted) => Some(value.as_bool()?.cmp(wanted)),
            Comparand::Text(text) => Some(value.as_str()?.cmp(text)),
            Comparand::Time(micros) => Some(parse_rfc3339(value.as_str()?.as_bytes())?.cmp(micros)),
            Comparand::Day(day) => {
                let date: chrono::NaiveDate = value.as_str()?.parse().ok()?;
                Some(i64::from(date.to_epoch_days()).cmp(day))
            }
        }
    }
}

/// The type of the column that a path names.
fn kind_of(path: &[String], schema: &TableSchema) -> Result<ColumnType> {
    let partition = schema.partition_columns.iter();
    let mut partition = partition.filter(|column| column.name == path[0]);
    let provenance = PROVENANCE_COLUMNS.iter().filter(|_| schema.provenance);
    let mut provenance = provenance.filter(|(name, _)| *name == path[0]);
    let mut kind = if let Some(column) = partition.next() {
        match column.kind {
            PartitionKind::Date => ColumnType::Date,
            PartitionKind::Bigint => ColumnType::Bigint,
            PartitionKind::Boolean => ColumnType::Boolean,
            PartitionKind::Undecided | PartitionKind::Varchar => ColumnType::Varchar,
        }
    } else if path[0] == RESCUED_COLUMN {
        ColumnType::Varchar
    } else if let Some((_, kind)) = provenance.next() {
        kind.parse().expect("the types of provenance are types")
    } else {
        let column = schema.columns.iter().find(|column| column.name == path[0]);
        column.ok_or_else(|| unknown(path, schema))?.kind.clone()
    };
    for (depth, name) in path.iter().enumerate().skip(1) {
        kind = match kind {
            ColumnType::Struct(fields) => {
                let mut fields = fields.into_iter();
                let field = fields.find(|field| field.name == *name);
                field.ok_or_else(|| unknown(path, schema))?.kind
            }
            ColumnType::Map(value) => value.kind,
            kind => {
                let (whole, column) = (shown(path), shown(&path[..depth]));
                let kind = kind.outermost();
                return Err(Error::refused(format!(
                    "there is no column `{whole}`: `{column}` is {kind}, which has no fields"
                )));
            }
        };
    }
    Ok(kind)
}

/// The error for a column that the table does not have; it names those that are most alike, or the first ones.
fn unknown(path: &[String], schema: &TableSchema) -> Error {
    let mut known: Vec<Vec<String>> = Vec::new();
    add_paths(&schema.columns, &[], &mut known);
    let partitions = schema.partition_columns.iter();
    known.extend(partitions.map(|column| vec![column.name.clone()]));
    known.push(vec![RESCUED_COLUMN.to_owned()]);
    if schema.provenance {
        known.extend(PROVENANCE_COLUMNS.map(|(name, _)| vec![name.to_owned()]));
    }
    let written = path.join(".").to_lowercase();
    let last = path[path.len() - 1].to_lowercase();
    let alike = |known: &[String]| {
        let whole = jaro_winkler(&known.join(".").to_lowercase(), &written);
        whole.max(jaro_winkler(&known[known.len() - 1].to_lowercase(), &last))
    };
    let near = known.iter().map(|known| (alike(known), known));
    let mut near: Vec<_> = near.filter(|(alike, _)| *alike >= ALIKE_MIN).collect();
    near.sort_by(|one, other| f64::total_cmp(&other.0, &one.0));
    let (what, named, more) = if near.is_empty() {
        let more = known.len().saturating_sub(NAMED_MAX);
        (
            "the table has",
            known.iter().take(NAMED_MAX).collect(),
            more,
        )
    } else {
        let near = near.into_iter().take(3).map(|(_, known)| known);
        ("near are", near.collect::<Vec<_>>(), 0)
    };
    let named = named.into_iter().map(|path| format!("`{}`", shown(path)));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Error::refused(format!(
        "there is no column `{}`: {what} {named}{more}; `hydrant lake schema` shows all",
        shown(path)
    ))
}

fn add_paths(columns: &[Column], parent: &[String], paths: &mut Vec<Vec<String>>) {
    for column in columns {
        let path = [parent, std::slice::from_ref(&column.name)].concat();
        paths.push(path.clone());
        if let ColumnType::Struct(fields) = &column.kind {
            add_paths(fields, &path, paths);
        }
    }
}

/// A path as conditions write it.
fn shown(path: &[String]) -> String {
    let names: Vec<String> = path.iter().map(|name| quoted_name(name)).collect();
    names.join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::PartitionColumn;

    fn schema() -> TableSchema {
        let columns = [
            ("temp", "DOUBLE"),
            ("n", "BIGINT"),
            ("ok", "BOOLEAN"),
            ("o", "STRUCT(x BIGINT, \"y z\" VARCHAR, at TIMESTAMP)"),
            ("day", "DATE"),
            ("price", "DECIMAL(9,2)"),
            ("gone", "VARCHAR"),
            ("m", "MAP(VARCHAR, BIGINT)"),
            ("list", "BIGINT[]"),
            ("doc", "JSON"),
        ];
        let columns = columns.map(|(name, kind)| Column::new(name, kind.parse().unwrap()));
        let mut schema = TableSchema::try_new(columns.to_vec()).unwrap();
        for (name, kind) in [
            ("region", PartitionKind::Varchar),
            ("hour", PartitionKind::Varchar),
            ("date", PartitionKind::Date),
            ("floor", PartitionKind::Bigint),
            ("open", PartitionKind::Boolean),
        ] {
            schema.partition_columns.push(PartitionColumn {
                name: name.to_owned(),
                source: String::new(),
                kind,
                declared: false,
            });
        }
        schema
    }

    fn bind(condition: &str) -> Result<BoundFilter> {
        BoundFilter::bind(&condition.parse().unwrap(), &schema())
    }

    #[test]
    fn conditions_choose_rows_as_sql_does() {
        let row = json!({"region":"eu","temp":20.5,"n":9007199254740993_i64,"ok":true,"hour":"07","floor":-3,
                         "open":true,"o":{"x":1,"y z":"q'","at":"2026-11-30T09:00:00Z"},"date":"2026-01-31",
                         "gone":null,"day":"2026-11-30","price":12.50,"m":{"a b":7},"list":[1],"doc":"{}"});
        for (condition, chooses) in [
            ("region = 'eu'", true),
            ("region='us'", false),
            ("region > '5'", true),
            ("temp >= 20.5 and temp < 21", true),
            ("temp > 20.5", false),
            ("temp > 20", true),
            ("n = 9007199254740993", true),
            ("n != 9007199254740992", true),
            ("n > 0.5", true),
            ("ok = true AND ok <> FALSE", true),
            ("hour = '07'", true),
            ("floor = -3 AND floor < 10 AND floor > -3.5", true),
            ("floor > 10", false),
            ("open = true", true),
            ("o.x == 1 AND o.\"y z\" = 'q'''", true),
            ("date >= '2026-01-01' AND date < '2026/02/01'", true),
            ("day = '30 Nov 2026'", true),
            ("o.at > '2026-11-30 09:30'", false),
            ("o.at < '2026-11-30 09:30'", true),
            ("o.at = '2026-11-30T10:00+01:00'", true),
            ("o.at = '1796029200'", true),
            ("o.at >= '2026-11-30'", true),
            ("o.at < '2026-11-30T09:00:00.000001Z'", true),
            ("price = 12.5 AND price > 12", true),
            ("m.\"a b\" = 7", true),
            ("m.other = 7", false),
            ("gone IS NULL and region is not null", true),
            ("list IS NOT NULL AND doc = '{}' AND _rescued IS NULL", true),
            ("gone = '1'", false),
            ("gone != '1'", false),
        ] {
            let filter = bind(condition).unwrap();
            assert_eq!(filter.chooses(&row), chooses, "{condition}");
        }
    }

    #[test]
    fn a_condition_that_can_never_hold_is_refused_with_what_to_write() {
        for (condition, words) in [
            (
                "regio = 'eu'",
                &["no column `regio`", "near are `region`"][..],
            ),
            ("at IS NULL", &["no column `at`", "`o.at`"]),
            ("o.X = 1", &["`o.X`", "`o.x`"]),
            ("Region = 'eu'", &["`Region`", "`region`"]),
            ("o.yz = '1'", &["`o.\"y z\"`"]),
            ("qqqqq IS NULL", &["the table has `temp`", "and 9 more"]),
            ("_stream = 'x'", &["no column `_stream`"]),
            ("doc.a = 1", &["`doc.a`", "`doc` is JSON", "no fields"]),
            ("list.a = 1", &["`list` is LIST"]),
            ("list = 1", &["`list` is LIST", "IS NULL"]),
            ("o = 1", &["`o` is STRUCT", "x, \"y z\", at"]),
            ("m = 1", &["`m` is MAP", "key"]),
            ("n = '5'", &["`n = '5'`", "`n` is BIGINT", "without quotes"]),
            ("region = 5", &["`region` is VARCHAR", "`'5'`"]),
            ("ok = 1", &["BOOLEAN", "`true` or `false`"]),
            ("o.at > 5", &["TIMESTAMP", "'2026-11-30 09:30'"]),
            ("o.at > 'yesterday'", &["TIMESTAMP", "'2026-11-30 09:30'"]),
            ("date = '2026-11-30 10:00'", &["is DATE", "'2026-11-30'"]),
            ("date = 20261130", &["`date` is DATE"]),
        ] {
            let error = bind(condition).unwrap_err();
            let is_refused = error.disposition() == hydrant_core::Disposition::Refused;
            let error = error.to_string();
            let says_all = words.iter().all(|word| error.contains(word));
            assert!(is_refused && says_all, "{condition}: {error}");
        }
    }

    #[test]
    fn files_are_left_out_by_what_is_known_of_their_rows() {
        let filter = bind("date = '2026-01-31' AND temp > 1").unwrap();
        assert!(filter.may_choose(&json!({"date":"2026-01-31"})));
        assert!(!filter.may_choose(&json!({"date":"2026-01-30"})));
        assert!(!filter.may_choose(&json!({"date":null})));
        assert!(filter.may_choose(&json!({})));
    }
}
