//! Inputs as people have them, through the real binaries, with the answer that their owners expect.
//!
//! A case is a row of a table: what goes in, and what must come out or be said. Each table runs as one test and names
//! every row that is wrong, not only the first.

mod inputs;
mod personal;
mod records;
mod tables;
mod times;
