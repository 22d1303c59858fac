//! Digests of what a source begins with, by which a later reader knows it again.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3;

/// A digest, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub u128);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Digest {
    /// Of what `hasher` was given.
    pub fn of(hasher: &Xxh3) -> Self {
        Digest(hasher.digest128())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digest = u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(Digest(digest))
    }
}

/// The first bytes of a file and their digest, known before any record of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixDigest {
    /// How many, decompressed and as UTF-8.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
}

/// Adds `bytes` behind the first `total`; `false` when a digest of one of `checks` does not hold.
pub(super) fn hash(
    digest: &mut Xxh3,
    total: &mut u64,
    bytes: &[u8],
    checks: &[PrefixDigest],
) -> bool {
    let mut from = 0;
    let end = *total + bytes.len() as u64;
    let is_inside = |check: &&PrefixDigest| (*total + 1..=end).contains(&check.bytes);
    let mut inside: Vec<_> = checks.iter().filter(is_inside).collect();
    inside.sort_unstable_by_key(|check| check.bytes);
    for check in inside {
        let to = (check.bytes - *total) as usize;
        digest.update(&bytes[from..to]);
        from = to;
        if Digest::of(digest) != check.digest {
            return false;
        }
    }
    digest.update(&bytes[from..]);
    *total = end;
    true
}
