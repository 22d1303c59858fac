//! Writes records: the fields of each kind of device.
//!
//! Owns the records' fields. Promises: a column has one JSON type in all kinds (whole numbers never
//! have a point, fractions always do); personal data stands only where `PiiCoverage` lets it, through
//! `JsonWriter::plant`.

use std::ops::Range;

use super::device::{DeviceKind, PiiCoverage, SimulatedDevice};
use super::draw::Draw;
use super::json::JsonWriter;
use super::person::{self, Person};

/// The index, sequence number and time of a record.
pub(super) struct RecordContext {
    pub(super) index: u64,
    pub(super) seq: u64,
    pub(super) event_micros: i64,
    /// Whether `firmware` gets the wrong type.
    pub(super) conflict: bool,
}

/// Writes one whole record and says where the device's id lies.
pub(super) fn write_record(
    device: &SimulatedDevice,
    moment: &RecordContext,
    coverage: &PiiCoverage,
    draw: &mut Draw,
    to: &mut JsonWriter<'_>,
) -> Range<usize> {
    to.raw("{\"device_id\":\"");
    let key = device.write_id(draw, to);
    to.raw("\",\"index\":");
    to.int(moment.index);
    to.raw(",\"seq\":");
    to.int(moment.seq);
    to.raw(",\"kind\":\"");
    to.raw(device.kind.name());
    to.raw("\",\"firmware\":");
    write_firmware(device, moment.conflict, to);
    let mut report = RecordFields {
        device,
        moment,
        coverage,
        draw,
        to,
    };
    match device.kind {
        DeviceKind::Thermostat | DeviceKind::Meter | DeviceKind::Gateway => report.time_in_millis(),
        DeviceKind::Vehicle | DeviceKind::Wearable | DeviceKind::Camera => report.time_in_text(),
    }
    match device.kind {
        DeviceKind::Thermostat => report.thermostat(),
        DeviceKind::Vehicle => report.vehicle(),
        DeviceKind::Meter => report.meter(),
        DeviceKind::Wearable => report.wearable(),
        DeviceKind::Gateway => report.gateway(),
        DeviceKind::Camera => report.camera(),
    }
    report.to.raw("}");
    key
}

/// A version of four parts on gateways: the shape of an IPv4 address, and none.
fn write_firmware(device: &SimulatedDevice, conflict: bool, to: &mut JsonWriter<'_>) {
    if conflict {
        to.int(device.traits % 9_000);
        return;
    }
    to.raw("\"");
    to.int(1 + device.traits % 6);
    to.raw(".");
    to.int((device.traits >> 8) % 20);
    to.raw(".");
    to.int((device.traits >> 16) % 10);
    if device.kind == DeviceKind::Gateway {
        to.raw(".");
        to.int((device.traits >> 24) % 200);
    }
    to.raw("\"");
}

type Phrase = (
    &'static str,
    fn(Person, &mut Draw, &mut JsonWriter<'_>),
    &'static str,
);

/// Personal data in free text, worded as operators word it.
const PHRASES: [Phrase; 11] = [
    ("; notified ", Person::email, ""),
    ("; please call ", Person::phone, " for access"),
    ("; paid with card ", Person::spaced_card, ""),
    ("; SSN ", Person::ssn, " on file"),
    ("; peer ", Person::ipv4, ":8883 refused"),
    ("; peer [", Person::ipv6, "] refused"),
    ("; station ", Person::mac, " left"),
    ("; authorization: Bearer ", Person::jwt, ""),
    ("; upload key ", Person::access_key, " rejected"),
    ("; refund to ", Person::iban, ""),
    ("; body {\\\"user\\\":\\\"", Person::email, "\\\"}"),
];

/// One record in the making: its device's traits, chance, and where it goes.
struct RecordFields<'a, 'b> {
    device: &'a SimulatedDevice,
    moment: &'a RecordContext,
    coverage: &'a PiiCoverage,
    draw: &'a mut Draw,
    to: &'a mut JsonWriter<'b>,
}

impl RecordFields<'_, '_> {
    fn time_in_millis(&mut self) {
        self.to.raw(",\"ts\":");
        let millis = self.moment.event_micros.div_euclid(1_000);
        if millis < 0 {
            self.to.raw("-");
        }
        self.to.int(millis.unsigned_abs());
    }

    fn time_in_text(&mut self) {
        self.to.raw(",\"event_time\":\"");
        self.to.rfc3339(self.moment.event_micros);
        self.to.raw("\"");
    }

    /// `,"name":` and a fraction between two scaled bounds.
    fn fraction(&mut self, field: &str, first: i64, last: i64, decimals: usize) {
        self.to.raw(field);
        let scaled = self.draw.between(first, last);
        self.to.fixed(scaled, decimals);
    }

    fn whole(&mut self, field: &str, first: i64, last: i64) {
        self.to.raw(field);
        let value = self.draw.between(first, last);
        self.to.int(value.unsigned_abs());
    }

    fn truth(&mut self, field: &str, one_in: u64) {
        self.to.raw(field);
        let value = self.draw.below(one_in) == 0;
        self.to.bool(value);
    }

    fn choice(&mut self, field: &str, choices: &[&str]) {
        self.to.raw(field);
        self.to.raw("\"");
        let chosen = self.draw.pick(choices);
        self.to.raw(chosen);
        self.to.raw("\"");
    }

    /// `,"name":"<personal data>"`
    fn plant(&mut self, field: &str, write: impl FnOnce(Person, &mut Draw, &mut JsonWriter<'_>)) {
        self.to.raw(field);
        self.to.raw("\"");
        self.plant_bare(write);
        self.to.raw("\"");
    }

    fn plant_bare(&mut self, write: impl FnOnce(Person, &mut Draw, &mut JsonWriter<'_>)) {
        let (person, draw) = (self.device.person, &mut *self.draw);
        self.to.plant(|to| write(person, draw, to));
    }

    /// A nested person's opening, whose account number is not personal data.
    fn open_person(&mut self, field: &str) {
        self.to.raw(field);
        self.to.raw("{\"account\":\"ac-");
        self.to.hex(self.device.traits >> 32, 6);
        self.to.raw("\"");
    }

    fn thermostat(&mut self) {
        self.fraction(",\"temperature_c\":", 142, 281, 1);
        self.fraction(",\"target_c\":", 160, 240, 1);
        self.fraction(",\"humidity\":", 2_000, 8_000, 2);
        self.whole(",\"battery\":", 3, 100);
        self.choice(",\"mode\":", &["heat", "cool", "auto", "off"]);
        self.truth(",\"heating\":", 2);
        self.choice(
            ",\"room\":",
            &["living room", "kitchen", "office", "bedroom"],
        );
        if self.draw.chance(self.coverage.values) {
            self.plant(",\"contact_email\":", Person::email);
        }
        self.open_person(",\"owner\":");
        if self.draw.chance(self.coverage.nested) {
            self.plant(",\"name\":", Person::name);
            self.plant(",\"phone\":", Person::phone);
        }
        self.to.raw("}");
    }

    fn vehicle(&mut self) {
        let (latitude, longitude) = self.device.place(self.draw);
        self.fraction(",\"speed_kmh\":", 0, 1_400, 1);
        self.whole(",\"heading\":", 0, 359);
        self.whole(",\"odometer_km\":", 10, 399_999);
        self.fraction(",\"fuel\":", 0, 100, 2);
        self.truth(",\"engine_on\":", 2);
        self.fraction(",\"recent_speeds\":[", 0, 1_400, 1);
        self.fraction(",", 0, 1_400, 1);
        self.fraction(",", 0, 1_400, 1);
        self.to.raw("],\"location\":{\"lat\":");
        let exact = self.draw.chance(self.coverage.nested);
        self.coordinate(latitude, exact);
        self.to.raw(",\"lon\":");
        self.coordinate(longitude, exact);
        self.fraction(",\"accuracy_m\":", 10, 250, 1);
        self.to.raw("}");
        self.open_person(",\"driver\":");
        if exact {
            self.plant(",\"name\":", Person::name);
            self.plant(",\"phone\":", Person::phone);
            self.plant(",\"email\":", Person::email);
        }
        self.to.raw("}");
        self.message(&[
            "route updated",
            "harsh braking detected",
            "ignition on",
            "door open",
        ]);
    }

    /// Six decimals, or the two that the strict policy leaves.
    fn coordinate(&mut self, micro_degrees: i64, exact: bool) {
        if exact {
            self.to.plant(|to| to.fixed(micro_degrees, 6));
        } else {
            self.to.fixed(micro_degrees / 10_000, 2);
        }
    }

    fn meter(&mut self) {
        self.whole(",\"energy_wh\":", 1_000, 89_999_999);
        self.fraction(",\"power_w\":", 0, 92_000, 1);
        self.fraction(",\"voltage\":[", 2_250, 2_350, 1);
        self.fraction(",", 2_250, 2_350, 1);
        self.fraction(",", 2_250, 2_350, 1);
        self.choice("],\"tariff\":", &["day", "night", "peak"]);
        self.truth(",\"tamper\":", 500);
        if self.draw.chance(self.coverage.values) {
            self.to.raw(",\"prepaid_card\":");
            self.plant_bare(Person::card);
        }
        self.open_person(",\"customer\":");
        if self.draw.chance(self.coverage.nested) {
            self.plant(",\"name\":", Person::name);
            self.plant(",\"address\":", Person::street);
            self.plant(",\"iban\":", Person::iban);
        }
        self.to.raw("}");
    }

    fn wearable(&mut self) {
        self.whole(",\"heart_rate\":", 44, 182);
        self.fraction(",\"spo2\":", 880, 999, 3);
        self.whole(",\"steps\":", 0, 29_999);
        self.fraction(",\"skin_c\":", 291, 362, 1);
        self.whole(",\"battery\":", 3, 100);
        self.truth(",\"worn\":", 2);
        self.open_person(",\"patient\":");
        if self.draw.chance(self.coverage.nested) {
            self.plant(",\"name\":", Person::name);
            self.plant(",\"birth_date\":", Person::birth_date);
            self.plant(",\"ssn\":", Person::ssn);
        }
        self.to.raw("}");
        self.message(&[
            "resting",
            "irregular rhythm suspected",
            "walk detected",
            "strap loose",
        ]);
    }

    fn gateway(&mut self) {
        self.whole(",\"uptime_s\":", 1, 9_999_999);
        self.whole(",\"clients\":", 0, 250);
        self.fraction(",\"load\":", 0, 400, 2);
        self.choice(",\"labels\":[\"edge\",", &["eu-1", "us-2", "ap-1"]);
        self.to.raw("]");
        if self.draw.chance(self.coverage.values) {
            self.plant(",\"mac\":", Person::mac);
            self.plant(",\"ip\":", Person::ipv4);
            self.plant(",\"ipv6\":", Person::ipv6);
        }
        self.to.raw(",\"session\":{\"method\":\"psk\"");
        if self.draw.chance(self.coverage.nested) {
            let issued_s = self.moment.event_micros.max(0).unsigned_abs() / 1_000_000;
            self.plant(",\"token\":", |_, draw, to| person::jwt(draw, issued_s, to));
        }
        self.to.raw("}");
        self.message(&[
            "link up",
            "dhcp lease renewed",
            "uplink switched to lte",
            "queue drained",
        ]);
    }

    fn camera(&mut self) {
        let (latitude, longitude) = self.device.place(self.draw);
        self.truth(",\"motion\":", 3);
        self.fraction(",\"confidence\":", 0, 1_000, 3);
        self.whole(",\"clip_bytes\":", 0, 49_999_999);
        self.choice(",\"zones\":[\"porch\",", &["drive", "garden", "street"]);
        self.to
            .raw("],\"site\":{\"type\":\"Point\",\"coordinates\":[");
        let exact = self.draw.chance(self.coverage.nested);
        self.coordinate(longitude, exact);
        self.to.raw(",");
        self.coordinate(latitude, exact);
        self.to.raw("]}");
        self.open_person(",\"contact\":");
        if exact {
            self.plant(",\"name\":", Person::name);
            self.plant(",\"phone\":", Person::phone);
        }
        self.to.raw("},\"notify\":{\"push\":true");
        if self.draw.chance(self.coverage.object_keys) {
            self.plant(",", Person::email);
            self.to.raw(":true");
        }
        self.to.raw("}");
        self.message(&[
            "clip stored",
            "motion started",
            "lens obstructed",
            "night mode on",
        ]);
    }

    /// Free text, perhaps with a phrase of personal data.
    fn message(&mut self, benign: &[&str]) {
        self.to.raw(",\"message\":\"");
        let text = self.draw.pick(benign);
        self.to.raw(text);
        if self.draw.chance(self.coverage.text) {
            let (before, write, behind) = self.draw.pick(&PHRASES);
            self.to.raw(before);
            self.plant_bare(write);
            self.to.raw(behind);
        }
        self.to.raw("\"");
    }
}
