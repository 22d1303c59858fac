//! Reads streams: the runtime that every stage runs on, and the copies of `hydrant-consumer`.
//!
//! Every stage of Hydrant runs on [`runtime`]. [`copy`] has the stages of `hydrant-consumer`, and [`wire`] connects
//! them to concrete streams and targets. [`TransformStage`] runs between two streams, for copies and for policies alike.

pub mod config;
pub mod copy;
pub mod runtime;
pub mod wire;

mod input;
mod metrics;
mod transform_stage;

pub use input::InputSettings;
pub use transform_stage::TransformStage;
