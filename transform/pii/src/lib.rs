//! The PII engine: bytes in, bytes out and findings; synchronous and pure.
//!
//! [`Engine::process`] takes one record (JSON), scans every scalar and key, and says what became of
//! it as a [`Verdict`]. No path returns the input unless a scan of all of it completed: what cannot
//! be scanned is quarantined with a [`Reason`]. A panic would leave nothing in `out` that could be
//! mistaken for a verdict; the caller catches it and treats the record as quarantined, and the
//! engine stays usable, because it resets itself at each record.
//!
//! Edits touch only the matched bytes. The work is linear in the bytes of the record for any input.
//! [`Policy`] says what is done with what; [`detectors`] lists what can be found.
//!
//! ```
//! use std::sync::Arc;
//! use hydrant_pii::{Engine, Policy, Verdict};
//!
//! let mut engine = Engine::new(Arc::new(Policy::strict()));
//! let mut out = Vec::new();
//! let verdict = engine.process(br#"{"ip": "68.161.225.1", "temp": 22}"#, &mut out);
//! assert_eq!(verdict, Verdict::Redacted);
//! assert_eq!(out, br#"{"ip": "68.161.225.0/24", "temp": 22}"#);
//! assert_eq!(engine.reports().next().unwrap().pointer, "/ip");
//! ```
//!
//! Rooms: `classes` (byte classes), `json` (the walker), `fold` (escapes and tricks of writing),
//! `windows` (candidates), `detect` (detectors, one file per family), `keys` (what key names say),
//! `policy` (TOML to proved rules), `action` and `edit` (what is written), `audit` (what is told),
//! `engine` and `trail` (the walk over a record).

mod action;
mod audit;
mod classes;
mod detect;
mod edit;
mod engine;
mod fold;
mod json;
mod keys;
mod policy;
mod trail;
mod windows;

pub use audit::{Class, Finding, Report, Tally};
pub use detect::{DetectorInfo, detectors};
pub use engine::{Engine, Reason, Verdict};
pub use policy::{Keys, Limits, Policy, Problem, Problems, SECRET_BYTES_MIN, STRICT};
