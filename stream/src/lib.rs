//! The logs behind the seams of hydrant-core, opened by URL.
//!
//! [`Streams::open`] answers a [`hydrant_core::stream::SharedStream`] for a URL; [`StreamKind`] lists the kinds. The
//! embedded log is [`local`].

pub mod delivery;
pub mod local;

mod metrics;
mod streams;
mod url;

pub use local::{Codec, CreateOptions};
pub use metrics::METRICS;
pub use streams::Streams;
pub use url::{StreamKind, StreamUrl};
