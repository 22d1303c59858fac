//! The table of detectors: a new one is one more row here.

use super::detector::{Detector, MatchAnchor};
use super::families::{by_key, card, email, geo, iban, ip, mac, person, phone, ssn, token};
use crate::class::Class;
use crate::keys::Evidence;
use crate::text::byte_classes::{AT, CAPITAL, CAPITAL_A, CAPITAL_J, COLON, Classes, DIGIT, DOT};

/// What a row is unless it says more: it looks once at the whole of a text, whatever stands above it and in it, and at no
/// number.
const ROW: Detector = Detector {
    name: "",
    class: Class::Custom,
    description: "",
    anchor: MatchAnchor::Whole,
    needs: 0,
    bytes_min: 0,
    evidence: Evidence::NONE,
    numbers: false,
    possible: None,
    matcher: |_, _, _| {},
    samples: &[],
};

const fn digits(digits_min: usize, dots_min: usize) -> MatchAnchor {
    MatchAnchor::Digits {
        digits_min,
        dots_min,
    }
}

/// The class of what the row `detector` finds.
pub(crate) fn class_of(detector: u8) -> Class {
    TABLE[usize::from(detector)].class
}

/// All detectors. The order decides between overlapping hits of the same weight: earlier wins.
pub(crate) static TABLE: &[Detector] = &[
    Detector {
        name: "rule",
        class: Class::Custom,
        description: "a value at a path or under a key that a rule of the policy names",
        needs: Classes::MAX,
        bytes_min: usize::MAX,
        ..ROW
    },
    Detector {
        name: "payment-card",
        class: Class::Card,
        description: "12 to 19 digits with a known issuer, its length, a valid Luhn digit and a key or \
                      word of payment; in a text also 15 or 16 without, or in groups; under a card \
                      key without these checks",
        anchor: digits(*card::DIGITS.start(), 0),
        needs: DIGIT,
        bytes_min: *card::DIGITS.start(),
        numbers: true,
        matcher: card::payment_card,
        samples: &[
            ("", "4111111111111111"),
            ("", "3782 822463 10005"),
            ("card_number", "4111111111111112"),
        ],
        ..ROW
    },
    Detector {
        name: "us-ssn",
        class: Class::Ssn,
        description: "US social security number: dashed with valid structure; other forms under \
                      an SSN key or after the word",
        anchor: digits(9, 0),
        needs: DIGIT,
        bytes_min: 7,
        matcher: ssn::us_ssn,
        samples: &[("", "536-90-4399"), ("ssn", "536904399")],
        ..ROW
    },
    Detector {
        name: "us-itin",
        class: Class::Ssn,
        description: "US individual taxpayer number, by the same rules in its own ranges",
        anchor: digits(9, 0),
        needs: DIGIT,
        bytes_min: 9,
        matcher: ssn::us_itin,
        samples: &[("", "911-70-1234")],
        ..ROW
    },
    Detector {
        name: "iban",
        class: Class::Iban,
        description: "an account number with a known country, its length and valid check digits, \
                      as one word or in groups of four",
        needs: DIGIT,
        bytes_min: 15,
        possible: Some(iban::possible),
        matcher: iban::account_number,
        samples: &[
            ("", "GB29NWBK60161331926819"),
            ("", "DE89 3704 0044 0532 0130 00"),
        ],
        ..ROW
    },
    Detector {
        name: "json-web-token",
        class: Class::Jwt,
        description: "three base64url parts of which the first is a JSON object, or two that both are",
        anchor: MatchAnchor::Byte(b'J'),
        needs: CAPITAL_J | DOT,
        bytes_min: 20,
        matcher: token::json_web_token,
        samples: &[("", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl")],
        ..ROW
    },
    Detector {
        name: "aws-access-key",
        class: Class::AwsKey,
        description: "AKIA, ASIA, ABIA or ACCA and 16 characters of base32",
        anchor: MatchAnchor::Byte(b'A'),
        needs: CAPITAL_A,
        bytes_min: 20,
        matcher: token::aws_access_key,
        samples: &[("", "AKIAIOSFODNN7EXAMPLE")],
        ..ROW
    },
    Detector {
        name: "aws-secret-key",
        class: Class::AwsKey,
        description: "40 characters of base64 under a secret-key name, after such a word, or in a \
                      text with an access key",
        needs: CAPITAL,
        bytes_min: 40,
        matcher: token::aws_secret_key,
        samples: &[(
            "secret_access_key",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        )],
        ..ROW
    },
    Detector {
        name: "email",
        class: Class::Email,
        description: "an address with a dotted or bracketed domain; under an e-mail key also \
                      without a dot",
        anchor: MatchAnchor::Byte(b'@'),
        needs: AT,
        bytes_min: 3,
        matcher: email::at_sign,
        samples: &[
            ("", "jane.doe+x@mail.example.org"),
            ("", "root@corp.local"),
            ("email", "root@host"),
        ],
        ..ROW
    },
    Detector {
        name: "mac",
        class: Class::Mac,
        description: "a hardware address with colons, dashes or dots; without any under a MAC key",
        anchor: MatchAnchor::Hex,
        bytes_min: 14,
        possible: Some(mac::possible),
        matcher: mac::separated,
        samples: &[
            ("", "00:1B:44:11:3a:b7"),
            ("", "00-1b-44-11-3a-b7"),
            ("", "001b.4411.3ab7"),
        ],
        ..ROW
    },
    Detector {
        name: "mac-bare",
        class: Class::Mac,
        description: "12 or 16 hexadecimal digits under a MAC key, with any separators",
        bytes_min: 12,
        evidence: Evidence::MAC,
        numbers: true,
        matcher: mac::bare,
        samples: &[("mac", "001b44113ab7")],
        ..ROW
    },
    Detector {
        name: "ipv6",
        class: Class::Ip,
        description: "an IPv6 address, with or without zone and prefix; no network",
        anchor: MatchAnchor::Hex,
        needs: COLON,
        bytes_min: 3,
        possible: Some(ip::v6_possible),
        matcher: ip::ipv6,
        samples: &[
            ("", "2001:db8:85a3::8a2e:370:7334"),
            ("", "::ffff:68.161.225.1"),
            ("", "2002:44a1:e101::1"),
            ("", "fe80::1"),
        ],
        ..ROW
    },
    Detector {
        name: "ipv4",
        class: Class::Ip,
        description: "an IPv4 address; no network, no version; as an integer only under an IP key",
        anchor: digits(4, 3),
        needs: DIGIT,
        bytes_min: 7,
        numbers: true,
        matcher: ip::ipv4,
        samples: &[("", "68.161.225.1"), ("", "10.1.2.0"), ("", "10.1.2.3/16")],
        ..ROW
    },
    Detector {
        name: "phone",
        class: Class::Phone,
        description: "+ and a country code with 8 to 15 digits, or the North American form with \
                      separators; any form under a phone key",
        anchor: digits(7, 0),
        needs: DIGIT,
        bytes_min: 7,
        possible: Some(phone::possible),
        matcher: phone::number,
        samples: &[
            ("", "+49 171 1234567"),
            ("", "(415) 555-2671"),
            ("phone", "0171 1234567"),
        ],
        ..ROW
    },
    Detector {
        name: "birth-date",
        class: Class::BirthDate,
        description: "any value under a birth-date key that is more than a year",
        bytes_min: 1,
        evidence: Evidence::BIRTH_DATE,
        numbers: true,
        matcher: person::birth_date,
        samples: &[("dob", "1980-05-17")],
        ..ROW
    },
    Detector {
        name: "person-name",
        class: Class::Name,
        description: "any value under a key for the name of a person, unless that may be a program and \
                      the value is named like one",
        bytes_min: 1,
        evidence: Evidence::NAME,
        numbers: true,
        matcher: person::name,
        samples: &[("first_name", "Jane")],
        ..ROW
    },
    Detector {
        name: "street-address",
        class: Class::Address,
        description: "any value under a key for a street or the address of a person",
        bytes_min: 1,
        evidence: Evidence::STREET,
        numbers: true,
        matcher: person::street,
        samples: &[("street_address", "1 Main Street")],
        ..ROW
    },
    Detector {
        name: "coordinate",
        class: Class::Geo,
        description: "a number with more than 2 decimals under a coordinate key or in GeoJSON \
                      coordinates, within the range of degrees",
        needs: DIGIT,
        bytes_min: 2,
        evidence: Evidence::COORDINATE
            .with(Evidence::COORDINATES)
            .with(Evidence::PLACE),
        numbers: true,
        matcher: geo::coordinate,
        samples: &[("lat", "52.520008")],
        ..ROW
    },
    Detector {
        name: "geo-uri",
        class: Class::Geo,
        description: "a `geo:` URI whose coordinates have more than 2 decimals",
        anchor: MatchAnchor::Byte(b':'),
        needs: COLON | DOT | DIGIT,
        bytes_min: 9,
        matcher: geo::uri,
        samples: &[("", "geo:52.520008,13.404954")],
        ..ROW
    },
    Detector {
        name: "geo-wkt",
        class: Class::Geo,
        description: "numbers with more than 2 decimals in a geometry like `POINT(13.404954 52.520008)`, \
                      within the range of degrees",
        anchor: MatchAnchor::Byte(b'('),
        needs: DOT | DIGIT,
        bytes_min: 12,
        matcher: geo::geometry,
        samples: &[("", "POINT(13.404954 52.520008)")],
        ..ROW
    },
    Detector {
        name: "coordinate-scaled",
        class: Class::Geo,
        description: "degrees as an integer, times 100000 to ten million, under a key like `lat_e7`",
        needs: DIGIT,
        bytes_min: 6,
        evidence: Evidence::SCALED,
        numbers: true,
        matcher: geo::scaled,
        samples: &[("lat_e7", "525200080")],
        ..ROW
    },
    Detector {
        name: "payment-card-by-key",
        class: Class::Card,
        description: "12 to 19 digits, however they are written, under a card key",
        needs: DIGIT,
        bytes_min: 7,
        evidence: Evidence::CARD,
        numbers: true,
        matcher: by_key::payment_card,
        samples: &[("card_number", "4111_1111_1111_1112")],
        ..ROW
    },
    Detector {
        name: "us-ssn-by-key",
        class: Class::Ssn,
        description: "nine digits, however they are written, under an SSN key",
        needs: DIGIT,
        bytes_min: 7,
        evidence: Evidence::SSN,
        numbers: true,
        matcher: by_key::us_ssn,
        samples: &[("ssn", "536_90_4399")],
        ..ROW
    },
    Detector {
        name: "phone-by-key",
        class: Class::Phone,
        description: "7 to 15 digits, however they are written, under a phone key",
        needs: DIGIT,
        bytes_min: 7,
        evidence: Evidence::PHONE
            .with(Evidence::DIALLED)
            .with(Evidence::NEAR_PHONE),
        numbers: true,
        matcher: by_key::phone,
        samples: &[("phone", "0171_1234567")],
        ..ROW
    },
];
