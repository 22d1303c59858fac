//! The commit chains of a table, read from their beginning.

use hydrant_core::lake::SharedLake;
use hydrant_core::{Position, Result};

use super::report::{ChainReport, ProblemKind, Report};
use crate::lake::{Commit, FileKind, Genesis, TableNames, unseal_body};

/// A chain as it was found.
pub(super) struct Walk {
    /// The prefix of its objects.
    pub(super) dir: String,
    /// The readable records with their keys, oldest first.
    pub(super) commits: Vec<(String, Commit)>,
}

impl Walk {
    /// The newest record.
    pub(super) fn tip(&self) -> Option<&Commit> {
        self.commits.last().map(|(_, commit)| commit)
    }
}

pub(super) async fn walk_chains(
    lake: &SharedLake,
    names: &TableNames,
    report: &mut Report,
) -> Result<Vec<Walk>> {
    let mut walks = Vec::new();
    for stream in lake.list_dirs(&names.commits()).await? {
        let prefix = format!("{}{stream}/", names.commits());
        for shard in lake.list_dirs(&prefix).await? {
            walks.push(walk_chain(lake, format!("{prefix}{shard}/"), report).await?);
        }
    }
    Ok(walks)
}

async fn walk_chain(lake: &SharedLake, dir: String, report: &mut Report) -> Result<Walk> {
    let genesis = read_genesis(lake, &dir, report).await?;
    let records = format!("{dir}r/");
    let mut slots = Vec::new();
    for object in lake.list(&records, None).await? {
        match TableNames::slot_of(&records, &object.key) {
            Some(slot) => slots.push((slot, object.key)),
            None => report.problem(ProblemKind::Foreign, object.key, "it is no commit record"),
        }
    }
    slots.sort();
    let mut walk = Walk {
        dir,
        commits: Vec::new(),
    };
    let mut next_slot = 1;
    // `None` after a record that could not be read: what follows is compared with nothing.
    let mut to = genesis.as_ref().map(|genesis| genesis.start);
    for (slot, key) in slots {
        for missing in next_slot..slot {
            let place = format!("{records}{}", TableNames::record_name(missing));
            report.problem(ProblemKind::Missing, place, format!("slot {slot} exists"));
            to = None;
        }
        next_slot = slot + 1;
        let Some(body) = lake.get(&key).await? else {
            report.problem(ProblemKind::Missing, key, "it was listed a moment ago");
            to = None;
            continue;
        };
        let commit = match Commit::from_body(&key, &body) {
            Ok(commit) => commit,
            Err(error) => {
                report.problem(ProblemKind::Damaged, key, error);
                to = None;
                continue;
            }
        };
        to = check_commit(&walk, slot, &key, &commit, to, report);
        walk.commits.push((key, commit));
    }
    report_chain(&walk, genesis.as_ref(), report);
    Ok(walk)
}

async fn read_genesis(
    lake: &SharedLake,
    dir: &str,
    report: &mut Report,
) -> Result<Option<Genesis>> {
    let key = format!("{dir}genesis.json");
    let Some(body) = lake.get(&key).await? else {
        report.problem(ProblemKind::Missing, key, "a chain begins with it");
        return Ok(None);
    };
    match unseal_body::<Genesis>(&key, &body, 1) {
        Ok(genesis) => Ok(Some(genesis)),
        Err(error) => {
            report.problem(ProblemKind::Damaged, key, error);
            Ok(None)
        }
    }
}

/// Checks one record and answers where the next one must start.
fn check_commit(
    walk: &Walk,
    slot: u64,
    key: &str,
    commit: &Commit,
    before: Option<Position>,
    report: &mut Report,
) -> Option<Position> {
    let interval = match commit.interval(key) {
        Ok(interval) => interval,
        Err(error) => {
            report.problem(ProblemKind::Damaged, key, error);
            return None;
        }
    };
    if commit.slot != slot {
        let detail = format!("it says that it is slot {}", commit.slot);
        report.problem(ProblemKind::Discontinuous, key, detail);
    }
    if let Some(tip) = walk.tip() {
        let other = tip.stream != commit.stream
            || tip
                .intervals
                .first()
                .is_some_and(|first| first.shard != interval.shard);
        if other {
            report.problem(ProblemKind::Discontinuous, key, "it is of another chain");
        }
    }
    if before == Some(Position::End) {
        report.problem(
            ProblemKind::Discontinuous,
            key,
            "it follows the end of the shard",
        );
    } else if before.is_some_and(|before| before != interval.from) {
        let before = before.unwrap_or_default();
        let detail = format!(
            "it starts after {} but the one before ends at {before}",
            interval.from
        );
        report.problem(ProblemKind::Discontinuous, key, detail);
    }
    if let Err(error) = commit.counts.check(key) {
        report.problem(ProblemKind::Unbalanced, key, error);
    }
    for (kind, counted, what) in [
        (FileKind::Rows, commit.counts.rows, "rows"),
        (
            FileKind::DeadLetters,
            commit.counts.letters(),
            "dead letters",
        ),
    ] {
        let in_files: u64 = commit.files_of(kind).map(|file| file.rows).sum();
        if in_files != counted {
            let detail = format!("its files hold {in_files} {what}, it counts {counted}");
            report.problem(ProblemKind::Unbalanced, key, detail);
        }
    }
    for gap in &commit.gaps {
        let detail = format!(
            "({}, {}] was lost before it was read: {}",
            gap.from, gap.to, gap.why
        );
        report.warning(ProblemKind::Gap, key, detail);
    }
    Some(interval.to)
}

fn report_chain(walk: &Walk, genesis: Option<&Genesis>, report: &mut Report) {
    let mut parts = walk.dir.trim_end_matches('/').rsplit('/');
    let (shard, stream) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut chain = ChainReport {
        stream: stream.to_owned(),
        shard: shard.to_owned(),
        start: genesis.map(|genesis| genesis.start),
        to: walk
            .tip()
            .and_then(|tip| tip.intervals.last())
            .map(|interval| interval.to),
        ended: walk.tip().is_some_and(|tip| tip.end),
        records: walk.commits.len() as u64,
        input: 0,
        rows: 0,
        dead_letters: 0,
        dropped: 0,
        duplicates: 0,
    };
    for (_, commit) in &walk.commits {
        let counts = &commit.counts;
        chain.input += counts.input;
        chain.rows += counts.rows;
        chain.dead_letters += counts.letters();
        chain.dropped += counts.dropped_units();
        chain.duplicates += counts.duplicates;
        report.untimed_rows += counts.untimed_rows;
    }
    report.input += chain.input;
    report.rows += chain.rows;
    report.dead_letters += chain.dead_letters;
    report.dropped += chain.dropped;
    report.duplicates += chain.duplicates;
    report.chains.push(chain);
}
