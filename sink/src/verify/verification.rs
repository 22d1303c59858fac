//! A verification of one table under way.
//!
//! Owns the order of the checks: the files are listed first, the chains are read after, and what was missing is looked
//! at once more at the end.

mod chains;
mod rebuilds;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hydrant_core::Result;
use hydrant_core::lake::{Object, Sealed, SharedLake};

use super::browse;
use super::files::{Expected, FileState, check};
use super::removed::RemovedFiles;
use super::report::{ProblemKind, TableReport};
use crate::lake::layout::key_digest;
use crate::lake::{Commit, CommitFile, FileKind, OriginSum, TableNames, TableRetention};
use crate::schema::registry;

/// How thoroughly a table is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Whether every file is read. Otherwise only names and sizes are compared. Default: yes.
    pub contents: bool,
    /// The time now, in microseconds since 1970, by which retentions and unfinished records are judged. Default: unknown;
    /// then nothing is past a retention, and no unfinished record is old.
    pub now: Option<i64>,
}

impl Default for Depth {
    fn default() -> Self {
        Depth {
            contents: true,
            now: None,
        }
    }
}

/// How long the newest record may be unfinished: an idle sink finishes it at once, and a dead one should be started.
const UNFINISHED_MAX: i64 = 3_600_000_000;

/// How many files that were not found are held until they are looked for again.
const ABSENT_MAX: usize = 10_000;

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
        awaited: BTreeSet::new(),
        removed: RemovedFiles::default(),
        retention: TableRetention::default(),
        specs: BTreeSet::new(),
        row_files: BTreeMap::new(),
        origins: BTreeMap::new(),
    };
    // Every file that is listed now has a record already: a file becomes visible after the record that names it.
    verification.list().await?;
    verification.check_schemas().await?;
    verification.read_retention().await?;
    verification.read_removed().await?;
    verification.check_chains().await?;
    verification.check_stray_rebuilds().await?;
    verification.check_absent().await?;
    verification.check_uploads().await?;
    verification.report_unnamed().await?;
    let report = verification.finish();
    if report.chains.is_empty() && report.is_good() {
        return Err(browse::missing(lake, names).await?);
    }
    Ok(report)
}

/// What to do about files that were removed and are there.
const RETURNED: &str = "returned: remove the files that are there again, their rows count as gone";

/// A verification under way.
struct Verification {
    lake: SharedLake,
    names: TableNames,
    depth: Depth,
    report: TableReport,
    /// The digests of the listed keys that no record has named so far.
    unnamed: HashSet<u64>,
    /// The files that were not found, and that no known layout record names.
    absent: Vec<Expected>,
    /// The uploads of unfinished records.
    awaited: BTreeSet<String>,
    removed: RemovedFiles,
    retention: TableRetention,
    /// The digests of the specs that were checked.
    specs: BTreeSet<String>,
    /// How many files of rows have each schema, by its number.
    row_files: BTreeMap<u64, u64>,
    /// The accounts of earlier stages, by writer and upstream shard.
    origins: BTreeMap<(String, String), OriginSum>,
}

impl Verification {
    async fn list(&mut self) -> Result<()> {
        for prefix in [self.names.data(), self.names.dead_letters()] {
            let unnamed = &mut self.unnamed;
            let mut seen = |object: Object| {
                unnamed.insert(key_digest(&object.key));
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

    async fn read_retention(&mut self) -> Result<()> {
        match TableRetention::read(&self.lake, &self.names).await {
            Ok(retention) => self.retention = retention,
            Err(error) => {
                let place = self.names.settings();
                self.report
                    .problem(ProblemKind::Damaged, place, error.report());
            }
        }
        Ok(())
    }

    /// Reads the layout records that were added since; returns whether there were any.
    async fn read_removed(&mut self) -> Result<bool> {
        let (lake, names) = (&self.lake, &self.names);
        self.removed.read_on(lake, names, &mut self.report).await
    }

    /// Says what to do, once for all that it is about.
    fn advise(&mut self, remedy: impl Into<String>) {
        self.report.remedies.insert(remedy.into());
    }

    /// The command that accepts that files are gone.
    fn accept_missing(&self) -> String {
        let (url, table) = (self.lake.url(), self.names.table());
        format!("`hydrant lake expire {url} --table {table} --missing`")
    }

    /// Adds the result of checking a file.
    fn add_file(&mut self, expected: Expected, state: FileState) {
        let Sealed { key, size, .. } = &expected.file().sealed;
        if !matches!(state, FileState::Absent) {
            self.add_lost(&expected);
            self.unnamed.remove(&key_digest(key));
            self.report.files += 1;
            self.report.bytes += size;
            self.check_removed(key);
        }
        let is_damaged = matches!(
            state,
            FileState::Wrong(ProblemKind::Damaged, _) | FileState::OtherSize(_)
        );
        if is_damaged {
            let accept = self.accept_missing();
            self.advise(format!(
                "damaged: restore the files from a copy; without one, remove them and accept the loss with {accept}"
            ));
        }
        match state {
            FileState::Good => {}
            FileState::Wrong(kind, detail) => self.report.problem(kind, key, detail),
            FileState::OtherSize(found) => {
                let detail = format!("it has {found} bytes instead of {size}");
                self.report.problem(ProblemKind::Damaged, key, detail);
            }
            FileState::Absent if self.removed.has(key) => self.add_expired(&expected),
            FileState::Absent => self.absent.push(expected),
        }
    }

    /// Counts a file that was taken away, and what was lost of it before.
    fn add_expired(&mut self, expected: &Expected) {
        let CommitFile { kind, rows, .. } = expected.file();
        self.report.expired.files += 1;
        self.report.expired.add(*kind, *rows);
        self.add_lost(expected);
    }

    /// Reports a file that is there although a layout record took it away.
    fn check_removed(&mut self, key: &str) {
        if !self.removed.has(key) {
        } else if self.removed.is_pending(key) {
            let detail = "the newest layout record takes it away and it is still there";
            self.report.warning(ProblemKind::Unfinished, key, detail);
            let (url, table) = (self.lake.url(), self.names.table());
            self.advise(format!(
                "unfinished: a removal that was interrupted is completed by the next one, such as `hydrant lake expire {url} \
                 --table {table} --before 2000-01-01`"
            ));
        } else {
            let detail = "a layout record took it away, and it is there again";
            self.report.problem(ProblemKind::Returned, key, detail);
            self.advise(RETURNED);
        }
    }

    /// Tells files that are not there apart: on their way, replaced, removed on purpose, or missing. Uploads are listed
    /// first: the file of an upload that is not listed any more is visible, or never will be. The layout is read last:
    /// whoever removes a file names it there before.
    async fn check_absent(&mut self) -> Result<()> {
        let mut absent = std::mem::take(&mut self.absent);
        if absent.is_empty() {
            return Ok(());
        }
        let mut uploads = self.list_uploads().await?;
        let mut gone = Vec::new();
        while let Some(expected) = absent.pop() {
            let lake = SharedLake::clone(&self.lake);
            let (expected, state) = check(lake, expected, self.depth.contents).await?;
            let upload = &expected.file().sealed.upload;
            match state {
                FileState::Absent if uploads.contains_key(upload) => {
                    self.awaited.insert(upload.clone());
                    self.add_lost(&expected);
                    self.report_unfinished(&expected);
                }
                FileState::Absent => match self.rebuilt_since(&expected).await? {
                    Some(rebuilt) => {
                        uploads = self.list_uploads().await?;
                        absent.extend(rebuilt);
                    }
                    None => gone.push(expected),
                },
                state => self.add_file(expected, state),
            }
        }
        self.read_removed().await?;
        for expected in gone {
            self.report_gone(&expected);
        }
        Ok(())
    }

    fn report_unfinished(&mut self, expected: &Expected) {
        let key = &expected.file().sealed.key;
        let Some(tip) = &expected.tip else {
            let detail = "a commit record that has a successor names it, and it is still an upload";
            self.report.problem(ProblemKind::Missing, key, detail);
            self.advise("missing: restore the files from a copy");
            return;
        };
        let (kind, what) = (
            ProblemKind::Unfinished,
            "the newest record names it and it is not visible yet",
        );
        let age = self.depth.now.map_or(0, |now| now.saturating_sub(tip.made));
        if age > UNFINISHED_MAX {
            let hours = age / UNFINISHED_MAX;
            let detail = format!("{what}, for {hours} h");
            self.report.problem(kind, key, detail);
            self.advise(
                "unfinished: start the sink, which makes the files of newest records visible",
            );
        } else {
            let detail = format!("{what}: the next sink that takes over the shard finishes it");
            self.report.warning(kind, key, detail);
        }
    }

    /// Counts or reports a file that is not there and will not come.
    fn report_gone(&mut self, expected: &Expected) {
        let key = &expected.file().sealed.key;
        let now = self.depth.now.unwrap_or(i64::MIN);
        if self.removed.has(key) || self.retention.is_past(expected.newest, expected.made, now) {
            self.add_expired(expected);
            return;
        }
        self.add_lost(expected);
        let accept = self.accept_missing();
        let (detail, remedy) = match expected.tip {
            Some(_) => (
                "the newest record names it, and neither the file nor its upload exists",
                format!(
                    "missing: the next sink that takes the shard over makes files of newest records again from the stream; if \
                     they were removed on purpose, run {accept} before"
                ),
            ),
            None => (
                "a commit record names it",
                format!(
                    "missing: restore the files from a copy; if they were removed on purpose, say so with {accept}"
                ),
            ),
        };
        self.report.problem(ProblemKind::Missing, key, detail);
        self.advise(remedy);
    }

    /// Reports uploads that are left over.
    async fn check_uploads(&mut self) -> Result<()> {
        let (data, dead_letters) = (self.names.data(), self.names.dead_letters());
        for (upload, key) in self.list_uploads().await? {
            let ours = key.starts_with(&data) || key.starts_with(&dead_letters);
            if ours && !self.awaited.contains(&upload) {
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

    /// Reports the files that were listed and that no record names.
    async fn report_unnamed(&mut self) -> Result<()> {
        if self.unnamed.is_empty() {
            return Ok(());
        }
        for prefix in [self.names.data(), self.names.dead_letters()] {
            let (unnamed, report) = (&mut self.unnamed, &mut self.report);
            let mut seen = |object: Object| {
                if unnamed.remove(&key_digest(&object.key)) {
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
