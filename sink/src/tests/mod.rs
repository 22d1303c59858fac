//! The sink against a lake in a directory, with and without faults.

mod publish;
mod support;
