//! Which kind of value a column gets when the records of an interval disagree.
//!
//! Owns the choice for columns that no schema knows yet: the first value gives the type while records are read, so that an
//! odd first one would have all others rescued; at the end of the interval the kind with the most values takes the column,
//! wherever it lies, and what that does not take is rescued. A list or an object without anything in it that has a type
//! counts for nothing, nor does a value that no column would take. Promises that each value stays either in the column or
//! in `_rescued`, and that the time and the memory for it grow with the values, not with columns times rows.

use std::collections::{BTreeMap, HashMap};

use arrow_array::ArrayRef;

use super::bits::Bits;
use super::column::{ColumnNode, ColumnRole, Fields, NumberColumn, Values, end_of};
use super::column_value::write_column_value;
use super::finish::{finish, gather};
use super::number::{ParsedNumber, read_number};
use super::reject::RejectReason;
use super::rescue::{RescueColumn, Uncounted, push_key};
use super::rescue_tree::RescueTree;
use super::row::{COLUMN_DEPTH_MAX, RecordReader, RecordRules, RecordState};
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
    /// The places in the column of what was rescued in part.
    parts: Vec<u32>,
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
struct Exchange {
    change: ExchangeKind,
    /// The places of what lay in the column, or in what lies in that, and leaves it.
    leaves: Vec<u32>,
}

enum ExchangeKind {
    /// It goes to another kind.
    OfKind {
        kind: usize,
        /// What it has had, one by one.
        first: ArrayRef,
        first_type: ColumnType,
        path: String,
        /// The column when it is empty.
        empty: fn() -> Values,
    },
    /// It keeps its kind; what lies in it does not.
    Fields(FieldExchanges),
    Items(Box<Exchange>, ListCursor),
}

/// The fields of an object whose columns change.
#[derive(Default)]
struct FieldExchanges {
    plans: Vec<(u32, Exchange)>,
    /// The plan of each field that has one.
    by_field: HashMap<u32, usize>,
    /// The object and the plan of each value that leaves its column, in order.
    leaves: Vec<(u32, u32)>,
    /// How many of them are done with.
    done: usize,
}

/// What choosing needs.
struct Choosing<'a> {
    rules: &'a RecordRules,
    state: &'a mut RecordState,
    /// What was rescued and is not any more.
    uncounted: Uncounted,
}

/// Gives every new column the kind that most of its values have.
pub(super) fn choose_kinds(
    root: &mut Fields,
    rows: usize,
    (rules, state): (&RecordRules, &mut RecordState),
    rescue: &mut RescueColumn,
) {
    // What lies in the values that a column gets may be odd first as well.
    for _ in 0..COLUMN_DEPTH_MAX {
        if !choose_once(root, rows, (rules, state), rescue) {
            break;
        }
    }
}

/// Returns whether any column has changed its kind.
fn choose_once(
    root: &mut Fields,
    rows: usize,
    (rules, state): (&RecordRules, &mut RecordState),
    rescue: &mut RescueColumn,
) -> bool {
    if rescue.valid.ones() == 0 {
        return false;
    }
    let has_room = state.width < rules.columns_max;
    let levels = if has_room { COLUMN_DEPTH_MAX - 1 } else { 0 };
    let mut votes = Votes::default();
    let mut at = 0;
    rescue.valid.each(|row| {
        votes.fields(root, &RescueTree::read(rescue.texts.get(at)), (row, levels));
        at += 1;
    });
    let mut plan = plan_fields(root, &votes, rows, "");
    if plan.plans.is_empty() {
        return false;
    }
    state.width = root.width();
    let mut choosing = Choosing {
        rules,
        state,
        uncounted: Uncounted::default(),
    };
    rescue.rewrite(rows, |rescue, row, tree| {
        choosing.fields(root, &mut plan, (row, row, 1), tree, rescue)
    });
    rescue.uncount(choosing.uncounted);
    state.width = root.width();
    true
}

/// The kind of a rescued value; none for one that no column takes.
fn kind_of(value: &RescueTree) -> Option<usize> {
    Some(match value {
        RescueTree::Object(_) => OBJECT,
        RescueTree::List(_) => LIST,
        RescueTree::Leaf(json) => match json.first()? {
            b'"' => TEXT,
            b't' | b'f' => BOOLEAN,
            b'n' => return None,
            _ => match read_number(json, 0).ok()?.0 {
                ParsedNumber::Integer(_) | ParsedNumber::MinusZero => INTEGER,
                ParsedNumber::Float(_) | ParsedNumber::Rounded(_) | ParsedNumber::Whole(_) => {
                    NUMBER
                }
                ParsedNumber::Huge | ParsedNumber::Infinite | ParsedNumber::Vanishing => {
                    return None;
                }
            },
        },
    })
}

/// Calls `mark` with the places of a column that hold anything that has a type; with some more than once.
fn each_typed(node: &ColumnNode, mark: &mut dyn FnMut(usize)) {
    let (ends, item) = match &node.values {
        Values::Unknown => return,
        Values::Struct(fields) => {
            for field in &fields.fields {
                each_typed(&field.node, mark);
            }
            return;
        }
        Values::List(items) => (&items.ends, &items.item),
        Values::Map(entries) => (&entries.ends, &entries.value),
        _ => return node.valid.each(mark),
    };
    let mut is_typed = vec![false; end_of(ends)];
    each_typed(item, &mut |place| is_typed[place] = true);
    let (mut from, mut next) = (0, 0);
    node.valid.each(|place| {
        let end = end_of(&ends[..=next]);
        if is_typed[from..end].contains(&true) {
            mark(place);
        }
        (from, next) = (end, next + 1);
    });
}

/// Whether a column has its type from the records of the interval.
fn is_open(node: &ColumnNode) -> bool {
    !node.known && !matches!(node.values, Values::Unknown)
}

impl ListCursor {
    /// Where the items of the list at `index` begin and end.
    fn items(&mut self, valid: &Bits, ends: &[i32], index: usize) -> std::ops::Range<usize> {
        self.lists += valid.ones_in(self.index..index);
        self.index = index;
        end_of(&ends[..self.lists])..end_of(&ends[..=self.lists])
    }
}

impl Votes {
    fn fields(&mut self, fields: &Fields, rescued: &RescueTree, (index, levels): (usize, usize)) {
        let RescueTree::Object(values) = rescued else {
            return;
        };
        for (name, value) in values {
            let Some(at) = fields.find(name) else {
                continue;
            };
            let field = &fields.fields[at as usize];
            if field.role.partition_field.is_none() {
                let votes = self.fields.entry(at).or_default();
                votes.value(&field.node, value, (index, levels));
            }
        }
    }

    /// Counts a value, in which there may be so many levels of objects and lists.
    fn value(&mut self, node: &ColumnNode, rescued: &RescueTree, (index, levels): (usize, usize)) {
        if !node.valid.get(index) {
            if is_open(node)
                && let Some(kind) = kind_of(rescued)
                && (levels > 0 || !matches!(kind, OBJECT | LIST))
                && !rescued.holds_nothing()
            {
                self.counts[kind] += 1;
            }
            return;
        }
        if is_open(node) && !rescued.holds_nothing() {
            self.parts.push(index as u32);
        }
        let levels = levels.saturating_sub(1);
        match (&node.values, rescued) {
            (Values::Struct(fields), rescued) => self.fields(fields, rescued, (index, levels)),
            (Values::List(items), RescueTree::List(values)) => {
                let places = self.list.items(&node.valid, &items.ends, index);
                let votes = self.item.get_or_insert_default();
                for (place, value) in places.zip(values) {
                    votes.value(&items.item, value, (place, levels));
                }
            }
            _ => {}
        }
    }

    /// The kind that the column with `len` places goes to, if that is another one.
    fn winner(&self, node: &ColumnNode, len: usize) -> Option<usize> {
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
        if most == 0 || !is_open(node) {
            return None;
        }
        let is_container = matches!(
            node.values,
            Values::Struct(_) | Values::List(_) | Values::Map(_)
        );
        let is_most =
            most > node.valid.ones() || is_container && most > self.count_typed(node, len);
        is_most.then_some(kind)
    }

    /// How many values of a column with `len` places have anything that has a type.
    fn count_typed(&self, node: &ColumnNode, len: usize) -> usize {
        let mut is_typed = vec![false; len];
        each_typed(node, &mut |place| is_typed[place] = true);
        for place in &self.parts {
            is_typed[*place as usize] = true;
        }
        is_typed.iter().filter(|is_typed| **is_typed).count()
    }
}

fn plan_fields(fields: &mut Fields, votes: &Votes, len: usize, parent: &str) -> FieldExchanges {
    let mut found = FieldExchanges::default();
    for (at, votes) in &votes.fields {
        let field = &mut fields.fields[*at as usize];
        let mut path = parent.to_owned();
        push_key(&mut path, &field.name);
        if let Some(plan) = plan_node(&mut field.node, votes, len, path) {
            let number = found.plans.len();
            let leaves = plan.leaves.iter();
            found
                .leaves
                .extend(leaves.map(|place| (*place, number as u32)));
            found.by_field.insert(*at, number);
            found.plans.push((*at, plan));
        }
    }
    found.leaves.sort_unstable();
    found
}

/// What becomes of a column with `len` places; one that is exchanged is emptied.
fn plan_node(node: &mut ColumnNode, votes: &Votes, len: usize, path: String) -> Option<Exchange> {
    if let Some(kind) = votes.winner(node, len) {
        let first_type = node.kind();
        let empty: fn() -> Values = match (&node.values, kind) {
            (Values::Number(_), INTEGER) => || Values::Number(NumberColumn::of_integers()),
            (Values::Number(_), NUMBER) => || Values::Number(NumberColumn::of_doubles()),
            _ => || Values::Unknown,
        };
        let mut first = std::mem::take(node);
        node.values = empty();
        let leaves = places_of(&first.valid);
        gather(&mut first, &leaves);
        let change = ExchangeKind::OfKind {
            kind,
            first: finish(first, leaves.len()),
            first_type,
            path,
            empty,
        };
        return Some(Exchange { change, leaves });
    }
    match &mut node.values {
        Values::Struct(fields) => {
            let plans = plan_fields(fields, votes, len, &path);
            let mut leaves: Vec<u32> = plans.leaves.iter().map(|(place, _)| *place).collect();
            leaves.dedup();
            let change = ExchangeKind::Fields(plans);
            let has_plans =
                matches!(&change, ExchangeKind::Fields(plans) if !plans.plans.is_empty());
            has_plans.then_some(Exchange { change, leaves })
        }
        Values::List(items) => {
            let count = end_of(&items.ends);
            let path = format!("{path}[]");
            let plan = plan_node(&mut items.item, votes.item.as_ref()?, count, path)?;
            let lists = places_of(&node.valid);
            let list_of = |item: &u32| {
                let list = items
                    .ends
                    .partition_point(|end| u32::try_from(*end).is_ok_and(|end| end <= *item));
                lists[list]
            };
            let mut leaves: Vec<u32> = plan.leaves.iter().map(list_of).collect();
            leaves.dedup();
            let change = ExchangeKind::Items(Box::new(plan), ListCursor::default());
            Some(Exchange { change, leaves })
        }
        _ => None,
    }
}

/// The indexes of the ones.
fn places_of(valid: &Bits) -> Vec<u32> {
    let mut places = Vec::with_capacity(valid.ones());
    valid.each(|place| places.push(place as u32));
    places
}

impl FieldExchanges {
    /// The plans of what leaves the object at `index`, and of these of its values, with the places of those.
    fn of_object(
        &mut self,
        fields: &Fields,
        values: &[(String, RescueTree)],
        index: usize,
    ) -> Vec<(usize, Option<usize>)> {
        let mut found = Vec::new();
        for (at, (name, _)) in values.iter().enumerate() {
            let field = fields.find(name);
            if let Some(plan) = field.and_then(|field| self.by_field.get(&field)) {
                found.push((*plan, Some(at)));
            }
        }
        while let Some((place, plan)) = self.leaves.get(self.done)
            && *place as usize <= index
        {
            debug_assert_eq!(*place as usize, index, "objects come in order");
            found.push((*plan as usize, None));
            self.done += 1;
        }
        found.sort_unstable_by_key(|(plan, at)| (*plan, at.is_none()));
        found.dedup_by_key(|(plan, _)| *plan);
        found
    }
}

impl Choosing<'_> {
    /// Exchanges what the plan says in the object at `index`, of which `rescued` was rescued. Returns whether that
    /// changed.
    fn fields(
        &mut self,
        fields: &mut Fields,
        plans: &mut FieldExchanges,
        (row, index, depth): (usize, usize, usize),
        rescued: &mut RescueTree,
        rescue: &mut RescueColumn,
    ) -> bool {
        let RescueTree::Object(values) = rescued else {
            return false;
        };
        let mut changed = false;
        for (plan, known) in plans.of_object(fields, values, index) {
            let (at, plan) = &mut plans.plans[plan];
            let field = &mut fields.fields[*at as usize];
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
        match &mut plan.change {
            ExchangeKind::OfKind {
                kind,
                first,
                first_type,
                path,
                empty,
            } => {
                let place = u32::try_from(index).unwrap_or(u32::MAX);
                let was_first = plan.leaves.binary_search(&place).ok();
                if let Some(at) = was_first {
                    let mut json = Vec::new();
                    write_column_value(first_type, first, at, &mut json)
                        .expect("a column of a table is written");
                    // What was rescued of it lies in it again.
                    let mut whole = RescueTree::read(&json);
                    self.uncounted.add_within(row, path, &whole, slot);
                    whole.merge(std::mem::replace(slot, RescueTree::null()));
                    *slot = whole;
                } else if slot.is_null() {
                    return false;
                }
                let was_first = was_first.is_some();
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
                    self.uncounted.add(row, path);
                }
                is_taken || was_first
            }
            ExchangeKind::Fields(plans) => match &mut node.values {
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
            ExchangeKind::Items(plan, cursor) => match &mut node.values {
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
}
