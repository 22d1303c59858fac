//! The growing columns: one node per column, field or list item.
//!
//! A node keeps its present values densely and a bitmap that is padded lazily, so that an absent key
//! costs nothing and a column that begins at row one million costs its bitmap only. What a record
//! added is undone by [`ColumnNode::truncate`] in time that does not depend on the rows before it:
//! an integer column that became DOUBLE remembers at which value, a column that got its type
//! remembers that it has no value without the record.

use std::collections::HashMap;

use super::bits::Bits;
use super::number::ParsedNumber;
use super::reject::RejectReason;
use crate::schema::{Column, ColumnType, EpochUnit, INTEGER_EXACT_MAX, fold_name};

/// The most new fields that an object of a known table may gain in an interval; what is beyond is rescued.
pub(super) const NEW_FIELDS_MAX: usize = 512;

/// No field, where an index of one is expected.
pub(super) const NO_FIELD: u32 = u32::MAX;

/// The values of one column, field or list item.
#[derive(Debug, Default)]
pub(super) struct ColumnNode {
    pub(super) valid: Bits,
    pub(super) values: Values,
    /// Whether the schema, not this decoder's records, gave the type.
    pub(super) known: bool,
    pub(super) declared: bool,
}

#[derive(Debug, Default)]
pub(super) enum Values {
    #[default]
    Unknown,
    Number(NumberColumn),
    Decimal {
        unscaled: Vec<i128>,
        precision: u8,
        scale: u8,
    },
    Boolean(Bits),
    /// VARCHAR or JSON.
    Text(TextColumn),
    /// DATE: days since 1970.
    Days(Vec<i32>),
    /// TIMESTAMP: microseconds since 1970.
    Instants {
        micros: Vec<i64>,
        unit: EpochUnit,
    },
    Struct(Box<Fields>),
    List(Box<Items>),
    Map(Box<MapEntries>),
}

/// A value that does not fit its column, which is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValueMisfit {
    pub(super) reason: RejectReason,
    /// The kind of the value.
    pub(super) found: &'static str,
}

/// BIGINT or DOUBLE values. Those before `doubles_from` are integers as written, those from there
/// on the bits of doubles; the integers are converted once, at the end.
#[derive(Debug, Default)]
pub(super) struct NumberColumn {
    pub(super) bits: Vec<u64>,
    pub(super) doubles_from: Option<usize>,
    pub(super) beyond_exact_from: Option<usize>,
    /// The schema says BIGINT, or the column holds integers: a fraction of zeros is an integer then.
    integers_known: bool,
    /// BIGINT that may not become DOUBLE: declared, or with earlier integers beyond 2^53.
    pub(super) integers_only: bool,
    /// The schema says DOUBLE.
    pub(super) doubles_only: bool,
    /// The schema says that earlier files hold integers beyond 2^53.
    pub(super) earlier_beyond_exact: bool,
}

/// What a text column takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TextForm {
    /// VARCHAR: strings.
    #[default]
    Strings,
    /// Declared VARCHAR: strings, and any other value as its text.
    Anything,
    /// JSON: any value as it is written.
    Json,
}

#[derive(Debug, Default)]
pub(super) struct TextColumn {
    pub(super) form: TextForm,
    pub(super) bytes: Vec<u8>,
    /// The end of each text in `bytes`.
    pub(super) ends: Vec<i32>,
}

#[derive(Debug)]
pub(super) struct Items {
    /// The end of each list in the items.
    pub(super) ends: Vec<i32>,
    pub(super) item: ColumnNode,
}

#[derive(Debug)]
pub(super) struct MapEntries {
    /// The end of each map in the entries.
    pub(super) ends: Vec<i32>,
    pub(super) keys: TextColumn,
    pub(super) value: ColumnNode,
    /// Why it is a map, if the records decided that.
    pub(super) why: Option<String>,
}

#[derive(Debug)]
pub(super) struct Fields {
    pub(super) fields: Vec<Field>,
    pub(super) first: u32,
    by_name: HashMap<Box<str>, u32>,
    by_folded_name: HashMap<Box<str>, u32>,
    /// How many fields there may be in this interval.
    pub(super) fields_max: usize,
    pub(super) role: ColumnRole,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) node: ColumnNode,
    /// Whether the name is written without escapes, so that a key's bytes may be compared with it.
    pub(super) plain: bool,
    /// The field that followed this one in an earlier record.
    pub(super) next: u32,
    /// The object that held this key last, by the decoder's count.
    pub(super) seen_in: u64,
    /// The record that brought this field; 0 for the schema.
    pub(super) born_in: u64,
    pub(super) role: ColumnRole,
}

/// What a field means beyond its column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ColumnRole {
    /// The rank among the fields that may hold the event time.
    pub(super) time_rank: Option<u8>,
    /// How many parts of the configured event time's path lead to here.
    pub(super) path_depth: Option<u8>,
    /// The partition field that this is.
    pub(super) partition_field: Option<u8>,
}

impl ColumnNode {
    /// A node for a column of the schema.
    pub(super) fn of(
        column: &Column,
        role: ColumnRole,
        roles: &dyn Fn(ColumnRole, &str) -> ColumnRole,
    ) -> Self {
        let values = match &column.kind {
            ColumnType::Unknown => Values::Unknown,
            ColumnType::Bigint => Values::Number(NumberColumn {
                integers_known: true,
                integers_only: column.declared || column.integers_beyond_2_53,
                earlier_beyond_exact: column.integers_beyond_2_53,
                ..NumberColumn::default()
            }),
            ColumnType::Double => Values::Number(NumberColumn {
                doubles_only: true,
                ..NumberColumn::default()
            }),
            ColumnType::Decimal { precision, scale } => Values::Decimal {
                unscaled: Vec::new(),
                precision: *precision,
                scale: *scale,
            },
            ColumnType::Boolean => Values::Boolean(Bits::default()),
            ColumnType::Varchar if column.declared => {
                Values::Text(TextColumn::of(TextForm::Anything))
            }
            ColumnType::Varchar => Values::Text(TextColumn::default()),
            ColumnType::Json => Values::Text(TextColumn::of(TextForm::Json)),
            ColumnType::Date => Values::Days(Vec::new()),
            ColumnType::Timestamp(unit) => Values::Instants {
                micros: Vec::new(),
                unit: *unit,
            },
            ColumnType::Map(value) => Values::Map(Box::new(MapEntries {
                ends: Vec::new(),
                keys: TextColumn::default(),
                value: ColumnNode::of(value, ColumnRole::default(), roles),
                why: column.why.clone(),
            })),
            ColumnType::Struct(columns) => {
                let mut fields = Fields::new(role);
                for column in columns {
                    let role = roles(role, &column.name);
                    fields.add(&column.name, ColumnNode::of(column, role, roles), role, 0);
                }
                fields.fields_max += fields.fields.len();
                Values::Struct(Box::new(fields))
            }
            ColumnType::List(item) => Values::List(Box::new(Items {
                ends: Vec::new(),
                item: ColumnNode::of(item, ColumnRole::default(), roles),
            })),
        };
        let known = !matches!(values, Values::Unknown);
        Self {
            valid: Bits::default(),
            values,
            known,
            declared: column.declared,
        }
    }

    /// The type of the column so far.
    pub(super) fn kind(&self) -> ColumnType {
        match &self.values {
            Values::Unknown => ColumnType::Unknown,
            Values::Number(numbers) if numbers.is_double() => ColumnType::Double,
            Values::Number(_) => ColumnType::Bigint,
            Values::Decimal {
                precision, scale, ..
            } => ColumnType::Decimal {
                precision: *precision,
                scale: *scale,
            },
            Values::Boolean(_) => ColumnType::Boolean,
            Values::Text(texts) if texts.form == TextForm::Json => ColumnType::Json,
            Values::Text(_) => ColumnType::Varchar,
            Values::Days(_) => ColumnType::Date,
            Values::Instants { unit, .. } => ColumnType::Timestamp(*unit),
            Values::Map(entries) => ColumnType::Map(Box::new(entries.value.column("value"))),
            Values::Struct(fields) => ColumnType::Struct(fields.columns()),
            Values::List(items) => ColumnType::List(Box::new(items.item.column("element"))),
        }
    }

    /// The type without what is nested in it.
    pub(super) fn outermost(&self) -> String {
        match &self.values {
            Values::Struct(_) => "STRUCT".to_owned(),
            Values::List(_) => "LIST".to_owned(),
            Values::Map(_) => "MAP".to_owned(),
            _ => self.kind().outermost(),
        }
    }

    /// The column of a schema that describes this node.
    pub(super) fn column(&self, name: &str) -> Column {
        let mut column = Column::new(name, self.kind());
        column.declared = self.declared;
        if let Values::Map(entries) = &self.values {
            column.why.clone_from(&entries.why);
        }
        if let (ColumnType::Bigint, Values::Number(numbers)) = (&column.kind, &self.values) {
            column.integers_beyond_2_53 =
                numbers.earlier_beyond_exact || numbers.beyond_exact_from.is_some();
        }
        column
    }

    /// A value of another kind than the column's.
    pub(super) fn conflict(found: &'static str) -> ValueMisfit {
        let reason = RejectReason::TYPE_CONFLICT;
        ValueMisfit { reason, found }
    }

    #[inline]
    pub(super) fn push_number(
        &mut self,
        index: usize,
        number: ParsedNumber,
    ) -> Result<(), ValueMisfit> {
        match &mut self.values {
            Values::Number(numbers) => numbers.push(number)?,
            Values::Unknown => {
                let mut numbers = NumberColumn::default();
                numbers.push(number)?;
                self.values = Values::Number(numbers);
            }
            _ => return Err(Self::conflict(number.kind())),
        }
        self.valid.set(index);
        Ok(())
    }

    pub(super) fn push_boolean(&mut self, index: usize, value: bool) -> Result<(), ValueMisfit> {
        if let Values::Unknown = self.values {
            self.values = Values::Boolean(Bits::default());
        }
        match &mut self.values {
            Values::Boolean(values) => values.push(value),
            _ => return Err(Self::conflict("boolean")),
        }
        self.valid.set(index);
        Ok(())
    }

    /// Removes every value at or behind `len`, and what only records from `ordinal` on brought.
    pub(super) fn truncate(&mut self, len: usize, ordinal: u64) {
        self.valid.truncate(len);
        let present = self.valid.ones();
        if present == 0 && !self.known {
            self.values = Values::Unknown;
            return;
        }
        match &mut self.values {
            Values::Unknown => {}
            Values::Number(numbers) => numbers.truncate(present),
            Values::Decimal { unscaled, .. } => unscaled.truncate(present),
            Values::Boolean(values) => values.truncate(present),
            Values::Text(texts) => texts.truncate(present),
            Values::Days(days) => days.truncate(present),
            Values::Instants { micros, .. } => micros.truncate(present),
            Values::Struct(fields) => fields.truncate(len, ordinal),
            Values::List(items) => {
                items.ends.truncate(present);
                items.item.truncate(end_of(&items.ends), ordinal);
            }
            Values::Map(entries) => {
                entries.ends.truncate(present);
                let count = end_of(&entries.ends);
                entries.keys.truncate(count);
                entries.value.truncate(count, ordinal);
            }
        }
    }

    /// Makes the column, and what is nested in it, one that no schema knows.
    pub(super) fn forget_schema(&mut self) {
        self.known = false;
        match &mut self.values {
            Values::Struct(fields) => {
                for field in &mut fields.fields {
                    field.born_in = 1;
                    field.node.forget_schema();
                }
            }
            Values::List(items) => items.item.forget_schema(),
            Values::Map(entries) => entries.value.forget_schema(),
            _ => {}
        }
    }

    /// Whether a value gave the column, or something in it, a type.
    pub(super) fn has_type(&self) -> bool {
        match &self.values {
            Values::Unknown => false,
            Values::Struct(fields) => fields.fields.iter().any(|field| field.node.has_type()),
            Values::List(items) => items.item.has_type(),
            Values::Map(entries) => entries.value.has_type(),
            _ => true,
        }
    }

    /// How many columns this node counts for.
    pub(super) fn width(&self) -> usize {
        1 + match &self.values {
            Values::Struct(fields) => fields.width(),
            Values::List(items) => items.item.width(),
            Values::Map(entries) => entries.value.width(),
            _ => 0,
        }
    }

    /// Whether the values of this column of `len` rows are kept with their rows, and not spread over all of them.
    pub(super) fn is_sparse(&self, len: usize) -> bool {
        self.valid.ones() * SPARSE_SHARE <= len
    }

    /// What this column of the table takes over `len` rows.
    pub(super) fn column_size(&self, len: usize) -> Size {
        if !self.is_sparse(len) {
            return self.size(len);
        }
        let present = self.valid.ones();
        if present == 0 {
            return Size::default();
        }
        let rows = present * size_of::<u32>();
        self.size(present).and(Size {
            arrays: rows + self.bits_bytes(),
            present: rows.min(len.div_ceil(8)),
        })
    }

    /// The bytes of what says which rows have a value of a column or of its fields.
    fn bits_bytes(&self) -> usize {
        let fields = match &self.values {
            Values::Struct(fields) => &fields.fields[..],
            _ => &[],
        };
        let fields = fields.iter().map(|field| field.node.bits_bytes());
        self.valid.bytes() + fields.sum::<usize>()
    }

    /// What this node takes over `len` rows.
    pub(super) fn size(&self, len: usize) -> Size {
        let array = |value_bytes: usize, present: usize| Size {
            arrays: len.div_ceil(8) + len * value_bytes,
            present,
        };
        let present = self.valid.ones();
        // Nulls take one bit for each row and level of nesting, and nothing if all rows are alike.
        let levels = if 0 < present && present < len {
            len.div_ceil(8)
        } else {
            0
        };
        let mut size = match &self.values {
            Values::Unknown => array(0, 0),
            Values::Number(_) => array(8, present * 8),
            Values::Decimal { .. } => array(16, present * 16),
            Values::Boolean(_) => Size {
                arrays: len.div_ceil(8) * 2,
                present: present.div_ceil(8),
            },
            Values::Text(texts) => array(4, present * 4).and(texts.text_size()),
            Values::Days(_) => array(4, present * 4),
            Values::Instants { .. } => array(8, present * 8),
            Values::Struct(fields) => array(0, 0).and(fields.size(len)),
            Values::List(items) => {
                let count = end_of(&items.ends);
                array(4, count.div_ceil(8)).and(items.item.size(count))
            }
            Values::Map(entries) => {
                let count = end_of(&entries.ends);
                let keys = entries.keys.text_size().and(Size {
                    arrays: count * 4,
                    present: count * 5,
                });
                array(4, 0).and(keys).and(entries.value.size(count))
            }
        };
        size.present += levels;
        size
    }
}

/// A column of which at most one row in so many has a value is not spread over all rows.
const SPARSE_SHARE: usize = 8;

/// Bytes that columns take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// As Arrow arrays, where a null takes as much as a value.
    pub arrays: usize,
    /// In a file without compression, where a null takes next to nothing.
    pub present: usize,
}

impl Size {
    /// Both together.
    pub fn and(self, other: Size) -> Size {
        Size {
            arrays: self.arrays + other.arrays,
            present: self.present + other.present,
        }
    }
}

impl NumberColumn {
    /// BIGINT, whatever comes.
    pub(super) fn of_integers() -> Self {
        Self {
            integers_known: true,
            integers_only: true,
            ..Self::default()
        }
    }

    /// DOUBLE from the first value on.
    pub(super) fn of_doubles() -> Self {
        Self {
            doubles_only: true,
            ..Self::default()
        }
    }

    pub(super) fn is_double(&self) -> bool {
        self.doubles_only || self.doubles_from.is_some()
    }

    #[inline]
    fn push(&mut self, number: ParsedNumber) -> Result<(), ValueMisfit> {
        let double = self.is_double();
        match number {
            ParsedNumber::Float(value) if double => self.bits.push(value.to_bits()),
            ParsedNumber::Integer(value)
                if !double && value.unsigned_abs() <= INTEGER_EXACT_MAX.unsigned_abs() =>
            {
                self.bits.push(value.cast_unsigned());
            }
            _ => return self.push_other(number),
        }
        Ok(())
    }

    /// Takes a number of another kind than the column has so far.
    #[inline(never)]
    fn push_other(&mut self, number: ParsedNumber) -> Result<(), ValueMisfit> {
        let misfit = |reason, found| Err(ValueMisfit { reason, found });
        let double = self.is_double();
        match number {
            ParsedNumber::Integer(value) => {
                if double && (value as f64) as i128 != i128::from(value) {
                    return misfit(RejectReason::INTEGER_OVERFLOW, "integer beyond 2^53");
                }
                if !double {
                    self.beyond_exact_from.get_or_insert(self.bits.len());
                }
                self.bits.push(if double {
                    (value as f64).to_bits()
                } else {
                    value.cast_unsigned()
                });
            }
            ParsedNumber::MinusZero => {
                self.bits
                    .push(if double { (-0.0_f64).to_bits() } else { 0 })
            }
            ParsedNumber::Huge => return misfit(RejectReason::INTEGER_OVERFLOW, number.kind()),
            ParsedNumber::Infinite | ParsedNumber::Vanishing => {
                return misfit(RejectReason::NUMBER_OUT_OF_RANGE, number.kind());
            }
            #[expect(clippy::cast_possible_truncation, reason = "it is an integer")]
            ParsedNumber::Float(value)
                if !double
                    && (self.integers_known || !self.bits.is_empty())
                    && value.fract() == 0.0
                    && value.abs() <= INTEGER_EXACT_MAX as f64 =>
            {
                self.bits.push((value as i64).cast_unsigned());
            }
            ParsedNumber::Whole(value) if !double && self.stays_bigint() => {
                self.beyond_exact_from.get_or_insert(self.bits.len());
                self.bits.push(value.cast_unsigned());
            }
            ParsedNumber::Float(value) | ParsedNumber::Rounded(value) => {
                return self.push_double(value, number);
            }
            ParsedNumber::Whole(value) => return self.push_double(value as f64, number),
        }
        Ok(())
    }

    /// Whether a number that is no integer does not make this a DOUBLE column.
    fn stays_bigint(&self) -> bool {
        self.integers_only || self.beyond_exact_from.is_some()
    }

    fn push_double(&mut self, value: f64, number: ParsedNumber) -> Result<(), ValueMisfit> {
        if !self.is_double() {
            if self.stays_bigint() {
                return Err(ColumnNode::conflict(number.kind()));
            }
            self.doubles_from = Some(self.bits.len());
        }
        self.bits.push(value.to_bits());
        Ok(())
    }

    fn truncate(&mut self, present: usize) {
        self.bits.truncate(present);
        self.doubles_from = self.doubles_from.filter(|from| *from < present);
        self.beyond_exact_from = self.beyond_exact_from.filter(|from| *from < present);
    }
}

impl TextColumn {
    pub(super) fn of(form: TextForm) -> Self {
        TextColumn {
            form,
            ..TextColumn::default()
        }
    }

    fn text_size(&self) -> Size {
        Size {
            arrays: self.bytes.len(),
            present: self.bytes.len(),
        }
    }

    /// Ends a text: what was added to the bytes since the last one.
    pub(super) fn end(&mut self) {
        let end = i32::try_from(self.bytes.len());
        self.ends
            .push(end.expect("a decoder's payloads are below 1 GiB"));
    }

    /// The text with this index.
    pub(super) fn get(&self, index: usize) -> &[u8] {
        let start = end_of(&self.ends[..index]);
        &self.bytes[start..end_of(&self.ends[..=index])]
    }

    /// Keeps the first `count` texts.
    pub(super) fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(end_of(&self.ends));
    }
}

impl Fields {
    pub(super) fn new(role: ColumnRole) -> Self {
        Self {
            fields: Vec::new(),
            first: 0,
            by_name: HashMap::new(),
            by_folded_name: HashMap::new(),
            fields_max: NEW_FIELDS_MAX,
            role,
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The field whose name is `name` but for case.
    pub(super) fn find_folded(&self, name: &str) -> Option<&Field> {
        let index = *self.by_folded_name.get(fold_name(name).as_str())?;
        self.fields.get(index as usize)
    }

    pub(super) fn add(
        &mut self,
        name: &str,
        node: ColumnNode,
        role: ColumnRole,
        born_in: u64,
    ) -> u32 {
        let index = u32::try_from(self.fields.len()).unwrap_or(NO_FIELD);
        self.by_name.insert(name.into(), index);
        self.by_folded_name.insert(fold_name(name).into(), index);
        self.fields.push(Field {
            name: name.into(),
            node,
            plain: !name.contains(['"', '\\']),
            next: index.saturating_add(1),
            seen_in: 0,
            born_in,
            role,
        });
        index
    }

    pub(super) fn columns(&self) -> Vec<Column> {
        self.fields
            .iter()
            .map(|field| field.node.column(&field.name))
            .collect()
    }

    pub(super) fn truncate(&mut self, len: usize, ordinal: u64) {
        while let Some(field) = self.fields.pop_if(|field| field.born_in >= ordinal) {
            self.by_name.remove(&*field.name);
            self.by_folded_name.remove(fold_name(&field.name).as_str());
        }
        for field in &mut self.fields {
            field.node.truncate(len, ordinal);
        }
    }

    pub(super) fn width(&self) -> usize {
        self.fields.iter().map(|field| field.node.width()).sum()
    }

    pub(super) fn size(&self, len: usize) -> Size {
        let sizes = self.fields.iter().map(|field| field.node.size(len));
        sizes.fold(Size::default(), Size::and)
    }

    /// What the columns of the table take over `len` rows.
    pub(super) fn columns_size(&self, len: usize) -> Size {
        let sizes = self.fields.iter().map(|field| field.node.column_size(len));
        sizes.fold(Size::default(), Size::and)
    }

    /// The bytes of the largest column as arrays.
    pub(super) fn largest(&self, len: usize) -> usize {
        let sizes = self.fields.iter();
        let sizes = sizes.map(|field| field.node.column_size(len).arrays);
        sizes.max().unwrap_or(0)
    }
}

/// Where the last of the given ends lies, as a length.
pub(super) fn end_of(ends: &[i32]) -> usize {
    ends.last()
        .map_or(0, |end| usize::try_from(*end).unwrap_or(0))
}
