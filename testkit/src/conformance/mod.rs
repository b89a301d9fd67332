//! The checks that every implementation of a port has to pass.
//!
//! A kind of system calls, from its own tests, with a real server or directory behind `system`:
//!
//! 1. [`check_system`] once per way of listing that the kind has;
//! 2. [`Baseline::take`], then it changes the system (creates, overwrites, deletes and *moves*), then
//!    [`check_changes_cut`], [`check_follower`] and [`check_replay`]: each says whether the kind has what
//!    it checks, so that the test can assert that it does;
//! 3. [`check_unchanged_opens_nothing`] through a [`CountingCut`](crate::CountingCut), for kinds whose extents have identities.
//!
//! A kind of target calls [`check_target`] on an empty target, with a baseline of items that it can hold.
//!
//! A check panics with a sentence that names the broken rule. Nothing else may change the system
//! while a check runs.

mod changes;
mod content;
mod follower;
mod replay;
mod system;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use futures::StreamExt;
use model::{Context, Cut, CutItems, Error, ErrorKind, Item, Position, Proof, Result, System};

pub use crate::memory::{Observed, ObservedItem};
pub use changes::check_changes_cut;
pub use content::{read_content, read_range};
pub use follower::check_follower;
pub use replay::check_replay;
pub use system::{check_system, check_unchanged_opens_nothing};
pub use target::check_target;

/// A state with everything that a later state is compared with.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// Where the system stood.
    pub position: Position,
    /// What it held.
    pub state: Observed,
    /// What it said about that.
    pub proof: Proof,
}

impl Baseline {
    /// Reads a full cut of a system.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn take(system: &dyn System, context: &Context) -> Result<Self> {
        let cut = system.cut(None, context).await?;
        let state = observe(cut.as_ref(), context).await?;
        let (position, proof) = (cut.position().clone(), cut.proof().await?);
        cut.release().await?;
        Ok(Self { position, state, proof })
    }

    /// Returns the state as a stored snapshot would give it.
    pub fn to_cut(&self) -> crate::MemoryCut {
        crate::MemoryCut::new(self.position.clone(), self.state.clone(), self.proof.clone())
    }
}

/// Reads a cut that lists its whole state, with all content.
///
/// # Errors
/// Those of the cut; `Invalid` where it lists changes, or not as it promises.
pub async fn observe(cut: &dyn Cut, context: &Context) -> Result<Observed> {
    let mut state = BTreeMap::new();
    for item in list(cut, context).await? {
        let content = read_content(cut, &item).await?;
        state.insert(item.key.clone(), ObservedItem { item, content });
    }
    Ok(state)
}

/// Lists a cut's items and checks that they come as the cut promises.
pub(crate) async fn list(cut: &dyn Cut, context: &Context) -> Result<Vec<Item>> {
    let broken = |why: &str| Error::new(ErrorKind::Invalid, "list items", "").detail(why);
    let (mut batches, is_sorted) = match cut.items(context) {
        CutItems::Sorted(batches) => (batches, true),
        CutItems::Unsorted(batches) => (batches, false),
        CutItems::Changes(_) => return Err(broken("a full cut lists changes")),
    };
    let mut items: Vec<Item> = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if batch.is_empty() {
            return Err(broken("a batch is empty"));
        }
        items.extend(batch);
    }
    if is_sorted && !items.is_sorted_by(|a, b| a.key < b.key) {
        return Err(broken("a sorted cut lists a key twice or out of order"));
    }
    items.sort_by(|a, b| a.key.cmp(&b.key));
    if !items.is_sorted_by(|a, b| a.key < b.key) {
        return Err(broken("a cut lists a key twice"));
    }
    Ok(items)
}

/// Panics where two states differ, naming the first item that does.
pub(crate) fn assert_same_state(what: &str, found: &Observed, expected: &Observed) {
    for key in found.keys().chain(expected.keys()) {
        let (found, expected) = (found.get(key), expected.get(key));
        let items = (found.map(|o| &o.item), expected.map(|o| &o.item));
        assert_eq!(items.0, items.1, "{what}: {key:?} is another item");
        let is_same = found.map(|o| &o.content) == expected.map(|o| &o.content);
        assert!(is_same, "{what}: {key:?} has another content");
    }
}

/// Returns the value, or panics with what a check was doing.
pub(crate) fn must<T>(what: &str, result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}
