//! Where else a chunk may lie, when its hint was of no use.

use async_trait::async_trait;
use model::{Context, Result};
use tokio::sync::OnceCell;

use crate::Repository;
use crate::index::{Found, Index};
use crate::pack::EntryKind;
use crate::types::{ChunkId, PackKind, Place, StoredChunk};

/// Knows where chunks lie.
#[async_trait]
pub trait Locate: Send + Sync {
    /// Returns every place that the chunk is known at; bases come with theirs.
    ///
    /// # Errors
    /// Those of the store.
    async fn locate(&self, id: &ChunkId) -> Result<Vec<StoredChunk>>;
}

/// The index, which is opened when the first hint fails: reading needs none otherwise.
pub struct IndexLocate {
    repository: Repository,
    domain: String,
    context: Context,
    index: OnceCell<Index>,
}

impl IndexLocate {
    /// Begins, without opening anything.
    pub fn new(repository: &Repository, domain: &str, context: &Context) -> Self {
        Self {
            repository: repository.clone(),
            domain: domain.to_owned(),
            context: context.clone(),
            index: OnceCell::new(),
        }
    }
}

#[async_trait]
impl Locate for IndexLocate {
    async fn locate(&self, id: &ChunkId) -> Result<Vec<StoredChunk>> {
        let open = || Index::open(&self.repository, &self.domain, &self.context);
        let index = self.index.get_or_try_init(open).await?;
        let found = index.find(PackKind::Data, &id.0)?;
        found.into_iter().map(|found| with_bases(index, *id, found)).collect()
    }
}

/// A base that lies nowhere makes a delta of no use: it is returned with the bases that there are, and
/// fails when it is decoded.
fn with_bases(index: &Index, id: ChunkId, found: Found) -> Result<StoredChunk> {
    let mut bases = Vec::with_capacity(found.bases.len());
    for base in &found.bases {
        let places = index.find(PackKind::Data, &base.0)?;
        let full = places.into_iter().find(|place| place.kind == EntryKind::Full);
        bases.extend(full.map(|full| StoredChunk {
            id: *base,
            length: full.location.length,
            place: Place::Known(full.location),
            bases: Vec::new(),
        }));
    }
    let place = Place::Known(found.location);
    Ok(StoredChunk { id, length: found.location.length, place, bases })
}
