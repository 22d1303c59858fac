//! Leases as files: each version of a row is a name that is made once, so that no worker waits for another.
//!
//! ```text
//! HOME/_apps/<APP>/<SHARD>.<COUNTER>.json    a version of a row ([`rows`])
//! HOME/_apps/<APP>/.<WORKER>.<NONCE>.tmp     rows on their way
//! HOME/_apps/<APP>/changes                   written when owners, requests or ends change; coordinators watch it
//! HOME/_apps/<APP>/workers/<WORKER>.lock     held as long as the worker lives ([`presence`])
//! HOME/_apps/<APP>/lock                      shared by registered workers; a reprocessing holds it alone
//! ```
//!
//! A swap holds no lock: a worker that stands still in the middle of one keeps no other from swapping, not even the
//! same row. Swaps that are asked for at the same time are made together and share their syncs. The kernel frees a
//! worker's lock when its process dies, so that its shards can be taken over at once; one that hangs is noticed by its
//! counters, like in any lease store.

mod presence;
mod rows;
mod store;

pub(super) mod generations;

pub(super) use store::FileLeases;
