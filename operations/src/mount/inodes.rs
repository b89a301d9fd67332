//! Items by number, as long as the other side holds them.
//!
//! A number comes from a hash of the item's place, so that it is the same whenever the item is met
//! again; where two places meet in one number the later one takes the next.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use model::ItemKey;

/// The number of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode(pub u64);

impl Inode {
    /// The directory that is shown; always known.
    pub const ROOT: Self = Self(1);
}

/// An item that should be forgotten: what it was looked up by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surplus {
    /// The directory.
    pub parent: Inode,
    /// Its name there.
    pub name: Bytes,
}

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// Above the folders of several systems.
    Top,
    /// In one system, by its stored key.
    Item { share: usize, key: ItemKey, is_content: bool },
}

impl Place {
    pub(super) fn item(share: usize, key: ItemKey) -> Self {
        Self::Item { share, key, is_content: false }
    }

    pub(super) fn share(&self) -> Option<usize> {
        match self {
            Self::Top => None,
            Self::Item { share, .. } => Some(*share),
        }
    }

    /// Says whether it is the content of an item that may have children, shown as a file of its own.
    pub(super) fn is_content(&self) -> bool {
        matches!(self, Self::Item { is_content: true, .. })
    }

    fn hash(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        if let Self::Item { share, key, is_content } = self {
            hasher.update(&[1, u8::from(*is_content)]);
            hasher.update(&(*share as u64).to_le_bytes());
            hasher.update(key.as_bytes());
        }
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        // Some programs take a number as signed.
        (u64::from_le_bytes([a, b, c, d, e, f, g, h]) >> 2) + Inode::ROOT.0 + 1
    }
}

/// The items that the other side holds.
#[derive(Debug)]
pub(super) struct Inodes {
    known: HashMap<Inode, Known>,
    numbers: HashMap<Place, Inode>,
    /// Those that the other side may be asked to forget, by when they were last looked up. Directories are
    /// not among them: somebody may work in one, or below.
    order: BTreeMap<u64, Inode>,
    uses: u64,
    inodes_max: usize,
}

#[derive(Debug)]
struct Known {
    place: Place,
    lookups: u64,
    used: Option<u64>,
    parent: Inode,
    name: Bytes,
    is_linked: bool,
}

impl Inodes {
    pub(super) fn new(root: Place, inodes_max: usize) -> Self {
        let known = Known {
            place: root.clone(),
            lookups: 1,
            used: None,
            parent: Inode::ROOT,
            name: Bytes::new(),
            is_linked: false,
        };
        Self {
            known: HashMap::from([(Inode::ROOT, known)]),
            numbers: HashMap::from([(root, Inode::ROOT)]),
            order: BTreeMap::new(),
            uses: 0,
            inodes_max,
        }
    }

    pub(super) fn place(&self, inode: Inode) -> Option<Place> {
        self.known.get(&inode).map(|known| known.place.clone())
    }

    /// Returns the number of a place, known or not.
    pub(super) fn number(&self, place: &Place) -> Inode {
        if let Some(inode) = self.numbers.get(place) {
            return *inode;
        }
        let mut inode = Inode(place.hash());
        while self.known.contains_key(&inode) {
            inode.0 = inode.0.wrapping_add(1).max(Inode::ROOT.0 + 1);
        }
        inode
    }

    /// Says whether an item is known by a name that is a hard link.
    pub(super) fn is_linked(&self, inode: Inode) -> bool {
        self.known.get(&inode).is_some_and(|known| known.is_linked)
    }

    /// Returns the directory that an item was looked up in.
    pub(super) fn parent(&self, inode: Inode) -> Inode {
        self.known.get(&inode).map_or(Inode::ROOT, |known| known.parent)
    }

    /// Counts a look-up. Says also whether the item is known by a hard link.
    pub(super) fn remember(
        &mut self,
        place: &Place,
        (parent, name): (Inode, &[u8]),
        is_leaf: bool,
        is_linked: bool,
    ) -> (Inode, bool) {
        let inode = self.number(place);
        self.uses += 1;
        let used = is_leaf.then_some(self.uses);
        let Self { known, numbers, order, .. } = self;
        let known = known.entry(inode).or_insert_with(|| {
            numbers.insert(place.clone(), inode);
            let name = Bytes::copy_from_slice(name);
            Known { place: place.clone(), lookups: 0, used: None, parent, name, is_linked }
        });
        known.lookups = known.lookups.saturating_add(1);
        known.is_linked |= is_linked;
        if let Some(before) = known.used.take() {
            order.remove(&before);
        }
        if let Some(used) = used.filter(|_| inode != Inode::ROOT) {
            known.used = Some(used);
            order.insert(used, inode);
        }
        (inode, known.is_linked)
    }

    pub(super) fn forget(&mut self, inode: Inode, count: u64) {
        let Some(known) = self.known.get_mut(&inode).filter(|_| inode != Inode::ROOT) else {
            return;
        };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups > 0 {
            return;
        }
        if let Some(known) = self.known.remove(&inode) {
            self.numbers.remove(&known.place);
            if let Some(used) = known.used {
                self.order.remove(&used);
            }
        }
    }

    /// Returns what was not looked up for longest, where there is too much. Each is named once until it is
    /// looked up again: what is in use cannot be forgotten.
    pub(super) fn surplus(&mut self) -> Vec<Surplus> {
        let mut surplus = Vec::new();
        if self.order.len() <= self.inodes_max {
            return surplus;
        }
        // Some more than must be, so that not every look-up leads here.
        let kept = self.inodes_max - self.inodes_max / 8;
        while self.order.len() > kept
            && let Some((_, inode)) = self.order.pop_first()
        {
            let Some(known) = self.known.get_mut(&inode) else { continue };
            known.used = None;
            surplus.push(Surplus { parent: known.parent, name: known.name.clone() });
        }
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place::item(0, ItemKey::from_components([name]).expect("key"))
    }

    #[test]
    fn an_item_is_known_until_it_is_forgotten_as_often_as_it_was_found() {
        let mut inodes = Inodes::new(Place::Top, 10);
        let before = inodes.number(&place("a"));
        let (a, _) = inodes.remember(&place("a"), (Inode::ROOT, b"a"), true, false);
        let (again, _) = inodes.remember(&place("a"), (Inode::ROOT, b"a"), true, false);
        assert_eq!((before, again), (a, a), "one number whenever it is met");
        inodes.forget(a, 1);
        assert_eq!(inodes.place(a), Some(place("a")));
        inodes.forget(a, 1);
        assert_eq!(inodes.place(a), None);
        assert!(inodes.numbers.len() == 1 && inodes.order.is_empty());
        inodes.forget(Inode::ROOT, 9);
        assert_eq!(inodes.place(Inode::ROOT), Some(Place::Top), "the root is never forgotten");
    }

    #[test]
    fn two_places_never_share_a_number() {
        let mut inodes = Inodes::new(Place::Top, 10);
        let taken = Inode(place("b").hash());
        // As if another place had the same hash.
        let known = Known {
            place: place("a"),
            lookups: 1,
            used: None,
            parent: Inode::ROOT,
            name: Bytes::new(),
            is_linked: false,
        };
        inodes.known.insert(taken, known);
        let (b, _) = inodes.remember(&place("b"), (Inode::ROOT, b"b"), true, false);
        assert_eq!(b, Inode(taken.0 + 1));
        assert_eq!(inodes.place(taken), Some(place("a")));
        assert_eq!(inodes.number(&place("b")), b);
    }

    #[test]
    fn what_is_too_much_is_named_oldest_first_and_no_directory() {
        let mut inodes = Inodes::new(Place::Top, 2);
        let (folder, _) = inodes.remember(&place("d"), (Inode::ROOT, b"d"), false, false);
        for name in ["a", "b", "c"] {
            inodes.remember(&place(name), (folder, name.as_bytes()), true, false);
        }
        inodes.remember(&place("a"), (folder, b"a"), true, false);
        let names = |surplus: Vec<Surplus>| {
            assert!(surplus.iter().all(|one| one.parent == folder));
            surplus
                .iter()
                .map(|one| String::from_utf8_lossy(&one.name).into_owned())
                .collect::<String>()
        };
        assert_eq!(names(inodes.surplus()), "b");
        assert_eq!(names(inodes.surplus()), "", "it was named");
        inodes.remember(&place("b"), (folder, b"b"), true, false);
        assert_eq!(names(inodes.surplus()), "c", "b was looked up again, c was not since");
        for name in ["a", "b", "c"] {
            inodes.forget(inodes.number(&place(name)), 2);
        }
        assert_eq!(inodes.known.len(), 2, "the root and the directory");
        assert!(inodes.order.is_empty());
    }
}
