//! Systems that can be protected: one folder per kind.

pub mod files;
