//! A subscription made of leases: workers share the shards of a stream through a [`LeaseStore`].
//!
//! A task of its own, the keeper, takes leases and gives them back; another one renews them, whatever the keeper waits
//! for. [`LeasedSubscription::next`] only receives. The keeper looks at all rows in rounds: when the store or the shard
//! map says that something changed, and at least every second, or more often where the lease time is short.
//!
//! - A row is free when it has no owner, when the store knows that its owner is dead, or when its counter did not move
//!   for the lease time *by this worker's own clock*; clocks are never compared.
//! - Taking a lease raises its epoch, which fences the former owner's ledger. Data needs no such fence: the output is
//!   what protects it.
//! - A holder that cannot renew for a lease time gives the claim up by itself.
//! - Balance and hand-over: see `leases/balance.rs`. A holder asked for a shard publishes, writes the ledger and
//!   releases; one that is asked and does not answer at all is superseded in the end.
//! - Rows are made here, with the position where the app starts in them, and are about one output at a time; see
//!   `leases/rows.rs`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Generations, LeaseStore, Progress};
use hydrant_core::shard::ShardId;
use hydrant_core::subscription::{Event, Subscription};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::coordinator::{LeaseCommand, LeaseCoordinator};
use super::settings::LeaseSetup;

/// Events that wait for the runtime, which polls all the time; more wait in the task's own queue.
const EVENTS: usize = 16;
/// Commands that wait for the task; there is one commander.
const COMMANDS: usize = 2;

/// The claims of one worker, held by leases. Dropping it stops renewal at once, like a death.
pub(crate) struct LeasedSubscription {
    store: Arc<dyn LeaseStore>,
    generations: Arc<Generations>,
    events: mpsc::Receiver<Result<Event>>,
    commands: mpsc::Sender<LeaseCommand>,
    /// Heeded also amid a round.
    stopping: Arc<AtomicBool>,
    // Aborts the keeper when it is dropped.
    _keeper: JoinSet<()>,
}

impl fmt::Debug for LeasedSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeasedSubscription")
            .field("store", &self.store)
            .finish()
    }
}

impl LeasedSubscription {
    /// Announces the worker and starts to take leases.
    pub(crate) async fn start(leased: LeaseSetup) -> Result<Self> {
        let suffix = leased.random.u64() as u32;
        let me = format!("{}-{suffix:08x}", leased.worker);
        let enlisted = leased.store.enlist(&me).await?;
        // From now on they stay as they are.
        let generations = Arc::new(leased.store.generations().await?);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let store = Arc::clone(&leased.store);
        let coordinator =
            LeaseCoordinator::new(leased, me, Arc::clone(&generations), event_sender, enlisted);
        let stopping = coordinator.stopping();
        let mut tasks = JoinSet::new();
        tasks.spawn(coordinator.run(command_receiver));
        Ok(LeasedSubscription {
            store,
            generations,
            events,
            commands,
            stopping,
            _keeper: tasks,
        })
    }
}

#[async_trait]
impl Subscription for LeasedSubscription {
    async fn next(&mut self) -> Result<Event> {
        match self.events.recv().await {
            Some(event) => event,
            None => Err(Error::fatal("the task that keeps the leases has ended")),
        }
    }

    fn progress(&self) -> BoxFuture<'static, Result<Vec<(ShardId, Progress)>>> {
        let (store, generations) = (Arc::clone(&self.store), Arc::clone(&self.generations));
        async move {
            let rows = store.list().await?;
            Ok(rows
                .into_iter()
                .filter(|row| generations.count(row))
                .filter_map(|row| Some((row.shard, row.progress?)))
                .collect())
        }
        .boxed()
    }

    fn stop_claiming(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // There is room: it is the first command. A keeper that has ended takes nothing any more.
        drop(self.commands.try_send(LeaseCommand::StopClaiming));
    }

    async fn close(&mut self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        if self
            .commands
            .send(LeaseCommand::Close(answer))
            .await
            .is_ok()
        {
            // An error means that the task has ended, which is what the command comes to.
            drop(answered.await);
        }
        Ok(())
    }
}
