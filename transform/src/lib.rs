//! The stage that strips personal data from a stream.
