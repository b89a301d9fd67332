//! Walking trees: every node is read, every chunk that it names is looked up among the packs.
//!
//! A node is named by what it means, so what is below it was checked when it was met before; what is
//! remembered of it is only which damage it needs. Leaves below one node are read together, higher
//! nodes one after another, so that memory holds one way from the root and a few leaves.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Error, ErrorKind, ItemKey, Result};

use super::Depth;
use super::findings::DamageNumber;
use super::objects::WantedTree;
use super::packs::Packs;
use super::run::{Domain, Run};
use crate::pack::pack_path;
use crate::tree::{Child, HEIGHT_MAX, Node, ReadNodes as _, decode_node, split_parts};
use crate::types::{Location, NodeId, PackKind, Record, Root, SessionId, StoredChunk, Totals};

/// Nodes below one parent that are read at once.
const LEAVES_AT_ONCE: usize = 16;
/// The most chunks of one record that are looked up between two looks at the token that cancels.
const CHUNKS_PER_CANCEL_CHECK: usize = 1024;

/// What a subtree needs that is damaged; mostly nothing.
type Touched = BTreeSet<DamageNumber>;

/// Nodes that were walked.
#[derive(Default)]
pub(super) struct Visited {
    sound: HashSet<NodeId>,
    touched: HashMap<NodeId, Arc<Touched>>,
}

impl Run<'_> {
    /// Walks the tree of a snapshot.
    pub(super) async fn check_tree(
        &self,
        tree: &WantedTree,
        domains: &[Domain],
        packs: &Packs,
    ) -> Result<()> {
        self.count_snapshot();
        let Some(domain) = domains.iter().find(|domain| domain.name == tree.domain) else {
            return Err(Error::new(ErrorKind::Internal, "verify snapshot", tree.id.to_string()));
        };
        let walk = Walk { run: self, domain, packs, snapshot: &tree.id };
        let Some(root) = root_child(&tree.root) else { return Ok(()) };
        let touched = match root {
            Ok(root) => walk.node(root).await?,
            Err(error) => {
                let object = crate::snapshot::snapshot_path(&tree.id);
                BTreeSet::from([self.note(&object, error).await?])
            }
        };
        let mut findings = self.findings();
        touched.iter().for_each(|number| findings.reach_snapshot(*number, &tree.id));
        Ok(())
    }
}

/// The root as if a parent told of it; none for an empty tree.
fn root_child(root: &Root) -> Option<Result<Child>> {
    let Root { node, height, totals } = root;
    let (id, place) = node.clone()?;
    let level = height.checked_sub(1).filter(|_| *height <= HEIGHT_MAX).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "read tree", id.to_string())
            .detail("higher than a tree may be")
    });
    Some(level.map(|level| Child {
        id,
        place,
        level,
        after: None,
        last: None,
        totals: *totals,
        is_rightmost: true,
    }))
}

/// One walk.
struct Walk<'w> {
    run: &'w Run<'w>,
    domain: &'w Domain,
    packs: &'w Packs,
    snapshot: &'w SessionId,
}

impl Walk<'_> {
    /// Checks a node and all below it.
    fn node(&self, child: Child) -> BoxFuture<'_, Result<Touched>> {
        async move {
            if let Some(known) = self.known(&child.id) {
                return Ok(known);
            }
            self.run.context.check("verify tree")?;
            let touched = match self.read(&child).await {
                Ok(Node::Leaf(items)) => self.leaf(&items).await?,
                Ok(Node::Interior(children)) => self.children(child.level, children).await?,
                Err(error) => BTreeSet::from([self.lost(&child, error).await?]),
            };
            self.remember(child.id, &touched);
            Ok(touched)
        }
        .boxed()
    }

    async fn children(&self, level: u8, children: Vec<Child>) -> Result<Touched> {
        let at_once = if level == 1 { LEAVES_AT_ONCE } else { 1 };
        stream::iter(children.into_iter().map(|child| self.node(child)))
            .buffered(at_once)
            .try_fold(Touched::new(), |mut all, touched| {
                all.extend(touched);
                std::future::ready(Ok(all))
            })
            .await
    }

    async fn read(&self, child: &Child) -> Result<Node> {
        let plaintext = self.domain.nodes.read_node(child.id, &child.place).await?;
        self.run.count_bytes(plaintext.len() as u64);
        let (logical, hints) = split_parts(&plaintext).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "read tree node", child.id.to_string())
                .detail("not two parts")
        })?;
        if self.domain.keys.node_id(&logical) != child.id {
            return Err(Error::new(ErrorKind::Corrupt, "read tree node", child.id.to_string())
                .detail("its content has another id"));
        }
        if let Ok(found) = self.domain.index.find(PackKind::Meta, &child.id.0).await
            && found.is_empty()
        {
            self.note_gap_of_index();
        }
        decode_node(&logical, &hints, child)
    }

    /// Notes that the index lacks what a snapshot needs.
    fn note_gap_of_index(&self) {
        let object = crate::index::directory(&self.domain.keys);
        let what = "it does not know all that snapshots need: writers store it again, and what is moved \
                    is not found";
        self.run.findings().add(&object, what.to_owned());
    }

    /// Notes that no copy of a node can be read: all below it is lost.
    async fn lost(&self, child: &Child, error: Error) -> Result<DamageNumber> {
        let number = match child.place.location() {
            Some(location) => {
                let object = pack_path(PackKind::Meta, location.pack);
                self.run.note(&object, error).await?
            }
            None => return Err(error),
        };
        let Totals { items, .. } = child.totals;
        self.run.findings().reach_items(number, self.snapshot, || range_name(child), items);
        Ok(number)
    }

    async fn leaf(&self, items: &[(ItemKey, Record)]) -> Result<Touched> {
        let mut all = Touched::new();
        for (key, record) in items {
            let mut touched = Touched::new();
            for (count, chunk) in record.chunks().enumerate() {
                if count % CHUNKS_PER_CANCEL_CHECK == CHUNKS_PER_CANCEL_CHECK - 1 {
                    self.run.context.check("verify tree")?;
                    tokio::task::yield_now().await;
                }
                self.chunk(chunk, &mut touched).await?;
            }
            let mut findings = self.run.findings();
            for number in &touched {
                findings.reach_items(*number, self.snapshot, || key.display(), 1);
            }
            all.append(&mut touched);
        }
        self.run.count_items(items.len() as u64);
        Ok(all)
    }

    /// Looks for an intact copy of a chunk, and of what it is decoded against.
    async fn chunk(&self, chunk: &StoredChunk, touched: &mut Touched) -> Result<()> {
        let Some(hint) = chunk.place.location() else { return Ok(()) };
        let index = self.locations(&chunk.id.0).await?;
        let is_here = self.packs.holds(&hint, &chunk.id.0);
        match &index {
            // The usual case, and a chunk that was moved by a collector.
            Some(found) if is_here && found.contains(&hint) => {}
            Some(found) if found.iter().any(|place| self.packs.holds(place, &chunk.id.0)) => {
                return Ok(());
            }
            // The index does not know the place: only reading tells whether it is there.
            Some(_) if is_here => return self.probe(chunk, &hint, touched).await,
            // Without an index deltas were not decoded with their packs.
            None if is_here && !chunk.bases.is_empty() && self.is_deep() => {
                return self.probe(chunk, &hint, touched).await;
            }
            None if is_here => {}
            _ => {
                touched.insert(self.missing(&hint));
                return Ok(());
            }
        }
        for base in &chunk.bases {
            Box::pin(self.chunk(base, touched)).await?;
        }
        Ok(())
    }

    fn is_deep(&self) -> bool {
        self.run.options.depth == Depth::Deep
    }

    /// Returns where the index knows a chunk; none where the index cannot be used.
    async fn locations(&self, id: &[u8; 32]) -> Result<Option<Vec<Location>>> {
        match self.domain.index.find(PackKind::Data, id).await {
            Ok(found) => Ok(Some(found.into_iter().map(|found| found.location).collect())),
            // Its segments are looked at one by one elsewhere.
            Err(error) if error.kind() != ErrorKind::Cancelled => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a chunk that the index does not know where it is said to be.
    async fn probe(
        &self,
        chunk: &StoredChunk,
        hint: &Location,
        touched: &mut Touched,
    ) -> Result<()> {
        let object = pack_path(PackKind::Data, hint.pack);
        match self.domain.chunks.read(chunk).await {
            Ok(content) => {
                self.run.count_bytes(content.len() as u64);
                self.note_gap_of_index();
            }
            Err(error) => {
                let number = self.run.note(&object, error).await?;
                touched.insert(number);
            }
        }
        Ok(())
    }

    /// Notes that a chunk is nowhere.
    fn missing(&self, hint: &Location) -> DamageNumber {
        let object = pack_path(PackKind::Data, hint.pack);
        if let Some(number) = self.packs.damage(hint) {
            return number;
        }
        let what = if self.packs.is_listed(hint) {
            "it is too short for what is said to lie in it"
        } else {
            "it is not there"
        };
        self.run.findings().add(&object, what.to_owned())
    }

    fn visited(&self) -> MutexGuard<'_, Visited> {
        self.domain.visited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, id: &NodeId) -> Option<Touched> {
        let visited = self.visited();
        if visited.sound.contains(id) {
            return Some(Touched::new());
        }
        visited.touched.get(id).map(|touched| (**touched).clone())
    }

    fn remember(&self, id: NodeId, touched: &Touched) {
        let mut visited = self.visited();
        if touched.is_empty() {
            visited.sound.insert(id);
        } else {
            visited.touched.insert(id, Arc::new(touched.clone()));
        }
    }
}

/// Names what is below a node: the greatest key is known, and the one before the first.
fn range_name(child: &Child) -> String {
    match (&child.after, &child.last) {
        (_, Some(last)) if child.totals.items == 1 => last.display(),
        (Some(after), Some(last)) => format!("after {} up to {}", after.display(), last.display()),
        (None, Some(last)) => format!("up to {}", last.display()),
        (Some(after), None) => format!("after {}", after.display()),
        (None, None) => "all items".to_owned(),
    }
}
