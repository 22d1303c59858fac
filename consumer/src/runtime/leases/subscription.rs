//! A subscription by leases: workers share the shards of a stream through a [`LeaseStore`].
//!
//! The lease coordinator, a separate task, takes leases and gives them back. Another task renews them, independent of
//! what the coordinator waits for. [`LeasedSubscription::next`] only receives. The coordinator reads all rows in
//! rounds: when the store or the shard map reports a change, and at least every second, or more often for short lease
//! times.
//!
//! - A row is free when it has no owner, when the store knows that its owner is dead, or when its counter did not
//!   move for the lease time *by this worker's own clock*; clocks are never compared.
//! - Taking a lease raises its epoch, which fences the ledger of the former owner. Records need no such fence,
//!   because the output protects itself.
//! - A holder that cannot renew its lease for a lease time gives up the claim.
//! - Balance and hand-over: see `leases/balance.rs`. A holder that is asked for a shard publishes, writes the ledger
//!   and releases the lease. A holder that does not react loses the lease in the end.
//! - Rows are created with the position where the app starts, and belong to one output at a time; see
//!   `leases/rows.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Generations, LeaseStore, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::SharedStream;
use hydrant_core::subscription::{Event, Subscription};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::coordinator::{LeaseCommand, LeaseCoordinator};
use super::lineage;
use crate::runtime::output_identity::OutputIdentity;
use crate::runtime::run_spec::RunSpec;

/// Events that wait for the runtime, which polls all the time. More events wait in the coordinator's own queue.
const EVENTS: usize = 16;
/// Commands that wait for the coordinator; only the subscription sends any.
const COMMANDS: usize = 2;

/// The claims of one worker, held by leases. Dropping it stops renewals at once, as a death would.
pub(crate) struct LeasedSubscription {
    stream: SharedStream,
    output: OutputIdentity,
    store: Arc<dyn LeaseStore>,
    generations: Arc<Generations>,
    events: mpsc::Receiver<Result<Event>>,
    commands: mpsc::Sender<LeaseCommand>,
    /// Whether leases are taken; a change also takes effect in the middle of a round.
    claiming: Arc<AtomicBool>,
    /// Whether the rows say no more than the output has.
    rows_are_true: watch::Receiver<bool>,
    /// The coordinator, which is aborted when this is dropped.
    coordinator: JoinSet<()>,
}

impl LeasedSubscription {
    /// Registers the worker and starts to take leases.
    pub(crate) async fn start(
        spec: RunSpec,
        worker: String,
        store: Arc<dyn LeaseStore>,
    ) -> Result<Self> {
        let registration = store.register(&worker).await?;
        // A registered worker keeps the generations from changing.
        let generations = Arc::new(store.generations().await?);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let (stream, output) = (Arc::clone(&spec.stream), OutputIdentity::of(&spec.stage));
        let claiming = Arc::new(AtomicBool::new(true));
        let coordinator = LeaseCoordinator::new(
            spec,
            worker,
            Arc::clone(&store),
            Arc::clone(&generations),
            Arc::clone(&claiming),
            event_sender,
            registration,
        );
        let rows_are_true = coordinator.rows_are_true();
        let mut tasks = JoinSet::new();
        tasks.spawn(coordinator.run(command_receiver));
        Ok(LeasedSubscription {
            stream,
            output,
            store,
            generations,
            events,
            commands,
            claiming,
            rows_are_true,
            coordinator: tasks,
        })
    }
}

fn ended() -> Error {
    Error::fatal("the lease coordinator has ended")
}

#[async_trait]
impl Subscription for LeasedSubscription {
    async fn next(&mut self) -> Result<Event> {
        match self.events.recv().await {
            Some(event) => event,
            None => Err(ended()),
        }
    }

    fn progress(&self) -> BoxFuture<'static, Result<Vec<(ShardId, Progress)>>> {
        let (store, generations) = (Arc::clone(&self.store), Arc::clone(&self.generations));
        let (stream, output) = (Arc::clone(&self.stream), self.output.clone());
        let mut rows_are_true = self.rows_are_true.clone();
        async move {
            let found = rows_are_true.wait_for(|are_true| *are_true).await;
            found.map(drop).map_err(|_| ended())?;
            let rows = store.list().await?;
            let has_row: BTreeSet<ShardId> = rows.iter().map(|row| row.shard.clone()).collect();
            let progress = rows.into_iter().filter(|row| generations.count(row));
            let mut progress: BTreeMap<ShardId, Progress> = progress
                .filter_map(|row| Some((row.shard, row.progress?)))
                .collect();
            let map = stream.shards().await?;
            let owned = |id: &ShardId| progress.get(id).filter(|found| output.owns(found));
            let ended = lineage::ended_without_rows(&map, |id| has_row.contains(id), owned);
            let end = output.sign(Progress {
                to: Position::End,
                ..Progress::default()
            });
            progress.extend(ended.into_iter().map(|id| (id, end.clone())));
            Ok(progress.into_iter().collect())
        }
        .boxed()
    }

    fn stop_claiming(&mut self) {
        self.claiming.store(false, Ordering::Relaxed);
        // There is room, because it is the first command. A coordinator that has ended takes no leases.
        drop(self.commands.try_send(LeaseCommand::StopClaiming));
    }

    async fn close(&mut self) -> Result<()> {
        // An error means that the coordinator has ended, which is what the command is for.
        drop(self.commands.send(LeaseCommand::Close).await);
        while self.coordinator.join_next().await.is_some() {}
        Ok(())
    }
}
