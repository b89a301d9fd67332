//! The last state that was handed out in full, so that a follower can begin there.

use std::sync::{Mutex, PoisonError};

use model::{Position, Timestamp};

use super::known::Known;

/// Holds at most one state: that of the last cut, or of a follower that has ended since.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Option<Remembered>>);

/// A state.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) position: Position,
    pub(super) known: Known,
    /// The time up to which it holds everything.
    pub(super) complete_at: Timestamp,
}

impl Memory {
    pub(super) fn remember(&self, state: Remembered) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    /// Remembers a state if there is none.
    pub(super) fn offer(&self, state: Remembered) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(state);
    }

    /// Takes the state at a position out.
    pub(super) fn take(&self, position: &Position) -> Option<Remembered> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.take_if(|held| held.position == *position)
    }
}
