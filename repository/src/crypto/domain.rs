//! The keys of one key domain.
//!
//! Systems in different domains share no chunk: neither who holds the keys of one nor who watches the
//! store learns whether another holds the same content.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Sealer, Secret};
use crate::types::{ChunkId, NodeId};

/// The domain of everything that the policy does not put elsewhere.
pub const DEFAULT_DOMAIN: &str = "";

/// All keys of one domain. Cheap to clone.
#[derive(Clone)]
pub struct DomainKeys(Arc<Keys>);

struct Keys {
    name: String,
    /// None where only trees can be read.
    chunk_id: Option<Secret>,
    node_id: Secret,
    split: Secret,
    gear_table: Zeroizing<[u64; 256]>,
    data: Sealer,
    manifest: Sealer,
}

/// Names a chunk as [`DomainKeys::chunk_id`] does, piece by piece.
#[derive(Debug)]
pub struct ChunkHasher(Option<blake3::Hasher>);

impl ChunkHasher {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        if let Some(hasher) = &mut self.0 {
            hasher.update(piece);
        }
    }

    /// Returns the name of what came.
    pub fn finish(&self) -> ChunkId {
        let hash = self.0.as_ref().map(blake3::Hasher::finalize);
        ChunkId(hash.map_or([0; 32], |hash| *hash.as_bytes()))
    }
}

impl DomainKeys {
    /// Derives a domain's keys. `identity` is the root of the first epoch: what names and cuts content
    /// stays when keys are rotated, else nothing stored before would ever be found again.
    pub(super) fn derive(
        identity: &Secret,
        newest: (u16, &Secret),
        older: &[(u16, Secret)],
        name: &str,
    ) -> Self {
        let input = name.as_bytes();
        let cut = identity.derive("lifeboat 2026-11 cut table", input);
        Self(Arc::new(Keys {
            name: name.to_owned(),
            chunk_id: Some(identity.derive("lifeboat 2026-11 chunk id", input)),
            node_id: identity.derive("lifeboat 2026-11 node id", input),
            split: identity.derive("lifeboat 2026-11 node split", input),
            gear_table: expand_gear_table(&cut),
            data: Sealer::derive(newest, older, "lifeboat 2026-11 data seal", input),
            manifest: Sealer::derive(newest, older, "lifeboat 2026-11 manifest seal", input),
        }))
    }

    /// Puts together what a role has that reads trees and no contents. What only writers of sessions use
    /// (how content is cut, where nodes end) stays empty: no session begins without all keys.
    pub(super) fn of_trees(name: &str, node_id: Secret, manifest: Sealer) -> Self {
        Self(Arc::new(Keys {
            name: name.to_owned(),
            chunk_id: None,
            node_id,
            split: Secret::new([0; Secret::LENGTH]),
            gear_table: Zeroizing::new([0; 256]),
            data: Sealer::of_pairs([]),
            manifest,
        }))
    }

    /// Returns the domain's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Names a chunk by its content. Without the key for it no content has the id that comes out.
    pub fn chunk_id(&self, content: &[u8]) -> ChunkId {
        let Some(key) = &self.0.chunk_id else { return ChunkId([0; 32]) };
        ChunkId(*blake3::keyed_hash(key.expose(), content).as_bytes())
    }

    /// Begins to name a chunk whose content comes in pieces.
    pub fn chunk_hasher(&self) -> ChunkHasher {
        let key = self.0.chunk_id.as_ref();
        ChunkHasher(key.map(|key| blake3::Hasher::new_keyed(key.expose())))
    }

    /// Names a tree node by its logical part.
    pub fn node_id(&self, logical: &[u8]) -> NodeId {
        NodeId(*blake3::keyed_hash(self.0.node_id.expose(), logical).as_bytes())
    }

    /// Returns the secret table that content is cut with.
    pub fn gear_table(&self) -> &[u64; 256] {
        &self.0.gear_table
    }

    /// Returns the number that decides whether a tree node ends after an entry with this key.
    pub fn split_hash(&self, key: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(self.0.split.expose(), key);
        hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Returns what seals the blocks of data packs.
    pub fn data(&self) -> &Sealer {
        &self.0.data
    }

    /// Returns what seals tree nodes.
    pub fn manifest(&self) -> &Sealer {
        &self.0.manifest
    }
}

impl fmt::Debug for DomainKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DomainKeys({:?})", self.0.name)
    }
}

fn expand_gear_table(cut: &Secret) -> Zeroizing<[u64; 256]> {
    let mut bytes = Zeroizing::new([0; 256 * 8]);
    blake3::Hasher::new_keyed(cut.expose()).finalize_xof().fill(bytes.as_mut());
    let mut table = Zeroizing::new([0; 256]);
    for (entry, bytes) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *entry = u64::from_le_bytes(*bytes);
    }
    table
}
