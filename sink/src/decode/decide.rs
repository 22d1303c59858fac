//! What the records of an interval decide about columns that no schema knows yet.
//!
//! Owns when objects become maps, and which keys become no columns. Promises that the same records decide the same,
//! wherever batches ended: objects with many keys are looked at between two records with different sequence numbers, and
//! all of them at the end of the interval.

use super::bits::Bits;
use super::column::{ColumnNode, ColumnRole, Fields, MapEntries, TextColumn, Values, end_of};
use super::evidence::{KEYS_MANY, as_map, no_columns};
use super::finish::finish;
use super::row::{RecordReader, RecordRules, RecordState};
use crate::encode::write_json_value;
use crate::schema::{Column, ColumnType, TableSchema};

/// What deciding needs.
struct Deciding<'a> {
    rules: RecordRules,
    state: &'a mut RecordState,
    /// Whether the interval ends.
    ends: bool,
}

/// Makes maps of the objects among `rows` records whose keys are data: of all when the interval ends, else of those with
/// many keys.
pub(super) fn decide(
    root: &mut Fields,
    rows: usize,
    (rules, state): (&RecordRules, &mut RecordState),
    ends: bool,
) {
    let mut deciding = Deciding {
        rules: strict(rules),
        state,
        ends,
    };
    for field in &mut root.fields {
        deciding.node(&mut field.node, rows, 1);
    }
    deciding.state.width = root.width();
}

/// The rules for reading values again that are known to fit.
pub(super) fn strict(rules: &RecordRules) -> RecordRules {
    RecordRules {
        schema: TableSchema::default(),
        columns_max: usize::MAX,
        frozen: false,
        rescues: false,
        ..rules.clone()
    }
}

impl Deciding<'_> {
    /// Decides about a column of objects at this depth, and about what lies in it.
    fn node(&mut self, node: &mut ColumnNode, len: usize, depth: usize) {
        if let Values::Struct(fields) = &mut node.values
            && !node.known
            && fields.role == ColumnRole::default()
            && (self.ends || fields.fields.len() >= KEYS_MANY)
            && let Some((kind, why)) = as_map(fields, node.valid.ones())
        {
            let entries = self.entries(fields, &node.valid, (len, depth), kind, why);
            node.values = Values::Map(Box::new(entries));
        }
        match &mut node.values {
            Values::Struct(fields) => {
                for field in &mut fields.fields {
                    self.node(&mut field.node, len, depth + 1);
                }
            }
            Values::List(items) => {
                let count = end_of(&items.ends);
                self.node(&mut items.item, count, depth + 1);
            }
            Values::Map(entries) => {
                let count = end_of(&entries.ends);
                self.node(&mut entries.value, count, depth + 1);
            }
            _ => {}
        }
    }

    /// The fields of objects as entries of maps, whose values are of this type. They are written and read again.
    fn entries(
        &mut self,
        fields: &mut Fields,
        valid: &Bits,
        (len, depth): (usize, usize),
        kind: ColumnType,
        why: String,
    ) -> MapEntries {
        let value = Column::new("value", kind);
        let no_role = |_, _: &str| ColumnRole::default();
        let mut entries = MapEntries {
            ends: Vec::new(),
            keys: TextColumn::default(),
            value: ColumnNode::of(&value, ColumnRole::default(), &no_role),
            why: Some(why),
        };
        entries.value.forget_schema();
        let fields = std::mem::take(&mut fields.fields).into_iter();
        let arrays = fields.map(|field| {
            let array = finish(field.node, len);
            (field.name, array.logical_nulls(), array)
        });
        let arrays: Vec<_> = arrays.collect();
        let mut count = 0;
        valid.each(|row| {
            for (name, nulls, array) in &arrays {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    continue;
                }
                entries.keys.bytes.extend_from_slice(name.as_bytes());
                entries.keys.end();
                let mut json = Vec::new();
                write_json_value(array, row, &mut json).expect("a column of a table is written");
                let mut reader = RecordReader {
                    input: std::str::from_utf8(&json).expect("JSON is text"),
                    at: 0,
                    rules: &self.rules,
                    state: self.state,
                };
                reader
                    .value(&mut entries.value, count, depth + 1, ColumnRole::default())
                    .expect("values of one type are read as that type");
                count += 1;
            }
            entries
                .ends
                .push(i32::try_from(count).expect("no more entries than bytes"));
        });
        entries
    }
}

/// The columns that these fields propose for the table. `objects` is how many objects there were.
pub(super) fn proposed(fields: &Fields, objects: usize) -> Vec<Column> {
    let refused = no_columns(fields, objects);
    let fields = fields.fields.iter().zip(refused);
    let fields = fields.filter(|(_, is_refused)| !is_refused);
    fields
        .filter_map(|(field, _)| proposed_by(&field.node, &field.name).typed())
        .collect()
}

fn proposed_by(node: &ColumnNode, name: &str) -> Column {
    let mut column = node.column(name);
    match &node.values {
        Values::Struct(fields) => {
            column.kind = ColumnType::Struct(proposed(fields, node.valid.ones()))
        }
        Values::List(items) => {
            column.kind = ColumnType::List(Box::new(proposed_by(&items.item, "element")));
        }
        Values::Map(entries) => {
            column.kind = ColumnType::Map(Box::new(proposed_by(&entries.value, "value")));
        }
        _ => {}
    }
    column
}
