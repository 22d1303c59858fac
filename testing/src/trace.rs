//! The trace of a simulation: a running hash over its events, and the text of the last ones.
//!
//! Two runs of one seed have equal hashes; otherwise something took time, randomness or order from outside the
//! simulation.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of events whose text is kept by default, for the report of a failed run.
const KEPT_EVENTS: usize = 200;

/// A shared trace; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Arc<Mutex<TraceEvents>>,
}

#[derive(Debug)]
struct TraceEvents {
    hash: u64,
    count: u64,
    kept: usize,
    last: VecDeque<String>,
}

impl Default for TraceEvents {
    fn default() -> Self {
        TraceEvents {
            hash: 0xcbf2_9ce4_8422_2325,
            count: 0,
            kept: KEPT_EVENTS,
            last: VecDeque::new(),
        }
    }
}

impl Trace {
    /// An empty trace.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty trace that keeps the text of the last `events`.
    pub fn keeping(events: usize) -> Self {
        let trace = Trace::new();
        trace.lock().kept = events.max(1);
        trace
    }

    fn lock(&self) -> MutexGuard<'_, TraceEvents> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event.
    pub fn event(&self, event: impl fmt::Display) {
        let text = event.to_string();
        let mut events = self.lock();
        // FNV-1a, with a line end after each event.
        for byte in text.bytes().chain([b'\n']) {
            events.hash = (events.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        events.count += 1;
        if events.last.len() == events.kept {
            events.last.pop_front();
        }
        events.last.push_back(text);
        debug_assert!(events.last.len() <= events.kept);
    }

    /// The hash of all events so far.
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// The number of events so far.
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// The last events, oldest first, one a line.
    pub fn last_events(&self) -> String {
        let events = self.lock();
        let lines: Vec<&str> = events.last.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_events_and_their_order() {
        let hash_of = |events: &[&str]| {
            let trace = Trace::new();
            events.iter().for_each(|event| trace.event(event));
            trace.hash()
        };
        assert_eq!(hash_of(&["a", "b"]), hash_of(&["a", "b"]));
        assert_ne!(hash_of(&["a", "b"]), hash_of(&["b", "a"]));
        assert_ne!(hash_of(&["ab"]), hash_of(&["a", "b"]));
    }

    #[test]
    fn the_last_events_are_kept_and_the_first_are_counted() {
        let trace = Trace::new();
        (0..KEPT_EVENTS + 5).for_each(|n| trace.event(n));
        assert_eq!(trace.count(), KEPT_EVENTS as u64 + 5);
        assert!(trace.last_events().starts_with("5\n6\n"));
    }
}
