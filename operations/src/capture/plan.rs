//! What a capture would do, without a session and without writing anything.

use model::{Context, CutItems, Error, ErrorKind, Item, Position, Result, System};
use repository::Repository;
use repository::snapshot::Snapshot;
use repository::tree::Tree;
use repository::types::StreamName;

use super::decide::ExtentSource;
use super::entries::{Chooser, Entries, Joined, Parent, Upserted};
use super::listing::{edits_of, sorted};
use super::pipeline::cancellable;
use super::problems::Problems;
use super::units::Entry;
use super::{CaptureOptions, since, trust};

/// What a capture would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planned {
    /// Items that the source lists: all of them, or the changed ones.
    pub listed_items: u64,
    /// Items that would be taken over unread.
    pub reused_items: u64,
    /// Items whose content would be read.
    pub read_items: u64,
    /// Items of the parent that are gone; not known where the source tells changes.
    pub deleted_items: u64,
    /// Bytes that would be read at most.
    pub read_bytes: u64,
    /// Items that could not be listed, and whatever else was reported on the way.
    pub problems: u64,
    /// Where the system stood; none where nothing was listed.
    pub position: Option<Position>,
}

/// Returns what a capture would do now. Takes a cut and lists it; opens no content and writes nothing.
///
/// # Errors
/// Those of the system and of the store; `Cancelled`.
pub async fn plan(
    repository: &Repository,
    stream: &StreamName,
    system: &dyn System,
    options: &CaptureOptions,
    context: &Context,
) -> Result<Planned> {
    let (context, problems) = Problems::counting(context);
    let parent = match options.read_everything {
        true => None,
        false => repository.newest_snapshots(stream, 1).await?.into_iter().next(),
    };
    // A parent in another key domain is none: nothing of it can be taken over.
    let parent = parent.filter(|parent| parent.domain == options.domain);
    let tree = parent.as_ref().map(|parent| repository.tree(parent)).transpose()?;
    let number = parent.as_ref().map_or(0, |parent| parent.capture_number.saturating_add(1));
    let from = since(parent.as_ref(), system);
    let cut = cancellable(&context, "cut system", system.cut(from, &context)).await?;
    let listing = Listing {
        chooser: Chooser { trust: trust(parent.as_ref(), number, system, options), resolve: None },
        sort_bytes: usize::try_from(repository.options().memory_bytes / 4).unwrap_or(usize::MAX),
        options,
        context: &context,
    };
    let planned = listing.plan(cut.items(&context), parent.as_ref().zip(tree)).await;
    if let Err(error) = cut.release().await {
        context.monitor.problem(&error);
    }
    let position = Some(cut.position().clone());
    planned.map(|planned| Planned { position, problems: problems.count(), ..planned })
}

struct Listing<'a> {
    chooser: Chooser<'a>,
    sort_bytes: usize,
    options: &'a CaptureOptions,
    context: &'a Context,
}

impl Listing<'_> {
    async fn plan(
        &self,
        items: CutItems<'_>,
        parent: Option<(&Snapshot, Tree)>,
    ) -> Result<Planned> {
        let tree = parent.map(|(_, tree)| tree);
        let records = || match &tree {
            Some(tree) => Parent::new(tree.range(..)),
            None => Parent::none(),
        };
        match items {
            CutItems::Sorted(items) => self.count(&mut Joined::new(items, records())).await,
            CutItems::Unsorted(items) => {
                let items = sorted(items, self.sort_bytes, self.options, self.context).await?;
                self.count(&mut Joined::new(items, records())).await
            }
            CutItems::Changes(changes) => {
                let tree = tree.as_ref().ok_or_else(|| {
                    Error::new(ErrorKind::Internal, "list items", "")
                        .detail("the system lists changes since no position")
                })?;
                let edits = edits_of(changes, self.context).await?;
                self.count(&mut Upserted::new(tree, &edits)).await
            }
        }
    }

    async fn count(&self, entries: &mut impl Entries) -> Result<Planned> {
        let mut planned = Planned::default();
        while let Some(batch) =
            cancellable(self.context, "list items", entries.next(&self.chooser)).await?
        {
            planned.listed_items += batch.len() as u64;
            batch.iter().for_each(|entry| planned.add(entry));
            planned.deleted_items += entries.take_deleted();
        }
        planned.deleted_items += entries.take_deleted();
        Ok(planned)
    }
}

impl Planned {
    fn add(&mut self, entry: &Entry) {
        let decided = match entry {
            Entry::Kept(..) => {
                self.reused_items += 1;
                return;
            }
            Entry::Decided(decided) => decided,
        };
        if !decided.decision.reads() {
            self.reused_items += u64::from(decided.decision.is_unchanged);
            return;
        }
        self.read_items += 1;
        self.read_bytes =
            self.read_bytes.saturating_add(read_bytes(&decided.item, &decided.decision.extents));
    }
}

fn read_bytes(item: &Item, sources: &[ExtentSource]) -> u64 {
    let extents = item.extents.iter().zip(sources);
    let read = extents.filter(|(_, source)| matches!(source, ExtentSource::Read { .. }));
    read.map(|(extent, _)| extent.length_bytes).fold(0, u64::saturating_add)
}
