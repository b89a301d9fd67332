//! What a scripted system holds, and its history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use model::{
    Attributes, Change, Claim, Error, ErrorKind, Extent, ExtentBody, ExtentIdentity, Item, ItemKey,
    ItemKind, Position, Proof, Result, Timestamp, Version,
};

use super::Call;
use super::notation::{Line, parse_line};
use crate::ManualClock;
use crate::crc32c::stripe_checksums;
use crate::reference::apply_change;

/// An item with its bytes.
#[derive(Debug, Clone)]
pub(super) struct ScriptedItem {
    pub(super) kind: ItemKind,
    pub(super) attributes: Attributes,
    pub(super) extents: Vec<ScriptedExtent>,
    /// The revision that wrote it, as a mzxid is; a move keeps it.
    pub(super) version: u64,
}

#[derive(Debug, Clone)]
pub(super) enum ScriptedExtent {
    Hole(u64),
    Data { bytes: Bytes, identity: Option<ExtentIdentity>, stripe_bytes: Option<u32> },
}

impl ScriptedItem {
    pub(super) fn new(
        kind: ItemKind,
        attributes: Attributes,
        extents: Vec<ScriptedExtent>,
    ) -> Self {
        Self { kind, attributes, extents, version: 0 }
    }

    pub(super) fn to_item(&self, key: &ItemKey) -> Item {
        Item {
            key: key.clone(),
            kind: self.kind,
            attributes: self.attributes.clone(),
            version: Some(Version(Bytes::copy_from_slice(&self.version.to_be_bytes()))),
            extents: self.extents.iter().map(ScriptedExtent::to_extent).collect(),
        }
    }

    /// Returns the whole content, holes as zero bytes.
    pub(super) fn content(&self) -> Bytes {
        let mut content = Vec::new();
        for extent in &self.extents {
            match extent {
                ScriptedExtent::Hole(length) => content.resize(content.len() + *length as usize, 0),
                ScriptedExtent::Data { bytes, .. } => content.extend_from_slice(bytes),
            }
        }
        content.into()
    }

    /// Flips every bit from the middle of each data extent on.
    pub(super) fn disturb(&mut self) {
        for extent in &mut self.extents {
            if let ScriptedExtent::Data { bytes, .. } = extent {
                *bytes = disturbed(bytes, bytes.len() / 2);
            }
        }
    }
}

/// Returns bytes that differ from an offset on.
pub(super) fn disturbed(bytes: &[u8], from: usize) -> Bytes {
    bytes.iter().enumerate().map(|(i, byte)| if i < from { *byte } else { !byte }).collect()
}

impl ScriptedExtent {
    fn to_extent(&self) -> Extent {
        match self {
            Self::Hole(length) => Extent::hole(*length),
            Self::Data { bytes, identity, stripe_bytes } => Extent {
                length_bytes: bytes.len() as u64,
                body: ExtentBody::Data {
                    identity: identity.clone(),
                    checksums: stripe_bytes.map(|stripe| stripe_checksums(bytes, stripe)),
                },
            },
        }
    }
}

/// One line of the script as it took effect.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) revision: u64,
    pub(super) at: Timestamp,
    pub(super) line: String,
}

pub(super) type Items = BTreeMap<ItemKey, ScriptedItem>;

/// The live system.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) items: Items,
    pub(super) history: Vec<Event>,
    /// The oldest position that history reaches back to.
    pub(super) history_from: u64,
    pub(super) revision: u64,
    /// How many more times an item changes while it is read.
    pub(super) unsteady: BTreeMap<ItemKey, u32>,
    pub(super) vanished: BTreeSet<ItemKey>,
    failures: Vec<(Call, u64, ErrorKind)>,
    pub(super) opened_bytes: BTreeMap<ItemKey, u64>,
    pub(super) cuts_held: usize,
    pub(super) acknowledged: u64,
}

impl State {
    /// Lets one line take effect.
    pub(super) fn run(&mut self, line: &str) {
        self.revision += 1;
        let (revision, at) = (self.revision, time_of(self.revision));
        let event = Event { revision, at, line: line.to_owned() };
        play(&mut self.items, &event);
        self.history.push(event);
    }

    pub(super) fn fail_nth(&mut self, call: Call, nth: u64, kind: ErrorKind) {
        self.failures.push((call, nth, kind));
    }

    /// Counts a call and fails it where the script says so.
    pub(super) fn enter(&mut self, call: Call, subject: &str) -> Result<()> {
        let mut failed = None;
        for (planned, left, kind) in &mut self.failures {
            if *planned == call && *left > 0 {
                *left -= 1;
                failed = failed.or((*left == 0).then_some(*kind));
            }
        }
        match failed {
            Some(kind) => Err(Error::new(kind, call.action(), subject).detail("as scripted")),
            None => Ok(()),
        }
    }

    /// Lists what changed after a position; none where history does not reach back to it.
    pub(super) fn changes_since(&self, since: u64) -> Option<Vec<(Event, Change)>> {
        if since < self.history_from || since > self.revision {
            return None;
        }
        let events = self.history.iter().filter(|event| event.revision > since);
        Some(events.map(|event| (event.clone(), change_of(event).0)).collect())
    }
}

/// Returns the change that an event is, and the item that it wrote.
pub(super) fn change_of(event: &Event) -> (Change, Option<ScriptedItem>) {
    match parse_line(&event.line) {
        Line::Put(key, mut item) => {
            item.version = event.revision;
            (Change::Upsert(item.to_item(&key)), Some(item))
        }
        Line::Delete(key) => (Change::Delete(key), None),
        Line::Move(from, to) => (Change::Move { from, to }, None),
    }
}

/// Lets an event take effect on items.
pub(super) fn play(items: &mut Items, event: &Event) {
    match change_of(event) {
        (Change::Upsert(upserted), Some(item)) => {
            items.insert(upserted.key, item);
        }
        (change, _) => {
            let bare =
                |item: &Item| ScriptedItem::new(item.kind, item.attributes.clone(), Vec::new());
            apply_change(items, &change, bare, |_, _| ());
        }
    }
}

/// The source's time of a revision: one second each.
pub(super) fn time_of(revision: u64) -> Timestamp {
    ManualClock::START.saturating_add(Duration::from_secs(revision))
}

pub(super) fn position_of(revision: u64) -> Position {
    Position(Bytes::copy_from_slice(&revision.to_be_bytes()))
}

pub(super) fn revision_of(position: &Position) -> Result<u64> {
    let bytes = position.0.as_ref().try_into().map_err(|_| {
        Error::new(ErrorKind::Invalid, "read position", position.0.escape_ascii().to_string())
    })?;
    Ok(u64::from_be_bytes(bytes))
}

/// Digests what items are, as a server's own tree digest does: content is not part of it.
pub(super) fn proof_of<'a>(
    method: &str,
    items: impl IntoIterator<Item = (&'a ItemKey, ItemKind, &'a Attributes)>,
) -> Proof {
    let mut digest = blake3::Hasher::new();
    for (key, kind, attributes) in items {
        for part in [key.as_bytes(), &[kind as u8], attributes.as_bytes()] {
            digest.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    let value = Bytes::copy_from_slice(digest.finalize().as_bytes());
    Proof { method: method.to_owned(), claims: vec![Claim { name: "digest".to_owned(), value }] }
}
