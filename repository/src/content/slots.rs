//! Chunks that this process is storing right now: the same chunk met twice is stored once.
//!
//! A slot stands from when a chunk is met until its pack is handed over; then the session knows it.
//! Nobody waits for a thread that is not at work: a chunk that only stands in somebody's solid run is
//! still free, and whoever seals first takes it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::types::{ChunkId, StoredChunk};

const SHARDS: usize = 64;

/// One chunk on its way.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
enum State {
    /// Met, by one thread or several; nobody has begun to seal it.
    #[default]
    Free,
    /// A thread compresses and seals it at this moment.
    Taken,
    /// It has its place.
    Placed(StoredChunk),
}

impl Slot {
    /// Returns the chunk where it has its place.
    pub(super) fn placed(&self) -> Option<StoredChunk> {
        match &*lock(&self.state) {
            State::Placed(chunk) => Some(chunk.clone()),
            State::Free | State::Taken => None,
        }
    }

    /// Says where the chunk is; whoever waits goes on.
    pub(super) fn place(&self, chunk: StoredChunk) {
        *lock(&self.state) = State::Placed(chunk);
        self.changed.notify_all();
    }

    /// Takes the chunk, unless another has; that one is not waited for.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Taken> {
        let mut state = lock(&self.state);
        let is_free = matches!(*state, State::Free);
        if is_free {
            *state = State::Taken;
        }
        is_free.then(|| Taken(Arc::clone(self)))
    }

    /// Waits for the thread that is at work, if one is; returns the chunk unless it failed.
    pub(super) fn wait(&self) -> Option<StoredChunk> {
        let state = lock(&self.state);
        let state = self.changed.wait_while(state, |state| matches!(state, State::Taken));
        match &*state.unwrap_or_else(PoisonError::into_inner) {
            State::Placed(chunk) => Some(chunk.clone()),
            State::Free | State::Taken => None,
        }
    }
}

/// The right to seal a chunk. Dropped without a place, the chunk is free again.
pub(super) struct Taken(Arc<Slot>);

impl Taken {
    /// Says where the chunk is now.
    pub(super) fn place(self, chunk: StoredChunk) {
        self.0.place(chunk);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if matches!(*state, State::Taken) {
            *state = State::Free;
            self.0.changed.notify_all();
        }
    }
}

/// All slots, in shards that are locked apart.
#[derive(Debug)]
pub(super) struct Slots(Vec<Mutex<HashMap<ChunkId, Arc<Slot>>>>);

impl Slots {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// Returns the chunk's slot.
    pub(super) fn slot(&self, id: &ChunkId) -> Arc<Slot> {
        self.shard(id)
            .map_or_else(Arc::default, |mut shard| Arc::clone(shard.entry(*id).or_default()))
    }

    /// Forgets a chunk that the session knows. Who still holds its slot is told the place through it.
    pub(super) fn forget(&self, id: &ChunkId) {
        if let Some(mut shard) = self.shard(id) {
            shard.remove(id);
        }
    }

    fn shard(&self, id: &ChunkId) -> Option<MutexGuard<'_, HashMap<ChunkId, Arc<Slot>>>> {
        let [first, ..] = id.0;
        self.0.get(usize::from(first) % SHARDS).map(lock)
    }
}

/// Locks; what a thread that panicked left behind is whole, as every change is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Location, PackName, Place};

    #[test]
    fn a_slot_is_taken_once_and_free_again_when_that_failed() {
        let slots = Slots::new();
        let id = ChunkId([3; 32]);
        let slot = slots.slot(&id);
        assert!(Arc::ptr_eq(&slot, &slots.slot(&id)));
        let taken = slot.try_take().expect("free");
        assert!(slot.try_take().is_none());
        drop(taken);
        assert!(slot.wait().is_none(), "free, so there is nothing to wait for");

        let location = Location {
            pack: PackName([0; 32]),
            block_offset: 0,
            block_length: 0,
            offset_in_block: 0,
            length: 5,
        };
        let chunk = StoredChunk { id, length: 5, place: Place::Known(location), bases: Vec::new() };
        let taken = slot.try_take().expect("free again");
        let waiting = Arc::clone(&slot);
        let waiter = std::thread::spawn(move || waiting.wait().map(|chunk| chunk.id));
        taken.place(chunk);
        assert_eq!(waiter.join().expect("no panic"), Some(id));
        assert!(slot.try_take().is_none() && slot.placed().is_some());
        slots.forget(&id);
        assert!(!Arc::ptr_eq(&slot, &slots.slot(&id)), "a new slot");
    }
}
