//! The values of records that no column takes.
//!
//! Owns the text of the column `_rescued`: JSON in the shape of the record, with nothing in it but what was left out of the
//! columns. Objects keep their keys and lists their places, with null for an item that its column took, so that the
//! record is the row with this merged into it. Values are written as they were, without the white space between their
//! tokens. Promises that a rescued value is whole JSON whose keys repeat nowhere. Counts the values by path and reason, for at most
//! [`RESCUE_KINDS_MAX`] of those.

use std::collections::{HashMap, HashSet};

use hydrant_json::{skip_space, string, unescape};

use super::bits::Bits;
use super::column::TextColumn;
use super::evidence::is_data;
use super::reject::{DecodeResult, Reject, RejectReason};
use super::rescue_tree::{RescueStep, RescueTree, compact};

/// How many pairs of path and reason are counted apart in an interval.
pub const RESCUE_KINDS_MAX: usize = 256;

/// The longest path that is counted apart, in bytes.
const RESCUE_PATH_BYTES_MAX: usize = 512;

/// The path under which values are counted that have one path too many, or too long a one.
pub const OTHER_PATHS: &str = "*";

/// A value of the record that no column takes, as a range of the payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct RescuedValue {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) reason: RejectReason,
}

/// Where values were rescued and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RescueKind {
    /// The path, such as `a.b[].c`.
    pub path: String,
    /// Why the column did not take them.
    pub reason: RejectReason,
}

/// Adds a key to a path. Keys that are data are counted together, as those of a map.
pub(super) fn push_key(path: &mut String, key: &str) {
    if is_data(key) {
        path.push_str("{}");
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// The path of what lies at the end of these steps.
pub(super) fn path_of(steps: &[RescueStep]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            RescueStep::Key(key) => push_key(&mut path, key),
            RescueStep::Item(_) => path.push_str("[]"),
        }
    }
    path
}

/// The kinds of rescued values of an interval, numbered as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct RescueKinds {
    kinds: Vec<RescueKind>,
    ids: HashMap<RescueKind, u32>,
}

/// The column `_rescued` while records are decoded.
#[derive(Debug, Default)]
pub(super) struct RescueColumn {
    pub(super) valid: Bits,
    pub(super) texts: TextColumn,
    pub(super) kinds: RescueKinds,
    /// The row and the kind of each rescued value, by row.
    pub(super) values: Vec<(u32, u32)>,
}

/// Values that were counted as rescued and are not any more: how many, by path and row.
#[derive(Debug, Default)]
pub(super) struct Uncounted {
    by_path: HashMap<String, HashMap<u32, usize>>,
}

impl Uncounted {
    /// Counts a value of a row no more.
    pub(super) fn add(&mut self, row: usize, path: &str) {
        if !self.by_path.contains_key(path) {
            self.by_path.insert(path.to_owned(), HashMap::new());
        }
        if let Some(rows) = self.by_path.get_mut(path) {
            *rows.entry(row_number(row)).or_default() += 1;
        }
    }

    /// Counts no more what was rescued of the value at `path`, given what its column took of it.
    pub(super) fn add_within(
        &mut self,
        row: usize,
        path: &str,
        taken: &RescueTree,
        rescued: &RescueTree,
    ) {
        match (taken, rescued) {
            (RescueTree::Object(fields), RescueTree::Object(others)) => {
                let fields = fields.iter().map(|(name, field)| (&**name, field));
                let fields: HashMap<&str, &RescueTree> = fields.collect();
                for (name, other) in others {
                    let mut path = path.to_owned();
                    push_key(&mut path, name);
                    match fields.get(&**name) {
                        Some(field) => self.add_within(row, &path, field, other),
                        None => self.add(row, &path),
                    }
                }
            }
            (RescueTree::List(items), RescueTree::List(others)) => {
                let path = format!("{path}[]");
                for (item, other) in items.iter().zip(others) {
                    self.add_within(row, &path, item, other);
                }
            }
            (_, rescued) if rescued.is_null() => {}
            _ => self.add(row, path),
        }
    }
}

impl Uncounted {
    /// Takes them out of what was counted by these numbers of their rows.
    pub(super) fn take_from(
        self,
        values: &mut Vec<(u32, u32)>,
        kinds: &RescueKinds,
        number_of: impl Fn(u32) -> u32,
    ) {
        if self.by_path.is_empty() {
            return;
        }
        let numbered = |(row, count): (u32, usize)| (number_of(row), count);
        let by_path = self.by_path.into_iter();
        let by_path = by_path.map(|(path, rows)| (path, rows.into_iter().map(numbered).collect()));
        let mut by_path: HashMap<String, HashMap<u32, usize>> = by_path.collect();
        let take = |rows: Option<&mut HashMap<u32, usize>>, row: u32| {
            let left = rows.and_then(|rows| rows.get_mut(&row));
            let left = left.filter(|left| **left > 0);
            left.map(|left| *left -= 1).is_some()
        };
        values.retain(|(row, kind)| {
            let path = &*kinds.get(*kind).path;
            !take(by_path.get_mut(path), *row)
        });
        // Not each path is counted apart.
        let mut others = HashMap::new();
        for (row, left) in by_path.into_values().flatten() {
            *others.entry(row).or_default() += left;
        }
        values.retain(|(row, kind)| {
            kinds.get(*kind).path != OTHER_PATHS || !take(Some(&mut others), *row)
        });
    }
}

impl RescueKinds {
    /// The number of a kind.
    pub(super) fn id_of(&mut self, path: &str, reason: RejectReason) -> u32 {
        let full = self.kinds.len() >= RESCUE_KINDS_MAX || path.len() > RESCUE_PATH_BYTES_MAX;
        let kind = |path: &str| RescueKind {
            path: path.to_owned(),
            reason,
        };
        if let Some(id) = self.ids.get(&kind(path)) {
            return *id;
        }
        if full && path != OTHER_PATHS {
            return self.id_of(OTHER_PATHS, reason);
        }
        let id = u32::try_from(self.kinds.len()).unwrap_or(u32::MAX);
        self.kinds.push(kind(path));
        self.ids.insert(kind(path), id);
        id
    }

    /// How many kinds there are.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Forgets all but the first `len` kinds.
    fn truncate(&mut self, len: usize) {
        for kind in self.kinds.drain(len.min(self.kinds.len())..) {
            self.ids.remove(&kind);
        }
    }

    /// The kind with this number.
    pub(crate) fn get(&self, id: u32) -> &RescueKind {
        &self.kinds[id as usize]
    }
}

impl RescueColumn {
    /// Adds what was rescued of the record that becomes row `row`, in the order of the payload.
    #[cold]
    pub(super) fn push(
        &mut self,
        row: usize,
        payload: &[u8],
        rescued: &[RescuedValue],
    ) -> DecodeResult<()> {
        self.extract(row, String::new(), payload, rescued)?;
        self.end(row);
        Ok(())
    }

    /// Writes what was rescued of a container that lies in row `row` at `path`, and counts it.
    pub(super) fn extract(
        &mut self,
        row: usize,
        path: String,
        json: &[u8],
        rescued: &[RescuedValue],
    ) -> DecodeResult<()> {
        let mut extract = Extract {
            input: json,
            rescued,
            row: row_number(row),
            path,
            column: self,
        };
        extract.container(skip_space(json, 0))?;
        debug_assert!(
            extract.rescued.is_empty(),
            "every rescued value lies in the container"
        );
        Ok(())
    }

    /// Counts a value of a row as rescued.
    pub(super) fn count(&mut self, row: usize, path: &str, reason: RejectReason) {
        let kind = self.kinds.id_of(path, reason);
        self.values.push((row_number(row), kind));
    }

    /// Changes the texts of all `rows` rows. What is given to `change` is in the shape of the record; it says whether it
    /// changed that.
    pub(super) fn rewrite(
        &mut self,
        rows: usize,
        mut change: impl FnMut(&mut Self, usize, &mut RescueTree) -> bool,
    ) {
        let (valid, texts) = (
            std::mem::take(&mut self.valid),
            std::mem::take(&mut self.texts),
        );
        let mut at = 0;
        for row in 0..rows {
            let before = valid.get(row).then(|| texts.get(at));
            at += usize::from(before.is_some());
            let mut tree = before.map_or_else(RescueTree::default, RescueTree::read);
            if change(self, row, &mut tree) {
                if !tree.is_empty() {
                    tree.write(&mut self.texts.bytes);
                    self.end(row);
                }
            } else if let Some(text) = before {
                self.texts.bytes.extend_from_slice(text);
                self.end(row);
            }
        }
        self.values.sort_unstable();
    }

    /// Counts these values no more.
    pub(super) fn uncount(&mut self, uncounted: Uncounted) {
        uncounted.take_from(&mut self.values, &self.kinds, |row| row);
    }

    /// Ends the text of a row.
    pub(super) fn end(&mut self, row: usize) {
        self.texts.end();
        self.valid.set(row);
    }

    /// Removes what rows from `rows` on brought, and all but the first `kinds` kinds.
    pub(super) fn truncate(&mut self, rows: usize, kinds: usize) {
        self.kinds.truncate(kinds);
        self.valid.truncate(rows);
        self.texts.truncate(self.valid.ones());
        let kept = self
            .values
            .partition_point(|(row, _)| (*row as usize) < rows);
        self.values.truncate(kept);
    }
}

fn row_number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// Copies the rescued values of a record, container by container. The record was read before.
struct Extract<'a> {
    input: &'a [u8],
    /// Those that are left.
    rescued: &'a [RescuedValue],
    row: u32,
    path: String,
    column: &'a mut RescueColumn,
}

impl Extract<'_> {
    fn container(&mut self, open: usize) -> DecodeResult<()> {
        let is_object = self.input[open] == b'{';
        let path = self.path.len();
        self.column.texts.bytes.push(self.input[open]);
        let mut at = skip_space(self.input, open + 1);
        // How many items the text has so far, nulls included, and how many the container.
        let (mut written, mut index) = (0, 0);
        while !self.rescued.is_empty() && !matches!(self.input.get(at), Some(b'}' | b']') | None) {
            let key = at;
            if is_object {
                let text = string(self.input, at)?;
                at = skip_space(self.input, text.end + 1);
                at = skip_space(self.input, at + 1);
                let mut name = Vec::new();
                unescape(self.input, text, &mut name)?;
                push_key(&mut self.path, &String::from_utf8_lossy(&name));
            } else {
                self.path.push_str("[]");
            }
            let end = hydrant_json::value(self.input, at)?;
            if self.rescued.first().is_some_and(|value| value.start < end) {
                let out = &mut self.column.texts.bytes;
                while written < index {
                    out.extend_from_slice(if written > 0 { b",null" } else { b"null" });
                    written += 1;
                }
                if written > 0 {
                    out.push(b',');
                }
                if is_object {
                    compact(&self.input[key..at], out);
                } else {
                    index += 1;
                }
                written += 1;
                self.value(at, end)?;
            } else if !is_object {
                index += 1;
            }
            self.path.truncate(path);
            at = skip_space(self.input, end);
            if self.input.get(at) == Some(&b',') {
                at = skip_space(self.input, at + 1);
            }
        }
        let close = if is_object { b'}' } else { b']' };
        self.column.texts.bytes.push(close);
        Ok(())
    }

    /// The value that lies from `at` to `end`, or what was rescued within it.
    fn value(&mut self, at: usize, end: usize) -> DecodeResult<()> {
        match self.rescued.split_first() {
            Some((value, rest)) if value.start == at => {
                debug_assert_eq!(value.end, end);
                compact(&self.input[at..end], &mut self.column.texts.bytes);
                self.column
                    .count(self.row as usize, &self.path, value.reason);
                self.rescued = rest;
                Ok(())
            }
            _ => self.container(at),
        }
    }
}

/// Checks the value that starts at `at`, and that no object in it has a key twice; returns the place behind it.
pub(super) fn whole_value(input: &[u8], at: usize) -> DecodeResult<usize> {
    let end = hydrant_json::value(input, at)?;
    if matches!(input[at], b'{' | b'[') {
        check_keys(input, at, end)?;
    }
    Ok(end)
}

/// Checks that no object of valid JSON has a key twice.
fn check_keys(input: &[u8], mut at: usize, end: usize) -> DecodeResult<()> {
    // The keys of each open object; none for a list.
    let mut open: Vec<Option<HashSet<Vec<u8>>>> = Vec::new();
    let mut is_key = false;
    while at < end {
        match input[at] {
            b'{' => {
                open.push(Some(HashSet::new()));
                is_key = true;
            }
            b'[' => {
                open.push(None);
                is_key = false;
            }
            b'}' | b']' => drop(open.pop()),
            b',' => is_key = matches!(open.last(), Some(Some(_))),
            b'"' => {
                let text = string(input, at)?;
                if let Some(Some(keys)) = open.last_mut()
                    && std::mem::take(&mut is_key)
                {
                    let mut key = Vec::new();
                    unescape(input, text, &mut key)?;
                    if !keys.insert(key) {
                        let reason = RejectReason::DUPLICATE_KEY;
                        return Err(Reject::new(reason, "a repeated key", at));
                    }
                }
                at = text.end;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}
