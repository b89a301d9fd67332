//! What is done with repositories and systems: capture, restore, follow, verify. Each operation is a
//! pure plan and its execution; systems and targets are met only as `dyn` ports.

pub mod browse;
pub mod capture;
pub mod collect;
pub mod follow;
pub mod forget;
pub mod mount;
pub mod restore;
pub mod seal;
pub mod select;
pub mod sync;
pub mod usage;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod sendable;
#[cfg(test)]
mod testing;
