//! Capture: a cut of a system becomes a snapshot in a repository.

pub mod decide;
pub mod units;
