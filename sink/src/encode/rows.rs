//! The rows of a file, of which few may have a value in a column.
//!
//! Owns columns that take memory only for the values that they have. Promises that rows are picked, cut and spread as
//! those of Arrow's batches are, and that no more is spread at a time than is asked for. Refuses to hold a null where no
//! row of an interval has a value.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{
    Array as _, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_empty_array,
    new_null_array,
};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, SchemaRef};

/// A column of some rows.
#[derive(Clone, Debug)]
pub struct RowsColumn {
    values: ArrayRef,
    /// The rows that have a place in `values`, ascending, counted from `first`; `None`: all rows have.
    rows: Option<ScalarBuffer<u32>>,
    first: u32,
    len: usize,
}

impl RowsColumn {
    /// A column with a value or a null for each row.
    pub fn dense(values: ArrayRef) -> Self {
        RowsColumn {
            len: values.len(),
            values,
            rows: None,
            first: 0,
        }
    }

    /// A column of `len` rows of which only `rows`, ascending, have one of `values`.
    pub fn sparse(values: ArrayRef, rows: Vec<u32>, len: usize) -> Self {
        debug_assert_eq!(values.len(), rows.len());
        RowsColumn {
            values,
            rows: Some(rows.into()),
            first: 0,
            len,
        }
    }

    /// A column without values.
    pub fn absent(kind: &DataType, len: usize) -> Self {
        RowsColumn::sparse(new_empty_array(kind), Vec::new(), len)
    }

    /// The values as they are kept, without rows that have none.
    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    /// The same rows with other values.
    pub(crate) fn with_values(&self, values: ArrayRef) -> Self {
        debug_assert_eq!(values.len(), self.values.len());
        RowsColumn {
            values,
            ..self.clone()
        }
    }

    /// The row of a place in the values.
    pub(crate) fn row_of(&self, index: usize) -> usize {
        match &self.rows {
            Some(rows) => (rows[index] - self.first) as usize,
            None => index,
        }
    }

    /// Whether no row has a value.
    pub fn is_null(&self) -> bool {
        self.values.null_count() == self.values.len()
    }

    /// The bytes of the values, with their rows.
    pub(crate) fn bytes(&self) -> u64 {
        if self.is_null() {
            return 0;
        }
        let values = self.values.to_data().get_slice_memory_size();
        let rows = self.rows.as_ref().map_or(0, |rows| rows.len() * 4);
        (values.unwrap_or(0) + rows) as u64
    }

    /// Where the values of `range` of the rows lie.
    fn places(&self, rows: &[u32], range: &Range<usize>) -> Range<usize> {
        let place =
            |row: usize| rows.partition_point(|known| ((known - self.first) as usize) < row);
        place(range.start)..place(range.end)
    }

    /// A part of the rows.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        let len = range.len();
        match &self.rows {
            None => RowsColumn::dense(self.values.slice(range.start, len)),
            Some(rows) => {
                let places = self.places(rows, &range);
                RowsColumn {
                    values: self.values.slice(places.start, places.len()),
                    rows: Some(rows.slice(places.start, places.len())),
                    first: self.first + range.start as u32,
                    len,
                }
            }
        }
    }

    /// An array of a part of the rows.
    pub(crate) fn array(&self, range: Range<usize>) -> Result<ArrayRef, ArrowError> {
        let len = range.len();
        let Some(rows) = &self.rows else {
            return Ok(self.values.slice(range.start, len));
        };
        let places = self.places(rows, &range);
        if places.is_empty() {
            return Ok(new_null_array(self.values.data_type(), len));
        }
        let mut indexes = vec![0; len];
        let mut valid = BooleanBufferBuilder::new(len);
        valid.append_n(len, false);
        for place in places {
            let row = (rows[place] - self.first) as usize - range.start;
            indexes[row] = place as u32;
            valid.set_bit(row, true);
        }
        let nulls = NullBuffer::new(valid.finish());
        let indexes = UInt32Array::new(indexes.into(), Some(nulls));
        arrow_select::take::take(&self.values, &indexes, None)
    }

    /// Whether only some rows have a place in the values.
    pub(super) fn is_sparse(&self) -> bool {
        self.rows.is_some()
    }

    fn pick(&self, picked: &Picked<'_>) -> Result<Self, ArrowError> {
        let Some(rows) = &self.rows else {
            let rows = UInt32Array::from(picked.rows.to_vec());
            return Ok(RowsColumn::dense(arrow_select::take::take(
                &self.values,
                &rows,
                None,
            )?));
        };
        let places = (0_u32..).zip(rows);
        let mut kept: Vec<(u32, u32)> = places
            .map(|(place, row)| (picked.new_rows[(row - self.first) as usize], place))
            .filter(|(row, _)| *row != NOT_PICKED)
            .collect();
        kept.sort_unstable();
        let (rows, places): (Vec<u32>, Vec<u32>) = kept.into_iter().unzip();
        let values = arrow_select::take::take(&self.values, &UInt32Array::from(places), None)?;
        Ok(RowsColumn::sparse(values, rows, picked.rows.len()))
    }
}

/// Stands for the new number of a row that is not picked.
const NOT_PICKED: u32 = u32::MAX;

/// Rows that are picked, each at most once, in any order.
pub(crate) struct Picked<'a> {
    rows: &'a [u32],
    /// The new number of each row.
    new_rows: Vec<u32>,
}

impl<'a> Picked<'a> {
    /// These of `len` rows.
    pub(crate) fn new(rows: &'a [u32], len: usize) -> Self {
        let mut new_rows = vec![NOT_PICKED; len];
        for (new, row) in (0_u32..).zip(rows) {
            new_rows[*row as usize] = new;
        }
        Picked { rows, new_rows }
    }

    /// Replaces columns by those of the picked rows, so that no more than one is there twice.
    pub(crate) fn keep(&self, columns: &mut [RowsColumn]) -> Result<(), ArrowError> {
        for column in columns {
            *column = column.pick(self)?;
        }
        Ok(())
    }
}

/// The rows of a file.
#[derive(Clone, Debug)]
pub struct FileRows {
    schema: SchemaRef,
    columns: Vec<RowsColumn>,
    rows: usize,
}

impl FileRows {
    /// Rows of these columns, which are those of the schema.
    pub fn new(schema: SchemaRef, columns: Vec<RowsColumn>, rows: usize) -> Self {
        debug_assert_eq!(schema.fields().len(), columns.len());
        debug_assert!(columns.iter().all(|column| column.len == rows));
        FileRows {
            schema,
            columns,
            rows,
        }
    }

    /// The columns' names and types.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns.
    pub fn columns(&self) -> &[RowsColumn] {
        &self.columns
    }

    /// How many rows there are.
    pub fn num_rows(&self) -> usize {
        self.rows
    }

    /// The bytes of the values.
    pub(crate) fn bytes(&self) -> u64 {
        self.columns.iter().map(RowsColumn::bytes).sum()
    }

    /// The columns that have values.
    ///
    /// # Errors
    /// None: the columns are those of the schema.
    pub(crate) fn filled(&self) -> Result<Self, ArrowError> {
        let columns = 0..self.columns.len();
        let filled: Vec<usize> = columns.filter(|at| !self.columns[*at].is_null()).collect();
        let schema = Arc::new(self.schema.project(&filled)?);
        let columns = filled.iter().map(|at| self.columns[*at].clone());
        Ok(FileRows::new(schema, columns.collect(), self.rows))
    }

    /// Some of the rows, each at most once.
    ///
    /// # Errors
    /// Arrow refuses the arrays, which their construction rules out.
    pub(crate) fn pick(&self, rows: &[u32]) -> Result<Self, ArrowError> {
        let mut columns = self.columns.clone();
        Picked::new(rows, self.rows).keep(&mut columns)?;
        Ok(FileRows::new(Arc::clone(&self.schema), columns, rows.len()))
    }

    /// A part of the rows as Arrow has them.
    ///
    /// # Errors
    /// Arrow refuses the arrays, which their construction rules out.
    pub fn batch(&self, range: Range<usize>) -> Result<RecordBatch, ArrowError> {
        let arrays = self
            .columns
            .iter()
            .map(|column| column.array(range.clone()));
        let arrays = arrays.collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(range.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
    }

    /// All rows as Arrow has them.
    ///
    /// # Errors
    /// Those of [`FileRows::batch`].
    pub fn to_batch(&self) -> Result<RecordBatch, ArrowError> {
        self.batch(0..self.rows)
    }
}

impl From<RecordBatch> for FileRows {
    fn from(batch: RecordBatch) -> Self {
        let columns = batch
            .columns()
            .iter()
            .map(|array| RowsColumn::dense(Arc::clone(array)));
        FileRows::new(batch.schema(), columns.collect(), batch.num_rows())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;
    use proptest::prelude::*;

    use super::*;

    fn column(values: &[Option<i64>], is_sparse: bool) -> RowsColumn {
        if !is_sparse {
            return RowsColumn::dense(Arc::new(Int64Array::from(values.to_vec())));
        }
        let rows = (0..values.len()).filter(|row| values[*row].is_some());
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        let present = Int64Array::from_iter(values.iter().filter(|value| value.is_some()));
        RowsColumn::sparse(Arc::new(present), rows, values.len())
    }

    proptest! {
        /// Whatever is cut, picked and cut again is what it is of a list.
        #[test]
        fn sparse_columns_are_lists(
            values in prop::collection::vec(prop::option::weighted(0.3, any::<i64>()), 1..60),
            is_sparse in any::<bool>(),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 3),
            order in any::<u64>(),
        ) {
            let mut list = values;
            let mut column = column(&list, is_sparse);
            for (at, (from, to)) in cuts.iter().enumerate() {
                let (from, to) = (from.index(list.len() + 1), to.index(list.len() + 1));
                let range = from.min(to)..from.max(to);
                let array = column.array(range.clone()).unwrap();
                prop_assert_eq!(&*array, &Int64Array::from(list[range.clone()].to_vec()) as &dyn arrow_array::Array);
                if at == 1 {
                    let mut rows: Vec<u32> = (0..list.len() as u32).collect();
                    rows.sort_by_key(|row| (u64::from(*row) + 1).wrapping_mul(order | 1));
                    rows.truncate(range.len());
                    let mut columns = [column];
                    Picked::new(&rows, list.len()).keep(&mut columns).unwrap();
                    [column] = columns;
                    list = rows.iter().map(|row| list[*row as usize]).collect();
                } else {
                    column = column.slice(range.clone());
                    list = list[range].to_vec();
                }
                prop_assert_eq!(column.len, list.len());
                prop_assert_eq!(column.is_null(), list.iter().all(Option::is_none));
                for index in 0..column.values().len() {
                    let row = column.row_of(index);
                    prop_assert!(is_sparse <= list[row].is_some());
                }
            }
        }
    }
}
