//! A directory as the target of a restore.
//!
//! Everything goes through one handle of the root ([`root`]): paths are resolved beneath it and through
//! no link, metadata is set on open handles. A file is made under a temporary name beside its place
//! ([`temporary`]), so that what stands under its own name is whole. Directories are made for us alone
//! and get their metadata at the end, where links are made too ([`pending`], [`finish`]). One call
//! makes everything durable after that.
//!
//! Calls block the thread that polls them, as a local source does.

mod content;
mod errors;
mod extended;
mod finish;
mod metadata;
mod names;
mod observe;
mod owners;
mod pending;
mod root;
mod steps;
mod survey;
mod temporary;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use model::{
    Content, ContentCheck, ContentReader, Context, ErrorKind, Item, ItemBatches, ItemKey, ItemKind,
    Recheck, RestoreStep, Result, Target, TargetFacts, Version,
};
use rustix::fs::{self, Mode};

pub use self::owners::Owners;

use self::content::FileReader;
use self::errors::{failed, refused};
use self::metadata::Shortfalls;
use self::names::Folding;
use self::observe::{TO_READ, kind_of, observe};
use self::owners::Accounts;
use self::pending::Pending;
use self::root::Root;

/// How a directory is restored into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetOptions {
    /// Whose what is restored will be.
    pub owners: Owners,
    /// The permissions of the root where it has to be made.
    pub root_mode: u32,
    /// How many steps may be applied at once; 0 is taken as 1.
    pub write_concurrency: usize,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self { owners: Owners::default(), root_mode: 0o700, write_concurrency: 4 }
    }
}

/// A directory that is restored into. Keys are paths beneath it.
#[derive(Debug)]
pub struct DirectoryTarget {
    root: Root,
    options: TargetOptions,
    accounts: Accounts,
    folding: Folding,
    /// We may give things away and work in every directory.
    is_privileged: bool,
    pending: Mutex<Pending>,
    /// What earlier runs did not finish, as the last survey found it.
    leftovers: Mutex<BTreeSet<ItemKey>>,
    shortfalls: Shortfalls,
}

impl DirectoryTarget {
    /// Opens a directory, and makes it where it is missing.
    ///
    /// # Errors
    /// `NotFound` where its parent is missing; `Conflict` where it is no directory; `Denied`;
    /// `Unsupported` where the kernel cannot resolve paths beneath a root (before Linux 5.6).
    pub fn open(root: &Path, options: TargetOptions) -> Result<Self> {
        let root = Root::open(root, options.root_mode)?;
        let folding = names::probe_folding(root.fd());
        Ok(Self {
            root,
            options,
            accounts: Accounts::of_this_host(),
            folding,
            is_privileged: rustix::process::geteuid().is_root(),
            pending: Mutex::default(),
            leftovers: Mutex::default(),
            shortfalls: Shortfalls::default(),
        })
    }

    /// Says whether nothing is there, but for what an earlier restore did not finish.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub fn is_empty(&self) -> Result<bool> {
        let root = ItemKey::root();
        let names = survey::names_in(&self.root.open_directory(&root)?);
        let names = names.map_err(|errno| failed("list", &root, errno))?;
        Ok(names.iter().all(|name| names::is_temporary(name)))
    }
}

#[async_trait]
impl Content for DirectoryTarget {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        let key = &item.key;
        let wrong = |why| refused(ErrorKind::Invalid, "read", key, why);
        let before = item.extents.get(..extent).unwrap_or_default();
        let start = before.iter().fold(0_u64, |sum, e| sum.saturating_add(e.length_bytes));
        let length = item.extents.get(extent).map(|extent| extent.length_bytes);
        if length.is_none_or(|length| range.start > range.end || range.end > length) {
            return Err(wrong("no such range"));
        }
        // The directory is kept open: the next file lies in it as well.
        let place = self.root.place(key)?;
        let file = fs::openat(&place.parent, place.name, TO_READ, Mode::empty())
            .map_err(|errno| failed("open", key, errno))?;
        let stat = fs::fstat(&file).map_err(|errno| failed("look at", key, errno))?;
        if kind_of(&stat) != Some(ItemKind::File) {
            return Err(refused(ErrorKind::NotFound, "read", key, "it is no file any more"));
        }
        let offset = start.saturating_add(range.start);
        let end = start.saturating_add(range.end);
        Ok(Box::new(FileReader { file, key: key.clone(), offset, end }))
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        let place = match self.root.place(&item.key) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Recheck::Gone),
            place => place?,
        };
        let stat = observe::stat_in(place.parent.as_fd(), place.name, &item.key)?;
        Ok(match stat {
            None => Recheck::Gone,
            Some(stat) if Some(observe::version(&stat)) == item.version => Recheck::Same,
            Some(_) => {
                let parent = place.parent.as_fd();
                let seen = observe(parent, place.name, &item.key, &self.accounts, &|_| {})?;
                seen.map_or(Recheck::Gone, |seen| Recheck::Changed(Box::new(seen.item)))
            }
        })
    }
}

#[async_trait]
impl Target for DirectoryTarget {
    fn facts(&self) -> TargetFacts {
        TargetFacts {
            write_concurrency: self.options.write_concurrency.max(1),
            folds_case: self.folding.case,
            folds_unicode: self.folding.unicode,
            reads_back: true,
        }
    }

    fn survey(&self, context: &Context) -> ItemBatches<'_> {
        self.walk(context)
    }

    async fn apply(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        context: &Context,
    ) -> Result<()> {
        self.carry_out(step, content, None, context).await.map(drop)
    }

    async fn apply_checked(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        check: &mut dyn ContentCheck,
        context: &Context,
    ) -> Result<Option<Version>> {
        self.carry_out(step, content, Some(check), context).await
    }

    async fn finish(&self, context: &Context) -> Result<()> {
        self.complete_waiting(context)
    }

    async fn persist(&self, context: &Context) -> Result<()> {
        context.check("make restore durable")?;
        self.root.sync()
    }
}
