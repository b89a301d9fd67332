//! What came of a restore.

use std::fmt;

use model::{Context, Error, ErrorKind, ItemKey};

use crate::browse::as_path;

/// How many failures and mismatches are kept one by one.
const KEPT_MAX: usize = 1000;

/// An item that could not be restored.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub key: ItemKey,
    /// Why.
    pub error: Error,
}

/// An item that is not as it was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Which.
    pub key: ItemKey,
    /// What is wrong with it.
    pub difference: Difference,
}

/// What is wrong with an item that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing,
    /// It is another kind of thing.
    Kind,
    /// Its content has another length, or other bytes.
    Content,
    /// Something else about it differs.
    Attributes,
    /// It cannot be read.
    Unreadable(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "it is not there",
            Self::Kind => "it is another kind of thing",
            Self::Content => "its content differs",
            Self::Attributes => "its attributes differ",
            Self::Unreadable(why) => return write!(f, "it cannot be read: {why}"),
        })
    }
}

/// What came of a restore.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Items that were made.
    pub created: u64,
    /// Items that were replaced.
    pub replaced: u64,
    /// Items that were removed.
    pub deleted: u64,
    /// Items that were there already.
    pub skipped: u64,
    /// Items that are there, were not wanted and stay.
    pub left: u64,
    /// Bytes of content that were written, holes included.
    pub restored_bytes: u64,
    /// Items that could not be restored.
    pub failed_items: u64,
    /// The first of them.
    pub failures: Vec<Failure>,
    /// Items that were read back and compared.
    pub verified_items: u64,
    /// Bytes that were read back and compared.
    pub verified_bytes: u64,
    /// Items that are not as they were captured.
    pub mismatched_items: u64,
    /// The first of them.
    pub mismatches: Vec<Mismatch>,
}

impl RestoreReport {
    /// Says whether everything was read back and is as it was captured.
    pub fn is_proven(&self) -> bool {
        self.verified_items > 0 && self.mismatched_items == 0 && self.failed_items == 0
    }

    pub(super) fn fail(&mut self, key: &ItemKey, error: Error, context: &Context) {
        context.monitor.problem(&error);
        self.failed_items += 1;
        if self.failures.len() < KEPT_MAX {
            self.failures.push(Failure { key: key.clone(), error });
        }
    }

    pub(super) fn mismatch(&mut self, key: &ItemKey, difference: Difference, context: &Context) {
        let problem = Error::new(ErrorKind::Corrupt, "verify restored item", as_path(key));
        context.monitor.problem(&problem.detail(difference.to_string()));
        self.mismatched_items += 1;
        if self.mismatches.len() < KEPT_MAX {
            self.mismatches.push(Mismatch { key: key.clone(), difference });
        }
    }
}
