//! The specification of a run: stream, app, stage and limits.

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::Context;
use hydrant_core::shutdown::Shutdown;
use hydrant_core::stage::Stage;
use hydrant_core::stream::{SharedStream, Start};
use tokio::sync::watch;

/// What to run.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// Memory, chance, time and computation.
    pub context: Context,
    /// The stream to read.
    pub stream: SharedStream,
    /// The name of the app: workers of the same name share the work and the progress.
    pub app: String,
    /// A name for this worker, such as that of its host; a draw makes it unique.
    pub worker: String,
    /// The stage that the records go to.
    pub stage: Arc<dyn Stage>,
    /// Where the app starts when it has no progress.
    pub start: Start,
    /// Whether to end when everything is published and no more records come.
    pub exit_at_end: bool,
    /// How long no append may come before the stream counts as ended. Default: 1 s.
    pub idle: Duration,
    /// Makes the run end with its stream from when it is given.
    pub finish: FinishOrder,
    /// What becomes of a shard that cannot be read on. Default: it stalls.
    pub on_corrupt: OnCorrupt,
    /// Whether the app's leases and progress lie beside the stream, where other workers share them. Default: yes. If
    /// not, the worker reads all shards alone, starts at `start`, and leaves nothing behind.
    pub keeps_progress: bool,
    /// Where workers share the stream by leases: a holder that is silent for this long loses its lease. Default: as the
    /// store says, 10 s beside the embedded log. Raise it when the lease store answers slowly. Cost: the shards of a hung
    /// worker wait longer.
    pub lease_time: Option<Duration>,
    /// How long a holder may take to publish and hand over a shard that another worker asked for. Default: 30 s.
    pub handover: Duration,
    /// The digest of the policy that the output depends on, if it does; see `runtime/task/start_position.rs`.
    pub pin: Option<String>,
    /// The shortest time between two writes of a ledger. Default: as the lease store says, 1 s beside the embedded log.
    /// Cost: what is read again after a death.
    pub checkpoint: Option<Duration>,
    /// The shutdown of the process.
    pub shutdown: Shutdown,
}

/// What becomes of a shard with corrupt data. Either way the error is logged once, the other shards are read, and the run
/// ends with the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorrupt {
    /// The shard is read again until it is repaired; until then its children do not begin.
    Stall,
    /// The shard counts as read to its end, so that its children are read as well. Only for a run that keeps no progress:
    /// one that does must not pass records that it has not read.
    EndShard,
}

/// An order to a run, also one under way, to end when everything is published and no more records come. Clones are one
/// order.
#[derive(Clone, Debug, Default)]
pub struct FinishOrder(watch::Sender<Option<Duration>>);

impl FinishOrder {
    /// Gives the order. No append for `idle`, or for the idle time of the run if that is shorter, is then the end.
    pub fn give(&self, idle: Duration) {
        self.0.send_replace(Some(idle));
    }

    /// Returns what changes when the order is given.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Duration>> {
        self.0.subscribe()
    }
}

/// The default of [`RunSpec::idle`].
pub const IDLE: Duration = Duration::from_secs(1);

impl RunSpec {
    /// Creates a run with the defaults: from the earliest record until shutdown.
    pub fn new(
        context: Context,
        stream: SharedStream,
        app: impl Into<String>,
        stage: Arc<dyn Stage>,
        shutdown: Shutdown,
    ) -> Self {
        RunSpec {
            context,
            stream,
            app: app.into(),
            worker: "worker".to_owned(),
            stage,
            start: Start::Earliest,
            exit_at_end: false,
            idle: IDLE,
            finish: FinishOrder::default(),
            on_corrupt: OnCorrupt::Stall,
            keeps_progress: true,
            lease_time: None,
            handover: Duration::from_secs(30),
            pin: None,
            checkpoint: None,
            shutdown,
        }
    }

    /// Returns how long no append may come before the stream counts as ended; `None` while the run does not end with it.
    pub(crate) fn ends_after(&self) -> Option<Duration> {
        match *self.finish.0.borrow() {
            Some(idle) => Some(idle.min(self.idle)),
            None => self.exit_at_end.then_some(self.idle),
        }
    }
}
