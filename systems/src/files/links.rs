//! Hard links: of several names of a file the first in key order is the file, the others name it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use model::{Item, ItemKey, ItemKind};

use super::attributes::link_to;
use super::directory::LinkId;

/// An item of a walk.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) item: Item,
    /// What it would be if it had no other name; none where it has none.
    pub(super) file: Option<Item>,
}

impl From<Item> for Found {
    fn from(item: Item) -> Self {
        Self { item, file: None }
    }
}

/// The files with several names whose last name is still to come.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<LinkId, First>);

#[derive(Debug)]
struct First {
    key: ItemKey,
    names_to_come: u32,
}

impl Links {
    /// Makes a further name of what is the file under its first name. Names come in key order.
    pub(super) fn resolve(&mut self, item: Item, link: Option<LinkId>) -> Found {
        let Some(link) = link else { return item.into() };
        let key = match self.0.entry(link) {
            Slot::Vacant(slot) => {
                let names_to_come = link.names.saturating_sub(1);
                slot.insert(First { key: item.key.clone(), names_to_come });
                return Found { file: Some(item.clone()), item };
            }
            Slot::Occupied(mut slot) => {
                let first = slot.get_mut();
                first.names_to_come = first.names_to_come.saturating_sub(1);
                let key = first.key.clone();
                if first.names_to_come == 0 {
                    slot.remove();
                }
                key
            }
        };
        let (kind, attributes) = (ItemKind::Hardlink, link_to(&key));
        let further =
            Item { key: item.key.clone(), kind, attributes, version: None, extents: Vec::new() };
        Found { item: further, file: Some(item) }
    }
}
