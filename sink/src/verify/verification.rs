//! A verification of one table under way.
//!
//! Owns the order of the checks: the files are listed first, the chains are read after, and what was missing is looked
//! at once more at the end.

mod chains;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hydrant_core::Result;
use hydrant_core::hash;
use hydrant_core::lake::{Object, Sealed, SharedLake};

use super::browse;
use super::files::{Expected, FileState, check};
use super::report::{ProblemKind, TableReport};
use crate::lake::{Commit, DataFileName, FileKind, OriginSum, RebuildRecord, TableNames};
use crate::schema::registry;

/// How thoroughly a table is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Whether every file is read. Otherwise only names and sizes are compared. Default: yes.
    pub contents: bool,
}

impl Default for Depth {
    fn default() -> Self {
        Depth { contents: true }
    }
}

/// Checks a table. The report holds everything that is wrong.
///
/// # Errors
/// Those of the lake, and [`hydrant_core::Error::NotFound`] when there is no such table.
pub async fn verify(lake: &SharedLake, names: &TableNames, depth: Depth) -> Result<TableReport> {
    let mut verification = Verification {
        lake: SharedLake::clone(lake),
        names: names.clone(),
        depth,
        report: TableReport::new(names.table()),
        unnamed: HashSet::new(),
        absent: Vec::new(),
        specs: BTreeSet::new(),
        row_files: BTreeMap::new(),
        origins: BTreeMap::new(),
    };
    // Every file that is listed now has a record already: a file becomes visible after the record that names it.
    verification.list().await?;
    verification.check_schemas().await?;
    verification.check_chains().await?;
    verification.check_absent().await?;
    verification.report_unnamed().await?;
    let report = verification.finish();
    if report.chains.is_empty() && report.is_good() {
        return Err(browse::missing(lake, names).await?);
    }
    Ok(report)
}

/// A verification under way.
struct Verification {
    lake: SharedLake,
    names: TableNames,
    depth: Depth,
    report: TableReport,
    /// The digests of the listed keys that no record has named so far.
    unnamed: HashSet<u64>,
    /// The files of newest records that were not found.
    absent: Vec<Expected>,
    /// The digests of the specs that were checked.
    specs: BTreeSet<String>,
    /// How many files of rows have each schema, by its number.
    row_files: BTreeMap<u64, u64>,
    /// The accounts of earlier stages, by writer and upstream shard.
    origins: BTreeMap<(String, String), OriginSum>,
}

/// A digest of a key, in eight bytes.
fn digest(key: &str) -> u64 {
    (hash::identity(&[key.as_bytes()]) >> 64) as u64
}

impl Verification {
    async fn list(&mut self) -> Result<()> {
        for prefix in [self.names.data(), self.names.dead_letters()] {
            let unnamed = &mut self.unnamed;
            let mut seen = |object: Object| {
                unnamed.insert(digest(&object.key));
            };
            self.lake.visit(&prefix, &mut seen).await?;
        }
        Ok(())
    }

    async fn check_schemas(&mut self) -> Result<()> {
        let (lake, names, report) = (&self.lake, &self.names, &mut self.report);
        let mut numbers = BTreeSet::new();
        for object in lake.list(&names.schemas()).await? {
            let Some(number) = names.schema_number(&object.key) else {
                report.problem(ProblemKind::Foreign, object.key, "it is not a schema");
                continue;
            };
            numbers.insert(number);
            if let Err(error) = registry::get(lake, names, number).await {
                report.problem(ProblemKind::Damaged, object.key, error.report());
            }
        }
        report.schema = numbers.last().copied().unwrap_or(0);
        let mut next = 1;
        for number in numbers {
            if next < number {
                let detail = format!(
                    "the schemas up to {} are missing, but schema {number} exists",
                    number - 1
                );
                report.problem(ProblemKind::Missing, names.schema(next), detail);
            }
            next = number.saturating_add(1);
        }
        Ok(())
    }

    async fn check_chains(&mut self) -> Result<()> {
        let commits = self.names.commits();
        for stream in self.lake.list_dirs(&commits).await? {
            let prefix = format!("{commits}{stream}/");
            for shard in self.lake.list_dirs(&prefix).await? {
                self.check_chain(&stream, &shard).await?;
            }
        }
        Ok(())
    }

    /// Adds what a record says of the table.
    async fn note(&mut self, commit: &Commit) -> Result<()> {
        if commit.schema > self.report.schema {
            let key = self.names.schema(commit.schema);
            // A sink may have put it since the schemas were listed.
            if self.lake.head(&key).await?.is_some() {
                self.report.schema = commit.schema;
            } else {
                let detail = "a commit record names it";
                self.report.problem(ProblemKind::Missing, key, detail);
            }
        }
        let files = commit.files_of(FileKind::Rows).count() as u64;
        *self.row_files.entry(commit.schema).or_default() += files;
        if !commit.files.is_empty() && !self.specs.contains(&commit.spec) {
            self.check_spec(&commit.spec).await?;
            self.specs.insert(commit.spec.clone());
        }
        for origin in &commit.origins {
            let key = (origin.writer.to_string(), origin.shard.to_string());
            match self.origins.get_mut(&key) {
                None => {
                    self.origins.insert(key, origin.clone());
                }
                Some(sum) => {
                    sum.input = sum.input.saturating_add(origin.input);
                    sum.records = sum.records.saturating_add(origin.records);
                    sum.dead_letters = sum.dead_letters.saturating_add(origin.dead_letters);
                    sum.dropped = sum.dropped.saturating_add(origin.dropped);
                }
            }
        }
        Ok(())
    }

    async fn check_spec(&mut self, digest: &str) -> Result<()> {
        let (key, report) = (self.names.spec(digest), &mut self.report);
        match self.lake.get(&key).await? {
            None => report.problem(ProblemKind::Missing, key, "a commit record names it"),
            Some(body) => {
                if let Err(error) = crate::table::spec::Spec::from_body(&key, &body) {
                    report.problem(ProblemKind::Damaged, key, error);
                }
            }
        }
        Ok(())
    }

    /// Adds the result of checking a file.
    fn add_file(&mut self, expected: Expected, state: FileState) {
        let Sealed { key, size, .. } = &expected.file.sealed;
        if !matches!(state, FileState::Absent) {
            self.unnamed.remove(&digest(key));
        }
        if matches!(state, FileState::Good | FileState::Wrong(..)) {
            self.report.files += 1;
            self.report.bytes += size;
        }
        match state {
            FileState::Good => {}
            FileState::Wrong(kind, detail) => self.report.problem(kind, key, detail),
            FileState::OtherSize(found) => {
                let detail = format!("it has {found} bytes instead of {size}");
                self.report.problem(ProblemKind::Damaged, key, detail);
            }
            FileState::Absent if expected.tip.is_some() => self.absent.push(expected),
            FileState::Absent => {
                let detail = "a commit record names it";
                self.report.problem(ProblemKind::Missing, key, detail);
            }
        }
    }

    /// Distinguishes files of newest records that are not visible yet from files that are missing, and reports uploads
    /// that are left over.
    async fn check_absent(&mut self) -> Result<()> {
        // Uploads are listed first: the file of an upload that is not listed any more is visible, or never will be.
        let mut uploads = self.list_uploads().await?;
        let mut awaited = BTreeSet::new();
        let mut absent = std::mem::take(&mut self.absent);
        while let Some(expected) = absent.pop() {
            let lake = SharedLake::clone(&self.lake);
            let (expected, state) = check(lake, expected, self.depth.contents).await?;
            let Sealed { key, upload, .. } = &expected.file.sealed;
            match state {
                FileState::Absent if uploads.contains_key(upload) => {
                    awaited.insert(upload.clone());
                    self.report.warning(
                        ProblemKind::Unfinished,
                        key,
                        "the newest record names it and it is not visible yet: the next sink that takes over the \
                         shard finishes it",
                    );
                }
                FileState::Absent => match self.rebuilt_since(&expected).await? {
                    Some(rebuilt) => {
                        uploads = self.list_uploads().await?;
                        absent.push(rebuilt);
                    }
                    None => self.report.problem(
                        ProblemKind::Missing,
                        key,
                        "the newest record names it, and neither the file nor its upload exists: the next sink that takes \
                         over the shard rebuilds it from the stream",
                    ),
                },
                state => self.add_file(expected, state),
            }
        }
        let dead_letters = self.names.dead_letters();
        let data = self.names.data();
        for (upload, key) in uploads {
            let ours = key.starts_with(&data) || key.starts_with(&dead_letters);
            if ours && !awaited.contains(&upload) {
                self.report.warning(
                    ProblemKind::Leftover,
                    upload,
                    "it is uploaded but no commit record names it: a publish is running or was interrupted",
                );
            }
        }
        Ok(())
    }

    async fn list_uploads(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.lake.list_uploads().await?.into_iter().collect())
    }

    /// The file that replaces a file of a newest record, if it was rebuilt since its chain was read.
    async fn rebuilt_since(&self, absent: &Expected) -> Result<Option<Expected>> {
        let name = DataFileName::of(&absent.file.sealed.key);
        let (Some(tip), Some((_, name))) = (&absent.tip, name) else {
            return Ok(None);
        };
        let key = tip.chain.rebuild(tip.slot, tip.index, name.generation + 1);
        let Some(body) = self.lake.get(&key).await? else {
            return Ok(None);
        };
        let record = RebuildRecord::from_body(&key, &body)?;
        Ok(Some(Expected {
            file: record.file,
            tip: absent.tip.clone(),
        }))
    }

    /// Reports the files that were listed and that no record names.
    async fn report_unnamed(&mut self) -> Result<()> {
        if self.unnamed.is_empty() {
            return Ok(());
        }
        for prefix in [self.names.data(), self.names.dead_letters()] {
            let (unnamed, report) = (&mut self.unnamed, &mut self.report);
            let mut seen = |object: Object| {
                if unnamed.remove(&digest(&object.key)) {
                    let detail = "no commit record names it";
                    report.problem(ProblemKind::Foreign, object.key, detail);
                }
            };
            self.lake.visit(&prefix, &mut seen).await?;
        }
        Ok(())
    }

    fn finish(self) -> TableReport {
        let mut report = self.report;
        let older = self.row_files.range(..report.schema);
        report.files_of_older_schemas = older.map(|(_, files)| files).sum();
        for origin in self.origins.into_values() {
            if !origin.balances() {
                let place = format!("shard `{}` of writer {}", origin.shard, origin.writer);
                let detail = format!(
                    "{} upstream units in, but {} records + {} dead letters + {} dropped",
                    origin.input, origin.records, origin.dead_letters, origin.dropped,
                );
                report.problem(ProblemKind::Unbalanced, place, detail);
            }
            report.origins.push(origin);
        }
        report
    }
}
