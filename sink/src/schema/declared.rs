//! The columns that the configuration declares.
//!
//! Owns the paths of `[sink.columns]`: names with dots between them, `[]` behind a name for the items of its list, and
//! double quotes around a name that holds a dot. A path to a field of an object makes the object a STRUCT whose other
//! fields the records decide.

use std::borrow::Cow;
use std::collections::HashMap;

use hydrant_core::{Error, Result};

use super::fold_name;
use super::type_text::{read_name, take};
use super::types::{Column, ColumnType, TableSchema};
use crate::decode::COLUMN_DEPTH_MAX;

/// The most names of a path, and the most lists behind one.
const STEPS_MAX: usize = 64;

/// How many declared columns there may be, nested ones included.
const DECLARED_MAX: usize = 100_000;

/// The schema of these columns, given as paths and types.
///
/// # Errors
/// Refused: paths that cannot be read, columns that clash, names that are taken, and types that are out of range. The path
/// says which column it is, where it is one.
pub fn declared_schema(
    columns: &[(String, ColumnType)],
) -> Result<TableSchema, (Option<String>, String)> {
    let mut schema = TableSchema::default();
    let mut seen: HashMap<String, &str> = HashMap::new();
    for (path, kind) in columns {
        let added = match seen.insert(fold_name(path), path) {
            Some(other) if other != path => Err(Error::refused(format!(
                "columns `{other}` and `{path}` differ in case only, which readers do not distinguish: declare one of them"
            ))),
            _ => with_column(&schema, path, kind),
        };
        schema = added.map_err(|error| (Some(path.clone()), error.to_string()))?;
    }
    schema
        .validate()
        .map_err(|error| (None, error.to_string()))?;
    Ok(schema)
}

/// A name as a step of a path.
pub(crate) fn path_step(name: &str) -> Cow<'_, str> {
    match name.contains(['.', '[', '"']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")).into(),
        false => name.into(),
    }
}

/// The schema with one more column.
fn with_column(schema: &TableSchema, path: &str, kind: &ColumnType) -> Result<TableSchema> {
    if let Some((map, _)) = path.split_once("{}").filter(|_| !path.contains('"')) {
        return Err(Error::refused(format!(
            "`{path}` leads into a map, which is declared as a whole: write `{map} = \"MAP(VARCHAR, TYPE)\"`"
        )));
    }
    let column = column_at(path, kind).ok_or_else(|| {
        Error::refused(format!(
            "`{path}` is not a path of a column: write names with dots between them, such as `meta.size` or `readings[].unit`, \
             and double quotes around a name that holds a dot"
        ))
    })?;
    if !nests_up_to(&column.kind, COLUMN_DEPTH_MAX - 1) {
        return Err(Error::refused(format!(
            "column `{path}` nests deeper than {COLUMN_DEPTH_MAX} levels, the record included, which readers do not take: declare \
             what lies deeper as JSON"
        )));
    }
    let one = TableSchema::try_new(vec![column])?;
    let joined = schema.join(&one, DECLARED_MAX);
    if let Some(conflict) = joined.conflicts.first() {
        return Err(Error::refused(format!(
            "column `{}` is declared twice, as {} and as {}",
            conflict.column, conflict.wanted, conflict.found,
        )));
    }
    if joined.schema == *schema {
        return Err(Error::refused(format!("column `{path}` is declared twice")));
    }
    Ok(joined.schema)
}

/// Whether containers lie at most so many levels in one another.
fn nests_up_to(kind: &ColumnType, levels: usize) -> bool {
    match kind {
        ColumnType::Struct(_) | ColumnType::List(_) | ColumnType::Map(_) if levels == 0 => false,
        ColumnType::Struct(fields) => fields
            .iter()
            .all(|field| nests_up_to(&field.kind, levels - 1)),
        ColumnType::List(item) | ColumnType::Map(item) => nests_up_to(&item.kind, levels - 1),
        _ => true,
    }
}

/// The top-level column that holds a column of this path and type.
fn column_at(path: &str, kind: &ColumnType) -> Option<Column> {
    let mut rest = path;
    let mut steps = Vec::new();
    loop {
        let name = match rest.starts_with('"') {
            true => read_name(&mut rest)?,
            false => {
                let end = rest.find(['.', '[', '"']).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                rest = after;
                name.to_owned()
            }
        };
        if name.is_empty() {
            return None;
        }
        let mut lists = 0;
        while let Some(after) = rest.strip_prefix("[]") {
            rest = after;
            lists += 1;
        }
        steps.push((name, lists));
        if steps.len() + lists > STEPS_MAX {
            return None;
        }
        if rest.is_empty() {
            break;
        }
        take(&mut rest, '.')?;
    }
    let (mut kind, mut is_leaf) = (kind.clone(), true);
    let mut column = None;
    for (name, lists) in steps.into_iter().rev() {
        if let Some(field) = column.take() {
            kind = ColumnType::Struct(vec![field]);
        }
        for _ in 0..lists {
            let item = match std::mem::take(&mut is_leaf) {
                true => Column::declared("element", kind),
                false => Column::new("element", kind),
            };
            kind = ColumnType::List(Box::new(item));
        }
        column = Some(match std::mem::take(&mut is_leaf) {
            true => Column::declared(name, kind),
            false => Column::new(name, kind),
        });
        kind = ColumnType::Unknown;
    }
    column
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, &str)]) -> Result<TableSchema> {
        let columns = columns.iter();
        let columns = columns.map(|(path, kind)| ((*path).to_owned(), kind.parse().unwrap()));
        declared_schema(&columns.collect::<Vec<_>>()).map_err(|(_, why)| Error::refused(why))
    }

    #[test]
    fn paths_lead_to_fields_and_items() {
        let declared = schema(&[
            ("price", "DECIMAL(9,2)"),
            ("meta.size", "BIGINT"),
            ("meta.at", "TIMESTAMP(ms)"),
            ("readings[].unit", "VARCHAR"),
            ("grid[][]", "DOUBLE"),
            ("\"a.b\".\"c\"\"[]\"", "JSON"),
            ("tags", "MAP(VARCHAR, VARCHAR[])"),
        ]);
        let kinds = declared.unwrap().columns.into_iter();
        let kinds: Vec<(String, String, bool)> = kinds
            .map(|column| {
                (
                    column.name.clone(),
                    column.kind.to_string(),
                    column.declared,
                )
            })
            .collect();
        let wanted = [
            ("price", "DECIMAL(9,2)", true),
            (
                "meta",
                r#"STRUCT("size" BIGINT, "at" TIMESTAMP(ms))"#,
                false,
            ),
            ("readings", r#"STRUCT("unit" VARCHAR)[]"#, false),
            ("grid", "DOUBLE[][]", false),
            ("a.b", r#"STRUCT("c""[]" JSON)"#, false),
            ("tags", "MAP(VARCHAR, VARCHAR[])", true),
        ];
        let wanted = wanted.map(|(name, kind, is)| (name.to_owned(), kind.to_owned(), is));
        assert_eq!(kinds, wanted);
    }

    #[test]
    fn what_nests_deeper_than_it_can_be_stored_is_refused() {
        for (levels, is_taken) in [(15, true), (16, false), (17, false), (40, false)] {
            let lists = format!("BIGINT{}", "[]".repeat(levels.min(31)));
            let maps = format!(
                "{}BIGINT{}",
                "MAP(VARCHAR, ".repeat(levels.min(31)),
                ")".repeat(levels.min(31))
            );
            let path = vec!["a"; levels + 1].join(".");
            for (path, kind) in [("l", lists.as_str()), ("m", &maps), (&path, "BIGINT")] {
                let declared = schema(&[(path, kind)]);
                assert_eq!(declared.is_ok(), is_taken, "{path} {kind}");
                let Ok(declared) = declared else { continue };
                let text = serde_json::to_string(&declared).unwrap();
                assert_eq!(
                    serde_json::from_str::<TableSchema>(&text).unwrap(),
                    declared
                );
            }
        }
        assert!(schema(&[(&vec!["a"; 100_000].join("."), "BIGINT")]).is_err());
    }

    #[test]
    fn what_clashes_or_names_nothing_is_refused() {
        for columns in [
            &[("", "BIGINT")][..],
            &[(".a", "BIGINT")],
            &[("a.", "BIGINT")],
            &[("a..b", "BIGINT")],
            &[("[]", "BIGINT")],
            &[("a[]b", "BIGINT")],
            &[("a\"b", "BIGINT")],
            &[("\"a", "BIGINT")],
            &[("a", "BIGINT"), ("a", "VARCHAR")],
            &[("a", "BIGINT"), ("a", "BIGINT")],
            &[("a", "BIGINT"), ("A", "BIGINT")],
            &[("a", "BIGINT"), ("a.b", "BIGINT")],
            &[("a.b", "BIGINT"), ("a[].b", "BIGINT")],
            &[("_rescued", "JSON")],
        ] {
            assert!(schema(columns).is_err(), "{columns:?}");
        }
        for (columns, said) in [
            (
                &[("A", "BIGINT"), ("a", "BIGINT")][..],
                "`A` and `a` differ in case only",
            ),
            (
                &[("m.A", "BIGINT"), ("m.a", "DOUBLE")],
                "`m.A` and `m.a` differ in case only",
            ),
            (
                &[("m.counters{}", "BIGINT")],
                "`m.counters = \"MAP(VARCHAR, TYPE)\"`",
            ),
        ] {
            let refused = schema(columns).unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
