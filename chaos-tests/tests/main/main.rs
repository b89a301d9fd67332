//! What the repository and the operations on it promise, under interruption, damage and chance.

mod collecting;
mod collector_model;
mod damage;
mod distant;
mod files;
mod golden;
mod interruptions;
mod naive;
mod replicating;
mod restoring;
mod servers;
