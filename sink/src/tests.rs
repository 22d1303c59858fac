//! The sink against a lake on a simulated disk, with and without faults.

mod accounts;
mod aggregates;
mod beside;
mod cleaning;
mod crash;
mod expiring;
pub(crate) mod fault;
mod faults;
mod file_lake;
mod footers;
mod inspecting;
mod long_chain;
mod memory;
mod owners;
mod partitions;
mod publish;
mod rebuild;
mod rebuild_records;
mod schemas;
mod simulation;
mod slow_lake;
mod support;
mod uploads;
mod vanishing;
mod verifying;
mod verifying_at_scale;
