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

struct Join {
    conflicts: Vec<Conflict>,
    room: usize,
}

impl TableSchema {
    /// Adds to this schema what `other` has beyond it, up to `columns_max` columns in all (nested
    /// ones and containers included). What this schema says wins wherever both cannot hold.
    #[must_use]
    pub fn join(&self, other: &TableSchema, columns_max: usize) -> Joined {
        let mut schema = self.clone();
        if schema.partition_columns.is_empty() {
            schema
                .partition_columns
                .clone_from(&other.partition_columns);
        }
        let mut join = Join {
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
        Joined {
            schema,
            conflicts: join.conflicts,
        }
    }
}

impl Join {
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
            }
            (T::Double, T::Bigint) if !other.integers_beyond_2_53 => {}
            (T::Struct(fields), T::Struct(others)) => {
                let others: Vec<&Column> = others.iter().collect();
                self.columns(fields, &others, &format!("{path}."));
            }
            (T::List(item), T::List(other)) => self.column(item, other, &format!("{path}[]")),
            (mine, theirs) if mine == theirs => {}
            (mine, theirs) => {
                let wanted = mine.to_string();
                self.refuse(path, wanted, theirs);
            }
        }
    }
}
