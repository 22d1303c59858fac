//! The matchers, one file a family.

pub(crate) mod by_key;
pub(crate) mod card;
pub(crate) mod email;
pub(crate) mod geo;
pub(crate) mod iban;
pub(crate) mod ip;
pub(crate) mod mac;
pub(crate) mod person;
pub(crate) mod phone;
pub(crate) mod ssn;
pub(crate) mod token;
pub(crate) mod version;
