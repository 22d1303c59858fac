//! Decides when the lease of another worker has expired, so that this one may take it.
//!
//! A lease expires once its row has not changed for a lease time, by the observing worker's own clock, since that
//! worker first saw the row in its present version. It expires at once where the store knows that its owner is gone.
//! The owner gives it up by itself at the same age ([`HeldLease::is_fresh`](super::held_lease::HeldLease::is_fresh)).
//!
//! A worker that has not looked for longer than its store calls may take was paused, perhaps together with all other
//! workers. The excess does not count: otherwise the first worker to wake would take every lease.

use std::time::Duration;

use hydrant_core::clock::{self, Instant};

use super::coordinator::{LeaseCoordinator, ObservedRow};

impl LeaseCoordinator {
    /// Whether the owner of a row may be alive.
    pub(super) fn may_live(&self, owner: &str, seen: &ObservedRow) -> bool {
        let age = clock::now().duration_since(seen.since);
        age < self.times.lease_time && !self.dead.contains(owner)
    }

    /// Returns when the next lease of another worker expires unless it is renewed, so that this worker takes it at once
    /// instead of at the next round.
    pub(super) fn next_free(&self) -> Option<Instant> {
        let theirs = self.rows.values().filter(|seen| {
            let owner = seen.row.owner.as_ref();
            owner.is_some_and(|owner| *owner != self.me)
        });
        let now = clock::now();
        theirs
            .map(|seen| seen.since + self.times.lease_time)
            .filter(|expires| *expires > now)
            .min()
    }

    /// Notes that a call of the store has ended now. All rows are younger by the pause before it.
    pub(super) fn note_look(&mut self) {
        let now = clock::now();
        let usual = self.times.patience() + self.times.observe;
        let pause = now.duration_since(self.looked_at).saturating_sub(usual);
        if pause > Duration::ZERO {
            self.rows.values_mut().for_each(|seen| seen.since += pause);
        }
        self.looked_at = now;
    }
}
