//! Appending: what is stored, refused and removed.

mod append_and_read;
mod dead_letters;
mod limits;
mod producer_locks;
mod retention;
mod rolling;
mod two_writers;
