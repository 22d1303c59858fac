//! Waits for a shard's lock, but not for a stopped process that holds it.
//!
//! A waiter for the lock holds the *turn*, so that a busy holder cannot take the lock again and again ahead of all
//! others: the kernel gives a freed lock to the first process that asks. A waiter may stand still as well, so that the
//! turn is only waited for a while.
//!
//! A holder that makes progress moves the control file, and one whose disk is slow still has a [pulse](super::pulse). If neither
//! changes for some time, the wait is over, and much later if only the control file does not. What counts is how often
//! this process has looked, not what a clock says: when the whole machine was stopped no process is late.

use std::pin::pin;
use std::time::Duration;

use hydrant_core::disk::{Lock, LockKind, Open};
use hydrant_core::{Result, clock};

use super::pulse;
use super::shard_log::ShardLog;
use crate::local::end::fence_mark;

/// The time between two looks at the shard: an append takes much less.
const GLANCE: Duration = Duration::from_millis(250);
/// So many looks in a row may find everything as it was. A worker that takes a shard over after the time of a lease may
/// only then come upon what its last owner holds, so they are few.
const GLANCES_MAX: u32 = 8;
/// So many looks in a row may find the control file as it was while its holder lives: half a minute, in which a disk
/// syncs that is still of use.
const LIVING_GLANCES_MAX: u32 = 120;
/// So many looks a process waits for the turn, and goes without it then.
const TURN_GLANCES_MAX: u32 = 4;

/// What a waiter saw of a shard.
#[derive(Debug, Default)]
struct Glances {
    /// What it saw last.
    seen: Option<Glance>,
    /// How many looks in a row saw the same.
    same: u32,
    /// How many looks in a row saw the same counter.
    unmoved: u32,
}

/// One look.
#[derive(Clone, Copy, Debug)]
struct Glance {
    /// That of the control file; `None` when no slot could be read.
    counter: Option<u64>,
    /// Of the holder's pulse.
    is_up: bool,
}

impl Glances {
    /// Whether the shard was as it is for as many looks as a holder has.
    fn stands_still(&mut self, now: Glance) -> bool {
        let before = self.seen.replace(now);
        let unmoved = before.is_some_and(|before| before.counter == now.counter);
        let same = unmoved && before.is_some_and(|before| before.is_up == now.is_up);
        self.unmoved = if unmoved { self.unmoved + 1 } else { 1 };
        self.same = if same { self.same + 1 } else { 1 };
        self.same > GLANCES_MAX || self.unmoved > LIVING_GLANCES_MAX
    }
}

impl ShardLog {
    /// Waits for the shard's lock; `None` when its holder stands still, or the shard is fenced.
    pub(crate) async fn wait(&mut self) -> Result<Option<Box<dyn Lock>>> {
        let mut glances = Glances::default();
        let _turn = self.turn(&mut glances).await?;
        let mut lock = pin!(self.lock("lock"));
        loop {
            // Both arms only wait.
            tokio::select! {
                biased;
                lock = &mut lock => return lock.map(Some),
                () = clock::sleep(GLANCE) => {}
            }
            if self.stands_still(&mut glances).await? {
                return Ok(None);
            }
        }
    }

    /// Waits for the turn; how often the holder of the lock stood still meanwhile counts already.
    async fn turn(&mut self, glances: &mut Glances) -> Result<Option<Box<dyn Lock>>> {
        if self.turn_is_stuck {
            let path = self.dir.join("turn");
            let turn = self
                .stream_dir
                .ctx
                .disk
                .try_lock(&path, LockKind::Exclusive);
            let turn = turn
                .await
                .map_err(|e| self.stream_dir.failed("lock", &path, e))?;
            self.turn_is_stuck = turn.is_none();
            return Ok(turn);
        }
        {
            let mut turn = pin!(self.lock("turn"));
            for _ in 0..TURN_GLANCES_MAX {
                // Both arms only wait.
                tokio::select! {
                    biased;
                    turn = &mut turn => return turn.map(Some),
                    () = clock::sleep(GLANCE) => {}
                }
                // Whether the lock is free at all is seen later.
                self.stands_still(glances).await?;
            }
        }
        self.turn_is_stuck = true;
        Ok(None)
    }

    /// Takes a look at the shard; whether it is fenced, or was as it is for as many looks as a holder has.
    async fn stands_still(&self, glances: &mut Glances) -> Result<bool> {
        if fence_mark::exists(&self.stream_dir, &self.shard.id).await? {
            return Ok(true);
        }
        let file = self
            .stream_dir
            .control_file(&self.shard.id, Open::Read)
            .await?;
        let control = file.read().await?;
        Ok(glances.stands_still(Glance {
            counter: control.map(|control| control.counter),
            is_up: pulse::is_up(&self.stream_dir, &self.dir).await,
        }))
    }

    async fn lock(&self, name: &str) -> Result<Box<dyn Lock>> {
        let path = self.dir.join(name);
        let lock = self
            .stream_dir
            .ctx
            .disk
            .lock(&path, LockKind::Exclusive)
            .await;
        lock.map_err(|error| self.stream_dir.failed("lock", &path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these looks says that the holder stands still; looks are counted from 1.
    fn over_at(looks: impl Iterator<Item = (u64, bool)>) -> Option<usize> {
        let mut glances = Glances::default();
        let mut looks = looks.map(|(counter, is_up)| Glance {
            counter: Some(counter),
            is_up,
        });
        let over = looks.position(|look| glances.stands_still(look));
        over.map(|before| before + 1)
    }

    #[test]
    fn a_holder_that_shows_nothing_stands_still() {
        let most = GLANCES_MAX as usize;
        assert_eq!(over_at([(7, false)].into_iter().cycle()), Some(most + 1));
        assert_eq!(over_at([(7, true)].into_iter().cycle()), Some(most + 1));
    }

    #[test]
    fn a_holder_that_moves_the_control_file_now_and_then_never_stands_still() {
        let looks = (0..100_000).map(|n| (n / u64::from(GLANCES_MAX), false));
        assert_eq!(over_at(looks), None);
    }

    #[test]
    fn a_holder_with_a_pulse_stands_still_much_later_unless_the_control_file_moves() {
        let beats = |n: u64| (n / 2).is_multiple_of(2);
        let most = LIVING_GLANCES_MAX as usize;
        assert_eq!(over_at((0..).map(|n| (7, beats(n)))), Some(most + 1));
        let looks = (0..100_000).map(|n| (n / u64::from(LIVING_GLANCES_MAX), beats(n)));
        assert_eq!(over_at(looks), None);
        // Its last sign of life counts.
        let stopped = (0..).map(|n| (7, beats(n.min(50))));
        assert_eq!(over_at(stopped), Some(50 + GLANCES_MAX as usize + 1));
    }
}
