//! The leases by which a worker gets its share of a stream's shards; see [`subscription`].

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
