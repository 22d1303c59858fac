//! Reads standard input until it ends or the process drains.
//!
//! No read begins once the process drains, so the caller can finish what it has and ends in time: a plain read of a
//! pipe or a terminal would wait as long as its other end does.

use std::io::{self, Read, Stdin};

use hydrant_core::Shutdown;
use hydrant_producer::input::{LINE_BYTES_MAX_DEFAULT, LineReader, ReadOptions, stdin};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often a read that waits looks whether the process drains.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Standard input, whose reads fail once the process drains.
pub(super) struct DrainableStdin {
    stdin: Stdin,
    shutdown: Shutdown,
}

/// The lines of standard input.
pub(super) fn open(shutdown: Shutdown) -> LineReader<DrainableStdin> {
    let stdin = io::stdin();
    let source = DrainableStdin { stdin, shutdown };
    LineReader::new(
        stdin::NAME,
        source,
        ReadOptions::lines(LINE_BYTES_MAX_DEFAULT),
    )
}

impl Read for DrainableStdin {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.shutdown.is_draining() {
            let mut input = [PollFd::new(&self.stdin, PollFlags::IN)];
            if poll(&mut input, Some(&LOOK_EVERY))? > 0 {
                // Not through the buffer of `Stdin`, which `poll` does not see.
                return Ok(rustix::io::read(&self.stdin, into)?);
            }
        }
        Err(io::Error::other("the process drains"))
    }
}
