//! The embedded log as its users see it.

mod append_and_read;
mod conformance;
mod crashes;
mod faults;
mod fences;
mod fixture;
mod leases;
mod letters;
mod limits;
mod many_shards;
mod observers;
mod reshard;
mod retention;
mod rolling;
mod runs;
mod two_writers;
mod without_home;
