//! Lanes into a log that stores what comes as it comes; its readers deduplicate.
//!
//! `sender` puts aggregates with claims through a `network` that loses answers, lets requests land
//! late, and places acknowledged puts later than others; `reader` keeps sets of intervals; `reading`
//! stops readers and starts them again from what they stored.

mod network;
mod reader;
mod reading;
mod scenarios;
mod sender;

pub(crate) use scenarios::checks;
