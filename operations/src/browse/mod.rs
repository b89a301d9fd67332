//! Looking into stored states: listing, finding, reading, comparing. Values come out, nothing is
//! printed. Keys are as people see them: without the host.

mod cat;
mod content;
mod diff;
mod entries;
mod find;
mod list;
#[cfg(test)]
mod tests;

pub use cat::{Cat, cat};
pub use diff::{ChangeKind, Changed, diff};
pub use entries::{Entry, EntryBatches, EntryContent};
pub use find::{Filter, Found, Glob, find, find_versions};
pub use list::{Listing, list};

use model::ItemKey;

pub(crate) use content::{Checker, data_reader};
pub(crate) use entries::{children, entries, get, with_link_target};

/// Writes a key as people write paths.
pub(crate) fn as_path(key: &ItemKey) -> String {
    format!("/{}", key.display())
}
