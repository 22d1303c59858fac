//! One lane: the unconfirmed appends of a session to one output shard, and what is to be done about a failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::AbortHandle;
use hydrant_core::clock::{self, Instant};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::origin::OriginEntry;
use hydrant_core::retry::{Backoff, is_logged};
use hydrant_core::stream::{Append, ClaimedRange};
use hydrant_core::{Disposition, Error, HashRange, Permit, Position, Random, ShardId};

use super::plan::AppendSlice;
use super::route::Table;
use super::upstream::Upstream;

/// How far an append is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    /// Not submitted, or its submission failed.
    Waiting,
    /// Handed in and not answered, or waiting for room with the writer.
    InFlight,
    /// Durable.
    Stored,
}

/// An append of a lane.
pub(super) struct Sent {
    pub(super) id: u64,
    pub(super) batch: u64,
    pub(super) state: LaneState,
    /// The shard that has it, when that is not the lane's.
    pub(super) elsewhere: Option<ShardId>,
    pub(super) piece: AppendSlice,
}

/// Why a lane submits nothing now.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneFault {
    /// The shard is closed or gone: the lane ends when the new map is there.
    pub(super) closed: bool,
    pub(super) not_before: Instant,
}

/// The way of one session into one shard.
pub(super) struct Lane {
    pub(super) range: HashRange,
    /// How far everything of the upstream shard that routes here is durable; tiles the range.
    pub(super) confirmed: Vec<ClaimedRange>,
    /// Oldest first.
    pub(super) sent: VecDeque<Sent>,
    pub(super) in_flight: usize,
    /// The last of these waits for room with the writer, and those behind it wait with it.
    pub(super) parked: Option<AbortHandle>,
    pub(super) fault: Option<LaneFault>,
    /// Faults since the last success.
    pub(super) failures: u32,
}

impl Lane {
    /// A lane into a shard that owns `range`, in which this much is durable.
    pub(super) fn new(range: HashRange, confirmed: Vec<ClaimedRange>) -> Self {
        debug_assert!(
            confirmed.first().map(|part| part.range.first) == Some(range.first)
                && confirmed.last().map(|part| part.range.last) == Some(range.last),
            "claims tile the range of their lane"
        );
        Lane {
            range,
            confirmed,
            sent: VecDeque::new(),
            in_flight: 0,
            parked: None,
            fault: None,
            failures: 0,
        }
    }

    /// Whether the next append may be handed in.
    pub(super) fn may_submit(&self) -> bool {
        self.fault.is_none() && self.parked.is_none()
    }

    /// What the append of this number claims: what is confirmed, or what the one before it completes.
    pub(super) fn claims_of(&self, at: usize) -> Vec<ClaimedRange> {
        let confirmed = || match mutant::is(Mutant::LeastFrom) {
            false => self.confirmed.clone(),
            true => vec![ClaimedRange {
                range: self.range,
                from: self
                    .confirmed
                    .iter()
                    .map(|part| part.from)
                    .min()
                    .unwrap_or_default(),
            }],
        };
        match at.checked_sub(1) {
            Some(before) if !mutant::is(Mutant::FromConfirmed) => vec![ClaimedRange {
                range: self.range,
                from: self.sent[before].piece.to,
            }],
            _ => confirmed(),
        }
    }

    /// Notes that an append is handed in; answers its number for life.
    pub(super) fn submitted(&mut self, at: usize) -> u64 {
        self.in_flight += 1;
        self.sent[at].state = LaneState::InFlight;
        self.sent[at].id
    }

    /// Notes that an append is durable, `elsewhere` when another shard took it: then the map has changed.
    pub(super) fn stored(&mut self, at: usize, elsewhere: Option<ShardId>) {
        self.in_flight -= 1;
        self.failures = 0;
        if elsewhere.is_some() {
            self.take_back();
            let now = clock::now();
            let fault = self.fault.get_or_insert(LaneFault {
                closed: true,
                not_before: now,
            });
            fault.closed = true;
        }
        let sent = &mut self.sent[at];
        (sent.state, sent.elsewhere) = (LaneState::Stored, elsewhere);
        let is_confirmed =
            |sent: &mut Sent| sent.state == LaneState::Stored && sent.elsewhere.is_none();
        while let Some(first) = self.sent.pop_front_if(is_confirmed) {
            if first.piece.to == Position::End {
                // Nothing follows; a merged lane does not claim from there.
                continue;
            }
            self.confirmed.clear();
            self.confirmed.push(ClaimedRange {
                range: self.range,
                from: first.piece.to,
            });
        }
    }

    /// How far everything is durable when the lane ends: what another shard took counts in the range of that shard alone,
    /// whose readers alone have its claim.
    pub(super) fn confirmed_by(&self, table: &Table) -> Vec<ClaimedRange> {
        let mut confirmed = self.confirmed.clone();
        let stored =
            |sent: &&Sent| sent.state == LaneState::Stored && sent.piece.to != Position::End;
        let mut reach = Some(self.range);
        for sent in self.sent.iter().take_while(stored) {
            if let Some(shard) = &sent.elsewhere
                && !mutant::is(Mutant::CreditBeyondShard)
            {
                let range = table.range_of(shard);
                reach = reach.and_then(|reach| reach.intersect(range?));
            }
            confirmed.extend(reach.map(|range| ClaimedRange {
                range,
                from: sent.piece.to,
            }));
        }
        confirmed
    }

    /// Notes that an append was refused, or that its fate is unknown; answers the error when nothing can be
    /// done about it.
    pub(super) fn refused(
        &mut self,
        at: usize,
        error: Error,
        random: &Random,
        shard: &ShardId,
    ) -> Option<Error> {
        self.in_flight -= 1;
        self.sent[at].state = LaneState::Waiting;
        self.fail(error, at, random, shard)
    }

    /// Takes back what waits for room: the writer, which does not have it yet, would send it behind what failed before it.
    fn take_back(&mut self) {
        let is_left = mutant::is(Mutant::ParkedBehindFailure);
        let Some(parked) = self.parked.take_if(|_| !is_left) else {
            return;
        };
        parked.abort();
        let mut last = self.sent.iter_mut().rev();
        if let Some(sent) = last.find(|sent| sent.state == LaneState::InFlight) {
            self.in_flight -= 1;
            sent.state = LaneState::Waiting;
        }
    }

    /// Notes what is to be done about a failed append; answers the error when that is nothing.
    fn fail(&mut self, error: Error, at: usize, random: &Random, shard: &ShardId) -> Option<Error> {
        self.take_back();
        let (closed, after, reason) = match (error.disposition(), &error) {
            (Disposition::Reroute, _) => (true, Duration::ZERO, "closed"),
            (Disposition::Retry { after }, Error::Full { .. }) => (false, after, "full"),
            (Disposition::Retry { after }, _) => (false, after, "unavailable"),
            // Its predecessor failed; the first of a lane has none, and then the output has lost what it confirmed.
            (_, Error::OutOfOrder { .. }) if at > 0 => (false, Duration::ZERO, "predecessor"),
            _ => return Some(error),
        };
        metrics::counter!("hydrant_lanes_retries_total", "reason" => reason).increment(1);
        if let Some(fault) = &mut self.fault {
            // One fault fails everything that is in flight: it is logged, counted and waited for once.
            fault.closed |= closed;
            fault.not_before = fault.not_before.max(clock::now() + after);
            return None;
        }
        if is_logged(self.failures) {
            tracing::warn!(%shard, error = error.report(), "an append failed and is sent again");
        }
        let delay = if closed || reason == "predecessor" {
            Duration::ZERO
        } else {
            let delay = Backoff::default().delay(self.failures, random);
            self.failures = self.failures.saturating_add(1);
            after.max(delay)
        };
        self.fault = Some(LaneFault {
            closed,
            not_before: clock::now() + delay,
        });
        None
    }

    pub(super) fn wait_for_map(&mut self, after: Duration, random: &Random) {
        let delay = after.max(Backoff::default().delay(self.failures, random));
        self.failures = self.failures.saturating_add(1);
        self.fault = Some(LaneFault {
            closed: true,
            not_before: clock::now() + delay,
        });
    }
}

/// The append that a piece makes, with what its sender claims.
pub(super) fn append_of(
    upstream: &Upstream,
    low: Position,
    claims: Vec<ClaimedRange>,
    piece: &AppendSlice,
) -> Append {
    let from = claims.iter().map(|claim| claim.from).min();
    Append {
        batch: Arc::clone(&piece.batch),
        record_indexes: Arc::clone(&piece.record_indexes),
        routes: Arc::clone(&piece.routes),
        explicit: piece.explicit,
        entry: Some(OriginEntry {
            writer: upstream.writer,
            shard: upstream.shard.clone(),
            low,
            from: from.unwrap_or_default(),
            to: piece.to,
            origins: piece.origins.clone(),
            start: upstream.start,
            account: None,
        }),
        claims,
        input: piece.counted.then(|| piece.input()),
        units: Arc::clone(&piece.units),
        // The batch holds its bytes until everything of it is confirmed.
        permit: Permit::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_fails_all_appends_in_flight_counts_once() {
        let (random, shard) = (Random::seeded(1), ShardId::from("a"));
        let all = ClaimedRange {
            range: HashRange::ALL,
            from: Position::Begin,
        };
        let mut lane = Lane::new(all.range, vec![all]);
        let full = || Error::Full { path: "/a".into() };
        for at in 0..256 {
            assert!(lane.fail(full(), at, &random, &shard).is_none());
        }
        assert_eq!(lane.failures, 1);
        let wait = |fault: Option<LaneFault>| fault.unwrap().not_before - clock::now();
        assert!(
            wait(lane.fault) <= Duration::from_secs(1),
            "{:?}",
            lane.fault
        );
        // The shard is found to be closed as well: that is not forgotten.
        let closed = Error::Sealed {
            shard: shard.clone(),
        };
        assert!(lane.fail(closed, 256, &random, &shard).is_none());
        assert!(lane.fault.unwrap().closed);
        // It was mended, and comes again.
        lane.fault = None;
        assert!(lane.fail(full(), 0, &random, &shard).is_none());
        assert_eq!(lane.failures, 2);
    }
}
