//! The engine: one encrypted, content-addressed, compressed repository on any object store.
//!
//! `docs/repository-format.md` specifies the bytes, `docs/security.md` the cryptography. A repository
//! never sees a system. Nothing but `store` talks to an object store; every object is created once and
//! never rewritten; a snapshot becomes visible by its last write.

pub mod chunking;
pub mod content;
pub mod crypto;
pub mod format;
pub mod gc;
pub mod heartbeat;
pub mod hold;
pub mod index;
pub mod log;
pub mod mark;
pub mod pack;
pub mod point;
pub mod record;
pub mod replicate;
mod repository;
pub mod session;
pub mod snapshot;
pub mod sort;
pub mod store;
pub mod threads;
pub mod tree;
pub mod types;
pub mod verify;

pub use repository::{CreateOptions, OpenOptions, Repository, SlotInfo, SlotKind};
