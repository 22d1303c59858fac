//! The times and limits of a worker's leases.

use std::ops::RangeInclusive;
use std::time::Duration;

use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Pace;

/// The times and limits of leases, as far as they are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// A holder that is silent for this long loses its lease. Default: as the store says, 10 s beside the embedded log.
    /// Raise it when the lease store answers slowly. Cost: the shards of a hung worker wait longer.
    pub lease_time: Option<Duration>,
    /// How long a holder may take to publish and hand over a shard that another worker asked for. Default: 30 s.
    pub handover: Duration,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        LeaseSettings {
            lease_time: None,
            handover: Duration::from_secs(30),
        }
    }
}

impl LeaseSettings {
    /// The lease times that can be set. A busy machine loses shorter leases, and a dead worker's shards wait for
    /// longer ones.
    pub const LEASE_TIME_RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(3600);

    /// The times at a store of this pace, which the settings outrank.
    pub(crate) fn at(self, pace: Pace) -> LeaseTimes {
        let lease_time = self.lease_time.unwrap_or(pace.lease_time);
        let observe = match self.lease_time {
            // Several readings fit into a lease time, however short it is set.
            Some(lease_time) => pace.observe.min(lease_time / 5),
            None => pace.observe,
        };
        debug_assert!(observe < lease_time, "rows are read before leases run out");
        LeaseTimes {
            lease_time,
            observe,
            handover: self.handover,
        }
    }
}

/// The times and limits in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseTimes {
    pub(crate) lease_time: Duration,
    /// The longest time between two readings of all rows.
    pub(crate) observe: Duration,
    pub(crate) handover: Duration,
}

impl LeaseTimes {
    /// How long a call of the store may take before it is dropped; the next round sees whether it took effect.
    pub(crate) fn patience(&self) -> Duration {
        self.renew_after()
    }

    /// The age at which a lease is renewed. Several renewals may be refused before another worker takes over, and one
    /// may be left without an answer.
    pub(crate) fn renew_after(&self) -> Duration {
        self.lease_time / 3
    }

    /// The shortest time between two rounds, however often the store reports changes.
    pub(crate) fn round_gap(&self) -> Duration {
        self.observe / 20
    }

    /// How long a shard that was handed over stays reserved for the worker that asked.
    pub(crate) fn reserve(&self) -> Duration {
        self.observe * 3
    }
}

/// How many swaps may run at once: with a remote store hundreds of leases fit into a third of a lease time, and a
/// local store commits those that wait together.
pub(super) const AT_ONCE: usize = 64;

/// Awaits a call of the store or the stream for at most `patience`: a coordinator that waits hands nothing over.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_outranks_the_pace_of_the_store() {
        let seconds = Duration::from_secs;
        let remote = Pace {
            lease_time: seconds(9),
            observe: seconds(3),
            checkpoint: seconds(5),
        };
        let set = |lease_time| LeaseSettings {
            lease_time,
            ..LeaseSettings::default()
        };
        for (given, pace, lease_time, observe) in [
            (None, Pace::LOCAL, seconds(10), seconds(1)),
            (None, remote, seconds(9), seconds(3)),
            (Some(seconds(60)), remote, seconds(60), seconds(3)),
            (Some(seconds(5)), remote, seconds(5), seconds(1)),
            (Some(seconds(1)), Pace::LOCAL, seconds(1), seconds(1) / 5),
        ] {
            let times = set(given).at(pace);
            assert_eq!((times.lease_time, times.observe), (lease_time, observe));
        }
    }
}
