//! The statements that make a table known to Spark and Athena.

use super::types::{
    Column, ColumnType, PROVENANCE_COLUMNS, PartitionKind, RESCUED_COLUMN, TableSchema,
};

/// A catalog that wants a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CatalogDialect {
    Spark,
    Athena,
}

impl TableSchema {
    /// The statements that make the table under `location` known by its last name, and its partitions.
    pub(super) fn ddl(&self, dialect: CatalogDialect, location: &str) -> String {
        let name = location.rsplit('/').next().unwrap_or(location);
        let name = quoted(name);
        let mut columns: Vec<String> = self
            .columns
            .iter()
            .filter_map(Column::typed)
            .map(|column| entry(&column.name, &column.kind, " "))
            .collect();
        columns.push(entry(RESCUED_COLUMN, &ColumnType::Varchar, " "));
        let provenance = PROVENANCE_COLUMNS.into_iter().filter(|_| self.provenance);
        columns.extend(provenance.filter_map(|(name, kind)| {
            let kind: ColumnType = kind.parse().ok()?;
            Some(entry(name, &kind, " "))
        }));
        let partitions = self.partition_columns.iter();
        let partitions = partitions.map(|column| {
            let kind = match column.kind {
                PartitionKind::Date => ColumnType::Date,
                PartitionKind::Bigint => ColumnType::Bigint,
                PartitionKind::Boolean => ColumnType::Boolean,
                PartitionKind::Undecided | PartitionKind::Varchar => ColumnType::Varchar,
            };
            entry(&column.name, &kind, " ")
        });
        let partitions: Vec<String> = partitions.collect();
        let location = location.replace('\'', "\\'");
        let repair = match partitions.is_empty() {
            true => String::new(),
            false => match dialect {
                CatalogDialect::Spark => format!(";\nMSCK REPAIR TABLE {name}"),
                // Athena takes one statement at a time.
                CatalogDialect::Athena => format!(
                    "\n-- then, as a query of its own, and again whenever there are new partitions: MSCK REPAIR TABLE {name}"
                ),
            },
        };
        match dialect {
            CatalogDialect::Spark => {
                let names = self.partition_columns.iter();
                let names: Vec<String> = names.map(|column| quoted(&column.name)).collect();
                let by = match names.is_empty() {
                    true => String::new(),
                    false => format!(" PARTITIONED BY ({})", names.join(", ")),
                };
                columns.extend(partitions);
                let columns = columns.join(", ");
                let note = match repair.is_empty() {
                    true => "",
                    false => {
                        "-- two statements, one at a time for spark.sql(..); the second again whenever there are new partitions\n"
                    }
                };
                format!(
                    "{note}CREATE TABLE {name} ({columns}) USING parquet{by} LOCATION '{location}'{repair}"
                )
            }
            CatalogDialect::Athena => {
                let by = match partitions.is_empty() {
                    true => String::new(),
                    false => format!(" PARTITIONED BY ({})", partitions.join(", ")),
                };
                let columns = columns.join(", ");
                format!(
                    "CREATE EXTERNAL TABLE {name} ({columns}){by} STORED AS PARQUET LOCATION '{location}/'{repair}"
                )
            }
        }
    }
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn entry(name: &str, kind: &ColumnType, between: &str) -> String {
    format!("{}{between}{}", quoted(name), hive_type(kind))
}

/// The type in the words of Hive, which both use.
fn hive_type(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Unknown | ColumnType::Varchar | ColumnType::Json => "STRING".to_owned(),
        ColumnType::Bigint => "BIGINT".to_owned(),
        ColumnType::Double => "DOUBLE".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
        ColumnType::Boolean => "BOOLEAN".to_owned(),
        ColumnType::Date => "DATE".to_owned(),
        ColumnType::Timestamp(_) => "TIMESTAMP".to_owned(),
        ColumnType::List(item) => format!("ARRAY<{}>", hive_type(&item.kind)),
        ColumnType::Map(value) => format!("MAP<STRING, {}>", hive_type(&value.kind)),
        ColumnType::Struct(fields) => {
            let fields = fields
                .iter()
                .map(|field| entry(&field.name, &field.kind, ": "));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::PartitionColumn;
    use crate::schema::declared::declared_schema;

    #[test]
    fn every_type_has_a_word_and_partitions_stand_apart() {
        let columns = [
            ("a b", "DECIMAL(9,2)"),
            ("o", "STRUCT(x BIGINT, y DATE[])"),
            ("m", "MAP(VARCHAR, JSON)"),
            ("t", "TIMESTAMP(ms)"),
        ];
        let columns = columns.map(|(path, kind)| (path.to_owned(), kind.parse().unwrap()));
        let mut schema = declared_schema(&columns).unwrap();
        schema.partition_columns.push(PartitionColumn {
            name: "date".to_owned(),
            source: "date".to_owned(),
            kind: PartitionKind::Date,
            declared: false,
        });
        let own = "`a b` DECIMAL(9,2), `o` STRUCT<`x`: BIGINT, `y`: ARRAY<DATE>>, `m` MAP<STRING, STRING>, \
                   `t` TIMESTAMP, `_rescued` STRING";
        assert_eq!(
            schema.ddl(CatalogDialect::Spark, "/lake/o'n/events"),
            format!(
                "-- two statements, one at a time for spark.sql(..); the second again whenever there are new partitions\n\
                 CREATE TABLE `events` ({own}, `date` DATE) USING parquet PARTITIONED BY (`date`) LOCATION \
                 '/lake/o\\'n/events';\nMSCK REPAIR TABLE `events`"
            )
        );
        assert_eq!(
            schema.ddl(CatalogDialect::Athena, "s3://b/events"),
            format!(
                "CREATE EXTERNAL TABLE `events` ({own}) PARTITIONED BY (`date` DATE) STORED AS PARQUET LOCATION \
                 's3://b/events/'\n-- then, as a query of its own, and again whenever there are new partitions: MSCK REPAIR TABLE `events`"
            )
        );
    }
}
