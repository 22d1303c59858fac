//! How the files of a commit record become visible, also those that vanished.
//!
//! Owns the reveal of the files that a record names, and the fate of those that vanished. Promises that finishing is
//! repeatable, and to look for a vanished file in this order: the file itself; the layout chain, which names what was
//! taken away on purpose; a newer record or the mark of this one, which prove that it was visible once. Only then it
//! never was visible: it is rebuilt from the stream by the recorded rules, all files from one reading, or is given up by
//! a record when its rows are past the declared retention or the stream no longer has them. So nothing that was removed
//! comes back once there is a trace of it, and nothing that vanished keeps a sink from starting.
//! Refuses files that differ from what the record says.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hydrant_core::clock::SharedClock;
use hydrant_core::lake::{Put, Reveal, Sealed};
use hydrant_core::lease::Progress;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::retry::retry_forever;
use hydrant_core::{Context, Error, Random, Result};

use super::chain::Chain;
use super::clean_up::Leftovers;
use super::commit::{Commit, CommitFile, Gap, seal_body};
use super::layout::LayoutChain;
use super::names::generation_key;
use super::rebuild_record::{GivenUp, LostRows, REBUILD_VERSION, RebuildOutcome, RebuildRecord};
use super::requests::{REVEALS_MAX, Requests, one_of};
use super::retention::TableRetention;

/// How often a file may vanish before an operator must find out why.
const GENERATIONS_MAX: u32 = 9;

/// Files that were made again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remade {
    /// The files that were asked for, in order. One is missing only if the stream lacks all of its records.
    pub files: Vec<Option<CommitFile>>,
    /// The records of the interval that the stream no longer has, though it had them when the record was made.
    pub gaps: Vec<Gap>,
}

/// The way out where the stream cannot give a file back.
pub(crate) const OR_GIVE_UP: &str =
    "or give the file up with `hydrant lake expire URL --missing`, while no sink runs";

/// Rebuilds files of committed intervals.
#[async_trait]
pub trait Rebuild: Send + Sync + fmt::Debug {
    /// Reads the interval of `commit` again by its recorded rules and uploads those of its files that `files` names, in
    /// order, each under its key there. `from` is where the interval begins, as the record before it or the genesis says:
    /// position, marks, and how reading began. `leftovers` gets the uploads that cannot be thrown away.
    async fn rebuild(
        &self,
        commit: &Commit,
        from: Progress,
        files: &[(usize, String)],
        leftovers: &Arc<Leftovers>,
    ) -> Result<Remade>;
}

/// Makes the files of records visible.
#[derive(Clone, Debug)]
pub struct Finisher {
    rebuild: Option<Arc<dyn Rebuild>>,
    clock: SharedClock,
    pub(super) random: Random,
    /// The requests of this process, shared with its uploads.
    pub(crate) requests: Requests,
    /// The uploads that owners left behind in the table.
    pub(crate) leftovers: Arc<Leftovers>,
}

/// A file of a record that is not visible: its number, and the upload that counts for it.
type Hidden = (usize, Sealed);

impl Finisher {
    /// Makes a finisher. Without `rebuild` a file that vanished before it was visible is fatal.
    pub fn new(rebuild: Option<Arc<dyn Rebuild>>, context: &Context) -> Self {
        Finisher {
            rebuild,
            clock: Arc::clone(&context.clock),
            random: context.random.clone(),
            requests: Requests::default(),
            leftovers: Arc::default(),
        }
    }

    /// Makes every file visible that the record names. Files that are visible already stay so, and files that were taken
    /// away since stay away.
    ///
    /// # Errors
    /// Fatal when a visible file differs from the record, or the stream holds other records than before.
    pub async fn finish(&self, chain: &Chain, commit: &Commit) -> Result<()> {
        let sealed = commit.files.iter().map(|file| file.sealed.clone());
        let mut hidden: Vec<Hidden> = sealed.enumerate().collect();
        for generation in 1.. {
            hidden = self.reveal_all(chain, hidden).await?;
            hidden = self.never_visible(chain, commit, hidden).await?;
            if hidden.is_empty() {
                break;
            }
            hidden = self.replace(chain, commit, hidden, generation).await?;
        }
        Ok(())
    }

    /// Those of the vanished files that nothing proves to have been visible. The proof is looked for *after* the files
    /// were: whoever removes a file leaves a trace first.
    async fn never_visible(
        &self,
        chain: &Chain,
        commit: &Commit,
        mut hidden: Vec<Hidden>,
    ) -> Result<Vec<Hidden>> {
        if hidden.is_empty() {
            return Ok(hidden);
        }
        if !mutant::is(Mutant::LayoutUnseen) {
            let keys = hidden.iter().map(|(_, sealed)| sealed.key.as_str());
            let layout = LayoutChain::new(&chain.lake, &chain.names.table);
            let expired = layout.naming(keys.collect()).await?;
            hidden.retain(|(_, sealed)| !expired.contains(&sealed.key));
        }
        let Some((_, Sealed { key, .. })) = hidden.first() else {
            return Ok(hidden);
        };
        if chain.slots.is_done(commit.slot).await? {
            let (shard, files) = (&chain.shard, hidden.len());
            tracing::warn!(%shard, key, files, "files that were visible were removed by another program: they stay removed");
            hidden.clear();
        }
        Ok(hidden)
    }

    /// Makes files visible, and returns those that vanished, by their numbers.
    async fn reveal_all(&self, chain: &Chain, files: Vec<Hidden>) -> Result<Vec<Hidden>> {
        let reveals = files.into_iter().map(|file| self.reveal(chain, file));
        // Collected, because the compiler cannot follow a lazy iterator of borrowing futures across threads.
        let reveals: Vec<_> = reveals.collect();
        let outcomes = stream::iter(reveals).buffer_unordered(REVEALS_MAX);
        let outcomes: Vec<_> = outcomes.try_collect().await?;
        let mut vanished: Vec<_> = outcomes.into_iter().flatten().collect();
        vanished.sort_by_key(|(index, _)| *index);
        Ok(vanished)
    }

    async fn reveal(&self, chain: &Chain, file: Hidden) -> Result<Option<Hidden>> {
        let reveal = retry_forever("make a file visible", &self.random, || async {
            let _one = one_of(&self.requests.reveals).await?;
            chain.lake.reveal(&file.1).await
        });
        Ok(match reveal.await? {
            Reveal::Revealed | Reveal::Already => None,
            Reveal::Vanished => Some(file),
        })
    }

    /// Returns the uploads that replace these files the `generation`-th time. What became of a file is decided by the
    /// record that is there; where there is none, the files are rebuilt or given up.
    async fn replace(
        &self,
        chain: &Chain,
        commit: &Commit,
        vanished: Vec<Hidden>,
        generation: u32,
    ) -> Result<Vec<Hidden>> {
        let (mut replaced, mut lacking) = (Vec::new(), Vec::new());
        for (index, _) in vanished {
            let record_key = chain.names.rebuild(commit.slot, index, generation);
            match chain.lake.get(&record_key).await? {
                Some(body) => {
                    let found = Self::decided(&record_key, &body, &commit.files[index])?;
                    replaced.extend(found.map(|sealed| (index, sealed)));
                }
                None => lacking.push(index),
            }
        }
        let Some(index) = lacking.first() else {
            return Ok(replaced);
        };
        if generation > GENERATIONS_MAX {
            return Err(Error::fatal(format!(
                "`{}` vanished {GENERATIONS_MAX} times before it could be made visible: find out what removes files \
                 below `_hydrant/`; {OR_GIVE_UP}",
                commit.files[*index].sealed.key,
            )));
        }
        for (index, outcome) in self.outcomes(chain, commit, lacking, generation).await? {
            let decided = self.decide(chain, commit, (index, outcome), generation);
            replaced.extend(decided.await?.map(|sealed| (index, sealed)));
        }
        Ok(replaced)
    }

    /// What is to become of files that nothing was decided of.
    async fn outcomes(
        &self,
        chain: &Chain,
        commit: &Commit,
        files: Vec<usize>,
        generation: u32,
    ) -> Result<Vec<(usize, RebuildOutcome)>> {
        let retention = TableRetention::read(&chain.lake, &chain.names.table).await?;
        if retention.is_past(commit.times().max, commit.made, self.clock.wall_micros()) {
            let mut outcomes = Vec::new();
            for index in files {
                let outcome = RebuildOutcome::GivenUp {
                    why: GivenUp::Retention,
                    rows: commit.files[index].rows,
                    lost: Self::lost_before(chain, commit, index, generation).await?,
                };
                outcomes.push((index, outcome));
            }
            return Ok(outcomes);
        }
        let Remade {
            files: remade,
            gaps,
        } = self.rebuild(chain, commit, &files, generation).await?;
        if mutant::is(Mutant::VanishedIsFatal) && !gaps.is_empty() {
            return Err(Error::fatal(
                "the stream no longer has the records of a vanished file",
            ));
        }
        let outcomes = files.into_iter().zip(remade).map(|(index, file)| {
            let rows = commit.files[index].rows;
            let outcome = match file {
                None => RebuildOutcome::GivenUp {
                    why: GivenUp::Source,
                    rows,
                    lost: None,
                },
                Some(file) => RebuildOutcome::Replaced {
                    lost: (file.rows < rows).then(|| LostRows {
                        rows: rows - file.rows,
                        gaps: gaps.clone(),
                    }),
                    file,
                },
            };
            (index, outcome)
        });
        Ok(outcomes.collect())
    }

    /// What was lost of a file when it was made again before.
    async fn lost_before(
        chain: &Chain,
        commit: &Commit,
        index: usize,
        generation: u32,
    ) -> Result<Option<LostRows>> {
        let key = chain.names.rebuild(commit.slot, index, generation - 1);
        Ok(match chain.lake.get(&key).await? {
            Some(body) => RebuildRecord::from_body(&key, &body)?.lost().cloned(),
            None => None,
        })
    }

    /// Rebuilds files of a record from one reading of its interval.
    async fn rebuild(
        &self,
        chain: &Chain,
        commit: &Commit,
        files: &[usize],
        generation: u32,
    ) -> Result<Remade> {
        let key_of = |index: &usize| &commit.files[*index].sealed.key;
        let key = files.first().map(key_of);
        let Some(rebuild) = &self.rebuild else {
            return Err(Error::fatal(format!(
                "`{}` vanished before it was visible, and this process has no stream to rebuild it from: start the sink, \
                 which rebuilds it",
                key.map_or("", |key| key),
            )));
        };
        tracing::warn!(
            key,
            files = files.len(),
            generation,
            "rebuilding vanished files"
        );
        let names = files
            .iter()
            .map(|index| (*index, generation_key(key_of(index), generation)));
        let names: Vec<(usize, String)> = names.collect();
        let from = Self::from_of(chain, commit).await?;
        let rebuilding = rebuild.rebuild(commit, from, &names, &self.leftovers);
        let rebuilt = rebuilding.await?;
        debug_assert_eq!(rebuilt.files.len(), files.len());
        for file in rebuilt.files.iter().flatten() {
            let Sealed { upload, key, .. } = &file.sealed;
            self.leftovers.add(upload.clone(), key.clone());
        }
        let lacks_rows = !rebuilt.gaps.is_empty();
        for (index, file) in files.iter().zip(&rebuilt.files) {
            let wanted = &commit.files[*index];
            let fits = match file {
                None => lacks_rows,
                Some(file) if file.rows < wanted.rows => lacks_rows,
                Some(file) => {
                    (file.rows, &file.position_hash) == (wanted.rows, &wanted.position_hash)
                }
            };
            if !fits {
                for file in rebuilt.files.iter().flatten() {
                    chain.lake.discard(&file.sealed.upload).await?;
                }
                return Err(Error::fatal(format!(
                    "cannot rebuild `{}`: its {} rows became {} or different ones; the stream no longer holds the same \
                     records; {OR_GIVE_UP}",
                    wanted.sealed.key,
                    wanted.rows,
                    file.as_ref().map_or(0, |file| file.rows),
                )));
            }
        }
        Ok(rebuilt)
    }

    /// Puts the record that decides what becomes of a file, and returns the upload that was chosen, if one was.
    async fn decide(
        &self,
        chain: &Chain,
        commit: &Commit,
        (index, outcome): (usize, RebuildOutcome),
        generation: u32,
    ) -> Result<Option<Sealed>> {
        let wanted = &commit.files[index];
        let record_key = chain.names.rebuild(commit.slot, index, generation);
        let record = RebuildRecord {
            version: REBUILD_VERSION,
            slot: commit.slot,
            index,
            generation,
            key: generation_key(&wanted.sealed.key, generation),
            outcome,
        };
        debug_assert!(record.is_about(wanted) && record.accounts_for(wanted));
        let ours = record.sealed();
        if ours.is_none() && mutant::is(Mutant::GivenUpUnrecorded) {
            return Ok(None);
        }
        let body = seal_body(&record);
        let put = retry_forever("put a rebuild record", &self.random, || {
            chain.lake.put_new(&record_key, body.clone())
        });
        let decided = match put.await? {
            Put::Exists(found) if found != body => {
                if let Some(sealed) = ours {
                    chain.lake.discard(&sealed.upload).await?;
                }
                Self::decided(&record_key, &found, wanted)?
            }
            _ => {
                alarm(chain, &record);
                ours.cloned()
            }
        };
        if let Some(sealed) = ours {
            self.leftovers.forget(&sealed.upload);
        }
        Ok(decided)
    }

    /// Where the interval of a record begins, with what the reader knew there.
    async fn from_of(chain: &Chain, commit: &Commit) -> Result<Progress> {
        let mut from = Progress {
            to: commit.interval().from,
            ..Progress::default()
        };
        if let Some(before) = commit.slot.checked_sub(1).filter(|slot| *slot > 0) {
            let Some(before) = chain.record(before).await? else {
                return Err(Error::fatal(format!(
                    "`{}` is missing: commit records are never removed; restore it",
                    chain.names.record(before),
                )));
            };
            from.marks = before.marks;
        } else if let Some(genesis) = chain.genesis().await? {
            from.began = genesis.began;
        }
        Ok(from)
    }

    /// The upload that a record chose for the file that a commit record wants; `None` when it is given up.
    fn decided(key: &str, body: &[u8], wanted: &CommitFile) -> Result<Option<Sealed>> {
        let record = RebuildRecord::from_body(key, body)?;
        if record.is_about(wanted) && record.accounts_for(wanted) {
            return Ok(record.sealed().cloned());
        }
        Err(Error::fatal(format!(
            "`{key}` is about another file or other rows than the commit record names"
        )))
    }
}

/// Tells of rows that are lost for good.
fn alarm(chain: &Chain, record: &RebuildRecord) {
    let (shard, key) = (&chain.shard, &record.key);
    let (why, rows) = match (&record.outcome, record.gone_rows()) {
        (RebuildOutcome::Replaced { lost: None, .. }, _) => return,
        (RebuildOutcome::GivenUp { why, .. }, (rows @ 1.., _)) => (*why, rows),
        (_, (_, lost)) => (GivenUp::Source, lost),
    };
    metrics::counter!("hydrant_sink_lost_rows_total", "reason" => why.to_string()).increment(rows);
    if why == GivenUp::Retention {
        tracing::warn!(%shard, key, rows, "a vanished file is not made again: its rows are past the declared retention");
    } else {
        tracing::error!(%shard, key, rows, "rows are LOST: their file vanished before it was visible, and the stream no longer has their records");
    }
}
