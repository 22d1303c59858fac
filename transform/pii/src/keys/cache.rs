//! A cache of what keys say that were met before. It changes speed, never a result: whether a key holds personal data
//! depends on the rules of its place too, so the caller asks only for places without rules of their own.

use super::evidence::Evidence;

/// Groups of the cache, a power of two, and how many keys with the same group are remembered: so
/// few keys of a fleet never evict each other record after record.
const GROUPS: usize = 256;
const GROUP_KEYS: usize = 4;
/// Bytes of the longest key that is remembered.
const CACHED_KEY_BYTES_MAX: usize = 32;

/// What is remembered of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyFacts {
    pub(crate) evidence: Evidence,
    /// The whole-value rule of the policy that names this key.
    pub(crate) rule: Option<u16>,
}

/// A short key as words. Two keys have the same words only if they are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Packed {
    words: [u64; CACHED_KEY_BYTES_MAX / 8],
    length: usize,
}

impl Packed {
    const NONE: Self = Self {
        words: [0; CACHED_KEY_BYTES_MAX / 8],
        length: usize::MAX,
    };

    fn of(key: &[u8]) -> Option<Self> {
        let length = key.len();
        let mut words = [0; CACHED_KEY_BYTES_MAX / 8];
        if length > CACHED_KEY_BYTES_MAX {
            return None;
        }
        // The last word takes the last bytes, of which it may share some with the one before.
        if let Some(first) = key.first_chunk::<8>() {
            words[0] = u64::from_le_bytes(*first);
            for (index, word) in words.iter_mut().enumerate().skip(1) {
                if length <= index * 8 {
                    break;
                }
                let at = (index * 8).min(length - 8);
                let chunk = key[at..].first_chunk::<8>()?;
                *word = u64::from_le_bytes(*chunk);
            }
        } else if let (Some(first), Some(last)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
            words[0] =
                u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
        } else if let (Some(first), Some(last)) = (key.first(), key.last()) {
            words[0] = u64::from(*first) | u64::from(key[length / 2]) << 8 | u64::from(*last) << 16;
        }
        Some(Self { words, length })
    }

    fn group(&self) -> usize {
        let [first, second, third, fourth] = self.words;
        let joined = first
            ^ second.rotate_left(13)
            ^ third.rotate_left(29)
            ^ fourth.rotate_left(43)
            ^ self.length as u64;
        let hash = joined.wrapping_mul(0x517c_c1b7_2722_0a95);
        (hash >> 48) as usize % GROUPS
    }
}

#[derive(Clone, Copy)]
struct CacheSlot {
    key: Packed,
    known: KeyFacts,
}

/// The keys that were met before and hold no finding themselves where no rule for a place holds.
pub(crate) struct KeyCache {
    groups: Vec<[CacheSlot; GROUP_KEYS]>,
    /// Which key of a full group makes way.
    turn: usize,
}

impl KeyCache {
    pub(crate) fn new() -> Self {
        let empty = CacheSlot {
            key: Packed::NONE,
            known: KeyFacts::default(),
        };
        Self {
            groups: vec![[empty; GROUP_KEYS]; GROUPS],
            turn: 0,
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<KeyFacts> {
        let key = Packed::of(key)?;
        self.groups[key.group()]
            .iter()
            .find(|slot| slot.key == key)
            .map(|slot| slot.known)
    }

    pub(crate) fn put(&mut self, key: &[u8], known: KeyFacts) {
        let Some(key) = Packed::of(key) else {
            return;
        };
        let group = &mut self.groups[key.group()];
        let free = group.iter().position(|slot| slot.key == Packed::NONE);
        let index = free.unwrap_or_else(|| {
            self.turn = (self.turn + 1) % GROUP_KEYS;
            self.turn
        });
        group[index] = CacheSlot { key, known };
    }
}
