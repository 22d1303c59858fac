//! What stands in a text: byte classes, the JSON walker, foldings and windows.

pub(crate) mod byte_classes;
pub(crate) mod fold;
pub(crate) mod json;
pub(crate) mod windows;
