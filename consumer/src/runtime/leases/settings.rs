//! The times and limits of a worker's leases.

use std::ops::RangeInclusive;
use std::time::Duration;

use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Pace;

/// The lease times that can be set. A busy machine loses shorter leases, and a dead worker's shards wait for longer ones.
pub const LEASE_TIME_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// The times and limits in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseTimes {
    pub(crate) lease_time: Duration,
    /// The longest time between two readings of all rows.
    pub(crate) observe: Duration,
    pub(crate) handover: Duration,
}

impl LeaseTimes {
    /// The times at a store of this pace, which a lease time that is set outranks.
    pub(crate) fn at(pace: Pace, set: Option<Duration>, handover: Duration) -> Self {
        // Several readings fit into a lease time, however short it is set.
        let observe = set.map_or(pace.observe, |lease_time| pace.observe.min(lease_time / 5));
        let lease_time = set.unwrap_or(pace.lease_time);
        debug_assert!(observe < lease_time, "rows are read before leases run out");
        LeaseTimes {
            lease_time,
            observe,
            handover,
        }
    }

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

/// Awaits `call` of the store, the stream or the output for at most `patience`: a coordinator that waits hands nothing over.
pub(super) async fn limited<T>(
    what: &str,
    patience: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Unavailable {
            message: format!("{what}: no answer within {:.1} s", patience.as_secs_f64()),
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
        for (given, pace, lease_time, observe) in [
            (None, Pace::LOCAL, seconds(10), seconds(1)),
            (None, remote, seconds(9), seconds(3)),
            (Some(seconds(60)), remote, seconds(60), seconds(3)),
            (Some(seconds(5)), remote, seconds(5), seconds(1)),
            (Some(seconds(1)), Pace::LOCAL, seconds(1), seconds(1) / 5),
        ] {
            let times = LeaseTimes::at(pace, given, seconds(30));
            assert_eq!((times.lease_time, times.observe), (lease_time, observe));
        }
    }
}
