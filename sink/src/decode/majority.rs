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

/// What choosing needs.
struct Choosing<'a> {
    rescue: &'a mut RescueColumn,
    rules: &'a RecordRules,
    state: &'a mut RecordState,
    rows: usize,
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
    };
    choosing.fields(root, &mut Vec::new(), None);
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
        let mut counts = [0; 3];
        self.each_rescued(|row, text| {
            if rows.contains(&row)
                && let Some(kind) = RescueTree::read(text).leaf(&steps).and_then(kind_of)
            {
                counts[kind] += 1;
            }
        });
        let most = (0..3).max_by_key(|kind| counts[*kind]).unwrap_or(0);
        if counts[most] > present {
            self.exchange(node, (&steps, most, conflict), &rows);
        }
    }

    /// Gives what was rescued of each row.
    fn each_rescued(&self, mut take: impl FnMut(usize, &[u8])) {
        let mut at = 0;
        self.rescue.valid.each(|row| {
            take(row, self.rescue.texts.get(at));
            at += 1;
        });
    }

    /// Gives the column to the values of kind `most` that these rows rescued from it, and rescues those that it has. A row
    /// at a time is read from its text and written back.
    fn exchange(
        &mut self,
        node: &mut ColumnNode,
        (steps, most, conflict): (&[RescueStep], usize, u32),
        rows: &HashSet<usize>,
    ) {
        let first = finish(std::mem::take(node), self.rows);
        let (valid, texts) = (
            std::mem::take(&mut self.rescue.valid),
            std::mem::take(&mut self.rescue.texts),
        );
        let (mut at, mut json) = (0, Vec::new());
        let mut taken = HashSet::new();
        for index in 0..self.rows {
            let before = valid.get(index).then(|| texts.get(at));
            at += usize::from(before.is_some());
            let entry = (u32::try_from(index).unwrap_or(u32::MAX), conflict);
            let is_ours = rows.contains(&index);
            if !first.is_valid(index) && !is_ours {
                if let Some(text) = before {
                    self.rescue.texts.bytes.extend_from_slice(text);
                    self.rescue.end(index);
                }
                continue;
            }
            let mut tree = before.map_or_else(RescueTree::default, RescueTree::read);
            if first.is_valid(index) {
                json.clear();
                write_json_value(&first, index, &mut json).expect("a column of a table is written");
                tree.add(steps, &json);
                self.rescue.values.push(entry);
            } else if let Some(value) = tree.leaf(steps)
                && kind_of(value) == Some(most)
                && self.takes(node, index, value)
            {
                tree.remove(steps);
                taken.insert(entry);
            }
            if !tree.is_empty() {
                tree.write(&mut self.rescue.texts.bytes);
                self.rescue.end(index);
            }
        }
        self.rescue.values.retain(|entry| !taken.remove(entry));
        self.rescue.values.sort_unstable();
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
}
