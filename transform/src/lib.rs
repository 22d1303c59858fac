//! The stage that strips personal data from a stream.
//!
//! [`PiiTransform`] runs the engine of `hydrant-pii` over batches; a [`TransformStage`](hydrant_consumer::TransformStage) carries what comes out into
//! another stream, each unit once; [`FusedStage`] hands it to a stage in the same process instead. Nothing passes
//! unscanned: what cannot be processed becomes a dead letter without payload.

pub mod config;
pub mod policy;
pub mod wire;

mod fuse;
mod pii_transform;

pub use fuse::FusedStage;
pub use pii_transform::PiiTransform;
