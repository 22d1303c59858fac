//! Where implementations are exchanged: streams and their readers, leases, stages, transforms, lakes, settings.

pub mod admin;
pub mod lake;
pub mod lease;
pub(crate) mod read;
pub mod settings;
pub mod stage;
pub(crate) mod start;
pub mod stream;
pub mod subscription;
pub mod transform;
