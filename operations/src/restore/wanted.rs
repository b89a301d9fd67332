//! What is wanted: the chosen items of a state under the keys that they get in the target.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use model::{Attributes, Error, ErrorKind, Item, ItemKey, ItemKind, Result};
use tokio::sync::mpsc;

use crate::browse::{Entry, EntryContent, as_path, entries, get};
use crate::select::{Items, ResolvedSystem};

/// Batches that wait to be taken.
const BATCHES_AHEAD: usize = 4;

/// An item that is wanted, under its key in the target.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) entry: Entry,
    /// It only leads to what was chosen: one that is there stays as it is.
    pub(super) is_ancestor: bool,
}

/// What was chosen, and where it goes.
#[derive(Clone)]
pub(super) struct Wish {
    pub(super) items: Items,
    /// The chosen keys, as stored; ascending, none within another.
    pub(super) roots: Vec<ItemKey>,
    /// What lies within `from`, as stored, ...
    from: ItemKey,
    /// ... lies within this in the target.
    to: ItemKey,
}

impl Wish {
    pub(super) fn new(
        system: &ResolvedSystem,
        onto: &ItemKey,
        include: &[ItemKey],
    ) -> Result<Self> {
        let path = system.stored(&system.path)?;
        // What keeps its place is seen from the root, so that the directories on the way are known.
        let (from, to) = if *onto == system.path {
            (system.root()?, ItemKey::root())
        } else {
            (path.clone(), onto.clone())
        };
        let mut roots = BTreeSet::new();
        for key in include {
            let stored = system.stored(key)?;
            if !stored.is_within(&path) {
                return Err(Error::new(ErrorKind::Invalid, "restore", as_path(key))
                    .detail(format!("it does not lie within {:?}", system.path)));
            }
            roots.insert(stored);
        }
        if include.is_empty() {
            roots.insert(path);
        }
        let mut kept: Vec<ItemKey> = Vec::new();
        for root in roots {
            // Ascending: what holds it came before it.
            if !kept.last().is_some_and(|last| root.is_within(last)) {
                kept.push(root);
            }
        }
        Ok(Self { items: system.items.clone(), roots: kept, from, to })
    }

    /// Starts to read what is wanted. It ends early when nobody takes its batches any more.
    pub(super) fn spawn(&self) -> mpsc::Receiver<Result<Vec<Wanted>>> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let mut reading = Reading {
            wish: self.clone(),
            sender,
            ancestors: BTreeSet::new(),
            promoted: BTreeMap::new(),
        };
        tokio::spawn(async move {
            if let Err(error) = reading.run().await {
                let _nobody_listens = reading.sender.send(Err(error)).await;
            }
        });
        receiver
    }
}

/// A wish that is being read.
struct Reading {
    wish: Wish,
    sender: mpsc::Sender<Result<Vec<Wanted>>>,
    /// Directories on the way to what was chosen that were given already, by their keys in the target.
    ancestors: BTreeSet<ItemKey>,
    /// Items that were not chosen themselves: which chosen name stands for them now.
    promoted: BTreeMap<ItemKey, ItemKey>,
}

impl Reading {
    async fn run(&mut self) -> Result<()> {
        for root in self.wish.roots.clone() {
            let target = self.place(&root)?;
            self.give_ancestors(&root, &target).await?;
            let mut batches = entries(&self.wish.items, &root);
            let mut is_first = true;
            while let Some(batch) = batches.try_next().await? {
                let mut wanted = Vec::with_capacity(batch.len());
                for entry in batch {
                    if std::mem::take(&mut is_first) {
                        refuse_leaf_as_target(&entry, &target)?;
                    }
                    wanted.push(Wanted { entry: self.placed(entry).await?, is_ancestor: false });
                }
                if self.sender.send(Ok(wanted)).await.is_err() {
                    return Ok(());
                }
            }
            if is_first && root != self.wish.from {
                return Err(Error::new(ErrorKind::NotFound, "restore", as_path(&root))
                    .detail("nothing stands there"));
            }
        }
        Ok(())
    }

    fn place(&self, stored: &ItemKey) -> Result<ItemKey> {
        stored.rebase(&self.wish.from, &self.wish.to).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "restore", stored.display())
                .detail("it lies outside of what was chosen")
        })
    }

    /// Gives the directories that lead to a chosen item, each once.
    async fn give_ancestors(&mut self, root: &ItemKey, target: &ItemKey) -> Result<()> {
        let mut above = Vec::new();
        let mut next = target.parent();
        while let Some(key) = next.filter(|key| !key.is_root()) {
            next = key.parent();
            above.push(key);
        }
        let mut wanted = Vec::new();
        for key in above.into_iter().rev() {
            if !self.ancestors.insert(key.clone()) {
                continue;
            }
            let stored = key.rebase(&self.wish.to, &self.wish.from);
            let found = match stored.filter(|stored| root.is_within(stored)) {
                Some(stored) => get(&self.wish.items, &stored).await?,
                None => None,
            };
            let attributes = found
                .filter(|entry| entry.item.kind == ItemKind::Directory)
                .map(|entry| entry.item.attributes);
            wanted.push(Wanted {
                entry: directory(key, attributes.unwrap_or_default()),
                is_ancestor: true,
            });
        }
        if !wanted.is_empty() {
            let _nobody_listens = self.sender.send(Ok(wanted)).await;
        }
        Ok(())
    }

    /// Gives an entry its key in the target. A further name of an item that was not chosen becomes
    /// that item; further ones become names of it.
    async fn placed(&mut self, mut entry: Entry) -> Result<Entry> {
        let key = self.place(&entry.item.key)?;
        let Some(first) = entry.link_target() else {
            entry.item.key = key;
            return Ok(entry);
        };
        let is_chosen = self.wish.roots.iter().any(|root| first.is_within(root));
        let target = match self.promoted.get(&first) {
            Some(name) => Some(name.clone()),
            None if is_chosen => Some(self.place(&first)?),
            None => None,
        };
        if let Some(target) = target {
            entry.item.attributes =
                crate::browse::with_link_target(&entry.item.attributes, &target);
        } else if let Some(item) = get(&self.wish.items, &first).await? {
            self.promoted.insert(first, key.clone());
            entry = item;
        }
        entry.item.key = key;
        Ok(entry)
    }
}

fn refuse_leaf_as_target(entry: &Entry, target: &ItemKey) -> Result<()> {
    if !target.is_root() || matches!(entry.item.kind, ItemKind::Directory | ItemKind::Node) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "restore", as_path(&entry.item.key))
        .detail("it is no directory, so that the target itself cannot become it"))
}

fn directory(key: ItemKey, attributes: Attributes) -> Entry {
    let kind = ItemKind::Directory;
    let item = Item { key, kind, attributes, version: None, extents: Vec::new() };
    Entry { item, content: EntryContent::Logged(Vec::new()) }
}
