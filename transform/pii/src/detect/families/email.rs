//! E-mail addresses, anchored at the `@`.
//!
//! The local part is taken as far left as its characters go, the domain as far right. Private
//! domains (`x@corp.local`) count: whether a name resolves says nothing about whose it is.

use std::ops::Range;

use crate::detect::detector::{FoldedText, Hits};
use crate::keys::Evidence;
use crate::text::windows::{self, is_listed, leading, starts_in_any_case, trailing};

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || b"._+-'!#$*~^%".contains(&byte)
}

fn is_domain(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte >= 0x80 || matches!(byte, b'.' | b'-' | b'_')
}

/// Judges the address whose `@` is `at`.
pub(crate) fn at_sign(text: &FoldedText<'_>, at: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    let Some(start) = local_start(bytes, at.start, hits.covered_to()) else {
        return;
    };
    let Some(end) = domain_end(bytes, at.end, text.evidence.has(Evidence::EMAIL)) else {
        return;
    };
    if is_picture(&bytes[at.end..end]) || is_of_package(bytes, start, at.end..end) {
        return;
    }
    hits.push(start..end);
}

fn local_start(bytes: &[u8], at: usize, floor: usize) -> Option<usize> {
    let mut start = at;
    if bytes[floor..at].ends_with(b"\"") {
        // A quoted local part, at most as long as any local part may be.
        let from = at.saturating_sub(66).max(floor);
        let quote = bytes[from..at - 1].iter().rposition(|&byte| byte == b'"')?;
        return (quote + 2 < at - from).then_some(from + quote);
    }
    // Brackets may stand in a local part, but they end it wherever they may also stand around it.
    while start > floor && matches!(bytes[start - 1], b'{' | b'}' | b'|' | b'`') {
        start -= 1;
    }
    while start > floor && is_local(bytes[start - 1]) {
        start -= 1;
    }
    // A colour of a terminal may stand directly before it.
    let word = bytes[start..at]
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b';'));
    let letter = start + word.unwrap_or(0) + 1;
    if letter < at && windows::colour_before(bytes, letter) > letter - start {
        start = letter;
    }
    while start < at && matches!(bytes[start], b'.' | b'\'' | b'-') {
        start += 1;
    }
    (start < at).then_some(start)
}

fn domain_end(bytes: &[u8], start: usize, dotless: bool) -> Option<usize> {
    if bytes.get(start) == Some(&b'[') {
        let inside = &bytes[start + 1..bytes.len().min(start + 64)];
        let length = inside.iter().position(|&byte| byte == b']')?;
        let literal = &inside[..length];
        let is_address = literal.iter().all(|byte| {
            byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'I' | b'P' | b'v')
        });
        return (is_address && length >= 3).then_some(start + length + 2);
    }
    let mut domain = leading(&bytes[start..], is_domain);
    while let [rest @ .., b'.' | b'-' | b'_'] = domain {
        domain = rest;
    }
    if !dotless && is_unit(domain) {
        return None;
    }
    // The last label decides; text may be glued to the end (`a@b.com.1`), so shorter ones count.
    let mut candidate = domain;
    loop {
        let dot = candidate.iter().rposition(|&byte| byte == b'.');
        let last = &candidate[dot.map_or(0, |dot| dot + 1)..];
        let named = last.len() >= 2 && (last[0].is_ascii_alphabetic() || last[0] >= 0x80);
        match dot {
            Some(dot) if dot > 0 && named => return Some(start + candidate.len()),
            Some(dot) if dot > 0 => candidate = &candidate[..dot],
            _ => break,
        }
    }
    if super::ip::parse_address(domain).is_some() {
        return Some(start + domain.len());
    }
    (dotless && !domain.is_empty()).then_some(start + domain.len())
}

/// Whether what stands behind the `@` is the version of a package: `pkg:npm/left-pad@1.2.3.4`.
fn is_of_package(bytes: &[u8], start: usize, domain: Range<usize>) -> bool {
    let number = bytes[domain]
        .iter()
        .all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let floor = start.saturating_sub(PACKAGE_BYTES_MAX);
    let named = |byte: &u8| is_domain(byte) || matches!(byte, b'/' | b':' | b'%' | b'@');
    let name = trailing(&bytes[floor..start], named);
    let purl = starts_in_any_case(name, b"pkg:");
    number && (purl || name.starts_with(b"@")) && name.ends_with(b"/")
}

/// Longest name of a package before its last part.
const PACKAGE_BYTES_MAX: usize = 128;

/// Whether the name behind the `@` is the instance of a systemd unit: `user@1000.service`. Domains
/// may end like some types, so those count behind numbers and devices only.
fn is_unit(domain: &[u8]) -> bool {
    let mut parts = domain.split(|&byte| byte == b'.');
    let (Some(instance), Some(kind), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    match kind {
        b"socket" | b"timer" | b"slice" | b"scope" | b"mount" | b"automount" => true,
        b"service" | b"target" | b"device" | b"path" | b"swap" => is_instance(instance),
        _ => false,
    }
}

/// Devices that systemd has units for.
const DEVICES: &str = "tty ttys ttyusb ttyacm ttyama hvc pts wg tun tap eth en enp ens eno wlan wlp wwan br \
                       bond ppp lo can hci sd vd md dm loop nvme mmcblk";

/// Whether a name is a number or that of a device: `1000`, `14-main`, `tty1`, `dev-sda1`.
fn is_instance(name: &[u8]) -> bool {
    if name.starts_with(b"dev-") || name.starts_with(b"sys-") {
        return true;
    }
    let (word, rest) = name.split_at(leading(name, u8::is_ascii_alphabetic).len());
    let digits = leading(rest, u8::is_ascii_digit).len();
    if word.is_empty() {
        return digits > 0 && matches!(rest.get(digits), None | Some(b'-'));
    }
    digits > 0 && is_listed(word, DEVICES)
}

/// `icon@2x.png` is a picture for dense displays.
fn is_picture(domain: &[u8]) -> bool {
    matches!(domain, [b'1'..=b'9', b'x', b'.', ..])
        && [&b"png"[..], b"jpg", b"jpeg", b"gif", b"webp", b"svg"]
            .iter()
            .any(|end| domain.ends_with(end))
}
