//! The order of steps, what is wanted under which key, and whole restores of the real engine.

mod order;
mod whole;
mod wishes;
