//! Hashes partition keys by the rule of the output ([`Routing`]): Kinesis and the embedded log use MD5 as a big-endian
//! 128-bit number, Kafka uses murmur2.
//!
//! A keyed [`Router`] hashes keys that may be personal: 16 bits of the MD5 keep a key in its neighbourhood, the other 112
//! come from a keyed hash, so that a published route cannot be reversed with a dictionary.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::shard::HashRange;

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

/// How the keys of a stream's records become route hashes.
#[derive(Clone, PartialEq, Eq)]
pub enum Routing {
    /// MD5; for a stage that may replace keys, the keyed hash with this secret.
    Keyed([u8; 32]),
    /// MD5, even if a stage replaces keys: for a stream that other programs write to by that rule.
    Md5,
    /// Kafka's murmur2 over this many partitions, each of which owns an even part of the hash space. The hash of a key
    /// is the first hash of its partition's part; it is not stored, because it follows from the partition.
    Murmur2 {
        /// The number of partitions.
        partitions: u32,
    },
}

impl std::fmt::Debug for Routing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Routing::Keyed(_) => f.write_str("Keyed"),
            Routing::Md5 => f.write_str("Md5"),
            Routing::Murmur2 { partitions } => write!(f, "Murmur2({partitions})"),
        }
    }
}

/// Routes records by their *input* keys, so that the policy does not matter: a record that is sent again after a change
/// of policy goes to the same shard.
#[derive(Clone)]
pub enum Router {
    /// A keyed hash that keeps the first 16 bits of the MD5.
    Keyed(Box<Hmac<Sha256>>),
    /// MD5.
    Md5,
    /// Murmur2, to the first hash of each partition's part.
    Murmur2(Arc<[u128]>),
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Router::Keyed(_) => "Keyed",
            Router::Md5 => "Md5",
            Router::Murmur2(_) => "Murmur2",
        })
    }
}

impl Router {
    /// For keys that no stage replaces: the hash that a reader of the stream computes from the key.
    pub fn of_kept_keys(routing: &Routing) -> Self {
        match routing {
            Routing::Keyed(_) | Routing::Md5 => Router::Md5,
            Routing::Murmur2 { partitions } => {
                let parts = HashRange::even(*partitions).into_iter();
                Router::Murmur2(parts.map(|part| part.first).collect())
            }
        }
    }

    /// For keys that a stage may replace.
    pub fn of_replaced_keys(routing: &Routing) -> Self {
        match routing {
            Routing::Keyed(secret) => {
                let keyed = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
                Router::Keyed(Box::new(keyed))
            }
            Routing::Md5 | Routing::Murmur2 { .. } => Router::of_kept_keys(routing),
        }
    }

    /// The route of a record with this key.
    pub fn route(&self, key: &[u8]) -> u128 {
        match self {
            Router::Keyed(keyed) => keyed_route(keyed, key),
            Router::Md5 => route_of_key(key),
            Router::Murmur2(firsts) => {
                let positive = murmur2(key) & 0x7fff_ffff;
                firsts[positive as usize % firsts.len()]
            }
        }
    }
}

fn keyed_route(keyed: &Hmac<Sha256>, key: &[u8]) -> u128 {
    const TOP_16: u128 = 0xffff << 112;
    let mut keyed = keyed.clone();
    keyed.update(key);
    let digest = keyed.finalize().into_bytes();
    let low = digest[..16]
        .iter()
        .fold(0u128, |hash, byte| (hash << 8) | u128::from(*byte));
    (route_of_key(key) & TOP_16) | (low & !TOP_16)
}

/// Murmur2 with the seed of Kafka's clients, whose default partitioner takes a key to partition
/// `(hash & 0x7fffffff) % partitions`.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const FACTOR: u32 = 0x5bd1_e995;
    let mixed = |word: u32| {
        let word = word.wrapping_mul(FACTOR);
        (word ^ (word >> 24)).wrapping_mul(FACTOR)
    };
    let (words, rest) = key.as_chunks::<4>();
    let start = SEED ^ key.len() as u32;
    let mut hash = words.iter().fold(start, |hash, word| {
        hash.wrapping_mul(FACTOR) ^ mixed(u32::from_le_bytes(*word))
    });
    if !rest.is_empty() {
        let tail = rest.iter().rev();
        hash ^= tail.fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

/// The route of a record without key: evenly spread, and the same each time the record is sent.
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

    /// The values of Kafka's own test.
    #[test]
    fn murmur2_gives_what_kafka_says() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn a_key_goes_to_the_first_hash_of_its_partition() {
        let router = Router::of_replaced_keys(&Routing::Murmur2 { partitions: 7 });
        let parts = HashRange::even(7);
        // -973932308 & 0x7fffffff = 1173551340, which is 3 modulo 7.
        assert_eq!(router.route(b"21"), parts[1_173_551_340 % 7].first);
        assert_eq!(
            parts
                .iter()
                .filter(|part| part.first == router.route(b"21"))
                .count(),
            1
        );
    }

    #[test]
    fn only_a_replaced_key_needs_the_secret() {
        let routing = Routing::Keyed([7; 32]);
        let (kept, replaced) = (
            Router::of_kept_keys(&routing),
            Router::of_replaced_keys(&routing),
        );
        assert_eq!(kept.route(b"device-1"), route_of_key(b"device-1"));
        assert_ne!(replaced.route(b"device-1"), route_of_key(b"device-1"));
        assert_eq!(
            replaced.route(b"device-1") >> 112,
            route_of_key(b"device-1") >> 112
        );
        let md5 = Router::of_replaced_keys(&Routing::Md5);
        assert_eq!(md5.route(b"device-1"), route_of_key(b"device-1"));
        assert_eq!(
            format!("{routing:?} {replaced:?}"),
            "Keyed Keyed",
            "a secret is not shown"
        );
    }

    #[test]
    fn identity_separates_its_parts() {
        assert_ne!(identity(&[b"ab", b"c"]), identity(&[b"a", b"bc"]));
    }
}
