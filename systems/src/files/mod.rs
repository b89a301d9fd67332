//! The kind `files`: directories of a host.

pub mod target;
