//! One record, from its first byte to its last.

use std::collections::HashSet;
use std::ops::Range;

use hydrant_json::{JsonString, Word, skip_space, string, unescape, word};

use super::column::{
    ColumnNode, ColumnRole, Field, Fields, Items, MapEntries, NO_FIELD, TextColumn, TextForm,
    ValueMisfit, Values, end_of,
};
use super::evidence::KEYS_MANY;
use super::number::{Decimal, read_decimal, read_number};
use super::reject::{DecodeResult, Reject, RejectReason};
use super::rescue::{RescuedValue, whole_value};
use super::rescue_tree::compact;
use super::times::{date_of, instant_of, is_readable, time_within};
use crate::schema::{EpochUnit, TableSchema};
use crate::table::event_time::{EVENT_TIME_FIELDS, TimeReader};
use crate::table::partition_value::{ReadValue, is_surely_whole};

/// How deep the columns of a table may nest, the record itself included: BigQuery takes 15 levels below it, Arrow C++ 100
/// nodes, of which a list takes two.
pub const COLUMN_DEPTH_MAX: usize = 16;

/// The longest key that becomes a column, in bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// The rank of the configured event time where it lies in an object; a key that is the whole path comes first.
const NESTED_TIME: usize = 1;

/// Up to so many keys of a map are compared with one another, one by one.
const FEW_KEYS: usize = 16;

/// What stays the same from record to record.
#[derive(Clone, Debug)]
pub(super) struct RecordRules {
    pub(super) schema: TableSchema,
    pub(super) columns_max: usize,
    pub(super) frozen: bool,
    /// Whether the record of a value that its column does not take is refused at the end.
    pub(super) refuses: bool,
    pub(super) event_time: Option<String>,
    pub(super) event_time_path: Vec<String>,
    pub(super) partition_fields: Vec<String>,
    pub(super) times: TimeReader,
    /// The most bytes of the value of each of them in a path.
    pub(super) partition_bytes_max: Vec<usize>,
}

/// The parts of the record that decide its partition, as ranges of the payload.
#[derive(Debug, Default)]
pub(super) struct Captures {
    /// The candidates for the event time, by their rank.
    pub(super) times: [Option<(usize, usize)>; EVENT_TIME_FIELDS.len()],
    pub(super) fields: Vec<Option<(usize, usize)>>,
}

/// What the records of a decoder share while one of them is read.
#[derive(Debug, Default)]
pub(super) struct RecordState {
    pub(super) captures: Captures,
    /// How many columns there are now.
    pub(super) width: usize,
    /// How many objects were read so far; numbers each object, so that repeated keys show.
    pub(super) objects: u64,
    /// The number of this record, from 1.
    pub(super) ordinal: u64,
    pub(super) key: Vec<u8>,
    /// Whether an object has gained many keys.
    pub(super) grown: bool,
    /// The values of the record that no column takes, in its order.
    pub(super) rescued: Vec<RescuedValue>,
    /// Why the record is refused, where that is asked for: the first of its conflicts.
    pub(super) refusal: Option<Reject>,
    /// The keys without a column that the record's objects have had, by the number of the object.
    pub(super) other_keys: HashSet<(u64, Box<str>)>,
}

/// What a key of an object stands for.
enum KeyColumn {
    /// The field with this index.
    Field(u32),
    /// No column, for this reason.
    None(Box<Reject>, ColumnRole),
}

/// The reader of one record.
pub(super) struct RecordReader<'a> {
    pub(super) input: &'a str,
    pub(super) at: usize,
    pub(super) rules: &'a RecordRules,
    pub(super) state: &'a mut RecordState,
}

impl RecordRules {
    /// What a field means, given what its parent means. The root's `path_depth` is 0.
    pub(super) fn role(&self, parent: ColumnRole, top: bool, name: &str) -> ColumnRole {
        let mut role = ColumnRole::default();
        match &self.event_time {
            None if top => {
                let rank = EVENT_TIME_FIELDS.iter().position(|field| *field == name);
                role.time_rank = rank.and_then(|rank| u8::try_from(rank).ok());
            }
            None => {}
            Some(whole) => {
                if top && whole == name {
                    role.time_rank = Some(0);
                }
                let depth = parent.path_depth.map(usize::from);
                if let Some(depth) = depth
                    && self
                        .event_time_path
                        .get(depth)
                        .is_some_and(|part| part == name)
                {
                    if depth + 1 == self.event_time_path.len() {
                        role.time_rank.get_or_insert(NESTED_TIME as u8);
                    } else {
                        role.path_depth = u8::try_from(depth + 1).ok();
                    }
                }
            }
        }
        if top {
            let slot = self.partition_fields.iter().position(|field| field == name);
            role.partition_field = slot.and_then(|slot| u8::try_from(slot).ok());
        }
        role
    }
}

impl RecordReader<'_> {
    /// Reads the whole record into row `index`.
    pub(super) fn read(&mut self, root: &mut Fields, index: usize) -> DecodeResult<()> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(root, index, 1)?,
            Some(b'[') => return Err(self.not_an_object("array")),
            Some(b'"') => return Err(self.not_an_object("string")),
            Some(b'-' | b'0'..=b'9') => return Err(self.not_an_object("number")),
            Some(b't' | b'f') => return Err(self.not_an_object("boolean")),
            Some(b'n') => return Err(self.not_an_object("null")),
            Some(_) => return Err(Reject::malformed("unexpected character", self.at)),
            None => return Err(Reject::malformed("nothing", self.at)),
        }
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Reject::malformed("data after the object", self.at)),
        }
    }

    fn bytes(&self) -> &[u8] {
        self.input.as_bytes()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        self.at = skip_space(self.bytes(), self.at);
    }

    #[cold]
    fn not_an_object(&self, found: &'static str) -> Box<Reject> {
        Reject::of_no_object(self.bytes(), found, self.at)
    }

    #[cold]
    fn unexpected(&self, otherwise: &'static str) -> Box<Reject> {
        let found = if self.peek().is_none() {
            "the end of the input inside the object"
        } else {
            otherwise
        };
        Reject::malformed(found, self.at)
    }

    /// Leaves the value that starts here out of its column, unless that takes any value as text.
    #[cold]
    pub(super) fn misfit(
        &mut self,
        node: &mut ColumnNode,
        index: usize,
        start: usize,
        ValueMisfit { reason, found }: ValueMisfit,
    ) -> DecodeResult<()> {
        if let Values::Text(texts) = &mut node.values
            && texts.form != TextForm::Strings
        {
            let end = whole_value(self.input.as_bytes(), start)?;
            self.at = end;
            compact(&self.input.as_bytes()[start..end], &mut texts.bytes);
            texts.end();
            node.valid.set(index);
            return Ok(());
        }
        let mut reject = Reject::new(reason, found, start);
        if self.rules.refuses {
            reject.wanted = match reason {
                RejectReason::TOO_DEEP => format!("at most {COLUMN_DEPTH_MAX} levels"),
                _ => node.outermost(),
            };
        }
        self.rescue(start, *reject)
    }

    /// Rescues the value that starts at `start`. A null is nothing.
    #[cold]
    fn rescue(&mut self, start: usize, reject: Reject) -> DecodeResult<()> {
        let end = whole_value(self.bytes(), start)?;
        self.at = end;
        if self.bytes()[start] != b'n' {
            self.keep(start..end, reject);
        }
        Ok(())
    }

    /// Keeps a value that no column takes, and why the record is refused for it, where that is asked for.
    fn keep(&mut self, place: Range<usize>, reject: Reject) {
        self.state.rescued.push(RescuedValue {
            start: place.start,
            end: place.end,
            reason: reject.reason,
        });
        if self.rules.refuses && reject.reason.is_conflict() {
            self.state.refusal.get_or_insert(reject);
        }
    }

    fn object(&mut self, fields: &mut Fields, index: usize, depth: usize) -> DecodeResult<()> {
        self.at += 1;
        self.state.objects += 1;
        let object = self.state.objects;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut previous = NO_FIELD;
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("no key where one is due"));
            }
            let key_at = self.at;
            match self.key(fields, previous, (object, depth))? {
                KeyColumn::Field(found) => {
                    previous = found;
                    let field = &mut fields.fields[found as usize];
                    if field.seen_in == object {
                        return Err(Reject::repeated(&field.name, key_at));
                    }
                    field.seen_in = object;
                    self.colon()?;
                    self.field(field, index, depth)?;
                }
                KeyColumn::None(reject, role) => {
                    self.colon()?;
                    let start = self.at;
                    self.rescue(start, *reject)?;
                    self.capture(role, start);
                }
            }
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected("no comma behind a value")),
            }
            self.skip_space();
        }
    }

    fn colon(&mut self) -> DecodeResult<()> {
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("a missing colon after a key"));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn field(&mut self, field: &mut Field, index: usize, depth: usize) -> DecodeResult<()> {
        let start = self.at;
        if let Some(slot) = field.role.partition_field {
            return self.partition_value(field, usize::from(slot), start);
        }
        self.value(&mut field.node, index, depth, field.role)
            .map_err(|reject| reject.within(&field.name))?;
        self.capture(field.role, start);
        Ok(())
    }

    /// Reads the value of a field that names directories, which has no column in the file.
    fn partition_value(&mut self, field: &Field, slot: usize, start: usize) -> DecodeResult<()> {
        self.at = whole_value(self.bytes(), start).map_err(|reject| reject.within(&field.name))?;
        let token = &self.input.as_bytes()[start..self.at];
        let bytes_max = self.rules.partition_bytes_max[slot];
        if token != b"null"
            && !is_surely_whole(token, bytes_max)
            && !ReadValue::of(token, bytes_max).is_whole
        {
            let found = "value that no path gives back";
            let reject = Reject::new(RejectReason::PARTITION_VALUE, found, start);
            self.keep(start..self.at, *reject);
        }
        self.capture(field.role, start);
        Ok(())
    }

    /// Notes where the value lies that has just been read, if it decides the partition.
    #[inline]
    fn capture(&mut self, role: ColumnRole, start: usize) {
        if role == ColumnRole::default() || self.bytes()[start] == b'n' {
            return;
        }
        if let Some(rank) = role.time_rank {
            self.state.captures.times[usize::from(rank)] = Some((start, self.at));
        }
        if let Some(slot) = role.partition_field {
            self.state.captures.fields[usize::from(slot)] = Some((start, self.at));
        }
        if let Some(depth) = role.path_depth
            && self.state.captures.times[NESTED_TIME].is_none()
        {
            let path = &self.rules.event_time_path[usize::from(depth)..];
            self.state.captures.times[NESTED_TIME] = time_within(self.bytes(), start, path);
        }
    }

    /// Reads a key and finds its field, or adds it. Telemetry repeats its keys in order, so the
    /// field that followed last time is compared before anything is looked up.
    fn key(
        &mut self,
        fields: &mut Fields,
        previous: u32,
        (object, depth): (u64, usize),
    ) -> DecodeResult<KeyColumn> {
        let input = self.input;
        let open = self.at;
        let predicted = match fields.fields.get(previous as usize) {
            Some(field) => field.next,
            None => fields.first,
        };
        if let Some(field) = fields.fields.get(predicted as usize) {
            let name = field.name.as_bytes();
            let close = open + 1 + name.len();
            if field.plain
                && input.as_bytes().get(close) == Some(&b'"')
                && &input.as_bytes()[open + 1..close] == name
            {
                self.at = close + 1;
                return Ok(KeyColumn::Field(predicted));
            }
        }
        let text = string(input.as_bytes(), open)?;
        self.at = text.end + 1;
        let mut key = std::mem::take(&mut self.state.key);
        key.clear();
        let name = if text.plain {
            &input[text.start..text.end]
        } else {
            unescape(input.as_bytes(), text, &mut key)?;
            std::str::from_utf8(&key).map_err(|_| Reject::malformed("bad escape", open))?
        };
        let found = match fields.find(name) {
            Some(found) => Ok(KeyColumn::Field(found)),
            None => self.new_field(fields, name, open, (object, depth == 1)),
        };
        self.state.key = key;
        let found = found?;
        if let KeyColumn::Field(found) = found {
            match fields.fields.get_mut(previous as usize) {
                Some(field) => field.next = found,
                None => fields.first = found,
            }
        }
        Ok(found)
    }

    #[cold]
    fn new_field(
        &mut self,
        fields: &mut Fields,
        name: &str,
        at: usize,
        (object, top): (u64, bool),
    ) -> DecodeResult<KeyColumn> {
        let role = self.rules.role(fields.role, top, name);
        match self.check_new(fields, name, at, top) {
            Ok(()) => {
                self.state.width += 1;
                let node = ColumnNode::default();
                let found = fields.add(name, node, role, self.state.ordinal);
                let count = fields.fields.len();
                self.state.grown |= count >= KEYS_MANY && count.is_power_of_two();
                Ok(KeyColumn::Field(found))
            }
            Err(reject) => {
                if !self.state.other_keys.insert((object, name.into())) {
                    return Err(Reject::repeated(name, at));
                }
                Ok(KeyColumn::None(reject, role))
            }
        }
    }

    /// Checks that a key may become a column.
    fn check_new(&self, fields: &Fields, name: &str, at: usize, top: bool) -> DecodeResult<()> {
        let refused = |reason, found| Reject::new(reason, found, at);
        if name.is_empty() {
            return Err(refused(RejectReason::BAD_KEY, "empty key"));
        }
        if name.len() > KEY_BYTES_MAX {
            return Err(refused(RejectReason::BAD_KEY, "long key")
                .wanting(format!("at most {KEY_BYTES_MAX} bytes")));
        }
        if name.chars().any(char::is_control) {
            return Err(refused(RejectReason::BAD_KEY, "control character in a key"));
        }
        if top && self.rules.schema.is_reserved(name) {
            return Err(refused(RejectReason::RESERVED_COLUMN, "key of the record"));
        }
        if let Some(known) = fields.find_folded(name) {
            return Err(refused(
                RejectReason::KEY_CASE_CONFLICT,
                "a key that differs from a column only in case",
            )
            .wanting(format!("`{}`", known.name)));
        }
        if self.rules.frozen {
            return Err(refused(RejectReason::UNKNOWN_COLUMN, "new key"));
        }
        if fields.fields.len() >= fields.fields_max {
            return Err(refused(RejectReason::TOO_MANY_COLUMNS, "new column"));
        }
        if self.state.width >= self.rules.columns_max {
            return Err(refused(RejectReason::TOO_MANY_COLUMNS, "new column"));
        }
        Ok(())
    }

    /// Reads a value into place `index` of its column.
    pub(super) fn value(
        &mut self,
        node: &mut ColumnNode,
        index: usize,
        depth: usize,
        role: ColumnRole,
    ) -> DecodeResult<()> {
        let at = self.at;
        match self.peek() {
            Some(b'"') => self.string(node, index),
            Some(b'-' | b'0'..=b'9') => self.number(node, index),
            Some(b'{' | b'[') if depth >= COLUMN_DEPTH_MAX => {
                let (reason, found) = (RejectReason::TOO_DEEP, "deeper nesting");
                self.misfit(node, index, at, ValueMisfit { reason, found })
            }
            Some(b'{') => {
                if let Values::Unknown = node.values {
                    node.values = Values::Struct(Box::new(Fields::new(role)));
                }
                if let Values::Map(entries) = &mut node.values {
                    self.map(entries, depth + 1)?;
                    node.valid.set(index);
                    return Ok(());
                }
                let Values::Struct(fields) = &mut node.values else {
                    return self.misfit(node, index, at, ColumnNode::conflict("object"));
                };
                node.valid.set(index);
                self.object(fields, index, depth + 1)
            }
            Some(b'[') => self.array(node, index, depth + 1),
            Some(b't' | b'f' | b'n') => {
                let (word, end) = word(self.bytes(), at)?;
                self.at = end;
                let pushed = match word {
                    Word::Null => Ok(()),
                    truth => node.push_boolean(index, truth == Word::True),
                };
                pushed.or_else(|misfit| self.misfit(node, index, at, misfit))
            }
            Some(b'N' | b'I') => Err(Reject::malformed("NaN or Infinity", at)),
            _ => Err(self.unexpected("a missing value")),
        }
    }

    fn number(&mut self, node: &mut ColumnNode, index: usize) -> DecodeResult<()> {
        let start = self.at;
        let (number, end) = read_number(self.bytes(), start)?;
        self.at = end;
        if let Values::Instants { micros, unit } = &mut node.values {
            let instant = match unit {
                EpochUnit::BySize => self.rules.times.number(&self.input.as_bytes()[start..end]),
                unit => instant_of(number, *unit),
            };
            if let Some(instant) = instant.filter(is_readable) {
                micros.push(instant);
                node.valid.set(index);
                return Ok(());
            }
            let misfit = ColumnNode::conflict("number that is not a time");
            return self.misfit(node, index, start, misfit);
        }
        let Values::Decimal {
            unscaled,
            precision,
            scale,
        } = &mut node.values
        else {
            let pushed = node.push_number(index, number);
            return pushed.or_else(|misfit| self.misfit(node, index, start, misfit));
        };
        let misfit = match read_decimal(&self.input.as_bytes()[start..end], *precision, *scale) {
            Decimal::Unscaled(value) => {
                unscaled.push(value);
                node.valid.set(index);
                return Ok(());
            }
            Decimal::TooFine => ColumnNode::conflict("number with more fraction digits"),
            Decimal::TooLarge => ValueMisfit {
                reason: RejectReason::INTEGER_OVERFLOW,
                found: "number with more digits",
            },
        };
        self.misfit(node, index, start, misfit)
    }

    fn string(&mut self, node: &mut ColumnNode, index: usize) -> DecodeResult<()> {
        let open = self.at;
        if let Values::Unknown = node.values {
            node.values = Values::Text(TextColumn::default());
        }
        let text = string(self.bytes(), open)?;
        self.at = text.end + 1;
        let Values::Text(texts) = &mut node.values else {
            return self.time(node, index, (open, text));
        };
        if texts.form == TextForm::Json {
            return self.misfit(node, index, open, ColumnNode::conflict("string"));
        }
        if text.plain {
            let written = &self.input.as_bytes()[text.start..text.end];
            texts.bytes.extend_from_slice(written);
        } else {
            unescape(self.input.as_bytes(), text, &mut texts.bytes)?;
        }
        #[cfg(test)]
        crate::tests::fault::in_text("fault:decode", &texts.bytes[end_of(&texts.ends)..]);
        texts.end();
        node.valid.set(index);
        Ok(())
    }

    /// Reads a string into a column of times.
    fn time(
        &mut self,
        node: &mut ColumnNode,
        index: usize,
        (open, text): (usize, JsonString),
    ) -> DecodeResult<()> {
        let mut written = Vec::new();
        let written = if text.plain {
            &self.input.as_bytes()[text.start..text.end]
        } else {
            unescape(self.input.as_bytes(), text, &mut written)?;
            written.as_slice()
        };
        let is_taken = match &mut node.values {
            Values::Days(days) => date_of(written).map(|day| days.push(day)),
            Values::Instants { micros, .. } => {
                let instant = self.rules.times.text(written).filter(is_readable);
                instant.map(|instant| micros.push(instant))
            }
            _ => None,
        };
        if is_taken.is_none() {
            return self.misfit(node, index, open, ColumnNode::conflict("string"));
        }
        node.valid.set(index);
        Ok(())
    }

    /// Reads an object into the entries of a map.
    fn map(&mut self, entries: &mut MapEntries, depth: usize) -> DecodeResult<()> {
        let MapEntries {
            ends, keys, value, ..
        } = entries;
        self.at += 1;
        let first = end_of(ends);
        let mut count = first;
        let mut seen = HashSet::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            ends.push(length(count));
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("no key where one is due"));
            }
            let open = self.at;
            let text = string(self.bytes(), open)?;
            self.at = text.end + 1;
            unescape(self.input.as_bytes(), text, &mut keys.bytes)?;
            keys.end();
            let is_new = if count - first < FEW_KEYS {
                (first..count).all(|before| keys.get(before) != keys.get(count))
            } else {
                if seen.is_empty() {
                    seen.extend((first..count).map(|before| keys.get(before).to_vec()));
                }
                seen.insert(keys.get(count).to_vec())
            };
            let name = |keys: &TextColumn| String::from_utf8_lossy(keys.get(count)).into_owned();
            if !is_new {
                return Err(Reject::repeated(&name(keys), open));
            }
            self.colon()?;
            self.value(value, count, depth, ColumnRole::default())
                .map_err(|reject| reject.within(&name(keys)))?;
            count += 1;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => return Err(self.unexpected("no comma behind a value")),
            }
            self.skip_space();
        }
        ends.push(length(count));
        Ok(())
    }

    fn array(&mut self, node: &mut ColumnNode, index: usize, depth: usize) -> DecodeResult<()> {
        let open = self.at;
        if let Values::Unknown = node.values {
            if self.state.width >= self.rules.columns_max {
                let (reason, found) = (RejectReason::TOO_MANY_COLUMNS, "new column");
                return self.misfit(node, index, open, ValueMisfit { reason, found });
            }
            self.state.width += 1;
            node.values = Values::List(Box::new(Items {
                ends: Vec::new(),
                item: ColumnNode::default(),
            }));
        }
        let Values::List(items) = &mut node.values else {
            return self.misfit(node, index, open, ColumnNode::conflict("array"));
        };
        self.at += 1;
        let mut count = end_of(&items.ends);
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                self.value(&mut items.item, count, depth, ColumnRole::default())
                    .map_err(|reject| reject.within("[]"))?;
                count += 1;
                self.skip_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(self.unexpected("no comma behind an item")),
                }
                self.skip_space();
            }
        }
        items.ends.push(length(count));
        node.valid.set(index);
        Ok(())
    }
}

/// A length as an Arrow offset. A decoder takes at most 1 GiB of payload, and neither texts nor
/// items outnumber its bytes.
fn length(length: usize) -> i32 {
    i32::try_from(length).expect("a decoder's payloads are below 1 GiB")
}
