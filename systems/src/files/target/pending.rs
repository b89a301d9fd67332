//! What has to wait for the end of a restore: links, and metadata of directories.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use model::{Attributes, Item, ItemKey, ItemKind, Result};

/// What is still to be done, one record per key. A record is one allocation beside its place in the
/// tree: a restore may have millions.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeSet<Record>);

/// Why a record waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// To be made a link of this kind where nothing stands.
    Create(ItemKind),
    /// To be made a link of this kind in the place of whatever stands there.
    Replace(ItemKind),
    /// A directory that is to get its metadata.
    Directory,
    /// As [`Waiting::Directory`]; this restore made it.
    NewDirectory,
    /// A directory that no step is about: things in it change, itself it stays as it is.
    Bystander,
}

/// One thing that is still to be done.
#[derive(Debug)]
pub(super) struct Record {
    /// The key, then the attributes.
    bytes: Box<[u8]>,
    key_length: u16,
    pub(super) waiting: Waiting,
}

impl Record {
    fn new(key: &ItemKey, attributes: &Attributes, waiting: Waiting) -> Self {
        let bytes = [key.as_bytes(), attributes.as_bytes()].concat().into();
        // Keys have 65,535 bytes at most.
        let key_length = u16::try_from(key.as_bytes().len()).unwrap_or(u16::MAX);
        Self { bytes, key_length, waiting }
    }

    fn key_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.key_length)).unwrap_or_default()
    }

    /// Returns the key and the attributes.
    pub(super) fn read(&self) -> Result<(ItemKey, Attributes)> {
        let attributes = self.bytes.get(usize::from(self.key_length)..).unwrap_or_default();
        Ok((
            ItemKey::from_bytes(self.key_bytes().to_vec())?,
            Attributes::from_bytes(attributes.to_vec())?,
        ))
    }

    fn is_link(&self) -> bool {
        matches!(self.waiting, Waiting::Create(_) | Waiting::Replace(_))
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.key_bytes() == other.key_bytes()
    }
}

impl Eq for Record {}

impl PartialOrd for Record {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Record {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key_bytes().cmp(other.key_bytes())
    }
}

impl Borrow<[u8]> for Record {
    fn borrow(&self) -> &[u8] {
        self.key_bytes()
    }
}

impl Pending {
    /// Lets an item wait; an earlier record of the same key is void.
    pub(super) fn put(&mut self, item: &Item, waiting: Waiting) {
        self.0.replace(Record::new(&item.key, &item.attributes, waiting));
    }

    /// Notes down what a directory in which something will change is to be afterwards, unless something
    /// is noted.
    pub(super) fn put_bystander(&mut self, key: &ItemKey, attributes: &Attributes) {
        self.0.insert(Record::new(key, attributes, Waiting::Bystander));
    }

    /// Returns why a key waits.
    pub(super) fn get(&self, key: &ItemKey) -> Option<Waiting> {
        self.0.get(key.as_bytes()).map(|record| record.waiting)
    }

    /// Forgets a key.
    pub(super) fn cancel(&mut self, key: &ItemKey) {
        self.0.remove(key.as_bytes());
    }

    /// Takes out the links to be made, in key order.
    pub(super) fn take_links(&mut self) -> Vec<Record> {
        self.0.extract_if(.., |record| record.is_link()).collect()
    }

    /// Takes out the directories to be completed, in key order.
    pub(super) fn take_directories(&mut self) -> Vec<Record> {
        self.0.extract_if(.., |record| !record.is_link()).collect()
    }

    /// Puts back what could not be done. What came meanwhile is newer.
    pub(super) fn put_back(&mut self, records: impl IntoIterator<Item = Record>) {
        self.0.extend(records);
    }
}

#[cfg(test)]
mod tests {
    use model::AttributeTag;

    use super::*;

    fn directory(path: &str) -> Item {
        Item {
            key: ItemKey::from_components(path.split('/')).expect("key"),
            kind: ItemKind::Directory,
            attributes: Attributes::builder().bytes(AttributeTag(64), b"\xff").build(),
            version: None,
            extents: Vec::new(),
        }
    }

    #[test]
    fn records_come_out_in_key_order_the_last_of_each_key() {
        let mut pending = Pending::default();
        for path in ["b", "a.x", "a", "a/c", "b"] {
            pending.put(&directory(path), Waiting::Replace(ItemKind::Symlink));
        }
        pending.put(&directory("a"), Waiting::Directory);
        pending.cancel(&directory("a.x").key);
        let shown = |records: Vec<Record>| -> Vec<String> {
            let read = |record: Record| record.read().expect("a record");
            let records = records.into_iter().map(read);
            records
                .map(|(key, attributes)| {
                    assert_eq!(attributes, directory("a").attributes);
                    key.display()
                })
                .collect()
        };
        assert_eq!(shown(pending.take_links()), ["a/c", "b"]);
        assert_eq!(shown(pending.take_directories()), ["a"]);
        assert!(pending.take_links().is_empty() && pending.take_directories().is_empty());
    }

    #[test]
    fn a_bystander_gives_way_to_a_step_and_keeps_its_first_time() {
        let mut pending = Pending::default();
        let item = directory("a");
        let at = |time| Attributes::builder().signed(AttributeTag::MODIFIED_NS, time).build();
        pending.put_bystander(&item.key, &at(5));
        pending.put_bystander(&item.key, &at(6));
        assert_eq!(pending.get(&item.key), Some(Waiting::Bystander));
        let time = pending.take_directories().remove(0).read().expect("a record").1;
        assert_eq!(time.signed(AttributeTag::MODIFIED_NS), Some(5));
        pending.put(&item, Waiting::Directory);
        pending.put_bystander(&item.key, &at(7));
        assert_eq!(pending.get(&item.key), Some(Waiting::Directory));
    }
}
