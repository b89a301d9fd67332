//! What was read back while it was written, so that the end need not read it again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use model::{ItemKey, Version};

/// About what one entry takes, in bytes.
const ENTRY_BYTES: usize = 32;

/// Items whose content a target read back before they got their names, each with the version under
/// which it stands since. What is no longer remembered is read again: memory is bounded.
#[derive(Debug)]
pub(super) struct Proven {
    entries_max: usize,
    entries: Mutex<HashSet<[u8; 16]>>,
}

impl Proven {
    /// Begins with none. `memory_bytes` bounds how many are remembered.
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self { entries_max: memory_bytes / ENTRY_BYTES, entries: Mutex::default() }
    }

    /// Remembers that an item's content passed, and what was its version then.
    pub(super) fn note(&self, key: &ItemKey, version: &Version) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() < self.entries_max {
            entries.insert(entry(key, version));
        }
    }

    /// Says whether an item's content passed, and nobody has touched it since.
    pub(super) fn holds(&self, key: &ItemKey, version: Option<&Version>) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        version.is_some_and(|version| entries.contains(&entry(key, version)))
    }
}

/// Names a version of an item. Nobody finds two that share a name.
fn entry(key: &ItemKey, version: &Version) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.as_bytes().len() as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(&version.0);
    let mut entry = [0; 16];
    hasher.finalize_xof().fill(&mut entry);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_holds_under_its_version_alone_and_memory_is_bounded() {
        let key = |text: &str| ItemKey::from_bytes(text.as_bytes().to_vec()).expect("key");
        let version = |text: &'static str| Version(text.as_bytes().into());
        let proven = Proven::new(2 * ENTRY_BYTES);
        proven.note(&key("a"), &version("1"));
        proven.note(&key("ab"), &version("c"));
        proven.note(&key("third"), &version("1"));
        for (name, at, expected) in [
            ("a", Some("1"), true),
            ("a", Some("2"), false),
            ("a", None, false),
            ("ab", Some("c"), true),
            ("a", Some("bc"), false),
            ("third", Some("1"), false),
        ] {
            let held = proven.holds(&key(name), at.map(version).as_ref());
            assert_eq!(held, expected, "{name} {at:?}");
        }
    }
}
