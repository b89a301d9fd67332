//! Open directories: listed a page at a time, however long they are.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use model::{Error, ErrorKind, ItemKind, Result};
use tokio::sync::Mutex;

use super::attributes::{Facts, Kind};
use super::inodes::{Inode, Place};
use super::{CONTENT_NAME, Found, Mounted};
use crate::browse::{Entry, EntryBatches, children};

/// How many items are given out at once.
const PAGE: usize = 256;
/// How many that were given out are kept: a kernel may not have had room for all of them.
const KEPT: u64 = 1024;
/// The longest name that programs can be told.
const NAME_BYTES_MAX: usize = 255;

/// An item of a directory.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: Bytes,
    /// The number that it has or would have.
    pub inode: Inode,
    /// What it is.
    pub kind: Kind,
    /// Not known of a further name of another item.
    pub(super) found: Option<Found>,
}

/// An open directory.
pub struct Folder {
    mounted: Mounted,
    inode: Inode,
    place: Place,
    has_content: bool,
    walk: Mutex<Walk>,
}

/// How far the listing is.
#[derive(Default)]
struct Walk {
    /// What is to come; none before the beginning, after the end, and after a failure.
    rest: Option<EntryBatches>,
    is_ended: bool,
    window: VecDeque<Listed>,
    /// The place in the listing of the window's first item.
    first: u64,
}

impl Folder {
    pub(super) fn new(mounted: Mounted, inode: Inode, place: Place, has_content: bool) -> Self {
        Self { mounted, inode, place, has_content, walk: Mutex::default() }
    }

    /// Returns its number.
    pub fn inode(&self) -> Inode {
        self.inode
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the number of the directory that it is in; its own for the root.
    pub fn parent(&self) -> Inode {
        self.mounted.inodes().parent(self.inode)
    }

    /// Lists some items from a place in the listing on; none where it ends there. Going on where the last
    /// page ended costs least.
    ///
    /// # Errors
    /// `Corrupt`; those of the store.
    pub async fn page(&self, offset: u64) -> Result<Vec<Listed>> {
        let mut walk = self.walk.lock().await;
        if offset < walk.first || (walk.rest.is_none() && !walk.is_ended) {
            *walk = self.begin();
        }
        while !walk.is_ended && walk.end() < offset.saturating_add(PAGE as u64) {
            let batch = match &mut walk.rest {
                Some(rest) => rest.try_next().await,
                None => Ok(None),
            };
            match batch {
                Ok(Some(batch)) => {
                    let listed = batch.into_iter().filter_map(|entry| self.listed(entry));
                    walk.window.extend(listed);
                }
                Ok(None) => {
                    walk.is_ended = true;
                    walk.rest = None;
                }
                Err(error) => {
                    walk.rest = None;
                    let error = self.mounted.tell(&self.place, None, error);
                    if walk.end() <= offset {
                        return Err(error);
                    }
                    // What was read before is given out; who goes on meets the failure again.
                    break;
                }
            }
            walk.drop_before(offset.saturating_sub(KEPT));
        }
        let skipped = usize::try_from(offset.saturating_sub(walk.first)).unwrap_or(usize::MAX);
        Ok(walk.window.iter().skip(skipped).take(PAGE).cloned().collect())
    }

    /// Returns how many items are at hand.
    #[cfg(test)]
    pub(super) async fn held(&self) -> usize {
        self.walk.lock().await.window.len()
    }

    fn begin(&self) -> Walk {
        match (&self.place, self.mounted.share(&self.place)) {
            (Place::Item { key, .. }, Some(share)) => Walk {
                rest: Some(children(&share.system.items, key)),
                window: self.content().into_iter().collect(),
                ..Walk::default()
            },
            _ => Walk { is_ended: true, window: self.systems(), ..Walk::default() },
        }
    }

    /// Returns the folders of several systems.
    fn systems(&self) -> VecDeque<Listed> {
        let shares = self.mounted.0.shares.iter().enumerate();
        let listed = shares.map(|(index, share)| Listed {
            name: Bytes::copy_from_slice(share.name.as_bytes()),
            inode: self.number(&Place::item(index, share.root.clone())),
            kind: Kind::Directory,
            found: None,
        });
        listed.collect()
    }

    /// Returns the directory's own content as a file.
    fn content(&self) -> Option<Listed> {
        let Place::Item { share, key, .. } = &self.place else { return None };
        let place = Place::Item { share: *share, key: key.clone(), is_content: true };
        self.has_content.then(|| Listed {
            name: Bytes::from_static(CONTENT_NAME),
            inode: self.number(&place),
            kind: Kind::File,
            found: None,
        })
    }

    fn listed(&self, entry: Entry) -> Option<Listed> {
        let (index, share) = (self.place.share()?, self.mounted.share(&self.place)?);
        let name = Bytes::copy_from_slice(entry.item.key.name().unwrap_or_default());
        if !is_shown(&name) {
            let error = Error::new(ErrorKind::Unsupported, "show item", "")
                .detail("a file system cannot have such a name");
            self.mounted.tell(&self.place, Some(&name), error);
            return None;
        }
        let kind = Kind::of_item(entry.item.kind);
        let target = entry.link_target();
        let is_link = entry.item.kind == ItemKind::Hardlink;
        let facts = (!is_link).then(|| share.defaults.facts(&entry.item, false));
        let entry = Arc::new(entry);
        self.mounted.recent().put((index, entry.item.key.clone()), &entry);
        let place = Place::item(index, target.unwrap_or_else(|| entry.item.key.clone()));
        let inode = self.number(&place);
        let found = facts.map(|facts| Found { place, facts: Facts { inode, ..facts } });
        Some(Listed { name, inode, kind, found })
    }

    fn number(&self, place: &Place) -> Inode {
        self.mounted.inodes().number(place)
    }
}

impl Walk {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.window.len() as u64)
    }

    fn drop_before(&mut self, offset: u64) {
        while self.first < offset && self.window.pop_front().is_some() {
            self.first += 1;
        }
    }
}

/// Says whether a file system can have a name: one that it cannot would spoil the whole listing.
fn is_shown(name: &[u8]) -> bool {
    let is_special = matches!(name, b"" | b"." | b"..");
    !is_special && !name.contains(&b'/') && name.len() <= NAME_BYTES_MAX
}
