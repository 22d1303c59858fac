//! IP addresses of both versions.
//!
//! A text like `10.1.2.0/24` whose address has no bits beyond its prefix is a network and no
//! finding; a prefix of 32 or 128 bits names one host and is. An address with a prefix and host
//! bits is found with its prefix. Addresses that identify no person are skipped: unspecified, loopback,
//! multicast and reserved ones, netmasks, and what ends like a network of eight bits. Four numbers
//! that are said to be a version are one (`version`).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::version::is_version;
use crate::detect::detector::{FoldedText, Hits, TextKind};
use crate::detect::number::parsed;
use crate::keys::Evidence;
use crate::text::windows::{
    ByteCounts, before, glued_to, is_glued, leading, starts_in_any_case, trailing,
};

/// An address with its prefix length, if one is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    V4(Ipv4Addr, Option<u8>),
    V6(Ipv6Addr, Option<u8>),
}

/// Reads an address, with an optional prefix length and zone, that takes the whole text.
pub(crate) fn parse_address(text: &[u8]) -> Option<Address> {
    if let Some((address, end)) = v4(text, 0) {
        let (prefix, end) = prefix(text, end, 32);
        return (end == text.len()).then_some(Address::V4(address, prefix));
    }
    let run = leading(text, in_v6);
    let address = v6(run)?;
    let (prefix, end) = prefix(text, zone_end(text, run.len()), 128);
    (end == text.len()).then_some(Address::V6(address, prefix))
}

pub(crate) fn ipv4(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    if text.kind == TextKind::Number {
        let names = |address| names_a_host(Ipv4Addr::from_bits(address));
        if text.evidence.has(Evidence::IP) && parsed(bytes).is_some_and(names) {
            hits.push(window);
        }
        return;
    }
    let mut at = window.start;
    while at < window.end {
        if bytes[at].is_ascii_digit() && starts(bytes, at) {
            if let Some((address, v4_end)) = v4(bytes, at)
                && ends(bytes, v4_end)
            {
                let (prefix, end) = prefix(bytes, v4_end, 32);
                let mask = prefix.or_else(|| mask(bytes, v4_end));
                let is_network = |length| is_network(u128::from(address.to_bits()), length, 32);
                let network = match mask {
                    Some(mask) => is_network(mask),
                    None => glued_prefixes(bytes, v4_end, 24).any(is_network),
                };
                let hidden = !network
                    && names_a_host(address)
                    && !ends_v6(bytes, at, v4_end)
                    && !is_version(text, at..v4_end, address);
                if hidden {
                    hits.push(at..end);
                }
                at = end;
                continue;
            }
            while at < window.end && bytes[at].is_ascii_digit() {
                at += 1;
            }
        } else {
            at += 1;
        }
    }
}

/// Whether the IPv4 address `at..end` is the tail of an IPv6 address, which is found as that.
fn ends_v6(bytes: &[u8], at: usize, end: usize) -> bool {
    if before(bytes, at) != Some(b':') {
        return false;
    }
    // What stands further in front is not part of the address.
    let in_front = trailing(&bytes[at.saturating_sub(2 * V6_BYTES_MAX)..at], in_v6);
    let behind = leading(&bytes[end..bytes.len().min(end + V6_BYTES_MAX)], in_v6);
    let run = at - in_front.len()..end + behind.len();
    v6_within(bytes, run).is_some_and(|(text, address)| text.end == end && v6_names_a_host(address))
}

/// Nothing before that makes the number part of a longer dotted number or of a word.
fn starts(bytes: &[u8], at: usize) -> bool {
    match before(bytes, at) {
        Some(b'.') => !before(bytes, at - 1).is_some_and(|byte| byte.is_ascii_alphanumeric()),
        _ => !is_glued(bytes, at) || glued_to(bytes, at, WORDS),
    }
}

/// Words that an address may be written to without a space; `v` starts a version.
const WORDS: &[&str] = &["ip", "addr", "host", "from", "client", "peer"];

fn ends(bytes: &[u8], end: usize) -> bool {
    match bytes.get(end) {
        Some(b'.') => !bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric),
        byte => !byte.is_some_and(u8::is_ascii_alphanumeric),
    }
}

/// Four octets at `at` and where they end. Leading zeros only when every octet has three digits.
fn v4(bytes: &[u8], mut at: usize) -> Option<(Ipv4Addr, usize)> {
    let mut octets = [0u8; 4];
    let (mut padded, mut full) = (false, true);
    for (index, octet) in octets.iter_mut().enumerate() {
        if index > 0 {
            if bytes.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let start = at;
        let mut value = 0u32;
        while at - start < 3 && bytes.get(at).is_some_and(u8::is_ascii_digit) {
            value = value * 10 + u32::from(bytes[at] - b'0');
            at += 1;
        }
        padded |= at - start > 1 && bytes[start] == b'0';
        full &= at - start == 3;
        if at == start {
            return None;
        }
        *octet = u8::try_from(value).ok()?;
    }
    let longer = bytes.get(at).is_some_and(u8::is_ascii_digit);
    (!longer && (!padded || full)).then(|| (Ipv4Addr::from(octets), at))
}

/// The prefix length written at `at`, and where it ends.
fn prefix(bytes: &[u8], at: usize, bits: u8) -> (Option<u8>, usize) {
    if bytes.get(at) != Some(&b'/') {
        return (None, at);
    }
    let near = &bytes[at + 1..bytes.len().min(at + 5)];
    let end = at + 1 + leading(near, u8::is_ascii_digit).len();
    // After the slash may also stand another address: `10.1.2.3/10.1.2.4`.
    match parsed(&bytes[at + 1..end]) {
        Some(length) if length <= bits && ends(bytes, end) => (Some(length), end),
        _ => (None, at),
    }
}

/// The prefix lengths up to `most` that may be meant at `at` where something is glued to the digits,
/// as in `192.0.2.0/24x`: invisible characters may stand between. Longer ones than what policies leave of
/// an address may be those of a host before a path: `192.0.2.8/29c1f`.
fn glued_prefixes(bytes: &[u8], at: usize, most: u8) -> impl Iterator<Item = u8> {
    let rest = bytes.get(at..).unwrap_or_default();
    let rest = rest.strip_prefix(b"/").unwrap_or_default();
    let digits = leading(rest, u8::is_ascii_digit).len();
    // Another address may follow: `10.1.2.0/10.1.2.4`.
    let digits = match rest.get(digits) {
        Some(b'.') => 0,
        _ => digits.min(3),
    };
    (1..=digits)
        .filter_map(|count| parsed(&rest[..count]))
        .filter(move |length| *length <= most)
}

/// The length of the netmask behind the slash at `at`, as in `10.1.2.0/255.255.255.0`.
fn mask(bytes: &[u8], at: usize) -> Option<u8> {
    let (mask, _) = v4(bytes, at + 1).filter(|_| bytes.get(at) == Some(&b'/'))?;
    let ones = mask.to_bits().leading_ones();
    let whole = ones + mask.to_bits().trailing_zeros() >= u32::BITS;
    u8::try_from(ones).ok().filter(|_| whole)
}

/// Whether an address may be that of a host. The others identify no person: `0.0.0.0/8`,
/// loopback, multicast, what is reserved (which holds all netmasks), networks of eight bits, and
/// the last address of a network of `192.168.0.0/16`, which is that of all its hosts. Other private
/// networks are often larger.
fn names_a_host(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 127 | 224.., ..] | [_, 0, 0, 0] | [192, 168, _, 255]
    )
}

/// Whether an address may be that of a host.
fn v6_names_a_host(address: Ipv6Addr) -> bool {
    let inner = match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => address.to_ipv4_mapped(),
        // What looks like a number is none that was written as four.
        [0, 0, 0, 0, 0, 0, high, _] if high > 0 => address.to_ipv4(),
        _ => None,
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
        && inner.is_none_or(names_a_host)
}

/// Where the IPv4 address lies in an IPv6 address of a way to carry the one over the other, by the
/// bits before it.
pub(crate) fn carried(address: Ipv6Addr) -> Option<u8> {
    match address.segments() {
        // 6to4, and the server of Teredo; its client lies behind that.
        [0x2002, ..] => Some(16),
        [0x2001, 0, ..] => Some(32),
        // NAT64, mapped, translated and compatible addresses, ISATAP.
        [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0 | 0xffff, 0, ..]
        | [0, 0, 0, 0, 0, 0xffff, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(96),
        _ => None,
    }
}

/// Whether an IPv6 address with this prefix is a network. One of 6to4 that names all of an IPv4
/// address is a host's.
fn is_v6_network(address: Ipv6Addr, prefix: u8) -> bool {
    let whole = carried(address).is_some_and(|at| prefix >= at + 32);
    !whole && is_network(u128::from(address), prefix, 128)
}

/// Whether an address of `bits` bits with this prefix has no bit beyond it.
fn is_network(address: u128, prefix: u8, bits: u8) -> bool {
    match prefix {
        0 => address == 0,
        _ => prefix < bits && address & ((1u128 << (bits - prefix)) - 1) == 0,
    }
}

fn in_v6(byte: &u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
}

/// The end of the zone at `at`, as in `fe80::1%eth0`.
fn zone_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at) != Some(&b'%') {
        return at;
    }
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let near = &bytes[at + 1..bytes.len().min(at + 33)];
    let length = leading(near, named).len();
    if length == 0 { at } else { at + 1 + length }
}

fn v6(run: &[u8]) -> Option<Ipv6Addr> {
    parsed(run).filter(|_| run.len() <= V6_BYTES_MAX)
}

/// Whether a text is an IPv4 address, or one with its prefix, and nothing more. No other detector
/// finds anything in it unless a key says so. A zero may start a phone number.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    if text.len() > 18 || text.first() == Some(&b'0') {
        return false;
    }
    match v4(text, 0) {
        Some((_, end)) => end == text.len() || prefix(text, end, 32).1 == text.len(),
        None => false,
    }
}

/// Eight groups have seven colons, six before an IPv4 address six; less only with two together.
pub(crate) fn v6_possible(text: &FoldedText<'_>, counts: &ByteCounts) -> bool {
    counts.colons >= 6 || counts.colons >= 2 && text.bytes.windows(2).any(|pair| pair == b"::")
}

pub(crate) fn ipv6(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    // The window may hold dashes, which no address has.
    let mut start = window.start;
    for run in bytes[window].split(|&byte| byte == b'-') {
        v6_in(bytes, start..start + run.len(), hits);
        start += run.len() + 1;
    }
}

fn v6_in(bytes: &[u8], run: Range<usize>, hits: &mut Hits) {
    let Some((place, address)) = v6_within(bytes, run) else {
        return;
    };
    let written = &bytes[place.clone()];
    let plausible = written.iter().any(u8::is_ascii_digit)
        || written.iter().filter(|&&byte| byte == b':').count() > 2;
    if plausible && v6_names_a_host(address) {
        let zone_end = zone_end(bytes, place.end);
        let (prefix, end) = prefix(bytes, zone_end, 128);
        // With four numbers at its end it may be a mapped one with something glued to its start.
        let most = if written.contains(&b'.') { 96 + 24 } else { 64 };
        let network = match prefix {
            Some(prefix) => is_v6_network(address, prefix),
            None => {
                glued_prefixes(bytes, zone_end, most).any(|prefix| is_v6_network(address, prefix))
            }
        };
        if !network {
            hits.push(place.start..end);
        }
    }
}

/// The longest text of an address.
const V6_BYTES_MAX: usize = 45;

/// The address in a run of hexadecimal digits, colons and dots.
fn v6_within(bytes: &[u8], mut run: Range<usize>) -> Option<(Range<usize>, Ipv6Addr)> {
    if is_glued(bytes, run.start) {
        // The end of a word that an address follows: `udp6:fe80::1`. Its colon belongs to that
        // where nothing else can be meant: `u0000::ffff:192.0.2.1`.
        let colon = bytes[run.clone()].iter().position(|&byte| byte == b':')?;
        let mapped = starts_in_any_case(&bytes[run.start + colon..], b"::ffff:");
        run.start += colon + usize::from(!mapped);
    }
    // Behind the four numbers at the end of an address may stand a port.
    let dot = bytes[run.clone()].iter().position(|&byte| byte == b'.');
    let numbers = dot.map(|dot| {
        let rest = &bytes[run.start + dot..run.end];
        let numbers = leading(rest, |byte| byte.is_ascii_digit() || *byte == b'.');
        run.start + dot + numbers.len()
    });
    numbers
        .filter(|&end| end < run.end)
        .and_then(|end| v6_at_end(bytes, run.start..end))
        .or_else(|| v6_at_end(bytes, run))
}

/// The address that ends where the run does.
fn v6_at_end(bytes: &[u8], run: Range<usize>) -> Option<(Range<usize>, Ipv6Addr)> {
    let colons = bytes[run.clone()].iter().filter(|&&byte| byte == b':');
    if colons.count() < 2 {
        return None;
    }
    // Text may be glued to either end: `addr:fe80::1`, `fe80::1.`, `fe80::1:`.
    let mut end = run.end;
    while end > run.start
        && matches!(bytes[end - 1], b'.' | b':')
        && !bytes[run.start..end].ends_with(b"::")
    {
        end -= 1;
    }
    if bytes.get(end).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    (run.start.max(end.saturating_sub(V6_BYTES_MAX))..end).find_map(|start| {
        let glued = start == run.start || matches!(bytes[start - 1], b'.' | b':');
        // Nine groups and more are no address, nor are the last eight of them one.
        let behind_groups = bytes[run.start..start].iter().any(u8::is_ascii_hexdigit)
            && memchr::memmem::find(&bytes[start..end], b"::").is_none();
        if !glued || end - start < 2 || behind_groups {
            return None;
        }
        Some((start..end, v6(&bytes[start..end])?))
    })
}
