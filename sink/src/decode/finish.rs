//! The columns of an interval as Arrow arrays.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    ListArray, MapArray, NullArray, StringArray, StructArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields as ArrowFields};

use super::bits::Bits;
use super::column::{ColumnNode, Fields, Items, MapEntries, NumberColumn, TextColumn, Values};
use super::reject::Reject;
use super::rescue::RescueKinds;
use crate::encode::{Picked, RowsColumn};
use crate::schema::{Column, TableSchema, arrow_type, map_entry};
use crate::table::event_time::UntimedReason;
use crate::table::partition::{PartitionKey, PartitionSpec};

/// The rows of an interval, before they are brought under the table's stored schema. Those of a partition stand
/// together, in the order in which they were appended.
///
/// The way on: [`DecodedRows::schema`] is what the table's schema must be at least. If it differs from
/// the stored one it is put under the next number; if another sink was faster,
/// [`TableSchema::join`] the winner's with this one and try again. Then [`DecodedRows::conform`] the
/// rows to what is stored.
#[derive(Clone, Debug)]
pub struct DecodedRows {
    pub(super) schema: TableSchema,
    /// Every column seen, also those without a type yet.
    pub(super) columns: Vec<Column>,
    pub(super) arrays: Vec<RowsColumn>,
    /// The column `_rescued`.
    pub(super) rescued: ArrayRef,
    /// The record and the kind of each value in it.
    pub(super) rescued_values: Vec<(u32, u32)>,
    pub(super) rescue_kinds: RescueKinds,
    /// Where the rows of values that their columns do not take are refused: the records of those that were refused when
    /// they were read.
    pub(super) refusals: Option<BTreeMap<u32, RefusedRow>>,
    /// The provenance columns that differ from row to row.
    pub(super) provenance: Vec<ArrayRef>,
    pub(super) spec: PartitionSpec,
    pub(super) keys: Vec<PartitionKey>,
    pub(super) partitions: Vec<u32>,
    pub(super) records: Vec<u32>,
    /// The rows without a believable event time.
    pub(super) untimed: Vec<(u32, UntimedReason)>,
}

/// Why a record is refused, and its payload.
#[derive(Clone, Debug)]
pub(super) struct RefusedRow {
    pub(super) reject: Reject,
    pub(super) payload: Box<[u8]>,
}

impl DecodedRows {
    /// The rows of each partition together, in their order: those of a partition are then a slice of every array.
    pub(super) fn grouped(mut self) -> Self {
        if !self.partitions.is_sorted() {
            let mut order: Vec<u32> = (0..).take(self.rows()).collect();
            order.sort_by_key(|row| self.partitions[*row as usize]);
            self.keep(&order)
                .expect("every row is taken once, so that no array outgrows its offsets");
        }
        self
    }

    /// Only these rows, in their order.
    ///
    /// # Errors
    /// Arrow refuses the arrays, which their construction rules out.
    pub fn take(&self, rows: &[u32]) -> Result<Self, ArrowError> {
        let mut taken = self.clone();
        taken.keep(rows)?;
        Ok(taken)
    }

    /// As [`DecodedRows::take`], in place: no more than one column is there twice.
    fn keep(&mut self, rows: &[u32]) -> Result<(), ArrowError> {
        let mut reasons = vec![None; self.rows()];
        for (row, reason) in &self.untimed {
            reasons[*row as usize] = Some(*reason);
        }
        Picked::new(rows, self.rows()).keep(&mut self.arrays)?;
        let indices = UInt32Array::from(rows.to_vec());
        for array in self.provenance.iter_mut().chain([&mut self.rescued]) {
            *array = arrow_select::take::take(array, &indices, None)?;
        }
        let pick = |of: &[u32]| rows.iter().map(|row| of[*row as usize]).collect();
        self.partitions = pick(&self.partitions);
        self.records = pick(&self.records);
        let untimed = (0_u32..).zip(rows);
        let untimed = untimed.filter_map(|(at, row)| Some((at, reasons[*row as usize]?)));
        self.untimed = untimed.collect();
        if self.records.len() < reasons.len() && !self.rescued_values.is_empty() {
            let kept: HashSet<u32> = self.records.iter().copied().collect();
            self.rescued_values
                .retain(|(record, _)| kept.contains(record));
        }
        Ok(())
    }

    /// The schema that all rows fit: the decoder's, with what the records brought. Keeps the
    /// decoder's number; [`TableSchema::same_content`] says whether it must be stored.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.partitions.len()
    }
}

/// The columns of the records and their values over `len` rows.
pub(super) fn finish_columns(root: Fields, len: usize) -> (Vec<Column>, Vec<RowsColumn>) {
    let fields = root.fields.into_iter().map(|field| {
        let column = field.node.column(&field.name);
        let rows = finish_column(field.node, len);
        #[cfg(test)]
        crate::tests::fault::in_column("fault:finish", rows.values());
        (column, rows)
    });
    fields.unzip()
}

/// The column of a node over `len` rows. One with few values is not spread over the rows.
fn finish_column(mut node: ColumnNode, len: usize) -> RowsColumn {
    if !node.is_sparse(len) {
        return RowsColumn::dense(finish(node, len));
    }
    let mut rows = Vec::with_capacity(node.valid.ones());
    node.valid.each(|row| rows.push(row as u32));
    gather(&mut node, &rows);
    RowsColumn::sparse(finish(node, rows.len()), rows, len)
}

/// Moves what a node has at `rows`, and nowhere else, together.
pub(super) fn gather(node: &mut ColumnNode, rows: &[u32]) {
    let (mut valid, mut at) = (Bits::default(), 0);
    node.valid.each(|row| {
        while (rows[at] as usize) < row {
            at += 1;
        }
        debug_assert_eq!(rows[at] as usize, row, "a field is in an object");
        valid.set(at);
    });
    node.valid = valid;
    if let Values::Struct(fields) = &mut node.values {
        for field in &mut fields.fields {
            gather(&mut field.node, rows);
        }
    }
}

/// The array of a node over `len` rows.
pub(super) fn finish(node: ColumnNode, len: usize) -> ArrayRef {
    let ColumnNode { valid, values, .. } = node;
    match values {
        Values::Unknown => Arc::new(NullArray::new(len)),
        Values::Number(numbers) => finish_numbers(numbers, valid, len),
        Values::Decimal {
            unscaled,
            precision,
            scale,
        } => {
            let scale = i8::try_from(scale).unwrap_or(i8::MAX);
            let values = spread(unscaled, &valid, len);
            Arc::new(
                Decimal128Array::new(values.into(), valid.finish_nulls(len))
                    .with_precision_and_scale(precision, scale)
                    .expect("a schema's decimals are in range"),
            )
        }
        Values::Boolean(values) => {
            let values = if valid.ones() == len {
                values
            } else {
                let (mut spread, mut next) = (Bits::default(), 0);
                valid.each(|row| {
                    if values.get(next) {
                        spread.set(row);
                    }
                    next += 1;
                });
                spread
            };
            let values = values.finish(len);
            Arc::new(BooleanArray::new(values, valid.finish_nulls(len)))
        }
        Values::Text(texts) => finish_texts(texts, valid, len),
        Values::Days(days) => {
            let values = spread(days, &valid, len);
            Arc::new(Date32Array::new(values.into(), valid.finish_nulls(len)))
        }
        Values::Instants { micros, .. } => {
            let values = spread(micros, &valid, len);
            let values = TimestampMicrosecondArray::new(values.into(), valid.finish_nulls(len));
            Arc::new(values.with_timezone("UTC"))
        }
        Values::Struct(fields) => {
            let nulls = valid.finish_nulls(len);
            finish_struct(*fields, nulls, len)
        }
        Values::List(items) => {
            let Items { ends, item } = *items;
            let offsets = offsets(&ends, &valid, len);
            let count = super::column::end_of(&ends);
            let field = Field::new("element", arrow_type(&item.kind()), true);
            let item = finish(item, count);
            Arc::new(ListArray::new(
                Arc::new(field),
                offsets,
                item,
                valid.finish_nulls(len),
            ))
        }
        Values::Map(entries) => {
            let MapEntries {
                ends, keys, value, ..
            } = *entries;
            let count = super::column::end_of(&ends);
            let column = value.column("value");
            let mut every = Bits::default();
            (0..count).for_each(|_| every.push(true));
            let entries = [finish_texts(keys, every, count), finish(value, count)];
            let offsets = offsets(&ends, &valid, len);
            map_array(&column, offsets, entries, valid.finish_nulls(len))
        }
    }
}

/// The array of texts over `len` rows.
pub(super) fn finish_texts(texts: TextColumn, valid: Bits, len: usize) -> ArrayRef {
    let TextColumn { bytes, ends, .. } = texts;
    let offsets = offsets(&ends, &valid, len);
    Arc::new(
        StringArray::try_new(offsets, Buffer::from_vec(bytes), valid.finish_nulls(len))
            .expect("payloads are UTF-8 and strings end where characters do"),
    )
}

/// The array of a map over `len` rows, given its entries.
pub(super) fn map_array(
    value: &Column,
    offsets: OffsetBuffer<i32>,
    [keys, values]: [ArrayRef; 2],
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let DataType::Struct(fields) = map_entry(value) else {
        unreachable!("the entries of a map are structs")
    };
    let entries = StructArray::new(fields, vec![keys, values], None);
    let field = Arc::new(Field::new("key_value", entries.data_type().clone(), false));
    Arc::new(MapArray::new(field, offsets, entries, nulls, false))
}

fn finish_struct(fields: Fields, nulls: Option<NullBuffer>, len: usize) -> ArrayRef {
    if fields.fields.is_empty() {
        return Arc::new(StructArray::new_empty_fields(len, nulls));
    }
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = fields
        .fields
        .into_iter()
        .map(|field| {
            let kind = arrow_type(&field.node.kind());
            (
                Field::new(&*field.name, kind, true),
                finish(field.node, len),
            )
        })
        .unzip();
    Arc::new(StructArray::new(ArrowFields::from(fields), arrays, nulls))
}

fn finish_numbers(mut numbers: NumberColumn, valid: Bits, len: usize) -> ArrayRef {
    if numbers.is_double() {
        // Integers that were written before the column became DOUBLE.
        let integers = numbers.doubles_from.filter(|_| !numbers.doubles_only);
        for bits in &mut numbers.bits[..integers.unwrap_or(0)] {
            *bits = (bits.cast_signed() as f64).to_bits();
        }
        let dense: Vec<f64> = numbers.bits.into_iter().map(f64::from_bits).collect();
        let values = spread(dense, &valid, len);
        return Arc::new(Float64Array::new(values.into(), valid.finish_nulls(len)));
    }
    let values = spread(numbers.bits, &valid, len);
    let values = ScalarBuffer::<i64>::new(Buffer::from_vec(values), 0, len);
    Arc::new(Int64Array::new(values, valid.finish_nulls(len)))
}

/// The dense values at their rows; rows without a value get zero.
fn spread<T: Copy + Default>(dense: Vec<T>, valid: &Bits, len: usize) -> Vec<T> {
    if dense.len() == len {
        return dense;
    }
    let mut rows = vec![T::default(); len];
    let mut values = dense.into_iter();
    valid.each(|row| rows[row] = values.next().unwrap_or_default());
    rows
}

/// The offsets of all rows from the ends of the present ones.
fn offsets(ends: &[i32], valid: &Bits, len: usize) -> OffsetBuffer<i32> {
    let mut offsets = vec![0; len + 1];
    if ends.len() == len {
        offsets[1..].copy_from_slice(ends);
    } else {
        // All rows before `from` have their end.
        let (mut from, mut end) = (0, 0);
        let mut next = ends.iter();
        valid.each(|row| {
            offsets[from + 1..=row].fill(end);
            end = next.next().copied().unwrap_or(end);
            offsets[row + 1] = end;
            from = row + 1;
        });
        offsets[from + 1..].fill(end);
    }
    OffsetBuffer::new(offsets.into())
}
