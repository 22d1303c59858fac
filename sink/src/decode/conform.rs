//! The rows of an interval under the schema that is stored.
//!
//! Owns what becomes of the values that the stored schema has no column for, because another sink stored it first: they
//! are rescued as those are that no column took when they were decoded, or their rows are refused.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, ListArray, StringArray, StructArray, new_null_array};
use arrow_schema::{ArrowError, Field, Fields};

use hydrant_core::workers::contain;

use super::column_value::{are_the_same, json_of, texts_of_json, write_column_value};
use super::finish::{DecodedRows, map_array};
use super::reject::{Reject, RejectReason};
use super::rescue::{RescueKind, RescueKinds, Uncounted, path_of, push_key};
use super::rescue_tree::{PlaceOf, RescueStep, RescueTree, RowRescue};
use crate::encode::{FileRows, Picked, RowsColumn, write_json_row};
use crate::schema::{
    Column, ColumnType, INTEGER_EXACT_MAX, TableSchema, arrow_field, arrow_type, fold_name,
};
use crate::table::event_time::UntimedReason;
use crate::table::partition_value::PartitionValue;

/// What every row of an interval has in common, for the provenance columns.
#[derive(Clone, Copy, Debug)]
pub struct Provenance<'a> {
    /// The stream's identity.
    pub stream: &'a str,
    /// The shard.
    pub shard: &'a str,
}

/// A row that does not fit the stored schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConformReject {
    /// The record's index among those appended, refused ones included.
    pub record: u32,
    /// Why.
    pub reject: Reject,
    /// The row as JSON. The payload is gone by now; keys are in the columns' order, nulls are left
    /// out.
    pub row: Vec<u8>,
}

/// The rows of one partition.
#[derive(Clone, Debug)]
pub struct PartitionRows {
    /// The partition's path below the table.
    pub path: String,
    /// Its rows, in the order in which they were appended.
    pub rows: FileRows,
    /// Each row's record, as an index among those appended, refused ones included.
    pub records: Vec<u32>,
}

/// The rows of an interval, ready to be encoded.
#[derive(Clone, Debug)]
pub struct Conformed {
    /// The partitions that have rows, ordered by path.
    pub partitions: Vec<PartitionRows>,
    /// The rows that do not fit, in the order in which they were appended.
    pub rejects: Vec<ConformReject>,
    /// The record, by the same index, and the kind of each rescued value of the rows that fit.
    pub(crate) rescued_values: Vec<(u32, u32)>,
    pub(crate) rescue_kinds: RescueKinds,
    /// The records, by the same index, whose rows fit and lie in the default partition for want of a believable event
    /// time.
    pub untimed: Vec<(u32, UntimedReason)>,
}

/// The values that do not fit: rescued by row, or else the first reason for which each row is refused.
#[derive(Default)]
struct Misfits {
    /// Whether the rows of conflicts are refused.
    refuses: bool,
    /// What was rescued before.
    before: Option<ArrayRef>,
    refused: BTreeMap<usize, Box<Reject>>,
    rescued: BTreeMap<usize, RowRescue>,
    /// The row and the kind of each rescued value.
    values: Vec<(usize, u32)>,
    kinds: RescueKinds,
    /// What was rescued before, of values that are rescued as a whole.
    uncounted: Uncounted,
}

/// A column of a row or of an object with its values, and, of a row, the column that these are of.
type OurColumn<'a> = (&'a Column, &'a ArrayRef, Option<&'a RowsColumn>);

impl DecodedRows {
    /// Brings the rows under the stored schema: columns in its order, absent ones null, BIGINT as
    /// DOUBLE where it says so. Rows that cannot be are refused, each on its own.
    ///
    /// # Errors
    /// Arrow refuses the arrays, which their construction rules out.
    pub fn conform(
        &self,
        target: &TableSchema,
        provenance: Provenance<'_>,
    ) -> Result<Conformed, ArrowError> {
        let rows = self.rows();
        let mut misfits = Misfits {
            refuses: self.refusals.is_some(),
            before: Some(Arc::clone(&self.rescued)),
            kinds: self.rescue_kinds.clone(),
            ..Misfits::default()
        };
        let ours = self.columns.iter().zip(&self.arrays);
        let ours = ours.map(|(column, rows)| (column, rows.values(), Some(rows)));
        let ours: Vec<OurColumn<'_>> = ours.collect();
        let values = misfits.columns(&ours, &target.columns, Some(target), 0, &|row, _| row, "")?;
        let known: HashMap<&str, &RowsColumn> = ours
            .iter()
            .filter_map(|(column, _, rows)| Some((&*column.name, (*rows)?)))
            .collect();
        let columns = target.columns.iter().zip(values);
        let columns = columns.map(|(wanted, values)| match known.get(&*wanted.name) {
            Some(column) => column.with_values(values),
            None => RowsColumn::absent(values.data_type(), rows),
        });
        let mut columns: Vec<RowsColumn> = columns.collect();
        misfits.partition_values(self, target);
        let mut rescued_values = self.rescued_values.clone();
        let uncounted = std::mem::take(&mut misfits.uncounted);
        uncounted.take_from(&mut rescued_values, &misfits.kinds, |row| {
            self.records[row as usize]
        });
        misfits.refuse_conflicts(self, &rescued_values);
        columns.push(RowsColumn::dense(misfits.rescued(&self.rescued)));
        let schema = Arc::new(target.to_arrow());
        if target.provenance {
            let texts = [provenance.stream, provenance.shard].map(|text| -> ArrayRef {
                let texts = std::iter::repeat_n(text, rows);
                Arc::new(StringArray::from_iter_values(texts))
            });
            let added = texts.into_iter().chain(self.provenance.iter().cloned());
            columns.extend(added.map(RowsColumn::dense));
        }
        let Misfits {
            refused,
            values,
            kinds,
            ..
        } = misfits;
        let mut rejects = self.rejects(refused.iter().map(|(row, reject)| (*row, &**reject)));
        rejects.sort_by_key(|reject| reject.record);
        rescued_values.extend(values.iter().map(|(row, kind)| (self.records[*row], *kind)));
        if !refused.is_empty() {
            let refused = refused.keys().map(|row| self.records[*row]);
            let refused: HashSet<u32> = refused.collect();
            rescued_values.retain(|(record, _)| !refused.contains(record));
        }
        // Values that their column does not take are together in the default partition.
        let mut members: Vec<(String, Vec<u32>)> = Vec::with_capacity(self.keys.len());
        let mut groups = HashMap::with_capacity(self.keys.len());
        let group_of = self.keys.iter().map(|key| {
            let path = key.path(&self.spec, &target.partition_columns);
            *groups.entry(path).or_insert_with_key(|path| {
                members.push((path.clone(), Vec::new()));
                members.len() - 1
            })
        });
        let group_of: Vec<usize> = group_of.collect();
        for (row, partition) in (0_u32..).zip(&self.partitions) {
            if !refused.contains_key(&(row as usize)) {
                members[group_of[*partition as usize]].1.push(row);
            }
        }
        let mut partitions = Vec::with_capacity(members.len());
        for (path, mut members) in members {
            if members.is_empty() {
                continue;
            }
            members.sort_by_key(|row| self.records[*row as usize]);
            let records: Vec<u32> = members
                .iter()
                .map(|row| self.records[*row as usize])
                .collect();
            let first = members[0] as usize;
            let last = first + members.len() - 1;
            let columns = if members.is_sorted() && members.last() == Some(&(last as u32)) {
                // They stand together, and none of them was refused.
                let slices = columns.iter().map(|column| column.slice(first..last + 1));
                slices.collect()
            } else {
                let mut kept = columns.clone();
                Picked::new(&members, rows).keep(&mut kept)?;
                kept
            };
            let rows = FileRows::new(Arc::clone(&schema), columns, records.len());
            partitions.push(PartitionRows {
                path,
                rows,
                records,
            });
        }
        partitions.sort_by(|a, b| a.path.cmp(&b.path));
        let untimed = self.untimed.iter();
        let untimed = untimed.map(|(row, reason)| (*row as usize, *reason));
        let untimed = untimed.filter(|(row, _)| !refused.contains_key(row));
        let untimed = untimed.map(|(row, reason)| (self.records[row], reason));
        let mut untimed: Vec<_> = untimed.collect();
        untimed.sort_unstable();
        Ok(Conformed {
            partitions,
            rejects,
            rescued_values,
            rescue_kinds: kinds,
            untimed,
        })
    }

    /// The rows as JSON, each with its record, refused for this reason.
    pub fn give_up(&self, rows: &[u32], reject: &Reject) -> Vec<ConformReject> {
        let rows = rows.iter().map(|row| (*row as usize, reject));
        self.rejects(rows)
    }

    /// Rows that are refused, with their payload, or what gives the record back. One that cannot even be written is empty.
    fn rejects<'a>(&self, rows: impl Iterator<Item = (usize, &'a Reject)>) -> Vec<ConformReject> {
        rows.map(|(row, reject)| {
            let record = self.records[row];
            let refusal = self
                .refusals
                .as_ref()
                .and_then(|refusals| refusals.get(&record));
            let row = match refusal {
                Some(refusal) => refusal.payload.to_vec(),
                None => contain(|| self.record(row))
                    .and_then(Result::ok)
                    .unwrap_or_default(),
            };
            ConformReject {
                record,
                reject: reject.clone(),
                row,
            }
        })
        .collect()
    }

    /// A row as its record, but for the order of keys, the spelling of numbers, and nulls.
    fn record(&self, row: usize) -> Result<Vec<u8>, ArrowError> {
        let mut record = RescueTree::default();
        let mut json = Vec::new();
        for (column, rows) in self.columns.iter().zip(&self.arrays) {
            let array = rows.array(row..row + 1)?;
            if array.logical_nulls().is_none_or(|nulls| nulls.is_valid(0)) {
                json.clear();
                write_column_value(&column.kind, &array, 0, &mut json)?;
                record.add(&[RescueStep::Key(column.name.clone())], &json);
            }
        }
        let key = &self.keys[self.partitions[row] as usize];
        for (field, value) in self.spec.fields().iter().zip(&key.values) {
            if let Some(json) = value.as_ref().and_then(PartitionValue::json) {
                record.add(&[RescueStep::Key(field.clone())], &json);
            }
        }
        let rescued = self.rescued.as_string::<i32>();
        if rescued.is_valid(row) {
            record.merge(RescueTree::read(rescued.value(row).as_bytes()));
        }
        json.clear();
        record.write(&mut json);
        Ok(json)
    }
}

/// A row as JSON; nothing when writing it panics or fails.
pub(crate) fn row_text(fields: &Fields, columns: &[RowsColumn], row: usize) -> Vec<u8> {
    contain(|| {
        let arrays = columns.iter().map(|column| column.array(row..row + 1));
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        let mut json = Vec::new();
        write_json_row(fields, &arrays, 0, &mut json).map(|()| json)
    })
    .and_then(Result::ok)
    .unwrap_or_default()
}

impl Misfits {
    /// Rescues the values of a column that `is_misfit` says by their index, or refuses their rows.
    fn misfit(
        &mut self,
        (kind, array): (&ColumnType, &ArrayRef),
        place_of: PlaceOf<'_>,
        [path, wanted]: [&str; 2],
        (reason, found): (RejectReason, &'static str),
        is_misfit: impl Fn(usize) -> bool,
    ) -> Result<(), ArrowError> {
        let nulls = array.logical_nulls();
        let (mut steps, mut json) = (Vec::new(), Vec::new());
        let holds_values = matches!(
            kind,
            ColumnType::Struct(_) | ColumnType::List(_) | ColumnType::Map(_)
        );
        let valid = |index: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*index));
        for index in (0..array.len()).filter(valid) {
            if !is_misfit(index) {
                continue;
            }
            steps.clear();
            let row = place_of(index, &mut steps);
            if !self.refuses || !reason.is_conflict() {
                json.clear();
                write_column_value(kind, array, index, &mut json)?;
                if holds_values && self.is_what_is_left(row, &steps, &json, reason) {
                    continue;
                }
                self.rescue(row, &steps, &json);
                let kind = self.kinds.id_of(path, reason);
                self.values.push((row, kind));
            } else {
                self.refused.entry(row).or_insert_with(|| {
                    let mut reject = Reject::new(reason, found, 0).wanting(wanted);
                    path.clone_into(&mut reject.column);
                    reject
                });
            }
        }
        Ok(())
    }

    /// Rescues the values of partition fields that the paths of their columns do not give back, or refuses their rows.
    fn partition_values(&mut self, rows: &DecodedRows, target: &TableSchema) {
        let fields = rows.spec.fields();
        let times = target.partition_columns.len().saturating_sub(fields.len());
        for (slot, (field, column)) in fields
            .iter()
            .zip(&target.partition_columns[times..])
            .enumerate()
        {
            let lost = rows.keys.iter().map(|key| {
                let value = key.values[slot].as_ref()?;
                Some((value.lost_to(column)?, value.word()))
            });
            let lost: Vec<_> = lost.collect();
            if lost.iter().all(Option::is_none) {
                continue;
            }
            let steps = [RescueStep::Key(field.clone())];
            let reason = RejectReason::PARTITION_VALUE;
            for (row, partition) in rows.partitions.iter().enumerate() {
                let Some((json, found)) = &lost[*partition as usize] else {
                    continue;
                };
                if !self.refuses {
                    self.rescue(row, &steps, json);
                    let kind = self.kinds.id_of(field, reason);
                    self.values.push((row, kind));
                } else {
                    self.refused.entry(row).or_insert_with(|| {
                        let mut reject =
                            Reject::new(reason, found, 0).wanting(column.kind.to_string());
                        reject.column.clone_from(field);
                        reject
                    });
                }
            }
        }
    }

    /// Whether a value without a type is what was left of it when all that was in it was rescued. Else that is counted no
    /// more.
    fn is_what_is_left(
        &mut self,
        row: usize,
        steps: &[RescueStep],
        json: &[u8],
        reason: RejectReason,
    ) -> bool {
        let before = self.before.as_ref().map(|before| before.as_string::<i32>());
        let Some(before) = before.filter(|before| before.is_valid(row)) else {
            return false;
        };
        let before = before.value(row).as_bytes();
        if let Some(RescueStep::Key(key)) = steps.first()
            && let Ok(key) = serde_json::to_vec(key)
            && !key.contains(&b'\\')
            && memchr::memmem::find(before, &key).is_none()
            && !before.contains(&b'\\')
        {
            return false;
        }
        let before = RescueTree::read(before);
        let Some(before) = before.at(steps).filter(|before| !before.is_null()) else {
            return false;
        };
        let value = RescueTree::read(json);
        if !value.holds_nothing() || reason != RejectReason::NO_TYPE {
            self.uncounted
                .add_within(row, &path_of(steps), &value, before);
            return false;
        }
        let mut whole = before.clone();
        whole.merge(value);
        whole == *before
    }

    /// Refuses the rows of what was rescued for a conflict, where that is asked for.
    fn refuse_conflicts(&mut self, rows: &DecodedRows, rescued_values: &[(u32, u32)]) {
        let Some(refusals) = &rows.refusals else {
            return;
        };
        let conflicts = rescued_values.iter();
        let conflicts = conflicts.filter(|(_, kind)| self.kinds.get(*kind).reason.is_conflict());
        let mut kinds: HashMap<u32, Vec<u32>> = HashMap::new();
        for (record, kind) in conflicts {
            kinds.entry(*record).or_default().push(*kind);
        }
        if kinds.is_empty() {
            return;
        }
        for (row, record) in rows.records.iter().enumerate() {
            let Some(kinds) = kinds.get(record) else {
                continue;
            };
            let mut kinds = kinds.iter().map(|kind| self.kinds.get(*kind));
            let first = kinds.clone().next();
            let mut is_left = |reject: &Reject| {
                kinds.any(|kind| kind.path == reject.column && kind.reason == reject.reason)
            };
            let reject = match (refusals.get(record), first) {
                (Some(refusal), _) if is_left(&refusal.reject) => Box::new(refusal.reject.clone()),
                (_, None) => continue,
                // Its column takes by now what it was refused for.
                (_, Some(RescueKind { path, reason })) => {
                    let found = "a kind of value that fewer records have";
                    let mut reject = Reject::new(*reason, found, 0);
                    reject.column.clone_from(path);
                    reject
                }
            };
            self.refused.entry(row).or_insert(reject);
        }
    }

    /// Rescues a value of a row, given as JSON.
    fn rescue(&mut self, row: usize, steps: &[RescueStep], json: &[u8]) {
        match self.rescued.get_mut(&row) {
            Some(rescued) => rescued.add(steps, json),
            None => drop(self.rescued.insert(row, RowRescue::new(steps, json))),
        }
    }

    /// The column `_rescued` with what was rescued here.
    fn rescued(&mut self, before: &ArrayRef) -> ArrayRef {
        if self.rescued.is_empty() {
            return Arc::clone(before);
        }
        let texts = before.as_string::<i32>();
        let merged = texts.iter().enumerate().map(|(row, text)| {
            let Some(tree) = self.rescued.remove(&row) else {
                return text.map(str::to_owned);
            };
            let mut whole = text.map_or_else(RescueTree::default, |text| {
                RescueTree::read(text.as_bytes())
            });
            whole.merge(tree.into_tree());
            let mut json = Vec::new();
            whole.write(&mut json);
            String::from_utf8(json).ok()
        });
        Arc::new(merged.collect::<StringArray>())
    }

    /// The columns of an object, in the target's order.
    fn columns(
        &mut self,
        ours: &[OurColumn<'_>],
        target: &[Column],
        table: Option<&TableSchema>,
        len: usize,
        place_of: PlaceOf<'_>,
        parent: &str,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let known: HashSet<&str> = target.iter().map(|column| &*column.name).collect();
        for (column, array, rows) in ours {
            if known.contains(&*column.name) {
                continue;
            }
            let has_type = column.typed().is_some();
            let path = path_within(parent, &column.name);
            let folded = fold_name(&column.name);
            let twin = target.iter().find(|known| fold_name(&known.name) == folded);
            let (reason, wanted) = match twin {
                Some(twin) => (RejectReason::KEY_CASE_CONFLICT, format!("`{}`", twin.name)),
                None if table.is_some_and(|table| table.is_reserved(&column.name)) => {
                    (RejectReason::RESERVED_COLUMN, String::new())
                }
                None if !has_type => (RejectReason::NO_TYPE, String::new()),
                None => (
                    RejectReason::UNKNOWN_COLUMN,
                    "a column of the table".to_owned(),
                ),
            };
            let found = (reason, column.kind.word());
            let place_of = of_rows(place_of, *rows);
            let place_of = within(&place_of, &column.name);
            self.misfit(
                (&column.kind, array),
                &place_of,
                [&path, &wanted],
                found,
                |_| true,
            )?;
        }
        let by_name = ours.iter().map(|ours| (&*ours.0.name, ours));
        let by_name: HashMap<&str, &OurColumn<'_>> = by_name.collect();
        let columns = target.iter().map(|wanted| {
            let Some((column, array, rows)) = by_name.get(&*wanted.name) else {
                return Ok(new_null_array(&arrow_type(&wanted.kind), len));
            };
            let path = path_within(parent, &column.name);
            let place_of = of_rows(place_of, *rows);
            let place_of = within(&place_of, &column.name);
            self.column(column, array, wanted, &place_of, &path)
        });
        columns.collect()
    }

    fn column(
        &mut self,
        ours: &Column,
        array: &ArrayRef,
        target: &Column,
        place_of: PlaceOf<'_>,
        path: &str,
    ) -> Result<ArrayRef, ArrowError> {
        use ColumnType as T;
        #[cfg(test)]
        crate::tests::fault::in_column("fault:conform", array);
        let wanted_type = arrow_type(&target.kind);
        if are_the_same(&ours.kind, &target.kind) {
            debug_assert_eq!(*array.data_type(), wanted_type);
            return Ok(Arc::clone(array));
        }
        Ok(match (&ours.kind, &target.kind) {
            (T::Unknown, _) => new_null_array(&wanted_type, array.len()),
            (kind, T::Json) => json_of(kind, array)?,
            (T::Json, T::Varchar) if target.declared => texts_of_json(array),
            (kind, T::Varchar) if target.declared => json_of(kind, array)?,
            (T::Bigint, T::Double) => {
                let values = array.as_primitive::<Int64Type>();
                let double = |value: i64| {
                    let double = value as f64;
                    (double as i128 == i128::from(value)).then_some(double)
                };
                let found = (RejectReason::INTEGER_OVERFLOW, "integer beyond 2^53");
                self.misfit(
                    (&ours.kind, array),
                    place_of,
                    [path, "DOUBLE"],
                    found,
                    |index| double(values.value(index)).is_none(),
                )?;
                Arc::new(values.unary_opt::<_, Float64Type>(double))
            }
            (T::Double, T::Bigint) => {
                let values = array.as_primitive::<Float64Type>();
                #[expect(clippy::cast_possible_truncation, reason = "it is an integer")]
                let integer = |value: f64| {
                    let exact = value.fract() == 0.0 && value.abs() <= INTEGER_EXACT_MAX as f64;
                    exact.then_some(value as i64)
                };
                let found = "number with a fraction or exponent";
                let found = (RejectReason::TYPE_CONFLICT, found);
                self.misfit(
                    (&ours.kind, array),
                    place_of,
                    [path, "BIGINT"],
                    found,
                    |index| integer(values.value(index)).is_none(),
                )?;
                Arc::new(values.unary_opt::<_, Int64Type>(integer))
            }
            (T::Bigint, T::Decimal { precision, scale }) => {
                let values = array.as_primitive::<Int64Type>();
                let limit = 10_i128.pow(u32::from(*precision));
                let unit = 10_i128.pow(u32::from(*scale));
                let scaled = |value: i64| {
                    let scaled = i128::from(value).checked_mul(unit);
                    scaled.filter(|scaled| scaled.abs() < limit)
                };
                let wanted = target.kind.to_string();
                let found = (RejectReason::INTEGER_OVERFLOW, "number with more digits");
                self.misfit(
                    (&ours.kind, array),
                    place_of,
                    [path, &wanted],
                    found,
                    |index| scaled(values.value(index)).is_none(),
                )?;
                let scale = i8::try_from(*scale).unwrap_or(i8::MAX);
                let values = values.unary_opt::<_, Decimal128Type>(scaled);
                Arc::new(values.with_precision_and_scale(*precision, scale)?)
            }
            (T::Struct(columns), T::Struct(fields)) => {
                let values = array.as_struct();
                let ours = columns.iter().zip(values.columns());
                let ours: Vec<OurColumn<'_>> =
                    ours.map(|(ours, array)| (ours, array, None)).collect();
                let arrays = self.columns(&ours, fields, None, array.len(), place_of, path)?;
                let fields: Fields = fields.iter().map(arrow_field).collect();
                Arc::new(StructArray::try_new(
                    fields,
                    arrays,
                    values.nulls().cloned(),
                )?)
            }
            (T::List(ours), T::List(item)) => {
                let values = array.as_list::<i32>();
                let mut lists = vec![0; values.values().len()];
                for (list, ends) in values.value_offsets().windows(2).enumerate() {
                    lists[ends[0] as usize..ends[1] as usize].fill(list);
                }
                let path = format!("{path}[]");
                let starts = values.value_offsets();
                let place_of_item = |index: usize, steps: &mut Vec<_>| {
                    let list = lists[index];
                    let row = place_of(list, steps);
                    steps.push(RescueStep::Item(index - starts[list] as usize));
                    row
                };
                let items = self.column(ours, values.values(), item, &place_of_item, &path)?;
                let field = Arc::new(Field::new("element", arrow_type(&item.kind), true));
                let offsets = values.offsets().clone();
                Arc::new(ListArray::try_new(
                    field,
                    offsets,
                    items,
                    values.nulls().cloned(),
                )?)
            }
            (T::Map(ours), T::Map(value)) => {
                let map = array.as_map();
                let mut maps = vec![0; map.values().len()];
                for (at, ends) in map.value_offsets().windows(2).enumerate() {
                    maps[ends[0] as usize..ends[1] as usize].fill(at);
                }
                let keys = map.keys().as_string::<i32>();
                let place_of_value = |index: usize, steps: &mut Vec<_>| {
                    let row = place_of(maps[index], steps);
                    steps.push(RescueStep::Key(keys.value(index).to_owned()));
                    row
                };
                let path = format!("{path}{{}}");
                let values = self.column(ours, map.values(), value, &place_of_value, &path)?;
                let entries = [Arc::clone(map.keys()), values];
                map_array(value, map.offsets().clone(), entries, map.nulls().cloned())
            }
            _ => {
                let found = (RejectReason::TYPE_CONFLICT, ours.kind.word());
                self.misfit(
                    (&ours.kind, array),
                    place_of,
                    [path, target.kind.word()],
                    found,
                    |_| true,
                )?;
                new_null_array(&wanted_type, array.len())
            }
        })
    }
}

/// The path of a field in the object at `parent`.
fn path_within(parent: &str, name: &str) -> String {
    let mut path = parent.to_owned();
    push_key(&mut path, name);
    path
}

/// The rows of the values of a column of the table; those of a field lie where the object's do.
fn of_rows<'a>(
    place_of: PlaceOf<'a>,
    rows: Option<&'a RowsColumn>,
) -> impl Fn(usize, &mut Vec<RescueStep>) -> usize + 'a {
    move |index, steps| place_of(rows.map_or(index, |rows| rows.row_of(index)), steps)
}

/// Where the values of the field `name` lie, given where their objects do.
fn within<'a>(
    place_of: PlaceOf<'a>,
    name: &'a str,
) -> impl Fn(usize, &mut Vec<RescueStep>) -> usize + 'a {
    move |index, steps| {
        let row = place_of(index, steps);
        steps.push(RescueStep::Key(name.to_owned()));
        row
    }
}
