//! Numbers keys that redaction would make equal.
//!
//! Promises that two keys of one object that were redacted stay two keys: the second `[EMAIL]` becomes `[EMAIL]#2`, so
//! that nobody behind has to drop a member or a record. Refuses nothing: keys that were equal before stay equal.

use std::collections::{HashMap, HashSet};

use super::Engine;
use crate::text::json::Token;

/// The keys that were redacted in the record at hand.
#[derive(Debug, Default)]
pub(super) struct MadeKeys {
    /// As they are now, with where their object opens.
    made: HashSet<(usize, Vec<u8>)>,
    /// The last number of each, and as what it was written.
    numbers: HashMap<(usize, Vec<u8>), usize>,
    /// The present key as it becomes.
    key: Vec<u8>,
}

impl MadeKeys {
    pub(super) fn clear(&mut self) {
        if !self.made.is_empty() {
            *self = Self::default();
        }
    }
}

impl Engine {
    /// Numbers the key of the record at hand that the edits after the first `edits` change, if another one of its object
    /// was changed into the same.
    pub(super) fn keep_apart(&mut self, record: &[u8], token: Token, edits: usize) {
        let Some(frame) = self.trail.frames.last() else {
            return;
        };
        let MadeKeys { made, numbers, key } = &mut self.made_keys;
        key.clear();
        let place = token.start..token.end;
        if !self.edits.apply_within(edits, record, place, key)
            || made.insert((frame.at, key.clone()))
        {
            return;
        }
        let number = numbers.entry((frame.at, key.clone())).or_insert(1);
        let length = key.len();
        loop {
            *number += 1;
            key.truncate(length);
            key.extend_from_slice(format!("#{number}").as_bytes());
            if made.insert((frame.at, key.clone())) {
                break;
            }
        }
        let suffix = &key[length..];
        self.edits
            .add(token.end..token.end, |out| out.extend_from_slice(suffix));
    }
}
