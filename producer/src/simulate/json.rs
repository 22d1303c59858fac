//! The simulator's JSON writer: bytes straight into the caller's buffer, no formatting machinery.
//!
//! Owns number and time formatting and the list of planted personal data. It does not escape: the
//! simulator writes only text that needs no escape, and the fleet's tests parse every record.

use chrono::{Datelike, NaiveDate};

use super::draw::Draw;

const DIGIT_PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

pub(super) const BASE64URL: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const MILLIS_PER_DAY: i64 = 86_400_000;

/// Appends one record to a buffer and, when asked, remembers the personal data in it.
pub(super) struct JsonWriter<'a> {
    out: &'a mut Vec<u8>,
    planted: Option<&'a mut Vec<String>>,
}

impl<'a> JsonWriter<'a> {
    pub(super) const fn new(
        out: &'a mut Vec<u8>,
        planted: Option<&'a mut Vec<String>>,
    ) -> JsonWriter<'a> {
        JsonWriter { out, planted }
    }

    pub(super) const fn position(&self) -> usize {
        self.out.len()
    }

    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    pub(super) fn int(&mut self, mut value: u64) {
        // 20 digits hold u64::MAX.
        let mut digits = [0u8; 20];
        let mut start = digits.len();
        while value >= 100 {
            let pair = (value % 100) as usize * 2;
            value /= 100;
            start -= 2;
            digits[start..start + 2].copy_from_slice(&DIGIT_PAIRS[pair..pair + 2]);
        }
        if value >= 10 {
            let pair = value as usize * 2;
            start -= 2;
            digits[start..start + 2].copy_from_slice(&DIGIT_PAIRS[pair..pair + 2]);
        } else {
            start -= 1;
            digits[start] = b'0' + value as u8;
        }
        self.out.extend_from_slice(&digits[start..]);
    }

    /// The last `digits` decimal digits of `value`, with leading zeros; at most 20.
    pub(super) fn padded(&mut self, value: u64, digits: usize) {
        self.digits::<10>(value, digits);
    }

    /// The last `digits` hexadecimal digits of `value`, with leading zeros; at most 16.
    pub(super) fn hex(&mut self, value: u64, digits: usize) {
        self.digits::<16>(value, digits);
    }

    fn digits<const BASE: u64>(&mut self, mut value: u64, digits: usize) {
        let mut text = [b'0'; 20];
        let first = text.len() - digits;
        for digit in text[first..].iter_mut().rev() {
            *digit = match (value % BASE) as u8 {
                letter @ 10.. => b'a' - 10 + letter,
                number => b'0' + number,
            };
            value /= BASE;
        }
        self.out.extend_from_slice(&text[first..]);
    }

    /// A number with `decimals` digits after the point: `fixed(-1234, 2)` is `-12.34`.
    pub(super) fn fixed(&mut self, scaled: i64, decimals: usize) {
        if scaled < 0 {
            self.raw("-");
        }
        let magnitude = scaled.unsigned_abs();
        let unit = 10u64.pow(decimals as u32);
        self.int(magnitude / unit);
        self.raw(".");
        self.padded(magnitude % unit, decimals);
    }

    /// RFC 3339 in UTC with milliseconds.
    pub(super) fn rfc3339(&mut self, micros: i64) {
        let millis = micros.div_euclid(1_000);
        let of_day = millis.rem_euclid(MILLIS_PER_DAY) as u64;
        self.date(millis.div_euclid(MILLIS_PER_DAY));
        for (before, part, digits) in [
            ("T", of_day / 3_600_000, 2),
            (":", of_day / 60_000 % 60, 2),
            (":", of_day / 1_000 % 60, 2),
            (".", of_day % 1_000, 3),
        ] {
            self.raw(before);
            self.padded(part, digits);
        }
        self.raw("Z");
    }

    /// The date so many days after 1970-01-01 as `YYYY-MM-DD`, for years 0 to 9999.
    pub(super) fn date(&mut self, days: i64) {
        let date = NaiveDate::from_epoch_days(days as i32).unwrap_or_default();
        self.padded(u64::from(date.year().unsigned_abs()), 4);
        self.raw("-");
        self.padded(u64::from(date.month()), 2);
        self.raw("-");
        self.padded(u64::from(date.day()), 2);
    }

    /// Base64 with the URL alphabet and without padding.
    pub(super) fn base64url(&mut self, bytes: &[u8]) {
        for group in bytes.chunks(3) {
            let mut word = 0u32;
            for place in 0..3 {
                word = word << 8 | u32::from(group.get(place).copied().unwrap_or(0));
            }
            for place in 0..=group.len() {
                let digit = BASE64URL[(word >> (18 - 6 * place)) as usize & 63];
                self.out.push(digit);
            }
        }
    }

    /// So many letters of an alphabet, of which a word draws `a_word`.
    pub(super) fn random<const LETTERS: usize>(
        &mut self,
        draw: &mut Draw,
        alphabet: &[u8; LETTERS],
        length: usize,
        a_word: usize,
    ) {
        let mut word = 0;
        for place in 0..length {
            if place % a_word == 0 {
                word = draw.word();
            }
            self.out.push(alphabet[(word % LETTERS as u64) as usize]);
            word /= LETTERS as u64;
        }
    }

    /// Writes a piece of personal data and remembers its exact bytes when a list was given.
    pub(super) fn plant(&mut self, write: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        write(self);
        if let Some(planted) = self.planted.as_deref_mut() {
            planted.push(String::from_utf8_lossy(&self.out[start..]).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut JsonWriter<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut JsonWriter::new(&mut out, None));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_rfc3339() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_399_999_000, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_600_123_456, "2026-01-01T00:00:00.123Z"),
            (253_402_300_799_999_000, "9999-12-31T23:59:59.999Z"),
        ];
        for (micros, expected) in cases {
            assert_eq!(text(|to| to.rfc3339(micros)), expected);
        }
    }

    #[test]
    fn dates_follow_the_calendar_for_a_thousand_years() {
        let lengths = |year: i64| {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            [
                31,
                if leap { 29 } else { 28 },
                31,
                30,
                31,
                30,
                31,
                31,
                30,
                31,
                30,
                31,
            ]
        };
        let mut days = 0;
        for year in 1970..2970 {
            for (month, length) in lengths(year).into_iter().enumerate() {
                for day in [1, length] {
                    let expected = format!("{year:04}-{:02}-{day:02}", month + 1);
                    assert_eq!(text(|to| to.date(days + day - 1)), expected);
                }
                days += length;
            }
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
            assert_eq!(text(|to| to.base64url(plain.as_bytes())), coded);
        }
        assert_eq!(text(|to| to.base64url(&[0xFB, 0xFF])), "-_8");
    }

    proptest! {
        #[test]
        fn numbers_read_back(value: u64, scaled in -1_000_000_000_000i64..1_000_000_000_000) {
            prop_assert_eq!(text(|to| to.int(value)), value.to_string());
            prop_assert_eq!(text(|to| to.hex(value, 16)), format!("{value:016x}"));
            prop_assert_eq!(text(|to| to.padded(value, 20)), format!("{value:020}"));
            let sign = if scaled < 0 { "-" } else { "" };
            let magnitude = scaled.unsigned_abs();
            prop_assert_eq!(
                text(|to| to.fixed(scaled, 3)),
                format!("{sign}{}.{:03}", magnitude / 1_000, magnitude % 1_000)
            );
        }
    }
}
