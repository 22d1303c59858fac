//! Who holds the most memory: the shard that is flushed when the budget is spent.
//!
//! Owns what each open shard of a stage holds. Promises that of all shards exactly one is the largest, so that under
//! pressure one flushes and not all of them. A shard that is gone holds nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the open shards of a stage hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders {
    shared: Arc<Mutex<HeldBytes>>,
}

#[derive(Debug, Default)]
struct HeldBytes {
    next: u64,
    bytes: BTreeMap<u64, u64>,
}

/// One shard among the holders.
#[derive(Debug)]
pub(crate) struct Holder {
    holders: Holders,
    id: u64,
}

impl Holders {
    /// A shard that holds nothing yet.
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
    /// Says what the shard holds now.
    pub(crate) fn set(&self, bytes: u64) {
        self.holders.held().bytes.insert(self.id, bytes);
    }

    /// Whether it holds something and no other shard holds more; of equals the first one is the largest.
    pub(crate) fn is_largest(&self) -> bool {
        let held = self.holders.held();
        let mut largest = None;
        for (id, bytes) in &held.bytes {
            if *bytes > 0 && largest.is_none_or(|(_, most)| bytes > most) {
                largest = Some((id, bytes));
            }
        }
        largest.is_some_and(|(id, _)| *id == self.id)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.holders.held().bytes.remove(&self.id);
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
