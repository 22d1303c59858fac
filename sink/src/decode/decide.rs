//! What the records of an interval decide about columns that no schema knows yet.
//!
//! Owns when objects become maps, and which keys become no columns. Promises that the same records decide the same,
//! wherever batches ended: objects with many keys are looked at between two records with different sequence numbers, and
//! all of them at the end of the interval.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::bits::Bits;
use super::column::{ColumnNode, ColumnRole, Fields, MapEntries, TextColumn, Values, end_of};
use super::column_value::write_column_value;
use super::evidence::{KEYS_MANY, as_map, no_columns};
use super::finish::{finish, gather};
use super::rescue::{RescueColumn, RescueKind, RescuedValue, Uncounted, path_of};
use super::rescue_tree::{PlaceOf, RescueStep, RescueTree};
use super::row::{RecordReader, RecordRules, RecordState};
use crate::schema::{Column, ColumnType, TableSchema};

/// A value that a map does not take, or what is left of it.
struct LostValue {
    /// Where it lies in its row.
    steps: Vec<RescueStep>,
    json: Vec<u8>,
    /// Whether nothing of it is taken.
    is_whole: bool,
    /// Where in it values were rescued, and why.
    kinds: Vec<RescueKind>,
}

/// What deciding needs.
struct Deciding<'a> {
    rules: RecordRules,
    state: &'a mut RecordState,
    /// Whether the interval ends.
    ends: bool,
    /// The values that no map takes, by row.
    lost: BTreeMap<usize, Vec<LostValue>>,
}

/// Makes maps of the objects among `rows` records whose keys are data: of all when the interval ends, else of those with
/// many keys.
pub(super) fn decide(
    root: &mut Fields,
    rows: usize,
    (rules, state): (&RecordRules, &mut RecordState),
    rescue: &mut RescueColumn,
    ends: bool,
) {
    let mut deciding = Deciding {
        rules: lenient(rules),
        state,
        ends,
        lost: BTreeMap::new(),
    };
    for field in &mut root.fields {
        let name = &field.name;
        let place_of = |row: usize, steps: &mut Vec<RescueStep>| {
            steps.push(RescueStep::Key(name.to_string()));
            row
        };
        deciding.node(&mut field.node, 1, &place_of);
    }
    deciding.state.width = root.width();
    let mut lost = deciding.lost;
    if lost.is_empty() {
        return;
    }
    let (mut uncounted, mut counted) = (Uncounted::default(), Vec::new());
    rescue.rewrite(rows, |_, row, tree| {
        let lost = lost.remove(&row).unwrap_or_default();
        for value in &lost {
            let LostValue { steps, json, .. } = value;
            if value.is_whole
                && let Some(rescued) = tree.at(steps)
            {
                let path = path_of(steps);
                uncounted.add_within(row, &path, &RescueTree::read(json), rescued);
            }
            tree.add(steps, json);
        }
        let kinds = lost.iter().flat_map(|value| &value.kinds);
        counted.extend(kinds.map(|kind| (row, kind.clone())));
        !lost.is_empty()
    });
    rescue.uncount(uncounted);
    for (row, kind) in counted {
        rescue.count(row, &kind.path, kind.reason);
    }
    rescue.values.sort_unstable();
}

/// The rules for reading values again, which bring no columns beyond those that there are.
fn lenient(rules: &RecordRules) -> RecordRules {
    RecordRules {
        schema: TableSchema::default(),
        columns_max: usize::MAX,
        frozen: false,
        refuses: false,
        ..rules.clone()
    }
}

impl Deciding<'_> {
    /// Decides about a column of objects at this depth, and about what lies in it.
    fn node(&mut self, node: &mut ColumnNode, depth: usize, place_of: PlaceOf<'_>) {
        if let Values::Struct(fields) = &mut node.values
            && !node.known
            && fields.role == ColumnRole::default()
            && (self.ends || fields.fields.len() >= KEYS_MANY)
            && let Some((kind, why)) = as_map(fields, node.valid.ones())
        {
            let entries = self.entries(fields, &node.valid, depth, (kind, why), place_of);
            node.values = Values::Map(Box::new(entries));
        }
        let valid = &node.valid;
        match &mut node.values {
            Values::Struct(fields) => {
                for field in &mut fields.fields {
                    let name = &field.name;
                    let place_of = |index: usize, steps: &mut Vec<RescueStep>| {
                        let row = place_of(index, steps);
                        steps.push(RescueStep::Key(name.to_string()));
                        row
                    };
                    self.node(&mut field.node, depth + 1, &place_of);
                }
            }
            Values::List(items) => {
                let places = OnceCell::new();
                let ends = &items.ends;
                let place_of = |index: usize, steps: &mut Vec<RescueStep>| {
                    let (list, from) = container_of(index, ends);
                    let row = place_of(places.get_or_init(|| places_of(valid))[list], steps);
                    steps.push(RescueStep::Item(index - from));
                    row
                };
                self.node(&mut items.item, depth + 1, &place_of);
            }
            Values::Map(entries) => {
                let places = OnceCell::new();
                let MapEntries {
                    ends, keys, value, ..
                } = &mut **entries;
                let place_of = |index: usize, steps: &mut Vec<RescueStep>| {
                    let (map, _) = container_of(index, ends);
                    let row = place_of(places.get_or_init(|| places_of(valid))[map], steps);
                    let key = String::from_utf8_lossy(keys.get(index));
                    steps.push(RescueStep::Key(key.into_owned()));
                    row
                };
                self.node(value, depth + 1, &place_of);
            }
            _ => {}
        }
    }

    /// The fields of objects as entries of maps, whose values are of this type. They are written and read again; what does
    /// not fit is rescued.
    fn entries(
        &mut self,
        fields: &mut Fields,
        valid: &Bits,
        depth: usize,
        (kind, why): (ColumnType, String),
        place_of: PlaceOf<'_>,
    ) -> MapEntries {
        let value = Column::new("value", kind);
        let no_role = |_, _: &str| ColumnRole::default();
        let mut entries = MapEntries {
            ends: Vec::new(),
            keys: TextColumn::default(),
            value: ColumnNode::of(&value, ColumnRole::default(), &no_role),
            why: Some(why),
        };
        // The object, the field and the place among the values of that, of each value.
        let mut values: Vec<[u32; 3]> = Vec::new();
        let fields = std::mem::take(&mut fields.fields).into_iter();
        let arrays = (0..).zip(fields).map(|(at, mut field)| {
            let mut places = Vec::with_capacity(field.node.valid.ones());
            field.node.valid.each(|place| {
                values.push([place as u32, at, places.len() as u32]);
                places.push(place as u32);
            });
            let kind = field.node.kind();
            gather(&mut field.node, &places);
            (field.name, kind, finish(field.node, places.len()))
        });
        let arrays: Vec<_> = arrays.collect();
        values.sort_unstable();
        let mut values = values.into_iter().peekable();
        let mut count = 0;
        let mut json = Vec::new();
        valid.each(|place| {
            while let Some([_, at, value]) = values.next_if(|[of, ..]| *of as usize == place) {
                let (name, kind, array) = &arrays[at as usize];
                json.clear();
                write_column_value(kind, array, value as usize, &mut json)
                    .expect("a column of a table is written");
                let mut steps = Vec::new();
                if let Some(rescued) = self.entry(&mut entries.value, count, depth + 1, &json) {
                    let row = place_of(place, &mut steps);
                    steps.push(RescueStep::Key(name.to_string()));
                    let lost = LostValue::new(steps, &json, &rescued);
                    self.lost.entry(row).or_default().push(lost);
                    if !entries.value.valid.get(count) {
                        continue;
                    }
                }
                entries.keys.bytes.extend_from_slice(name.as_bytes());
                entries.keys.end();
                count += 1;
            }
            entries
                .ends
                .push(i32::try_from(count).expect("no more entries than bytes"));
        });
        entries.value.forget_schema();
        entries
    }

    /// Reads the value of an entry; returns what that does not take of it.
    fn entry(
        &mut self,
        value: &mut ColumnNode,
        index: usize,
        depth: usize,
        json: &[u8],
    ) -> Option<Vec<RescuedValue>> {
        self.state.rescued.clear();
        self.state.other_keys.clear();
        let mut reader = RecordReader {
            input: std::str::from_utf8(json).expect("JSON is text"),
            at: 0,
            rules: &self.rules,
            state: self.state,
        };
        let read = reader.value(value, index, depth, ColumnRole::default());
        read.expect("a value that was read before is read again");
        let rescued = std::mem::take(&mut self.state.rescued);
        (!rescued.is_empty()).then_some(rescued)
    }
}

impl LostValue {
    /// What the map does not take of this value.
    fn new(steps: Vec<RescueStep>, json: &[u8], rescued: &[RescuedValue]) -> Self {
        let path = path_of(&steps);
        if let [
            RescuedValue {
                start: 0, reason, ..
            },
        ] = *rescued
        {
            return Self {
                steps,
                json: json.to_vec(),
                is_whole: true,
                kinds: vec![RescueKind { path, reason }],
            };
        }
        let mut part = RescueColumn::default();
        part.extract(0, path, json, rescued)
            .expect("it was read before");
        let kinds = part.values.iter();
        let kinds = kinds.map(|(_, kind)| part.kinds.get(*kind).clone());
        Self {
            steps,
            kinds: kinds.collect(),
            json: part.texts.bytes,
            is_whole: false,
        }
    }
}

/// The number of the list or map that holds the item or entry at `index`, and where that begins.
fn container_of(index: usize, ends: &[i32]) -> (usize, usize) {
    let container = ends.partition_point(|end| usize::try_from(*end).is_ok_and(|end| end <= index));
    (container, end_of(&ends[..container]))
}

/// The indexes of the ones.
fn places_of(valid: &Bits) -> Vec<usize> {
    let mut places = Vec::with_capacity(valid.ones());
    valid.each(|place| places.push(place));
    places
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
