//! What is done with repositories and systems: capture, restore, follow, verify. Each operation is a
//! pure plan and its execution; systems and targets are met only as `dyn` ports.

pub mod capture;
pub mod restore;
