//! Four numbers that are a version and not an address: by their key, by the product or package before
//! them (`Chrome/124.0.0.0`, `nginx:1.25.3.1`), by the word before them, or by what follows.
//!
//! Every look goes back over a bounded number of bytes. Addresses of private networks other than
//! `10.0.0.0/8` are never versions: versions do not count that far.

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::detect::detector::FoldedText;
use crate::detect::number::parsed;
use crate::keys::{self, Evidence};
use crate::text::windows::{before, is_listed, leading, starts_in_any_case, trailing};

pub(crate) fn is_version(text: &FoldedText<'_>, number: Range<usize>, address: Ipv4Addr) -> bool {
    let (bytes, evidence) = (text.bytes, text.evidence);
    let [first, ..] = address.octets();
    if address.is_link_local() || address.is_private() && first != 10 || evidence.has(Evidence::IP)
    {
        return false;
    }
    // A text about a version may also say where it came from.
    let plain = number.start == 0 || is_low(first) || is_like_version(address);
    if evidence.has(Evidence::VERSION) && !evidence.has(Evidence::HOSTED) && plain {
        return true;
    }
    let agent = evidence.has(Evidence::AGENT);
    let whole = number.start == 0 && number.end == bytes.len();
    if whole {
        // The root of all object identifiers of SNMP.
        let oid = address == Ipv4Addr::new(1, 3, 6, 1);
        return oid || agent && is_small(address) && !evidence.has(Evidence::HOSTED);
    }
    is_prerelease(&bytes[number.end..])
        || is_of_product(bytes, &number, address, agent)
        || is_of_package(bytes, &number, address, agent)
        || is_heading(bytes, &number, address)
        || is_said(bytes, &number, address)
}

/// Whether what follows a number makes it the version of a package: `1.2.3.4-rc1`.
fn is_prerelease(rest: &[u8]) -> bool {
    const WORDS: &str = "alpha beta rc snapshot release final dev preview";
    let Some((b'-' | b'+' | b'_', word)) = rest.split_first() else {
        return false;
    };
    let (word, behind) = word.split_at(leading(word, u8::is_ascii_alphabetic).len());
    let count = leading(behind, |byte| byte.is_ascii_digit() || *byte == b'.').len();
    let ends = !behind
        .get(count)
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    // Devices are numbered so, too: `198.51.100.23_dev0`.
    let device = word.eq_ignore_ascii_case(b"dev")
        && (rest[0] == b'_' || behind.first().is_some_and(u8::is_ascii_digit));
    ends && !device && is_listed(word, WORDS)
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

/// Whether the name of a product and a slash stand before the number. A name may also be that of a
/// host, with its address behind it: what is not a known product, or in lower case, has to have the
/// numbers of a version, and stand beneath an `agent` or beside a browser.
fn is_of_product(bytes: &[u8], number: &Range<usize>, address: Ipv4Addr, agent: bool) -> bool {
    let start = number.start;
    if before(bytes, start) != Some(b'/') {
        return false;
    }
    let end = start - 1;
    let floor = end.saturating_sub(PRODUCT_BYTES_MAX);
    let named =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+');
    let name = trailing(&bytes[floor..end], named);
    let apart = matches!(
        before(bytes, end - name.len()),
        None | Some(b' ' | b'(' | b';' | b',' | b'"' | b'\'' | b'=' | b'\t' | b'\n')
    );
    if !apart || !name.first().is_some_and(u8::is_ascii_alphabetic) {
        return false;
    }
    let port = bytes.get(number.end) == Some(&b':');
    let known = is_listed(name, PRODUCTS);
    let beside = || {
        let around = &bytes[start.saturating_sub(AGENT_BYTES_MAX)..end - name.len()];
        [&b"Mozilla/"[..], b"Dalvik/", b"okhttp/"]
            .iter()
            .any(|browser| memchr::memmem::find(around, browser).is_some())
    };
    let capital = name[0].is_ascii_uppercase();
    if port {
        false
    } else if capital && known {
        true
    } else if capital && beside() {
        is_low(address.octets()[0]) || is_like_version(address)
    } else {
        (known || agent) && is_like_version(address)
    }
}

/// Programs of which there are images, besides the products.
const IMAGES: &str = "alpine busybox caddy cassandra coredns debian elasticsearch envoy etcd grafana haproxy httpd \
    influxdb jenkins kafka keycloak kibana logstash mariadb memcached minio mongo mongodb mosquitto mysql node \
    openjdk php postgres postgresql prometheus python rabbitmq redis registry ruby telegraf traefik ubuntu vault \
    wordpress zookeeper";

/// Longest reference to a package or image.
const PACKAGE_BYTES_MAX: usize = 128;

/// Whether the number is the version in a reference: `nginx:1.25.3.1`, `registry.example/team/app:1.2.3.4`,
/// `pkg:npm/left-pad@1.2.3.4`, `@scope/name@1.2.3.4`. Behind a colon may also stand the address of
/// what is named, so the numbers have to be those of a version, too.
fn is_of_package(bytes: &[u8], number: &Range<usize>, address: Ipv4Addr, agent: bool) -> bool {
    let Some(mark @ (b':' | b'@')) = before(bytes, number.start) else {
        return false;
    };
    let end = number.start - 1;
    let floor = end.saturating_sub(PACKAGE_BYTES_MAX);
    let named = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'/' | b'@' | b':' | b'%')
    };
    let name = trailing(&bytes[floor..end], named);
    let path = memchr::memchr(b'/', name).is_some();
    let version = is_low(address.octets()[0]) && is_like_version(address);
    if mark == b'@' {
        let purl = starts_in_any_case(name, b"pkg:");
        return path && (purl || version && name.starts_with(b"@"));
    }
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let known = || is_known(last);
    let port = bytes.get(number.end) == Some(&b':');
    let url = memchr::memmem::find(name, b"//").is_some();
    version
        && !port
        && !url
        && last.first().is_some_and(u8::is_ascii_alphabetic)
        && !last.contains(&b':')
        && (path || agent || known())
}

/// Whether `name` is that of a product or image.
fn is_known(name: &[u8]) -> bool {
    is_listed(name, PRODUCTS) || is_listed(name, IMAGES)
}

/// Whether a number is the heading of a list of changes, and names its version:
/// `## [1.2.3.4] - 2026-11-21`, `app (1.2.3.4) unstable; urgency=low`.
fn is_heading(bytes: &[u8], number: &Range<usize>, address: Ipv4Addr) -> bool {
    let floor = number.start.saturating_sub(WORDS_BYTES_MAX);
    let ahead = bytes[floor..number.start].trim_ascii_end();
    let rest = &bytes[number.end..bytes.len().min(number.end + WORDS_BYTES_MAX)];
    if !is_low(address.octets()[0]) {
        return false;
    }
    if ahead.ends_with(b"(") {
        return rest.starts_with(b")") && memchr::memmem::find(rest, b"; urgency=").is_some();
    }
    let ahead = ahead.strip_suffix(b"[").unwrap_or(ahead).trim_ascii_end();
    let marks = trailing(ahead, |byte| *byte == b'#').len();
    let line = matches!(before(ahead, ahead.len() - marks), None | Some(b'\n'));
    let rest = rest.strip_prefix(b"]").unwrap_or(rest).trim_ascii_start();
    let dated = match rest {
        [b'-' | b'(', date @ ..] => {
            let date = date.trim_ascii_start();
            date.get(..4)
                .is_some_and(|year| year.iter().all(u8::is_ascii_digit))
                && date.get(4) == Some(&b'-')
        }
        _ => false,
    };
    marks > 0 && line && (dated || marks > 1 && is_like_version(address))
}

/// Words before a number that are looked at.
const WORDS_MAX: usize = 8;
/// Bytes before a number in which they stand.
const WORDS_BYTES_MAX: usize = 96;

/// Whether the words around a number say that it is a version.
fn is_said(bytes: &[u8], number: &Range<usize>, address: Ipv4Addr) -> bool {
    let floor = number.start.saturating_sub(WORDS_BYTES_MAX);
    let near = &bytes[floor..number.start];
    let mut rest = near;
    match last_word(&mut rest, "") {
        Some(word) if word.eq_ignore_ascii_case(b"from") => {
            let end = bytes.len().min(number.end + WORDS_BYTES_MAX);
            let other = next_version(&bytes[number.end..end]);
            other.is_some_and(|other| is_next(address, other)) && says_change(rest)
        }
        Some(word) if word.eq_ignore_ascii_case(b"to") => {
            let mut before = rest;
            let other = last_word(&mut before, "").and_then(first_of_four);
            let from = last_word(&mut before, "");
            match other {
                Some(other) if from.is_some_and(|word| word.eq_ignore_ascii_case(b"from")) => {
                    is_next(address, other) && says_change(before)
                }
                _ => is_like_version(address) && says_change(rest),
            }
        }
        Some(_) => is_named(near, address),
        None => false,
    }
}

/// Whether the words before a number name a version: `firmware is`, `version 1.2.3.4 and`.
fn is_named(mut rest: &[u8], address: Ipv4Addr) -> bool {
    let is_next_to = |word: &[u8]| first_of_four(word).is_some_and(|one| is_next(address, one));
    for count in 0..WORDS_MAX {
        let around = rest;
        let Some(word) = last_word(&mut rest, if count == 0 { "" } else { ",;" }) else {
            return false;
        };
        let gap = &around[rest.len() + word.len()..];
        let lower = word.to_ascii_lowercase();
        match &lower[..] {
            b"is" | b"was" | b"now" | b"number" | b"no" | b"v" | b"string" => {}
            b"and" | b"or" | b"than" => {
                if !last_word(&mut rest, ",").is_some_and(is_next_to) {
                    return false;
                }
            }
            // Two numbers that nothing joins are two things: `version 1.2.3.4 198.51.100.23`.
            _ if gap.contains(&b'>') && is_next_to(word) => {}
            // An address is released as well, and the kernel says which one it dropped.
            b"release" => {
                let written = gap.iter().any(|byte| matches!(byte, b':' | b'='));
                return written && is_next(address, address.octets()[0]);
            }
            b"kernel" => return !gap.contains(&b':'),
            _ => return names_version(word),
        }
    }
    false
}

/// Whether a word is that of a version, and not of what is reached somewhere: `fw_server`.
fn names_version(word: &[u8]) -> bool {
    let said = keys::evidence(word);
    said.has(Evidence::VERSION) && !said.has(Evidence::HOSTED | Evidence::IP)
}

/// What has versions and no address.
const PROGRAMS: &str = "app application package image module library driver plugin software os";

/// Whether the words before `from` or `to` say that something got another version.
fn says_change(mut rest: &[u8]) -> bool {
    let Some(word) = last_word(&mut rest, "") else {
        return false;
    };
    if is_listed(word, "upgraded upgrading upgrades downgraded downgrading") {
        return true;
    }
    let thing = is_listed(word, PROGRAMS) || is_known(word) || names_version(word);
    thing && verb_of_change(&mut rest)
}

/// The first of four numbers.
fn first_of_four(word: &[u8]) -> Option<u8> {
    let parts = || word.split(|&byte| byte == b'.');
    let whole = parts().count() == 4
        && parts().all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
    parsed(parts().next()?).filter(|_| whole)
}

/// The first part of the number in ` to 1.2.3.4` at the start of `rest`.
fn next_version(rest: &[u8]) -> Option<u8> {
    let apart = |byte: &u8| matches!(byte, b' ' | b'"' | b'\'' | b'\\');
    let rest = &rest[leading(rest, apart).len()..];
    let rest = rest.split_first_chunk::<2>();
    let (_, rest) = rest.filter(|(word, _)| word.eq_ignore_ascii_case(b"to"))?;
    let gap = leading(rest, apart).len();
    let mut word = leading(&rest[gap..], |byte| byte.is_ascii_digit() || *byte == b'.');
    while let [short @ .., b'.'] = word {
        word = short;
    }
    first_of_four(word).filter(|_| gap > 0)
}

/// Whether a version may follow one that starts with `other`, or come before it.
fn is_next(address: Ipv4Addr, other: u8) -> bool {
    let [first, ..] = address.octets();
    is_low(first) && is_low(other) && first.abs_diff(other) <= 1 || is_like_version(address)
}

/// Whether the first part may be that of a version, which little else distinguishes from an address.
fn is_low(first: u8) -> bool {
    first < FIRST_MAX && first != 10
}

/// What the first part of most versions is below.
const FIRST_MAX: u8 = 32;
/// What the parts of a version come to that are small, as those of one address in six thousand are.
const SUM_MAX: u16 = 64;

/// Whether four numbers are rather those of a version: few counts of releases are large, and
/// browsers have a zero behind the first.
fn is_like_version(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first != 10 && (second == 0 || is_small(address))
}

fn is_small(address: Ipv4Addr) -> bool {
    let octets = address.octets();
    octets[0] != 10 && octets.iter().map(|&octet| u16::from(octet)).sum::<u16>() < SUM_MAX
}

/// Whether one of the words before says that something became another version.
fn verb_of_change(rest: &mut &[u8]) -> bool {
    (0..WORDS_MAX / 2).any(|_| {
        last_word(rest, "").is_some_and(|word| {
            let lower = word.to_ascii_lowercase();
            [&b"upgrad"[..], b"downgrad", b"updat", b"chang", b"bump"]
                .iter()
                .any(|verb| lower.starts_with(verb))
        })
    })
}

/// Takes the last word off `rest`, with what separates words behind it and what `more` names.
fn last_word<'a>(rest: &mut &'a [u8], more: &str) -> Option<&'a [u8]> {
    let separates =
        |byte: &u8| b" :=\"'()[->\\\t~".contains(byte) || more.as_bytes().contains(byte);
    let end = rest.len() - trailing(rest, separates).len();
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let word = trailing(&rest[..end], named);
    *rest = &rest[..end - word.len()];
    (!word.is_empty()).then_some(word)
}
