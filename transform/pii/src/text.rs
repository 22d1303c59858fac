//! Reads texts: byte classes, the JSON walker, foldings and candidate windows.

pub(crate) mod byte_classes;
pub(crate) mod fold;
pub(crate) mod json;
pub(crate) mod windows;
