//! Which kind of value a column gets when the records of an interval disagree.
//!
//! Owns the choice for columns that no schema knows yet: the first value gives the type while records are read, so that an
//! odd first one would have all others rescued; at the end of the interval the kind with the most values takes the column,
//! wherever it lies, and what that does not take is rescued. A list or an object without anything in it that has a type
//! counts for nothing. Promises that each value stays either in the column or in `_rescued`, and that the time for it grows
//! with the rescued values, not with columns times rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow_array::{Array as _, ArrayRef};

use super::bits::Bits;
use super::column::{ColumnNode, ColumnRole, Fields, NumberColumn, Values, end_of};
use super::column_value::write_column_value;
use super::finish::finish;
use super::reject::RejectReason;
use super::rescue::{OTHER_PATHS, RescueColumn, RescueKind, push_key};
use super::rescue_tree::RescueTree;
use super::row::{RecordReader, RecordRules, RecordState};
use crate::schema::ColumnType;

/// The kinds among which columns are given away. Integers and other numbers are of one kind, unless a column of the one
/// does not take the other.
const KINDS: usize = 6;
const TEXT: usize = 0;
const BOOLEAN: usize = 1;
const INTEGER: usize = 2;
const NUMBER: usize = 3;
const OBJECT: usize = 4;
const LIST: usize = 5;

/// What was rescued from a column and what lies in it, by kind.
#[derive(Default)]
struct Votes {
    counts: [usize; KINDS],
    /// By the index of the field.
    fields: BTreeMap<u32, Votes>,
    item: Option<Box<Votes>>,
    list: ListCursor,
}

/// The place of a list among the lists of a column, which are looked at in their order.
#[derive(Default)]
struct ListCursor {
    index: usize,
    lists: usize,
}

/// What becomes of a column.
enum Exchange {
    /// It goes to another kind.
    OfKind {
        kind: usize,
        /// What it has had.
        first: ArrayRef,
        first_type: ColumnType,
        path: String,
        /// The column when it is empty.
        empty: fn() -> Values,
    },
    /// It keeps its kind; what lies in it does not.
    Fields(Vec<(u32, Exchange)>),
    Items(Box<Exchange>, ListCursor),
}

/// What choosing needs.
struct Choosing<'a> {
    rules: &'a RecordRules,
    state: &'a mut RecordState,
    /// How many values of each path were rescued by row, and are not any more.
    taken: HashMap<(u32, String), usize>,
}

/// Gives every new column the kind that most of its values have.
pub(super) fn choose_kinds(
    root: &mut Fields,
    rows: usize,
    (rules, state): (&RecordRules, &mut RecordState),
    rescue: &mut RescueColumn,
) {
    if rescue.valid.ones() == 0 {
        return;
    }
    let mut votes = Votes::default();
    let mut at = 0;
    rescue.valid.each(|row| {
        votes.fields(root, &RescueTree::read(rescue.texts.get(at)), row);
        at += 1;
    });
    let mut plan = plan_fields(root, &votes, rows, "");
    if plan.is_empty() {
        return;
    }
    let mut choosing = Choosing {
        rules,
        state,
        taken: HashMap::new(),
    };
    rescue.rewrite(rows, |rescue, row, tree| {
        choosing.fields(root, &mut plan, (row, row, 1), tree, rescue)
    });
    choosing.forget_taken(rescue);
    state.width = root.width();
}

/// The kind of a rescued value.
fn kind_of(value: &RescueTree) -> Option<usize> {
    Some(match value {
        RescueTree::Object(_) => OBJECT,
        RescueTree::List(_) => LIST,
        RescueTree::Leaf(json) => match json.first()? {
            b'"' => TEXT,
            b't' | b'f' => BOOLEAN,
            b'n' => return None,
            _ => {
                let text = std::str::from_utf8(json).ok()?;
                if text.parse::<i64>().is_ok() {
                    INTEGER
                } else {
                    NUMBER
                }
            }
        },
    })
}

/// Whether a column has its type from the records of the interval.
fn is_open(node: &ColumnNode) -> bool {
    !node.known && !matches!(node.values, Values::Unknown)
}

impl ListCursor {
    /// Where the items of the list at `index` begin and end.
    fn items(&mut self, valid: &Bits, ends: &[i32], index: usize) -> std::ops::Range<usize> {
        self.lists += (self.index..index).filter(|at| valid.get(*at)).count();
        self.index = index;
        end_of(&ends[..self.lists])..end_of(&ends[..=self.lists])
    }
}

impl Votes {
    fn fields(&mut self, fields: &Fields, rescued: &RescueTree, index: usize) {
        let RescueTree::Object(values) = rescued else {
            return;
        };
        for (name, value) in values {
            let Some(at) = fields.find(name) else {
                continue;
            };
            let field = &fields.fields[at as usize];
            if field.role.partition_field.is_none() {
                self.fields
                    .entry(at)
                    .or_default()
                    .value(&field.node, value, index);
            }
        }
    }

    fn value(&mut self, node: &ColumnNode, rescued: &RescueTree, index: usize) {
        if !node.valid.get(index) {
            if is_open(node)
                && let Some(kind) = kind_of(rescued)
            {
                self.counts[kind] += 1;
            }
            return;
        }
        match (&node.values, rescued) {
            (Values::Struct(fields), rescued) => self.fields(fields, rescued, index),
            (Values::List(items), RescueTree::List(values)) => {
                let places = self.list.items(&node.valid, &items.ends, index);
                let votes = self.item.get_or_insert_default();
                for (place, value) in places.zip(values) {
                    votes.value(&items.item, value, place);
                }
            }
            _ => {}
        }
    }

    /// The kind that the column goes to, if that is another one.
    fn winner(&self, node: &ColumnNode) -> Option<usize> {
        let counts = &self.counts;
        let numbers = counts[INTEGER] + counts[NUMBER];
        let is_number = matches!(node.values, Values::Number(_));
        let sums = [
            (TEXT, counts[TEXT]),
            (BOOLEAN, counts[BOOLEAN]),
            (INTEGER, if is_number { counts[INTEGER] } else { 0 }),
            (NUMBER, if is_number { counts[NUMBER] } else { numbers }),
            (OBJECT, counts[OBJECT]),
            (LIST, counts[LIST]),
        ];
        let (kind, most) = sums.into_iter().rev().max_by_key(|(_, sum)| *sum)?;
        let present = if node.has_type() {
            node.valid.ones()
        } else {
            0
        };
        (is_open(node) && most > present).then_some(kind)
    }
}

fn plan_fields(
    fields: &mut Fields,
    votes: &Votes,
    len: usize,
    parent: &str,
) -> Vec<(u32, Exchange)> {
    let plans = votes.fields.iter().filter_map(|(at, votes)| {
        let field = &mut fields.fields[*at as usize];
        let mut path = parent.to_owned();
        push_key(&mut path, &field.name);
        Some((*at, plan_node(&mut field.node, votes, len, path)?))
    });
    plans.collect()
}

/// What becomes of a column with `len` places; one that is exchanged is emptied.
fn plan_node(node: &mut ColumnNode, votes: &Votes, len: usize, path: String) -> Option<Exchange> {
    if let Some(kind) = votes.winner(node) {
        let first_type = node.kind();
        let empty: fn() -> Values = match (&node.values, kind) {
            (Values::Number(_), INTEGER) => || Values::Number(NumberColumn::of_integers()),
            (Values::Number(_), NUMBER) => || Values::Number(NumberColumn::of_doubles()),
            _ => || Values::Unknown,
        };
        let first = finish(std::mem::take(node), len);
        node.values = empty();
        return Some(Exchange::OfKind {
            kind,
            first,
            first_type,
            path,
            empty,
        });
    }
    match &mut node.values {
        Values::Struct(fields) => {
            let plans = plan_fields(fields, votes, len, &path);
            (!plans.is_empty()).then_some(Exchange::Fields(plans))
        }
        Values::List(items) => {
            let count = end_of(&items.ends);
            let path = format!("{path}[]");
            let plan = plan_node(&mut items.item, votes.item.as_ref()?, count, path)?;
            Some(Exchange::Items(Box::new(plan), ListCursor::default()))
        }
        _ => None,
    }
}

impl Choosing<'_> {
    /// Exchanges what the plan says in the object at `index`, of which `rescued` was rescued. Returns whether that
    /// changed.
    fn fields(
        &mut self,
        fields: &mut Fields,
        plans: &mut [(u32, Exchange)],
        (row, index, depth): (usize, usize, usize),
        rescued: &mut RescueTree,
        rescue: &mut RescueColumn,
    ) -> bool {
        let RescueTree::Object(values) = rescued else {
            return false;
        };
        let (mut changed, mut next) = (false, 0);
        for (at, plan) in plans {
            let field = &mut fields.fields[*at as usize];
            let is_it = |(name, _): &(String, RescueTree)| **name == *field.name;
            // They mostly have the order of the fields.
            let known = match values.get(next).is_some_and(is_it) {
                true => Some(next),
                false => values.iter().position(is_it),
            };
            let mut absent = RescueTree::null();
            let slot = match known {
                Some(known) => &mut values[known].1,
                None => &mut absent,
            };
            let place = (row, index, depth);
            changed |= self.node(&mut field.node, plan, place, field.role, slot, rescue);
            if !absent.is_null() {
                values.push((field.name.to_string(), absent));
            }
            next = known.map_or(next, |known| known + 1);
        }
        if changed {
            values.retain(|(_, value)| !value.is_null());
        }
        changed
    }

    fn node(
        &mut self,
        node: &mut ColumnNode,
        plan: &mut Exchange,
        (row, index, depth): (usize, usize, usize),
        role: ColumnRole,
        slot: &mut RescueTree,
        rescue: &mut RescueColumn,
    ) -> bool {
        match plan {
            Exchange::OfKind {
                kind,
                first,
                first_type,
                path,
                empty,
            } => {
                let was_first = first.is_valid(index);
                if was_first {
                    let mut json = Vec::new();
                    write_column_value(first_type, first, index, &mut json)
                        .expect("a column of a table is written");
                    // What was rescued of it lies in it again.
                    let mut whole = RescueTree::read(&json);
                    whole.merge(std::mem::replace(slot, RescueTree::null()));
                    *slot = whole;
                } else if slot.is_null() {
                    return false;
                }
                let is_ours = match (kind_of(slot), *kind) {
                    (Some(INTEGER | NUMBER), INTEGER | NUMBER) => true,
                    (Some(found), kind) => found == kind,
                    (None, _) => false,
                };
                let is_taken =
                    is_ours && self.takes(node, (row, index, depth), role, slot, (path, rescue));
                if matches!(node.values, Values::Unknown) {
                    node.values = empty();
                }
                if !is_taken && was_first {
                    rescue.count(row, path, RejectReason::TYPE_CONFLICT);
                } else if is_taken && !was_first {
                    *self
                        .taken
                        .entry((u32::try_from(row).unwrap_or(u32::MAX), path.clone()))
                        .or_default() += 1;
                }
                is_taken || was_first
            }
            Exchange::Fields(plans) => match &mut node.values {
                Values::Struct(fields) if node.valid.get(index) => {
                    if slot.is_null() {
                        *slot = RescueTree::default();
                    }
                    let changed = self.fields(fields, plans, (row, index, depth + 1), slot, rescue);
                    if slot.is_empty() {
                        *slot = RescueTree::null();
                    }
                    changed
                }
                _ => false,
            },
            Exchange::Items(plan, cursor) => match &mut node.values {
                Values::List(items) if node.valid.get(index) => {
                    let places = cursor.items(&node.valid, &items.ends, index);
                    let mut values = match std::mem::replace(slot, RescueTree::null()) {
                        RescueTree::List(values) => values,
                        _ => Vec::new(),
                    };
                    values.resize_with(places.len(), RescueTree::null);
                    let mut changed = false;
                    for (place, value) in places.zip(&mut values) {
                        let place = (row, place, depth + 1);
                        let role = ColumnRole::default();
                        changed |= self.node(&mut items.item, plan, place, role, value, rescue);
                    }
                    while values.pop_if(|value| value.is_null()).is_some() {}
                    if !values.is_empty() {
                        *slot = RescueTree::List(values);
                    }
                    changed
                }
                _ => false,
            },
        }
    }

    /// Reads a value into a place of the column; false when that does not take it. What it takes in part stays in part.
    fn takes(
        &mut self,
        node: &mut ColumnNode,
        (row, index, depth): (usize, usize, usize),
        role: ColumnRole,
        value: &mut RescueTree,
        (path, rescue): (&str, &mut RescueColumn),
    ) -> bool {
        let mut json = Vec::new();
        value.write(&mut json);
        let width = self.state.width;
        self.state.ordinal += 1;
        self.state.rescued.clear();
        self.state.other_keys.clear();
        let mut reader = RecordReader {
            input: std::str::from_utf8(&json).expect("JSON is text"),
            at: 0,
            rules: self.rules,
            state: self.state,
        };
        let read = reader.value(node, index, depth, role);
        let rescued = std::mem::take(&mut self.state.rescued);
        let is_whole = rescued.first().is_some_and(|first| first.start == 0);
        if read.is_err() || is_whole || !node.valid.get(index) {
            node.truncate(index, self.state.ordinal);
            self.state.width = width;
            return false;
        }
        *value = RescueTree::null();
        if !rescued.is_empty() {
            // The text of a container within one that is written.
            let mut part = RescueColumn {
                kinds: std::mem::take(&mut rescue.kinds),
                values: std::mem::take(&mut rescue.values),
                ..RescueColumn::default()
            };
            part.extract(row, path.to_owned(), &json, &rescued)
                .expect("it was read before");
            *value = RescueTree::read(&part.texts.bytes);
            (rescue.kinds, rescue.values) = (part.kinds, part.values);
        }
        true
    }

    /// Counts no more what was taken.
    fn forget_taken(mut self, rescue: &mut RescueColumn) {
        let RescueColumn { kinds, values, .. } = rescue;
        // Not each path is counted apart.
        let known: HashSet<String> = kinds.paths().map(str::to_owned).collect();
        let taken = std::mem::take(&mut self.taken).into_iter();
        for ((row, path), count) in taken {
            let path = match known.contains(&path) {
                true => path,
                false => OTHER_PATHS.to_owned(),
            };
            *self.taken.entry((row, path)).or_default() += count;
        }
        values.retain(|(row, kind)| {
            let RescueKind { path, .. } = kinds.get(*kind);
            match self.taken.get_mut(&(*row, path.clone())) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    false
                }
                _ => true,
            }
        });
    }
}
