//! The streams of these tests keep the promises of every stream.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use hydrant_core::stream::SharedStream;
use hydrant_testing::conformance_stream::{self, DropsCopies, Harness};
use hydrant_testing::memory::MemoryHarness;

use crate::runtime::testing::{BrokerStream, MarkedStream, TiplessStream};

/// Makes streams without tips.
struct TiplessHarness<H>(H);

#[async_trait]
impl<H: Harness> Harness for TiplessHarness<H> {
    async fn create(&self, shards: u32) -> SharedStream {
        TiplessStream::around(self.0.create(shards).await)
    }

    async fn reopen(&self, stream: SharedStream) -> SharedStream {
        stream
    }

    fn has_tips(&self) -> bool {
        false
    }
}

fn around(
    drops_copies: DropsCopies,
    around: impl Fn(SharedStream) -> SharedStream + Send + Sync,
) -> impl Harness {
    MemoryHarness {
        drops_copies,
        around,
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_broker_conforms() {
    for drops_copies in [DropsCopies::AtAppend, DropsCopies::AtReader] {
        let harness = around(drops_copies, |stream| BrokerStream::around(stream));
        conformance_stream::conforms(&harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_marks_conforms() {
    let harness = around(DropsCopies::AtAppend, |stream| {
        let marked = MarkedStream::around(stream);
        marked.forgives.store(true, Ordering::SeqCst);
        marked
    });
    conformance_stream::conforms(&harness).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_tips_conforms() {
    let streams = around(DropsCopies::AtAppend, |stream| stream);
    conformance_stream::conforms(&TiplessHarness(streams)).await;
}
