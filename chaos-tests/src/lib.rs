//! Faults on purpose: object stores that fail, lie, wait, count and lose power, processes that are
//! killed at every write, and what they prove about the repository.

pub mod damage;
pub mod kill;
pub mod script;
pub mod stores;
