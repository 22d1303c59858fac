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
    bytes: BTreeMap<u64, u64>,
}

/// One open shard.
#[derive(Debug)]
pub(crate) struct Holder {
    holders: Holders,
    id: u64,
}

impl Holders {
    /// Adds a shard that holds nothing yet.
    pub(crate) fn enter(&self) -> Holder {
        let mut held = self.held();
        let id = held.next;
        held.next += 1;
        held.bytes.insert(id, 0);
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
    /// Sets how many bytes the shard holds.
    pub(crate) fn set(&self, bytes: u64) {
        self.holders.held().bytes.insert(self.id, bytes);
    }

    /// Whether the shard holds something and no other shard holds more. Among equals the one that was added first is
    /// the largest.
    pub(crate) fn is_largest(&self) -> bool {
        let held = self.holders.held();
        let largest = held
            .bytes
            .iter()
            .max_by_key(|(id, bytes)| (**bytes, Reverse(**id)));
        largest.is_some_and(|(id, bytes)| *id == self.id && *bytes > 0)
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
        c.set(6);
        assert_eq!(
            [&a, &b, &c].map(|holder| holder.is_largest()),
            [false, false, true]
        );
        drop(c);
        assert!(b.is_largest());
    }
}
