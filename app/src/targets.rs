//! Where a restore goes.

use std::path::Path;
use std::sync::Arc;

use model::{AttributeTag, Result, Target};
use systems::files::target::{DirectoryTarget, Owners, TargetOptions};

/// Whose what is restored will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerRule {
    /// The numbers of the source.
    Numeric,
    /// Whoever has the source's names here.
    ByName,
    /// Whoever runs the restore.
    Mine,
}

/// A directory that is restored into.
#[derive(Debug)]
pub struct Directory(Arc<DirectoryTarget>);

impl Directory {
    /// Opens a directory, and makes it where it is missing.
    ///
    /// # Errors
    /// `NotFound` where its parent is missing; `Conflict`, `Denied`, `Unsupported`.
    pub fn open(path: &Path, owners: OwnerRule) -> Result<Self> {
        let owners = match owners {
            OwnerRule::Numeric => Owners::Numeric,
            OwnerRule::ByName => Owners::ByName,
            OwnerRule::Mine => Owners::Keep,
        };
        let options = TargetOptions { owners, ..TargetOptions::default() };
        DirectoryTarget::open(path, options).map(|target| Self(Arc::new(target)))
    }

    /// Says whether nothing is there, but for what an earlier restore did not finish.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub fn is_empty(&self) -> Result<bool> {
        self.0.is_empty()
    }

    /// Returns it as what operations take.
    pub fn target(&self) -> Arc<dyn Target> {
        Arc::<DirectoryTarget>::clone(&self.0)
    }
}

impl OwnerRule {
    /// Returns what is not as at the source under this rule, and is not compared with it either.
    pub fn ignored(self) -> Vec<AttributeTag> {
        match self {
            Self::Numeric => Vec::new(),
            Self::ByName | Self::Mine => vec![AttributeTag::USER_ID, AttributeTag::GROUP_ID],
        }
    }
}

/// Says who owns what this process restores unless told otherwise: only root can give things away.
pub fn usual_owners() -> OwnerRule {
    if rustix::process::geteuid().is_root() { OwnerRule::Numeric } else { OwnerRule::Mine }
}
