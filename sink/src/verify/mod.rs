//! Proof that a table holds what its commit chains say, and what an operator looks at.
//!
//! Owns the checks of `hydrant lake verify` ([`verify`]) and what the other commands print ([`tables`], [`partitions`],
//! [`schema`], [`head`]). Promises to change nothing, to judge from the objects alone, and to stay right while sinks
//! are publishing: data is listed first and chains are read after, so that whatever was listed has a record by then.
//! Refuses to call a table good that has a file too many, a file too few, a byte changed, a slot missing or a sum that
//! does not add up.

mod browse;
mod chains;
mod files;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use hydrant_core::lake::SharedLake;
use hydrant_core::{Error, Result};

pub use browse::{Partition, TableSummary, head, partitions, schema, tables};
pub use report::{ChainReport, Problem, ProblemKind, Report};

use crate::lake::{FileKind, OriginSum, TableNames};
use crate::schema::registry;
use chains::{Walk, walk_chains};
use files::{Expected, check_contents, expected_files};

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Whether every file is read. Without it only names and sizes are compared. Default: yes.
    pub contents: bool,
}

impl Default for Depth {
    fn default() -> Self {
        Depth { contents: true }
    }
}

/// Checks a table; everything that is wrong stands in the report.
///
/// # Errors
/// Those of the lake, and [`Error::NotFound`] when there is no such table.
pub async fn verify(lake: &SharedLake, names: &TableNames, depth: Depth) -> Result<Report> {
    // What is listed now has a record already: a file becomes visible after the record that names it.
    let mut listed: BTreeMap<String, u64> = BTreeMap::new();
    for prefix in [names.data(), names.dead_letters()] {
        let objects = lake.list(&prefix, None).await?;
        listed.extend(objects.into_iter().map(|object| (object.key, object.size)));
    }
    let staged = lake.list_staged().await?;
    let mut report = Report::new(names.table());
    let walks = walk_chains(lake, names, &mut report).await?;
    if walks.is_empty() && listed.is_empty() {
        return Err(Error::NotFound {
            message: format!("there is no table `{}` in `{}`", names.table(), lake.url()),
        });
    }
    check_schemas(lake, names, &walks, &mut report).await?;
    check_specs(lake, names, &walks, &mut report).await?;
    let mut expected = Vec::new();
    for walk in &walks {
        expected.extend(expected_files(lake, walk, &mut report).await?);
    }
    check_presence(lake, &mut listed, &mut expected, &mut report).await?;
    for key in listed.into_keys() {
        report.problem(ProblemKind::Foreign, key, "no commit record names it");
    }
    check_staged(&staged, &walks, &expected, &mut report);
    if depth.contents {
        check_contents(lake, &expected, &mut report).await?;
    }
    sum_origins(&walks, &mut report);
    Ok(report)
}

/// Takes the files that records name out of what was listed.
async fn check_presence(
    lake: &SharedLake,
    listed: &mut BTreeMap<String, u64>,
    expected: &mut Vec<Expected>,
    report: &mut Report,
) -> Result<()> {
    let mut present = Vec::with_capacity(expected.len());
    for file in expected.drain(..) {
        let mut size = listed.remove(&file.key);
        if size.is_none() {
            // It may have become visible since the listing.
            let now = lake.list(&file.key, Some(1)).await?;
            size = now
                .into_iter()
                .find(|object| object.key == file.key)
                .map(|object| object.size);
        }
        match size {
            None if file.is_tip => report.warning(
                ProblemKind::Unfinished,
                file.key,
                "the newest record names it and it is not visible yet: a sink that takes the shard over finishes it",
            ),
            None => report.problem(ProblemKind::Missing, file.key, "a commit record names it"),
            Some(size) if size != file.size => {
                let detail = format!("it has {size} bytes instead of {}", file.size);
                report.problem(ProblemKind::Damaged, file.key, detail);
            }
            Some(size) => {
                report.files += 1;
                report.bytes += size;
                present.push(file);
            }
        }
    }
    *expected = present;
    Ok(())
}

async fn check_schemas(
    lake: &SharedLake,
    names: &TableNames,
    walks: &[Walk],
    report: &mut Report,
) -> Result<()> {
    let objects = lake.list(&names.schemas(), None).await?;
    let mut numbers = BTreeSet::new();
    for object in objects {
        let Some(number) = names.schema_number(&object.key) else {
            report.problem(ProblemKind::Foreign, object.key, "it is no schema");
            continue;
        };
        numbers.insert(number);
        if let Err(error) = registry::get(lake, names, number).await {
            report.problem(ProblemKind::Damaged, object.key, error.report());
        }
    }
    report.schema = numbers.last().copied().unwrap_or(0);
    for number in (1..=report.schema).filter(|number| !numbers.contains(number)) {
        report.problem(
            ProblemKind::Missing,
            names.schema(number),
            "a later schema exists",
        );
    }
    let mut older = 0;
    for walk in walks {
        for (_, commit) in &walk.commits {
            if commit.schema > report.schema {
                let key = names.schema(commit.schema);
                report.problem(ProblemKind::Missing, key, "a commit record names it");
            }
            if commit.schema < report.schema {
                older += commit.files_of(FileKind::Rows).count() as u64;
            }
        }
    }
    report.files_of_older_schemas = older;
    Ok(())
}

async fn check_specs(
    lake: &SharedLake,
    names: &TableNames,
    walks: &[Walk],
    report: &mut Report,
) -> Result<()> {
    let digests: BTreeSet<&str> = walks
        .iter()
        .flat_map(|walk| &walk.commits)
        .filter(|(_, commit)| !commit.files.is_empty())
        .map(|(_, commit)| commit.spec.as_str())
        .collect();
    for digest in digests {
        let key = names.spec(digest);
        match lake.get(&key).await? {
            None => report.problem(ProblemKind::Missing, key, "a commit record names it"),
            Some(body) => {
                if let Err(error) = crate::spec::Spec::from_body(&key, &body) {
                    report.problem(ProblemKind::Damaged, key, error);
                }
            }
        }
    }
    Ok(())
}

/// Stagings that no record can take up any more. Those of free slots may belong to a publish that is under way.
fn check_staged(
    staged: &[(String, String)],
    walks: &[Walk],
    expected: &[Expected],
    report: &mut Report,
) {
    let table = format!("{}/", report.table);
    let dead_letters = format!("{}/{table}", crate::lake::SYSTEM);
    let visible: BTreeSet<&str> = expected.iter().map(|file| file.key.as_str()).collect();
    let named: BTreeSet<&str> = walks
        .iter()
        .flat_map(|walk| &walk.commits)
        .flat_map(|(_, commit)| &commit.files)
        .filter(|file| !visible.contains(file.sealed.key.as_str()))
        .map(|file| file.sealed.upload.as_str())
        .collect();
    for (upload, key) in staged {
        let ours = key.starts_with(&table) || key.starts_with(&dead_letters);
        if ours && !named.contains(upload.as_str()) {
            report.warning(
                ProblemKind::Leftover,
                upload.clone(),
                "it was staged and no record names it: a publish is under way, or one died there",
            );
        }
    }
}

fn sum_origins(walks: &[Walk], report: &mut Report) {
    let mut sums: BTreeMap<(String, String), OriginSum> = BTreeMap::new();
    for origin in walks
        .iter()
        .flat_map(|walk| &walk.commits)
        .flat_map(|(_, c)| &c.origins)
    {
        let key = (origin.writer.to_string(), origin.shard.to_string());
        match sums.get_mut(&key) {
            None => {
                sums.insert(key, origin.clone());
            }
            Some(sum) => {
                sum.input = sum.input.saturating_add(origin.input);
                sum.records = sum.records.saturating_add(origin.records);
                sum.letters = sum.letters.saturating_add(origin.letters);
                sum.dropped = sum.dropped.saturating_add(origin.dropped);
            }
        }
    }
    for origin in sums.into_values() {
        if !origin.balances() {
            let place = format!("shard `{}` of writer {}", origin.shard, origin.writer);
            let detail = format!(
                "{} upstream units in, but {} records + {} dead letters + {} dropped",
                origin.input, origin.records, origin.letters, origin.dropped,
            );
            report.problem(ProblemKind::Unbalanced, place, detail);
        }
        report.origins.push(origin);
    }
}
