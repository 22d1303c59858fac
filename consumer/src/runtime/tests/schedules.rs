//! Random schedules of deaths, drains, starts, appends, reshardings and store failures. A seed determines its
//! schedule.

use hydrant_core::Random;
use hydrant_core::error::Error;

use super::*;
use crate::runtime::testing::{MarkedStream, TiplessStream};

#[derive(Clone, Copy, Debug, PartialEq)]
enum OutputKind {
    PlainStage,
    Exact,
    Together,
}

impl World {
    fn worker(&mut self, kind: OutputKind, tipless: bool, random: &Random) -> RunSpec {
        let mut spec = match kind {
            OutputKind::PlainStage => self.plain(),
            OutputKind::Exact => {
                let stage = Exact::new(&self.log);
                if random.below(4) == 0 {
                    let message = "away".to_owned();
                    let away = Error::Unavailable {
                        message,
                        after: Duration::ZERO,
                    };
                    stage.failures.lock().unwrap().push(away);
                }
                self.spec(stage)
            }
            OutputKind::Together => {
                let mut stage = Together::new(&self.log);
                stage.chance = Some((random.clone(), 6));
                self.spec(stage)
            }
        };
        // Its readers fail when they are opened with marks of another place.
        spec.stream = MarkedStream::around(spec.stream);
        if tipless {
            spec.stream = TiplessStream::around(spec.stream);
        }
        spec.lease_time = Some(Duration::from_secs(3));
        spec.handover = Duration::from_secs(3);
        spec.idle = Duration::from_millis(300);
        spec
    }
}

async fn schedule(kind: OutputKind, seed: u64) {
    let random = Random::seeded(seed);
    let mut world = World::new(2 + random.below(2) as u8, random.below(2) == 0);
    world.seed = seed * 1000;
    world.stream.batch_appends(1 + random.below(15) as usize);
    let mut names = ('k'..='z').map(|name| name.to_string());
    let mut workers: Vec<RunningWorker> = Vec::new();
    for _ in 0..30 {
        let open = world.stream.open_shards();
        let chosen = open[random.below(open.len() as u64) as usize].clone();
        match random.below(12) {
            0..=3 => {
                let count = random.below(40) as usize;
                world.stream.append(chosen.id.as_str(), count, 0);
            }
            4 | 5 if workers.len() < 3 => {
                let spec = world.worker(kind, seed % 2 == 1, &random);
                workers.push(RunningWorker::start(spec));
            }
            6 if !workers.is_empty() => {
                drop(workers.remove(random.below(workers.len() as u64) as usize));
            }
            7 if !workers.is_empty() => {
                let worker = workers.remove(random.below(workers.len() as u64) as usize);
                worker.drained().await.expect("a drain in time");
            }
            8 if open.len() < 5 => {
                if let (Some(low), Some(high)) = (names.next(), names.next()) {
                    world.stream.split_into(chosen.id.as_str(), &low, &high);
                }
            }
            9 => {
                let neighbour = open
                    .iter()
                    .find(|other| other.range.first.checked_sub(1) == Some(chosen.range.last));
                if let (Some(other), Some(child)) = (neighbour, names.next()) {
                    world
                        .stream
                        .merge_into(chosen.id.as_str(), other.id.as_str(), &child);
                }
            }
            10 => {
                world
                    .leases
                    .change_faults(|faults| faults.writes_fail = true);
                pass(Duration::from_millis(random.below(5000))).await;
                world
                    .leases
                    .change_faults(|faults| faults.writes_fail = false);
            }
            11 => world.leases.change_faults(|faults| {
                faults.write_time = Duration::from_millis(random.below(3) * 40)
            }),
            _ => {}
        }
        pass(Duration::from_millis(random.below(1500))).await;
    }
    world
        .leases
        .change_faults(|faults| faults.write_time = Duration::ZERO);
    let mut spec = world.worker(kind, seed % 2 == 1, &random);
    spec.exit_at_end = true;
    tokio::time::timeout(Duration::from_secs(600), RunningWorker::start(spec).ended())
        .await
        .unwrap_or_else(|_| panic!("seed {seed} of {kind:?} does not end"))
        .unwrap_or_else(|error| panic!("seed {seed} of {kind:?}: {error}"));
    world.assert_complete();
    if kind != OutputKind::PlainStage {
        world.assert_exact();
    }
    for state in world.leases.rows() {
        let closed = !world
            .stream
            .open_shards()
            .iter()
            .any(|shard| shard.id == state.shard);
        assert_eq!(
            state.has_ended(),
            closed,
            "seed {seed} of {kind:?}: {state:?}"
        );
    }
    drop(workers);
}

fn schedules(kind: OutputKind, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        eprintln!("{kind:?} seed {seed}");
        runtime.block_on(schedule(kind, seed));
    }
}

#[test]
fn no_schedule_loses_or_doubles_a_record_of_a_stage_that_tracks_its_progress() {
    schedules(OutputKind::Exact, 0..60);
}

#[test]
fn no_schedule_loses_a_record_of_a_plain_stage() {
    schedules(OutputKind::PlainStage, 100..160);
}

#[test]
fn no_schedule_loses_or_doubles_a_record_of_a_transaction_of_all_claims() {
    schedules(OutputKind::Together, 200..260);
}
