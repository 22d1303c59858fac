//! Changes to inputs.

use crate::FuzzRandom;

/// Numbers at the limits of arithmetic.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e308",
    "1e309",
    "5e-324",
    "1e-400",
    "1.5e-99999999999999999999",
    "1e99999999999999999999",
    "0.1",
    "00",
    "1.",
    ".5",
    "-",
];

/// Bytes that parsers look for.
const BYTES: &[u8] =
    b"\x00\x01\x1f \t\r\n\"'\\/{}[](),:;.=-+_#%&*0159aefnuxEZ\x7f\x80\xbf\xc0\xe2\xed\xf0\xff";

/// Changes `input` in one to eight places; `other` is another input, `tokens` are words of the
/// language.
pub(crate) fn mutate(
    input: &mut Vec<u8>,
    other: &[u8],
    tokens: &[&[u8]],
    bytes_max: usize,
    random: &mut FuzzRandom,
) {
    for _ in 0..=random.u8(0..3) * random.u8(0..3) {
        change(input, other, tokens, random);
    }
    input.truncate(bytes_max);
}

fn change(input: &mut Vec<u8>, other: &[u8], tokens: &[&[u8]], random: &mut FuzzRandom) {
    let at = random.usize(0..=input.len());
    let end = range_end(at, input.len(), random);
    match random.u8(0..14) {
        0 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
        1 if at < input.len() => input[at] = random.u8(..),
        2 if at < input.len() => input[at] = BYTES[random.usize(0..BYTES.len())],
        3 => input.insert(at, BYTES[random.usize(0..BYTES.len())]),
        4 => input.insert(at, random.u8(..)),
        5 => drop(input.drain(at..end)),
        6 => input.truncate(at),
        7 => {
            // Repetition reveals costs that are not linear.
            let piece = input[at..end].to_vec();
            let times = if random.u8(0..8) == 0 { 200 } else { 1 };
            put(input, at..at, &piece.repeat(times));
        }
        8 => {
            let from = random.usize(0..=other.len());
            let piece = &other[from..range_end(from, other.len(), random)];
            put(input, at..end, piece);
        }
        9 => {
            let from = random.usize(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        10 => {
            let number = NUMBERS[random.usize(0..NUMBERS.len())].as_bytes();
            let digits = digits_at(input, at);
            put(input, digits, number);
        }
        11 if at + 8 <= input.len() => {
            // A length or an offset of a binary format.
            let width = [1, 2, 4, 8][random.usize(0..4)];
            let value = [
                0,
                1,
                0x7f,
                0x80,
                0xff,
                0xffff,
                1 << 31,
                u64::from(u32::MAX),
                1 << 40,
                u64::MAX,
            ][random.usize(0..10)];
            input[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        _ if !tokens.is_empty() => {
            let token = tokens[random.usize(0..tokens.len())];
            let end = if random.bool() { at } else { end };
            put(input, at..end, token);
        }
        _ => {}
    }
}

fn put(input: &mut Vec<u8>, range: std::ops::Range<usize>, piece: &[u8]) {
    input.splice(range, piece.iter().copied());
}

/// The end of a range from `at`, which is usually short.
fn range_end(at: usize, length: usize, random: &mut FuzzRandom) -> usize {
    let longest = if random.u8(0..4) == 0 { length } else { 8 };
    at + random.usize(0..=(length - at).min(longest))
}

/// The range of the digits around `at`, which may be empty.
fn digits_at(input: &[u8], at: usize) -> std::ops::Range<usize> {
    let digits = |bytes: &mut dyn Iterator<Item = &u8>| {
        bytes.take_while(|byte| byte.is_ascii_digit()).count()
    };
    let before = digits(&mut input[..at].iter().rev());
    let behind = digits(&mut input[at..].iter());
    at - before..at + behind
}
