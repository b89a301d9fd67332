//! Walking what is needed: every distinct node once per collection, every chunk that it names noted.
//!
//! What is noted is sorted outside of memory; a node is remembered by its id. Where a node cannot be
//! read the collection ends: nobody knows what is below it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{FuturesUnordered, StreamExt as _};
use model::{Context, Error, ErrorKind, Result};

use super::roots::LiveTree;
use crate::Repository;
use crate::crypto::DomainKeys;
use crate::index::segment::{Prefix, prefix};
use crate::session::NodeReader;
use crate::sort::FixedSorter;
use crate::tree::{Child, HEIGHT_MAX, Node, ReadNodes as _, decode_node, split_parts};
use crate::types::{NodeId, PackKind, PackName, Place, StoredChunk};

/// Nodes that are read at the same time.
const READS_MAX: usize = 16;
/// A reference: prefix of the id, kind of pack, whether it has to be there in full, number of the pack
/// that it is said to lie in.
const REFERENCE_BYTES: usize = 16 + 1 + 1 + 4;
/// What stands for the number of a pack where none is known.
const NO_PACK: u32 = u32::MAX;

/// Something that a snapshot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) prefix: Prefix,
    pub(super) kind: PackKind,
    /// A delta is decoded against it.
    pub(super) is_full: bool,
    /// The number of the pack that a manifest says it lies in.
    pub(super) hint: Option<u32>,
}

impl Reference {
    pub(super) fn encode(&self) -> [u8; REFERENCE_BYTES] {
        let mut bytes = [0; REFERENCE_BYTES];
        let hint = self.hint.unwrap_or(NO_PACK).to_be_bytes();
        let flags = [u8::from(self.kind == PackKind::Meta), u8::from(self.is_full)];
        let all = self.prefix.iter().chain(&flags).chain(&hint);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; REFERENCE_BYTES]) -> Self {
        let mut prefix = Prefix::default();
        prefix.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let [.., kind, full, a, b, c, d] = *bytes;
        let hint = u32::from_be_bytes([a, b, c, d]);
        let kind = if kind == 0 { PackKind::Data } else { PackKind::Meta };
        Self { prefix, kind, is_full: full != 0, hint: (hint != NO_PACK).then_some(hint) }
    }
}

/// References in order, each once.
pub(super) type References = FixedSorter<REFERENCE_BYTES>;

/// What was walked so far in one collection.
pub(super) struct Walk {
    repository: Repository,
    context: Context,
    noted: Arc<Mutex<Noted>>,
    visited: HashSet<(usize, NodeId)>,
    domains: Vec<(String, DomainKeys, NodeReader)>,
    trees: u64,
}

/// What was noted, shared with the threads that decode.
pub(super) struct Noted {
    pub(super) references: References,
    /// The packs that hints speak of, by number.
    pub(super) hinted: Vec<PackName>,
    numbers: HashMap<PackName, u32>,
}

impl Noted {
    fn number(&mut self, pack: PackName) -> u32 {
        *self.numbers.entry(pack).or_insert_with(|| {
            self.hinted.push(pack);
            (self.hinted.len() - 1) as u32
        })
    }

    fn node(&mut self, id: &NodeId, place: &Place) -> Result<()> {
        let hint = place.location().map(|location| self.number(location.pack));
        let reference =
            Reference { prefix: prefix(&id.0), kind: PackKind::Meta, is_full: false, hint };
        self.references.push(reference.encode())
    }

    fn chunk(&mut self, chunk: &StoredChunk, is_full: bool) -> Result<()> {
        let hint = chunk.place.location().map(|location| self.number(location.pack));
        let reference =
            Reference { prefix: prefix(&chunk.id.0), kind: PackKind::Data, is_full, hint };
        self.references.push(reference.encode())?;
        chunk.bases.iter().try_for_each(|base| self.chunk(base, true))
    }
}

/// A node that is to be read: in which domain, and what is said of it.
type Pending = (usize, Child);

impl Walk {
    /// Begins; what does not fit into `memory_bytes` goes to a nameless file in `folder`.
    pub(super) fn new(
        repository: &Repository,
        memory_bytes: usize,
        folder: &Path,
        context: &Context,
    ) -> Self {
        let references = FixedSorter::new(memory_bytes, folder, context);
        let noted = Noted { references, hinted: Vec::new(), numbers: HashMap::new() };
        Self {
            repository: repository.clone(),
            context: context.clone(),
            noted: Arc::new(Mutex::new(noted)),
            visited: HashSet::new(),
            domains: Vec::new(),
            trees: 0,
        }
    }

    /// Returns how many nodes were read.
    pub(super) fn nodes(&self) -> u64 {
        self.visited.len() as u64
    }

    /// Returns how many trees were walked.
    pub(super) fn trees(&self) -> u64 {
        self.trees
    }

    /// Returns what was noted, to be read where it may block.
    pub(super) fn noted(&self) -> Arc<Mutex<Noted>> {
        self.noted.clone()
    }

    /// Walks a tree; what was met before is not read again.
    pub(super) async fn add(&mut self, tree: &LiveTree) -> Result<()> {
        let walked = self.walk(tree).await;
        if walked.is_err() {
            // Of what was met, some was not read. Another tree that shares it has to read it.
            self.visited.clear();
        }
        walked
    }

    async fn walk(&mut self, tree: &LiveTree) -> Result<()> {
        self.trees += 1;
        let domain = self.domain(&tree.domain)?;
        let Some(root) = root_child(tree)? else { return Ok(()) };
        let mut pending: Vec<Pending> = Vec::new();
        self.meet(domain, vec![root], &mut pending)?;
        let mut reads = FuturesUnordered::new();
        loop {
            while reads.len() < READS_MAX
                && let Some((domain, child)) = pending.pop()
            {
                let (_, keys, nodes) = self.domains.get(domain).ok_or_else(fault)?;
                reads.push(read(keys.clone(), nodes.clone(), self.noted.clone(), domain, child));
            }
            let Some(read) = reads.next().await else { return Ok(()) };
            self.context.check("collect garbage")?;
            let (domain, children) = read.map_err(|error| {
                Error::new(error.kind(), "collect garbage", tree.id.to_string())
                    .detail("what this snapshot needs cannot be told; repair it, or forget it")
                    .because(error)
            })?;
            self.meet(domain, children, &mut pending)?;
        }
    }

    fn domain(&mut self, name: &str) -> Result<usize> {
        if let Some(number) = self.domains.iter().position(|(known, _, _)| known == name) {
            return Ok(number);
        }
        let keys = self.repository.domain(name)?;
        let nodes = NodeReader::new(&self.repository, &keys);
        self.domains.push((name.to_owned(), keys, nodes));
        Ok(self.domains.len() - 1)
    }

    /// Notes nodes, and puts those aside that are new.
    fn meet(
        &mut self,
        domain: usize,
        children: Vec<Child>,
        pending: &mut Vec<Pending>,
    ) -> Result<()> {
        let mut noted = lock(&self.noted);
        for child in children.into_iter().rev() {
            if self.visited.insert((domain, child.id)) {
                noted.node(&child.id, &child.place)?;
                pending.push((domain, child));
            }
        }
        Ok(())
    }
}

pub(super) fn lock(noted: &Mutex<Noted>) -> MutexGuard<'_, Noted> {
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a node; notes the chunks of a leaf, returns the children of another.
async fn read(
    keys: DomainKeys,
    nodes: NodeReader,
    noted: Arc<Mutex<Noted>>,
    domain: usize,
    child: Child,
) -> Result<(usize, Vec<Child>)> {
    let plaintext = nodes.read_node(child.id, &child.place).await?;
    let decode = move || {
        let corrupt = || Error::new(ErrorKind::Corrupt, "read tree node", child.id.to_string());
        let (logical, hints) = split_parts(&plaintext).ok_or_else(corrupt)?;
        if keys.node_id(&logical) != child.id {
            return Err(corrupt());
        }
        match decode_node(&logical, &hints, &child)? {
            Node::Interior(children) => Ok((domain, children)),
            Node::Leaf(items) => {
                let mut noted = lock(&noted);
                for chunk in items.iter().flat_map(|(_, record)| record.chunks()) {
                    noted.chunk(chunk, false)?;
                }
                Ok((domain, Vec::new()))
            }
        }
    };
    tokio::task::spawn_blocking(decode).await.unwrap_or_else(|_| Err(fault()))
}

/// The root as if a parent told of it; none for an empty tree.
fn root_child(tree: &LiveTree) -> Result<Option<Child>> {
    let Some((id, place)) = tree.root.node.clone() else { return Ok(None) };
    let height = tree.root.height;
    let level = height.checked_sub(1).filter(|_| height <= HEIGHT_MAX).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "read tree", id.to_string())
            .detail("higher than a tree may be")
    })?;
    let totals = tree.root.totals;
    let (after, last, is_rightmost) = (None, None, true);
    Ok(Some(Child { id, place, level, after, last, totals, is_rightmost }))
}

fn fault() -> Error {
    Error::new(ErrorKind::Internal, "collect garbage", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_back() {
        for kind in [PackKind::Data, PackKind::Meta] {
            for (is_full, hint) in [(false, None), (true, Some(0)), (false, Some(7))] {
                let reference = Reference { prefix: [9; 16], kind, is_full, hint };
                assert_eq!(Reference::decode(&reference.encode()), reference);
            }
        }
    }
}
