//! Schedules the fleet: which device sends the record of an index, when, and with which faults.
//!
//! Owns the schedule. Records come in rounds: in each, every device reports once, in an order that
//! differs from round to round; so a device's sequence number is the number of the round, known
//! without any state.

use std::ops::Range;

use hydrant_core::{Error, Result};

use super::device::{DeviceKind, PiiCoverage, SimulatedDevice};
use super::draw::{Draw, Share, Topic};
use super::faults;
use super::json::JsonWriter;
use super::record::{self, RecordContext};
use super::spec::{DEVICES_MAX, FleetSpec};

/// 9999-12-31T23:59:59.999Z, the last time that RFC 3339 can write.
const EVENT_MICROS_MAX: i64 = 253_402_300_799_999_000;

/// 0001-01-01T00:00:00Z plus the largest lateness and skew fits above this.
const START_MICROS_MIN: i64 = -62_100_000_000_000_000;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_HOUR: i64 = 3_600 * MICROS_PER_SECOND;

/// How many orders of the devices a fleet goes through; a round picks one and a rotation of it.
const ORDERS: usize = 16;

/// What the simulator knows of a record beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The device, `0..devices`.
    pub device: u64,
    /// The record's number among those of its device, from 0.
    pub seq: u64,
    /// The device's kind.
    pub kind: DeviceKind,
    /// Where the partition key (the device's id) lies in the buffer that was written to.
    pub key: Range<usize>,
    /// The event time in the record, microseconds since 1970.
    pub event_micros: i64,
    /// Whether the event time lies hours or days back.
    pub late: bool,
    /// Whether the record is malformed: not a JSON object.
    pub malformed: bool,
}

/// A fleet of devices, ready to generate.
#[derive(Clone, Debug)]
pub struct Fleet {
    seed: u64,
    devices: u64,
    start_micros: i64,
    interval_micros: u64,
    malformed: Share,
    late: Share,
    conflict: Share,
    coverage: PiiCoverage,
    /// Multipliers without a common divisor with `devices`: each permutes `0..devices`.
    multipliers: [u64; ORDERS],
}

impl Fleet {
    /// Prepares the fleet of `spec`.
    ///
    /// # Errors
    /// When a field of `spec` lies outside its documented range.
    pub fn try_new(spec: &FleetSpec) -> Result<Self> {
        let devices = spec.devices;
        if devices == 0 || devices > DEVICES_MAX {
            return Err(Error::refused(format!(
                "a fleet of `{devices}` devices cannot be simulated: give 1 to {DEVICES_MAX}"
            )));
        }
        if !(START_MICROS_MIN..=EVENT_MICROS_MAX).contains(&spec.start_micros) {
            return Err(Error::refused(format!(
                "the start `{}` lies outside the years 2 to 9999: give microseconds since 1970",
                spec.start_micros
            )));
        }
        Ok(Self {
            seed: spec.seed,
            devices,
            start_micros: spec.start_micros,
            interval_micros: spec.interval_micros,
            malformed: Share::try_new("malformed_share", spec.malformed_share)?,
            late: Share::try_new("late_share", spec.late_share)?,
            conflict: Share::try_new("conflict_share", spec.conflict_share)?,
            coverage: PiiCoverage::try_new(&spec.pii)?,
            multipliers: multipliers(spec.seed, devices),
        })
    }

    /// Appends record `index` to `out`, without a line end, and says what it is.
    pub fn record(&self, index: u64, out: &mut Vec<u8>) -> Meta {
        self.generate(index, out, None)
    }

    /// The personal data in record `index`, byte for byte as it stands there.
    #[must_use]
    pub fn planted(&self, index: u64) -> Vec<String> {
        let mut record = Vec::new();
        let mut planted = Vec::new();
        self.generate(index, &mut record, Some(&mut planted));
        // A fault may have cut or overwritten some of it.
        planted.retain(|text| memchr::memmem::find(&record, text.as_bytes()).is_some());
        planted
    }

    /// The device that sends record `index`, and the record's number among those of the device.
    #[must_use]
    pub fn device_and_seq(&self, index: u64) -> (u64, u64) {
        let round = index / self.devices;
        let mut draw = Draw::new(self.seed, Topic::Round, round);
        let multiplier = draw.pick(&self.multipliers);
        let rotation = draw.below(self.devices);
        (
            (index % self.devices * multiplier + rotation) % self.devices,
            round,
        )
    }

    fn generate(&self, index: u64, out: &mut Vec<u8>, planted: Option<&mut Vec<String>>) -> Meta {
        let (number, seq) = self.device_and_seq(index);
        let device = SimulatedDevice::new(self.seed, number, &self.coverage);
        let mut draw = Draw::new(self.seed, Topic::Record, index);
        let late = draw.chance(self.late);
        let malformed = draw.chance(self.malformed);
        let moment = RecordContext {
            index,
            seq,
            event_micros: self.event_micros(index, &device, late, &mut draw),
            conflict: draw.chance(self.conflict),
        };
        let start = out.len();
        let mut writer = JsonWriter::new(out, planted);
        let key = record::write_record(&device, &moment, &self.coverage, &mut draw, &mut writer);
        let key = if malformed {
            faults::spoil(&mut draw, out, start, key)
        } else {
            key
        };
        Meta {
            device: number,
            seq,
            kind: device.kind,
            key,
            event_micros: moment.event_micros,
            late,
            malformed,
        }
    }

    /// The schedule's time, moved by the device's wrong clock, some jitter and, for late records,
    /// hours or days.
    fn event_micros(
        &self,
        index: u64,
        device: &SimulatedDevice,
        late: bool,
        draw: &mut Draw,
    ) -> i64 {
        let elapsed =
            u128::from(index) * u128::from(self.interval_micros) / u128::from(self.devices);
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let jitter = draw.between(0, MICROS_PER_SECOND - 1);
        let lateness = if late {
            let hours = match draw.below(10) {
                0..=4 => draw.between(1, 6),
                5..=8 => draw.between(6, 47),
                _ => draw.between(48, 7 * 24 - 1),
            };
            hours * MICROS_PER_HOUR + draw.between(0, 3_599) * MICROS_PER_SECOND
        } else {
            0
        };
        self.start_micros
            .saturating_add(elapsed)
            .saturating_add(device.skew_micros + jitter - lateness)
            .min(EVENT_MICROS_MAX)
    }
}

/// Numbers in `1..=devices` without a common divisor with `devices`.
fn multipliers(seed: u64, devices: u64) -> [u64; ORDERS] {
    let mut draw = Draw::new(seed, Topic::Fleet, devices);
    [(); ORDERS].map(|()| {
        let mut candidate = 1 + draw.below(devices);
        // 1 is coprime to everything, so this ends.
        while common_divisor(candidate, devices) != 1 {
            candidate = candidate % devices + 1;
        }
        candidate
    })
}

const fn common_divisor(mut first: u64, mut second: u64) -> u64 {
    while second != 0 {
        (first, second) = (second, first % second);
    }
    first
}
