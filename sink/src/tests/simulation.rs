//! Several owners at once, dying alone or with the power, in every interleaving that a seed draws; beside them an operator who
//! expires partitions, removes files and uploads by hand, and lets the stream forget.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::admin::Trim;
use hydrant_core::lake::{Lake, Put, SharedLake};
use hydrant_core::lease::Progress;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stage::{Flush, ShardStage};
use hydrant_core::stream::{Read, SharedStream};
use hydrant_core::{Context, Disposition, Error, Position, Random, Result};
use hydrant_testing::disk::{Breakpoint, Death, Fault, Loss, Moment, Op, SimWorld};
use hydrant_testing::layer::{LakeLayer, Layered};
use tokio::task::JoinSet;

use super::support::*;
use crate::lake::layout::LayoutChain;
use crate::lake::{
    Chain, ChainTip, CommitFile, FileKind, FileLake, GivenUp, RebuildOutcome, RebuildRecord,
    WhatExpires, expire, generation_key, give_up_missing,
};
use crate::verify::{Depth, ProblemKind, verify};

const RECORDS: u64 = 40;
const OWNERS: [&str; 3] = ["a", "b", "c"];

/// How many seeds run.
const SEEDS: u64 = 25;

/// How many seeds may pass until a mutant falls.
const MUTANT_SEEDS: u64 = 400;

/// Pushes records and begins to publish them, unless others are being published.
async fn begin(shard: &mut Box<dyn ShardStage>, range: std::ops::Range<u64>) -> Result<Progress> {
    let batch = batch(range.start, &payloads(range));
    shard.push(Read::Batch(batch)).await?;
    shard.publish(Flush::Time).await
}

/// Works on the shard until all records are published; returns to the winner's position whenever it loses.
async fn own(start: ProcessSetup, stream: SharedStream, random: Random) -> Result<()> {
    let process = start.over(stream).await?;
    loop {
        let (mut shard, after) = match process.claim("000000").await {
            Ok(claimed) => claimed,
            Err(error) if matches!(error.disposition(), Disposition::Superseded { .. }) => continue,
            Err(error) => return Err(error),
        };
        let mut next = after.next_offset().unwrap();
        while next < RECORDS {
            let to = (next + 1 + random.below(9)).min(RECORDS);
            // Half of the intervals fill while the one before is published.
            let beside = to < RECORDS && random.below(2) == 0;
            let published = match beside {
                true => begin(&mut shard, next..to).await,
                false => publish(&mut shard, next..to).await,
            };
            match published {
                Ok(progress) if beside => assert!(progress.to < Position::offset(to - 1)),
                Ok(progress) => assert_eq!(progress.to, Position::offset(to - 1)),
                Err(error) if matches!(error.disposition(), Disposition::Superseded { .. }) => {
                    break;
                }
                Err(error) => return Err(error),
            }
            next = to;
        }
        if next == RECORDS {
            if random.below(2) == 0 {
                shard.settle().await;
            }
            return Ok(());
        }
    }
}

/// A lake that loses answers to commit records; the records land before, later or never.
#[derive(Debug)]
struct LossyLake {
    lake: SharedLake,
    random: Random,
    late: Arc<Mutex<JoinSet<()>>>,
}

#[async_trait]
impl LakeLayer for LossyLake {
    fn below(&self) -> &dyn Lake {
        &*self.lake
    }

    async fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        if !key.contains("/r/") || self.random.below(6) > 0 {
            return self.lake.put_new(key, body).await;
        }
        match self.random.below(3) {
            0 => drop(self.lake.put_new(key, body).await?),
            1 => {}
            _ => {
                let (lake, key) = (SharedLake::clone(&self.lake), key.to_owned());
                let yields = self.random.below(200);
                let landing = async move {
                    for _ in 0..yields {
                        tokio::task::yield_now().await;
                    }
                    drop(lake.put_new(&key, body).await);
                };
                lock(&self.late).spawn(landing);
            }
        }
        Err(Error::Unavailable {
            message: "the answer is lost".to_owned(),
            after: Duration::ZERO,
        })
    }
}

/// What the processes of a run share.
struct SimRun {
    world: SimWorld,
    stream: SharedStream,
    /// Whether somebody takes files away.
    has_operator: bool,
    /// The files that were removed by hand.
    by_hand: Mutex<Vec<String>>,
    /// The files whose uploads were removed by hand.
    swept: Mutex<Vec<String>>,
    /// Records on their way.
    late: Arc<Mutex<JoinSet<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimRun {
    /// Draws when a process dies, or that it lives.
    fn draw_death(&self, name: &str, calls: u64, random: &Random) {
        let death = match random.below(4) {
            0 => Death::PowerCut(Loss::Everything),
            1 => Death::PowerCut(Loss::Some),
            _ => Death::Kill,
        };
        let moment = if random.below(2) == 0 {
            Moment::Before
        } else {
            Moment::After
        };
        self.world
            .die_at(name, 1 + random.below(calls), moment, death);
    }

    /// Runs one process after another under this name, each with a fate of its own, until one lives to the end.
    async fn restarted(&self, name: &str, random: Random) -> Vec<String> {
        for life in 0..4 {
            let mut start = ProcessSetup::named(&self.world, name);
            start.seed = random.u64();
            let (random_of_lake, late) = (Random::seeded(random.u64()), Arc::clone(&self.late));
            start.before_lake = Some(Box::new(|lake| {
                Arc::new(Layered(LossyLake {
                    lake,
                    random: random_of_lake,
                    late,
                }))
            }));
            if life < 3 {
                self.draw_death(name, 250, &random);
            }
            let disk = start.disk.clone();
            let owning = own(start, Arc::clone(&self.stream), random.clone());
            match live(disk, owning).await {
                // An upload that somebody removed while it was written fails its process, which starts again.
                Some(Err(_)) if self.has_operator => continue,
                Some(Err(error)) => return vec![format!("{name}: {error}")],
                Some(Ok(())) => return Vec::new(),
                // A power cut of another owner counts as a death as well.
                None => continue,
            }
        }
        Vec::new()
    }

    /// Runs an operator who dies now and then.
    async fn operated(&self, random: Random) {
        for life in 0..4 {
            let start = ProcessSetup::named(&self.world, "operator");
            self.draw_death("operator", 400, &random);
            let context = context_on(start.disk.shared(), random.u64() + life, 1 << 20);
            // What fails is done again, or not at all.
            drop(live(start.disk.clone(), self.operate(&context, &random)).await);
        }
    }

    async fn operate(&self, context: &Context, random: &Random) -> Result<()> {
        let lake: SharedLake = Arc::new(FileLake::open(Path::new(LAKE), context).await?);
        let chain = Chain::new(&lake, &names(), &stream_id(), &"000000".into());
        for _ in 0..5 {
            for _ in 0..random.below(300) {
                tokio::task::yield_now().await;
            }
            match random.below(8) {
                0..3 => {
                    expire(&lake, &names(), &of_day(random), false, context).await?;
                }
                3 => {
                    give_up_missing(&lake, &names(), false, context).await?;
                }
                4..6 => {
                    self.sweep(&lake, &chain, random).await?;
                }
                _ => self.remove_by_hand(&lake, &chain, random).await?,
            }
        }
        Ok(())
    }

    /// Removes all uploads once an owner has died before it made a file visible, if one does soon. What its record names can
    /// then be made again, or the stream has forgotten it.
    async fn sweep(&self, lake: &SharedLake, chain: &Chain, random: &Random) -> Result<()> {
        let mut death = self.world.set_breakpoint(Breakpoint {
            process: String::new(),
            op: Op::RenameNew,
            path: "date=".to_owned(),
            moment: Moment::Before,
            fault: Fault::Dies(Death::Kill),
        });
        for _ in 0..1_000 {
            if death.try_recv().is_ok() {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.world.heal();
        if let (ChainTip::Record(tip), 0) = (chain.tip().await?, random.below(2)) {
            let trim = Trim::After(tip.commit.interval().to);
            self.stream.admin().trim(None, trim).await?;
        }
        for (upload, key) in lake.list_uploads().await? {
            lock(&self.swept).push(key);
            lake.discard(&upload).await?;
        }
        Ok(())
    }

    /// Removes a file that is proven to have been visible.
    async fn remove_by_hand(
        &self,
        lake: &SharedLake,
        chain: &Chain,
        random: &Random,
    ) -> Result<()> {
        let slot = 1 + random.below(chain.tip().await?.slot().max(1));
        let Some(commit) = chain.record(slot).await? else {
            return Ok(());
        };
        if commit.files.is_empty() || !chain.slots.is_done(slot).await? {
            return Ok(());
        }
        let file = &commit.files[random.below(commit.files.len() as u64) as usize];
        let key = file.sealed.key.clone();
        // It may be there as one that was made again.
        if lake.head(&key).await?.is_none() {
            return Ok(());
        }
        lock(&self.by_hand).push(key.clone());
        lake.delete(&key).await
    }

    /// Completes what operators began, and accepts what was removed by hand. Returns what else is missing.
    async fn complete(&self, random: &Random) -> Result<Vec<String>> {
        self.world.heal();
        let start = ProcessSetup::named(&self.world, "keeper");
        let context = context_on(start.disk.shared(), random.u64(), 1 << 20);
        let lake: SharedLake = Arc::new(FileLake::open(Path::new(LAKE), &context).await?);
        let by_hand = lock(&self.by_hand).clone();
        lake.delete_many(&by_hand).await?;
        let own = own(
            ProcessSetup::named(&self.world, "last"),
            Arc::clone(&self.stream),
            random.clone(),
        );
        own.await?;
        lock(&self.late).abort_all();
        // Rolls the layout chain forward, and nothing else.
        let none = WhatExpires::Before(0);
        expire(&lake, &names(), &none, false, &context).await?;
        let names_only = Depth {
            contents: false,
            now: None,
        };
        let mut problems = verify(&lake, &names(), names_only).await?.problems;
        problems.retain(|problem| {
            problem.kind == ProblemKind::Missing && !by_hand.contains(&problem.place)
        });
        give_up_missing(&lake, &names(), false, &context).await?;
        Ok(problems
            .iter()
            .map(|problem| format!("before --missing: {problem:?}"))
            .collect())
    }

    /// Says what is wrong with the table.
    async fn judge(&self) -> Result<Vec<String>> {
        let found = found(&self.world).await;
        let lake = looker(&self.world).await;
        let gone = self.gone(&lake).await?;
        let mut faults = self.made_again(&lake).await?;
        for n in 0..RECORDS {
            match (found.get(&n).copied().unwrap_or(0), gone.contains(&n)) {
                (1, false) | (0, true) => {}
                (0, false) => faults.push(format!("record {n} is lost")),
                (_, true) => faults.push(format!("record {n} was taken away and is there")),
                (times, false) => faults.push(format!("record {n} is there {times} times")),
            }
        }
        let report = verify(&lake, &names(), Depth::default()).await?;
        let problems = report.problems.iter();
        faults.extend(problems.map(|problem| format!("{problem:?}")));
        let sums = [report.expired, report.lost];
        let sum: u64 = sums.iter().map(|gone| gone.rows + gone.dead_letters).sum();
        if sum != gone.len() as u64 || report.units.input != RECORDS {
            faults.push(format!(
                "{} records are gone, {sum} are counted",
                gone.len()
            ));
        }
        Ok(faults)
    }

    /// Files that were made again or lost although nobody removed their uploads.
    async fn made_again(&self, lake: &SharedLake) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for object in lake.list(&names().rebuilds()).await? {
            let body = lake.get(&object.key).await?.unwrap_or_default();
            let record = RebuildRecord::from_body(&object.key, &body)?;
            let by_operator = matches!(
                record.outcome,
                RebuildOutcome::GivenUp {
                    why: GivenUp::Operator,
                    ..
                }
            );
            let stem = record.key.split(".g").next().unwrap_or_default();
            let mut swept = lock(&self.swept).clone().into_iter();
            if !by_operator && !swept.any(|swept| swept.starts_with(stem)) {
                faults.push(format!(
                    "{} was made again, and nobody removed it",
                    record.key
                ));
            }
        }
        Ok(faults)
    }

    /// The records of which the lake says that they are gone for good: expired, given up, or lost with the stream.
    async fn gone(&self, lake: &SharedLake) -> Result<BTreeSet<u64>> {
        let layout = LayoutChain::new(lake, &names());
        let mut keys: BTreeSet<String> = lock(&self.by_hand).iter().cloned().collect();
        // Only what somebody removed may be given up.
        let swept = lock(&self.swept).clone();
        for slot in layout.slots().await? {
            let record = layout.record(slot).await?;
            let inputs = record.into_iter().flat_map(|record| record.inputs);
            keys.extend(inputs.map(|input| input.key));
        }
        let chain = Chain::new(lake, &names(), &stream_id(), &"000000".into());
        let mut gone = BTreeSet::new();
        for slot in 1..=chain.tip().await?.slot() {
            let Some(commit) = chain.record(slot).await? else {
                continue;
            };
            let interval = commit.interval();
            let from = interval.from.next_offset().unwrap_or(0);
            let all = from..interval.to.next_offset().unwrap_or(0);
            for (index, file) in commit.files.iter().enumerate() {
                let of_file =
                    |key: &String| (0..20).any(|g| generation_key(&file.sealed.key, g) == *key);
                let mut rows = records_of(file, all.clone());
                if keys.iter().any(of_file) {
                    gone.extend(&rows);
                    continue;
                }
                for generation in (1..20).rev().filter(|_| swept.iter().any(of_file)) {
                    let key = chain.names.rebuild(slot, index, generation);
                    let Some(body) = lake.get(&key).await? else {
                        continue;
                    };
                    match RebuildRecord::from_body(&key, &body)?.outcome {
                        RebuildOutcome::GivenUp { .. } => gone.extend(&rows),
                        RebuildOutcome::Replaced { lost, .. } => {
                            let is_in = |n: u64| {
                                let at = Position::offset(n);
                                let mut gaps = lost.iter().flat_map(|lost| &lost.gaps);
                                gaps.any(|gap| gap.from < at && at <= gap.to)
                            };
                            rows.retain(|n| is_in(*n));
                            gone.extend(&rows);
                        }
                    }
                    break;
                }
            }
        }
        Ok(gone)
    }
}

fn of_day(random: &Random) -> WhatExpires {
    let day = 19 + random.below(2);
    WhatExpires::Partition(vec![("date".to_owned(), format!("2026-11-{day}"))])
}

/// The records of `all` that a file holds.
fn records_of(file: &CommitFile, all: std::ops::Range<u64>) -> BTreeSet<u64> {
    let is_in = |n: &u64| match file.kind {
        FileKind::DeadLetters => n % 7 == 3,
        FileKind::Rows => {
            let day = format!("/date=2026-11-{:02}/", 19 + n % 2);
            n % 7 != 3 && file.sealed.key.contains(&day)
        }
    };
    all.filter(is_in).collect()
}

/// Runs one seed; returns what is wrong, and the hash of its trace.
async fn simulate(seed: u64, owners: &[&str], has_operator: bool) -> (Vec<String>, u64) {
    let random = Random::seeded(seed);
    let run = SimRun {
        world: world(seed),
        stream: stream_of(RECORDS),
        has_operator,
        by_hand: Mutex::default(),
        swept: Mutex::default(),
        late: Arc::default(),
    };
    let owners = owners.iter();
    let owners = owners.map(|name| run.restarted(name, Random::seeded(random.u64())));
    let owners = futures::future::join_all(owners);
    let mut faults = if has_operator {
        let operator = run.operated(Random::seeded(random.u64()));
        let (faults, ()) = futures::join!(owners, operator);
        faults.concat()
    } else {
        owners.await.concat()
    };
    // One more owner finishes, if all died.
    let ended = async {
        let mut faults = run.complete(&random).await?;
        run.world.power_cut(Loss::Everything);
        faults.extend(run.judge().await?);
        Ok::<_, Error>(faults)
    };
    match ended.await {
        Ok(found) => faults.extend(found),
        Err(error) => faults.push(error.to_string()),
    }
    (faults, run.world.trace().hash())
}

/// Zombies, overlapping owners and arbitrarily late landings are harmless.
#[tokio::test(start_paused = true)]
async fn owners_that_overlap_and_die_leave_each_row_once() {
    for seed in 0..SEEDS {
        let (faults, _) = simulate(seed, &OWNERS, false).await;
        assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
    }
}

/// What is taken away never comes back, all else is there once, and nothing that vanished stops an owner, whoever dies
/// meanwhile.
#[tokio::test(start_paused = true)]
async fn what_is_taken_away_stays_away_whatever_owners_do() {
    for seed in 0..setting().unwrap_or(SEEDS) {
        let (faults, _) = simulate(seed, &OWNERS, true).await;
        assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
    }
}

/// How many seeds to run, if `HYDRANT_SIMULATION_SEEDS` says so.
fn setting() -> Option<u64> {
    let seeds = std::env::var("HYDRANT_SIMULATION_SEEDS").ok()?;
    Some(seeds.parse().expect("a number of seeds"))
}

/// One seed gives one run, so that a failed seed can be replayed.
#[tokio::test(start_paused = true)]
async fn a_seed_gives_the_same_run_twice() {
    for has_operator in [false, true] {
        let one = simulate(3, &OWNERS, has_operator).await;
        assert_eq!(one, simulate(3, &OWNERS, has_operator).await);
    }
}

/// Checks that the simulation shows the fault of a mutant. Owners beside the first one would mend what it does. With
/// `HYDRANT_SIMULATION_SEEDS` all of these seeds run and the rate is printed.
#[allow(clippy::print_stdout, reason = "the rate")]
fn assert_killed(mutant: Mutant, fault: &str) {
    let all = setting();
    let (seeds, mut killed) = (all.unwrap_or(MUTANT_SEEDS), Vec::new());
    for seed in 0..seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let run = || runtime.block_on(simulate(seed, &OWNERS[..1], true));
        let (faults, _) = mutant::with(Some(mutant), run);
        if faults.iter().any(|found| found.contains(fault)) {
            killed.push(seed);
            if all.is_none() {
                return;
            }
        }
    }
    assert!(!killed.is_empty(), "{mutant:?} survives {seeds} seeds");
    let (rate, first) = (killed.len(), killed[0]);
    println!("{mutant:?} is killed in {rate} of {seeds} seeds, first by {first}");
}

#[test]
fn a_mark_before_the_reveal_is_caught() {
    assert_killed(Mutant::MarkedEarly, "is lost");
}

#[test]
fn expired_rows_that_come_back_are_caught() {
    assert_killed(Mutant::LayoutUnseen, "was taken away and is there");
}

#[test]
fn a_start_that_a_vanished_file_stops_is_caught() {
    assert_killed(Mutant::VanishedIsFatal, "no longer has the records");
}

#[test]
fn a_file_that_is_given_up_without_a_record_is_caught() {
    assert_killed(Mutant::GivenUpUnrecorded, "before --missing");
}

#[test]
fn a_record_that_lands_after_it_was_forgotten_is_caught() {
    assert_killed(Mutant::UnknownPutForgotten, "nobody removed it");
}

#[test]
fn an_expiry_that_removes_before_its_record_is_caught() {
    assert_killed(Mutant::ExpiredBeforeRecord, "");
}
