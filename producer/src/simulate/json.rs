//! The simulator's JSON writer: bytes straight into the caller's buffer, no formatting machinery.
//!
//! Owns number and time formatting and the list of planted personal data. It does not escape: the
//! simulator writes only text that needs no escape, and the fleet's tests parse every record.

const DIGIT_PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

const HEX: &[u8; 16] = b"0123456789abcdef";

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

    pub(super) fn int(&mut self, value: u64) {
        write_int(self.out, value);
    }

    /// A number with `decimals` digits after the point: `fixed(-1234, 2)` is `-12.34`.
    pub(super) fn fixed(&mut self, scaled: i64, decimals: usize) {
        write_fixed(self.out, scaled, decimals);
    }

    pub(super) fn padded(&mut self, value: u64, digits: usize) {
        write_padded(self.out, value, digits);
    }

    pub(super) fn hex(&mut self, value: u64, digits: usize) {
        write_hex(self.out, value, digits);
    }

    /// RFC 3339 in UTC with milliseconds.
    pub(super) fn rfc3339(&mut self, micros: i64) {
        write_rfc3339(self.out, micros);
    }

    /// Writes a piece of personal data and remembers its exact bytes when a list was given.
    pub(super) fn plant(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        write(self.out);
        if let Some(planted) = self.planted.as_deref_mut() {
            planted.push(String::from_utf8_lossy(&self.out[start..]).into_owned());
        }
    }
}

pub(super) fn write_int(out: &mut Vec<u8>, mut value: u64) {
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
    out.extend_from_slice(&digits[start..]);
}

/// The last `digits` decimal digits of `value`, with leading zeros; at most 20.
pub(super) fn write_padded(out: &mut Vec<u8>, mut value: u64, digits: usize) {
    let mut text = [b'0'; 20];
    let first = text.len() - digits;
    for digit in text[first..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text[first..]);
}

/// The last `digits` hexadecimal digits of `value`, with leading zeros; at most 16.
pub(super) fn write_hex(out: &mut Vec<u8>, mut value: u64, digits: usize) {
    let mut text = [b'0'; 16];
    let first = text.len() - digits;
    for digit in text[first..].iter_mut().rev() {
        *digit = HEX[(value & 15) as usize];
        value >>= 4;
    }
    out.extend_from_slice(&text[first..]);
}

pub(super) fn write_fixed(out: &mut Vec<u8>, scaled: i64, decimals: usize) {
    if scaled < 0 {
        out.push(b'-');
    }
    let magnitude = scaled.unsigned_abs();
    let unit = 10u64.pow(decimals as u32);
    write_int(out, magnitude / unit);
    out.push(b'.');
    write_padded(out, magnitude % unit, decimals);
}

pub(super) fn write_rfc3339(out: &mut Vec<u8>, micros: i64) {
    let millis = micros.div_euclid(1_000);
    let (days, of_day) = (
        millis.div_euclid(86_400_000),
        millis.rem_euclid(86_400_000) as u64,
    );
    write_date(out, days);
    out.push(b'T');
    write_padded(out, of_day / 3_600_000, 2);
    out.push(b':');
    write_padded(out, of_day / 60_000 % 60, 2);
    out.push(b':');
    write_padded(out, of_day / 1_000 % 60, 2);
    out.push(b'.');
    write_padded(out, of_day % 1_000, 3);
    out.push(b'Z');
}

/// The civil date `days` after 1970-01-01 as `YYYY-MM-DD`, for years 0 to 9999.
///
/// Counts in 400-year eras of 146,097 days that begin on March 1st, so that the leap day ends a
/// year.
pub(super) fn write_date(out: &mut Vec<u8>, days: i64) {
    let since_march_of_year_zero = days + 719_468;
    let era = since_march_of_year_zero.div_euclid(146_097);
    let day_of_era = since_march_of_year_zero.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    write_padded(out, year as u64, 4);
    out.push(b'-');
    write_padded(out, month as u64, 2);
    out.push(b'-');
    write_padded(out, day as u64, 2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
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
            assert_eq!(text(|out| write_rfc3339(out, micros)), expected);
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
                    assert_eq!(text(|out| write_date(out, days + day - 1)), expected);
                }
                days += length;
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_read_back(value: u64, scaled in -1_000_000_000_000i64..1_000_000_000_000) {
            prop_assert_eq!(text(|out| write_int(out, value)), value.to_string());
            prop_assert_eq!(text(|out| write_hex(out, value, 16)), format!("{value:016x}"));
            prop_assert_eq!(text(|out| write_padded(out, value, 20)), format!("{value:020}"));
            let sign = if scaled < 0 { "-" } else { "" };
            let magnitude = scaled.unsigned_abs();
            prop_assert_eq!(
                text(|out| write_fixed(out, scaled, 3)),
                format!("{sign}{}.{:03}", magnitude / 1_000, magnitude % 1_000)
            );
        }
    }
}
