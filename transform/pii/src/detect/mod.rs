//! The detectors: one file per family, one row per detector.
//!
//! A row says what a detector is called, which byte classes, length or key evidence have to be
//! there before it looks, where it is anchored, and texts that it proves itself on. A new detector
//! is one file and one row. Matchers promise linear time over all their calls on one text.
//! Refuses to act: hits are spans of the shadow text.

mod card;
mod email;
mod geo;
mod iban;
mod ip;
mod mac;
mod person;
mod phone;
mod ssn;
mod token;

pub(crate) use geo::{DECIMALS as DECIMALS_KEPT, rounded_numbers};
pub(crate) use ip::{Address, parse_address};
pub(crate) use person::year_of;

use std::ops::Range;

use crate::audit::Class;
use crate::classes::{self, AT, CAPITAL, CAPITAL_A, CAPITAL_J, COLON, Classes, DIGIT, DOT};
use crate::keys::Evidence;
use crate::windows;

/// What a detector is, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetectorInfo {
    /// Its name, as findings show it.
    pub name: &'static str,
    /// The class of its findings, as policies name it.
    pub class: Class,
    /// What it takes for a finding.
    pub description: &'static str,
}

/// What kind of scalar a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Key,
}

/// A folded text with what its keys say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) evidence: Evidence,
    pub(crate) kind: Kind,
}

/// A span of the shadow text that a detector claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Index of the row.
    pub(crate) detector: u8,
}

/// The hits in one text.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    pub(crate) list: Vec<Hit>,
    detector: u8,
}

impl Hits {
    /// Adds a hit of the present detector.
    fn push(&mut self, range: Range<usize>) {
        self.list.push(Hit {
            start: range.start,
            end: range.end,
            detector: self.detector,
        });
    }

    /// Adds a hit of a named row.
    pub(crate) fn claim(&mut self, range: Range<usize>, detector: u8) {
        self.list.push(Hit {
            start: range.start,
            end: range.end,
            detector,
        });
    }

    /// Where the last hit of the present detector ends.
    fn covered_to(&self) -> usize {
        match self.list.last() {
            Some(hit) if hit.detector == self.detector => hit.end,
            _ => 0,
        }
    }
}

/// Where a matcher is called.
#[derive(Clone, Copy)]
enum Anchor {
    /// At each occurrence of the byte.
    Byte(u8),
    /// On each run of digits that holds at least so many digits and dots.
    Digits { digits_min: usize, dots_min: usize },
    /// On each run of hexadecimal digits.
    Hex,
    /// Once, on the whole text.
    Whole,
}

/// One detector.
pub(crate) struct Detector {
    pub(crate) info: DetectorInfo,
    anchor: Anchor,
    /// Classes that must all be in the text.
    needs: Classes,
    bytes_min: usize,
    /// Key evidence of which something must be there; none: not needed.
    evidence: Evidence,
    /// Whether numbers are looked at, besides texts and keys.
    numbers: bool,
    matcher: fn(&Text<'_>, Range<usize>, &mut Hits),
    /// Keys and values that it must find, each value as a whole.
    pub(crate) samples: &'static [(&'static str, &'static str)],
}

impl Detector {
    /// Whether it finds any value under its keys, so also its own replacement.
    pub(crate) fn takes_whole_values(&self) -> bool {
        matches!(
            self.info.class,
            Class::Name | Class::Address | Class::BirthDate | Class::Custom
        )
    }
}

/// Row of the findings that a rule for a path or key makes.
pub(crate) const BY_RULE: u8 = 0;

const NO: Evidence = Evidence::NONE;

/// All detectors. The order decides between overlapping hits of the same weight: earlier wins.
pub(crate) static TABLE: &[Detector] = &[
    Detector {
        info: DetectorInfo {
            name: "rule",
            class: Class::Custom,
            description: "a value at a path or under a key that a rule of the policy names",
        },
        anchor: Anchor::Whole,
        needs: Classes::MAX,
        bytes_min: usize::MAX,
        evidence: NO,
        numbers: false,
        matcher: |_, _, _| {},
        samples: &[],
    },
    Detector {
        info: DetectorInfo {
            name: "payment-card",
            class: Class::Card,
            description: "12 to 19 digits with a known issuer, its length and a valid Luhn digit; \
                          under a card key without these checks",
        },
        anchor: Anchor::Digits {
            digits_min: 12,
            dots_min: 0,
        },
        needs: DIGIT,
        bytes_min: 12,
        evidence: NO,
        numbers: true,
        matcher: card::payment_card,
        samples: &[
            ("", "4111111111111111"),
            ("", "3782 822463 10005"),
            ("card_number", "4111111111111112"),
        ],
    },
    Detector {
        info: DetectorInfo {
            name: "us-ssn",
            class: Class::Ssn,
            description: "US social security number: dashed with valid structure; other forms under \
                          an SSN key or after the word",
        },
        anchor: Anchor::Digits {
            digits_min: 9,
            dots_min: 0,
        },
        needs: DIGIT,
        bytes_min: 7,
        evidence: NO,
        numbers: true,
        matcher: ssn::us_ssn,
        samples: &[("", "536-90-4399"), ("ssn", "536904399")],
    },
    Detector {
        info: DetectorInfo {
            name: "us-itin",
            class: Class::Ssn,
            description: "US individual taxpayer number, by the same rules in its own ranges",
        },
        anchor: Anchor::Digits {
            digits_min: 9,
            dots_min: 0,
        },
        needs: DIGIT,
        bytes_min: 9,
        evidence: NO,
        numbers: true,
        matcher: ssn::us_itin,
        samples: &[("", "911-70-1234")],
    },
    Detector {
        info: DetectorInfo {
            name: "iban",
            class: Class::Iban,
            description: "an account number with a known country, its length and valid check digits, \
                          as one word or in groups of four",
        },
        anchor: Anchor::Whole,
        needs: DIGIT,
        bytes_min: 15,
        evidence: NO,
        numbers: false,
        matcher: iban::account_number,
        samples: &[
            ("", "GB29NWBK60161331926819"),
            ("", "DE89 3704 0044 0532 0130 00"),
        ],
    },
    Detector {
        info: DetectorInfo {
            name: "json-web-token",
            class: Class::Jwt,
            description: "three base64url parts of which the first two are JSON objects",
        },
        anchor: Anchor::Byte(b'J'),
        needs: CAPITAL_J | DOT,
        bytes_min: 20,
        evidence: NO,
        numbers: false,
        matcher: token::json_web_token,
        samples: &[("", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl")],
    },
    Detector {
        info: DetectorInfo {
            name: "aws-access-key",
            class: Class::AwsKey,
            description: "AKIA, ASIA, ABIA or ACCA and 16 characters of base32",
        },
        anchor: Anchor::Byte(b'A'),
        needs: CAPITAL_A,
        bytes_min: 20,
        evidence: NO,
        numbers: false,
        matcher: token::aws_access_key,
        samples: &[("", "AKIAIOSFODNN7EXAMPLE")],
    },
    Detector {
        info: DetectorInfo {
            name: "aws-secret-key",
            class: Class::AwsKey,
            description: "40 characters of base64 under a secret-key name, after such a word, or in a \
                          text with an access key",
        },
        anchor: Anchor::Whole,
        needs: CAPITAL,
        bytes_min: 40,
        evidence: NO,
        numbers: false,
        matcher: token::aws_secret_key,
        samples: &[(
            "secret_access_key",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        )],
    },
    Detector {
        info: DetectorInfo {
            name: "email",
            class: Class::Email,
            description: "an address with a dotted or bracketed domain; under an e-mail key also \
                          without a dot",
        },
        anchor: Anchor::Byte(b'@'),
        needs: AT,
        bytes_min: 3,
        evidence: NO,
        numbers: false,
        matcher: email::at_sign,
        samples: &[
            ("", "jane.doe+x@mail.example.org"),
            ("", "root@corp.local"),
            ("email", "root@host"),
        ],
    },
    Detector {
        info: DetectorInfo {
            name: "email-percent-encoded",
            class: Class::Email,
            description: "an address whose @ is written %40",
        },
        anchor: Anchor::Byte(b'%'),
        needs: classes::PERCENT | DIGIT,
        bytes_min: 5,
        evidence: NO,
        numbers: false,
        matcher: email::percent_sign,
        samples: &[("", "jane%40example.org")],
    },
    Detector {
        info: DetectorInfo {
            name: "mac",
            class: Class::Mac,
            description: "a hardware address with colons, dashes or dots; without any under a MAC key",
        },
        anchor: Anchor::Hex,
        needs: 0,
        bytes_min: 14,
        evidence: NO,
        numbers: false,
        matcher: mac::separated,
        samples: &[
            ("", "00:1B:44:11:3a:b7"),
            ("", "00-1b-44-11-3a-b7"),
            ("", "001b.4411.3ab7"),
        ],
    },
    Detector {
        info: DetectorInfo {
            name: "mac-bare",
            class: Class::Mac,
            description: "12 or 16 hexadecimal digits under a MAC key",
        },
        anchor: Anchor::Whole,
        needs: 0,
        bytes_min: 12,
        evidence: Evidence::MAC,
        numbers: true,
        matcher: mac::bare,
        samples: &[("mac", "001b44113ab7")],
    },
    Detector {
        info: DetectorInfo {
            name: "ipv6",
            class: Class::Ip,
            description: "an IPv6 address, with or without zone and prefix; no network",
        },
        anchor: Anchor::Hex,
        needs: COLON,
        bytes_min: 3,
        evidence: NO,
        numbers: false,
        matcher: ip::ipv6,
        samples: &[
            ("", "2001:db8:85a3::8a2e:370:7334"),
            ("", "::ffff:68.161.225.1"),
            ("", "fe80::1"),
        ],
    },
    Detector {
        info: DetectorInfo {
            name: "ipv4",
            class: Class::Ip,
            description: "an IPv4 address; no network, no version; as an integer only under an IP key",
        },
        anchor: Anchor::Digits {
            digits_min: 4,
            dots_min: 3,
        },
        needs: DIGIT,
        bytes_min: 7,
        evidence: NO,
        numbers: true,
        matcher: ip::ipv4,
        samples: &[("", "68.161.225.1"), ("", "10.0.0.0"), ("", "10.1.2.3/16")],
    },
    Detector {
        info: DetectorInfo {
            name: "phone",
            class: Class::Phone,
            description: "+ and a country code with 8 to 15 digits, or the North American form with \
                          separators; any form under a phone key",
        },
        anchor: Anchor::Digits {
            digits_min: 7,
            dots_min: 0,
        },
        needs: DIGIT,
        bytes_min: 7,
        evidence: NO,
        numbers: true,
        matcher: phone::number,
        samples: &[
            ("", "+49 171 1234567"),
            ("", "(415) 555-2671"),
            ("phone", "0171 1234567"),
        ],
    },
    Detector {
        info: DetectorInfo {
            name: "birth-date",
            class: Class::BirthDate,
            description: "any value under a birth-date key that is more than a year",
        },
        anchor: Anchor::Whole,
        needs: 0,
        bytes_min: 1,
        evidence: Evidence::BIRTH_DATE,
        numbers: true,
        matcher: person::birth_date,
        samples: &[("dob", "1980-05-17")],
    },
    Detector {
        info: DetectorInfo {
            name: "person-name",
            class: Class::Name,
            description: "any value under a key for the name of a person",
        },
        anchor: Anchor::Whole,
        needs: 0,
        bytes_min: 1,
        evidence: Evidence::NAME,
        numbers: true,
        matcher: person::whole_value,
        samples: &[("first_name", "Jane")],
    },
    Detector {
        info: DetectorInfo {
            name: "street-address",
            class: Class::Address,
            description: "any value under a key for a street or the address of a person",
        },
        anchor: Anchor::Whole,
        needs: 0,
        bytes_min: 1,
        evidence: Evidence::STREET,
        numbers: true,
        matcher: person::whole_value,
        samples: &[("street_address", "1 Main Street")],
    },
    Detector {
        info: DetectorInfo {
            name: "coordinate",
            class: Class::Geo,
            description: "a number with more than 2 decimals under a coordinate key or in GeoJSON \
                          coordinates, within the range of degrees",
        },
        anchor: Anchor::Whole,
        needs: DIGIT,
        bytes_min: 2,
        evidence: Evidence::COORDINATE
            .with(Evidence::COORDINATES)
            .with(Evidence::PLACE),
        numbers: true,
        matcher: geo::coordinate,
        samples: &[("lat", "52.520008"), ("location", "52.520008,13.404954")],
    },
];

/// What every detector is, in the order of the table.
pub fn detectors() -> impl Iterator<Item = DetectorInfo> {
    TABLE.iter().map(|detector| detector.info)
}

/// Whether any detector could look at a scalar of these classes, this length and this evidence.
pub(crate) fn worth_a_look(classes: Classes, length: usize, evidence: Evidence) -> bool {
    const NOTED: Classes = classes::HIGH | classes::ESCAPE;
    evidence.has(WHOLE_VALUES)
        || classes & (AT | NOTED) != 0
        || classes & COLON != 0 && length >= 3
        || classes & DIGIT != 0 && length >= 5
        || classes & CAPITAL_J != 0 && length >= 20
        || classes & CAPITAL_A != 0 && length >= 20
        || length >= 12
            && (classes & classes::HEX_LETTER != 0 && classes & (classes::DASH | DOT) != 0
                || length >= 40 && classes & CAPITAL != 0)
}

/// Whether no detector looks at a number of this length and evidence.
pub(crate) fn number_is_short(length: usize, evidence: Evidence) -> bool {
    length < 12 && !evidence.has(WHOLE_VALUES)
}

/// Evidence that alone makes a value worth a look.
const WHOLE_VALUES: Evidence = Evidence::NAME
    .with(Evidence::STREET)
    .with(Evidence::BIRTH_DATE)
    .with(Evidence::COORDINATE)
    .with(Evidence::COORDINATES)
    .with(Evidence::PLACE)
    .with(Evidence::MAC)
    .with(Evidence::SSN)
    .with(Evidence::CARD)
    .with(Evidence::PHONE)
    .with(Evidence::IP)
    .with(Evidence::SECRET)
    .with(Evidence::EMAIL);

/// Collects what the enabled detectors find in `text`, whose classes are `classes`.
pub(crate) fn scan(text: &Text<'_>, classes: Classes, enabled: u64, hits: &mut Hits) {
    let mut digits = 0u64;
    let mut hex = 0u64;
    let mut rows = enabled & candidates(text, classes);
    while rows != 0 {
        let index = rows.trailing_zeros() as usize;
        rows &= rows - 1;
        let detector = &TABLE[index];
        let looks = text.bytes.len() >= detector.bytes_min
            && (detector.evidence == NO || text.evidence.has(detector.evidence));
        if !looks {
            continue;
        }
        match detector.anchor {
            Anchor::Digits { .. } => digits |= 1 << index,
            Anchor::Hex => hex |= 1 << index,
            Anchor::Whole => {
                hits.detector = row(index);
                (detector.matcher)(text, 0..text.bytes.len(), hits);
            }
            Anchor::Byte(byte) => {
                hits.detector = row(index);
                for at in memchr::memchr_iter(byte, text.bytes) {
                    if at >= hits.covered_to() {
                        (detector.matcher)(text, at..at + 1, hits);
                    }
                }
            }
        }
    }
    if digits != 0 {
        if text.kind == Kind::Number {
            each(digits, |index| call(text, index, 0..text.bytes.len(), hits));
        } else {
            windows::digit_runs(text.bytes, |run| {
                each(digits, |index| {
                    if let Anchor::Digits {
                        digits_min,
                        dots_min,
                    } = TABLE[index].anchor
                        && run.digits >= digits_min
                        && run.dots >= dots_min
                    {
                        call(text, index, run.range.clone(), hits);
                    }
                });
            });
        }
    }
    if hex != 0 {
        windows::hex_runs(text.bytes, |run| {
            each(hex, |index| call(text, index, run.clone(), hits));
        });
    }
}

/// The rows that match a condition, as a set.
const fn rows(numbers: bool, evidence: bool, digit_runs: bool, needs: Classes) -> u64 {
    let mut set = 0;
    let mut index = 0;
    while index < TABLE.len() {
        let row = &TABLE[index];
        let matches = (!numbers || row.numbers)
            && (!evidence || !row.evidence.is_none())
            && (!digit_runs || matches!(row.anchor, Anchor::Digits { .. }))
            && row.needs & needs == needs;
        if matches {
            set |= 1 << index;
        }
        index += 1;
    }
    set
}

const ALL: u64 = rows(false, false, false, 0);
const ON_NUMBERS: u64 = rows(true, false, false, 0);
const BY_EVIDENCE: u64 = rows(false, true, false, 0);
const ON_DIGIT_RUNS: u64 = rows(false, false, true, 0);
/// The rows that need each class.
const NEEDING: [(Classes, u64); 8] = [
    (DIGIT, rows(false, false, false, DIGIT)),
    (AT, rows(false, false, false, AT)),
    (COLON, rows(false, false, false, COLON)),
    (DOT, rows(false, false, false, DOT)),
    (CAPITAL_A, rows(false, false, false, CAPITAL_A)),
    (CAPITAL_J, rows(false, false, false, CAPITAL_J)),
    (CAPITAL, rows(false, false, false, CAPITAL)),
    (
        classes::PERCENT,
        rows(false, false, false, classes::PERCENT),
    ),
];

/// The rows that the classes, the kind, the evidence and the number of digits of a text leave.
fn candidates(text: &Text<'_>, classes: Classes) -> u64 {
    let mut rows = ALL;
    for (class, needing) in NEEDING {
        if classes & class == 0 {
            rows &= !needing;
        }
    }
    if text.kind == Kind::Number {
        rows &= ON_NUMBERS;
    } else if rows & ON_DIGIT_RUNS != 0 && !windows::holds_digit_run(text.bytes) {
        rows &= !ON_DIGIT_RUNS;
    }
    if text.evidence.has(WHOLE_VALUES) {
        rows
    } else {
        rows & !BY_EVIDENCE
    }
}

fn call(text: &Text<'_>, index: usize, window: Range<usize>, hits: &mut Hits) {
    hits.detector = row(index);
    (TABLE[index].matcher)(text, window, hits);
}

fn each(mut rows: u64, mut visit: impl FnMut(usize)) {
    while rows != 0 {
        visit(rows.trailing_zeros() as usize);
        rows &= rows - 1;
    }
}

fn row(index: usize) -> u8 {
    u8::try_from(index).expect("the table has fewer than 64 rows")
}

#[cfg(test)]
mod tests;
