//! What a verification found.

use std::collections::BTreeMap;

use hydrant_core::Position;
use serde::Serialize;

use crate::lake::OriginSum;

/// The most findings of a kind that are told one by one.
pub const LISTED_MAX: usize = 100;

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// Something names it and it is not there.
    Missing,
    /// Its bytes are not what was written.
    Damaged,
    /// It is there and nothing names it.
    Foreign,
    /// It lies where something else belongs, or is named by a record of something else.
    Misplaced,
    /// A record does not follow the one before it.
    Discontinuous,
    /// Sums do not add up.
    Unbalanced,
    /// The newest record's files are not all visible yet.
    Unfinished,
    /// A staging that no record names.
    Leftover,
    /// Records were lost before they could be read.
    Gap,
}

impl ProblemKind {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            ProblemKind::Missing => "missing",
            ProblemKind::Damaged => "damaged",
            ProblemKind::Foreign => "foreign",
            ProblemKind::Misplaced => "misplaced",
            ProblemKind::Discontinuous => "discontinuous",
            ProblemKind::Unbalanced => "unbalanced",
            ProblemKind::Unfinished => "unfinished",
            ProblemKind::Leftover => "leftover",
            ProblemKind::Gap => "gap",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableProblem {
    /// What.
    pub kind: ProblemKind,
    /// Which object.
    pub place: String,
    /// In words.
    pub detail: String,
}

/// One chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// The stream, `name@incarnation`.
    pub stream: String,
    /// The shard.
    pub shard: String,
    /// Where reading began.
    pub start: Option<Position>,
    /// What is done.
    pub to: Option<Position>,
    /// Whether the shard has ended.
    pub ended: bool,
    /// Its records.
    pub records: u64,
    /// Units in.
    pub input: u64,
    /// Rows.
    pub rows: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Dropped by rules.
    pub dropped: u64,
    /// Duplicates.
    pub duplicates: u64,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// The table.
    pub table: String,
    /// Its chains.
    pub chains: Vec<ChainReport>,
    /// Units in: `rows + dead_letters + dropped + duplicates`.
    pub input: u64,
    /// Rows.
    pub rows: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Dropped by rules.
    pub dropped: u64,
    /// Duplicates.
    pub duplicates: u64,
    /// Rows in the default partition for want of a believable event time.
    pub untimed_rows: u64,
    /// Files that are visible, dead letters included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The number of the newest schema; 0 without one.
    pub schema: u64,
    /// Files with a schema before that; they are right, and readers need the line that unifies types.
    pub files_of_older_schemas: u64,
    /// The accounts of the stages before, by upstream shard.
    pub origins: Vec<OriginSum>,
    /// What makes the table wrong; of each kind the first [`LISTED_MAX`].
    pub problems: Vec<TableProblem>,
    /// How many problems there are of each kind.
    pub problem_counts: BTreeMap<ProblemKind, u64>,
    /// What an operator should know; of each kind the first [`LISTED_MAX`].
    pub warnings: Vec<TableProblem>,
    /// How many warnings there are of each kind.
    pub warning_counts: BTreeMap<ProblemKind, u64>,
}

impl TableReport {
    pub(super) fn new(table: &str) -> Self {
        TableReport {
            table: table.to_owned(),
            chains: Vec::new(),
            input: 0,
            rows: 0,
            dead_letters: 0,
            dropped: 0,
            duplicates: 0,
            untimed_rows: 0,
            files: 0,
            bytes: 0,
            schema: 0,
            files_of_older_schemas: 0,
            origins: Vec::new(),
            problems: Vec::new(),
            problem_counts: BTreeMap::new(),
            warnings: Vec::new(),
            warning_counts: BTreeMap::new(),
        }
    }

    /// Whether the table holds exactly what its chains say.
    pub fn is_good(&self) -> bool {
        self.problem_counts.is_empty()
    }

    /// How many problems there are, those that are not listed included.
    pub fn problem_count(&self) -> u64 {
        self.problem_counts.values().sum()
    }

    /// Takes up a chain and its counts.
    pub(super) fn add(&mut self, chain: ChainReport) {
        for (sum, amount) in [
            (&mut self.input, chain.input),
            (&mut self.rows, chain.rows),
            (&mut self.dead_letters, chain.dead_letters),
            (&mut self.dropped, chain.dropped),
            (&mut self.duplicates, chain.duplicates),
        ] {
            *sum = sum.saturating_add(amount);
        }
        self.chains.push(chain);
    }

    pub(super) fn problem(
        &mut self,
        kind: ProblemKind,
        place: impl Into<String>,
        detail: impl ToString,
    ) {
        let counted = self.problem_counts.entry(kind).or_default();
        list(&mut self.problems, counted, kind, place, detail);
    }

    pub(super) fn warning(
        &mut self,
        kind: ProblemKind,
        place: impl Into<String>,
        detail: impl ToString,
    ) {
        let counted = self.warning_counts.entry(kind).or_default();
        list(&mut self.warnings, counted, kind, place, detail);
    }
}

fn list(
    listed: &mut Vec<TableProblem>,
    counted: &mut u64,
    kind: ProblemKind,
    place: impl Into<String>,
    detail: impl ToString,
) {
    *counted += 1;
    if *counted <= LISTED_MAX as u64 {
        listed.push(TableProblem {
            kind,
            place: place.into(),
            detail: detail.to_string(),
        });
    }
}
