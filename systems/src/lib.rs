//! The kinds of systems that can be protected, one folder each, and one list of all.
//!
//! A kind reads its system through the ports of `model` and never sees a repository.

pub mod files;

/// The names of all kinds, as [`model::SystemFacts::kind`] gives them.
pub const KINDS: &[&str] = &["files"];
