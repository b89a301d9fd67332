//! What a collection did, or would do.

use std::collections::BTreeMap;

use crate::types::SessionId;

/// Why a snapshot that is forgotten is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gone {
    /// A hold covers it.
    Held,
    /// It was forgotten only lately.
    InGrace,
    /// A point names it that is not forgotten, or pinned.
    NamedByPoint,
    /// Changes are logged over it that are not trimmed.
    BaseOfLog,
    /// A point or a log of its site cannot be read: it might need it.
    Unknown,
    /// No certified writer has signed the forget.
    Unsigned,
}

/// A number of packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many.
    pub packs: u64,
    /// Their bytes in the store.
    pub bytes: u64,
}

impl Amount {
    /// Adds a pack.
    pub(super) fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// Objects other than packs that were deleted, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leftovers {
    /// Snapshots that are forgotten.
    pub snapshots: u64,
    /// Bodies of points that are forgotten.
    pub points: u64,
    /// Batches, segments and the like of logs that were trimmed or compacted.
    pub logs: u64,
    /// Heartbeats that newer ones have replaced.
    pub heartbeats: u64,
    /// Probes and staging files that somebody left.
    pub probes: u64,
}

/// What a collection did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Nothing was written or deleted.
    pub is_dry_run: bool,
    /// Generations that were brought to their end.
    pub generations: Vec<u64>,
    /// Snapshots and checkpoints that are needed.
    pub snapshots: u64,
    /// Nodes that were read for it.
    pub nodes_read: u64,
    /// All packs that were there.
    pub total: Amount,
    /// Packs that were deleted; in a dry run, those that nothing needs.
    pub freed: Amount,
    /// Packs that are rewritten because little of them is needed.
    pub rewritten: Amount,
    /// What was put in their place.
    pub rewritten_into: Amount,
    /// Packs that are kept because something needs them.
    pub needed: Amount,
    /// What of those nothing needs, in bytes: about.
    pub unneeded_bytes: u64,
    /// Packs that are kept because a session that may still end was there before them.
    pub young: Amount,
    /// Packs that are kept because nobody can say what is in them.
    pub unknown: Amount,
    /// Objects among the packs that have no name of one: kept.
    pub unknown_objects: u64,
    /// Snapshots that are forgotten and kept for now, by reason.
    pub held: BTreeMap<Gone, u64>,
    /// Things that are needed and nowhere to be found: damage.
    pub lost: u64,
    /// Sessions that were closed because they neither ended nor went on.
    pub fenced: Vec<SessionId>,
    /// Index segments that were replaced by others.
    pub segments_replaced: u64,
    /// Checkpoints of captures that nobody went on with: forgotten now, freed by the next collection.
    pub abandoned: u64,
    /// Other objects.
    pub leftovers: Leftovers,
}
