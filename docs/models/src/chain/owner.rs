//! An owner of the shard: publish, finish, rebuild, take over.

use super::{Chain, CleanUp, Key, Late, Look, RECORDS, Record, State, UploadId, name, rows};
use crate::search::Steps;

#[derive(Clone, Copy, Hash, PartialEq)]
enum At {
    Down,
    Listing,
    /// Holds a finished slot and the end of its interval.
    Idle,
    Putting,
    /// Its slot is taken.
    Taken,
    Finishing,
    /// The upload is gone: the next place to look at.
    Looking(u8),
    Judging,
    Claiming,
    Marking,
    Noting,
    Cleaning,
    /// Before a mutant's finish: everything is cleaned first.
    CleaningFirst,
    Done,
}

#[derive(Clone, Hash)]
pub(super) struct Owner {
    at: At,
    /// The slot in hand, or the last finished one.
    slot: u8,
    record: Record,
    kind: u8,
    generation: u8,
    /// The upload that counts for the file in hand, if it is not the record's.
    upload: Option<UploadId>,
    /// Whether a put of the record has not been answered.
    unknown: bool,
    /// The next interval, uploaded while this one is published.
    ahead: Option<Record>,
    started: bool,
}

const NO_RECORD: Record = Record {
    from: 0,
    to: 0,
    uploads: [None; 2],
    spec: 0,
};

impl Owner {
    pub(super) fn down() -> Owner {
        Owner {
            at: At::Down,
            slot: 0,
            record: NO_RECORD,
            kind: 0,
            generation: 0,
            upload: None,
            unknown: false,
            ahead: None,
            started: false,
        }
    }

    fn finish(&mut self) {
        self.at = At::Finishing;
        self.kind = 0;
        self.generation = 0;
        self.upload = None;
        self.unknown = false;
    }

    fn key(&self) -> Key {
        (self.kind, self.record.from, self.record.to, self.generation)
    }
}

/// Adds a step: its name, and what it changes.
type Go<'a> = dyn FnMut(String, &dyn Fn(&mut State, &mut Owner)) + 'a;

impl Chain {
    fn stage(&self, next: &mut State, who: usize, from: u8, to: u8) -> Record {
        let spec = u8::from(self.specs_differ && who == 1);
        let mut uploads = [None; 2];
        for kind in 0..2 {
            let rows = rows(spec, from, to, kind);
            if rows != 0 {
                let drawn = if self.rules.named_by_interval {
                    0
                } else {
                    10 + who as u8
                };
                uploads[kind as usize] =
                    Some(next.upload(who as u8, (kind, from, to, drawn), rows));
            }
        }
        Record {
            from,
            to,
            uploads,
            spec,
        }
    }

    fn drop_uploads(next: &mut State, record: &Record) {
        for id in record.uploads.iter().flatten() {
            next.abort(*id);
        }
    }

    pub(super) fn owner(&self, at: &State, who: usize, steps: &mut Steps<State>) {
        let me = &at.owners[who];
        let mut go = |what: String, change: &dyn Fn(&mut State, &mut Owner)| {
            let mut next = at.clone();
            let mut owner = me.clone();
            change(&mut next, &mut owner);
            next.owners[who] = owner;
            steps.add(|| format!("owner {who} {what}"), next);
        };
        if at.crashes < self.crashes && !matches!(me.at, At::Down | At::Done) {
            go("dies".into(), &|next, me| {
                next.crashes += 1;
                *me = Owner::down();
            });
        }
        let publishing = matches!(me.at, At::Putting | At::Finishing | At::Noting);
        if self.ahead && publishing && me.ahead.is_none() && me.record.to < RECORDS {
            go(
                format!("stages what follows {}", me.record.to),
                &|next, me| {
                    let from = me.record.to;
                    me.ahead = Some(self.stage(next, who, from, from + 1));
                },
            );
        }
        match me.at {
            At::Done => {}
            At::Down => go("starts".into(), &|_, me| me.at = At::Listing),
            At::Listing => match at.tip() {
                None => go("finds no record".into(), &|_, me| {
                    me.started = true;
                    me.at = At::Idle;
                }),
                Some(slot) => go(format!("finds slot {slot}"), &|next, me| {
                    me.slot = slot;
                    me.record = next.record(slot).cloned().unwrap_or(NO_RECORD);
                    if self.rules.clean_up == CleanUp::BeforeFinish {
                        me.at = At::CleaningFirst;
                    } else if self.marks && next.marked(slot) {
                        me.at = At::Noting;
                    } else {
                        me.finish();
                    }
                }),
            },
            At::Cleaning | At::CleaningFirst => {
                let from = me.record.to;
                for (id, _) in &at.uploads {
                    let (key, _, _) = *id;
                    let old = key.0 != super::MERGED
                        && match self.rules.clean_up {
                            CleanUp::AtTip => key.1 <= from,
                            _ => key.1 < from,
                        };
                    let replaced = at
                        .rebuilds
                        .iter()
                        .any(|((slot, kind, generation), upload)| {
                            let of = at.record(*slot).map(|r| (*kind, r.from, r.to, *generation));
                            of == Some(key) && *upload != Some(*id)
                        });
                    if (key.3 == 0 && old) || (key.3 > 0 && replaced) {
                        go(format!("cleans up {}", name(key)), &|next, _| {
                            next.clean(*id)
                        });
                        if at.late < self.late {
                            let what = format!("cleans up {}, waits no longer", name(key));
                            go(what, &|next, _| next.send_late(Late::Abort(*id)));
                        }
                    }
                }
                go("is done with its clean-up".into(), &|_, me| {
                    if me.at == At::CleaningFirst {
                        me.finish();
                    } else {
                        me.started = true;
                        me.at = At::Idle;
                    }
                });
            }
            At::Idle => self.idle(who, &mut go),
            At::Putting => self.putting(at, me, &mut go),
            At::Taken => self.taken(at, me, &mut go),
            At::Marking => {
                go("marks the record finished".into(), &|next, me| {
                    next.marks |= 1 << me.slot;
                    me.at = At::Noting;
                });
                go("marks nothing yet".into(), &|_, me| me.at = At::Noting);
            }
            At::Noting => go(
                format!("writes the ledger: {}", me.record.to),
                &|next, me| {
                    next.ledger = next.ledger.max(me.record.to);
                    let cleans = self.rules.clean_up != CleanUp::Nothing && !me.started;
                    me.at = if cleans { At::Cleaning } else { At::Idle };
                    me.started |= !cleans;
                    me.upload = None;
                    me.kind = 0;
                    me.generation = 0;
                    me.record.uploads = [None; 2];
                },
            ),
            _ => self.finishing(at, who, &mut go),
        }
    }

    fn idle(&self, who: usize, go: &mut Go<'_>) {
        go("goes on".into(), &|next, me| {
            let from = me.record.to;
            match me.ahead.take() {
                Some(ahead) => {
                    me.record = ahead;
                    me.at = At::Putting;
                }
                None if from >= RECORDS => me.at = At::Done,
                None => {
                    let mut start = from;
                    // A mutant believes its reader, which has seen one record more.
                    if !self.rules.from_the_chain && who == 1 && from + 1 < RECORDS {
                        start += 1;
                    }
                    me.record = self.stage(next, who, start, start + 1);
                    me.at = At::Putting;
                }
            }
            if me.at == At::Putting {
                me.slot += 1;
                if !self.rules.record_before_reveal {
                    for id in me.record.uploads.iter().flatten() {
                        next.complete(*id);
                    }
                }
            }
        });
        go("gathers more".into(), &|next, me| {
            let from = me.record.to;
            if me.ahead.is_none() && from + 2 <= RECORDS {
                me.record = self.stage(next, who, from, from + 2);
                me.at = At::Putting;
                me.slot += 1;
                if !self.rules.record_before_reveal {
                    for id in me.record.uploads.iter().flatten() {
                        next.complete(*id);
                    }
                }
            }
        });
    }

    fn putting(&self, at: &State, me: &Owner, go: &mut Go<'_>) {
        let slot = me.slot;
        let what = format!("puts slot {slot}, {} to {}", me.record.from, me.record.to);
        if at.record(slot).is_some() {
            go(format!("{what}: taken"), &|_, me| me.at = At::Taken);
            return;
        }
        go(what.clone(), &|next, me| {
            next.put_record(slot, &me.record);
            if !self.rules.mark_after_finish {
                next.marks |= 1 << slot;
            }
            if !self.rules.ledger_after_reveal {
                next.ledger = next.ledger.max(me.record.to);
            }
            me.finish();
        });
        if at.lost < self.lost {
            go(format!("{what}: the answer is lost"), &|next, me| {
                next.lost += 1;
                next.put_record(slot, &me.record);
                me.unknown = true;
            });
        }
        if at.late < self.late {
            go(format!("{what}, waits no longer"), &|next, me| {
                next.send_late(Late::Record(slot, me.record.clone()));
                me.unknown = true;
            });
        }
        if me.unknown && !self.rules.unknown_put_repeated {
            go(
                format!("finds slot {slot} free and stages again"),
                &|next, me| {
                    Chain::drop_uploads(next, &me.record);
                    me.slot -= 1;
                    me.record = Record {
                        to: me.record.from,
                        ..NO_RECORD
                    };
                    me.unknown = false;
                    me.at = At::Idle;
                },
            );
        }
    }

    fn taken(&self, at: &State, me: &Owner, go: &mut Go<'_>) {
        let Some(there) = at.record(me.slot).cloned() else {
            go("finds the slot empty and starts again".into(), &|_, me| {
                *me = Owner::down()
            });
            return;
        };
        let mine = if self.rules.mine_by_bytes {
            there == me.record
        } else {
            (there.from, there.to) == (me.record.from, me.record.to)
        };
        if mine {
            go("takes the record for its own".into(), &|_, me| me.finish());
            return;
        }
        go(
            format!("finds another's record to {}", there.to),
            &|next, me| {
                Chain::drop_uploads(next, &me.record);
                if self.rules.ahead_dropped
                    && let Some(ahead) = me.ahead.take()
                {
                    Chain::drop_uploads(next, &ahead);
                }
                me.record = there.clone();
                me.finish();
                if !self.rules.found_is_finished {
                    me.at = At::Idle;
                }
            },
        );
    }

    /// The file in hand is visible, or was once: on to the next one.
    fn next_file(&self, me: &mut Owner) {
        me.kind += 1;
        me.generation = 0;
        me.upload = None;
        me.at = At::Finishing;
        if me.kind > 1 {
            me.at = if self.marks { At::Marking } else { At::Noting };
            me.record.uploads = [None; 2];
            me.kind = 0;
        }
    }

    fn finishing(&self, at: &State, who: usize, go: &mut Go<'_>) {
        let me = &at.owners[who];
        let Some(id) = me.upload.or(me.record.uploads[me.kind as usize]) else {
            go("has no such file".into(), &|_, me| self.next_file(me));
            return;
        };
        let key = id.0;
        match me.at {
            At::Finishing if at.is_open(id) => {
                let what = format!("completes {}", name(key));
                if !self.rules.one_slot_ahead
                    && let Some(ahead) = me.ahead.clone()
                    && at.record(me.slot + 1).is_none()
                {
                    go(format!("puts slot {} too", me.slot + 1), &|next, me| {
                        next.put_record(me.slot + 1, &ahead);
                    });
                }
                let conflict = at.net.contains(&Late::Complete(id));
                if conflict && !self.rules.conflict_repeated {
                    go(format!("{what}: 409, taken for done"), &|_, me| {
                        self.next_file(me);
                    });
                }
                go(what.clone(), &|next, me| {
                    next.complete(id);
                    self.next_file(me);
                });
                if at.lost < self.lost {
                    go(format!("{what}: the answer is lost"), &|next, _| {
                        next.lost += 1;
                        next.complete(id);
                    });
                }
                if at.late < self.late {
                    go(format!("{what}, waits no longer"), &|next, _| {
                        next.send_late(Late::Complete(id));
                    });
                }
            }
            At::Finishing => {
                go(
                    format!("completes {}: no such upload", name(key)),
                    &|_, me| {
                        me.at = At::Looking(0);
                    },
                );
                if at.has(key) && !self.rules.exists_is_looked_at {
                    go(
                        format!("completes {}: 412, taken for vanished", name(key)),
                        &|_, me| {
                            me.at = At::Judging;
                        },
                    );
                }
            }
            At::Looking(place) => {
                let Some(look) = self.rules.looks.get(place as usize) else {
                    go("finds no trace".into(), &|_, me| {
                        if self.rules.unproven_is_dead {
                            me.at = At::Judging;
                        } else {
                            self.next_file(me);
                        }
                    });
                    return;
                };
                let (what, found) = match look {
                    Look::Object => ("the object", at.has(key)),
                    Look::Layout => ("the layout chain", at.names_as_input(key.0, key.1, key.2)),
                    Look::Newer => ("a newer record or a mark", at.is_finished(me.slot)),
                    Look::MarkOnly => ("a mark", at.marked(me.slot)),
                    Look::Ledger => ("the ledger", at.ledger >= me.record.to),
                };
                go(
                    format!("looks for {} in {what}: {found}", name(key)),
                    &|_, me| {
                        if found {
                            self.next_file(me);
                        } else {
                            me.at = At::Looking(place + 1);
                        }
                    },
                );
            }
            At::Judging => self.judging(at, who, go),
            At::Claiming => self.claiming(at, me, go),
            _ => {}
        }
    }

    fn judging(&self, at: &State, who: usize, go: &mut Go<'_>) {
        let me = &at.owners[who];
        let claim = (me.slot, me.kind, me.generation + 1);
        if let Some((_, there)) = at.rebuilds.iter().find(|(name, _)| *name == claim) {
            go("follows a rebuild that is there".into(), &|_, me| {
                self.follow(me, *there);
            });
            return;
        }
        let Record { from, to, spec, .. } = me.record;
        let own = u8::from(self.specs_differ && who == 1);
        let spec = if self.rules.recorded_spec { spec } else { own };
        let content = rows(spec, from, to, me.kind);
        let past = self.rules.retention_declared && content & !at.past == 0;
        let unreadable = from < at.trimmed;
        if past || unreadable {
            if self.rules.giving_up_recorded {
                go("gives the file up".into(), &|_, me| {
                    me.upload = None;
                    me.generation += 1;
                    me.at = At::Claiming;
                });
            } else {
                go("gives the file up silently".into(), &|_, me| {
                    self.next_file(me)
                });
            }
            return;
        }
        go(
            "reads the interval again and uploads the file".into(),
            &|next, me| {
                me.generation += 1;
                let (kind, from, to, generation) = me.key();
                let generation = if self.rules.named_by_interval {
                    generation
                } else {
                    20 + who as u8
                };
                let generation = if self.rules.rebuild_claimed {
                    generation
                } else {
                    generation - 1
                };
                let key = (kind, from, to, generation);
                me.upload = Some(next.upload(who as u8, key, content));
                me.at = if self.rules.rebuild_claimed {
                    At::Claiming
                } else {
                    At::Finishing
                };
                if !self.rules.rebuild_claimed {
                    me.generation -= 1;
                }
            },
        );
    }

    fn claiming(&self, at: &State, me: &Owner, go: &mut Go<'_>) {
        let claim = (me.slot, me.kind, me.generation);
        if let Some((_, there)) = at.rebuilds.iter().find(|(name, _)| *name == claim) {
            go("claims the rebuild: taken".into(), &|next, me| {
                me.generation -= 1;
                if let Some(mine) = me.upload.filter(|mine| Some(*mine) != *there) {
                    next.abort(mine);
                }
                self.follow(me, *there);
            });
            return;
        }
        let upload = me.upload;
        go("claims the rebuild".into(), &|next, me| {
            next.put_rebuild(claim, upload);
            me.generation -= 1;
            self.follow(me, upload);
        });
        if at.lost < self.lost {
            go(
                "claims the rebuild: the answer is lost".into(),
                &|next, _| {
                    next.lost += 1;
                    next.put_rebuild(claim, upload);
                },
            );
        }
        if at.late < self.late {
            go("claims the rebuild, waits no longer".into(), &|next, _| {
                next.send_late(Late::Rebuild(claim, upload));
            });
        }
    }

    /// Goes on with the rebuild record of the next generation.
    fn follow(&self, me: &mut Owner, there: Option<UploadId>) {
        match there {
            Some(upload) => {
                me.generation += 1;
                me.upload = Some(upload);
                me.at = At::Finishing;
            }
            None => self.next_file(me),
        }
    }
}
