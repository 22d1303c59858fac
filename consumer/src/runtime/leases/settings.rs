//! How leases are kept: the times and limits of a worker, and what its subscription is made of.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::Random;
use hydrant_core::budget::Budget;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::LeaseStore;
use hydrant_core::stage::Stage;
use hydrant_core::stream::{SharedStream, Start};

/// How leases are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// A holder that was silent for this long is superseded. Default: 10 s. Raise it when the lease store answers
    /// slowly. Cost: a hung worker's shards stand still for longer.
    pub lease_time: Duration,
    /// How long a holder that was asked for a shard may take to publish and hand it over. Default: 30 s.
    pub handover: Duration,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        LeaseSettings {
            lease_time: Duration::from_secs(10),
            handover: Duration::from_secs(30),
        }
    }
}

impl LeaseSettings {
    /// Shorter lease times lose leases to a busy machine, longer ones nobody waits for.
    pub const LEASE_TIME_RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(3600);

    /// The rows are looked at this often at least, and several times in a lease time.
    pub(crate) fn observe(&self) -> Duration {
        OBSERVE.min(self.lease_time / 5)
    }

    /// A call of the store that takes longer is left undone; the next round sees what became of it.
    pub(crate) fn patience(&self) -> Duration {
        self.renew_after()
    }

    /// Leases are renewed when they are this old: two renewals may fail before anybody takes over.
    pub(crate) fn renew_after(&self) -> Duration {
        self.lease_time / 3
    }

    /// Rounds follow each other no faster, however often the store reports changes.
    pub(crate) fn round_gap(&self) -> Duration {
        self.observe() / 20
    }

    /// How long a shard that was handed over is kept for who asked.
    pub(crate) fn reserve(&self) -> Duration {
        self.observe() * 3
    }
}

/// Rows are looked at at least this often: what nobody tells of is seen as late as this.
const OBSERVE: Duration = Duration::from_secs(1);
/// What a leased subscription is made of.
#[derive(Debug)]
pub(crate) struct LeaseSetup {
    /// The stream.
    pub(crate) stream: SharedStream,
    /// Its lease store for the app.
    pub(crate) store: Arc<dyn LeaseStore>,
    /// The app.
    pub(crate) app: String,
    /// The worker's name; made unique by a suffix.
    pub(crate) worker: String,
    /// Where the app starts.
    pub(crate) start: Start,
    /// What the shards are worked on for: progress counts for its output only.
    pub(crate) stage: Arc<dyn Stage>,
    /// How leases are kept.
    pub(crate) settings: LeaseSettings,
    /// What readers take their memory from.
    pub(crate) budget: Budget,
    /// For the suffix, jitter and tie-breaks.
    pub(crate) random: Random,
}

/// Swaps under way at once: hundreds of leases fit into a third of a lease time on a remote store, and a local one makes
/// those that wait together.
pub(super) const AT_ONCE: usize = 64;

/// A call of the store or the stream, left undone when it takes too long: a keeper that waits hands nothing over.
pub(super) async fn limited<T>(
    patience: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Unavailable {
            message: format!("no answer within {} s", patience.as_secs_f64()),
            after: Duration::ZERO,
        }),
    }
}
