//! Coordinates, and rounding them in their text.
//!
//! Two decimals of a degree are about a kilometre. Numbers beyond the range of degrees are not
//! coordinates, and numbers that are already that coarse are not findings.

use std::ops::Range;

use crate::detect::detector::{FoldedText, Hits, TextKind};
use crate::detect::number::{parsed, value_of};
use crate::keys::Evidence;
use crate::text::windows::{is_listed, leading, starts_word, trailing};

/// Decimals that remain.
pub(crate) const DECIMALS: usize = 2;

pub(crate) fn coordinate(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let says = |what| text.evidence.has(what | Evidence::COORDINATES);
    let (alone, pair) = (says(Evidence::COORDINATE), says(Evidence::PLACE));
    if text.kind == TextKind::Key {
        return;
    }
    if text.kind == TextKind::Number {
        let number = text.bytes.strip_prefix(b"-").unwrap_or(text.bytes);
        if alone && judge(number) == Some(true) {
            hits.push(window);
        }
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
    let expected = alone && degrees >= 1 || pair && degrees >= 2 && !others;
    if !fine || !expected {
        return;
    }
    for number in numbers(text.bytes) {
        if judge(&text.bytes[number.clone()]) == Some(true) {
            hits.push(number);
        }
    }
}

/// A place as in `geo:52.520008,13.404954`.
pub(crate) fn uri(text: &FoldedText<'_>, at: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    let Some(start) = at.start.checked_sub(3) else {
        return;
    };
    if !bytes[start..at.start].eq_ignore_ascii_case(b"geo") || !starts_word(bytes, start) {
        return;
    }
    let part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'-');
    let place = leading(&bytes[at.end..], part);
    let fine = |number: Range<usize>| judge(&place[number]) == Some(true);
    if numbers(place).take(2).any(fine) {
        hits.push(start..at.end + place.len());
    }
}

/// A geometry of well-known text, as in `POINT(13.404954 52.520008)`.
pub(crate) fn geometry(text: &FoldedText<'_>, at: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    let Some(start) = start_of_geometry(bytes, at.start) else {
        return;
    };
    let mut depth = 0;
    let mut end = at.start;
    while let Some(&byte) = bytes.get(end) {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'0'..=b'9' | b'.' | b',' | b'-' | b'+' | b'e' | b'E' | b' ' | b'\t' | b'\n' => {}
            _ => break,
        }
        end += 1;
        if depth == 0 {
            break;
        }
    }
    let inside = &bytes[at.start..end];
    let mut pair = numbers(inside).take(2);
    let (Some(x), Some(y)) = (pair.next(), pair.next()) else {
        return;
    };
    // What a comma stands between is a point of something else.
    let spaced = matches!(inside[x.end], b' ' | b'+');
    let degrees = [x, y].map(|number| judge(&inside[number]).is_some()) == [true; 2];
    if spaced && degrees && numbers(inside).any(|number| judge(&inside[number]) == Some(true)) {
        hits.push(start..end);
    }
}

/// The names of geometries that hold coordinates themselves.
const GEOMETRIES: &str =
    "point linestring polygon multipoint multilinestring multipolygon linearring circularstring";
/// Longest of them.
const GEOMETRY_BYTES_MAX: usize = 15;

/// Where the name of a geometry starts whose bracket is at `at`: `POINT Z (`.
fn start_of_geometry(bytes: &[u8], at: usize) -> Option<usize> {
    let mut rest = bytes[..at].trim_ascii_end();
    for dimension in ["zm", "z", "m"] {
        if let Some((named @ [.., b' '], last)) =
            rest.split_at_checked(rest.len().checked_sub(dimension.len())?)
            && last.eq_ignore_ascii_case(dimension.as_bytes())
        {
            rest = named.trim_ascii_end();
            break;
        }
    }
    let near = &rest[rest.len().saturating_sub(GEOMETRY_BYTES_MAX + 1)..];
    let name = trailing(near, u8::is_ascii_alphabetic);
    let start = rest.len() - name.len();
    (is_listed(name, GEOMETRIES) && starts_word(bytes, start)).then_some(start)
}

/// Fewest digits of a coordinate that is written as an integer.
const SCALED_DIGITS: std::ops::RangeInclusive<usize> = 6..=10;
/// Digits of such a number that say more than the decimals that remain. With fewer decimals than
/// seven it becomes coarser than others, never finer.
const SCALED_DECIMALS: usize = 7;

/// An integer of degrees times a power of ten.
pub(crate) fn scaled(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let value = text.bytes[window.clone()].trim_ascii();
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if text.kind != TextKind::Key && is_scaled(digits, DECIMALS) {
        let before = leading(&text.bytes[window.clone()], |byte| !byte.is_ascii_digit());
        let start = window.start + before.len();
        hits.push(start..start + digits.len());
    }
}

/// Whether a number is such an integer, and finer than `decimals`.
fn is_scaled(digits: &[u8], decimals: usize) -> bool {
    SCALED_DIGITS.contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && digits
            .iter()
            .rev()
            .take(SCALED_DECIMALS.saturating_sub(decimals))
            .any(|&digit| digit != b'0')
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
    if number
        .iter()
        .any(|byte| !matches!(byte, b'0'..=b'9' | b'.'))
    {
        let value: f64 = parsed(number)?;
        return (0.0..=DEGREES_MAX).contains(&value).then_some(true);
    }
    let mut parts = number.split(|&byte| byte == b'.');
    let whole = parts.next().unwrap_or_default();
    let fraction = parts.next().unwrap_or_default();
    if parts.next().is_some() {
        return None;
    }
    let zeros = leading(whole, |digit| *digit == b'0').len();
    let degrees = match &whole[zeros..] {
        digits @ ([] | [_] | [_, _] | [_, _, _]) => value_of(digits),
        _ => return None,
    };
    let beyond = degrees > 180 || degrees == 180 && fraction.iter().any(|&digit| digit != b'0');
    (!beyond).then_some(fraction.len() > DECIMALS)
}

/// Degrees of the longest way around.
const DEGREES_MAX: f64 = 180.0;

/// The text with each of its coordinates rounded, appended to `out`.
pub(crate) fn rounded_numbers(text: &[u8], decimals: usize, out: &mut Vec<u8>) {
    let mut copied = 0;
    for number in numbers(text) {
        if judge(&text[number.clone()]) == Some(true) {
            out.extend_from_slice(&text[copied..number.start]);
            round(&text[number.clone()], decimals, out);
            copied = number.end;
        } else if is_scaled(&text[number.clone()], decimals) {
            out.extend_from_slice(&text[copied..number.end]);
            let zeros = SCALED_DECIMALS.saturating_sub(decimals);
            let length = out.len();
            out[length - zeros.min(number.len())..].fill(b'0');
            copied = number.end;
        }
    }
    out.extend_from_slice(&text[copied..]);
}

/// Rounds half away from zero in the decimal text, so that no binary fraction shows.
fn round(number: &[u8], decimals: usize, out: &mut Vec<u8>) {
    let plain;
    let number = if number.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        plain = format!("{:.17}", parsed::<f64>(number).unwrap_or(0.0));
        plain.as_bytes()
    } else {
        number
    };
    let whole = leading(number, u8::is_ascii_digit);
    let fraction = number.get(whole.len() + 1..).unwrap_or_default();
    let kept = fraction.iter().chain(std::iter::repeat(&b'0'));
    let start = out.len();
    out.extend(whole.iter().chain(kept.take(decimals)));
    if fraction.get(decimals).is_some_and(|&digit| digit >= b'5') {
        let nines = trailing(&out[start..], |digit| *digit == b'9').len();
        let end = out.len() - nines;
        out[end..].fill(b'0');
        match out[start..end].last_mut() {
            Some(digit) => *digit += 1,
            None => out.insert(start, b'1'),
        }
    }
    if decimals > 0 {
        out.insert(out.len() - decimals, b'.');
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
            ("525200080", "525200000"),
            ("-134049540", "-134000000"),
        ] {
            let mut out = Vec::new();
            rounded_numbers(text.as_bytes(), 2, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), rounded, "{text}");
        }
    }
}
