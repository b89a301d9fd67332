//! What a repository gives back, in the form in which a test holds what it expects: whole states, item
//! by item with all content.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt;
use model::{
    Error, ErrorKind, Extent, ExtentBody, Item, ItemKey, LogPayload, Position, Result, Timestamp,
};
use repository::Repository;
use repository::content::ChunkReader;
use repository::log::{LoggedRecord, LoggedTree};
use repository::point::Point;
use repository::snapshot::Snapshot;
use repository::tree::Tree;
use repository::types::{Record, StoredBody, StoredExtent};
use testkit::scripted::Shape;
use testkit::{Observed, ObservedItem, ScriptedSystem};

/// How much decoded content is kept while a state is read.
const READER_MEMORY_BYTES: usize = 8 << 20;

/// Returns what a scripted system holds.
pub fn state_of(system: &ScriptedSystem) -> Observed {
    let with_content = |(key, item): (ItemKey, Item)| {
        let content = system.content_of(&key);
        (key, ObservedItem { item, content })
    };
    system.items().into_iter().map(with_content).collect()
}

/// Reads a snapshot with all its content.
///
/// # Errors
/// Those of the repository.
pub async fn read_snapshot(repository: &Repository, snapshot: &Snapshot) -> Result<Observed> {
    let tree = repository.tree(snapshot)?;
    read_tree(&tree, &reader(repository, snapshot)?).await
}

/// Returns what reads the content of a snapshot.
///
/// # Errors
/// `Invalid` where its key domain has no sound name.
pub fn reader(repository: &Repository, snapshot: &Snapshot) -> Result<ChunkReader> {
    let keys = repository.domain(&snapshot.domain)?;
    Ok(ChunkReader::new(repository, &keys, READER_MEMORY_BYTES))
}

async fn read_tree(tree: &Tree, reader: &ChunkReader) -> Result<Observed> {
    let mut state = Observed::new();
    let mut batches = tree.range(..);
    while let Some(batch) = batches.try_next().await? {
        for (key, record) in batch {
            let content = read_content(reader, &record).await?;
            state.insert(key.clone(), ObservedItem { item: item_of(key, &record), content });
        }
    }
    Ok(state)
}

/// Reads the whole content of a stored item, holes as zero bytes.
///
/// # Errors
/// Those of the repository; `Corrupt` where it is not as long as it should be.
pub async fn read_content(reader: &ChunkReader, record: &Record) -> Result<Bytes> {
    let mut content = Vec::new();
    let mut pieces = reader.content(&record.extents);
    while let Some(piece) = pieces.next().await? {
        content.extend_from_slice(&piece);
    }
    if content.len() as u64 != record.content_bytes() {
        let lengths = format!("{} of {} bytes came", content.len(), record.content_bytes());
        return Err(Error::new(ErrorKind::Corrupt, "read content", "").detail(lengths));
    }
    Ok(content.into())
}

/// Returns a stored item as its system listed it.
pub fn item_of(key: ItemKey, record: &Record) -> Item {
    let Record { kind, attributes, version, extents } = record;
    Item {
        key,
        kind: *kind,
        attributes: attributes.clone(),
        version: version.clone(),
        extents: extents.iter().map(extent_of).collect(),
    }
}

fn extent_of(stored: &StoredExtent) -> Extent {
    let body = match &stored.body {
        StoredBody::Hole => ExtentBody::Hole,
        StoredBody::Data { identity, checksums, .. } => {
            ExtentBody::Data { identity: identity.clone(), checksums: checksums.clone() }
        }
    };
    Extent { length_bytes: stored.length_bytes, body }
}

/// Reads the state at a time between two snapshots, with all its content, and where it stands.
///
/// # Errors
/// Those of the repository.
pub async fn read_logged(
    repository: &Repository,
    base: &Snapshot,
    upto: Timestamp,
    context: &model::Context,
) -> Result<(Position, Observed)> {
    let logged = LoggedTree::open(repository, base, upto, context).await?;
    let reader = reader(repository, base)?;
    let mut state = Observed::new();
    let mut batches = logged.records();
    while let Some(batch) = batches.try_next().await? {
        for (key, record) in batch {
            let observed = match record {
                LoggedRecord::Stored(record) => {
                    let content = read_content(&reader, &record).await?;
                    ObservedItem { item: item_of(key.clone(), &record), content }
                }
                LoggedRecord::Logged(item, extents) => {
                    let content = join_extents(&item, &extents);
                    ObservedItem { item: Item { key: key.clone(), ..*item }, content }
                }
            };
            state.insert(key, observed);
        }
    }
    Ok((logged.stands_at().1.clone(), state))
}

/// Joins the contents of data extents, holes as zero bytes.
fn join_extents(item: &Item, data: &[Bytes]) -> Bytes {
    let mut data = data.iter();
    let mut content = Vec::new();
    for extent in &item.extents {
        match extent.body {
            ExtentBody::Hole => {
                let length = usize::try_from(extent.length_bytes).unwrap_or(usize::MAX);
                content.resize(content.len().saturating_add(length), 0);
            }
            ExtentBody::Data { .. } => content.extend_from_slice(data.next().map_or(&[], |b| b)),
        }
    }
    content.into()
}

/// Says where two states differ; none where they are equal.
pub fn difference(found: &Observed, expected: &Observed) -> Option<String> {
    let keys = found.keys().chain(expected.keys());
    keys.map(|key| (key, found.get(key), expected.get(key))).find_map(|(key, found, expected)| {
        match (found, expected) {
            (Some(found), Some(expected)) if found.item != expected.item => {
                Some(format!("{key:?} is {:?} instead of {:?}", found.item, expected.item))
            }
            (Some(found), Some(expected)) if found.content != expected.content => {
                Some(format!("{key:?} has another content"))
            }
            (Some(_), Some(_)) | (None, None) => None,
            (Some(_), None) => Some(format!("{key:?} should not be there")),
            (None, Some(_)) => Some(format!("{key:?} is missing")),
        }
    })
}

/// Describes all of a snapshot that does not depend on when it is looked at.
pub fn describe_snapshot(snapshot: &Snapshot) -> String {
    let Snapshot { id, writer, kind, domain, host, parent, capture_number, is_checkpoint, .. } =
        snapshot;
    let Snapshot { root, position, cut_from, cut_to, source_time, extent_epoch, .. } = snapshot;
    let node = root.node.as_ref().map(|(id, _)| id);
    format!(
        "{id} by {writer} {kind} {domain} {host} over {parent:?} #{capture_number} \
         checkpoint={is_checkpoint} root={node:?}/{} {:?} at {position:?} {cut_from:?}-{cut_to:?} \
         source={source_time:?} {extent_epoch:?} {:?} problems={}",
        root.height, root.totals, snapshot.proof, snapshot.problems,
    )
}

/// Describes all of a point that does not depend on when it is looked at.
pub fn describe_point(point: &Point) -> String {
    let Point { id, writer, cut_from, cut_to, sealed, entries, lacks, checks, .. } = point;
    format!(
        "{id:?} by {writer} {cut_from:?}-{cut_to:?} sealed {sealed:?} {entries:?} \
         lacks {lacks:?} checks {checks:?}"
    )
}

/// Returns a short digest of a description.
pub fn digest(description: &str) -> String {
    blake3::hash(description.as_bytes()).to_hex().chars().take(16).collect()
}

/// Creates an empty scripted system whose changes can be listed and followed.
pub fn followed_system(shape: Shape) -> ScriptedSystem {
    ScriptedSystem::new("").with_shape(shape).with_log(LogPayload::Changes)
}

/// Returns the revision of a scripted system that a position names.
pub fn revision_of(position: &Position) -> Option<u64> {
    position.0.as_ref().try_into().ok().map(u64::from_be_bytes)
}

/// States of a scripted system by revision, each computed once.
#[derive(Debug)]
pub struct States {
    /// One change per line.
    lines: Vec<String>,
    known: BTreeMap<u64, Observed>,
}

impl States {
    /// Remembers a script; its first line makes revision 1.
    pub fn new(lines: Vec<String>) -> Self {
        Self { lines, known: BTreeMap::new() }
    }

    /// Returns the state at a position; none where the script never stood there.
    pub fn at(&mut self, position: &Position) -> Option<&Observed> {
        let revision = revision_of(position)?;
        let lines = self.lines.get(..usize::try_from(revision).ok()?)?;
        let compute = || {
            let system = ScriptedSystem::new("");
            lines.iter().for_each(|line| system.edit(line));
            state_of(&system)
        };
        Some(self.known.entry(revision).or_insert_with(compute))
    }
}
