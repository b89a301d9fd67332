//! What a repair tells of itself.

use std::collections::BTreeMap;

use crate::replicate::Amount;
use crate::verify::Damage;

/// By what an object was made whole again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// A pack, by its own parity.
    Parity,
    /// A pack, whose table of contents was made again from its blocks.
    Blocks,
    /// Its bytes stood under the name of another damaged object.
    Misplaced,
    /// The second copy of the repository.
    Copy,
    /// An index segment, from the tables of contents of packs.
    Contents,
}

/// An object that is whole again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The object.
    pub object: String,
    /// By what.
    pub by: Means,
    /// Where that is kept which stood there; none where nothing did.
    pub kept: Option<String>,
}

/// An object that is still damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// What is wrong, and what it reaches.
    pub damage: Damage,
    /// Why it could not be mended, where more is known.
    pub why: Option<String>,
}

/// What was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Nothing was written.
    pub is_dry_run: bool,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read to find damage.
    pub read_bytes: u64,
    /// What is whole again, or would be.
    pub mended: Vec<Mended>,
    /// Entries that the index did not know and does now.
    pub indexed: u64,
    /// What was missing and came from the second copy, or would come; none where there is none.
    pub copied: Option<Amount>,
    /// Packs that are lost: the next backup stores what the source still has of them.
    pub marked: u64,
    /// Why packs and other objects could not be mended, by path.
    pub unmended: BTreeMap<String, String>,
    /// What is still damaged, with what it reaches.
    pub left: Vec<Left>,
}

impl Report {
    /// Says whether all is whole.
    pub fn is_whole(&self) -> bool {
        self.left.is_empty() && self.unmended.is_empty()
    }
}
