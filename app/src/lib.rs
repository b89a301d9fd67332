//! Assembly: what daemon and CLI share. Settings become clocks, keys, repositories, systems and targets.
//!
//! This crate alone reads the environment ([`environment`]) and holds the real clock and the real
//! source of randomness ([`ports`]).

pub mod environment;
pub mod keys;
pub mod mounts;
pub mod policy_system;
pub mod ports;
pub mod repositories;
pub mod runtime;
pub mod settings;
pub mod stacks;
pub mod systems;
pub mod targets;

mod words;
