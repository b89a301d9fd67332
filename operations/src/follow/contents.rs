//! Reads what upserted items hold, to be stored beside the changes.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use model::{
    Change, Content, Context, Counter, Error, ErrorKind, Extent, ExtentBody, Item, ItemKey,
    Recheck, Result,
};

use crate::capture::{marked, unsteady};

/// How often an item is read in all before its last reading is stored as it is.
const READINGS_MAX: u32 = 4;

/// Changes with what their data extents hold.
pub(super) type Told = (Vec<Change>, Vec<Vec<Bytes>>);

/// Items that were told of and were gone before they could be read. As long as such an item is not told
/// of again, a move of it cannot be replayed.
#[derive(Debug, Default)]
pub(super) struct Missed(BTreeSet<ItemKey>);

impl Missed {
    /// Says whether a change can be replayed without what was missed, and remembers what it settles.
    fn admits(&mut self, change: &Change) -> bool {
        match change {
            Change::Upsert(item) => {
                self.0.remove(&item.key);
                true
            }
            Change::Delete(key) => {
                self.0.retain(|missed| !missed.is_within(key));
                true
            }
            Change::Move { from, to } => {
                self.0.retain(|missed| missed.is_within(from) || !missed.is_within(to));
                !self.0.iter().any(|missed| missed.is_within(from))
            }
        }
    }
}

/// Returns how many bytes of content the changes bring.
pub(super) fn content_bytes(changes: &[Change]) -> u64 {
    let data = |extent: &Extent| match extent.body {
        ExtentBody::Hole => 0,
        ExtentBody::Data { .. } => extent.length_bytes,
    };
    changes.iter().fold(0, |sum: u64, change| match change {
        Change::Upsert(item) => item.extents.iter().map(data).fold(sum, u64::saturating_add),
        Change::Delete(_) | Change::Move { .. } => sum,
    })
}

/// Reads the contents of upserted items; none where the changes cannot be stored so and a new cut is
/// needed. Poll it where it may block.
///
/// An item that is gone by now is left out: a later change tells of it. One that cannot be read is left
/// out too, and reported: the state before stands until it is told of again.
pub(super) async fn read(
    source: &dyn Content,
    changes: Vec<Change>,
    missed: &mut Missed,
    context: &Context,
) -> Result<Option<Told>> {
    let (mut told, mut contents) = (Vec::with_capacity(changes.len()), Vec::new());
    for change in changes {
        context.check("read changed items")?;
        if !missed.admits(&change) {
            return Ok(None);
        }
        let item = match change {
            Change::Upsert(item) => item,
            other => {
                told.push(other);
                contents.push(Vec::new());
                continue;
            }
        };
        let key = item.key.clone();
        match read_item(source, item, context).await {
            Ok(Some((item, bytes))) => {
                told.push(Change::Upsert(item));
                contents.push(bytes);
            }
            Ok(None) => {
                missed.0.insert(key);
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                context.monitor.problem(&error);
                missed.0.insert(key);
            }
        }
    }
    Ok(Some((told, contents)))
}

/// Reads an item until it comes to rest; none where it is gone.
async fn read_item(
    source: &dyn Content,
    mut item: Item,
    context: &Context,
) -> Result<Option<(Item, Vec<Bytes>)>> {
    if content_bytes(&[Change::Upsert(item.clone())]) == 0 {
        let contents = item.extents.iter().filter(|extent| is_data(extent)).map(|_| Bytes::new());
        let contents = contents.collect();
        return Ok(Some((item, contents)));
    }
    for reading in 1..=READINGS_MAX {
        let read = match read_extents(source, &item).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        context.monitor.count(Counter::ReadBytes, read.iter().map(|b| b.len() as u64).sum());
        match source.recheck(&item).await? {
            Recheck::Gone => return Ok(None),
            Recheck::Same => {
                if !fits(&item, &read) {
                    let error =
                        Error::new(ErrorKind::Unavailable, "read content", item.key.display());
                    return Err(error.detail("its source gave less than it listed"));
                }
                return Ok(Some((item, read)));
            }
            Recheck::Changed(_) if reading == READINGS_MAX => {
                context.monitor.problem(&unsteady(&item));
                return Ok(Some((last_reading(item, &read), read)));
            }
            Recheck::Changed(now) => item = Item { key: item.key, ..*now },
        }
    }
    Err(Error::new(ErrorKind::Internal, "read content", item.key.display()))
}

fn is_data(extent: &Extent) -> bool {
    matches!(extent.body, ExtentBody::Data { .. })
}

async fn read_extents(source: &dyn Content, item: &Item) -> Result<Vec<Bytes>> {
    let mut contents = Vec::new();
    for (index, extent) in item.extents.iter().enumerate().filter(|(_, extent)| is_data(extent)) {
        let mut bytes = BytesMut::new();
        if extent.length_bytes > 0 {
            let mut reader = source.open(item, index, 0..extent.length_bytes).await?;
            while let Some(piece) = reader.next().await? {
                bytes.extend_from_slice(&piece);
                if bytes.len() as u64 > extent.length_bytes {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        "read content",
                        item.key.display(),
                    )
                    .detail("its source gave more than was asked for"));
                }
            }
        }
        contents.push(bytes.freeze());
    }
    Ok(contents)
}

fn fits(item: &Item, contents: &[Bytes]) -> bool {
    let data = item.extents.iter().filter(|extent| is_data(extent));
    data.map(|extent| extent.length_bytes).eq(contents.iter().map(|bytes| bytes.len() as u64))
}

/// Marks an item that did not come to rest: no version and no names, so that nobody believes them.
fn last_reading(item: Item, contents: &[Bytes]) -> Item {
    let mut lengths = contents.iter().map(|bytes| bytes.len() as u64);
    let extents = item.extents.into_iter().map(|extent| match extent.body {
        ExtentBody::Hole => extent,
        ExtentBody::Data { .. } => Extent::data(lengths.next().unwrap_or_default()),
    });
    let extents = extents.collect();
    Item { attributes: marked(&item.attributes), version: None, extents, ..item }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::scripted::{item_named, key};

    #[test]
    fn a_move_of_what_was_missed_cannot_be_replayed() {
        let move_of = |from, to| Change::Move { from: key(from), to: key(to) };
        for (settled, moved, expected) in [
            (None, move_of("d", "e"), false),
            (None, move_of("d/f", "e"), false),
            (None, move_of("x", "y"), true),
            // What is moved over it replaces it.
            (Some(move_of("x", "d")), move_of("d", "e"), true),
            (Some(Change::Delete(key("d"))), move_of("d", "e"), true),
            (Some(Change::Upsert(item_named("d/f"))), move_of("d", "e"), true),
            (Some(Change::Upsert(item_named("d"))), move_of("d", "e"), false),
        ] {
            let mut missed = Missed::default();
            missed.0.insert(key("d/f"));
            if let Some(settled) = &settled {
                assert!(missed.admits(settled));
            }
            assert_eq!(missed.admits(&moved), expected, "{settled:?} {moved:?}");
        }
    }
}
