//! The lines that read a whole table, for users to paste.

use std::fmt::Write as _;
use std::str::FromStr;

use super::ddl::CatalogDialect;
use super::types::{
    Column, ColumnType, PROVENANCE_COLUMNS, PartitionKind, RESCUED_COLUMN, TableSchema,
};

/// A program that reads the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryEngine {
    /// SQL for DuckDB.
    DuckDb,
    /// Python for Polars: a line that imports it, and one that gives a lazy frame.
    Polars,
    /// Python for pyarrow: a line that imports it, and one that gives a dataset.
    PyArrow,
    /// Statements for Spark SQL.
    Spark,
    /// Statements for Athena.
    Athena,
}

impl FromStr for QueryEngine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "duckdb" => Ok(Self::DuckDb),
            "polars" => Ok(Self::Polars),
            "pyarrow" => Ok(Self::PyArrow),
            "spark" => Ok(Self::Spark),
            "athena" => Ok(Self::Athena),
            other => Err(format!(
                "`{other}` is not a reader: write `duckdb`, `polars`, `pyarrow`, `spark` or `athena`"
            )),
        }
    }
}

impl TableSchema {
    /// What reads the table under `location` (the absolute path or URL of its directory, without a trailing slash).
    pub fn render(&self, reader: QueryEngine, location: &str) -> String {
        match reader {
            QueryEngine::Spark => self.ddl(CatalogDialect::Spark, location),
            QueryEngine::Athena => self.ddl(CatalogDialect::Athena, location),
            QueryEngine::DuckDb => format!(
                "SELECT * FROM read_parquet({}, union_by_name=true, hive_partitioning={}{})",
                sql_text(&files_in(location)),
                !self.partition_columns.is_empty(),
                self.duckdb_types(),
            ),
            QueryEngine::Polars => {
                let columns = self.named_types(polars_type, "pl.Datetime('us', 'UTC')");
                let hive = self.partition_types(|kind| match kind {
                    PartitionKind::Date => "pl.Date",
                    PartitionKind::Bigint => "pl.Int64",
                    PartitionKind::Boolean => "pl.Boolean",
                    PartitionKind::Undecided | PartitionKind::Varchar => "pl.String",
                });
                let hive = match hive.is_empty() {
                    true => String::new(),
                    false => format!("hive_schema={{{}}}, ", join(&hive, python_entry)),
                };
                // Only structs that gained a field need it, and a table without structs is read by
                // the shorter call.
                let structs = match self.columns.iter().any(|column| holds_struct(&column.kind)) {
                    true => ", missing_struct_fields='insert'",
                    false => "",
                };
                format!(
                    "import polars as pl\npl.scan_parquet({}, schema={{{}}}, {hive}missing_columns='insert', \
                     cast_options=pl.ScanCastOptions(integer_cast='allow-float'{structs}))",
                    python_text(&files_in(location)),
                    join(&columns, python_entry),
                )
            }
            QueryEngine::PyArrow => {
                let mut columns = self.named_types(pyarrow_type, "pa.timestamp('us', tz='UTC')");
                columns.extend(self.partition_types(|kind| match kind {
                    PartitionKind::Date => "pa.date32()",
                    PartitionKind::Bigint => "pa.int64()",
                    PartitionKind::Boolean => "pa.bool_()",
                    PartitionKind::Undecided | PartitionKind::Varchar => "pa.string()",
                }));
                format!(
                    "import pyarrow as pa, pyarrow.dataset as ds\nds.dataset({}, schema=pa.schema([{}]), partitioning='hive')",
                    python_text(location),
                    join(&columns, python_pair),
                )
            }
        }
    }

    /// Every partition column as a quoted Python name and its type.
    fn partition_types(&self, kind: fn(PartitionKind) -> &'static str) -> Vec<(String, String)> {
        let columns = self.partition_columns.iter();
        columns
            .map(|column| (python_text(&column.name), kind(column.kind).to_owned()))
            .collect()
    }

    /// The types of partition columns for DuckDB, which would guess numbers otherwise: `007` is 7.
    fn duckdb_types(&self) -> String {
        let columns = self.partition_columns.iter();
        let types: Vec<String> = columns
            .map(|column| format!("{}: {}", sql_text(&column.name), column.kind))
            .collect();
        match types.is_empty() {
            true => String::new(),
            false => format!(", hive_types={{{}}}", types.join(", ")),
        }
    }

    /// Every column as a quoted Python name and its type. Partition columns follow apart.
    fn named_types(&self, render: fn(&ColumnType) -> String, stamp: &str) -> Vec<(String, String)> {
        let columns: Vec<Column> = self.columns.iter().filter_map(Column::typed).collect();
        let mut columns = named(&columns, render);
        columns.push((python_text(RESCUED_COLUMN), render(&ColumnType::Varchar)));
        if self.provenance {
            let of = |kind: &str| kind.parse().map_or(stamp.to_owned(), |kind| render(&kind));
            let added = PROVENANCE_COLUMNS.into_iter();
            columns.extend(added.map(|(name, kind)| (python_text(name), of(kind))));
        }
        columns
    }
}

/// The pattern that finds the files in a directory. A character that means something in patterns stands alone in brackets,
/// as DuckDB and Polars take it.
fn files_in(location: &str) -> String {
    let mut pattern = String::with_capacity(location.len() + 13);
    for c in location.chars() {
        match c {
            '*' | '?' | '[' => pattern.extend(['[', c, ']']),
            c => pattern.push(c),
        }
    }
    pattern + "/**/*.parquet"
}

fn python_entry((name, kind): &(String, String)) -> String {
    format!("{name}: {kind}")
}

fn python_pair((name, kind): &(String, String)) -> String {
    format!("({name}, {kind})")
}

/// Columns as quoted Python names and their types.
fn named(columns: &[Column], render: fn(&ColumnType) -> String) -> Vec<(String, String)> {
    let columns = columns.iter();
    columns
        .map(|column| (python_text(&column.name), render(&column.kind)))
        .collect()
}

fn holds_struct(kind: &ColumnType) -> bool {
    match kind {
        ColumnType::Struct(_) => true,
        ColumnType::List(item) | ColumnType::Map(item) => holds_struct(&item.kind),
        _ => false,
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
        ColumnType::Varchar | ColumnType::Json => "pl.String".to_owned(),
        ColumnType::Date => "pl.Date".to_owned(),
        ColumnType::Timestamp(_) => "pl.Datetime('us', 'UTC')".to_owned(),
        // Polars has no maps: it reads them as lists of entries.
        ColumnType::Map(value) => {
            let value = polars_type(&value.kind);
            format!("pl.List(pl.Struct({{'key': pl.String, 'value': {value}}}))")
        }
        ColumnType::List(item) => format!("pl.List({})", polars_type(&item.kind)),
        ColumnType::Struct(fields) => {
            let fields = join(&named(fields, polars_type), python_entry);
            format!("pl.Struct({{{fields}}})")
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
        ColumnType::Varchar | ColumnType::Json => "pa.string()".to_owned(),
        ColumnType::Date => "pa.date32()".to_owned(),
        ColumnType::Timestamp(_) => "pa.timestamp('us', tz='UTC')".to_owned(),
        ColumnType::Map(value) => {
            format!("pa.map_(pa.string(), {})", pyarrow_type(&value.kind))
        }
        ColumnType::List(item) => format!("pa.list_({})", pyarrow_type(&item.kind)),
        ColumnType::Struct(fields) => {
            let fields = join(&named(fields, pyarrow_type), python_pair);
            format!("pa.struct([{fields}])")
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

#[cfg(test)]
mod tests {
    use super::super::types::PartitionColumn;
    use super::*;

    fn schema(partition: &str) -> TableSchema {
        let nested = vec![Column::new("it's", ColumnType::Boolean)];
        let mut schema = TableSchema::try_new(vec![
            Column::new("temp", ColumnType::Double),
            Column::new("pos", ColumnType::Struct(nested)),
            Column::new(
                "n",
                ColumnType::Decimal {
                    precision: 18,
                    scale: 2,
                },
            ),
        ])
        .unwrap();
        let (name, source) = (partition.to_owned(), "date".to_owned());
        let kind = PartitionKind::Date;
        schema.partition_columns.push(PartitionColumn {
            name,
            source,
            kind,
            declared: false,
        });
        schema
    }

    #[test]
    fn the_line_for_each_reader_names_every_column() {
        assert_eq!(
            schema("date").render(QueryEngine::DuckDb, "s3://lake/o'n"),
            "SELECT * FROM read_parquet('s3://lake/o''n/**/*.parquet', union_by_name=true, \
             hive_partitioning=true, hive_types={'date': DATE})"
        );
        assert_eq!(
            schema("date").render(QueryEngine::Polars, "lake/t"),
            "import polars as pl\npl.scan_parquet('lake/t/**/*.parquet', schema={'temp': pl.Float64, \
             'pos': pl.Struct({'it\\'s': pl.Boolean}), 'n': pl.Decimal(18, 2), '_rescued': pl.String}, \
             hive_schema={'date': pl.Date}, missing_columns='insert', \
             cast_options=pl.ScanCastOptions(integer_cast='allow-float', \
             missing_struct_fields='insert'))"
        );
        assert_eq!(
            schema("date")
                .with_provenance(true)
                .unwrap()
                .render(QueryEngine::PyArrow, "lake/t"),
            "import pyarrow as pa, pyarrow.dataset as ds\nds.dataset('lake/t', schema=pa.schema([('temp', pa.float64()), \
             ('pos', pa.struct([('it\\'s', pa.bool_())])), ('n', pa.decimal128(18, 2)), ('_rescued', pa.string()), \
             ('_stream', pa.string()), ('_shard', pa.string()), ('_sequence', pa.string()), \
             ('_sub', pa.int64()), ('_stamp', pa.timestamp('us', tz='UTC')), \
             ('date', pa.date32())]), partitioning='hive')"
        );
    }

    #[test]
    fn a_path_is_no_pattern() {
        for (engine, path) in [
            (QueryEngine::DuckDb, "'/a[*]b/[[]x][?]/t/**/*.parquet'"),
            (QueryEngine::Polars, "'/a[*]b/[[]x][?]/t/**/*.parquet'"),
            (QueryEngine::PyArrow, "'/a*b/[x]?/t'"),
        ] {
            let line = schema("date").render(engine, "/a*b/[x]?/t");
            assert!(line.contains(path), "{line}");
        }
    }

    #[test]
    fn partitions_have_their_types_in_every_line() {
        let mut schema = TableSchema::default();
        for (name, kind) in [
            ("date", PartitionKind::Date),
            ("it's", PartitionKind::Varchar),
            ("n", PartitionKind::Bigint),
            ("on", PartitionKind::Boolean),
        ] {
            let (name, source) = (name.to_owned(), String::new());
            schema.partition_columns.push(PartitionColumn {
                name,
                source,
                kind,
                declared: false,
            });
        }
        for (engine, types) in [
            (
                QueryEngine::DuckDb,
                "hive_types={'date': DATE, 'it''s': VARCHAR, 'n': BIGINT, 'on': BOOLEAN})",
            ),
            (
                QueryEngine::Polars,
                "hive_schema={'date': pl.Date, 'it\\'s': pl.String, 'n': pl.Int64, 'on': pl.Boolean}",
            ),
            (
                QueryEngine::PyArrow,
                "('date', pa.date32()), ('it\\'s', pa.string()), ('n', pa.int64()), ('on', pa.bool_())",
            ),
        ] {
            let line = schema.render(engine, "t");
            assert!(line.contains(types), "{line}");
        }
        schema.partition_columns.clear();
        let line = schema.render(QueryEngine::DuckDb, "t");
        assert!(line.ends_with("hive_partitioning=false)"), "{line}");
    }
}
