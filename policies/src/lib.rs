//! Policy files, selectors and expressions of time, as pure functions.
//!
//! A policy is one TOML file that says what is protected and where it is kept ([`Policy::parse`]). A
//! selector is what a person types to name a state: `prod/etc@2 hours ago:/etc/hosts`
//! ([`Selector::parse`]); [`choose`] finds the state that it means.
//!
//! This crate has no clock and no I/O: the time and the zone are arguments, so that each answer can be
//! repeated in a test.

mod choose;
mod error;
mod nearest;
mod policy;
mod schema;
mod selector;
mod template;
mod time;
mod units;

pub use choose::{Candidate, Choice, choose};
pub use error::PolicyError;
pub use policy::{CommandPolicy, FilesPolicy, KeySource, Policy, RepositoryPolicy, StorePlace};
pub use selector::{ID_PREFIX_LENGTH_MIN, Selector, When, check_tag};
pub use template::render;
pub use time::{describe_time, parse_time, parse_time_ahead, show_time, to_jiff};
pub use units::{parse_bytes, parse_duration, show_bytes, show_duration};
