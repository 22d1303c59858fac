//! The keeper of a table: merges files, replays intervals and expires files, by a chain of layout records.

use super::{Chain, Key, Late, Layout, MERGED, State, UploadId, name, rows};
use crate::search::Steps;

#[derive(Clone, Copy, Hash, PartialEq)]
enum At {
    Idle,
    Chosen,
    /// The layout record is there: its inputs go.
    Removing,
    Revealing,
    Looking,
    Marking,
}

#[derive(Clone, Hash)]
pub(super) struct Keeper {
    at: At,
    slot: u8,
    layout: Layout,
    /// An upload made from the hidden copy.
    again: Option<UploadId>,
}

const NOTHING: Layout = Layout {
    inputs: Vec::new(),
    rows: 0,
    output: None,
};

impl Keeper {
    pub(super) fn idle() -> Keeper {
        Keeper {
            at: At::Idle,
            slot: 0,
            layout: NOTHING,
            again: None,
        }
    }
}

/// Adds a step: its name, and what it changes.
type Go<'a> = dyn FnMut(String, &dyn Fn(&mut State, &mut Keeper)) + 'a;

impl Chain {
    pub(super) fn keeper(&self, at: &State, who: usize, steps: &mut Steps<State>) {
        let me = &at.keepers[who];
        let maker = 2 + who as u8;
        let mut go = |what: String, change: &dyn Fn(&mut State, &mut Keeper)| {
            let mut next = at.clone();
            let mut keeper = me.clone();
            change(&mut next, &mut keeper);
            next.keepers[who] = keeper;
            steps.add(|| format!("keeper {who} {what}"), next);
        };
        if at.crashes < self.crashes && me.at != At::Idle {
            go("dies".into(), &|next, me| {
                next.crashes += 1;
                *me = Keeper::idle();
            });
        }
        match me.at {
            At::Idle => {
                let tip = at.layouts.len().checked_sub(1);
                if let Some(tip) = tip
                    && at.layout_marks >> tip & 1 == 0
                {
                    go("rolls the layout's tip forward".into(), &|next, me| {
                        me.slot = tip as u8;
                        me.layout = next.layouts[tip].clone();
                        me.at = At::Removing;
                    });
                    return;
                }
                self.choose(at, maker, &mut go);
            }
            At::Chosen => {
                let taken = at.layouts.len() > me.slot as usize;
                if taken && self.rules.layouts_claimed {
                    go("puts its layout record: taken".into(), &|next, me| {
                        if let Some(id) = me.layout.output {
                            next.abort(id);
                        }
                        *me = Keeper::idle();
                    });
                } else {
                    go(
                        format!("puts layout record {}", at.layouts.len()),
                        &|next, me| {
                            me.slot = next.layouts.len() as u8;
                            if me.layout.output.is_none() {
                                next.removed |= me.layout.rows;
                            }
                            next.layouts.push(me.layout.clone());
                            me.at = At::Removing;
                        },
                    );
                }
            }
            At::Removing => {
                let left = me.layout.inputs.iter().find(|key| at.has(**key));
                let Some(&key) =
                    left.filter(|_| self.rules.deletes_first || me.layout.output.is_none())
                else {
                    go("has removed its inputs".into(), &|_, me| {
                        me.at = if me.layout.output.is_some() {
                            At::Revealing
                        } else {
                            At::Marking
                        };
                    });
                    return;
                };
                go(format!("removes {}", name(key)), &|next, _| {
                    next.delete(key);
                });
                if at.late < self.late {
                    go(
                        format!("removes {}, waits no longer", name(key)),
                        &|next, _| {
                            next.send_late(Late::Delete(key));
                        },
                    );
                }
            }
            At::Revealing => {
                let Some(named) = me.layout.output else {
                    return;
                };
                let id = me.again.unwrap_or(named);
                if at.is_open(id) {
                    go(format!("completes {}", name(id.0)), &|next, me| {
                        next.complete(id);
                        me.at = At::Marking;
                    });
                    if at.late < self.late {
                        go(
                            format!("completes {}, waits no longer", name(id.0)),
                            &|next, _| {
                                next.send_late(Late::Complete(id));
                            },
                        );
                    }
                } else if at.has(id.0) {
                    go("finds its output".into(), &|_, me| me.at = At::Marking);
                } else {
                    go("finds neither upload nor output".into(), &|_, me| {
                        me.at = At::Looking
                    });
                }
            }
            At::Looking => {
                let key = me.layout.output.map_or((0, 0, 0, 0), |id| id.0);
                let merged_since = at.names_as_input(key.0, key.1, key.2);
                let proven = self.rules.layout_mark_seen
                    && (at.layout_marks >> me.slot & 1 == 1
                        || at.layouts.len() > me.slot as usize + 1);
                if merged_since || proven {
                    go("finds that it was finished before".into(), &|_, me| {
                        me.at = At::Marking
                    });
                } else if self.rules.merged_has_copy {
                    go("uploads the hidden copy".into(), &|next, me| {
                        me.again = Some(next.upload(maker, key, me.layout.rows));
                        me.at = At::Revealing;
                    });
                } else {
                    go("has no copy and gives up".into(), &|next, me| {
                        next.shown |= 1 << me.slot;
                        me.at = At::Marking;
                    });
                }
            }
            At::Marking => go("marks the layout record finished".into(), &|next, me| {
                if !self.rules.deletes_first && me.layout.output.is_some() {
                    for key in &me.layout.inputs {
                        next.delete(*key);
                    }
                }
                if self.rules.layout_mark_seen {
                    next.layout_marks |= 1 << me.slot;
                } else if next.layouts.len() as u8 == me.slot + 1 {
                    next.shown |= 1 << me.slot;
                }
                *me = Keeper::idle();
            }),
        }
    }

    fn choose(&self, at: &State, maker: u8, go: &mut Go<'_>) {
        let slot = at.layouts.len() as u8;
        let free = |key: &Key| !at.layouts.iter().any(|layout| layout.inputs.contains(key));
        let visible: Vec<(Key, u8)> = at
            .objects
            .iter()
            .filter(|(key, _)| free(key))
            .copied()
            .collect();
        if at.merges < self.merges && visible.len() >= 2 {
            let inputs: Vec<Key> = visible.iter().take(2).map(|(key, _)| *key).collect();
            let rows = visible.iter().take(2).fold(0, |all, (_, rows)| all | rows);
            go("merges two files".into(), &|next, me| {
                next.merges += 1;
                let id = next.upload(maker, (MERGED, slot, slot, 0), rows);
                *me = Keeper {
                    at: At::Chosen,
                    slot,
                    layout: Layout {
                        inputs: inputs.clone(),
                        rows,
                        output: Some(id),
                    },
                    again: None,
                };
            });
        }
        if at.replays < self.replays {
            self.replay(at, maker, go);
        }
        if at.expiries >= self.expiries {
            return;
        }
        let mut candidates = visible;
        if !self.rules.expires_visible {
            candidates.extend(
                at.uploads
                    .iter()
                    .filter(|(id, _)| free(&id.0))
                    .map(|(id, rows)| (id.0, *rows)),
            );
        }
        for (key, rows) in candidates {
            go(format!("expires {}", name(key)), &|next, me| {
                next.expiries += 1;
                let layout = Layout {
                    inputs: vec![key],
                    rows,
                    output: None,
                };
                *me = Keeper {
                    at: At::Chosen,
                    slot,
                    layout,
                    again: None,
                };
                if !self.rules.expiry_recorded_first {
                    next.removed |= rows;
                    next.delete(key);
                }
            });
        }
    }

    /// Replaces the files of an interval by one that holds its rows as other rules make them.
    fn replay(&self, at: &State, maker: u8, go: &mut Go<'_>) {
        let layout_slot = at.layouts.len() as u8;
        for slot in 1..=at.records.len() as u8 {
            let Some(record) = at.record(slot) else {
                continue;
            };
            if self.rules.replay_after_finish && !at.is_finished(slot) {
                continue;
            }
            let (from, to) = (record.from, record.to);
            let kinds = (0..2).filter(|kind| record.uploads[*kind as usize].is_some());
            let files = kinds.map(|kind| at.newest_of(slot, kind).map(|id| id.0));
            // What was given up has no file.
            let files: Vec<Option<Key>> = files.collect();
            let is_free = |key: &Key| !at.names_as_input(key.0, key.1, key.2);
            let inputs: Vec<Key> = files.iter().flatten().copied().filter(is_free).collect();
            let is_whole = inputs.len() == files.len();
            if inputs.is_empty() || (self.rules.replay_of_whole && !is_whole) {
                continue;
            }
            let content = (0..2).fold(0, |all, kind| all | rows(record.spec, from, to, kind));
            go(format!("replays {from} to {to}"), &|next, me| {
                next.replays += 1;
                let id = next.upload(maker, (MERGED, layout_slot, layout_slot, 0), content);
                *me = Keeper {
                    at: At::Chosen,
                    slot: layout_slot,
                    layout: Layout {
                        inputs: inputs.clone(),
                        rows: content,
                        output: Some(id),
                    },
                    again: None,
                };
            });
        }
    }
}
