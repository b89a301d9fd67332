//! Object stores under a test's control: one wrapper, and policies that decide about each request.
//!
//! * [`Faults`]: errors, lost responses, false conflicts, torn and stale lists, flipped bits.
//! * [`Recorder`]: counts requests and the sequential round trips among them.
//! * [`Link`]: latency and bandwidth.
//! * [`Dated`]: no policy, but a store whose time is that of a test's clock.
//! * [`Power`]: a cut, after which only what was durable is there.
//! * [`Killer`]: the end of this process at a chosen write.
//!
//! Policies stack: an [`Interposed`] store is a store.

mod check;
mod dated;
mod faults;
mod interposed;
mod killer;
mod link;
mod power;
mod recorder;
#[cfg(test)]
mod tests;

pub use check::check_store;
pub use dated::Dated;
pub use faults::{Fault, Faults, Rule};
pub use interposed::{Altered, Answer, Interposed, LIST_PAGE_ENTRIES, Policy, Request, Verb};
pub use killer::{Killer, Moment};
pub use link::Link;
pub use power::{Durability, Power};
pub use recorder::{Counted, Recorder};

use object_store::Error;

/// A failure as a store reports one that may pass.
fn failure(why: &str) -> Error {
    Error::Generic { store: "chaos", source: why.into() }
}
