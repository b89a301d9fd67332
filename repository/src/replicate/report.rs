//! What a copy tells of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{SiteName, Timestamp};

use super::Kind;
use crate::types::RepositoryId;

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// Adds an object of this length.
    #[must_use]
    pub fn and(self, size_bytes: u64) -> Self {
        Self {
            objects: self.objects.saturating_add(1),
            bytes: self.bytes.saturating_add(size_bytes),
        }
    }

    /// Adds other objects.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            objects: self.objects.saturating_add(other.objects),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// What there was to do for a kind of object, and what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindReport {
    /// What the destination lacked at the beginning.
    pub missing: Amount,
    /// What was copied.
    pub copied: Amount,
    /// What the destination had already.
    pub there: Amount,
    /// What only the destination has: made there, or deleted at the source since.
    pub only_there: u64,
}

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It cannot be read at the source, or is not what was written: it was not copied.
    DamagedHere,
    /// The destination has another length of it under a name that tells its content.
    DamagedThere,
    /// Both have an object of this name, and they are not the same. Neither was touched.
    Conflict,
}

/// An object that was not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub fault: Fault,
    /// More about it.
    pub why: String,
}

/// How far a site's points at the destination are behind those at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The site.
    pub site: SiteName,
    /// When the newest point at the source was created, by the source's time.
    pub newest_here: Timestamp,
    /// When, by the same time, the newest of those was created that the destination has as well; none
    /// where it has none.
    pub newest_there: Option<Timestamp>,
    /// How many points the destination lacks.
    pub points_missing: u64,
}

impl Lag {
    /// Returns how far the destination is behind; none where it has no point of the site at all.
    pub fn behind(&self) -> Option<Duration> {
        Some(self.newest_here.since(self.newest_there?))
    }
}

/// What was copied, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which repository.
    pub repository: RepositoryId,
    /// Nothing was written.
    pub is_dry_run: bool,
    /// By kind; kinds without an object are left out.
    pub kinds: BTreeMap<Kind, KindReport>,
    /// What was not copied and why, by path.
    pub problems: BTreeMap<String, Problem>,
    /// How often all was looked at: more than once where a collector was at work at either end.
    pub passes: u64,
    /// False where nothing was to be copied, but a collection at the destination has not ended: what an
    /// earlier copy that was cut off relied on may still be deleted there. The next copy finds out.
    pub is_settled: bool,
    /// Objects and folders at the source that are of no known kind: they were not copied.
    pub unknown: Vec<String>,
    /// Key slots that open the destination and are not at the source: removed there, maybe.
    pub keys_only_there: Vec<String>,
    /// By site.
    pub lag: Vec<Lag>,
}

impl Report {
    /// Returns all that was copied.
    pub fn copied(&self) -> Amount {
        self.kinds.values().fold(Amount::default(), |sum, kind| sum.plus(kind.copied))
    }

    /// Returns all that the destination lacked at the beginning.
    pub fn missing(&self) -> Amount {
        self.kinds.values().fold(Amount::default(), |sum, kind| sum.plus(kind.missing))
    }

    /// Returns all that the destination had already.
    pub fn there(&self) -> Amount {
        self.kinds.values().fold(Amount::default(), |sum, kind| sum.plus(kind.there))
    }

    /// Counts objects with a fault.
    pub fn count_of(&self, fault: Fault) -> usize {
        self.problems.values().filter(|problem| problem.fault == fault).count()
    }
}
