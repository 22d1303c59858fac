//! Replaces findings.
//!
//! Owns the actions and the texts they write. Promises: whatever an action writes needs no JSON
//! escape at any depth; a token is HMAC-SHA-256 of the normalised value under a key with an id,
//! separated by class, so that equal values have equal tokens, and values cannot be tried without the
//! key. Tokens hold no digits but those of the key id, so that no detector takes them for data.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::class::Class;
use crate::detect::{self, Address};
use crate::text::windows::leading;

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Report it and leave it.
    Keep,
    /// Replace it by a text; without one, by the label of its class.
    Label(Option<String>),
    /// Replace each character.
    Mask { character: u8 },
    /// Replace the characters between the first and the last ones.
    Partial {
        character: u8,
        first: usize,
        last: usize,
    },
    /// Replace it by its token.
    Token,
    /// Replace an address by its network.
    Prefix { v4: u8, v6: u8 },
    /// Round coordinates.
    Round { decimals: usize },
    /// Keep the year of a date.
    Year,
    /// Replace the whole value by `null`.
    Null,
    /// Remove the member; an element of an array becomes `null`.
    DropField,
    /// Drop the record.
    DropRecord,
}

impl Action {
    /// The name in policies and reports.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Label(_) => "label",
            Self::Mask { .. } => "mask",
            Self::Partial { .. } => "partial",
            Self::Token => "token",
            Self::Prefix { .. } => "prefix",
            Self::Round { .. } => "round",
            Self::Year => "year",
            Self::Null => "null",
            Self::DropField => "drop-field",
            Self::DropRecord => "drop-record",
        }
    }

    /// Whether a part of the value may remain.
    pub(crate) fn reveals(&self) -> bool {
        matches!(
            self,
            Self::Keep
                | Self::Partial { .. }
                | Self::Prefix { .. }
                | Self::Round { .. }
                | Self::Year
        )
    }
}

/// What stands in the place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// The text that was written, in the place of the matched bytes.
    Written,
    /// `null` in the place of the whole value.
    Null,
}

/// Writes what replaces `found` (the folded match) to `out`.
pub(crate) fn replace(
    action: &Action,
    class: Class,
    found: &[u8],
    key: Option<&TokenKey>,
    out: &mut Vec<u8>,
) -> Replacement {
    let label = || class.label().as_bytes();
    match action {
        Action::Label(text) => {
            out.extend_from_slice(text.as_deref().map_or_else(label, str::as_bytes))
        }
        Action::Mask { character } => mask(found, *character, 0, 0, out),
        Action::Partial {
            character,
            first,
            last,
        } => mask(found, *character, *first, *last, out),
        Action::Token => match key {
            Some(key) => key.write(class.name(), &normalised(class, found), out),
            None => out.extend_from_slice(label()),
        },
        Action::Prefix { v4, v6 } => match detect::parse_address(found) {
            Some(address) => network(address, *v4, *v6, out),
            None => out.extend_from_slice(label()),
        },
        Action::Round { decimals } => detect::rounded_numbers(found, *decimals, out),
        Action::Year => match detect::year_of(found) {
            Some(year) => out.extend_from_slice(year),
            None => out.extend_from_slice(label()),
        },
        Action::Keep | Action::Null | Action::DropField | Action::DropRecord => {
            return Replacement::Null;
        }
    }
    Replacement::Written
}

/// Masks all letters and digits but the first and last ones, and keeps what separates them if
/// that needs no escape. A value that is too short to hide most of it is masked wholly.
fn mask(found: &[u8], character: u8, first: usize, last: usize, out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(found);
    let total = text
        .chars()
        .filter(|character| character.is_alphanumeric())
        .count();
    let (first, last) = if (first + last) * 2 > total {
        (0, 0)
    } else {
        (first, last)
    };
    let partial = first + last > 0;
    let mut seen = 0;
    for written in text.chars() {
        let shown = if written.is_alphanumeric() {
            seen += 1;
            seen <= first || seen > total - last
        } else {
            partial
                && written.is_ascii()
                && !written.is_ascii_control()
                && !matches!(written, '"' | '\\')
        };
        if shown {
            out.extend_from_slice(written.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            out.push(character);
        }
    }
}

/// Whether `value` could be the result of a mask with this character.
pub(crate) fn is_masked(value: &[u8], character: u8) -> bool {
    let masked = value.iter().filter(|&&byte| byte == character).count();
    let shown = value
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric() || **byte >= 0x80)
        .count();
    masked > 0 && masked >= shown
}

fn network(address: Address, v4: u8, v6: u8, out: &mut Vec<u8>) {
    use std::io::Write;
    let (address, length) = match address {
        Address::V4(address, prefix) => {
            let length = prefix.map_or(v4, |prefix| prefix.min(v4));
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            for octet in (u32::from(address) & mask).to_be_bytes() {
                decimal(octet, out);
                out.push(b'.');
            }
            out.pop();
            out.push(b'/');
            decimal(length, out);
            return;
        }
        Address::V6(address, prefix) => {
            // An address that carries an IPv4 address keeps no more of it than that would.
            let most = match detect::carried(address) {
                Some(_) if address.to_ipv4_mapped().is_some() => 96 + v4,
                // Of Teredo no more than that it is.
                Some(32) => v6.min(32),
                Some(before) => v6.min(before + v4),
                None => v6,
            };
            let length = prefix.map_or(most, |prefix| prefix.min(most));
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            (u128::from(address) & mask, length)
        }
    };
    write!(out, "{}/{length}", std::net::Ipv6Addr::from(address))
        .expect("writing to a vector does not fail");
}

fn decimal(value: u8, out: &mut Vec<u8>) {
    if value >= 100 {
        out.push(b'0' + value / 100);
    }
    if value >= 10 {
        out.push(b'0' + value / 10 % 10);
    }
    out.push(b'0' + value % 10);
}

/// The form of a value in which all ways to write it agree.
fn normalised(class: Class, found: &[u8]) -> Vec<u8> {
    let digits = found.iter().copied().filter(u8::is_ascii_digit);
    match class {
        Class::Card | Class::Ssn => digits.collect(),
        Class::Phone => {
            let signs = leading(found, |byte| *byte == b'+');
            [signs, &digits.collect::<Vec<_>>()].concat()
        }
        Class::Iban => {
            let characters = found.iter().filter(|byte| byte.is_ascii_alphanumeric());
            characters.map(u8::to_ascii_uppercase).collect()
        }
        Class::Mac => {
            let digits = found.iter().filter(|byte| byte.is_ascii_hexdigit());
            digits.map(u8::to_ascii_lowercase).collect()
        }
        Class::Ip => match detect::parse_address(found) {
            Some(Address::V4(address, _)) => address.to_string().into_bytes(),
            Some(Address::V6(address, _)) => address.to_canonical().to_string().into_bytes(),
            None => found.to_vec(),
        },
        Class::Email | Class::Name | Class::Address => {
            let lower = String::from_utf8_lossy(found).to_lowercase();
            lower
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .into_bytes()
        }
        _ => found.to_vec(),
    }
}

/// A key for tokens with its id.
#[derive(Clone)]
pub(crate) struct TokenKey {
    id: String,
    state: Hmac<Sha256>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// How tokens start.
const TOKEN_START: &str = "tok_";
/// What every HMAC input starts with: another version of the form gets another one.
const DOMAIN: &[u8] = b"hydrant-pii token 1\0";
/// Letters of a token: 128 bits, four per letter.
const TOKEN_LETTERS: usize = 32;

impl TokenKey {
    pub(crate) fn new(id: &str, secret: &[u8]) -> Self {
        let state = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self {
            id: id.to_owned(),
            state,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Appends the token of `value` in the domain `kind`: `tok_email_2026a_` and 32 letters.
    pub(crate) fn write(&self, kind: &str, value: &[u8], out: &mut Vec<u8>) {
        let mut state = self.state.clone();
        state.update(DOMAIN);
        state.update(kind.as_bytes());
        state.update(&[0]);
        state.update(value);
        let digest = state.finalize().into_bytes();
        for part in [TOKEN_START, kind, "_", &self.id, "_"] {
            out.extend_from_slice(part.as_bytes());
        }
        for byte in &digest[..TOKEN_LETTERS / 2] {
            out.extend([b'a' + (byte >> 4), b'a' + (byte & 15)]);
        }
    }
}

/// Whether the whole of `value` has the form of a token.
pub(crate) fn is_token(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(TOKEN_START.as_bytes()) else {
        return false;
    };
    let mut parts = rest.split(|&byte| byte == b'_');
    let kind = parts.next().and_then(|kind| std::str::from_utf8(kind).ok());
    let known = kind.is_some_and(|kind| kind == PARTITION_KEY || Class::by_name(kind).is_some());
    let id = parts.next().is_some_and(is_key_id);
    let letters = parts.next().is_some_and(|letters| {
        letters.len() == TOKEN_LETTERS
            && letters.iter().all(|letter| (b'a'..=b'p').contains(letter))
    });
    known && id && letters && parts.next().is_none()
}

/// The domain of tokens that replace a whole partition key.
pub(crate) const PARTITION_KEY: &str = "key";

/// Whether `id` may name a key: 1 to 16 small letters, digits and dashes.
pub(crate) fn is_key_id(id: &[u8]) -> bool {
    (1..=16).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(action: &Action, class: Class, found: &str) -> String {
        let key = TokenKey::new("a", &[7; 32]);
        let mut out = Vec::new();
        assert_eq!(
            replace(action, class, found.as_bytes(), Some(&key), &mut out),
            Replacement::Written
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_become_their_network() {
        let prefix = Action::Prefix { v4: 24, v6: 48 };
        for (found, written) in [
            ("68.161.225.1", "68.161.225.0/24"),
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("10.1.2.3/32", "10.1.2.0/24"),
            ("10.1.2.3/0", "0.0.0.0/0"),
            ("2001:db8:85a3::8a2e:370:7334", "2001:db8:85a3::/48"),
            ("fe80::1%eth0", "fe80::/48"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:68.161.225.1", "::ffff:68.161.225.0/120"),
            ("2002:cb00:7107::1", "2002:cb00:7100::/40"),
            ("2002:cb00:7107::/48", "2002:cb00:7100::/40"),
            ("2001:0:cb00:7107:0:1:34ff:8ef8", "2001::/32"),
            ("64:ff9b::203.0.113.7", "64:ff9b::/48"),
            ("::203.0.113.7", "::/48"),
            ("fe80::5efe:203.0.113.7", "fe80::/48"),
        ] {
            assert_eq!(replaced(&prefix, Class::Ip, found), written, "{found}");
        }
        let long = Action::Prefix { v4: 16, v6: 128 };
        for (found, written) in [
            ("2002:cb00:7107::1", "2002:cb00::/32"),
            ("2001:0:cb00:7107:0:1:34ff:8ef8", "2001::/32"),
            ("64:ff9b::203.0.113.7", "64:ff9b::cb00:0/112"),
            ("::ffff:0:203.0.113.7", "::ffff:0:cb00:0/112"),
        ] {
            assert_eq!(replaced(&long, Class::Ip, found), written, "{found}");
        }
    }

    #[test]
    fn tokens_agree_for_all_ways_to_write_a_value_and_differ_by_class_and_key() {
        let card = |found| replaced(&Action::Token, Class::Card, found);
        assert_eq!(card("4111-1111-1111-1111"), card("4111 1111 1111 1111"));
        assert_ne!(card("4111111111111111"), card("4012888888881881"));
        let email = |found| replaced(&Action::Token, Class::Email, found);
        let ip = |found| replaced(&Action::Token, Class::Ip, found);
        assert_eq!(ip("::ffff:1.2.3.4"), ip("1.2.3.4"));
        assert_ne!(
            replaced(&Action::Token, Class::Ssn, "536904399")[8..],
            replaced(&Action::Token, Class::Card, "536904399")[9..]
        );
        let mut other = Vec::new();
        TokenKey::new("a", &[8; 32]).write("email", b"jane@example.org", &mut other);
        assert_ne!(email("jane@example.org").as_bytes(), other);
        assert!(is_token(&other));
        assert!(!is_token(&other[1..]));
    }

    #[test]
    fn a_token_is_the_hmac_that_other_tools_compute() {
        // python3: hmac.new(b"\x07"*32, b"hydrant-pii token 1\0email\0jane@example.org", "sha256")
        let token = replaced(&Action::Token, Class::Email, "jane@example.org");
        let letters = token.strip_prefix("tok_email_a_").unwrap();
        let hex: String = letters
            .bytes()
            .map(|byte| char::from_digit(u32::from(byte - b'a'), 16).unwrap())
            .collect();
        assert_eq!(hex, "e4f97a5daab3e67b82bf6a2b84b1655c");
    }

    #[test]
    fn masks_hide_what_they_promise() {
        let partial = Action::Partial {
            character: b'*',
            first: 0,
            last: 4,
        };
        assert_eq!(
            replaced(&partial, Class::Card, "4111 1111 1111 1111"),
            "**** **** **** 1111"
        );
        assert_eq!(replaced(&partial, Class::Name, "Jane"), "****");
        assert_eq!(
            replaced(&partial, Class::Name, "Jane \"JJ\" Doe"),
            "**** **J* Doe"
        );
        let mask = Action::Mask { character: b'#' };
        assert_eq!(replaced(&mask, Class::Email, "zoë@x.org"), "#########");
    }

    #[test]
    fn a_birth_date_keeps_its_year() {
        for (found, written) in [
            ("1980-05-17", "1980"),
            ("05/17/1980", "1980"),
            ("19800517", "1980"),
            ("1980-05-17T00:00:00Z", "1980"),
            ("17.5.80", "[BIRTH_DATE]"),
        ] {
            assert_eq!(
                replaced(&Action::Year, Class::BirthDate, found),
                written,
                "{found}"
            );
        }
    }
}
