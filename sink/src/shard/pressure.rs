//! Which shard holds the most memory, and is therefore flushed when the budget is spent.
//!
//! Owns the bytes that each open shard of a sink holds. Promises that exactly one of the shards that hold something is
//! the largest, so that under pressure one flushes and not all of them. A closed shard holds nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bytes that the open shards of a sink hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders {
    shared: Arc<Mutex<HeldBytes>>,
}

#[derive(Debug, Default)]
struct HeldBytes {
    next: u64,
    bytes: BTreeMap<u64, ShardBytes>,
}

/// The bytes of a shard.
#[derive(Clone, Copy, Debug, Default)]
struct ShardBytes {
    open: u64,
    publishing: u64,
}

/// One open shard.
#[derive(Debug)]
pub(crate) struct Holder {
    holders: Holders,
    id: u64,
}

/// The bytes of an interval that a shard publishes; it holds them until this is dropped.
#[derive(Debug)]
pub(crate) struct PublishingBytes {
    holders: Holders,
    id: u64,
}

impl Holders {
    /// Adds a shard that holds nothing yet.
    pub(crate) fn enter(&self) -> Holder {
        let mut held = self.held();
        let id = held.next;
        held.next += 1;
        held.bytes.insert(id, ShardBytes::default());
        Holder {
            holders: self.clone(),
            id,
        }
    }

    fn held(&self) -> MutexGuard<'_, HeldBytes> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    /// Sets how many bytes the open interval of the shard holds.
    pub(crate) fn set(&self, bytes: u64) {
        self.holders.held().bytes.entry(self.id).or_default().open = bytes;
    }

    /// Adds the bytes of the interval that the shard publishes from now on.
    pub(crate) fn publishes(&self, bytes: u64) -> PublishingBytes {
        let mut held = self.holders.held();
        let shard = held.bytes.entry(self.id).or_default();
        debug_assert_eq!(shard.publishing, 0, "one interval at a time");
        shard.publishing = bytes;
        PublishingBytes {
            holders: self.holders.clone(),
            id: self.id,
        }
    }

    /// Whether the shard holds something and no other shard holds more. Among equals the one that was added first is
    /// the largest.
    pub(crate) fn is_largest(&self) -> bool {
        let held = self.holders.held();
        let largest = held
            .bytes
            .iter()
            .map(|(id, bytes)| (bytes.open + bytes.publishing, Reverse(*id)))
            .max();
        largest.is_some_and(|(bytes, id)| id.0 == self.id && bytes > 0)
    }
}

impl Drop for PublishingBytes {
    fn drop(&mut self) {
        // A shard that was closed meanwhile holds nothing any more.
        if let Some(shard) = self.holders.held().bytes.get_mut(&self.id) {
            shard.publishing = 0;
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let removed = self.holders.held().bytes.remove(&self.id);
        debug_assert!(removed.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_holder_is_the_largest() {
        let holders = Holders::default();
        let (a, b, c) = (holders.enter(), holders.enter(), holders.enter());
        assert!(![&a, &b, &c].iter().any(|holder| holder.is_largest()));
        b.set(5);
        c.set(5);
        assert_eq!(
            [&a, &b, &c].map(|holder| holder.is_largest()),
            [false, true, false]
        );
        c.set(1);
        let publishing = c.publishes(5);
        assert_eq!(
            [&a, &b, &c].map(|holder| holder.is_largest()),
            [false, false, true]
        );
        drop(publishing);
        assert!(b.is_largest());
        c.set(6);
        drop(c.publishes(1));
        assert!(c.is_largest());
        drop(c);
        assert!(b.is_largest());
    }
}
