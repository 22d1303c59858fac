//! Four numbers that are a version and no address: by their key, by the product before them
//! (`Chrome/124.0.0.0`), by the word before them, or by what follows.
//!
//! Every look goes back over a bounded number of bytes. Addresses of private networks other than
//! `10.0.0.0/8` are never versions: nobody counts that far.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::Text;
use crate::keys::{self, Evidence};
use crate::windows::before;

pub(super) fn is_version(text: &Text<'_>, number: Range<usize>, address: Ipv4Addr) -> bool {
    let (bytes, evidence) = (text.bytes, text.evidence);
    let [first, ..] = address.octets();
    if address.is_link_local() || address.is_private() && first != 10 || evidence.has(Evidence::IP)
    {
        return false;
    }
    if evidence.has(Evidence::VERSION) && !evidence.has(Evidence::HOSTED) {
        return true;
    }
    let agent = evidence.has(Evidence::AGENT);
    let whole = number.start == 0 && number.end == bytes.len();
    if whole {
        // The root of all object identifiers of SNMP.
        let oid = address == Ipv4Addr::new(1, 3, 6, 1);
        let small = first != 10 && address.octets()[..2].iter().all(|&octet| octet < 100);
        return oid || agent && small && !evidence.has(Evidence::HOSTED);
    }
    is_prerelease(&bytes[number.end..])
        || is_of_product(bytes, number.clone(), agent)
        || is_said(bytes, number.start)
}

/// Whether what follows a number makes it the version of a package: `1.2.3.4-rc1`.
fn is_prerelease(rest: &[u8]) -> bool {
    const WORDS: [&[u8]; 8] = [
        b"alpha",
        b"beta",
        b"rc",
        b"snapshot",
        b"release",
        b"final",
        b"dev",
        b"preview",
    ];
    let Some((b'-' | b'+' | b'_', word)) = rest.split_first() else {
        return false;
    };
    WORDS.iter().any(|known| {
        word.get(..known.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(known))
    })
}

/// Products whose versions have four numbers, or stand beside such.
const PRODUCTS: &str = "chrome chromium headlesschrome safari edg edge edga edgios opr opera firefox fxios version \
    crios samsungbrowser yabrowser vivaldi brave electron applewebkit gecko dalvik okhttp curl wget \
    python-requests aiohttp go-http-client axios postmanruntime cfnetwork darwin trident ucbrowser \
    miuibrowser webview nginx openssl kube-probe";

/// Longest name of a product.
const PRODUCT_BYTES_MAX: usize = 32;
/// Bytes before a number in which a browser names itself.
const AGENT_BYTES_MAX: usize = 256;

/// Whether the name of a product and a slash stand before the number. In other texts than those of
/// an `agent`, a name may be that of a host, with its address behind it.
fn is_of_product(bytes: &[u8], number: Range<usize>, agent: bool) -> bool {
    let start = number.start;
    if before(bytes, start) != Some(b'/') {
        return false;
    }
    let end = start - 1;
    let floor = end.saturating_sub(PRODUCT_BYTES_MAX);
    let named =
        |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+');
    let length = bytes[floor..end].iter().rev().take_while(named).count();
    let name = &bytes[end - length..end];
    let apart = matches!(
        before(bytes, end - length),
        None | Some(b' ' | b'(' | b';' | b',' | b'"' | b'\'' | b'=' | b'\t' | b'\n')
    );
    if !apart || !name.first().is_some_and(u8::is_ascii_alphabetic) {
        return false;
    }
    let port = bytes.get(number.end) == Some(&b':');
    let lower = name.to_ascii_lowercase();
    let known = || {
        PRODUCTS
            .split_ascii_whitespace()
            .any(|one| one.as_bytes() == lower)
    };
    let beside = || {
        let around = &bytes[start.saturating_sub(AGENT_BYTES_MAX)..end - length];
        [&b"Mozilla/"[..], b"Dalvik/", b"okhttp/"]
            .iter()
            .any(|browser| memchr::memmem::find(around, browser).is_some())
    };
    agent || !port && (known() || name[0].is_ascii_uppercase() && beside())
}

/// Words before a number that are looked at.
const WORDS_MAX: usize = 8;
/// Bytes before a number in which they stand.
const WORDS_BYTES_MAX: usize = 96;

/// Whether the words before the number at `at` say that it is a version.
fn is_said(bytes: &[u8], at: usize) -> bool {
    let floor = at.saturating_sub(WORDS_BYTES_MAX);
    let mut rest = &bytes[floor..at];
    let (mut from, mut to) = (false, false);
    for count in 0..WORDS_MAX {
        let Some(word) = last_word(&mut rest, if count == 0 { "" } else { ",;" }) else {
            return false;
        };
        let lower = word.to_ascii_lowercase();
        match &lower[..] {
            b"upgraded" | b"upgrade" | b"upgrading" | b"upgrades" | b"downgraded"
            | b"downgrade" => {
                return from || to;
            }
            b"to" => to = true,
            b"is" | b"was" | b"of" | b"and" | b"or" | b"than" | b"number" | b"no" | b"v"
            | b"string" | b"now" => {}
            b"from" => from = true,
            [b'0'..=b'9', ..]
                if word
                    .iter()
                    .all(|byte| byte.is_ascii_digit() || *byte == b'.') => {}
            _ if keys::evidence(word).has(Evidence::VERSION) => {
                return !from || verb_of_change(&mut rest);
            }
            app if from && is_program(app) => return verb_of_change(&mut rest),
            _ => return false,
        }
    }
    false
}

/// Whether `word` (lower case) names something that has versions and no address.
fn is_program(word: &[u8]) -> bool {
    const PROGRAMS: &str = "app application package image module library driver plugin software os";
    PROGRAMS
        .split(' ')
        .any(|program| program.as_bytes() == word)
}

/// Whether one of the words before says that something became another version.
fn verb_of_change(rest: &mut &[u8]) -> bool {
    (0..WORDS_MAX / 2).any(|_| {
        last_word(rest, "").is_some_and(|word| {
            let lower = word.to_ascii_lowercase();
            [
                &b"upgrad"[..],
                b"downgrad",
                b"updat",
                b"chang",
                b"bump",
                b"migrat",
                b"roll",
                b"flash",
            ]
            .iter()
            .any(|verb| lower.starts_with(verb))
        })
    })
}

/// Takes the last word off `rest`, with what separates words behind it and what `more` names.
fn last_word<'a>(rest: &mut &'a [u8], more: &str) -> Option<&'a [u8]> {
    let separates = |byte: &u8| {
        matches!(
            byte,
            b' ' | b':'
                | b'='
                | b'"'
                | b'\''
                | b'('
                | b')'
                | b'['
                | b'-'
                | b'>'
                | b'\\'
                | b'\t'
                | b'~'
        ) || more.as_bytes().contains(byte)
    };
    let end = rest.len() - rest.iter().rev().take_while(|byte| separates(byte)).count();
    let named = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let length = rest[..end].iter().rev().take_while(named).count();
    let word = &rest[end - length..end];
    *rest = &rest[..end - length];
    (!word.is_empty()).then_some(word)
}
