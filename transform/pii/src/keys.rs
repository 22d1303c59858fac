//! What the name of a key says about its value.
//!
//! A key is split into words (camelCase, snake_case, kebab-case, dots, spaces, digits) and its last
//! words, written together, are looked up in one table: `customer_first_name`, `customerFirstName`
//! and `customerfirstname` all end in `firstname`. Whole words only: `lic` is not found in
//! `public`. Refuses to look at values, and has no opinion about keys that the table does not hold.

mod cache;
mod endings;

pub(crate) use cache::{KeyCache, Known};
use endings::List;

use std::ops::{BitAnd, BitOr, BitOrAssign};

/// What is known about a value from the keys above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Evidence(u64);

impl Evidence {
    pub(crate) const NONE: Self = Self(0);
    /// The key stands for a person; its `name` and `address` count.
    pub(crate) const PERSON: Self = Self(1);
    /// The key stands for a thing; a `name` beneath is that of the thing.
    pub(crate) const THING: Self = Self(1 << 1);
    /// `name`, which counts only under a person.
    pub(crate) const BARE_NAME: Self = Self(1 << 2);
    /// `address`, which counts only under a person.
    pub(crate) const BARE_ADDRESS: Self = Self(1 << 3);
    pub(crate) const NAME: Self = Self(1 << 4);
    pub(crate) const STREET: Self = Self(1 << 5);
    pub(crate) const BIRTH_DATE: Self = Self(1 << 6);
    pub(crate) const EMAIL: Self = Self(1 << 7);
    pub(crate) const PHONE: Self = Self(1 << 8);
    pub(crate) const SSN: Self = Self(1 << 9);
    pub(crate) const CARD: Self = Self(1 << 10);
    pub(crate) const IP: Self = Self(1 << 11);
    pub(crate) const MAC: Self = Self(1 << 12);
    /// A text is a version, not an address; one beneath is if its numbers are small.
    pub(crate) const VERSION: Self = Self(1 << 13);
    pub(crate) const COORDINATE: Self = Self(1 << 14);
    /// The value may be a text or an array of coordinates.
    pub(crate) const COORDINATES: Self = Self(1 << 15);
    pub(crate) const SECRET: Self = Self(1 << 16);
    /// Identifiers of things: kept, and never a national phone number.
    pub(crate) const IDENTIFIER: Self = Self(1 << 17);
    /// A text may hold a pair of coordinates.
    pub(crate) const PLACE: Self = Self(1 << 18);
    /// An array may hold a pair of coordinates.
    pub(crate) const SPOT: Self = Self(1 << 19);
    /// The value itself of what the key above names.
    pub(crate) const VALUE: Self = Self(1 << 20);
    /// A part of a street address, beneath one.
    pub(crate) const LINE: Self = Self(1 << 21);

    /// Numbers of things and times, of which some look like cards.
    pub(crate) const COUNTER: Self = Self(1 << 22);
    /// Something is paid: a number that looks like a card is one.
    pub(crate) const PAYMENT: Self = Self(1 << 23);
    /// `id`, which is that of what the key above names.
    pub(crate) const BARE_ID: Self = Self(1 << 24);

    /// Says what the value beside it is: `type` in `{"type":"ssn","value":..}`.
    pub(crate) const LABEL: Self = Self(1 << 25);
    /// A value about which something beside it may say more.
    pub(crate) const CONTENT: Self = Self(1 << 26);
    /// A coordinate as an integer: degrees times ten million, or a million.
    pub(crate) const SCALED: Self = Self(1 << 27);
    /// Programs that name themselves with their versions, and things that have one: small numbers
    /// are that.
    pub(crate) const AGENT: Self = Self(1 << 28);
    /// Something that is reached at an address: a number of four parts is that, and no version.
    pub(crate) const HOSTED: Self = Self(1 << 29);
    /// A phone or a thing of the same name: what is written like a phone number is one.
    pub(crate) const DIALLED: Self = Self(1 << 30);
    /// Something about a phone: only texts that are written like a phone number are one.
    pub(crate) const NEAR_PHONE: Self = Self(1 << 31);
    /// A person or a program: what is named like software is no person.
    pub(crate) const PROGRAM: Self = Self(1 << 32);

    /// Whether both have something in common.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// This without what `other` has.
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is known.
    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Constant form of `|`.
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What also holds for the members of an object: `{"ssn":{"value":..}}`.
    const HANDED_DOWN: Self = Self::SSN
        .with(Self::CARD)
        .with(Self::PHONE)
        .with(Self::EMAIL)
        .with(Self::SECRET)
        .with(Self::BIRTH_DATE)
        .with(Self::PAYMENT);

    /// Phones and cards are also things, which have counters, ids and times: what their keys say
    /// holds for the member that is the number itself.
    const OF_THINGS: Self = Self::PHONE.with(Self::CARD);

    /// What holds for a member that is the value itself: `{"latitude":{"value":..}}`,
    /// `{"mac":{"S":..}}`.
    const OF_VALUES: Self = Self::COORDINATE
        .with(Self::COORDINATES)
        .with(Self::SCALED)
        .with(Self::PLACE)
        .with(Self::SPOT)
        .with(Self::MAC)
        .with(Self::IP)
        .with(Self::VERSION)
        .with(Self::AGENT)
        .with(Self::OF_THINGS);

    /// What a value has whose key says `self`, beneath keys that said `above`.
    pub(crate) fn beneath(self, above: Self) -> Self {
        if above.is_none() {
            return self;
        }
        let everywhere = Self::PERSON | Self::NAME | Self::PAYMENT;
        let mut evidence = self | above & (everywhere | Self::BIRTH_DATE);
        if above.has(Self::PERSON | Self::STREET) && self.has(Self::BARE_NAME) {
            evidence |= Self::NAME | above & Self::PROGRAM;
        }
        if above.has(Self::PERSON) && self.has(Self::BARE_ADDRESS) {
            evidence |= Self::STREET;
        }
        if self.has(Self::VALUE) {
            evidence |= above & (Self::OF_VALUES | Self::STREET | Self::PROGRAM);
        } else if above.has(Self::VERSION) {
            // Not all members are the version: `{"firmware":{"current":..,"fetched_by":..}}`.
            evidence |= Self::AGENT;
        }
        if self.has(Self::LINE) {
            evidence |= above & Self::STREET;
        }
        let apart = self.has(Self::IDENTIFIER | Self::VERSION | Self::COUNTER);
        if !apart || self.has(Self::VALUE) {
            evidence |= above & Self::HANDED_DOWN.without(Self::OF_THINGS);
            evidence |= above & Self::NEAR_PHONE;
        } else if self.has(Self::BARE_ID) {
            // A phone is also a device, which has an id of its own.
            evidence |= above & Self::HANDED_DOWN.without(Self::PHONE);
        }
        evidence
    }

    /// What the members of an object learn from the evidence of the object itself, whose key says
    /// `key`.
    pub(crate) fn for_members(self, key: Self) -> Self {
        if self.is_none() {
            return self;
        }
        let mut kept = self
            & Self::HANDED_DOWN
                .with(Self::PERSON)
                .with(Self::NAME)
                .with(Self::STREET)
                .with(Self::NEAR_PHONE)
                .with(Self::PROGRAM)
                .with(Self::OF_VALUES);
        if self.has(Self::PHONE | Self::DIALLED) {
            kept |= Self::PHONE | Self::NEAR_PHONE;
        }
        if key.has(Self::THING) {
            kept.without(Self::PERSON)
        } else {
            kept
        }
    }
}

impl BitOr for Evidence {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Evidence {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOrAssign for Evidence {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Words of a key that are looked at, from the end.
const WORDS_MAX: usize = 6;
/// Bytes of a key that are looked at, from the end.
const KEY_BYTES_MAX: usize = 96;

/// A key split into words, in lower case, written together.
struct Words {
    text: [u8; KEY_BYTES_MAX],
    length: usize,
    starts: [u8; KEY_BYTES_MAX],
    count: usize,
}

impl Words {
    fn split(key: &[u8]) -> Self {
        let key = &key[key.len().saturating_sub(KEY_BYTES_MAX)..];
        let mut words = Self {
            text: [0; KEY_BYTES_MAX],
            length: 0,
            starts: [0; KEY_BYTES_MAX],
            count: 0,
        };
        let mut before = b' ';
        for (at, &byte) in key.iter().enumerate() {
            let next = key.get(at + 1).copied().unwrap_or(b' ');
            let inside = byte.is_ascii_alphanumeric() || byte >= 0x80;
            if inside {
                let starts = !(before.is_ascii_alphanumeric() || before >= 0x80)
                    || before.is_ascii_digit() != byte.is_ascii_digit()
                    || byte.is_ascii_uppercase()
                        && (before.is_ascii_lowercase()
                            || before.is_ascii_uppercase() && next.is_ascii_lowercase());
                // `IPv4` and `IPv6` are one word.
                let of_ip = byte == b'v' && before.eq_ignore_ascii_case(&b'p')
                    || matches!(byte, b'4' | b'6') && before.eq_ignore_ascii_case(&b'v');
                if starts && !of_ip {
                    words.starts[words.count] =
                        u8::try_from(words.length).expect("so few bytes are looked at");
                    words.count += 1;
                }
                words.text[words.length] = byte.to_ascii_lowercase();
                words.length += 1;
            }
            before = byte;
        }
        words
    }

    fn len(&self) -> usize {
        self.count
    }

    /// Where a word starts; the one behind the last starts at the end.
    fn start(&self, index: usize) -> usize {
        match self.starts[..self.count].get(index) {
            Some(&start) => usize::from(start),
            None => self.length,
        }
    }

    fn word(&self, index: usize) -> &[u8] {
        &self.text[self.start(index)..self.start(index + 1)]
    }

    /// The last `count` words together.
    fn tail(&self, count: usize) -> &[u8] {
        &self.text[self.start(self.count - count)..self.length]
    }

    fn drop_last(&mut self) {
        if self.count > 0 {
            self.length = self.start(self.count - 1);
            self.count -= 1;
        }
    }
}

/// The key in lower case without separators, as key rules of policies compare it.
pub(crate) fn normal_form(key: &[u8]) -> Vec<u8> {
    let words = Words::split(key);
    words.text[..words.length].to_vec()
}

/// What `key`, decoded, says.
pub(crate) fn evidence(key: &[u8]) -> Evidence {
    let mut words = Words::split(key);
    let split = words.len();
    // `phone1` and `address_2` are numbered; `p99` and `ipv4` are not.
    while words.len() > 1 && words.word(words.len() - 1).iter().all(u8::is_ascii_digit) {
        words.drop_last();
    }
    let mut evidence = of_words(&words);
    if words.len() < split && evidence.has(Evidence::BARE_ADDRESS) {
        // One of several lines, as `address1` is.
        evidence |= Evidence::STREET;
    }
    while words.len() > 1 && List::Fillers.holds(words.word(words.len() - 1)) {
        words.drop_last();
        evidence |= of_words(&words);
    }
    if let [rest @ .., b'e', b'5'..=b'7'] | [rest @ .., b'E', b'5'..=b'7'] = key
        && of_words(&Words::split(rest)).has(Evidence::COORDINATE)
    {
        evidence |= Evidence::SCALED;
    }
    for index in 0..words.len() {
        let word = words.word(index);
        if List::Payments.holds(word) {
            evidence |= Evidence::PAYMENT;
        }
        if matches!(word, b"version" | b"versions" | b"firmware" | b"fw") {
            // Something about one: `firmware_client` is none.
            evidence |= Evidence::AGENT;
        }
    }
    evidence
}

fn of_words(words: &Words) -> Evidence {
    let mut evidence = Evidence::NONE;
    for count in 1..=words.len().min(WORDS_MAX) {
        let tail = words.tail(count);
        let whole = count == words.len();
        evidence |= endings::says(tail, whole);
        if let Some(noun) = person_with(tail, b"name") {
            evidence |= Evidence::NAME;
            if List::Programs.holds(noun) {
                evidence |= Evidence::PROGRAM;
            }
        }
        let address = person_with(tail, b"address").or_else(|| person_with(tail, b"addr"));
        // That of a program is one of a machine.
        if address.is_some_and(|noun| !List::Programs.holds(noun)) {
            evidence |= Evidence::STREET;
        }
        if count == 1 && List::Programs.holds(tail) {
            evidence |= Evidence::PROGRAM;
        }
    }
    if is_coordinate(words) {
        evidence |= Evidence::COORDINATE;
    }
    evidence
}

/// Whether a key of several words is that of a coordinate: `stop_lat`, `gatewayLong`, `lat_deg`, but
/// not `read_lat` or `value_long`.
fn is_coordinate(words: &Words) -> bool {
    let count = words.len();
    if count < 2 {
        return false;
    }
    let (first, last) = (words.word(0), words.word(count - 1));
    match last {
        b"lat" => !List::Statistics.holds(first) && !List::Statistics.holds(words.word(count - 2)),
        b"long" => !List::Types.holds(words.word(count - 2)),
        _ if List::Notations.holds(last) => {
            let before = words.word(count - 2);
            let named = match before {
                b"lat" => count == 2 || !List::Statistics.holds(first),
                b"long" => count == 2,
                b"latitude" | b"longitude" | b"lon" | b"lng" => true,
                _ => false,
            };
            named && !(before == b"lat" && matches!(last, b"min" | b"max" | b"avg" | b"mean"))
        }
        _ => false,
    }
}

/// The word for a person in `tail` that `what` follows: `ownername`, `customeraddress`.
fn person_with<'a>(tail: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    let noun = tail.strip_suffix(what)?;
    endings::says(noun, false)
        .has(Evidence::PERSON)
        .then_some(noun)
}

/// Whether a value under a key for a person or a program is named like software: in small letters,
/// with a word for such.
pub(crate) fn names_software(value: &[u8]) -> bool {
    let separates = |byte: &u8| matches!(byte, b'.' | b'_' | b'/' | b'-' | b':' | b'@');
    let written = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || separates(byte);
    value.len() <= KEY_BYTES_MAX
        && value.iter().all(written)
        && value
            .split(separates)
            .any(|word| List::Software.holds(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_found_in_every_way_of_writing() {
        for key in [
            "customer_first_name",
            "customerFirstName",
            "customer-first-name",
            "FIRST_NAME",
            "firstname1",
        ] {
            assert!(evidence(key.as_bytes()).has(Evidence::NAME), "{key}");
        }
        for key in [
            "user_name",
            "ownerName",
            "username",
            "driver.name",
            "PatientName",
            "contactname",
        ] {
            assert!(evidence(key.as_bytes()).has(Evidence::NAME), "{key}");
        }
        for key in [
            "customer_address",
            "streetAddress",
            "address_line1",
            "homeAddress2",
            "user_address",
        ] {
            assert!(evidence(key.as_bytes()).has(Evidence::STREET), "{key}");
        }
        for key in ["userSSN", "user_ssn", "SSN", "social-security-number"] {
            assert!(evidence(key.as_bytes()).has(Evidence::SSN), "{key}");
        }
        for key in [
            "dob",
            "date_of_birth",
            "birthDate",
            "DateOfBirth",
            "birth_day",
        ] {
            assert!(evidence(key.as_bytes()).has(Evidence::BIRTH_DATE), "{key}");
        }
        for key in ["IPAddress", "clientIp", "src_ip", "IPv4", "ipv6"] {
            assert!(evidence(key.as_bytes()).has(Evidence::IP), "{key}");
        }
        for key in [
            "lat",
            "pickup_lat",
            "gpsLong",
            "longitude",
            "start_lon",
            "stop_lat",
            "gateway_long",
            "buoyLat",
            "tower-long",
            "max_latitude",
            "min_lat",
            "lat_deg",
            "latDegrees",
            "longitude_decimal",
            "lng_dd",
            "lat_wgs84",
            "lat_start",
        ] {
            assert!(evidence(key.as_bytes()).has(Evidence::COORDINATE), "{key}");
        }
    }

    #[test]
    fn words_are_never_found_inside_other_words() {
        let person = Evidence::NAME | Evidence::STREET;
        for key in [
            "device_name",
            "hostname",
            "host",
            "file_name",
            "user_agent",
            "user_file_name",
            "ip_address",
            "mac_address",
            "filename",
            "rename",
            "ssname",
            "user_device_name",
            "name",
            "address",
            "model_name",
        ] {
            assert!(!evidence(key.as_bytes()).has(person), "{key}");
        }
        for (key, not) in [
            ("sd_card", Evidence::CARD),
            ("card_count", Evidence::CARD),
            ("pan_tilt", Evidence::CARD),
            ("session", Evidence::SSN),
            ("mobile_app", Evidence::PHONE),
            ("phone_model", Evidence::PHONE),
            ("birth_year", Evidence::BIRTH_DATE),
            ("birthplace", Evidence::BIRTH_DATE),
            ("latency", Evidence::COORDINATE),
            ("p99_lat", Evidence::COORDINATE),
            ("read_lat", Evidence::COORDINATE),
            ("long_value_count", Evidence::COORDINATE),
            ("disk_read_lat", Evidence::COORDINATE),
            ("value_long", Evidence::COORDINATE),
            ("flat", Evidence::COORDINATE),
            ("plat", Evidence::COORDINATE),
            ("along", Evidence::COORDINATE),
            ("ship", Evidence::IP),
            ("user_agent", Evidence::PERSON),
        ] {
            assert!(!evidence(key.as_bytes()).has(not), "{key}");
        }
    }

    #[test]
    fn a_name_counts_only_beneath_a_person() {
        let name = evidence(b"name");
        assert!(!name.beneath(Evidence::NONE).has(Evidence::NAME));
        let user = evidence(b"user");
        assert!(name.beneath(user.for_members(user)).has(Evidence::NAME));
        let device = evidence(b"device").beneath(user.for_members(user));
        assert!(
            !name
                .beneath(device.for_members(evidence(b"device")))
                .has(Evidence::NAME)
        );
        let profile = evidence(b"user_profile");
        assert!(profile.has(Evidence::PERSON));
    }

    #[test]
    fn the_cache_answers_only_for_the_same_key() {
        let mut cache = KeyCache::new();
        let known = Known {
            evidence: Evidence::IP,
            rule: Some(3),
        };
        cache.put(b"clientIp", known);
        assert_eq!(cache.get(b"clientIp").unwrap().evidence, Evidence::IP);
        assert!(cache.get(b"clientip").is_none());
        assert!(cache.get(b"").is_none());
        for length in 1..=40 {
            let key = &b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"[..length];
            assert!(cache.get(key).is_none(), "{length}");
            cache.put(key, known);
            assert_eq!(cache.get(key).is_some(), length <= 32);
        }
        cache.put(&[b'x'; 64], known);
        assert!(cache.get(&[b'x'; 64]).is_none());
    }
}
