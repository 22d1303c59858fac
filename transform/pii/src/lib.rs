//! The PII engine: bytes in, bytes out and findings; synchronous and pure.
//!
//! [`Engine::process`] takes one record (JSON), scans every scalar and key, and says what became of
//! it as a [`ScanVerdict`]. No path returns the input unless a scan of all of it completed: what cannot
//! be scanned is quarantined with a [`QuarantineReason`]. A panic would leave nothing in `out` that could be
//! mistaken for a verdict; the caller catches it and treats the record as quarantined, and the
//! engine stays usable, because it resets itself at each record.
//!
//! Edits touch only the matched bytes. The work is linear in the bytes of the record for any input.
//! [`Policy`] says what is done with what; [`detectors`] lists what can be found.
//!
//! ```
//! use std::sync::Arc;
//! use hydrant_pii::{Engine, Policy, ScanVerdict};
//!
//! let mut engine = Engine::new(Arc::new(Policy::strict()));
//! let mut out = Vec::new();
//! let verdict = engine.process(br#"{"ip": "68.161.225.1", "temp": 22}"#, &mut out);
//! assert_eq!(verdict, ScanVerdict::Redacted);
//! assert_eq!(out, br#"{"ip": "68.161.225.0/24", "temp": 22}"#);
//! assert_eq!(engine.reports().next().unwrap().pointer, "/ip");
//! ```
//!
//! # What is evidence
//!
//! Besides its form, a value is judged by the keys above it, also through containers that only hold
//! it (`{"mac":{"S":..}}`), by a member beside it (`{"type":"ssn","value":..}`, in either order), by
//! words before it in its text, and by the name of its pair (`first_name=Jane`, also in a query). A
//! text is read as it is written and as it is decoded (percent signs, escapes that it holds), and
//! what either reading shows is found.
//!
//! Issuer and Luhn digit alone make no card: one in ten counters has both. A number needs a key
//! that speaks of a payment; digits in a text need one, or a word of payment, or the groups of a
//! card, unless there are 15 or 16 of them and nothing says that they count, measure or identify.
//! A phone and a card are also things: ids, counters and times beneath such keys stay. Four numbers
//! that a key, a product or a word says to be a version are not an address; where little says so, only
//! if they are small, as those of versions are.
//!
//! The partition key of a record ([`Engine::process_key_beside`]) loses what was found in the
//! payload, whatever its own form says.
//!
//! A label like `[SSN]` that a producer wrote is a word like others. Those that the engine writes
//! are not evidence for what stands beside them, unless the redacted record is processed as a new
//! one: then more of it may be redacted, never less.
//!
//! # Known gaps
//!
//! The engine does not find:
//! - obfuscated e-mail addresses (`jane (at) x (dot) org`, HTML entities);
//! - names in free text, and what follows the first space of a pair's value without quotes;
//! - pairs with a colon in free text (`first_name: Jane`);
//! - national phone numbers without `+`, a phone key or a word for phone before them, and phone
//!   numbers that mix separators beyond those of `phone`;
//! - cards and social security numbers whose separators differ within one number, without a key;
//! - coordinates in degrees, minutes and seconds, and in free text without key, pair, `geo:` or the
//!   geometry around them (`POINT(13.404954 52.520008)`);
//! - IP addresses as parts of host names (`ip-10-1-2-3.internal`), in hexadecimal or octal;
//! - hardware addresses without separators, or with fewer digits (`0:1b:4:11:3a:b7`), without a key;
//! - JSON Web Tokens whose header does not start with `eyJ`, and data in base64;
//! - what a later sibling says about a value with more than four containers inside each other;
//! - cards that are numbers without a key of payment, and bare digits in texts that are not 15 or
//!   16, or stand under a key or beside a word of ids, counts or times;
//! - an address behind the words of a version (`firmware 203.0.113.7`), or under its key, and one of
//!   small numbers (`5.6.7.8`) where a version may stand, as behind the name of an image;
//! - e-mail addresses whose domain ends like a unit of systemd (`bob@corp.timer`), or like a device
//!   of one (`bob@tty1.service`);
//! - names in JSON of which only some quotes are escaped, if it is also cut off;
//! - names of persons in small letters with a word for software in them, under a key that may be
//!   that of a program (`{"client":{"name":"jane-api"}}`);
//! - names that are the value of a key for a person (`{"driver":"Jane Doe"}`);
//! - streets under a bare `address` that stands under no key for a person, since it may be that of a
//!   device (`{"billing":{"address":"1 Main St"}}`);
//! - names, streets and national phone numbers under keys that are not English (`vorname`);
//! - in a partition key, values of a payload in another form than with other separators and in
//!   another case: another order of a date, a coordinate with other decimals.
//!
//! A policy covers what its owner knows about: a rule for the path or key.
//!
//! Rooms: `text` (byte classes, the walker over JSON, escapes and tricks of writing, candidates),
//! `class` (what is personal), `detect` (detectors, one file per family), `keys` (what key names say),
//! `policy` (TOML to proved rules), `action` and `edit` (what is written), `audit` and `verdict` (what is reported),
//! `engine` and `trail` (the walk over a record).

mod action;
mod audit;
mod class;
mod detect;
mod edit;
mod engine;
#[cfg(test)]
mod fuzz;
mod keys;
mod policy;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod trail;
mod verdict;

pub use audit::{Finding, FindingCounts, FindingReport};
pub use class::Class;
pub use detect::{Detector, detectors};
pub use engine::Engine;
pub use policy::{
    Policy, PolicyProblem, PolicyProblems, RecordLimits, SECRET_BYTES_MIN, STRICT, TokenKeys,
};
pub use verdict::{QuarantineReason, ScanVerdict};
