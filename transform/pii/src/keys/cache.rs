//! Keys that were met before. It changes speed, never a result.

use super::Evidence;

/// Slots of the cache; a power of two. A key has two places, so that two keys of a fleet that meet
/// do not evict each other record after record.
const SLOTS: usize = 1024;
/// Bytes of the longest key that is remembered.
const CACHED_KEY_BYTES_MAX: usize = 30;

/// What is remembered of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) evidence: Evidence,
    /// The whole-value rule of the policy that names this key.
    pub(crate) rule: Option<u16>,
}

#[derive(Clone, Copy)]
struct Slot {
    key: [u8; CACHED_KEY_BYTES_MAX],
    length: u8,
    used: bool,
    known: Known,
}

/// The keys that were met before and hold no finding themselves. It changes speed, never a result.
pub(crate) struct KeyCache {
    slots: Vec<Slot>,
}

impl KeyCache {
    pub(crate) fn new() -> Self {
        let empty = Slot {
            key: [0; CACHED_KEY_BYTES_MAX],
            length: 0,
            used: false,
            known: Known {
                evidence: Evidence::NONE,
                rule: None,
            },
        };
        Self {
            slots: vec![empty; SLOTS],
        }
    }

    fn slot(key: &[u8]) -> usize {
        let mut words = key.chunks_exact(8);
        let mut hash = key.len() as u64;
        for word in words.by_ref() {
            let word = u64::from_le_bytes(word.try_into().expect("a chunk has eight bytes"));
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        for &byte in words.remainder() {
            hash = (hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        (hash >> 48) as usize & (SLOTS - 1)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Known> {
        if key.len() > CACHED_KEY_BYTES_MAX {
            return None;
        }
        let index = Self::slot(key);
        [index, index ^ 1].into_iter().find_map(|index| {
            let slot = &self.slots[index];
            (slot.used && &slot.key[..usize::from(slot.length)] == key).then_some(slot.known)
        })
    }

    pub(crate) fn put(&mut self, key: &[u8], known: Known) {
        if let Ok(length) = u8::try_from(key.len())
            && key.len() <= CACHED_KEY_BYTES_MAX
        {
            let index = Self::slot(key);
            // The key that came last stays near.
            self.slots[index ^ 1] = self.slots[index];
            let slot = &mut self.slots[index];
            slot.key[..key.len()].copy_from_slice(key);
            slot.length = length;
            slot.used = true;
            slot.known = known;
        }
    }
}
