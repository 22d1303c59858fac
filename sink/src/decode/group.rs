//! Brings the rows of each partition together before they become arrays.
//!
//! A partition's rows are then a slice of each array. Picking them out of finished arrays would cost a step per row,
//! column and partition; here only values that are present cost one. Rows of a partition keep their order.

use super::bits::Bits;
use super::column::{ColumnNode, Fields, Items, TextColumn, Values, end_of};

/// Where the rows go, or the items of lists.
pub(super) struct Groups {
    /// The partition of each row.
    of: Vec<u32>,
    /// The new place of each row.
    to: Vec<u32>,
    partitions: usize,
}

impl Groups {
    /// Groups rows by partition, in the partitions' order.
    pub(super) fn new(of: Vec<u32>, partitions: usize) -> Self {
        let to = places(&of, partitions);
        Groups { of, to, partitions }
    }

    /// Puts one thing per row at its new place.
    pub(super) fn rows<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        placed(values, &self.to)
    }

    /// The new place of a row.
    pub(super) fn place(&self, row: u32) -> u32 {
        self.to[row as usize]
    }

    pub(super) fn fields(&self, fields: &mut Fields) {
        for field in &mut fields.fields {
            self.node(&mut field.node);
        }
    }

    fn node(&self, node: &mut ColumnNode) {
        if node.valid.ones() == 0 {
            return;
        }
        match &mut node.values {
            Values::Unknown => {}
            Values::Struct(fields) => self.fields(fields),
            Values::Number(numbers) => {
                numbers.settle();
                numbers.bits = placed(&numbers.bits, &self.present(&node.valid));
            }
            Values::Decimal { unscaled, .. } => {
                *unscaled = placed(unscaled, &self.present(&node.valid));
            }
            Values::Boolean(values) => *values = values.moved(&self.present(&node.valid)),
            Values::Varchar(TextColumn { bytes, ends }) => {
                let places = self.present(&node.valid);
                let moved = moved_ends(ends, &places);
                let mut text = vec![0; bytes.len()];
                let mut start = 0;
                for (end, place) in ends.iter().zip(&places) {
                    let (end, place) = (*end as usize, *place as usize);
                    let to = moved[place] as usize;
                    text[to - (end - start)..to].copy_from_slice(&bytes[start..end]);
                    start = end;
                }
                (*bytes, *ends) = (text, moved);
            }
            Values::List(items) => {
                let Items { ends, item } = &mut **items;
                let places = self.present(&node.valid);
                let mut of = Vec::with_capacity(end_of(ends));
                let mut next = ends.iter();
                node.valid.each(|row| {
                    let end = next.next().map_or(of.len(), |end| *end as usize);
                    of.resize(end, self.of[row]);
                });
                *ends = moved_ends(ends, &places);
                Groups::new(of, self.partitions).node(item);
            }
        }
        node.valid = node.valid.moved(&self.to);
    }

    /// The new places of the present values, among the present ones.
    fn present(&self, valid: &Bits) -> Vec<u32> {
        if valid.ones() == self.to.len() {
            return self.to.clone();
        }
        let mut of = Vec::with_capacity(valid.ones());
        valid.each(|row| of.push(self.of[row]));
        places(&of, self.partitions)
    }
}

/// Where each goes when they are sorted by partition and keep their order in it.
fn places(of: &[u32], partitions: usize) -> Vec<u32> {
    let mut next = vec![0; partitions + 1];
    for partition in of {
        next[*partition as usize + 1] += 1;
    }
    for partition in 0..partitions {
        next[partition + 1] += next[partition];
    }
    let mut place = |partition: &u32| {
        let next = &mut next[*partition as usize];
        *next += 1;
        *next - 1
    };
    of.iter().map(&mut place).collect()
}

fn placed<T: Copy + Default>(values: &[T], places: &[u32]) -> Vec<T> {
    let mut moved = vec![T::default(); values.len()];
    for (value, place) in values.iter().zip(places) {
        moved[*place as usize] = *value;
    }
    moved
}

/// The ends of stretches that change their places.
fn moved_ends(ends: &[i32], places: &[u32]) -> Vec<i32> {
    let mut moved = vec![0; ends.len()];
    let mut start = 0;
    for (end, place) in ends.iter().zip(places) {
        moved[*place as usize] = end - start;
        start = *end;
    }
    let mut end = 0;
    for length in &mut moved {
        end += *length;
        *length = end;
    }
    moved
}
