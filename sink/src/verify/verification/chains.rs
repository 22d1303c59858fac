//! The check of a commit chain, which is read from its beginning, record by record.

use bytes::Bytes;
use futures::stream::{self, FuturesOrdered, StreamExt as _};
use hydrant_core::lake::{Object, SharedLake};
use hydrant_core::{Position, Result};

use super::{ABSENT_MAX, Verification};
use crate::lake::slots::DoneMark;
use crate::lake::{
    ChainNames, Commit, Genesis, ShardInterval, TableNames, sealed_crc, unseal_body,
};
use crate::verify::files::{Expected, TipFile, check};
use crate::verify::report::{ChainReport, ProblemKind, TableReport, UnitCounts};
use crate::verify::slots::Slots;

/// How many records are read at a time.
const RECORDS_AT_ONCE: usize = 16;

/// How many files are looked for, and read whole, at a time.
const FILES_AT_ONCE: usize = 4;

/// The directory of a chain and the names in it.
pub(super) struct ChainDir {
    stream: String,
    shard: String,
    pub(super) dir: String,
    /// The prefix of the records of what became of its vanished files.
    pub(super) rebuilds: String,
}

/// The state of reading a chain.
struct ChainWalk {
    report: ChainReport,
    /// The position after which the next record must start. `None` after a record that could not be read: the next
    /// record is not compared with it.
    to: Option<Position>,
}

impl Verification {
    pub(super) async fn check_chain(&mut self, stream: &str, shard: &str) -> Result<()> {
        let place = ChainDir {
            dir: format!("{}{stream}/{shard}/", self.names.commits()),
            rebuilds: format!("{}{stream}/{shard}/", self.names.rebuilds()),
            stream: stream.to_owned(),
            shard: shard.to_owned(),
        };
        let records = format!("{}r/", place.dir);
        let (slots, marked) = self.list_slots(&records).await?;
        let genesis = self.read_genesis(&place, &slots).await?;
        if genesis.is_none() && slots.is_empty() {
            return Ok(());
        }
        // Rebuilds are rare: one listing for each chain instead of one for each record.
        let mut rebuilt = self.read_rebuilds(&place).await?;
        let mut walk = ChainWalk::new(&place, genesis.as_ref());
        let mut checks = FuturesOrdered::new();
        let mut next = 1;
        for (first, last) in slots.ranges() {
            if next < first {
                let key = format!("{records}{}", TableNames::record_name(next));
                let detail = format!(
                    "slots {next} to {} are missing, but slot {first} exists",
                    first - 1
                );
                self.report.problem(ProblemKind::Missing, key, detail);
                walk.to = None;
            }
            next = last.saturating_add(1);
            let (lake, prefix) = (SharedLake::clone(&self.lake), records.clone());
            let bodies = (first..=last).map(move |slot| {
                let key = format!("{prefix}{}", TableNames::record_name(slot));
                read(SharedLake::clone(&lake), slot, key)
            });
            let mut bodies = stream::iter(bodies).buffered(RECORDS_AT_ONCE);
            while let Some(read) = bodies.next().await {
                let (slot, key, body) = read?;
                let Some(commit) = self.check_record(&place, &mut walk, slot, &key, body) else {
                    continue;
                };
                self.note(&commit).await?;
                // A record behind a hole may be a stray object: the record before the hole may be the newest.
                let tip = (slot == last && marked != Some(slot))
                    .then(|| self.names.chain(&commit.stream, &commit.interval().shard));
                let (newest, made) = (commit.times().max, commit.made);
                let &ShardInterval { from, to, .. } = commit.interval();
                for (index, recorded) in commit.files.iter().enumerate() {
                    let decided = self.decided(&mut rebuilt, &place, (slot, index), recorded);
                    let tip = tip.clone().map(|chain| TipFile {
                        chain,
                        slot,
                        index,
                        made,
                    });
                    let expected = Expected {
                        recorded: recorded.clone(),
                        rebuilt: decided,
                        from,
                        to,
                        newest,
                        made,
                        tip,
                    };
                    if expected.is_given_up() {
                        self.check_given_up(&expected).await?;
                        continue;
                    }
                    let lake = SharedLake::clone(&self.lake);
                    checks.push_back(check(lake, expected, self.depth.contents));
                    if checks.len() >= FILES_AT_ONCE
                        && let Some(checked) = checks.next().await
                    {
                        let (expected, state) = checked?;
                        self.add_file(expected, state);
                    }
                }
                if self.absent.len() >= ABSENT_MAX {
                    self.check_absent().await?;
                }
            }
        }
        let last = slots.ranges().last().map_or(0, |(_, last)| last);
        self.check_unasked(&place, rebuilt, last).await?;
        if let Some(slot) = marked {
            self.check_mark(&records, slot, &slots).await?;
        }
        while let Some(checked) = checks.next().await {
            let (expected, state) = checked?;
            self.add_file(expected, state);
        }
        self.report.add(walk.report);
        Ok(())
    }

    /// Reads the object that is put before the first record, in a directory that was made before.
    async fn read_genesis(&mut self, place: &ChainDir, slots: &Slots) -> Result<Option<Genesis>> {
        let key = format!("{}genesis.json", place.dir);
        let Some(body) = self.lake.get(&key).await? else {
            if !slots.is_empty() {
                let detail = "every chain begins with this object";
                self.report.problem(ProblemKind::Missing, key, detail);
            }
            return Ok(None);
        };
        let genesis = match unseal_body::<Genesis>(&key, &body, 1) {
            Ok(genesis) => genesis,
            Err(error) => {
                self.report.problem(ProblemKind::Damaged, key, error);
                return Ok(None);
            }
        };
        let chain = self.names.chain(&genesis.stream, &genesis.shard);
        if chain.dir == place.dir {
            return Ok(Some(genesis));
        }
        let detail = belongs_to(&chain);
        self.report.problem(ProblemKind::Misplaced, key, detail);
        Ok(None)
    }

    /// The slots that have a record, and the newest one that has a mark.
    async fn list_slots(&mut self, records: &str) -> Result<(Slots, Option<u64>)> {
        let (mut slots, mut marked, report) = (Slots::default(), None, &mut self.report);
        let mut seen = |object: Object| match TableNames::slot_of(records, &object.key) {
            Some(slot) if slot > 0 => slots.insert(slot),
            _ => match TableNames::marked_slot_of(records, &object.key) {
                Some(slot) if slot > 0 => marked = marked.max(Some(slot)),
                _ => {
                    let detail = "it is not a commit record";
                    report.problem(ProblemKind::Foreign, object.key, detail);
                }
            },
        };
        self.lake.visit(records, &mut seen).await?;
        Ok((slots, marked))
    }

    /// Checks that the newest mark belongs to its record. A mark may be put while the table is verified, and so may its
    /// record.
    async fn check_mark(&mut self, records: &str, slot: u64, slots: &Slots) -> Result<()> {
        let key = format!("{records}{}", TableNames::mark_name(slot));
        let record = format!("{records}{}", TableNames::record_name(slot));
        let (Some(mark), record) = (self.lake.get(&key).await?, self.lake.get(&record).await?)
        else {
            return Ok(());
        };
        let report = &mut self.report;
        match (DoneMark::from_body(&key, &mark), record) {
            (Err(error), _) => report.problem(ProblemKind::Damaged, key, error),
            (Ok(mark), Some(record)) if mark.record == sealed_crc(&record) => {}
            (Ok(_), None) if slots.ranges().any(|(_, last)| last >= slot) => {}
            (Ok(_), None) => report.problem(ProblemKind::Foreign, key, "its record does not exist"),
            (Ok(_), Some(_)) => {
                let detail =
                    "it is the mark of another record: what it says of this one is not proven";
                report.problem(ProblemKind::Misplaced, key, detail);
            }
        }
        Ok(())
    }

    /// Checks one record and counts it; `None` when the record cannot be read or belongs to another chain.
    fn check_record(
        &mut self,
        place: &ChainDir,
        walk: &mut ChainWalk,
        slot: u64,
        key: &str,
        body: Option<Bytes>,
    ) -> Option<Commit> {
        let before = walk.to.take();
        let report = &mut self.report;
        let Some(body) = body else {
            report.problem(
                ProblemKind::Missing,
                key,
                "it was removed while the table was being verified",
            );
            return None;
        };
        let commit = match Commit::from_body(key, &body) {
            Ok(commit) => commit,
            Err(error) => {
                report.problem(ProblemKind::Damaged, key, error);
                return None;
            }
        };
        let interval = commit.interval();
        let chain = self.names.chain(&commit.stream, &interval.shard);
        if chain.dir != place.dir {
            report.problem(ProblemKind::Misplaced, key, belongs_to(&chain));
            return None;
        }
        if commit.slot != slot {
            let detail = format!("it says that its slot is {}", commit.slot);
            report.problem(ProblemKind::Discontinuous, key, detail);
        }
        match before {
            Some(Position::End) => {
                let detail = "it follows the end of the shard";
                report.problem(ProblemKind::Discontinuous, key, detail);
            }
            Some(before) if before != interval.from => {
                let detail = format!(
                    "it starts after {}, but the record before it ends at {before}",
                    interval.from
                );
                report.problem(ProblemKind::Discontinuous, key, detail);
            }
            _ => {}
        }
        for (index, file) in commit.files.iter().enumerate() {
            if !chain.is_file(file, interval.from, interval.to, index) {
                let detail = format!("`{key}` names it, but it has the name of another file");
                report.problem(ProblemKind::Misplaced, file.sealed.key.clone(), detail);
            }
        }
        check_sums(key, &commit, report);
        walk.to = Some(interval.to);
        walk.report.count(&commit, interval.to);
        let rescued = commit.rescued_values();
        report.rescued_values = report.rescued_values.saturating_add(rescued);
        for (reason, rows) in &commit.counts.untimed_rows {
            let sum = report.untimed_rows.entry(*reason).or_default();
            *sum = sum.saturating_add(*rows);
        }
        Some(commit)
    }
}

async fn read(lake: SharedLake, slot: u64, key: String) -> Result<(u64, String, Option<Bytes>)> {
    let body = lake.get(&key).await?;
    Ok((slot, key, body))
}

fn belongs_to(chain: &ChainNames) -> String {
    format!("it belongs to the chain `{}`", chain.dir)
}

fn check_sums(key: &str, commit: &Commit, report: &mut TableReport) {
    if let Err(error) = commit.counts.check(key) {
        report.problem(ProblemKind::Unbalanced, key, error);
    }
    for (what, held, counted) in commit.miscounted() {
        let detail = format!("its files hold {held} {what}, but it counts {counted}");
        report.problem(ProblemKind::Unbalanced, key, detail);
    }
    for gap in &commit.gaps {
        let detail = format!(
            "the records in ({}, {}] were lost before they were read: {}",
            gap.from, gap.to, gap.why
        );
        report.warning(ProblemKind::Gap, key, detail);
    }
}

impl ChainWalk {
    fn new(place: &ChainDir, genesis: Option<&Genesis>) -> Self {
        let start = genesis.map(|genesis| genesis.start);
        ChainWalk {
            report: ChainReport {
                stream: place.stream.clone(),
                shard: place.shard.clone(),
                start,
                ..ChainReport::default()
            },
            to: start,
        }
    }
}

impl ChainReport {
    fn count(&mut self, commit: &Commit, to: Position) {
        let counts = &commit.counts;
        self.to = Some(to);
        self.ended = commit.end;
        self.records += 1;
        self.units.add(UnitCounts {
            input: counts.input,
            rows: counts.rows,
            dead_letters: counts.dead_letters(),
            dropped: counts.dropped_units(),
            duplicates: counts.duplicates,
        });
    }
}
