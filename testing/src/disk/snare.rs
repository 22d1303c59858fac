//! Snares: breakpoints at one call of one kind on one path.
//!
//! They bring about what is rare by chance, such as two owners between the same two steps.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Death, Moment, Op, SimWorld, WorldState};

/// What happens to a process at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fall {
    /// It dies.
    Dies(Death),
    /// All its calls wait for this time, or until [`SimWorld::resume`].
    Hangs(Duration),
    /// The call fails with this error, as with a [`Rule`](super::Rule).
    Fails(ErrorKind),
    /// The process unwinds ([`SimWorld::unwind`]) with this call under way, and dies after this time.
    Unwinds(Duration),
}

/// A breakpoint: something that happens to the first process that makes a certain call.
#[derive(Clone, Debug)]
pub struct Snare {
    /// The process whose name starts with this.
    pub process: String,
    /// The kind of call.
    pub op: Op,
    /// The call whose path contains this.
    pub path: String,
    /// Whether the call takes effect first.
    pub moment: Moment,
    /// What happens to the process.
    pub fall: Fall,
}

/// The process that a snare caught, and its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The name of the process.
    pub process: String,
    /// The path of the call.
    pub path: String,
}

#[derive(Debug)]
pub(super) struct Laid {
    snare: Snare,
    report: oneshot::Sender<Caught>,
}

impl SimWorld {
    /// Lays a snare, which catches one process once. The receiver gets the process when the call is made, or ends
    /// without one when [`SimWorld::heal`] removes the snares.
    pub fn snare(&self, snare: Snare) -> oneshot::Receiver<Caught> {
        let (report, caught) = oneshot::channel();
        self.shared.lock().snares.push(Laid { snare, report });
        caught
    }
}

impl WorldState {
    /// Removes the snare that a call matches, and answers what it does.
    pub(super) fn spring(&mut self, process: &str, op: Op, path: &str) -> Option<(Moment, Fall)> {
        let fits = |laid: &Laid| {
            let snare = &laid.snare;
            snare.op == op && process.starts_with(&snare.process) && path.contains(&snare.path)
        };
        let at = self.snares.iter().position(fits)?;
        let Laid { snare, report } = self.snares.remove(at);
        // The test may have stopped waiting.
        drop(report.send(Caught {
            process: process.to_owned(),
            path: path.to_owned(),
        }));
        Some((snare.moment, snare.fall))
    }
}
