//! The logs behind the seams of hydrant-core, opened by URL.
//!
//! [`open()`] answers a [`hydrant_core::stream::SharedStream`] for a URL; [`StreamUrl`] lists the kinds. The embedded log
//! is [`local`].

pub mod delivery;
pub mod local;

mod open;
mod url;

pub use local::{Codec, CreateOptions};
pub use open::{create, delete, open, open_or_create};
pub use url::StreamUrl;
