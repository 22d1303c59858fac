//! Goes over bytes again up to a place between two records, and stands there as the reader stood that noted the place.
//!
//! That reader may have looked at bytes behind the place before it decided what lies in front of it, so a replay looks at
//! them too, and stops at the place. Where these bytes lead across the place, they were not there when it was noted: the
//! source ended at the place, and so does the replay.

use super::*;

/// A replay on its way to its place.
#[derive(Debug)]
pub(in super::super) struct Replay {
    /// The splitter where bytes behind the place began to count, and how many of the bytes were done with then.
    before: Option<(Splitter, usize)>,
    at: usize,
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Replayed {
    /// At its place.
    Done,
    /// What follows its bytes decides.
    Wants,
}

impl Replay {
    pub(in super::super) const fn new() -> Self {
        Replay {
            before: None,
            at: 0,
        }
    }

    /// Takes `splitter` on towards `place` in `bytes`, of which later calls bring the same and more; `is_all` says that
    /// nothing follows them.
    pub(in super::super) fn run(
        &mut self,
        splitter: &mut Splitter,
        bytes: &[u8],
        place: usize,
        is_all: bool,
    ) -> Replayed {
        let mut scrap = LineBlock::default();
        let (before, from) = self.before.get_or_insert_with(|| {
            self.at = splitter.split(&bytes[..place], Extent::More, &mut scrap);
            (splitter.clone(), self.at)
        });
        // A refusal may be due at the place itself, once it is seen that what is refused ends there.
        while self.at < place || splitter.is_discarding() {
            if splitter.may_pass_several()
                && let Advance::At(done) | Advance::Wait(done) =
                    splitter.step_over(&bytes[..place], self.at)
                && done > self.at
            {
                self.at = done;
                continue;
            }
            let mut ahead = splitter.clone();
            match ahead.step_over(bytes, self.at) {
                Advance::At(done) if done <= place => {
                    self.at = done;
                    *splitter = ahead;
                }
                // What the step has looked at lies behind the place: it is made again with more.
                Advance::Wait(done) if done <= place && !is_all => return Replayed::Wants,
                Advance::At(_) | Advance::Wait(_) => {
                    *splitter = before.clone();
                    splitter.split(&bytes[*from..place], Extent::End, &mut scrap);
                    return Replayed::Done;
                }
            }
        }
        Replayed::Done
    }
}

impl Splitter {
    /// Does a step again, whose records were handed out then.
    fn step_over(&mut self, bytes: &[u8], at: usize) -> Advance {
        let piece = &mut Piece {
            bytes,
            extent: Extent::More,
            block: &mut LineBlock::default(),
        };
        self.step(piece, at)
    }

    /// Whether a step may lead over places between records.
    const fn may_pass_several(&self) -> bool {
        matches!(
            self.state,
            SplitState::Line | SplitState::Between | SplitState::Rest
        )
    }
}
