//! The join of two schemas of one table.

use std::collections::HashMap;

use super::types::{Column, ColumnType, TableSchema, fold_name};

/// Two schemas as one, and what could not be joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The base with everything from the other that may be added. Keeps the base's number.
    pub schema: TableSchema,
    /// Where the other's rows cannot all be kept. Which of them cannot is for the conforming of
    /// the rows to find out.
    pub conflicts: Vec<Conflict>,
}

/// A column of the other schema that does not fit the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The column's path.
    pub column: String,
    /// What the base has, or why the column cannot be added.
    pub wanted: String,
    /// What the other has.
    pub found: String,
}

struct TypeJoin {
    /// Whether the other schema is what the configuration declares, which decides the units of TIMESTAMP columns.
    declares: bool,
    conflicts: Vec<Conflict>,
    room: usize,
}

impl TableSchema {
    /// Adds to this schema what `other` has beyond it, up to `columns_max` columns in all (nested
    /// ones and containers included). What this schema says wins wherever both cannot hold.
    pub fn join(&self, other: &TableSchema, columns_max: usize) -> Joined {
        self.joined(other, columns_max, false)
    }

    /// As [`TableSchema::join`] with what the configuration declares.
    pub fn declare(&self, declared: &TableSchema, columns_max: usize) -> Joined {
        self.joined(declared, columns_max, true)
    }

    fn joined(&self, other: &TableSchema, columns_max: usize, declares: bool) -> Joined {
        let mut schema = self.clone();
        if schema.number == 0 && schema.partition_columns.is_empty() {
            schema
                .partition_columns
                .clone_from(&other.partition_columns);
        }
        let mut join = TypeJoin {
            declares,
            conflicts: Vec::new(),
            room: columns_max.saturating_sub(self.width()),
        };
        let (admitted, reserved): (Vec<&Column>, Vec<&Column>) = other
            .columns
            .iter()
            .partition(|column| !schema.is_reserved(&column.name));
        for column in reserved {
            join.refuse(&column.name, "a free name", &column.kind);
        }
        join.columns(&mut schema.columns, &admitted, "");
        debug_assert!(schema.columns.len() >= self.columns.len());
        Joined {
            schema,
            conflicts: join.conflicts,
        }
    }
}

impl TypeJoin {
    fn refuse(&mut self, path: &str, wanted: impl ToString, found: &ColumnType) {
        self.conflicts.push(Conflict {
            column: path.to_owned(),
            wanted: wanted.to_string(),
            found: found.to_string(),
        });
    }

    fn columns(&mut self, base: &mut Vec<Column>, other: &[&Column], parent: &str) {
        let mut by_name: HashMap<String, usize> = base
            .iter()
            .enumerate()
            .map(|(index, column)| (fold_name(&column.name), index))
            .collect();
        for column in other {
            let path = format!("{parent}{}", column.name);
            if let Some(&index) = by_name.get(&fold_name(&column.name)) {
                let known = &mut base[index];
                if known.name == column.name {
                    self.column(known, column, &path);
                } else {
                    let wanted = format!("the name `{}`", known.name);
                    self.refuse(&path, wanted, &column.kind);
                }
                continue;
            }
            let Some(column) = column.typed() else {
                continue;
            };
            if column.width() > self.room {
                self.refuse(&path, "fewer columns", &column.kind);
                continue;
            }
            self.room -= column.width();
            by_name.insert(fold_name(&column.name), base.len());
            base.push(column);
        }
    }

    fn column(&mut self, base: &mut Column, other: &Column, path: &str) {
        use ColumnType as T;
        base.declared |= other.declared && is_declared_as(&base.kind, &other.kind);
        match (&mut base.kind, &other.kind) {
            (_, T::Unknown) => {}
            (T::Unknown, _) => {
                if let Some(typed) = other.typed() {
                    *base = Column {
                        name: std::mem::take(&mut base.name),
                        ..typed
                    };
                }
            }
            (T::Bigint, T::Bigint) => base.integers_beyond_2_53 |= other.integers_beyond_2_53,
            (T::Bigint, T::Double) if !base.declared && !base.integers_beyond_2_53 => {
                base.kind = T::Double;
                base.declared = other.declared;
            }
            (T::Double, T::Bigint) if !other.integers_beyond_2_53 && !other.declared => {}
            (T::Struct(fields), T::Struct(others)) => {
                let others: Vec<&Column> = others.iter().collect();
                self.columns(fields, &others, &format!("{path}."));
            }
            (T::List(item), T::List(other)) => self.column(item, other, &format!("{path}[]")),
            (T::Map(value), T::Map(other)) => self.column(value, other, &format!("{path}{{}}")),
            // Files hold the same, whatever the unit of the numbers was.
            (T::Timestamp(unit), T::Timestamp(declared)) => {
                if self.declares {
                    *unit = *declared;
                }
            }
            (mine, theirs) if mine == theirs => {}
            (mine, theirs) => {
                let wanted = mine.to_string();
                self.refuse(path, wanted, theirs);
            }
        }
    }
}

/// Whether a column of type `base` is what `other` declares.
fn is_declared_as(base: &ColumnType, other: &ColumnType) -> bool {
    match (base, other) {
        (ColumnType::Timestamp(_), ColumnType::Timestamp(_)) => true,
        (ColumnType::Struct(_), ColumnType::Struct(_))
        | (ColumnType::List(_), ColumnType::List(_))
        | (ColumnType::Map(_), ColumnType::Map(_)) => true,
        (base, other) => base == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::declared::declared_schema;
    use crate::schema::{EpochUnit, PartitionColumn, PartitionKind};

    fn kinds() -> Vec<ColumnType> {
        let field = |kind| Column::new("f", kind);
        vec![
            ColumnType::Bigint,
            ColumnType::Double,
            ColumnType::Decimal {
                precision: 18,
                scale: 2,
            },
            ColumnType::Boolean,
            ColumnType::Varchar,
            ColumnType::Date,
            ColumnType::Timestamp(EpochUnit::Millis),
            ColumnType::Json,
            ColumnType::Map(Box::new(Column::new("value", ColumnType::Bigint))),
            ColumnType::Struct(vec![field(ColumnType::Varchar)]),
            ColumnType::List(Box::new(field(ColumnType::Varchar))),
        ]
    }

    fn of(columns: Vec<Column>) -> TableSchema {
        TableSchema {
            columns,
            ..TableSchema::default()
        }
    }

    fn join_types(base: ColumnType, other: ColumnType) -> (ColumnType, usize) {
        let joined = of(vec![Column::new("c", base)]).join(&of(vec![Column::new("c", other)]), 100);
        (
            joined.schema.columns[0].kind.clone(),
            joined.conflicts.len(),
        )
    }

    #[test]
    fn only_bigint_and_double_of_different_types_join() {
        for base in kinds() {
            for other in kinds() {
                let (joined, conflicts) = join_types(base.clone(), other.clone());
                let number = [ColumnType::Bigint, ColumnType::Double];
                if number.contains(&base) && number.contains(&other) && base != other {
                    assert_eq!((joined, conflicts), (ColumnType::Double, 0));
                } else {
                    assert_eq!(
                        (joined, conflicts),
                        (base.clone(), usize::from(base != other))
                    );
                }
            }
            assert_eq!(join_types(base.clone(), ColumnType::Unknown), (base, 0));
        }
    }

    #[test]
    fn bigint_with_integers_beyond_2_53_stays_bigint() {
        let mut beyond = Column::new("c", ColumnType::Bigint);
        beyond.integers_beyond_2_53 = true;
        let (beyond, double) = (
            of(vec![beyond]),
            of(vec![Column::new("c", ColumnType::Double)]),
        );
        for (base, other) in [(&beyond, &double), (&double, &beyond)] {
            let joined = base.join(other, 100);
            assert_eq!(&joined.schema, base);
            assert_eq!(joined.conflicts.len(), 1);
        }
        let small = of(vec![Column::new("c", ColumnType::Bigint)]);
        assert_eq!(small.join(&beyond, 100).schema, beyond);
    }

    #[test]
    fn a_declared_bigint_never_becomes_double() {
        let declared = declared_schema(&[("c".to_owned(), ColumnType::Bigint)]).unwrap();
        let joined = declared.join(&of(vec![Column::new("c", ColumnType::Double)]), 100);
        assert_eq!((joined.schema, joined.conflicts.len()), (declared, 1));
    }

    #[test]
    fn structs_and_lists_join_inside() {
        let object = |fields: Vec<(&str, ColumnType)>| {
            ColumnType::Struct(fields.into_iter().map(|(n, k)| Column::new(n, k)).collect())
        };
        let list = |kind| ColumnType::List(Box::new(Column::new("element", kind)));
        let base = list(object(vec![
            ("a", ColumnType::Bigint),
            ("b", ColumnType::Varchar),
        ]));
        let other = list(object(vec![
            ("c", ColumnType::Boolean),
            ("a", ColumnType::Double),
        ]));
        let wanted = list(object(vec![
            ("a", ColumnType::Double),
            ("b", ColumnType::Varchar),
            ("c", ColumnType::Boolean),
        ]));
        assert_eq!(join_types(base, other), (wanted, 0));
    }

    #[test]
    fn conflicts_name_the_nested_column() {
        let list = |kind| ColumnType::List(Box::new(Column::new("element", kind)));
        let nested = |kind| {
            of(vec![Column::new(
                "a",
                ColumnType::Struct(vec![Column::new("b", list(kind))]),
            )])
        };
        let joined = nested(ColumnType::Boolean).join(&nested(ColumnType::Varchar), 100);
        let conflict = Conflict {
            column: "a.b[]".to_owned(),
            wanted: "BOOLEAN".to_owned(),
            found: "VARCHAR".to_owned(),
        };
        assert_eq!(joined.conflicts, [conflict]);
    }

    #[test]
    fn names_that_differ_in_case_only_are_not_added() {
        let joined = of(vec![Column::new("Temp", ColumnType::Double)])
            .join(&of(vec![Column::new("temp", ColumnType::Double)]), 100);
        assert_eq!(
            (joined.schema.columns.len(), joined.conflicts.len()),
            (1, 1)
        );
    }

    #[test]
    fn columns_beyond_the_limit_and_reserved_names_are_not_added() {
        let mut base = of(vec![Column::new("a", ColumnType::Double)]);
        let source = "date".to_owned();
        base.partition_columns.push(PartitionColumn {
            name: "date".to_owned(),
            source,
            kind: PartitionKind::Date,
            declared: false,
        });
        let other = of(["b", "Date", "c"]
            .map(|n| Column::new(n, ColumnType::Double))
            .to_vec());
        let joined = base.join(&other, 2);
        let names: Vec<&str> = joined
            .schema
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .collect();
        assert_eq!((names, joined.conflicts.len()), (vec!["a", "b"], 2));
    }

    #[test]
    fn columns_without_a_type_are_no_columns() {
        let list = |kind| ColumnType::List(Box::new(Column::new("element", kind)));
        let empty = ColumnType::Struct(vec![]);
        let other = of(vec![
            Column::new("a", ColumnType::Unknown),
            Column::new("b", empty.clone()),
            Column::new("c", list(list(empty))),
        ]);
        let joined = TableSchema::default().join(&other, 100);
        assert_eq!((joined.schema.columns, joined.conflicts), (vec![], vec![]));
    }

    #[test]
    fn the_json_form_comes_back_and_is_checked() {
        let mut columns: Vec<Column> = kinds()
            .into_iter()
            .zip(["a", "b", "c", "d", "e", "f", "g", "i", "j", "k", "l"])
            .map(|(kind, name)| Column::new(name, kind))
            .collect();
        columns[0].integers_beyond_2_53 = true;
        columns.push(Column::declared("h", ColumnType::Bigint));
        let mut schema = TableSchema::try_new(columns).unwrap().with_number(7);
        let source = "date".to_owned();
        schema.partition_columns.push(PartitionColumn {
            name: "date".to_owned(),
            source,
            kind: PartitionKind::Date,
            declared: false,
        });
        let schema = schema.with_provenance(true).unwrap();
        let text = serde_json::to_string(&schema).unwrap();
        let read = |text: &str| {
            serde_json::from_str::<TableSchema>(text).map_err(|error| error.to_string())
        };
        assert_eq!(read(&text).unwrap(), schema);
        for (name, why) in [
            ("A", "column `A`: the name is empty or taken"),
            (
                "_Stamp",
                "column `_Stamp` has the name of a partition column, a provenance column or `_rescued`",
            ),
        ] {
            let text = text.replacen("\"name\":\"b\"", &format!("\"name\":\"{name}\""), 1);
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn types_are_read_as_they_are_written() {
        for text in [
            "BIGINT",
            "DOUBLE[][]",
            "DECIMAL(38,4)",
            "STRUCT(\"a\" VARCHAR, \"b \"\"c\"\"\" STRUCT(\"d\" BOOLEAN)[])",
        ] {
            assert_eq!(text.parse::<ColumnType>().unwrap().to_string(), text);
        }
        let spaced = " struct( a bigint ,b  decimal( 4 , 2 ) [ ] ) "
            .parse::<ColumnType>()
            .unwrap();
        assert_eq!(
            spaced.to_string(),
            "STRUCT(\"a\" BIGINT, \"b\" DECIMAL(4,2)[])"
        );
        let deep = format!("{}BIGINT{}", "STRUCT(a ".repeat(10_000), ")".repeat(10_000));
        for text in [
            "",
            "INT",
            "DECIMAL(39,0)",
            "DECIMAL(2,3)",
            "STRUCT()",
            "BIGINT[",
            "BIGINT x",
            &deep,
        ] {
            assert!(text.parse::<ColumnType>().is_err(), "{text:.20}");
        }
    }
}
