//! Credentials: JSON Web Tokens and AWS keys. An expired token is one too: its claims still name a
//! person.

use std::ops::Range;

use crate::detect::detector::{FoldedText, Hits};
use crate::keys::Evidence;
use crate::text::windows::{context_says, ends_word, leading, starts_word};

fn is_base64url(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Fewest characters of a part that holds a JSON object with one member.
const PART_MIN: usize = 8;

pub(crate) fn json_web_token(text: &FoldedText<'_>, at: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    let Some(start) = at.start.checked_sub(2) else {
        return;
    };
    if !starts_word(bytes, start) || &bytes[start..at.end] != b"eyJ" {
        return;
    }
    let part = |from: usize| from + leading(&bytes[from..], is_base64url).len();
    let header = part(start);
    if header - start < PART_MIN || bytes.get(header) != Some(&b'.') {
        return;
    }
    let claims = part(header + 1);
    let plain = bytes[header + 1..claims].starts_with(b"eyJ") && claims - header > PART_MIN;
    if bytes.get(claims) != Some(&b'.') {
        // A token that lost its signature still shows its claims.
        if plain {
            hits.push(start..claims);
        }
        return;
    }
    let signature = part(claims + 1);
    // An encrypted token has five parts, and a key where the claims are.
    let end = if bytes.get(signature) == Some(&b'.') && !plain {
        let cipher = part(signature + 1);
        if bytes.get(cipher) == Some(&b'.') {
            part(cipher + 1)
        } else {
            signature
        }
    } else {
        signature
    };
    hits.push(start..end);
}

const ACCESS_KEYS: [&[u8; 4]; 4] = [b"AKIA", b"ASIA", b"ABIA", b"ACCA"];
const ACCESS_KEY_BYTES: usize = 20;

fn access_key_at(bytes: &[u8], at: usize) -> bool {
    let Some(key) = bytes.get(at..at + ACCESS_KEY_BYTES) else {
        return false;
    };
    ACCESS_KEYS.iter().any(|start| key.starts_with(*start))
        && key[4..]
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        && starts_word(bytes, at)
        && ends_word(bytes, at + ACCESS_KEY_BYTES)
}

pub(crate) fn aws_access_key(text: &FoldedText<'_>, at: Range<usize>, hits: &mut Hits) {
    if access_key_at(text.bytes, at.start) {
        hits.push(at.start..at.start + ACCESS_KEY_BYTES);
    }
}

const SECRET_KEY_BYTES: usize = 40;
const SECRET_WORDS: &[&str] = &["secret", "secretkey", "secretaccesskey"];

pub(crate) fn aws_secret_key(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let bytes = &text.bytes[window];
    let mut evidence = text.evidence.has(Evidence::SECRET).then_some(true);
    let mut at = 0;
    while at < bytes.len() {
        let in_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+');
        let key = leading(&bytes[at..], in_key);
        let run = key.len();
        if run == SECRET_KEY_BYTES && is_mixed(key) && bytes.get(at + run) != Some(&b'=') {
            let beside = *evidence.get_or_insert_with(|| {
                memchr::memchr_iter(b'A', bytes).any(|at| access_key_at(bytes, at))
            });
            if beside || context_says(bytes, at, SECRET_WORDS, text.edited) {
                hits.push(at..at + run);
            }
        }
        at += run + 1;
    }
}

/// A digest in hexadecimal has no capital next to small letters.
fn is_mixed(key: &[u8]) -> bool {
    key.iter().any(u8::is_ascii_uppercase)
        && key.iter().any(u8::is_ascii_lowercase)
        && key.iter().any(|byte| !byte.is_ascii_hexdigit())
}
