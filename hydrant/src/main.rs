//! All stages in one process and the operator's commands.
fn main() {}
