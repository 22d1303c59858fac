//! What an operator does to a stream: create, delete, split, merge, trim and repair it.

mod repair;
mod reshard;

pub(super) mod create;
pub(super) mod stream_admin;
