//! Places where a process is caught on its way: at one call of one kind on one path, instead of at any call.
//!
//! What takes long to meet by chance, two owners between the same two steps, is a snare or two.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Death, Moment, Op, SimWorld, WorldState};

/// What happens to a process at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fall {
    /// It dies.
    Dies(Death),
    /// All its calls wait for so long, or until [`SimWorld::resume`].
    Hangs(Duration),
    /// The call is answered with an error, like those of a [`Rule`](super::Rule).
    Fails(ErrorKind),
    /// The process unwinds ([`SimWorld::unwind`]) with this call under way, and is dead so much later.
    Unwinds(Duration),
}

/// Waits for a process to make a call.
#[derive(Clone, Debug)]
pub struct Snare {
    /// Whose name starts with this.
    pub process: String,
    /// Which call.
    pub op: Op,
    /// On a path that contains this.
    pub path: String,
    /// Whether the call has its effect first.
    pub moment: Moment,
    /// What happens then.
    pub fall: Fall,
}

/// Who was caught, and where.
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
    tell: oneshot::Sender<Caught>,
}

impl SimWorld {
    /// Lays a snare, which catches one process once. The answer tells who it was when the call is made, or ends
    /// without one when the snares are taken up by [`SimWorld::heal`].
    pub fn snare(&self, snare: Snare) -> oneshot::Receiver<Caught> {
        let (tell, caught) = oneshot::channel();
        self.shared.lock().snares.push(Laid { snare, tell });
        caught
    }
}

impl WorldState {
    /// The snare into which a call of a living process runs.
    pub(super) fn spring(&mut self, process: &str, op: Op, path: &str) -> Option<(Moment, Fall)> {
        let fits = |laid: &Laid| {
            let snare = &laid.snare;
            snare.op == op && process.starts_with(&snare.process) && path.contains(&snare.path)
        };
        let at = self.snares.iter().position(fits)?;
        let Laid { snare, tell } = self.snares.remove(at);
        // The test may not wait for it.
        drop(tell.send(Caught {
            process: process.to_owned(),
            path: path.to_owned(),
        }));
        Some((snare.moment, snare.fall))
    }
}
