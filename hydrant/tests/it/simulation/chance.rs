//! Draws the parts of plans.

use std::time::Duration;

use hydrant_core::Random;
use hydrant_testing::disk::{At, Death, Fault, Loss, Moment};

use super::machine::MachineFault;

/// A fault of a process at one of its calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallFault {
    pub(super) at: At,
    pub(super) moment: Moment,
    pub(super) fault: Fault,
}

/// The random numbers of one plan.
pub(super) struct Chance(pub(super) Random);

impl Chance {
    pub(super) fn below(&self, end: u64) -> u64 {
        self.0.below(end)
    }

    pub(super) fn percent(&self, share: u64) -> bool {
        self.below(100) < share
    }

    pub(super) fn one<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub(super) fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }

    pub(super) fn micros(&self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64))
    }

    pub(super) fn moment(&self) -> Moment {
        self.one(&[Moment::Before, Moment::After])
    }

    pub(super) fn loss(&self) -> Loss {
        self.one(&[Loss::Everything, Loss::Some, Loss::Some, Loss::Nothing])
    }

    pub(super) fn death(&self) -> Death {
        match self.percent(50) {
            true => Death::Kill,
            false => Death::PowerCut(self.loss()),
        }
    }

    pub(super) fn power_cut(&self) -> MachineFault {
        MachineFault::PowerCut(self.loss())
    }

    pub(super) fn full(&self, room: u64, from: u64, to: u64) -> MachineFault {
        MachineFault::Full {
            room: self.below(room),
            until: self.millis(from, to),
        }
    }

    /// A jump of the wall clock by at most this many microseconds, either way.
    pub(super) fn jump(&self, most: u64) -> MachineFault {
        let micros = self.below(2 * most) as i64 - most as i64;
        MachineFault::Jump { micros }
    }
}
