//! Invented personal data that real detectors accept.
//!
//! Owns every generator of personal data: each writes text that satisfies the class's grammar and
//! checksums (Luhn, IBAN mod 97, base64url JSON in tokens), drawn from ranges reserved for
//! documentation where a class has them: `example` domains (RFC 2606), 555-01xx and Ofcom's drama
//! numbers, addresses of RFC 5737 and RFC 3849, locally administered MAC addresses. It names no
//! real person on purpose; where no range is reserved (SSN, card, IBAN, keys) digits are random.

use super::draw::Draw;
use super::json::{write_date, write_fixed, write_hex, write_int, write_padded};

/// Display form and the form for e-mail addresses.
const GIVEN: [(&str, &str); 32] = [
    ("Abena", "abena"),
    ("Alvar", "alvar"),
    ("Bettina", "bettina"),
    ("Björn", "bjoern"),
    ("Camila", "camila"),
    ("Cormac", "cormac"),
    ("Daria", "daria"),
    ("Eamon", "eamon"),
    ("Fenna", "fenna"),
    ("Gisela", "gisela"),
    ("Hamid", "hamid"),
    ("Ines", "ines"),
    ("Jarek", "jarek"),
    ("Keiko", "keiko"),
    ("Leandro", "leandro"),
    ("Marisol", "marisol"),
    ("Nadia", "nadia"),
    ("Oskar", "oskar"),
    ("Priya", "priya"),
    ("Quentin", "quentin"),
    ("Rosalind", "rosalind"),
    ("Søren", "soeren"),
    ("Tamsin", "tamsin"),
    ("Ulrike", "ulrike"),
    ("Viktor", "viktor"),
    ("Wanda", "wanda"),
    ("Ximena", "ximena"),
    ("Yusuf", "yusuf"),
    ("Zoë", "zoe"),
    ("Anselm", "anselm"),
    ("Brigid", "brigid"),
    ("Dmitri", "dmitri"),
];

const FAMILY: [(&str, &str); 32] = [
    ("Abernathy", "abernathy"),
    ("Okonjo", "okonjo"),
    ("Brandtner", "brandtner"),
    ("Castellan", "castellan"),
    ("Dunmore", "dunmore"),
    ("Eriksdotter", "eriksdotter"),
    ("Falkenrath", "falkenrath"),
    ("Grünwald", "gruenwald"),
    ("Hollister", "hollister"),
    ("Iwasaki", "iwasaki"),
    ("Jankowiak", "jankowiak"),
    ("Keane", "keane"),
    ("Lindqvist", "lindqvist"),
    ("Moravec", "moravec"),
    ("Núñez", "nunez"),
    ("O’Dell", "odell"),
    ("Pellegrin", "pellegrin"),
    ("Quarshie", "quarshie"),
    ("Rasmussen", "rasmussen"),
    ("Szabados", "szabados"),
    ("Thackeray", "thackeray"),
    ("Uribe", "uribe"),
    ("Vasquez", "vasquez"),
    ("Wexford", "wexford"),
    ("Yamanaka", "yamanaka"),
    ("Zielonka", "zielonka"),
    ("Achterberg", "achterberg"),
    ("Bellweather", "bellweather"),
    ("Cavendore", "cavendore"),
    ("Drummond", "drummond"),
    ("Estevane", "estevane"),
    ("Fairburn", "fairburn"),
];

const STREETS: [&str; 12] = [
    "Birchwood Lane",
    "Harbour Street",
    "Quarry Road",
    "Old Mill Avenue",
    "Lindenweg",
    "Cedar Court",
    "Station Road",
    "Meadow Drive",
    "Orchard Close",
    "Foundry Street",
    "Kirchgasse",
    "Willow Terrace",
];

const DOMAINS: [&str; 4] = [
    "example.com",
    "example.org",
    "example.net",
    "mail.example.com",
];

const AREA_CODES: [&str; 8] = ["201", "312", "415", "503", "617", "702", "808", "919"];

const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The person a device belongs to: the same one in every record of that device.
#[derive(Clone, Copy)]
pub(super) struct Person {
    bits: u64,
    device: u64,
}

impl Person {
    pub(super) const fn new(bits: u64, device: u64) -> Self {
        Self { bits, device }
    }

    const fn given(self) -> (&'static str, &'static str) {
        GIVEN[(self.bits % 32) as usize]
    }

    const fn family(self) -> (&'static str, &'static str) {
        FAMILY[(self.bits >> 5) as usize % 32]
    }

    pub(super) fn name(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.given().0.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.family().0.as_bytes());
    }

    /// Unique to the device, so that it can serve as a partition key.
    pub(super) fn email(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.given().1.as_bytes());
        out.push(b'.');
        out.extend_from_slice(self.family().1.as_bytes());
        write_int(out, self.device);
        out.push(b'@');
        out.extend_from_slice(DOMAINS[(self.bits >> 10) as usize % 4].as_bytes());
    }

    pub(super) fn phone(self, out: &mut Vec<u8>) {
        let line = (self.bits >> 12) % 100;
        let area = AREA_CODES[(self.bits >> 20) as usize % 8];
        let (before, behind) = match (self.bits >> 24) % 4 {
            0 => ("+1-", "-555-01"),
            1 => ("(", ") 555-01"),
            2 => ("+1", "55501"),
            _ => {
                out.extend_from_slice(b"+44 20 7946 0");
                return write_padded(out, (self.bits >> 12) % 1_000, 3);
            }
        };
        for part in [before, area, behind] {
            out.extend_from_slice(part.as_bytes());
        }
        write_padded(out, line, 2);
    }

    pub(super) fn street(self, out: &mut Vec<u8>) {
        write_int(out, 1 + (self.bits >> 28) % 240);
        out.push(b' ');
        out.extend_from_slice(STREETS[(self.bits >> 36) as usize % STREETS.len()].as_bytes());
    }

    /// Between 1940 and 2004, so that no event date equals it.
    pub(super) fn birth_date(self, out: &mut Vec<u8>) {
        write_date(out, (self.bits >> 40) as i64 % 23_700 - 10_957);
    }

    /// Unique to the device and locally administered.
    pub(super) fn mac(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"02:");
        write_hex(out, self.bits >> 48, 2);
        for shift in [24, 16, 8, 0] {
            out.push(b':');
            write_hex(out, self.device >> shift, 2);
        }
    }
}

/// A valid card number: a scheme's prefix, random digits and the Luhn digit.
pub(super) fn card(draw: &mut Draw, spaced: bool, out: &mut Vec<u8>) {
    let prefix = draw.pick(&["4111", "4539", "5105", "5454", "6011", "2223"]);
    let mut digits = [0u8; 16];
    for (digit, byte) in digits.iter_mut().zip(prefix.bytes()) {
        *digit = byte - b'0';
    }
    let mut random = draw.word();
    for digit in &mut digits[prefix.len()..15] {
        *digit = (random % 10) as u8;
        random /= 10;
    }
    digits[15] = luhn_digit(&digits[..15]);
    for (place, digit) in digits.iter().enumerate() {
        if spaced && place > 0 && place % 4 == 0 {
            out.push(b' ');
        }
        out.push(b'0' + digit);
    }
}

/// The digit that makes `digits` followed by it pass Luhn's check.
fn luhn_digit(digits: &[u8]) -> u8 {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| {
            let weighted = u32::from(digit) * if place % 2 == 0 { 2 } else { 1 };
            weighted / 10 + weighted % 10
        })
        .sum();
    ((10 - sum % 10) % 10) as u8
}

/// `AAA-GG-SSSS` by the rules of issue: area neither 000, 666 nor 9xx, no part all zeros.
pub(super) fn ssn(draw: &mut Draw, out: &mut Vec<u8>) {
    let area = 1 + draw.below(898);
    write_padded(out, if area >= 666 { area + 1 } else { area }, 3);
    out.push(b'-');
    write_padded(out, 1 + draw.below(99), 2);
    out.push(b'-');
    write_padded(out, 1 + draw.below(9_999), 4);
}

/// A host address in one of the three documentation networks.
pub(super) fn ipv4(draw: &mut Draw, out: &mut Vec<u8>) {
    out.extend_from_slice(
        draw.pick(&["192.0.2.", "198.51.100.", "203.0.113."])
            .as_bytes(),
    );
    write_int(out, 1 + draw.below(254));
}

/// A host address in the documentation prefix.
pub(super) fn ipv6(draw: &mut Draw, out: &mut Vec<u8>) {
    out.extend_from_slice(b"2001:db8:");
    write_hex(out, 0x1000 + draw.below(0xEFFF), 4);
    out.push(b':');
    write_hex(out, 1 + draw.below(15), 1);
    out.extend_from_slice(b"::");
    write_hex(out, 0x1000 + draw.below(0xEFFF), 4);
}

/// A German account number with correct check digits.
pub(super) fn iban(draw: &mut Draw, out: &mut Vec<u8>) {
    let account = draw.word() % 1_000_000_000_000_000_000;
    // The check runs over account, "DE" as 1314, and 00 in place of the check digits.
    let remainder = (u128::from(account) * 1_000_000 + 131_400) % 97;
    out.extend_from_slice(b"DE");
    write_padded(out, 98 - remainder as u64, 2);
    write_padded(out, account, 18);
}

/// An access key id of the form that AWS gives to long-term keys.
pub(super) fn access_key(draw: &mut Draw, out: &mut Vec<u8>) {
    out.extend_from_slice(b"AKIA");
    let mut random = draw.word();
    for place in 0..16 {
        if place == 8 {
            random = draw.word();
        }
        out.push(BASE32[(random & 31) as usize]);
        random >>= 5;
    }
}

/// Bytes of a token's payload before its base64 form.
const PAYLOAD_BYTES: usize = 35;

/// A signed token with a subject and a time of issue; nothing can verify the signature.
pub(super) fn jwt(draw: &mut Draw, issued_s: u64, out: &mut Vec<u8>) {
    // {"alg":"HS256","typ":"JWT"}
    out.extend_from_slice(b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.");
    let start = out.len();
    out.extend_from_slice(br#"{"sub":""#);
    write_padded(out, draw.below(100_000_000), 8);
    out.extend_from_slice(br#"","iat":"#);
    write_padded(out, issued_s % 10_000_000_000, 10);
    out.push(b'}');
    let payload: [u8; PAYLOAD_BYTES] = *out
        .last_chunk()
        .expect("so many bytes were written just now");
    out.truncate(start);
    write_base64url(out, &payload);
    out.push(b'.');
    let mut random = 0;
    for place in 0..43 {
        if place % 10 == 0 {
            random = draw.word();
        }
        out.push(BASE64URL[(random & 63) as usize]);
        random >>= 6;
    }
}

/// Base64 with the URL alphabet and without padding.
fn write_base64url(out: &mut Vec<u8>, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let mut word = 0u32;
        for place in 0..3 {
            word = word << 8 | u32::from(group.get(place).copied().unwrap_or(0));
        }
        for place in 0..=group.len() {
            out.push(BASE64URL[(word >> (18 - 6 * place)) as usize & 63]);
        }
    }
}

/// A latitude or longitude of `micro_degrees`, with the six decimals that locate a door.
pub(super) fn coordinate(micro_degrees: i64, out: &mut Vec<u8>) {
    write_fixed(out, micro_degrees, 6);
}

#[cfg(test)]
mod tests {
    use super::super::draw::Topic;
    use super::*;

    fn texts(mut write: impl FnMut(&mut Draw, &mut Vec<u8>)) -> impl Iterator<Item = String> {
        (0..2_000).map(move |item| {
            let mut out = Vec::new();
            write(&mut Draw::new(5, Topic::Record, item), &mut out);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn cards_pass_luhn() {
        for text in texts(|draw, out| {
            let spaced = draw.below(2) == 0;
            card(draw, spaced, out);
        }) {
            let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
            let sum: u32 = digits
                .iter()
                .rev()
                .enumerate()
                .map(|(place, &digit)| match (place % 2, digit) {
                    (0, digit) => digit,
                    (_, digit) if digit > 4 => 2 * digit - 9,
                    (_, digit) => 2 * digit,
                })
                .sum();
            assert_eq!((digits.len(), sum % 10), (16, 0), "{text}");
        }
    }

    #[test]
    fn ibans_have_remainder_one() {
        for text in texts(iban) {
            let moved = format!("{}1314{}", &text[4..], &text[2..4]);
            let remainder = moved
                .bytes()
                .fold(0, |rest, byte| (rest * 10 + u32::from(byte - b'0')) % 97);
            assert_eq!((text.len(), remainder), (22, 1), "{text}");
        }
    }

    #[test]
    fn social_security_numbers_could_be_issued() {
        for text in texts(ssn) {
            let parts: Vec<u32> = text.split('-').map(|part| part.parse().unwrap()).collect();
            assert!(matches!(parts[0], 1..=665 | 667..=899), "{text}");
            assert!(parts[1] > 0 && parts[2] > 0 && text.len() == 11, "{text}");
        }
    }

    #[test]
    fn addresses_parse_and_are_reserved() {
        for text in texts(ipv4) {
            assert!(
                text.parse::<std::net::Ipv4Addr>()
                    .unwrap()
                    .is_documentation(),
                "{text}"
            );
        }
        for text in texts(ipv6) {
            let address = text.parse::<std::net::Ipv6Addr>().unwrap();
            assert_eq!(address.segments()[..2], [0x2001, 0xdb8], "{text}");
        }
    }

    #[test]
    fn base64url_follows_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
        ] {
            let mut out = Vec::new();
            write_base64url(&mut out, plain.as_bytes());
            assert_eq!(out, coded.as_bytes());
        }
        let mut out = Vec::new();
        write_base64url(&mut out, &[0xFB, 0xFF]);
        assert_eq!(out, b"-_8");
    }

    #[test]
    fn tokens_have_three_parts_and_keys_twenty_characters() {
        for text in texts(|draw, out| jwt(draw, 1_767_225_600, out)) {
            let parts: Vec<&str> = text.split('.').collect();
            assert_eq!(parts.len(), 3, "{text}");
            assert!(
                parts[1].starts_with("eyJzdWIiOiI") && parts[2].len() == 43,
                "{text}"
            );
        }
        for text in texts(access_key) {
            assert!(text.starts_with("AKIA") && text.len() == 20, "{text}");
        }
    }

    #[test]
    fn persons_differ_by_device_where_it_matters() {
        let mut first = Vec::new();
        let mut second = Vec::new();
        Person::new(9, 1).email(&mut first);
        Person::new(9, 2).email(&mut second);
        assert_ne!(first, second);
        first.clear();
        second.clear();
        Person::new(9, 1).mac(&mut first);
        Person::new(9, 2).mac(&mut second);
        assert_ne!(first, second);
        assert_eq!(first.len(), 17);
    }

    #[test]
    fn birth_dates_precede_every_event() {
        for item in 0..5_000u64 {
            let mut out = Vec::new();
            Person::new(super::super::draw::mix(item), item).birth_date(&mut out);
            let year: u32 = std::str::from_utf8(&out[..4]).unwrap().parse().unwrap();
            assert!((1940..=2004).contains(&year), "{year}");
        }
    }
}
