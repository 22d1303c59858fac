//! The records of what became of vanished files, against the commit records that name the files.
//!
//! Of a file that vanished the newest record counts, and all before it must be there and be about it. What is lost is
//! counted once the fate of the file is known: it may vanish again while the table is verified.

use std::collections::{BTreeMap, BTreeSet};

use hydrant_core::Result;

use super::Verification;
use super::chains::ChainDir;
use crate::lake::layout::key_digest;
use crate::lake::{ChainNames, Commit, CommitFile, RebuildRecord, TableNames, generation_key};
use crate::verify::files::Expected;
use crate::verify::report::ProblemKind;

/// The records of the vanished files of a chain, by slot, index and generation.
pub(super) type Rebuilds = BTreeMap<(u64, usize, u32), RebuildRecord>;

impl Verification {
    /// Reads the records that have the right names.
    pub(super) async fn read_rebuilds(&mut self, place: &ChainDir) -> Result<Rebuilds> {
        let mut rebuilds = Rebuilds::new();
        for object in self.lake.list(&place.rebuilds).await? {
            let Some(body) = self.lake.get(&object.key).await? else {
                continue;
            };
            match RebuildRecord::from_body(&object.key, &body) {
                Ok(record) => {
                    let at = (record.slot, record.index, record.generation);
                    if object.key == ChainNames::rebuild_in(&place.rebuilds, at.0, at.1, at.2) {
                        rebuilds.insert(at, record);
                    } else {
                        self.misplaced_rebuild(&object.key, &record);
                    }
                }
                Err(error) => self.report.problem(ProblemKind::Damaged, object.key, error),
            }
        }
        Ok(rebuilds)
    }

    /// Takes out the records of a file, checks them, and returns the newest one.
    pub(super) fn decided(
        &mut self,
        rebuilds: &mut Rebuilds,
        place: &ChainDir,
        (slot, index): (u64, usize),
        recorded: &CommitFile,
    ) -> Option<RebuildRecord> {
        let mut newest = None;
        for generation in 1.. {
            let Some(record) = rebuilds.remove(&(slot, index, generation)) else {
                break;
            };
            let key = ChainNames::rebuild_in(&place.rebuilds, slot, index, generation);
            if self.check_rebuild(&key, &record, recorded) {
                newest = Some(record);
            }
        }
        newest
    }

    /// Compares a record with what the commit record says of the file. Returns whether it is about that file.
    fn check_rebuild(&mut self, key: &str, record: &RebuildRecord, recorded: &CommitFile) -> bool {
        if !record.is_about(recorded) {
            self.misplaced_rebuild(key, record);
            return false;
        }
        if !record.accounts_for(recorded) {
            let detail = format!(
                "it accounts for other rows than the {} of `{}`",
                recorded.rows, recorded.sealed.key
            );
            self.report.problem(ProblemKind::Unbalanced, key, detail);
        }
        true
    }

    fn misplaced_rebuild(&mut self, key: &str, record: &RebuildRecord) {
        let detail = format!(
            "it is about another file: file {} of slot {}, generation {}, `{}`",
            record.index, record.slot, record.generation, record.key
        );
        self.report.problem(ProblemKind::Misplaced, key, detail);
    }

    /// Reports the records that are left when all slots up to `last` took theirs. A record may have been put since.
    pub(super) async fn check_unasked(
        &mut self,
        place: &ChainDir,
        left: Rebuilds,
        last: u64,
    ) -> Result<()> {
        for (slot, index, generation) in left.into_keys() {
            if slot > last && self.is_named(place, slot, index).await? {
                continue;
            }
            let key = ChainNames::rebuild_in(&place.rebuilds, slot, index, generation);
            let detail = "no commit record names its file, or the record of the generation before is missing";
            self.report.problem(ProblemKind::Foreign, key, detail);
        }
        Ok(())
    }

    async fn is_named(&self, place: &ChainDir, slot: u64, index: usize) -> Result<bool> {
        let (records, name) = (
            ChainNames::records_in(&place.dir),
            TableNames::record_name(slot),
        );
        let key = records + &name;
        let Some(body) = self.lake.get(&key).await? else {
            return Ok(false);
        };
        Ok(Commit::from_body(&key, &body).is_ok_and(|commit| index < commit.files.len()))
    }

    /// Reports what lies among the records of vanished files and belongs to no chain.
    pub(super) async fn check_stray_rebuilds(&mut self) -> Result<()> {
        let (rebuilds, commits) = (self.names.rebuilds(), self.names.commits());
        let known = self.report.chains.iter();
        let known = known.map(|chain| format!("{}/{}", chain.stream, chain.shard));
        let mut known: BTreeSet<String> = known.collect();
        for object in self.lake.list(&rebuilds).await? {
            let below = &object.key[rebuilds.len()..];
            let chain = below.match_indices('/').nth(1);
            let chain = chain.map_or("", |(at, _)| &below[..at]);
            if known.contains(chain) {
                continue;
            }
            // A chain may have begun since.
            let genesis = format!("{commits}{chain}/genesis.json");
            if !chain.is_empty() && self.lake.head(&genesis).await?.is_some() {
                known.insert(chain.to_owned());
                continue;
            }
            let detail = "it belongs to no chain";
            self.report
                .problem(ProblemKind::Foreign, object.key, detail);
        }
        Ok(())
    }

    /// Counts a file that was given up.
    pub(super) async fn check_given_up(&mut self, expected: &Expected) -> Result<()> {
        let Some(record) = &expected.rebuilt else {
            return Ok(());
        };
        self.add_given_up(expected);
        let before = record.generation.saturating_sub(1);
        let key = generation_key(&expected.recorded.sealed.key, before);
        if self.lake.head(&key).await?.is_some() {
            self.unnamed.remove(&key_digest(&key));
            let detail = "it was given up, and it is there: its rows count as gone";
            self.report.warning(ProblemKind::Returned, key, detail);
            self.advise(super::RETURNED);
        }
        Ok(())
    }

    /// Counts the rows of a file that is given up.
    fn add_given_up(&mut self, expected: &Expected) {
        let rows = expected.rebuilt.as_ref().map(RebuildRecord::gone_rows);
        let gone = match rows {
            Some((rows @ 1.., _)) => {
                self.report.expired.add(expected.recorded.kind, rows);
                &mut self.report.expired
            }
            _ => &mut self.report.lost,
        };
        gone.files += 1;
        self.add_lost(expected);
    }

    /// Counts the rows that the newest record of a file says are lost.
    pub(super) fn add_lost(&mut self, expected: &Expected) {
        let Some(record) = &expected.rebuilt else {
            return;
        };
        let (_, rows) = record.gone_rows();
        if rows == 0 {
            return;
        }
        self.report.lost.add(expected.recorded.kind, rows);
        let whole = format!("({}, {}]", expected.from, expected.to);
        let gaps = record.lost().map_or(&[][..], |lost| &lost.gaps);
        let gaps: Vec<String> = gaps
            .iter()
            .map(|gap| format!("({}, {}]", gap.from, gap.to))
            .collect();
        let lost = if gaps.is_empty() {
            whole.clone()
        } else {
            gaps.join(", ")
        };
        let detail = format!(
            "{rows} of its rows, of {whole}, are lost: it vanished before it was visible, and the stream no longer had the \
             records in {lost}"
        );
        let place = record.key.as_str();
        self.report.warning(ProblemKind::Lost, place, detail);
    }

    /// What a record that was put since its chain was read made of a file of a newest record: the file that replaces it, or
    /// none when it was given up. `None` without such a record.
    pub(super) async fn rebuilt_since(
        &mut self,
        absent: &Expected,
    ) -> Result<Option<Option<Expected>>> {
        let Some(tip) = &absent.tip else {
            return Ok(None);
        };
        let before = absent.rebuilt.as_ref();
        let generation = before.map_or(1, |record| record.generation + 1);
        let key = tip.chain.rebuild(tip.slot, tip.index, generation);
        let Some(body) = self.lake.get(&key).await? else {
            return Ok(None);
        };
        let record = RebuildRecord::from_body(&key, &body)?;
        if !self.check_rebuild(&key, &record, &absent.recorded) {
            return Ok(None);
        }
        let expected = Expected {
            rebuilt: Some(record),
            ..absent.clone()
        };
        if expected.is_given_up() {
            self.add_given_up(&expected);
            return Ok(Some(None));
        }
        Ok(Some(Some(expected)))
    }
}
