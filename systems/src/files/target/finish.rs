//! The end of a restore: links, metadata of directories.

use std::os::fd::AsFd;

use model::{AttributeTag, Attributes, Context, Error, ErrorKind, Item, ItemKey, ItemKind, Result};
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::DirectoryTarget;
use super::errors::failed;
use super::extended::Handle;
use super::metadata::set_modified;
use super::pending::{Record, Waiting};
use super::root::lock;

impl DirectoryTarget {
    /// Does what waits. What fails goes on waiting, and does not keep the rest from being done.
    ///
    /// # Errors
    /// The first failure; further ones are reported as problems.
    pub(super) fn complete_waiting(&self, context: &Context) -> Result<()> {
        context.monitor.phase(model::Phase {
            name: "complete",
            subject: "links and directories".into(),
            total: None,
        });
        self.remove_leftovers();
        let mut run = Run { target: self, context, first_failure: None };
        // A hard link may be a further name of a symbolic link, which comes before it.
        let links = lock(&self.pending).take_links();
        run.do_each(links);
        // The deepest first: what is in a directory is complete when its own turn comes.
        let mut directories = lock(&self.pending).take_directories();
        directories.reverse();
        run.do_each(directories);
        self.root.forget(&ItemKey::root());
        self.shortfalls.sum_up(context);
        run.first_failure.map_or(Ok(()), Err)
    }

    /// Removes what earlier runs did not finish, as the survey found it.
    fn remove_leftovers(&self) {
        for key in std::mem::take(&mut *lock(&self.leftovers)) {
            // What cannot be removed is found by the next survey.
            if let Ok(place) = self.place(&key) {
                let _gone = fs::unlinkat(&place.parent, place.name, AtFlags::empty());
            }
        }
    }

    fn complete_one(&self, record: &Record, context: &Context) -> Result<()> {
        context.check("complete restore")?;
        let (key, attributes) = record.read()?;
        match record.waiting {
            Waiting::Create(kind) => self.make_link(key, attributes, kind, false, context),
            Waiting::Replace(kind) => self.make_link(key, attributes, kind, true, context),
            Waiting::Directory | Waiting::NewDirectory => {
                self.complete_directory(key, attributes, context)
            }
            Waiting::Bystander => self.restore_bystander(&key, &attributes),
        }
    }

    fn make_link(
        &self,
        key: ItemKey,
        attributes: Attributes,
        kind: ItemKind,
        is_replace: bool,
        context: &Context,
    ) -> Result<()> {
        let item = Item { key, kind, attributes, version: None, extents: Vec::new() };
        match kind {
            ItemKind::Hardlink => self.make_hardlink(&item, is_replace),
            _ => self.make_symlink(&item, is_replace, context),
        }
    }

    fn complete_directory(
        &self,
        key: ItemKey,
        attributes: Attributes,
        context: &Context,
    ) -> Result<()> {
        if attributes.as_bytes().is_empty() {
            return Ok(());
        }
        let kind = ItemKind::Directory;
        let item = Item { key, kind, attributes, version: None, extents: Vec::new() };
        let directory = self.root.open_directory(&item.key)?;
        let handle = Handle::Open(directory.as_fd());
        self.metadata(&item)?.set(handle, &item.key, false, &self.shortfalls, context)
    }

    fn restore_bystander(&self, key: &ItemKey, attributes: &Attributes) -> Result<()> {
        let directory = match self.root.resolve(key, OFlags::RDONLY | OFlags::DIRECTORY)? {
            // A later step removed it, or put something else in its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened.map_err(|errno| failed("open", key, errno))?,
        };
        let mode = attributes.unsigned(AttributeTag::MODE).and_then(|mode| mode.try_into().ok());
        let closed = mode.map_or(Ok(()), |mode| fs::fchmod(&directory, Mode::from_raw_mode(mode)));
        let time = attributes.signed(AttributeTag::MODIFIED_NS);
        let handle = Handle::Open(directory.as_fd());
        match closed.and_then(|()| time.map_or(Ok(()), |time| set_modified(handle, time))) {
            // It belongs to somebody else, who let us work in it.
            Ok(()) | Err(Errno::PERM | Errno::ACCESS) => Ok(()),
            Err(errno) => Err(failed("complete", key, errno)),
        }
    }
}

/// Does records one by one.
struct Run<'a> {
    target: &'a DirectoryTarget,
    context: &'a Context,
    first_failure: Option<Error>,
}

impl Run<'_> {
    fn do_each(&mut self, records: Vec<Record>) {
        let mut records = records.into_iter();
        let is_pointless =
            |error: &Error| matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Exhausted);
        let mut failed = Vec::new();
        if !self.first_failure.as_ref().is_some_and(is_pointless) {
            for record in records.by_ref() {
                let Err(error) = self.target.complete_one(&record, self.context) else { continue };
                failed.push(record);
                let is_last = is_pointless(&error);
                self.note(error);
                if is_last {
                    break;
                }
            }
        }
        lock(&self.target.pending).put_back(failed.into_iter().chain(records));
    }

    fn note(&mut self, error: Error) {
        match &self.first_failure {
            None => self.first_failure = Some(error),
            Some(_) => self.context.monitor.problem(&error),
        }
    }
}
