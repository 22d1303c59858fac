//! The embedded log as its users see it.

mod conformance;
mod crashes;
mod faults;
mod fences;
mod fixture;
mod homes;
mod leases;
mod many_shards;
mod observers;
mod repair;
mod reshard;
mod write;
