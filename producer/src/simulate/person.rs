//! Invented personal data that real detectors accept.
//!
//! Owns every generator of personal data: each writes text that satisfies the class's grammar and
//! checksums (Luhn, IBAN mod 97, base64url JSON in tokens), drawn from ranges reserved for
//! documentation where a class has them: `example` domains (RFC 2606), 555-01xx and Ofcom's drama
//! numbers, addresses of RFC 5737 and RFC 3849, locally administered MAC addresses. It names no
//! real person on purpose; where no range is reserved (SSN, card, IBAN, keys) digits are random.

use super::draw::Draw;
use super::json::{BASE64URL, JsonWriter};

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

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The person a device belongs to: the same one in every record of that device. Its
/// methods, one for each class of personal data, have one form, whether they write what is the person's or draw it.
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

    pub(super) fn name(self, _: &mut Draw, to: &mut JsonWriter<'_>) {
        to.raw(self.given().0);
        to.raw(" ");
        to.raw(self.family().0);
    }

    /// Unique to the device, so that it can serve as a partition key.
    pub(super) fn email(self, _: &mut Draw, to: &mut JsonWriter<'_>) {
        to.raw(self.given().1);
        to.raw(".");
        to.raw(self.family().1);
        to.int(self.device);
        to.raw("@");
        to.raw(DOMAINS[(self.bits >> 10) as usize % 4]);
    }

    pub(super) fn phone(self, _: &mut Draw, to: &mut JsonWriter<'_>) {
        let line = (self.bits >> 12) % 100;
        let area = AREA_CODES[(self.bits >> 20) as usize % 8];
        let (before, behind) = match (self.bits >> 24) % 4 {
            0 => ("+1-", "-555-01"),
            1 => ("(", ") 555-01"),
            2 => ("+1", "55501"),
            _ => {
                to.raw("+44 20 7946 0");
                return to.padded((self.bits >> 12) % 1_000, 3);
            }
        };
        for part in [before, area, behind] {
            to.raw(part);
        }
        to.padded(line, 2);
    }

    pub(super) fn street(self, _: &mut Draw, to: &mut JsonWriter<'_>) {
        to.int(1 + (self.bits >> 28) % 240);
        to.raw(" ");
        to.raw(STREETS[(self.bits >> 36) as usize % STREETS.len()]);
    }

    /// Between 1940 and 2004, so that no event date equals it.
    pub(super) fn birth_date(self, _: &mut Draw, to: &mut JsonWriter<'_>) {
        to.date((self.bits >> 40) as i64 % 23_700 - 10_957);
    }

    /// Unique to the device and locally administered.
    pub(super) fn mac(self, _: &mut Draw, to: &mut JsonWriter<'_>) {
        to.raw("02:");
        to.hex(self.bits >> 48, 2);
        for shift in [24, 16, 8, 0] {
            to.raw(":");
            to.hex(self.device >> shift, 2);
        }
    }

    /// A valid card number: a scheme's prefix, random digits and the Luhn digit.
    pub(super) fn card(self, draw: &mut Draw, to: &mut JsonWriter<'_>) {
        let number = card(draw);
        to.padded(number, 16);
    }

    /// The same in groups of four digits.
    pub(super) fn spaced_card(self, draw: &mut Draw, to: &mut JsonWriter<'_>) {
        let number = card(draw);
        for (space, unit) in [
            ("", 1_000_000_000_000),
            (" ", 100_000_000),
            (" ", 10_000),
            (" ", 1),
        ] {
            to.raw(space);
            to.padded(number / unit, 4);
        }
    }

    /// `AAA-GG-SSSS` by the rules of issue: area neither 000, 666 nor 9xx, no part all zeros.
    pub(super) fn ssn(self, draw: &mut Draw, to: &mut JsonWriter<'_>) {
        let area = 1 + draw.below(898);
        to.padded(if area >= 666 { area + 1 } else { area }, 3);
        to.raw("-");
        to.padded(1 + draw.below(99), 2);
        to.raw("-");
        to.padded(1 + draw.below(9_999), 4);
    }

    /// A host address in one of the three documentation networks.
    pub(super) fn ipv4(self, draw: &mut Draw, to: &mut JsonWriter<'_>) {
        to.raw(draw.pick(&["192.0.2.", "198.51.100.", "203.0.113."]));
        to.int(1 + draw.below(254));
    }

    /// A host address in the documentation prefix.
    pub(super) fn ipv6(self, draw: &mut Draw, to: &mut JsonWriter<'_>) {
        to.raw("2001:db8:");
        to.hex(0x1000 + draw.below(0xEFFF), 4);
        to.raw(":");
        to.hex(1 + draw.below(15), 1);
        to.raw("::");
        to.hex(0x1000 + draw.below(0xEFFF), 4);
    }

    /// A German account number with correct check digits.
    pub(super) fn iban(self, draw: &mut Draw, to: &mut JsonWriter<'_>) {
        let account = draw.word() % 1_000_000_000_000_000_000;
        // The check runs over account, "DE" as 1314, and 00 in place of the check digits.
        let remainder = (u128::from(account) * 1_000_000 + 131_400) % 97;
        to.raw("DE");
        to.padded(98 - remainder as u64, 2);
        to.padded(account, 18);
    }

    /// An access key id of the form that AWS gives to long-term keys.
    pub(super) fn access_key(self, draw: &mut Draw, to: &mut JsonWriter<'_>) {
        to.raw("AKIA");
        to.random(draw, BASE32, 16, 8);
    }

    /// A token issued at a fixed time.
    pub(super) fn jwt(self, draw: &mut Draw, to: &mut JsonWriter<'_>) {
        jwt(draw, 1_767_225_600, to);
    }
}

/// The digits of a card without spaces.
fn card(draw: &mut Draw) -> u64 {
    let mut number = draw.pick(&[4111, 4539, 5105, 5454, 6011, 2223]);
    let mut random = draw.word();
    for _ in 0..11 {
        number = number * 10 + random % 10;
        random /= 10;
    }
    number * 10 + luhn_digit(number)
}

/// The digit that makes `number` followed by it pass Luhn's check.
const fn luhn_digit(mut number: u64) -> u64 {
    let (mut sum, mut weight) = (0, 2);
    while number > 0 {
        let weighted = number % 10 * weight;
        sum += weighted / 10 + weighted % 10;
        number /= 10;
        weight = 3 - weight;
    }
    (10 - sum % 10) % 10
}

/// A signed token with a subject and a time of issue; nothing can verify the signature.
pub(super) fn jwt(draw: &mut Draw, issued_s: u64, to: &mut JsonWriter<'_>) {
    let mut payload = Vec::new();
    let mut json = JsonWriter::new(&mut payload, None);
    json.raw("{\"sub\":\"");
    json.padded(draw.below(100_000_000), 8);
    json.raw("\",\"iat\":");
    json.padded(issued_s % 10_000_000_000, 10);
    json.raw("}");
    // {"alg":"HS256","typ":"JWT"}
    to.raw("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.");
    to.base64url(&payload);
    to.raw(".");
    to.random(draw, BASE64URL, 43, 10);
}

#[cfg(test)]
mod tests {
    use super::super::draw::Topic;
    use super::*;

    fn text(
        person: Person,
        write: fn(Person, &mut Draw, &mut JsonWriter<'_>),
        item: u64,
    ) -> String {
        let mut out = Vec::new();
        let mut draw = Draw::new(5, Topic::Record, item);
        write(person, &mut draw, &mut JsonWriter::new(&mut out, None));
        String::from_utf8(out).unwrap()
    }

    fn texts(write: fn(Person, &mut Draw, &mut JsonWriter<'_>)) -> impl Iterator<Item = String> {
        (0..2_000).map(move |item| text(Person::new(item, item), write, item))
    }

    #[test]
    fn cards_pass_luhn() {
        for text in texts(Person::card).chain(texts(Person::spaced_card)) {
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
        for text in texts(Person::iban) {
            let moved = format!("{}1314{}", &text[4..], &text[2..4]);
            let remainder = moved
                .bytes()
                .fold(0, |rest, byte| (rest * 10 + u32::from(byte - b'0')) % 97);
            assert_eq!((text.len(), remainder), (22, 1), "{text}");
        }
    }

    #[test]
    fn social_security_numbers_could_be_issued() {
        for text in texts(Person::ssn) {
            let parts: Vec<u32> = text.split('-').map(|part| part.parse().unwrap()).collect();
            assert!(matches!(parts[0], 1..=665 | 667..=899), "{text}");
            assert!(parts[1] > 0 && parts[2] > 0 && text.len() == 11, "{text}");
        }
    }

    #[test]
    fn addresses_parse_and_are_reserved() {
        for text in texts(Person::ipv4) {
            assert!(
                text.parse::<std::net::Ipv4Addr>()
                    .unwrap()
                    .is_documentation(),
                "{text}"
            );
        }
        for text in texts(Person::ipv6) {
            let address = text.parse::<std::net::Ipv6Addr>().unwrap();
            assert_eq!(address.segments()[..2], [0x2001, 0xdb8], "{text}");
        }
    }

    #[test]
    fn tokens_have_three_parts_and_keys_twenty_characters() {
        for text in texts(Person::jwt) {
            let parts: Vec<&str> = text.split('.').collect();
            assert_eq!(parts.len(), 3, "{text}");
            assert!(
                parts[1].starts_with("eyJzdWIiOiI") && parts[2].len() == 43,
                "{text}"
            );
        }
        for text in texts(Person::access_key) {
            assert!(text.starts_with("AKIA") && text.len() == 20, "{text}");
        }
    }

    #[test]
    fn persons_differ_by_device_where_it_matters() {
        for write in [Person::email, Person::mac] {
            let [first, second] = [1, 2].map(|device| text(Person::new(9, device), write, 0));
            assert_ne!(first, second);
        }
        assert_eq!(text(Person::new(9, 1), Person::mac, 0).len(), 17);
    }

    #[test]
    fn birth_dates_precede_every_event() {
        for item in 0..5_000u64 {
            let person = Person::new(super::super::draw::mix(item), item);
            let date = text(person, Person::birth_date, item);
            let year: u32 = date[..4].parse().unwrap();
            assert!((1940..=2004).contains(&year), "{year}");
        }
    }
}
