//! The JSON lexer that every reader of records shares.
//!
//! Owns the tokens of RFC 8259: white space, strings and their escapes, numbers, and the words
//! `true`, `false` and `null`. The producer's keys, the PII walker and the sink's decoder are built
//! on it, so that what one of them takes for a string is the same string for the others: a
//! difference between what was scanned and what is stored would be a leak. Promises: no allocation,
//! time linear in the bytes of the token, and a [`JsonFault`] with its place for everything that the
//! standard does not allow, and for half of a surrogate pair, which no text can hold.
//!
//! The input must be UTF-8; the caller checks that once for the whole record. What a record means
//! beyond its tokens (repeated keys, depth, types) is left to the reader.

mod fault;
mod number;
mod string;
mod value;
mod word;

#[cfg(test)]
mod tests;

pub use fault::{FaultKind, JsonFault};
pub use number::{JsonNumber, number};
pub use string::{JsonString, escape, special, string, unescape};
pub use value::{DEPTH_MAX, value};
pub use word::{Word, skip_space, word};
