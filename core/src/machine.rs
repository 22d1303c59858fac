//! What a process uses of its machine, injected so that a simulation can take its place: disk, time, chance, threads,
//! memory, and the order to stop.

pub mod budget;
pub mod clock;
pub mod disk;
pub mod random;
pub mod shutdown;
pub mod workers;
