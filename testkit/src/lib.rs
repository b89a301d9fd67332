//! What tests stand on: time, randomness and progress under a test's control, a system whose every
//! behaviour is scripted ([`scripted`]), and the checks that each implementation of a port has to
//! pass ([`conformance`]).

mod clock;
mod context;
mod counting;
mod crc32c;
mod data;
mod entropy;
mod memory;
mod monitor;
mod real;
mod reference;

pub mod conformance;
pub mod scripted;

pub use clock::ManualClock;
pub use context::{Handles, context, still_context};
pub use counting::{CountingCut, CountingSystem};
pub use crc32c::{crc32c, stripe_checksums};
pub use data::{Random, random_bytes, text_bytes};
pub use entropy::SeededEntropy;
pub use memory::{BytesReader, MemoryCut, Observed, ObservedItem};
pub use monitor::RecordingMonitor;
pub use real::real_context;
pub use reference::{apply_change, apply_changes};
pub use scripted::{MemoryTarget, ScriptedSystem};
