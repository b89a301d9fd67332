//! What tests stand on: time, randomness and progress under a test's control, a system whose every
//! behaviour is scripted, and the checks that each real implementation of a port has to pass.
//!
//! A kind of system calls the conformance checks from its own tests:
//!
//! ```ignore
//! testkit::conformance::check_system(&system, &context).await;
//! testkit::conformance::check_changes_cut(&system, &base, &position, &context).await;
//! testkit::conformance::check_target(&target, &source, &context).await;
//! ```
//!
//! A check panics with a sentence that names the broken rule, as an assertion does.

mod clock;
mod context;
mod data;
mod entropy;
mod monitor;

pub use clock::ManualClock;
pub use context::{Handles, context, still_context};
pub use data::{Random, random_bytes, text_bytes};
pub use entropy::SeededEntropy;
pub use monitor::RecordingMonitor;
