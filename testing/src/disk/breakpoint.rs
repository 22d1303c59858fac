//! Breakpoints at one call of one kind on one path.
//!
//! They bring about what is rare by chance, such as two owners between the same two steps.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Death, Moment, Op, SimWorld, WorldState};

/// What happens to a process at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It dies.
    Dies(Death),
    /// All its calls wait for this time, or until [`SimWorld::resume`].
    Hangs(Duration),
    /// The call fails with this error, as with a [`Rule`](super::Rule).
    Fails(ErrorKind),
    /// The process unwinds ([`SimWorld::unwind`]) with this call under way, and dies after this time.
    Unwinds(Duration),
}

/// Something that happens to the first process that makes a certain call.
#[derive(Clone, Debug)]
pub struct Breakpoint {
    /// The process whose name starts with this.
    pub process: String,
    /// The kind of call.
    pub op: Op,
    /// The call whose path contains this.
    pub path: String,
    /// Whether the call takes effect first.
    pub moment: Moment,
    /// What happens to the process.
    pub fault: Fault,
}

/// The process that met a breakpoint, and its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakpointHit {
    /// The name of the process.
    pub process: String,
    /// The path of the call.
    pub path: String,
}

#[derive(Debug)]
pub(super) struct SetBreakpoint {
    breakpoint: Breakpoint,
    report: oneshot::Sender<BreakpointHit>,
}

impl SimWorld {
    /// Sets a breakpoint, which stops one process once. The receiver gets the process when the call is made, or ends
    /// without one when [`SimWorld::heal`] removes the breakpoints.
    pub fn set_breakpoint(&self, breakpoint: Breakpoint) -> oneshot::Receiver<BreakpointHit> {
        let (report, caught) = oneshot::channel();
        self.shared
            .lock()
            .breakpoints
            .push(SetBreakpoint { breakpoint, report });
        caught
    }
}

impl WorldState {
    /// Removes the breakpoint that a call matches, and answers what it does.
    pub(super) fn hit_breakpoint(
        &mut self,
        process: &str,
        op: Op,
        path: &str,
    ) -> Option<(Moment, Fault)> {
        let fits = |set: &SetBreakpoint| {
            let breakpoint = &set.breakpoint;
            breakpoint.op == op
                && process.starts_with(&breakpoint.process)
                && path.contains(&breakpoint.path)
        };
        let at = self.breakpoints.iter().position(fits)?;
        let SetBreakpoint { breakpoint, report } = self.breakpoints.remove(at);
        // The test may have stopped waiting.
        drop(report.send(BreakpointHit {
            process: process.to_owned(),
            path: path.to_owned(),
        }));
        Some((breakpoint.moment, breakpoint.fault))
    }
}
