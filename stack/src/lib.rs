//! Real servers as local processes: for tests, for isolated drills, for a small production on a laptop.
//!
//! A *description* ([`Description`]) names servers and their *recipes*. A recipe is data
//! ([`Recipe`]): which *artefacts* it needs, which ports and folders, what is written into files, what
//! is run, and how one sees that it is ready. An artefact is a distribution or a tool chain with a list of
//! sources, best first; it is fetched once into a cache, its digest is checked at each use, and what was
//! used and what was passed over is said ([`Provided`]).
//!
//! [`Stack::start`] does it, in the order of dependencies, and [`Stack::stop`] ends it. What holds:
//!
//! * **No process is missed.** The identity of each process is on disk before its program runs, and the
//!   programs carry a mark in their environment. When a supervisor dies, a guard ends its servers at once; when
//!   the guard dies too, the next start does ([`registry`]).
//! * **No other process is hit.** A process is its number and its start time; a number that was given
//!   away again is nobody of ours.
//! * **Nothing waits blindly.** Readiness is asked for until it is there or its time is over.
//! * **Stacks do not meet.** Each has its own folder, ports and mark; any number run side by side.

mod artefact;
mod backing;
mod description;
mod folders;
mod memory;
mod network;
mod order;
mod place;
mod ports;
mod probe;
mod process;
mod recipe;
mod record;
mod running;
mod server;
mod shared;
mod supervisor;
mod syntax;
mod template;

pub mod registry;

pub use artefact::{PassedOver, Provided};
pub use description::{Description, ServerDescription};
pub use memory::MemoryLimit;
pub use network::Egress;
pub use place::Place;
pub use process::ProcessId;
pub use recipe::{Probe, Recipe, Variant};
pub use record::{Record, ServerRecord};
pub use running::{Running, find, list};
pub use shared::Shared;
pub use supervisor::{Fetched, Options, Server, Stack, fetch};

#[cfg(test)]
mod tests;
