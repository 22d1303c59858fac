//! Finds out what the name of a key says about its value.
//!
//! A key is split into words (camelCase, snake_case, kebab-case, dots, spaces, digits) and its last
//! words, written together, are looked up in one table: `customer_first_name`, `customerFirstName`
//! and `customerfirstname` all end in `firstname`. Whole words only: `lic` is not found in
//! `public`. Refuses to look at values, and has no opinion about keys that the table does not hold.

mod cache;
mod endings;
mod evidence;
mod words;

pub(crate) use cache::{KeyCache, KeyFacts};
use endings::Says;
pub(crate) use evidence::Evidence;
use words::{KEY_BYTES_MAX, Words};

/// Words of a key that are looked at, from the end.
const WORDS_MAX: usize = 6;
/// The key in lower case without separators, as key rules of policies compare it.
pub(crate) fn normal_form(key: &[u8]) -> Vec<u8> {
    let words = Words::split(key);
    words.joined().to_vec()
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
    while words.len() > 1
        && Says::of(words.word(words.len() - 1))
            .word
            .has(Evidence::FILLER)
    {
        words.drop_last();
        evidence |= of_words(&words);
    }
    if let [rest @ .., b'e', b'5'..=b'7'] | [rest @ .., b'E', b'5'..=b'7'] = key
        && of_words(&Words::split(rest)).has(Evidence::COORDINATE)
    {
        evidence |= Evidence::SCALED;
    }
    for index in 0..words.len() {
        // Something about a version: `firmware_client` is none.
        let said = Evidence::PAYMENT.with(Evidence::AGENT);
        evidence |= Says::of(words.word(index)).word & said;
    }
    evidence
}

fn of_words(words: &Words) -> Evidence {
    let mut evidence = Evidence::NONE;
    for count in 1..=words.len().min(WORDS_MAX) {
        let tail = words.tail(count);
        let whole = count == words.len();
        let said = Says::of(tail);
        evidence |= said.at_end(whole);
        if let Some(noun) = person_with(tail, b"name") {
            evidence |= Evidence::NAME;
            evidence |= Says::of(noun).word & Evidence::PROGRAM;
        }
        let address = person_with(tail, b"address").or_else(|| person_with(tail, b"addr"));
        // That of a program is one of a machine.
        if address.is_some_and(|noun| !Says::of(noun).word.has(Evidence::PROGRAM)) {
            evidence |= Evidence::STREET;
        }
        if count == 1 {
            evidence |= said.word & Evidence::PROGRAM;
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
    let is = |word: &[u8], what| Says::of(word).word.has(what);
    let (first, last) = (words.word(0), words.word(count - 1));
    let before = words.word(count - 2);
    match last {
        b"lat" => !is(first, Evidence::STATISTIC) && !is(before, Evidence::STATISTIC),
        b"long" => !is(before, Evidence::TYPE),
        _ if is(last, Evidence::NOTATION) => {
            let named = match before {
                b"lat" => count == 2 || !is(first, Evidence::STATISTIC),
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
    let said = Says::of(noun).ending;
    said.has(Evidence::PERSON).then_some(noun)
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
            .any(|word| Says::of(word).word.has(Evidence::SOFTWARE))
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
        let known = KeyFacts {
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
