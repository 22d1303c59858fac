//! What is rescued of a row after it was decoded, merged with what was rescued while it was decoded.
//!
//! Owns the merge of rescued values: objects by key, lists by place. Promises that what was rescued first is kept, and
//! that numbers are written as they were.

use std::collections::HashMap;

use hydrant_json::{skip_space, string, unescape};

/// A step on the way from a record to one of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RescueStep {
    Key(String),
    Item(usize),
}

/// Where a value lies, by its index in its column: its row, and the steps to it from there.
pub(super) type PlaceOf<'a> = &'a dyn Fn(usize, &mut Vec<RescueStep>) -> usize;

/// Rescued values in the shape of their record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RescueTree {
    /// A value that is neither an object nor a list, as JSON.
    Leaf(Vec<u8>),
    Object(Vec<(String, RescueTree)>),
    List(Vec<RescueTree>),
}

/// What is rescued of a row. Most rows have one value, which takes no more than its JSON.
#[derive(Debug)]
pub(super) enum RowRescue {
    One(Box<[u8]>),
    Many(RescueTree),
}

impl RowRescue {
    /// One value at the end of these steps, given as JSON.
    pub(super) fn new(steps: &[RescueStep], json: &[u8]) -> Self {
        let mut tree = RescueTree::default();
        tree.add(steps, json);
        let mut text = Vec::new();
        tree.write(&mut text);
        Self::One(text.into())
    }

    /// Adds a value.
    pub(super) fn add(&mut self, steps: &[RescueStep], json: &[u8]) {
        if let Self::One(text) = self {
            *self = Self::Many(RescueTree::read(text));
        }
        if let Self::Many(tree) = self {
            tree.add(steps, json);
        }
    }

    /// The values in the shape of their record.
    pub(super) fn into_tree(self) -> RescueTree {
        match self {
            Self::One(text) => RescueTree::read(&text),
            Self::Many(tree) => tree,
        }
    }
}

impl Default for RescueTree {
    fn default() -> Self {
        Self::Object(Vec::new())
    }
}

impl RescueTree {
    /// Nothing.
    pub(super) fn null() -> Self {
        Self::Leaf(b"null".to_vec())
    }

    /// Reads valid JSON.
    pub(super) fn read(json: &[u8]) -> Self {
        let mut at = skip_space(json, 0);
        Self::read_at(json, &mut at).unwrap_or_else(Self::null)
    }

    fn read_at(json: &[u8], at: &mut usize) -> Option<Self> {
        let open = *json.get(*at)?;
        if !matches!(open, b'{' | b'[') {
            let end = hydrant_json::value(json, *at).ok()?;
            let leaf = json.get(*at..end)?.to_vec();
            *at = end;
            return Some(Self::Leaf(leaf));
        }
        let (mut fields, mut items) = (Vec::new(), Vec::new());
        *at = skip_space(json, *at + 1);
        loop {
            match json.get(*at)? {
                b'}' | b']' => {
                    *at += 1;
                    break;
                }
                b',' => *at = skip_space(json, *at + 1),
                _ if open == b'[' => items.push(Self::read_at(json, at)?),
                _ => {
                    let text = string(json, *at).ok()?;
                    let mut key = Vec::new();
                    unescape(json, text, &mut key).ok()?;
                    *at = skip_space(json, text.end + 1);
                    *at = skip_space(json, *at + 1);
                    fields.push((String::from_utf8(key).ok()?, Self::read_at(json, at)?));
                }
            }
            *at = skip_space(json, *at);
        }
        Some(if open == b'[' {
            Self::List(items)
        } else {
            Self::Object(fields)
        })
    }

    /// Merges the JSON of a value in at the end of these steps.
    pub(super) fn add(&mut self, steps: &[RescueStep], json: &[u8]) {
        match steps.split_first() {
            None => self.merge(Self::read(json)),
            Some((RescueStep::Key(key), rest)) => {
                if !matches!(self, Self::Object(_)) {
                    *self = Self::default();
                }
                let Self::Object(fields) = self else { return };
                let at = fields.iter().position(|(name, _)| name == key);
                let at = at.unwrap_or_else(|| {
                    fields.push((key.clone(), Self::null()));
                    fields.len() - 1
                });
                fields[at].1.add(rest, json);
            }
            Some((RescueStep::Item(index), rest)) => {
                if !matches!(self, Self::List(_)) {
                    *self = Self::List(Vec::new());
                }
                let Self::List(items) = self else { return };
                if items.len() <= *index {
                    items.resize_with(index + 1, Self::null);
                }
                items[*index].add(rest, json);
            }
        }
    }

    /// Whether this is nothing: an item of a list that its column took.
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Leaf(json) if json == b"null")
    }

    /// Whether this is an object that holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Object(fields) if fields.is_empty())
    }

    /// What lies at the end of these steps.
    pub(super) fn at(&self, steps: &[RescueStep]) -> Option<&Self> {
        match (self, steps.split_first()) {
            (tree, None) => Some(tree),
            (Self::Object(fields), Some((RescueStep::Key(key), rest))) => {
                let field = fields.iter().find(|(name, _)| name == key);
                field.and_then(|(_, field)| field.at(rest))
            }
            (Self::List(items), Some((RescueStep::Item(index), rest))) => {
                items.get(*index).and_then(|item| item.at(rest))
            }
            _ => None,
        }
    }

    /// Whether there is no single value in it.
    pub(super) fn holds_nothing(&self) -> bool {
        match self {
            Self::Leaf(_) => self.is_null(),
            Self::Object(fields) => fields.iter().all(|(_, field)| field.holds_nothing()),
            Self::List(items) => items.iter().all(Self::holds_nothing),
        }
    }

    /// Adds what the other has and this one lacks.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Object(fields), Self::Object(others)) => {
                let known = fields.iter().enumerate();
                let known = known.map(|(at, (name, _))| (name.clone(), at));
                let known: HashMap<String, usize> = known.collect();
                for (name, value) in others {
                    match known.get(&name) {
                        Some(at) => fields[*at].1.merge(value),
                        None => fields.push((name, value)),
                    }
                }
            }
            (Self::List(items), Self::List(others)) => {
                for (index, other) in others.into_iter().enumerate() {
                    match items.get_mut(index) {
                        Some(item) => item.merge(other),
                        None => items.push(other),
                    }
                }
            }
            (mine, other) if mine.is_null() => *mine = other,
            _ => {}
        }
    }

    /// Writes the JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Leaf(json) => compact(json, out),
            Self::Object(fields) => {
                out.push(b'{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    serde_json::to_writer(&mut *out, name).expect("a string is JSON");
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
            Self::List(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
        }
    }
}

/// Copies valid JSON without the white space between its tokens.
pub(super) fn compact(json: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let end = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            b'"' => string(json, at).map_or(json.len(), |text| text.end + 1),
            _ => at + 1,
        };
        out.extend_from_slice(&json[at..end]);
        at = end;
    }
}
