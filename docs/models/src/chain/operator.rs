//! An operator who says that the files which are missing were meant to go.
//!
//! By a rebuild record that gives the file up, under the name that a rebuild would take: the first to take it decides.

use super::{Chain, Layout, State, name, rows};
use crate::search::Steps;

#[derive(Clone, Copy, Hash, PartialEq)]
pub(super) enum Operator {
    Idle,
    /// Neither an upload nor an object was found of this slot's file of a kind, in this generation.
    Missing(u8, u8, u8),
    /// The layout chain does not name it either.
    Unnamed(u8, u8, u8),
}

impl Chain {
    pub(super) fn operator(&self, at: &State, steps: &mut Steps<State>) {
        match at.operator {
            Operator::Idle if at.given_up < self.given_up => self.look(at, steps),
            Operator::Idle => {}
            Operator::Missing(slot, kind, generation) => {
                let Some(record) = at.record(slot) else {
                    return;
                };
                let is_named = at.names_as_input(kind, record.from, record.to);
                steps.change(
                    at,
                    || format!("the operator looks in the layout chain: {is_named}"),
                    |next| {
                        next.operator = match is_named {
                            true => Operator::Idle,
                            false => Operator::Unnamed(slot, kind, generation),
                        };
                    },
                );
            }
            Operator::Unnamed(slot, kind, generation) => {
                self.give_up(at, slot, kind, generation, steps);
            }
        }
    }

    /// Finds a file whose upload and object are gone.
    fn look(&self, at: &State, steps: &mut Steps<State>) {
        for slot in 1..=at.records.len() as u8 {
            for kind in 0..2 {
                let Some(id) = at.newest_of(slot, kind) else {
                    continue;
                };
                let is_uploaded = self.rules.missing_is_not_uploaded && at.is_open(id);
                let is_there = self.rules.missing_is_not_visible && at.has(id.0);
                if !is_uploaded && !is_there {
                    steps.change(
                        at,
                        || format!("the operator misses {}", name(id.0)),
                        |next| next.operator = Operator::Missing(slot, kind, id.0.3),
                    );
                }
            }
        }
    }

    fn give_up(&self, at: &State, slot: u8, kind: u8, generation: u8, steps: &mut Steps<State>) {
        let Some(record) = at.record(slot) else {
            return;
        };
        let key = (kind, record.from, record.to, generation);
        let content = rows(record.spec, record.from, record.to, kind);
        steps.change(
            at,
            || format!("the operator gives {} up", name(key)),
            |next| {
                next.given_up += 1;
                next.operator = Operator::Idle;
                if self.rules.missing_by_rebuild {
                    if !next.put_rebuild((slot, kind, generation + 1), None) {
                        return;
                    }
                } else {
                    next.layout_marks |= 1 << next.layouts.len();
                    next.layouts.push(Layout {
                        inputs: vec![key],
                        rows: content,
                        output: None,
                    });
                }
                next.removed |= content;
                if next.has(key) {
                    next.wrong = Some("a file is given up that is visible");
                }
            },
        );
    }
}
