//! A session's tree nodes: compressed and sealed one by one, stored unless they are known.
//!
//! A node is known where this session has stored it, where the parent has it (it was read there; where
//! anything is condemned, it was then found in the index as well), or where the index knows it, if
//! content had to be looked up there already. The index is not opened for nodes alone: they are small, and looking for them would cost
//! more than storing them twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use model::{Error, ErrorKind, Result};

use super::read::NodeReader;
use super::shelf::Shared;
use crate::content::ContentWriter;
use crate::pack::{BlockCipher, BlockEntry, EntryKind, PackBuilder, seal_block};
use crate::tree::{NODE_BYTES_MAX, ReadNodes, StoreNodes};
use crate::types::{Location, NodeId, PackKind, PackName, PendingPack, Place};

/// Packs of nodes are closed at this size, in bytes.
const PACK_BYTES: usize = 8 << 20;

/// Where a session's nodes go and come from. Cheap to clone.
#[derive(Clone)]
pub struct Nodes(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    writer: ContentWriter,
    reader: NodeReader,
    cipher: BlockCipher,
    salt: [u8; 32],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<(PackBuilder, Arc<PendingPack>)>,
    /// What this session has stored or found.
    places: HashMap<NodeId, Place>,
    /// What it read in the parent.
    read: HashMap<NodeId, Location>,
}

impl Nodes {
    pub(super) fn new(shared: &Arc<Shared>, writer: &ContentWriter, salt: [u8; 32]) -> Self {
        let (repository, keys) = (&shared.repository, &shared.keys);
        Self(Arc::new(Inner {
            shared: shared.clone(),
            writer: writer.clone(),
            reader: NodeReader::with_index(repository, keys, shared.index.clone()),
            cipher: BlockCipher::new(PackKind::Meta, repository.id(), keys),
            salt,
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the open pack, so that its nodes have their places.
    fn close(&self) -> Result<()> {
        let open = self.state().open.take();
        open.map_or(Ok(()), |open| self.put(open))
    }

    fn put(&self, (builder, pending): (PackBuilder, Arc<PendingPack>)) -> Result<()> {
        let pack = builder.finish()?;
        pending.resolve(pack.name);
        self.0.shared.put_nodes(pack)
    }

    /// Finds a node that need not be stored.
    fn known(&self, state: &mut State, id: &NodeId) -> Option<Place> {
        if let Some(place) = state.places.get(id) {
            return Some(place.clone());
        }
        let read = state.read.get(id).copied();
        let place = Place::Known(read.or_else(|| self.0.shared.resolve_node(id))?);
        state.places.insert(*id, place.clone());
        Some(place)
    }
}

#[async_trait]
impl StoreNodes for Nodes {
    fn store_node(&self, id: NodeId, plaintext: Vec<u8>) -> Result<Place> {
        self.0.shared.check()?;
        let mut state = self.state();
        if let Some(place) = self.known(&mut state, &id) {
            return Ok(place);
        }
        if plaintext.len() > NODE_BYTES_MAX {
            return Err(Error::new(ErrorKind::Unsupported, "store tree node", id.to_string())
                .detail("an item in it has more chunks than a node holds"));
        }
        let length = plaintext.len() as u32;
        let (kind, bases) = (EntryKind::Node, Vec::new());
        let entries = vec![BlockEntry { id: id.0, kind, offset: 0, length, bases }];
        let block = seal_block(&self.0.cipher, &self.0.salt, &plaintext, entries)?;
        let is_too_much = |(builder, _): &(PackBuilder, _)| {
            builder.len_bytes() + block.bytes.len() > 2 * PACK_BYTES
        };
        let mut full = state.open.take_if(|open| is_too_much(open));
        let shared = &self.0.shared;
        let (builder, pending) = state.open.get_or_insert_with(|| {
            let entropy = shared.context.entropy.as_ref();
            let repository = &shared.repository;
            let builder = PackBuilder::new(PackKind::Meta, repository.id(), &shared.keys, entropy);
            (builder.with_parity(repository.has_parity()), Arc::default())
        });
        let (block_offset, block_length) = builder.push(block)?;
        let pack = PackName([0; 32]);
        let location = Location { pack, block_offset, block_length, offset_in_block: 0, length };
        let place = Place::Pending { location, pack: pending.clone() };
        let is_full = builder.len_bytes() >= PACK_BYTES;
        state.places.insert(id, place.clone());
        let now_full = if is_full { state.open.take() } else { None };
        drop(state);
        self.0.reader.remember(id, &Bytes::from(plaintext));
        for pack in full.take().into_iter().chain(now_full) {
            self.put(pack)?;
        }
        Ok(place)
    }

    async fn flush(&self) -> Result<()> {
        // Content first: nodes that wait for its packs have their places then.
        let writer = self.0.writer.clone();
        tokio::task::spawn_blocking(move || writer.flush()).await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Internal, "flush content", "").because(error))
        })?;
        self.close()
    }
}

#[async_trait]
impl ReadNodes for Nodes {
    async fn read_node(&self, id: NodeId, place: &Place) -> Result<Bytes> {
        let is_own = self.state().places.contains_key(&id);
        let node = match self.0.reader.read_node(id, place).await {
            // Its pack may still be on its way.
            Err(_) if is_own => {
                self.0.shared.settle().await?;
                self.0.reader.read_node(id, place).await?
            }
            node => node?,
        };
        if is_own {
            return Ok(node);
        }
        // A hint says that the parent has the node, not where: that may be in a pack that is condemned.
        let shared = &self.0.shared;
        let location = if shared.condemned.is_empty() {
            place.location()
        } else {
            shared.find_node_again(&id).await?
        };
        self.state().read.extend(location.map(|location| (id, location)));
        Ok(node)
    }
}
