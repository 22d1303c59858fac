//! JSON as a tree, from each reader's view of it.

use std::fmt;

use hydrant_pii::testing::JsonPart;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value. Members keep their order and may repeat.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Boolean(bool),
    /// The number as it is written.
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
    /// The missing part of a text that was refused.
    Absent,
}

impl Tree {
    /// Builds the tree of a walk, which may have ended early.
    pub(super) fn of(events: &[JsonPart]) -> Tree {
        let mut open: Vec<(Tree, Option<String>)> = Vec::new();
        let mut root = Tree::Absent;
        let put = |open: &mut Vec<(Tree, Option<String>)>, root: &mut Tree, value: Tree| match open
            .last_mut()
        {
            None => *root = value,
            Some((Tree::Object(members), key)) => {
                let key = key.take().expect("a key stands before each member");
                members.push((key, value));
            }
            Some((Tree::List(items), _)) => items.push(value),
            Some(_) => unreachable!("only containers are open"),
        };
        for event in events {
            let value = match event {
                JsonPart::Object => {
                    open.push((Tree::Object(Vec::new()), None));
                    continue;
                }
                JsonPart::Array => {
                    open.push((Tree::List(Vec::new()), None));
                    continue;
                }
                JsonPart::Key(key) => {
                    open.last_mut().expect("an object is open").1 = Some(key.clone());
                    continue;
                }
                JsonPart::End => open.pop().expect("a container is open").0,
                JsonPart::Text(text) => Tree::Text(text.clone()),
                JsonPart::Number(number) => Tree::Number(number.clone()),
                JsonPart::Word(word) => match word.as_str() {
                    "null" => Tree::Null,
                    word => Tree::Boolean(word == "true"),
                },
            };
            put(&mut open, &mut root, value);
        }
        while let Some((value, _)) = open.pop() {
            put(&mut open, &mut root, value);
        }
        root
    }

    /// How deep containers nest.
    pub(super) fn depth(&self) -> usize {
        1 + match self {
            Tree::List(items) => items.iter().map(Tree::depth).max().unwrap_or(0),
            Tree::Object(members) => members
                .iter()
                .map(|member| member.1.depth())
                .max()
                .unwrap_or(0),
            _ => return 0,
        }
    }

    /// The value at the path of a template, through the first members of each name.
    pub(super) fn key_at(&self, path: &[&str]) -> Option<String> {
        let mut at = self;
        for name in path {
            let Tree::Object(members) = at else {
                return None;
            };
            at = &members.iter().find(|(key, _)| key == name)?.1;
        }
        match at {
            Tree::Boolean(truth) => Some(truth.to_string()),
            Tree::Number(number) => Some(number.clone()),
            Tree::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// The tree without members that have no value, which a table does not store.
    pub(super) fn without_nothing(self) -> Tree {
        match self {
            Tree::Object(members) => {
                let members = members
                    .into_iter()
                    .map(|(key, value)| (key, value.without_nothing()));
                let members: Vec<_> = members.filter(|member| member.1 != Tree::Null).collect();
                if members.is_empty() {
                    Tree::Null
                } else {
                    Tree::Object(members)
                }
            }
            Tree::List(items) => {
                let items: Vec<_> = items.into_iter().map(Tree::without_nothing).collect();
                if items.iter().all(|item| *item == Tree::Null) {
                    Tree::Null
                } else {
                    Tree::List(items)
                }
            }
            scalar => scalar,
        }
    }

    /// Removes a member of an object.
    pub(super) fn take(&mut self, name: &str) -> Option<Tree> {
        let Tree::Object(members) = self else {
            return None;
        };
        let at = members.iter().position(|(key, _)| key == name)?;
        Some(members.remove(at).1)
    }

    /// Adds what the other has: members by name, items by place, and itself where this is null.
    pub(super) fn merge(&mut self, other: Tree) {
        match (self, other) {
            (Tree::Object(members), Tree::Object(others)) => {
                for (name, value) in others {
                    match members.iter_mut().find(|(key, _)| *key == name) {
                        Some((_, member)) => member.merge(value),
                        None => members.push((name, value)),
                    }
                }
            }
            (Tree::List(items), Tree::List(others)) => {
                for (at, other) in others.into_iter().enumerate() {
                    match items.get_mut(at) {
                        Some(item) => item.merge(other),
                        None => items.push(other),
                    }
                }
            }
            (tree, other) if *tree == Tree::Null => *tree = other,
            _ => {}
        }
    }

    /// Whether both are equal as values: members in any order, numbers by value.
    pub(super) fn equals(&self, other: &Tree) -> bool {
        match (self, other) {
            (Tree::Number(a), Tree::Number(b)) => match (a.parse::<i64>(), b.parse::<i64>()) {
                (Ok(a), Ok(b)) => a == b,
                _ => double(a) == double(b),
            },
            (Tree::List(a), Tree::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
            }
            (Tree::Object(a), Tree::Object(b)) => {
                let there = |(key, value): &(String, Tree)| {
                    b.iter()
                        .any(|(other, there)| key == other && value.equals(there))
                };
                a.len() == b.len() && a.iter().all(there)
            }
            (a, b) => a == b,
        }
    }

    /// Whether both are equal in every detail; numbers to the precision of the strict parser.
    pub(super) fn same_as(&self, other: &Tree) -> bool {
        match (self, other) {
            (Tree::Number(a), Tree::Number(b)) => {
                let (a, b) = (double(a), double(b));
                a == b || (a - b).abs() <= a.abs().max(f64::MIN_POSITIVE) * 1e-15
            }
            (Tree::List(a), Tree::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_as(b))
            }
            (Tree::Object(a), Tree::Object(b)) => {
                let same =
                    |(a, b): (&(String, Tree), &(String, Tree))| a.0 == b.0 && a.1.same_as(&b.1);
                a.len() == b.len() && a.iter().zip(b).all(same)
            }
            (a, b) => a == b,
        }
    }
}

fn double(number: &str) -> f64 {
    number.parse().expect("every number of JSON has a double")
}

/// The result of serde_json for a text.
pub(super) enum Strict {
    Tree(Tree),
    Refused(String),
    /// It exceeds a limit of serde_json, which only says whether the grammar accepts it.
    Beyond {
        json: bool,
    },
}

pub(super) fn strict(text: &[u8]) -> Strict {
    match serde_json::from_slice::<Tree>(text) {
        Ok(tree) => Strict::Tree(tree),
        Err(error) => {
            let why = error.to_string();
            if why.starts_with("number out of range") || why.starts_with("recursion limit") {
                let json = serde_json::from_slice::<IgnoredAny>(text).is_ok();
                Strict::Beyond { json }
            } else {
                Strict::Refused(why)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToTree)
    }
}

struct ToTree;

impl<'de> Visitor<'de> for ToTree {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Tree, E> {
        Ok(Tree::Boolean(truth))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Number(number.to_string()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Tree::Object(object))
    }
}
