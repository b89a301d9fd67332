//! Faults on purpose: object stores that fail, lie, wait, count and lose power, processes that are
//! killed at every write, and what they prove about the repository.

pub mod damage;
pub mod distant;
pub mod engine;
pub mod golden;
pub mod kill;
pub mod logs;
pub mod observe;
pub mod restoring;
pub mod script;
pub mod stores;
pub mod trees;
