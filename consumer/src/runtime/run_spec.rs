//! What a run is given: stream, app, stage and their limits.

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::Context;
use hydrant_core::shutdown::Shutdown;
use hydrant_core::stage::Stage;
use hydrant_core::stream::{SharedStream, Start};

use super::leases::LeaseSettings;

/// What to run.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// Memory, chance, time.
    pub context: Context,
    /// The stream to read.
    pub stream: SharedStream,
    /// The app: workers of the same name share the work and the progress.
    pub app: String,
    /// This worker, for people; made unique by a suffix.
    pub worker: String,
    /// What happens to the records.
    pub stage: Arc<dyn Stage>,
    /// Where the app starts when it has no progress.
    pub start: Start,
    /// Whether to end when everything is published and nothing more comes.
    pub exit_at_end: bool,
    /// How long no append may have come for that to be the end. Default: 1 s.
    pub idle: Duration,
    /// Whether the app's leases and progress lie beside the stream, where other workers share them. Default: yes. If not,
    /// the worker reads all shards alone, starts where the app starts, and leaves nothing behind.
    pub keeps_progress: bool,
    /// How leases are kept, where the stream is shared by leases.
    pub leases: LeaseSettings,
    /// The digest of the policy that outputs are made by, where they depend on one; see
    /// `runtime/task/start_position.rs`.
    pub pin: Option<String>,
    /// The ledger is written at most this often. Default: 1 s. Cost: what is read again after a death.
    pub checkpoint: Duration,
    /// How long a drain may take. Default: none of its own; a process has its limit for all of its parts.
    pub drain_timeout: Option<Duration>,
    /// Asks for the end.
    pub shutdown: Shutdown,
}

/// Default of [`RunSpec::idle`].
pub const IDLE: Duration = Duration::from_secs(1);
/// Default of [`RunSpec::checkpoint`].
pub const CHECKPOINT: Duration = Duration::from_secs(1);

impl RunSpec {
    /// With the defaults: from the earliest record on, until shutdown.
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
            worker: format!("worker-{}", std::process::id()),
            stage,
            start: Start::Earliest,
            exit_at_end: false,
            idle: IDLE,
            keeps_progress: true,
            leases: LeaseSettings::default(),
            pin: None,
            checkpoint: CHECKPOINT,
            drain_timeout: None,
            shutdown,
        }
    }
}
