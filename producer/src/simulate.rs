//! A fleet of simulated devices whose records are a pure function of seed and index.
//!
//! Promises: record `index` of a [`FleetSpec`] has the same bytes in every process and on every
//! machine, and costs the same whatever `index` is, so that a test can say what a lake must hold
//! without storing it; each record carries its `index`, its `device_id` and a `seq` that rises by
//! one from record to record of the device; every column has one JSON type, unless `conflict_share`
//! asks for others; [`Fleet::planted`] lists the personal data in a record byte for byte.
//!
//! Refuses: reading clocks, sending, batching, and personal data of real people.

mod device;
mod draw;
mod faults;
mod fleet;
mod json;
mod person;
mod record;
mod spec;
#[cfg(test)]
mod tests;

pub use device::DeviceKind;
pub use fleet::{Fleet, Meta};
pub use spec::{DEVICES_MAX, FleetSpec, PiiShares};
