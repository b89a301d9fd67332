//! What is to be done, key by key: the source's listing joined with the parent's records, or the
//! changes that the source tells.

use futures::stream::{self, StreamExt, TryStreamExt};
use model::{Item, ItemBatches, ItemKey, Result};
use repository::tree::{Edits, RecordBatches, Tree};
use repository::types::{Record, StoredExtent};

use super::decide::{Decision, ExtentSource, Trust, decide, is_as_stored};
use super::units::{Decided, Entry};

/// Upserts that are looked up in the parent at once.
const LOOKUPS: usize = 32;
/// Upserts that are handed on together.
const UPSERTS: usize = 512;

/// Returns an extent with every chunk resolved; none where one is not.
pub type Resolve<'a> = &'a (dyn Fn(&StoredExtent) -> Result<Option<StoredExtent>> + Send + Sync);

/// Makes decisions.
#[derive(Clone, Copy)]
pub struct Chooser<'a> {
    /// What they go by.
    pub trust: Trust,
    /// What every known extent has to pass, where something is condemned.
    pub resolve: Option<Resolve<'a>>,
}

impl Chooser<'_> {
    /// Decides what is done about an item.
    ///
    /// # Errors
    /// Those of resolving.
    pub fn choose(&self, item: Item, stored: Option<Record>) -> Result<Entry> {
        let Some(resolve) = self.resolve else {
            return Ok(match stored {
                Some(record) if is_as_stored(&item, &record, &self.trust) => {
                    Entry::Kept(item.key, record)
                }
                stored => {
                    let decision = decide(&item, stored.as_ref(), &self.trust);
                    Entry::Decided(Box::new(Decided { item, decision, stored }))
                }
            });
        };
        let decision = resolved(decide(&item, stored.as_ref(), &self.trust), resolve)?;
        let stored = match stored {
            Some(record) => self.resolve_record(record)?,
            None => None,
        };
        Ok(Entry::Decided(Box::new(Decided { item, decision, stored })))
    }

    /// Returns a record of the parent as it may be used; none where some of it may not.
    ///
    /// # Errors
    /// Those of resolving.
    pub fn resolve_record(&self, mut record: Record) -> Result<Option<Record>> {
        let Some(resolve) = self.resolve else { return Ok(Some(record)) };
        for extent in &mut record.extents {
            match resolve(extent)? {
                Some(resolved) => *extent = resolved,
                None => return Ok(None),
            }
        }
        Ok(Some(record))
    }
}

/// Reads what does not resolve.
fn resolved(decision: Decision, resolve: Resolve<'_>) -> Result<Decision> {
    let Decision { extents, is_unchanged } = decision;
    let mut all_known = true;
    let extents = extents.into_iter().map(|extent| {
        Ok(match extent {
            ExtentSource::Hole => ExtentSource::Hole,
            ExtentSource::Known(known) => match resolve(&known)? {
                Some(known) => ExtentSource::Known(known),
                None => {
                    all_known = false;
                    ExtentSource::Read { previous: None }
                }
            },
            ExtentSource::Read { previous } => {
                let previous = match previous {
                    Some(previous) => resolve(&previous)?,
                    None => None,
                };
                ExtentSource::Read { previous }
            }
        })
    });
    let extents = extents.collect::<Result<_>>()?;
    Ok(Decision { extents, is_unchanged: is_unchanged && all_known })
}

/// Gives entries in key order.
pub trait Entries: Send {
    /// Returns the next entries; none at the end.
    fn next(
        &mut self,
        chooser: &Chooser<'_>,
    ) -> impl Future<Output = Result<Option<Vec<Entry>>>> + Send;

    /// Returns how many items of the parent were passed over because the source has them no more, since
    /// this was asked last.
    fn take_deleted(&mut self) -> u64;
}

/// The parent's records, in step with a listing.
pub struct Parent {
    batches: RecordBatches,
    batch: std::iter::Peekable<std::vec::IntoIter<(ItemKey, Record)>>,
    deleted: u64,
}

impl Parent {
    /// Begins at the start of some records.
    pub fn new(batches: RecordBatches) -> Self {
        Self { batches, batch: Vec::new().into_iter().peekable(), deleted: 0 }
    }

    /// Begins where there is no parent.
    pub fn none() -> Self {
        Self::new(stream::empty().boxed())
    }

    /// Passes over everything before a key and takes what stands at it. Keys ascend.
    async fn find(&mut self, key: &ItemKey) -> Result<Option<Record>> {
        loop {
            while let Some((stored, _)) = self.batch.peek() {
                match stored.cmp(key) {
                    std::cmp::Ordering::Less => {
                        self.batch.next();
                        self.deleted += 1;
                    }
                    std::cmp::Ordering::Equal => {
                        return Ok(self.batch.next().map(|(_, record)| record));
                    }
                    std::cmp::Ordering::Greater => return Ok(None),
                }
            }
            if !self.fetch().await? {
                return Ok(None);
            }
        }
    }

    /// Takes everything that is left, batch by batch.
    ///
    /// # Errors
    /// Those of reading the parent.
    pub async fn rest(&mut self) -> Result<Option<Vec<(ItemKey, Record)>>> {
        if self.batch.peek().is_none() && !self.fetch().await? {
            return Ok(None);
        }
        let rest = std::mem::replace(&mut self.batch, Vec::new().into_iter().peekable());
        Ok(Some(rest.collect()))
    }

    async fn fetch(&mut self) -> Result<bool> {
        let Some(batch) = self.batches.next().await else { return Ok(false) };
        self.batch = batch?.into_iter().peekable();
        Ok(true)
    }
}

/// A listing in key order, joined with the parent.
pub struct Joined<'a> {
    items: ItemBatches<'a>,
    parent: Parent,
    last: Option<ItemKey>,
}

impl<'a> Joined<'a> {
    /// Begins.
    pub fn new(items: ItemBatches<'a>, parent: Parent) -> Self {
        Self { items, parent, last: None }
    }

    /// Returns the last key that was given.
    pub fn last(&self) -> Option<&ItemKey> {
        self.last.as_ref()
    }

    /// Returns what is left of the parent, to be taken or replaced.
    pub fn parent_mut(&mut self) -> &mut Parent {
        &mut self.parent
    }
}

impl Entries for Joined<'_> {
    async fn next(&mut self, chooser: &Chooser<'_>) -> Result<Option<Vec<Entry>>> {
        let Some(batch) = self.items.next().await else {
            while let Some(rest) = self.parent.rest().await? {
                self.parent.deleted += rest.len() as u64;
            }
            return Ok(None);
        };
        let batch = batch?;
        let mut entries = Vec::with_capacity(batch.len());
        for item in batch {
            let stored = self.parent.find(&item.key).await?;
            entries.push(chooser.choose(item, stored)?);
        }
        self.last = entries.last().map(|entry| entry.key().clone()).or(self.last.take());
        Ok(Some(entries))
    }

    fn take_deleted(&mut self) -> u64 {
        std::mem::take(&mut self.parent.deleted)
    }
}

/// The items that changes upsert, under the keys that they have once all changes are done.
pub struct Upserted<'a> {
    parent: Tree,
    edits: &'a Edits<Item>,
    upserts: Box<dyn Iterator<Item = (&'a ItemKey, &'a Item)> + Send + 'a>,
    created: u64,
}

impl<'a> Upserted<'a> {
    /// Begins.
    pub fn new(parent: &Tree, edits: &'a Edits<Item>) -> Self {
        Self { parent: parent.clone(), edits, upserts: Box::new(edits.upserts()), created: 0 }
    }

    /// Returns how many items the parent did not have.
    pub fn created(&self) -> u64 {
        self.created
    }
}

impl Entries for Upserted<'_> {
    async fn next(&mut self, chooser: &Chooser<'_>) -> Result<Option<Vec<Entry>>> {
        let upserts: Vec<_> = self.upserts.by_ref().take(UPSERTS).collect();
        if upserts.is_empty() {
            return Ok(None);
        }
        let lookups: Vec<_> = upserts
            .into_iter()
            .map(|(key, item)| {
                let (parent, source) = (self.parent.clone(), self.edits.source_of(key));
                let item = Item { key: key.clone(), ..item.clone() };
                async move {
                    let stored = match source {
                        Some(source) => parent.get(&source).await?,
                        None => None,
                    };
                    Ok::<_, model::Error>((item, stored))
                }
            })
            .collect();
        let found: Vec<_> = stream::iter(lookups).buffered(LOOKUPS).try_collect().await?;
        self.created += found.iter().filter(|(_, stored)| stored.is_none()).count() as u64;
        found
            .into_iter()
            .map(|(item, stored)| chooser.choose(item, stored))
            .collect::<Result<Vec<_>>>()
            .map(Some)
    }

    /// The changes do not say how many items a deletion covers: the totals of the trees do.
    fn take_deleted(&mut self) -> u64 {
        0
    }
}
