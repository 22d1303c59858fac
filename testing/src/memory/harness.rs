//! Streams in memory for the suite of streams, with something around each.

use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::random::Random;
use hydrant_core::stream::SharedStream;

use super::stream::MemoryStream;
use crate::clock::ManualClock;
use crate::conformance_stream::{DropsCopies, Harness};

/// Makes streams in memory that drop copies where they say.
#[derive(Debug)]
pub struct MemoryHarness<F> {
    /// Where copies are dropped.
    pub drops_copies: DropsCopies,
    /// Puts something around a stream, which must not break a promise.
    pub around: F,
}

#[async_trait]
impl<F: Fn(SharedStream) -> SharedStream + Send + Sync> Harness for MemoryHarness<F> {
    async fn create(&self, shards: u32) -> SharedStream {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
        let stream = match self.drops_copies {
            DropsCopies::AtReader => {
                MemoryStream::storing("memory", shards, clock, Random::seeded(1))
            }
            _ => MemoryStream::new("memory", shards, clock),
        };
        (self.around)(Arc::new(stream))
    }

    async fn reopen(&self, stream: SharedStream) -> SharedStream {
        stream
    }

    fn drops_copies(&self) -> DropsCopies {
        self.drops_copies
    }

    fn has_tips(&self) -> bool {
        self.drops_copies == DropsCopies::AtAppend
    }
}
