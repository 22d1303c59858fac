//! Waiting for a shard's lock, but not for a process that stands still with it.
//!
//! A waiter for the lock holds the *turn*, so that a busy holder cannot take the lock again and again past everybody
//! else: the kernel gives a freed lock to the first who asks. A waiter may stand still as well, so that the turn is
//! only waited for a while.
//!
//! A holder that goes on moves the control file. If it does not for some time, the wait is over. What counts is how often
//! this process has looked, not what a clock says: when the whole machine was stopped nobody is late.

use std::pin::pin;
use std::time::Duration;

use hydrant_core::disk::{Lock, LockKind};
use hydrant_core::{Result, clock};

use super::control::ControlFile;
use super::fence;
use super::shard_log::ShardLog;

/// The time between two looks at the control file: an append takes much less.
const GLANCE: Duration = Duration::from_millis(250);
/// So many looks in a row may find the control file as it was: a disk that is still of use syncs within them. A worker
/// that takes a shard over after the time of a lease may only then come upon what its last owner holds, so they are
/// few.
const GLANCES_MAX: u32 = 8;
/// So many looks a process waits for the turn, and goes without it then.
const TURN_GLANCES_MAX: u32 = 4;

/// What a waiter saw of the control file.
#[derive(Debug, Default)]
struct Glances {
    /// The counter that it last saw; the inner value is `None` when no slot could be read.
    seen: Option<Option<u64>>,
    /// How many looks in a row saw it.
    same: u32,
}

impl ShardLog {
    /// Waits for the shard's lock; `None` when its holder stands still, or the shard is fenced.
    pub(super) async fn wait(&mut self) -> Result<Option<Box<dyn Lock>>> {
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
            let turn = self.place.ctx.disk.try_lock(&path, LockKind::Exclusive);
            let turn = turn
                .await
                .map_err(|e| self.place.failed("lock", &path, e))?;
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
        if fence::is_marked(&self.place, &self.shard.id).await? {
            return Ok(true);
        }
        let said = match ControlFile::open_to_read(&*self.place.ctx.disk, &self.dir).await? {
            Some(file) => file.read().await?.map(|control| control.counter),
            None => return Err(self.place.gone()),
        };
        let same = glances.seen == Some(said);
        glances.same = if same { glances.same + 1 } else { 1 };
        glances.seen = Some(said);
        Ok(glances.same > GLANCES_MAX)
    }

    async fn lock(&self, name: &str) -> Result<Box<dyn Lock>> {
        let path = self.dir.join(name);
        let lock = self.place.ctx.disk.lock(&path, LockKind::Exclusive).await;
        lock.map_err(|error| self.place.failed("lock", &path, error))
    }
}
