//! Coordinates, and rounding them in their text.
//!
//! Two decimals of a degree are about a kilometre. Numbers beyond the range of degrees are no
//! coordinates, and numbers that are already that coarse are no findings.

use std::ops::Range;

use super::{Hits, Kind, Text};
use crate::keys::Evidence;

/// Decimals that remain.
pub(crate) const DECIMALS: usize = 2;

pub(super) fn coordinate(text: &Text<'_>, window: Range<usize>, hits: &mut Hits) {
    let alone = text
        .evidence
        .has(Evidence::COORDINATE.with(Evidence::COORDINATES));
    let pair = text
        .evidence
        .has(Evidence::COORDINATES.with(Evidence::PLACE));
    if text.kind == Kind::Key {
        return;
    }
    let mut fine = false;
    let mut degrees = 0;
    let mut others = false;
    for number in numbers(text.bytes) {
        match judge(&text.bytes[number]) {
            Some(finer) => {
                degrees += 1;
                fine |= finer;
            }
            None => others = true,
        }
    }
    let expected = match text.kind {
        Kind::Number => alone,
        _ => alone && degrees >= 1 || pair && degrees >= 2 && !others,
    };
    if !fine || !expected {
        return;
    }
    if text.kind == Kind::Number {
        hits.push(window);
        return;
    }
    for number in numbers(text.bytes) {
        if judge(&text.bytes[number.clone()]) == Some(true) {
            hits.push(number);
        }
    }
}

/// The numbers in a text.
fn numbers(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let found = text.get(at..)?.iter().position(u8::is_ascii_digit)?;
        let start = at + found;
        let mut end = start;
        while end < text.len() {
            let part = match text[end] {
                b'0'..=b'9' | b'.' => true,
                b'e' | b'E' => text
                    .get(end + 1)
                    .is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+')),
                b'-' | b'+' => matches!(text[end - 1], b'e' | b'E') && end > start,
                _ => false,
            };
            if !part {
                break;
            }
            end += 1;
        }
        at = end;
        Some(start..end)
    })
}

/// Whether a number (without its sign) is finer than the decimals that remain; `None` if it is no
/// coordinate.
fn judge(number: &[u8]) -> Option<bool> {
    let value: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    if !(0.0..=180.0).contains(&value) {
        return None;
    }
    if number.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return Some(true);
    }
    let decimals = number
        .iter()
        .position(|&byte| byte == b'.')
        .map_or(0, |dot| number.len() - dot - 1);
    Some(decimals > DECIMALS)
}

/// The text with each of its coordinates rounded, appended to `out`.
pub(crate) fn rounded_numbers(text: &[u8], decimals: usize, out: &mut Vec<u8>) {
    let mut copied = 0;
    for number in numbers(text) {
        if judge(&text[number.clone()]) == Some(true) {
            out.extend_from_slice(&text[copied..number.start]);
            round(&text[number.clone()], decimals, out);
            copied = number.end;
        }
    }
    out.extend_from_slice(&text[copied..]);
}

/// Rounds half away from zero in the decimal text, so that no binary fraction shows.
fn round(number: &[u8], decimals: usize, out: &mut Vec<u8>) {
    let plain;
    let number = if number.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        let value: f64 = std::str::from_utf8(number)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0);
        plain = format!("{value:.17}");
        plain.as_bytes()
    } else {
        number
    };
    let dot = number
        .iter()
        .position(|&byte| byte == b'.')
        .unwrap_or(number.len());
    let fraction = number.get(dot + 1..).unwrap_or_default();
    let start = out.len();
    out.extend_from_slice(&number[..dot]);
    if decimals > 0 {
        out.push(b'.');
        out.extend(
            fraction
                .iter()
                .copied()
                .chain(std::iter::repeat(b'0'))
                .take(decimals),
        );
    }
    if fraction.get(decimals).is_some_and(|&digit| digit >= b'5') {
        let mut at = out.len();
        loop {
            if at == start {
                out.insert(start, b'1');
                break;
            }
            at -= 1;
            match out[at] {
                b'.' => {}
                b'9' => out[at] = b'0',
                digit => {
                    out[at] = digit + 1;
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_happens_in_the_text() {
        for (text, rounded) in [
            ("52.520008", "52.52"),
            ("-13.4049", "-13.40"),
            ("9.996", "10.00"),
            ("99.9999", "100.00"),
            ("0.005", "0.01"),
            ("0.00499999999999999999999", "0.00"),
            ("5.25200e1", "52.52"),
            ("1e-7", "0.00"),
            ("52.5", "52.5"),
            ("52.520008, 13.404954", "52.52, 13.40"),
            ("179.995", "180.00"),
        ] {
            let mut out = Vec::new();
            rounded_numbers(text.as_bytes(), 2, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), rounded, "{text}");
        }
    }
}
