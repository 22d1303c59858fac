//! What a process uses of its machine, injected so that a simulation can take its place: disk, time, chance, threads,
//! memory, the order to stop, and what its directories hold.

pub mod budget;
pub mod clock;
pub mod disk;
pub mod places;
pub mod random;
pub mod shutdown;
pub mod workers;
