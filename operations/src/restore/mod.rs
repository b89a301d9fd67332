//! Restore: a snapshot, or a part of one, becomes the state of a target.

pub mod plan;
