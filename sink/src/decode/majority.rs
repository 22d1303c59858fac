//! Which kind of value a column gets when the records of an interval disagree.
//!
//! Owns the choice for columns of single values that no schema knows yet: the first value gives the type while records are
//! read, so that an odd first one would have all others rescued; at the end of the interval the kind with the most values
//! takes the column, and those of the first kind are rescued. Promises that each value stays either in the column or in
//! `_rescued`.

use std::collections::HashSet;

use arrow_array::Array as _;

use super::bits::Bits;
use super::column::{ColumnNode, ColumnRole, Fields, TextForm, Values};
use super::finish::finish;
use super::reject::RejectReason;
use super::rescue::RescueColumn;
use super::rescue_tree::{RescueStep, RescueTree};
use super::row::{RecordReader, RecordRules, RecordState};
use crate::encode::write_json_value;

/// What was rescued of a row.
struct RescuedRow {
    row: usize,
    tree: RescueTree,
}

/// What choosing needs.
struct Choosing<'a> {
    rescue: &'a mut RescueColumn,
    rules: &'a RecordRules,
    state: &'a mut RecordState,
    rows: usize,
    /// What was rescued, by row; read when it is first needed.
    rescued: Option<Vec<RescuedRow>>,
}

/// Gives every new column the kind that most of its values have. The rules must refuse what does not fit.
pub(super) fn choose_kinds(
    root: &mut Fields,
    rows: usize,
    (rules, state): (&RecordRules, &mut RecordState),
    rescue: &mut RescueColumn,
) {
    let mut choosing = Choosing {
        rescue,
        rules,
        state,
        rows,
        rescued: None,
    };
    choosing.fields(root, &mut Vec::new(), None);
    choosing.store();
}

/// Whether a column holds single values.
fn is_single(values: &Values) -> bool {
    match values {
        Values::Number(_) | Values::Boolean(_) => true,
        Values::Text(texts) => texts.form == TextForm::Strings,
        _ => false,
    }
}

/// The kind of a single value.
fn kind_of(json: &[u8]) -> Option<usize> {
    match json.first()? {
        b'"' => Some(0),
        b't' | b'f' => Some(1),
        b'-' | b'0'..=b'9' => Some(2),
        _ => None,
    }
}

impl Choosing<'_> {
    fn fields(&mut self, fields: &mut Fields, path: &mut Vec<String>, objects: Option<&Bits>) {
        for field in &mut fields.fields {
            path.push(field.name.to_string());
            match &mut field.node.values {
                Values::Struct(nested) => self.fields(nested, path, Some(&field.node.valid)),
                values if is_single(values) && !field.node.known => {
                    self.column(&mut field.node, path, objects)
                }
                _ => {}
            }
            path.pop();
        }
    }

    /// Chooses the kind of a column. `objects` says which rows have the object that it lies in.
    fn column(&mut self, node: &mut ColumnNode, path: &[String], objects: Option<&Bits>) {
        let present = node.valid.ones();
        let conflict = self
            .rescue
            .kinds
            .find(&path.join("."), RejectReason::TYPE_CONFLICT);
        let Some(conflict) = conflict else { return };
        // What lies in a larger rescued value, or was rescued for another reason, stays where it is.
        let values = self.rescue.values.iter();
        let values = values.filter(|(_, kind)| *kind == conflict);
        let rows = values.map(|(row, _)| *row as usize);
        let rows = rows.filter(|row| objects.is_none_or(|objects| objects.get(*row)));
        let rows: HashSet<usize> = rows.collect();
        if rows.len() <= present {
            return;
        }
        let steps: Vec<RescueStep> = path.iter().cloned().map(RescueStep::Key).collect();
        let mut rescued = self.rescued.take().unwrap_or_else(|| self.read());
        let mut counts = [0; 3];
        for row in rescued.iter().filter(|row| rows.contains(&row.row)) {
            if let Some(kind) = row.tree.leaf(&steps).and_then(kind_of) {
                counts[kind] += 1;
            }
        }
        let (most, count) = (0..3)
            .map(|kind| (kind, counts[kind]))
            .max_by_key(|(_, count)| *count)
            .unwrap_or((0, 0));
        if count > present {
            self.exchange(node, (&steps, most, conflict), &rows, &mut rescued);
        }
        self.rescued = Some(rescued);
    }

    /// Gives the column to the values of kind `most` that these rows rescued from it, and rescues those that it has.
    fn exchange(
        &mut self,
        node: &mut ColumnNode,
        (steps, most, conflict): (&[RescueStep], usize, u32),
        rows: &HashSet<usize>,
        rescued: &mut Vec<RescuedRow>,
    ) {
        let first = finish(std::mem::take(node), self.rows);
        let mut before = std::mem::take(rescued).into_iter().peekable();
        let mut json = Vec::new();
        let mut taken = HashSet::new();
        for index in 0..self.rows {
            let row = before.next_if(|row| row.row == index);
            let mut row = row.unwrap_or(RescuedRow {
                row: index,
                tree: RescueTree::default(),
            });
            let entry = (u32::try_from(index).unwrap_or(u32::MAX), conflict);
            if first.is_valid(index) {
                json.clear();
                write_json_value(&first, index, &mut json).expect("a column of a table is written");
                row.tree.add(steps, &json);
                self.rescue.values.push(entry);
            } else if rows.contains(&index)
                && let Some(value) = row.tree.leaf(steps)
                && kind_of(value) == Some(most)
                && self.takes(node, index, value)
            {
                row.tree.remove(steps);
                taken.insert(entry);
            }
            if !row.tree.is_empty() {
                rescued.push(row);
            }
        }
        self.rescue.values.retain(|entry| !taken.remove(entry));
    }

    /// Reads a value into a row of the column; false when it does not fit.
    fn takes(&mut self, node: &mut ColumnNode, row: usize, json: &[u8]) -> bool {
        let mut reader = RecordReader {
            input: std::str::from_utf8(json).expect("JSON is text"),
            at: 0,
            rules: self.rules,
            state: self.state,
        };
        reader.value(node, row, 1, ColumnRole::default()).is_ok()
    }

    fn read(&self) -> Vec<RescuedRow> {
        let mut rows = Vec::with_capacity(self.rescue.valid.ones());
        self.rescue.valid.each(|row| {
            let tree = RescueTree::read(self.rescue.texts.get(rows.len()));
            rows.push(RescuedRow { row, tree });
        });
        rows
    }

    /// Writes what is rescued now.
    fn store(self) {
        let Some(rescued) = self.rescued else { return };
        self.rescue.valid.truncate(0);
        self.rescue.texts.truncate(0);
        for RescuedRow { row, tree } in rescued {
            tree.write(&mut self.rescue.texts.bytes);
            self.rescue.texts.end();
            self.rescue.valid.set(row);
        }
        self.rescue.values.sort_unstable();
    }
}
