//! The chain of commits in a lake that has no rename: records put if their slot is free, files
//! uploaded invisibly that become visible once, and everybody finishing what everybody began.
//!
//! Two owners of one source shard, a keeper that merges, replays and expires files, an operator who
//! gives up what is missing, a store that loses answers and lets requests land late, a bucket rule
//! that aborts uploads, and a source whose oldest records go. `owner`, `keeper` and `operator` hold
//! the steps; this file holds the store.

mod keeper;
mod operator;
mod owner;
mod scenarios;

pub(crate) use scenarios::checks;

use crate::search::{Broken, Model, Promise, Steps, broken};
use keeper::Keeper;
use operator::Operator;
use owner::Owner;

/// Records of the source shard; the second one becomes a dead letter.
const RECORDS: u8 = 2;
const LETTER: u8 = 2;
/// Kinds of files: rows, dead letters, merged rows.
const MERGED: u8 = 2;

/// Kind, interval (of a merged file: its layout record, twice), generation.
type Key = (u8, u8, u8, u8);

/// Key, who made it, and which of the uploads that it made.
type UploadId = (Key, u8, u8);

/// Where FINISH looks for a file whose upload is gone, in order.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    Object,
    Layout,
    /// A newer record, or the mark that this one is finished.
    Newer,
    MarkOnly,
    Ledger,
}

/// What an owner removes when it takes a shard over.
#[derive(Clone, Copy, PartialEq)]
enum CleanUp {
    Nothing,
    /// What begins before the tip's end, once the tip is finished.
    BeforeTip,
    AtTip,
    BeforeFinish,
}

/// The rules; all hold in the protocol.
#[derive(Clone)]
struct Rules {
    found_is_finished: bool,
    mine_by_bytes: bool,
    looks: Vec<Look>,
    rebuild_claimed: bool,
    recorded_spec: bool,
    from_the_chain: bool,
    unknown_put_repeated: bool,
    slots_stay: bool,
    ledger_after_reveal: bool,
    record_before_reveal: bool,
    named_by_interval: bool,
    mark_after_finish: bool,
    unproven_is_dead: bool,
    giving_up_recorded: bool,
    retention_declared: bool,
    one_slot_ahead: bool,
    ahead_dropped: bool,
    exists_is_looked_at: bool,
    conflict_repeated: bool,
    clean_up: CleanUp,
    deletes_first: bool,
    merged_has_copy: bool,
    layouts_claimed: bool,
    layout_mark_seen: bool,
    expiry_recorded_first: bool,
    expires_visible: bool,
    replay_after_finish: bool,
    replay_of_whole: bool,
    missing_is_not_uploaded: bool,
    missing_is_not_visible: bool,
    missing_by_rebuild: bool,
}

/// Files that vanish without a trace in the chains.
#[derive(Clone, Copy, PartialEq)]
enum Removal {
    /// Of records that are provably finished.
    Finished,
    /// Of rows past a retention.
    Past,
    /// Of anything that is visible.
    Any,
}

#[derive(Clone)]
struct Chain {
    rules: Rules,
    crashes: u8,
    late: u8,
    lost: u8,
    aborts: u8,
    marks: bool,
    ahead: bool,
    keepers: usize,
    merges: u8,
    expiries: u8,
    replays: u8,
    /// Files that the operator gives up.
    given_up: u8,
    removals: u8,
    removal: Removal,
    trims: bool,
    days: bool,
    owners: usize,
    specs_differ: bool,
}

#[derive(Clone, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    from: u8,
    to: u8,
    uploads: [Option<UploadId>; 2],
    spec: u8,
}

#[derive(Clone, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Layout {
    inputs: Vec<Key>,
    rows: u8,
    output: Option<UploadId>,
}

/// A request whose sender waits no longer.
#[derive(Clone, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Late {
    Record(u8, Record),
    Rebuild((u8, u8, u8), Option<UploadId>),
    Complete(UploadId),
    Abort(UploadId),
    Delete(Key),
}

#[derive(Clone, Hash)]
struct State {
    records: Vec<Option<Record>>,
    marks: u8,
    /// Slot, kind and generation; without an upload the file is given up.
    rebuilds: Vec<((u8, u8, u8), Option<UploadId>)>,
    uploads: Vec<(UploadId, u8)>,
    objects: Vec<(Key, u8)>,
    layouts: Vec<Layout>,
    layout_marks: u8,
    /// Layout records whose output was visible once.
    shown: u8,
    ledger: u8,
    trimmed: u8,
    past: u8,
    /// Rows that were removed or expired.
    removed: u8,
    /// Uploads that a clean-up aborted.
    cleaned: Vec<UploadId>,
    net: Vec<Late>,
    owners: Vec<Owner>,
    keepers: Vec<Keeper>,
    operator: Operator,
    made: [u8; 4],
    crashes: u8,
    late: u8,
    lost: u8,
    aborts: u8,
    removals: u8,
    merges: u8,
    expiries: u8,
    replays: u8,
    given_up: u8,
    wrong: Option<&'static str>,
}

/// The rows of one file of an interval.
fn rows(spec: u8, from: u8, to: u8, kind: u8) -> u8 {
    (from + 1..=to)
        .filter(|&row| u8::from(row == LETTER && spec == 0) == kind)
        .fold(0, |all, row| all | 1 << row)
}

impl State {
    fn tip(&self) -> Option<u8> {
        (1..=self.records.len() as u8)
            .rev()
            .find(|&slot| self.record(slot).is_some())
    }

    fn record(&self, slot: u8) -> Option<&Record> {
        self.records.get(slot as usize - 1).and_then(Option::as_ref)
    }

    fn marked(&self, slot: u8) -> bool {
        self.marks >> slot & 1 == 1
    }

    /// Whether it can be seen that all files of `slot` were visible once.
    fn is_finished(&self, slot: u8) -> bool {
        self.marked(slot) || self.tip().is_some_and(|tip| tip > slot)
    }

    fn upload(&mut self, maker: u8, key: Key, rows: u8) -> UploadId {
        let id = (key, maker, self.made[maker as usize]);
        self.made[maker as usize] += 1;
        self.uploads.push((id, rows));
        self.uploads.sort_unstable();
        id
    }

    fn is_open(&self, id: UploadId) -> bool {
        self.uploads.iter().any(|(open, _)| *open == id)
    }

    fn has(&self, key: Key) -> bool {
        self.objects.iter().any(|(there, _)| *there == key)
    }

    fn names_as_input(&self, kind: u8, from: u8, to: u8) -> bool {
        let same = |key: &Key| (key.0, key.1, key.2) == (kind, from, to);
        self.layouts
            .iter()
            .any(|layout| layout.inputs.iter().any(same))
    }

    /// The upload that counts for a file of a record; `None` for no such file, or one that was given up.
    fn newest_of(&self, slot: u8, kind: u8) -> Option<UploadId> {
        let rebuilds = self
            .rebuilds
            .iter()
            .filter(|(n, _)| (n.0, n.1) == (slot, kind));
        match rebuilds.max_by_key(|(name, _)| name.2) {
            Some((_, upload)) => *upload,
            None => self.record(slot)?.uploads[kind as usize],
        }
    }

    fn put_record(&mut self, slot: u8, record: &Record) -> bool {
        let place = slot as usize - 1;
        while self.records.len() <= place {
            self.records.push(None);
        }
        if self.records[place].is_some() {
            return false;
        }
        self.records[place] = Some(record.clone());
        if record
            .uploads
            .iter()
            .flatten()
            .any(|id| self.cleaned.contains(id))
        {
            self.wrong = Some("a record names an upload that a clean-up aborted");
        }
        true
    }

    fn put_rebuild(&mut self, name: (u8, u8, u8), upload: Option<UploadId>) -> bool {
        if self.rebuilds.iter().any(|(there, _)| *there == name) {
            return false;
        }
        self.rebuilds.push((name, upload));
        self.rebuilds.sort_unstable();
        true
    }

    fn complete(&mut self, id: UploadId) {
        let Some(at) = self.uploads.iter().position(|(open, _)| *open == id) else {
            return;
        };
        let (_, rows) = self.uploads.remove(at);
        let key = id.0;
        self.objects.retain(|(there, _)| *there != key);
        self.objects.push((key, rows));
        self.objects.sort_unstable();
        if key.0 == MERGED {
            self.shown |= 1 << key.1;
        }
        if rows & self.removed != 0 {
            self.wrong = Some("rows that were removed come back");
        }
    }

    fn abort(&mut self, id: UploadId) {
        self.uploads.retain(|(open, _)| *open != id);
    }

    fn clean(&mut self, id: UploadId) {
        let in_records = || {
            self.records
                .iter()
                .flatten()
                .flat_map(|r| r.uploads.iter().flatten())
        };
        let in_rebuilds = || {
            self.rebuilds
                .iter()
                .filter_map(|(_, upload)| upload.as_ref())
        };
        if in_records().chain(in_rebuilds()).any(|named| *named == id) && self.is_open(id) {
            self.wrong = Some("a clean-up aborts an upload that a record names");
        }
        if self.is_open(id) {
            self.abort(id);
            self.cleaned.push(id);
            self.cleaned.sort_unstable();
        }
    }

    fn delete(&mut self, key: Key) {
        self.objects.retain(|(there, _)| *there != key);
    }

    fn send_late(&mut self, request: Late) {
        self.late += 1;
        self.net.push(request);
        self.net.sort_unstable();
    }

    /// Rows that need not be visible.
    fn excused(&self) -> u8 {
        let mut excused = self.removed | self.past;
        for layout in self.layouts.iter().filter(|layout| layout.output.is_none()) {
            excused |= layout.rows;
        }
        for ((slot, kind, _), upload) in &self.rebuilds {
            if let (None, Some(record)) = (upload, self.record(*slot)) {
                excused |= rows(record.spec, record.from, record.to, *kind);
            }
        }
        for (index, layout) in self.layouts.iter().enumerate() {
            if layout.output.is_some() && self.shown >> index & 1 == 0 {
                excused |= layout.rows;
            }
        }
        excused
    }
}

impl Chain {
    fn world(&self, at: &State, steps: &mut Steps<State>) {
        for (index, request) in at.net.iter().enumerate() {
            let mut next = at.clone();
            next.net.remove(index);
            steps.add(|| format!("{} never lands", request.name()), next.clone());
            match request {
                Late::Record(slot, record) => {
                    next.put_record(*slot, record);
                }
                Late::Rebuild(name, upload) => {
                    next.put_rebuild(*name, *upload);
                }
                Late::Complete(id) => next.complete(*id),
                Late::Abort(id) => next.clean(*id),
                Late::Delete(key) => next.delete(*key),
            }
            steps.add(|| format!("{} lands late", request.name()), next);
        }
        if at.aborts < self.aborts {
            for (id, _) in &at.uploads {
                steps.change(
                    at,
                    || format!("the bucket's rule aborts the upload of {}", name(id.0)),
                    |next| {
                        next.aborts += 1;
                        next.abort(*id);
                    },
                );
            }
        }
        if self.trims && at.trimmed < at.ledger {
            steps.change(
                at,
                || format!("the source forgets up to {}", at.ledger),
                |next| {
                    next.trimmed = next.ledger;
                },
            );
        }
        if self.days && at.past == 0 && at.ledger > 0 {
            steps.change(
                at,
                || "the retention of row 1 passes".into(),
                |next| next.past = 1 << 1,
            );
        }
        if at.removals < self.removals {
            for (key, rows) in &at.objects {
                let of_finished = (1..=at.records.len() as u8).any(|slot| {
                    at.is_finished(slot)
                        && at
                            .record(slot)
                            .is_some_and(|r| (r.from, r.to) == (key.1, key.2))
                });
                let may = match self.removal {
                    Removal::Finished => of_finished && key.0 != MERGED,
                    Removal::Past => rows & !at.past == 0,
                    Removal::Any => true,
                };
                if may {
                    steps.change(
                        at,
                        || format!("{} is removed from outside", name(*key)),
                        |next| {
                            next.removals += 1;
                            next.removed |= rows;
                            next.delete(*key);
                        },
                    );
                }
            }
        }
        if !self.rules.slots_stay
            && let Some(slot) = (1..at.tip().unwrap_or(0)).find(|&slot| at.record(slot).is_some())
        {
            steps.change(
                at,
                || format!("slot {slot} is folded away"),
                |next| {
                    next.records[slot as usize - 1] = None;
                },
            );
        }
    }
}

impl Late {
    fn name(&self) -> String {
        match self {
            Late::Record(slot, record) => format!("the put of slot {slot} to {}", record.to),
            Late::Rebuild(..) => "the put of a rebuild".into(),
            Late::Complete(id) => format!("the completion of {}", name(id.0)),
            Late::Abort(id) => format!("the abort of {}", name(id.0)),
            Late::Delete(key) => format!("the removal of {}", name(*key)),
        }
    }
}

/// What a file is called in a trace.
fn name(key: Key) -> String {
    let (kind, from, to, generation) = key;
    let kind = ["rows", "letters", "merged"][kind as usize];
    let generation = if generation > 0 {
        format!(".g{generation}")
    } else {
        String::new()
    };
    format!("{kind}_{from}_{to}{generation}")
}

impl Model for Chain {
    type State = State;

    fn start(&self) -> State {
        State {
            records: Vec::new(),
            marks: 0,
            rebuilds: Vec::new(),
            uploads: Vec::new(),
            objects: Vec::new(),
            layouts: Vec::new(),
            layout_marks: 0,
            shown: 0,
            ledger: 0,
            trimmed: 0,
            past: 0,
            removed: 0,
            cleaned: Vec::new(),
            net: Vec::new(),
            owners: (0..self.owners).map(|_| Owner::down()).collect(),
            keepers: (0..self.keepers).map(|_| Keeper::idle()).collect(),
            operator: Operator::Idle,
            made: [0; 4],
            crashes: 0,
            late: 0,
            lost: 0,
            aborts: 0,
            removals: 0,
            merges: 0,
            expiries: 0,
            replays: 0,
            given_up: 0,
            wrong: None,
        }
    }

    fn steps(&self, at: &State, steps: &mut Steps<State>) {
        for who in 0..at.owners.len() {
            self.owner(at, who, steps);
        }
        for who in 0..at.keepers.len() {
            self.keeper(at, who, steps);
        }
        self.operator(at, steps);
        self.world(at, steps);
    }

    fn broken(&self, at: &State) -> Option<Broken> {
        if let Some(wrong) = at.wrong {
            return broken(Promise::NothingLost, wrong);
        }
        let mut visible = 0u8;
        for (key, rows) in &at.objects {
            if visible & rows != 0 {
                let what = format!("rows of {} are visible twice", name(*key));
                return broken(Promise::NothingDoubled, what);
            }
            visible |= rows;
        }
        let there = visible | at.excused();
        let lost = (1..=at.ledger).find(|row| there >> row & 1 == 0);
        lost.and_then(|row| {
            let what = format!("row {row} is behind the ledger and not in the lake");
            broken(Promise::NothingLost, what)
        })
    }

    fn is_end(&self, at: &State) -> bool {
        at.ledger == RECORDS
    }
}
