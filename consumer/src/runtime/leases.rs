//! Leases: how workers of an app share the shards of a stream. [`subscription`] describes the whole.

mod balance;
mod coordinator;
mod expiry;
mod held_lease;
pub(crate) mod lineage;
mod private_leases;
mod readers;
mod renewals;
mod rows;
mod settings;
mod subscription;

pub(crate) use held_lease::SILENT;
pub(crate) use private_leases::PrivateLeases;
pub use settings::LEASE_TIME_RANGE;
pub(crate) use subscription::LeasedSubscription;
