//! The specification of a fleet.

use serde::Serialize;

/// The largest fleet: device ids have eight digits, fewer than any phone or card number.
pub const DEVICES_MAX: u64 = 100_000_000;

/// Shares of records (of devices, for partition keys) that carry personal data, by where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PiiShares {
    /// In top-level values: addresses, tokens, card numbers, e-mail. Default: 0.5.
    pub values: f64,
    /// In nested objects: owners, drivers, patients, exact coordinates. Default: 0.5.
    pub nested: f64,
    /// In free text. Default: 0.2.
    pub text: f64,
    /// In a JSON key, of the records that have such an object. Default: 0.05.
    pub object_keys: f64,
    /// In the device's id and so in its partition key: share of devices. Default: 0.01.
    pub partition_keys: f64,
}

impl PiiShares {
    /// No personal data at all.
    pub const NONE: Self = Self::everywhere(0.0);

    /// Personal data in every place that can hold it.
    pub const ALL: Self = Self::everywhere(1.0);

    const fn everywhere(share: f64) -> Self {
        Self {
            values: share,
            nested: share,
            text: share,
            object_keys: share,
            partition_keys: share,
        }
    }
}

impl Default for PiiShares {
    fn default() -> Self {
        Self {
            values: 0.5,
            nested: 0.5,
            text: 0.2,
            object_keys: 0.05,
            partition_keys: 0.01,
        }
    }
}

/// The specification of a fleet: two equal ones give equal records.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetSpec {
    /// Chooses one of 2^64 fleets. Default: 1.
    pub seed: u64,
    /// Devices, 1 to [`DEVICES_MAX`]. Default: 1,000.
    pub devices: u64,
    /// Share of records that are not JSON objects: cut short, invalid UTF-8, bare text. Default:
    /// 0.001.
    pub malformed_share: f64,
    /// Share of records whose event time lies 1 hour to 7 days back. Default: 0.02.
    pub late_share: f64,
    /// Share of records in which `firmware` is a number instead of a string. Default: 0.
    pub conflict_share: f64,
    /// Shares of personal data.
    pub pii: PiiShares,
    /// Event time of the first round, microseconds since 1970. Default: 2026-01-01T00:00:00Z.
    pub start_micros: i64,
    /// Event time between two records of a device, microseconds. Default: 10 s.
    pub interval_micros: u64,
}

impl Default for FleetSpec {
    fn default() -> Self {
        Self {
            seed: 1,
            devices: 1_000,
            malformed_share: 0.001,
            late_share: 0.02,
            conflict_share: 0.0,
            pii: PiiShares::default(),
            start_micros: 1_767_225_600_000_000,
            interval_micros: 10_000_000,
        }
    }
}
