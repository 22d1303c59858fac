//! The report of a verification.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hydrant_core::Position;
use serde::Serialize;

use crate::lake::{FileKind, OriginSum, UntimedRows};

/// The most problems of a kind that are listed; the others are only counted.
pub const LISTED_MAX: usize = 100;

/// The kind of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ProblemKind {
    /// A record names an object that does not exist.
    Missing,
    /// The bytes of an object are not those that were written.
    Damaged,
    /// An object exists that no record names.
    Foreign,
    /// An object has the name of another one, or a record of another chain names it.
    Misplaced,
    /// A record does not follow the one before it.
    Discontinuous,
    /// Sums do not add up.
    Unbalanced,
    /// A file of the newest record is not visible yet, or not removed yet.
    Unfinished,
    /// A file that was removed is there.
    Returned,
    /// Rows are gone for good, because their file vanished and the stream no longer had their records.
    Lost,
    /// An upload that no record names.
    Leftover,
    /// Records were lost before they could be read.
    Gap,
}

impl fmt::Display for ProblemKind {
    /// Writes the name of the kind, which is one word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// Something that is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableProblem {
    /// The kind of the problem.
    pub kind: ProblemKind,
    /// The object.
    pub place: String,
    /// What is wrong with the object.
    pub detail: String,
}

/// How many units there are, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnitCounts {
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
}

impl UnitCounts {
    /// Adds other counts.
    pub(super) fn add(&mut self, other: UnitCounts) {
        for (sum, amount) in [
            (&mut self.input, other.input),
            (&mut self.rows, other.rows),
            (&mut self.dead_letters, other.dead_letters),
            (&mut self.dropped, other.dropped),
            (&mut self.duplicates, other.duplicates),
        ] {
            *sum = sum.saturating_add(amount);
        }
    }
}

/// Rows and dead letters that were published and are no longer in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GoneUnits {
    /// Files.
    pub files: u64,
    /// Rows.
    pub rows: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

impl GoneUnits {
    pub(super) fn add(&mut self, kind: FileKind, rows: u64) {
        let sum = match kind {
            FileKind::Rows => &mut self.rows,
            FileKind::DeadLetters => &mut self.dead_letters,
        };
        *sum = sum.saturating_add(rows);
    }
}

/// The counts of one chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// The stream, `name@incarnation`.
    pub stream: String,
    /// The shard.
    pub shard: String,
    /// The position after which reading began.
    pub start: Option<Position>,
    /// The position up to which everything is published.
    pub to: Option<Position>,
    /// Whether the shard has ended.
    pub ended: bool,
    /// Commit records.
    pub records: u64,
    /// Its units.
    #[serde(flatten)]
    pub units: UnitCounts,
}

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// The table.
    pub table: String,
    /// Its chains.
    pub chains: Vec<ChainReport>,
    /// The units of all chains.
    #[serde(flatten)]
    pub units: UnitCounts,
    /// What was removed on purpose: expired, past a declared retention, or given up by an operator. The units of all chains
    /// count it.
    pub expired: GoneUnits,
    /// What vanished and could not be made again. The units of all chains count it.
    pub lost: GoneUnits,
    /// Rows in the default partition because they have no believable event time, by reason.
    pub untimed_rows: UntimedRows,
    /// Values that no column took, which are in the column of rescued values.
    pub rescued_values: u64,
    /// Files that are visible, dead letters included.
    pub files: u64,
    /// The bytes of the files.
    pub bytes: u64,
    /// The number of the newest schema; 0 without one.
    pub schema: u64,
    /// Files with an older schema. They are correct, but readers must unify the types of columns by name.
    pub files_of_older_schemas: u64,
    /// The accounts of earlier stages, by upstream shard.
    pub origins: Vec<OriginSum>,
    /// The problems that make the table wrong; of each kind the first [`LISTED_MAX`].
    pub problems: Vec<TableProblem>,
    /// How many problems there are of each kind.
    pub problem_counts: BTreeMap<ProblemKind, u64>,
    /// The problems that an operator should know of although the table is right; of each kind the first [`LISTED_MAX`].
    pub warnings: Vec<TableProblem>,
    /// How many warnings there are of each kind.
    pub warning_counts: BTreeMap<ProblemKind, u64>,
    /// What to do about problems and warnings, once for all of them.
    pub remedies: BTreeSet<String>,
}

impl TableReport {
    pub(super) fn new(table: &str) -> Self {
        TableReport {
            table: table.to_owned(),
            ..TableReport::default()
        }
    }

    /// Whether the table holds exactly what its chains say.
    pub fn is_good(&self) -> bool {
        self.problem_counts.is_empty()
    }

    /// The number of problems, including those that are not listed.
    pub fn problem_count(&self) -> u64 {
        self.problem_counts.values().sum()
    }

    /// Adds a chain and its counts.
    pub(super) fn add(&mut self, chain: ChainReport) {
        self.units.add(chain.units);
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
