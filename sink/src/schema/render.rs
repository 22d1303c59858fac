//! The line that reads a whole table, for users to paste.

use std::fmt::Write as _;
use std::str::FromStr;

use super::types::{Column, ColumnType, PROVENANCE_COLUMNS, TableSchema};

/// A program that reads the table by a glob over its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// SQL for DuckDB.
    DuckDb,
    /// Python for Polars, with `import polars as pl`.
    Polars,
    /// Python for pyarrow, with `import pyarrow as pa, pyarrow.dataset as ds`.
    PyArrow,
}

impl FromStr for Reader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "duckdb" => Ok(Self::DuckDb),
            "polars" => Ok(Self::Polars),
            "pyarrow" => Ok(Self::PyArrow),
            other => Err(format!(
                "`{other}` is no known reader: use duckdb, polars or pyarrow"
            )),
        }
    }
}

impl TableSchema {
    /// The line that reads the table under `location` (its directory, without a trailing slash).
    #[must_use]
    pub fn render(&self, reader: Reader, location: &str) -> String {
        match reader {
            Reader::DuckDb => format!(
                "SELECT * FROM read_parquet({}, union_by_name=true, hive_partitioning=true)",
                sql_text(&format!("{location}/**/*.parquet"))
            ),
            Reader::Polars => {
                let columns = self.named_types(polars_type, "pl.Datetime('us', 'UTC')");
                format!(
                    "pl.scan_parquet({}, schema={{{}}}, missing_columns='insert', \
                     cast_options=pl.ScanCastOptions(integer_cast='allow-float'))",
                    python_text(&format!("{location}/**/*.parquet")),
                    join(&columns, |(name, kind)| format!("{name}: {kind}")),
                )
            }
            Reader::PyArrow => {
                let columns = self.named_types(pyarrow_type, "pa.timestamp('us', tz='UTC')");
                format!(
                    "ds.dataset({}, schema=pa.schema([{}]), partitioning='hive')",
                    python_text(location),
                    join(&columns, |(name, kind)| format!("({name}, {kind})")),
                )
            }
        }
    }

    /// Every column as a quoted Python name and its type. Partition columns are not among them.
    fn named_types(&self, render: fn(&ColumnType) -> String, stamp: &str) -> Vec<(String, String)> {
        let mut columns: Vec<(String, String)> = self
            .columns
            .iter()
            .filter_map(Column::typed)
            .map(|column| (python_text(&column.name), render(&column.kind)))
            .collect();
        if self.provenance {
            let (text, integer) = (render(&ColumnType::Varchar), render(&ColumnType::Bigint));
            let types = [text.clone(), text.clone(), text, integer, stamp.to_owned()];
            columns.extend(PROVENANCE_COLUMNS.into_iter().map(python_text).zip(types));
        }
        columns
    }
}

fn join(columns: &[(String, String)], write: impl Fn(&(String, String)) -> String) -> String {
    columns.iter().map(write).collect::<Vec<_>>().join(", ")
}

fn polars_type(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Unknown => "pl.Null".to_owned(),
        ColumnType::Bigint => "pl.Int64".to_owned(),
        ColumnType::Double => "pl.Float64".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("pl.Decimal({precision}, {scale})"),
        ColumnType::Boolean => "pl.Boolean".to_owned(),
        ColumnType::Varchar => "pl.String".to_owned(),
        ColumnType::List(item) => format!("pl.List({})", polars_type(&item.kind)),
        ColumnType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", python_text(&field.name), polars_type(&field.kind)))
                .collect();
            format!("pl.Struct({{{}}})", fields.join(", "))
        }
    }
}

fn pyarrow_type(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Unknown => "pa.null()".to_owned(),
        ColumnType::Bigint => "pa.int64()".to_owned(),
        ColumnType::Double => "pa.float64()".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("pa.decimal128({precision}, {scale})"),
        ColumnType::Boolean => "pa.bool_()".to_owned(),
        ColumnType::Varchar => "pa.string()".to_owned(),
        ColumnType::List(item) => format!("pa.list_({})", pyarrow_type(&item.kind)),
        ColumnType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| {
                    format!(
                        "({}, {})",
                        python_text(&field.name),
                        pyarrow_type(&field.kind)
                    )
                })
                .collect();
            format!("pa.struct([{}])", fields.join(", "))
        }
    }
}

fn sql_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn python_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                write!(quoted, "\\x{:02x}", c as u32).expect("writing to a string cannot fail");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}
