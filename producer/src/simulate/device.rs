//! The kinds of devices and the lasting traits of each: id, owner, home, and how wrong its clock is.

use std::ops::Range;

use hydrant_core::Result;

use super::draw::{Draw, Share, Topic};
use super::json::JsonWriter;
use super::person::Person;
use super::spec::PiiShares;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A room thermostat with an owner; `ts` in milliseconds.
    Thermostat,
    /// A vehicle with position, speed and driver; `event_time` in RFC 3339.
    Vehicle,
    /// An electricity meter with a customer; `ts` in milliseconds.
    Meter,
    /// A medical wearable with a patient; `event_time` in RFC 3339.
    Wearable,
    /// A network gateway with addresses and a log message; `ts` in milliseconds.
    Gateway,
    /// A door camera with a contact person; `event_time` in RFC 3339.
    Camera,
}

impl DeviceKind {
    /// The kind's name, as in the field `kind` and at the head of the device's id.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thermostat => "thermostat",
            Self::Vehicle => "vehicle",
            Self::Meter => "meter",
            Self::Wearable => "wearable",
            Self::Gateway => "gateway",
            Self::Camera => "camera",
        }
    }
}

/// Which records carry personal data, as thresholds.
#[derive(Clone, Copy, Debug)]
pub(super) struct PiiCoverage {
    pub(super) values: Share,
    pub(super) nested: Share,
    pub(super) text: Share,
    pub(super) object_keys: Share,
    partition_keys: Share,
}

impl PiiCoverage {
    pub(super) fn try_new(shares: &PiiShares) -> Result<Self> {
        Ok(Self {
            values: Share::try_new("pii.values", shares.values)?,
            nested: Share::try_new("pii.nested", shares.nested)?,
            text: Share::try_new("pii.text", shares.text)?,
            object_keys: Share::try_new("pii.object_keys", shares.object_keys)?,
            partition_keys: Share::try_new("pii.partition_keys", shares.partition_keys)?,
        })
    }
}

/// A device's lasting traits.
pub(super) struct SimulatedDevice {
    pub(super) kind: DeviceKind,
    /// How far its clock is ahead.
    pub(super) skew_micros: i64,
    number: u64,
    pub(super) traits: u64,
    pub(super) person: Person,
    id: IdForm,
    latitude: i64,
    longitude: i64,
}

/// How the device got its id: some people put personal data there.
#[derive(Clone, Copy)]
enum IdForm {
    Number,
    Email,
    Mac,
}

impl SimulatedDevice {
    pub(super) fn new(seed: u64, number: u64, coverage: &PiiCoverage) -> Self {
        let mut draw = Draw::new(seed, Topic::Device, number);
        let kind = match draw.below(100) {
            0..=24 => DeviceKind::Thermostat,
            25..=44 => DeviceKind::Vehicle,
            45..=64 => DeviceKind::Meter,
            65..=79 => DeviceKind::Wearable,
            80..=89 => DeviceKind::Gateway,
            _ => DeviceKind::Camera,
        };
        let id = if !draw.chance(coverage.partition_keys) {
            IdForm::Number
        } else if kind == DeviceKind::Gateway {
            IdForm::Mac
        } else {
            IdForm::Email
        };
        // Most clocks are off by moments, one in fifty by minutes.
        let skew_ms = if draw.below(50) == 0 {
            draw.between(-900_000, 900_000)
        } else {
            draw.between(-2_000, 2_000)
        };
        Self {
            kind,
            skew_micros: skew_ms * 1_000,
            number,
            traits: draw.word(),
            person: Person::new(draw.word(), number),
            id,
            latitude: draw.between(-54_000_000, 69_000_000),
            longitude: draw.between(-179_000_000, 179_000_000),
        }
    }

    pub(super) fn write_id(&self, draw: &mut Draw, to: &mut JsonWriter<'_>) -> Range<usize> {
        let start = to.position();
        to.raw(self.kind.name());
        match self.id {
            IdForm::Number => {
                to.raw("-");
                to.padded(self.number, 8);
            }
            IdForm::Email => {
                to.raw("/");
                to.plant(|to| self.person.email(draw, to));
            }
            IdForm::Mac => {
                to.raw("/");
                to.plant(|to| self.person.mac(draw, to));
            }
        }
        start..to.position()
    }

    /// Whole micro-degrees near the device's home, with a last digit that rounding must take away.
    pub(super) fn place(&self, draw: &mut Draw) -> (i64, i64) {
        let near = |home: i64, draw: &mut Draw| {
            let micro_degrees = home + draw.between(-90_000, 90_000);
            micro_degrees / 10 * 10 + if micro_degrees < 0 { -7 } else { 7 }
        };
        (near(self.latitude, draw), near(self.longitude, draw))
    }
}
