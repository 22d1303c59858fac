//! The rows of an interval under the schema that is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    UInt32Array, new_null_array,
};
use arrow_schema::{ArrowError, Field, Fields};

use hydrant_core::workers::contain;

use super::finish::DecodedRows;
use super::reject::{Reject, RejectReason};
use crate::encode::write_json_row;
use crate::schema::{
    Column, ColumnType, INTEGER_EXACT_MAX, TableSchema, arrow_field, arrow_type, fold_name,
};

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
    pub batch: RecordBatch,
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
    /// The records, by the same index, whose rows fit and lie in the default partition for want of a believable event
    /// time.
    pub untimed: Vec<u32>,
}

/// The rows refused so far, by row, with the first reason of each.
#[derive(Default)]
struct RefusedRows {
    rows: BTreeMap<usize, Box<Reject>>,
}

/// The row that a value belongs to: itself at top level, its list's row within lists.
type RowOf<'a> = &'a dyn Fn(usize) -> usize;

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
        let mut refused = RefusedRows::default();
        let ours: Vec<(&Column, &ArrayRef)> = self.columns.iter().zip(&self.arrays).collect();
        let mut arrays =
            refused.columns(&ours, &target.columns, Some(target), rows, &|row| row, "")?;
        let schema = Arc::new(target.to_arrow());
        if target.provenance {
            let texts = [provenance.stream, provenance.shard].map(|text| -> ArrayRef {
                let texts = std::iter::repeat_n(text, rows);
                Arc::new(StringArray::from_iter_values(texts))
            });
            arrays.extend(texts.into_iter().chain(self.provenance.iter().cloned()));
        }
        if schema.fields().is_empty() {
            for row in 0..rows {
                refused.refuse(row, RejectReason::EMPTY_RECORD, "", "a column", "none");
            }
        }
        let refused_rows = refused.rows.iter();
        let mut rejects = self.rejects(refused_rows.map(|(row, reject)| (*row, &**reject)));
        rejects.sort_by_key(|reject| reject.record);
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); self.keys.len()];
        for (row, partition) in (0_u32..).zip(&self.partitions) {
            if !refused.rows.contains_key(&(row as usize)) {
                members[*partition as usize].push(row);
            }
        }
        let mut partitions = Vec::with_capacity(members.len());
        for (key, members) in self.keys.iter().zip(members) {
            if members.is_empty() {
                continue;
            }
            let records: Vec<u32> = members
                .iter()
                .map(|row| self.records[*row as usize])
                .collect();
            let first = members[0] as usize;
            let columns = if members.len() == rows {
                arrays.clone()
            } else if members.last() == Some(&((first + members.len() - 1) as u32)) {
                // None of them was refused.
                let slices = arrays.iter().map(|array| array.slice(first, members.len()));
                slices.collect()
            } else {
                let members = UInt32Array::from(members);
                arrays
                    .iter()
                    .map(|array| arrow_select::take::take(array, &members, None))
                    .collect::<Result<_, _>>()?
            };
            let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
            let path = key.path(&self.spec, &target.partition_columns);
            partitions.push(PartitionRows {
                path,
                batch,
                records,
            });
        }
        partitions.sort_by(|a, b| a.path.cmp(&b.path));
        let untimed = self.untimed.iter().map(|row| *row as usize);
        let untimed = untimed.filter(|row| !refused.rows.contains_key(row));
        let mut untimed: Vec<u32> = untimed.map(|row| self.records[row]).collect();
        untimed.sort_unstable();
        Ok(Conformed {
            partitions,
            rejects,
            untimed,
        })
    }

    /// The rows as JSON, each with its record, refused for this reason.
    pub fn give_up(&self, rows: &[u32], reject: &Reject) -> Vec<ConformReject> {
        let rows = rows.iter().map(|row| (*row as usize, reject));
        self.rejects(rows)
    }

    /// Rows that are refused. One that cannot even be written is empty.
    fn rejects<'a>(&self, rows: impl Iterator<Item = (usize, &'a Reject)>) -> Vec<ConformReject> {
        let fields = self.columns.iter().map(arrow_field).collect();
        rows.map(|(row, reject)| ConformReject {
            record: self.records[row],
            reject: reject.clone(),
            row: row_text(&fields, &self.arrays, row),
        })
        .collect()
    }
}

/// A row as JSON; nothing when writing it panics or fails.
pub(crate) fn row_text(fields: &Fields, arrays: &[ArrayRef], row: usize) -> Vec<u8> {
    contain(|| {
        let mut json = Vec::new();
        write_json_row(fields, arrays, row, &mut json).map(|()| json)
    })
    .and_then(Result::ok)
    .unwrap_or_default()
}

impl RefusedRows {
    fn refuse(
        &mut self,
        row: usize,
        reason: RejectReason,
        path: &str,
        wanted: &str,
        found: &'static str,
    ) {
        self.rows.entry(row).or_insert_with(|| {
            let mut reject = Reject::new(reason, found, 0).wanting(wanted);
            path.clone_into(&mut reject.column);
            reject
        });
    }

    /// Refuses the rows of the values that do not fit, which `misfits` says by their index.
    fn refuse_where(
        &mut self,
        array: &ArrayRef,
        row_of: RowOf<'_>,
        [path, wanted]: [&str; 2],
        (reason, found): (RejectReason, &'static str),
        misfits: impl Fn(usize) -> bool,
    ) {
        let nulls = array.logical_nulls();
        for index in 0..array.len() {
            if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(index)) && misfits(index) {
                self.refuse(row_of(index), reason, path, wanted, found);
            }
        }
    }

    /// The columns of an object, in the target's order.
    fn columns(
        &mut self,
        ours: &[(&Column, &ArrayRef)],
        target: &[Column],
        table: Option<&TableSchema>,
        len: usize,
        row_of: RowOf<'_>,
        parent: &str,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        for (column, array) in ours {
            if target.iter().any(|known| known.name == column.name) || column.typed().is_none() {
                continue;
            }
            let path = format!("{parent}{}", column.name);
            let folded = fold_name(&column.name);
            let twin = target.iter().find(|known| fold_name(&known.name) == folded);
            let (reason, wanted) = match twin {
                Some(twin) => (RejectReason::KEY_CASE_CONFLICT, format!("`{}`", twin.name)),
                None if table.is_some_and(|table| table.is_reserved(&column.name)) => {
                    (RejectReason::RESERVED_COLUMN, String::new())
                }
                None => (
                    RejectReason::TOO_MANY_COLUMNS,
                    "a column of the table".to_owned(),
                ),
            };
            let found = (reason, column.kind.word());
            self.refuse_where(array, row_of, [&path, &wanted], found, |_| true);
        }
        target
            .iter()
            .map(
                |wanted| match ours.iter().find(|(column, _)| column.name == wanted.name) {
                    Some((column, array)) => {
                        let path = format!("{parent}{}", column.name);
                        self.column(column, array, wanted, row_of, &path)
                    }
                    None => Ok(new_null_array(&arrow_type(&wanted.kind), len)),
                },
            )
            .collect()
    }

    fn column(
        &mut self,
        ours: &Column,
        array: &ArrayRef,
        target: &Column,
        row_of: RowOf<'_>,
        path: &str,
    ) -> Result<ArrayRef, ArrowError> {
        use ColumnType as T;
        #[cfg(test)]
        crate::tests::fault::in_column("fault:conform", array);
        let wanted_type = arrow_type(&target.kind);
        if *array.data_type() == wanted_type {
            return Ok(Arc::clone(array));
        }
        Ok(match (&ours.kind, &target.kind) {
            (T::Unknown, _) => new_null_array(&wanted_type, array.len()),
            (T::Bigint, T::Double) => {
                let values = array.as_primitive::<Int64Type>();
                let exact = INTEGER_EXACT_MAX.unsigned_abs();
                let found = (RejectReason::INTEGER_OVERFLOW, "integer beyond 2^53");
                self.refuse_where(array, row_of, [path, "DOUBLE"], found, |index| {
                    values.value(index).unsigned_abs() > exact
                });
                Arc::new(values.unary::<_, Float64Type>(|value| value as f64))
            }
            (T::Double, T::Bigint) => {
                let values = array.as_primitive::<Float64Type>();
                let found = "number with a fraction or exponent";
                let found = (RejectReason::TYPE_CONFLICT, found);
                self.refuse_where(array, row_of, [path, "BIGINT"], found, |index| {
                    let value = values.value(index);
                    value.fract() != 0.0 || value.abs() > INTEGER_EXACT_MAX as f64
                });
                #[expect(clippy::cast_possible_truncation, reason = "refused above if inexact")]
                Arc::new(values.unary::<_, Int64Type>(|value| value as i64))
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
                self.refuse_where(array, row_of, [path, &wanted], found, |index| {
                    scaled(values.value(index)).is_none()
                });
                let scale = i8::try_from(*scale).unwrap_or(i8::MAX);
                let values = values.unary_opt::<_, Decimal128Type>(scaled);
                Arc::new(values.with_precision_and_scale(*precision, scale)?)
            }
            (T::Struct(columns), T::Struct(fields)) => {
                let values = array.as_struct();
                let ours: Vec<(&Column, &ArrayRef)> =
                    columns.iter().zip(values.columns()).collect();
                let dot = format!("{path}.");
                let arrays = self.columns(&ours, fields, None, array.len(), row_of, &dot)?;
                let fields: Fields = fields.iter().map(arrow_field).collect();
                Arc::new(StructArray::try_new(
                    fields,
                    arrays,
                    values.nulls().cloned(),
                )?)
            }
            (T::List(ours), T::List(item)) => {
                let values = array.as_list::<i32>();
                let mut rows = vec![0; values.values().len()];
                for (list, ends) in values.value_offsets().windows(2).enumerate() {
                    rows[ends[0] as usize..ends[1] as usize].fill(row_of(list));
                }
                let path = format!("{path}[]");
                let items =
                    self.column(ours, values.values(), item, &|index| rows[index], &path)?;
                let field = Arc::new(Field::new("element", arrow_type(&item.kind), true));
                let offsets = values.offsets().clone();
                Arc::new(ListArray::try_new(
                    field,
                    offsets,
                    items,
                    values.nulls().cloned(),
                )?)
            }
            _ => {
                let found = (RejectReason::TYPE_CONFLICT, ours.kind.word());
                self.refuse_where(array, row_of, [path, target.kind.word()], found, |_| true);
                new_null_array(&wanted_type, array.len())
            }
        })
    }
}
