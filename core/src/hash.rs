//! Which hash a partition key has: MD5 as a big-endian 128-bit number, the rule of Kinesis and of the embedded log.
//!
//! A [`Router`] hashes keys that may be personal: 16 bits of the MD5 keep a key in its neighbourhood, the other 112 come
//! from a keyed hash, so that a published route cannot be reversed with a dictionary.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// The route hash of a partition key.
pub fn route_of_key(key: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(key).into())
}

/// A stable 128-bit digest of several parts, each delimited by its length; used for identities, not for secrecy.
pub fn identity(parts: &[&[u8]]) -> u128 {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update((part.len() as u64).to_be_bytes());
        md5.update(part);
    }
    u128::from_be_bytes(md5.finalize().into())
}

/// Routes records by their *input* keys, whatever a policy makes of those: a record that is sent again after a change
/// of policy goes where it went before.
#[derive(Clone)]
pub struct Router {
    keyed: Hmac<Sha256>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Router")
    }
}

impl Router {
    /// With the secret of the output stream.
    pub fn new(secret: &[u8; 32]) -> Self {
        let keyed = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Router { keyed }
    }

    /// The route of a record with this key.
    pub fn route(&self, key: &[u8]) -> u128 {
        const TOP_16: u128 = 0xffff << 112;
        let mut keyed = self.keyed.clone();
        keyed.update(key);
        let digest = keyed.finalize().into_bytes();
        let low = digest[..16]
            .iter()
            .fold(0u128, |hash, byte| (hash << 8) | u128::from(*byte));
        (route_of_key(key) & TOP_16) | (low & !TOP_16)
    }
}

/// The route of a record without key: spread evenly, the same each time it is sent.
pub fn route_of_origin(shard: &str, sequence: crate::Sequence, sub: u32) -> u128 {
    identity(&[
        shard.as_bytes(),
        &sequence.high().to_be_bytes(),
        &sequence.low().to_be_bytes(),
        &sub.to_be_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_kinesis_says() {
        assert_eq!(route_of_key(b""), 0xd41d8cd98f00b204e9800998ecf8427e);
        assert_eq!(
            route_of_key(b"device-1"),
            0xd111f50a599b0a9fe3ef9e1c6b68ec88
        );
    }

    #[test]
    fn identity_separates_its_parts() {
        assert_ne!(identity(&[b"ab", b"c"]), identity(&[b"a", b"bc"]));
    }
}
