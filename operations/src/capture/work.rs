//! Carries out units of work on threads that may block: reads what was decided to be read, looks at it
//! again, and hands it to the repository.
//!
//! An item that changed while it was read is read again as what it is by then, a few times; if it does
//! not come to rest, the last reading is stored, marked, and believed by no later capture. One that
//! disappeared is left out. Of one that cannot be read the parent's record is kept, so that a file whose
//! permissions were taken away does not vanish from the newest state; without a parent it is left out.
//! Either way it is a problem, and the snapshot says how many there were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{
    Content, ContentClass, Context, Counter, Error, ErrorKind, Extent, ExtentBody, ExtentIdentity,
    Item, ItemKey, Recheck, Result, StripeChecksums,
};
use repository::content::{ChunkReader, ContentWriter, Ticket, Unit as Store};
use repository::types::{Record, StoredBody, StoredChunk, StoredExtent};
use tokio::runtime::Handle;

use super::decide::{Decision, ExtentSource, Trust, decide};
use super::stripes::{Part, parts};
use super::units::{Decided, Entry, Unit, is_stored_whole};
use super::{marked, unsteady};

mod source;

use source::{Fetched, Source, Stream};

/// How often an item is read in all before its last reading is stored as it is.
const READINGS_MAX: u32 = 4;

/// What became of one key.
#[derive(Debug)]
pub enum Outcome {
    /// It was taken over unread.
    Reused(ItemKey, Record),
    /// Its attributes alone were taken: it has no content, or all of it was known.
    Listed(ItemKey, Record),
    /// Its content was read.
    Read(ItemKey, Record),
    /// It disappeared.
    Gone,
    /// It could not be read.
    Failed {
        /// Which.
        key: ItemKey,
        /// The parent's record of it.
        kept: Option<Record>,
        /// Why.
        error: Error,
    },
}

/// What units of work are carried out with.
pub struct Tools {
    /// Where content comes from.
    pub content: Arc<dyn Content>,
    /// Where it goes.
    pub writer: ContentWriter,
    /// Where stored bytes are read again.
    pub reader: ChunkReader,
    /// How the system's content is cut.
    pub class: ContentClass,
    /// What decisions go by.
    pub trust: Trust,
    /// Runs what is asynchronous.
    pub handle: Handle,
    /// Progress, and a way to be told to stop.
    pub context: Context,
    /// Bytes read so far.
    pub read_bytes: AtomicU64,
}

/// An item on its way: its chunks are known once the unit is finished.
enum Draft {
    Done(Outcome),
    Read { item: Item, pieces: Vec<Piece> },
}

enum Piece {
    Done(StoredExtent),
    Stored { length_bytes: u64, named: Named, ticket: Ticket },
}

/// What the source says of an extent.
#[derive(Default)]
struct Named {
    identity: Option<ExtentIdentity>,
    checksums: Option<StripeChecksums>,
}

/// How one reading of an item ended.
enum Reading {
    /// It is the item that was listed; or it is not, and this was the last attempt.
    Done {
        pieces: Vec<Piece>,
        is_inconsistent: bool,
    },
    Changed(Box<Item>),
    Gone,
    Failed(Error),
}

/// Returns the outcomes of a unit of which nothing is read.
pub fn unread(unit: Unit, class: ContentClass) -> Vec<Outcome> {
    unit.entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Kept(key, record) => Outcome::Reused(key, record),
            Entry::Decided(decided) => unread_item(decided.item, decided.decision, class),
        })
        .collect()
}

fn unread_item(item: Item, decision: Decision, class: ContentClass) -> Outcome {
    let Decision { extents, is_unchanged } = decision;
    let extents = extents.into_iter().zip(&item.extents).map(|(source, extent)| match source {
        ExtentSource::Known(known) => named_again(known, extent),
        ExtentSource::Hole | ExtentSource::Read { .. } => nothing_in(extent, class),
    });
    let record = Record::of_item(&item, extents.collect());
    if is_unchanged { Outcome::Reused(item.key, record) } else { Outcome::Listed(item.key, record) }
}

/// Gives known bytes the names that the source has for them now.
fn named_again(mut known: StoredExtent, extent: &Extent) -> StoredExtent {
    if let (
        StoredBody::Data { identity, checksums, .. },
        ExtentBody::Data { identity: now, checksums: checksums_now },
    ) = (&mut known.body, &extent.body)
    {
        identity.clone_from(now);
        checksums.clone_from(checksums_now);
    }
    known
}

/// Stores an extent that has nothing to be read: a hole, or no bytes.
fn nothing_in(extent: &Extent, class: ContentClass) -> StoredExtent {
    let body = match &extent.body {
        ExtentBody::Hole => StoredBody::Hole,
        ExtentBody::Data { identity, checksums } => StoredBody::Data {
            identity: identity.clone(),
            checksums: checksums.clone(),
            class,
            chunks: Vec::new(),
        },
    };
    StoredExtent { length_bytes: extent.length_bytes, body }
}

fn chunks_of(extent: Option<&StoredExtent>) -> &[StoredChunk] {
    match extent.map(|extent| &extent.body) {
        Some(StoredBody::Data { chunks, .. }) => chunks,
        Some(StoredBody::Hole) | None => &[],
    }
}

impl Tools {
    /// Carries out a unit. Call it where it may block.
    ///
    /// # Errors
    /// Those of the repository, and `Cancelled`; what fails at the source is an outcome.
    pub fn carry_out(&self, unit: Unit) -> Result<Vec<Outcome>> {
        let mut store = self.writer.unit();
        let mut drafts = Vec::with_capacity(unit.entries.len());
        for entry in unit.entries {
            drafts.push(match entry {
                Entry::Kept(key, record) => Draft::Done(Outcome::Reused(key, record)),
                Entry::Decided(decided) => self.item(&mut store, *decided)?,
            });
        }
        let mut chunks = store.finish()?;
        drafts
            .into_iter()
            .map(|draft| match draft {
                Draft::Done(outcome) => Ok(outcome),
                Draft::Read { item, pieces } => {
                    let extents = pieces.into_iter().map(|piece| self.extent(piece, &mut chunks));
                    let record = Record::of_item(&item, extents.collect::<Result<_>>()?);
                    Ok(Outcome::Read(item.key, record))
                }
            })
            .collect()
    }

    fn extent(&self, piece: Piece, chunks: &mut [Vec<StoredChunk>]) -> Result<StoredExtent> {
        match piece {
            Piece::Done(extent) => Ok(extent),
            Piece::Stored { length_bytes, named, ticket } => {
                let chunks = chunks.get_mut(ticket.0).map(std::mem::take).ok_or_else(|| {
                    Error::new(ErrorKind::Internal, "store content", "")
                        .detail("a unit gave fewer contents than it took")
                })?;
                let Named { identity, checksums } = named;
                let body = StoredBody::Data { identity, checksums, class: self.class, chunks };
                Ok(StoredExtent { length_bytes, body })
            }
        }
    }

    /// Reads an item until it comes to rest.
    fn item(&self, store: &mut Store, decided: Decided) -> Result<Draft> {
        let Decided { mut item, mut decision, stored } = decided;
        for reading in 1..=READINGS_MAX {
            self.context.check("read content")?;
            if !decision.reads() {
                return Ok(Draft::Done(unread_item(item, decision, self.class)));
            }
            match self.read(store, &item, &decision, reading == READINGS_MAX)? {
                Reading::Done { pieces, is_inconsistent: false } => {
                    return Ok(Draft::Read { item, pieces });
                }
                Reading::Done { pieces, is_inconsistent: true } => {
                    self.context.monitor.problem(&unsteady(&item));
                    // It has no version, so that the next capture reads it.
                    let item = Item { attributes: marked(&item.attributes), version: None, ..item };
                    return Ok(Draft::Read { item, pieces });
                }
                Reading::Changed(now) => {
                    item = Item { key: item.key, ..*now };
                    decision = decide(&item, stored.as_ref(), &self.trust);
                }
                Reading::Gone => return Ok(Draft::Done(Outcome::Gone)),
                Reading::Failed(error) => {
                    let failed = Outcome::Failed { key: item.key, kept: stored, error };
                    return Ok(Draft::Done(failed));
                }
            }
        }
        Err(Error::new(ErrorKind::Internal, "read content", item.key.display()))
    }

    fn read(
        &self,
        store: &mut Store,
        item: &Item,
        decision: &Decision,
        is_last: bool,
    ) -> Result<Reading> {
        let source = Source { tools: self, item };
        let read = if is_stored_whole(item) {
            self.read_whole(store, &source, decision, is_last)
        } else {
            self.read_extents(store, &source, decision, is_last)
        };
        match read {
            Ok(reading) => Ok(reading),
            Err(Fetched::Stopped(error)) => Err(error),
            Err(Fetched::Gone) => {
                store.discard();
                Ok(Reading::Gone)
            }
            Err(Fetched::Failed(error)) => {
                store.discard();
                Ok(Reading::Failed(error))
            }
        }
    }

    /// Reads a small content in one go.
    fn read_whole(
        &self,
        store: &mut Store,
        source: &Source<'_>,
        decision: &Decision,
        is_last: bool,
    ) -> Result<Reading, Fetched> {
        let item = source.item;
        let (Some(extent), Some(ExtentSource::Read { previous })) =
            (item.extents.first(), decision.extents.first())
        else {
            return Err(Fetched::Stopped(misfit(item)));
        };
        if extent.length_bytes == 0 {
            let pieces = vec![Piece::Done(nothing_in(extent, self.class))];
            return Ok(Reading::Done { pieces, is_inconsistent: false });
        }
        let (bytes, recheck) = source.whole(extent.length_bytes)?;
        let is_inconsistent = match recheck {
            Recheck::Gone => return Ok(Reading::Gone),
            Recheck::Changed(now) if !is_last => return Ok(Reading::Changed(now)),
            Recheck::Changed(_) => true,
            Recheck::Same => false,
        };
        let length_bytes = bytes.len() as u64;
        if length_bytes != extent.length_bytes && !is_inconsistent {
            return Err(Fetched::Failed(source.shorter()));
        }
        let ticket = store.whole(bytes, chunks_of(previous.as_ref()))?;
        let named = named_of(extent, is_inconsistent);
        let pieces = vec![Piece::Stored { length_bytes, named, ticket }];
        Ok(Reading::Done { pieces, is_inconsistent })
    }

    /// Reads the extents that are to be read, one after another. The last one is ended only after the
    /// item was looked at again, so that a mixture in a single extent is taken back.
    fn read_extents(
        &self,
        store: &mut Store,
        source: &Source<'_>,
        decision: &Decision,
        is_last: bool,
    ) -> Result<Reading, Fetched> {
        let item = source.item;
        let is_read = |extent: &(usize, (&Extent, &ExtentSource))| {
            matches!(extent.1.1, ExtentSource::Read { .. }) && extent.1.0.length_bytes > 0
        };
        let extents = || item.extents.iter().zip(&decision.extents).enumerate();
        let last_read = extents().filter(is_read).map(|(index, _)| index).last();
        let mut pieces = Vec::with_capacity(item.extents.len());
        let (mut is_inconsistent, mut is_short) = (false, false);
        for (index, (extent, known)) in extents() {
            let previous = match known {
                ExtentSource::Known(known) => {
                    pieces.push(Piece::Done(named_again(known.clone(), extent)));
                    continue;
                }
                ExtentSource::Read { previous } if extent.length_bytes > 0 => previous.as_ref(),
                ExtentSource::Read { .. } | ExtentSource::Hole => {
                    pieces.push(Piece::Done(nothing_in(extent, self.class)));
                    continue;
                }
            };
            store.begin(self.class, chunks_of(previous));
            let length_bytes = self.read_extent(store, source, index, previous)?;
            is_short |= length_bytes != extent.length_bytes;
            if last_read == Some(index) {
                match source.recheck()? {
                    Recheck::Gone => return Err(Fetched::Gone),
                    Recheck::Changed(now) if !is_last => {
                        store.discard();
                        return Ok(Reading::Changed(now));
                    }
                    Recheck::Changed(_) => is_inconsistent = true,
                    Recheck::Same if is_short => return Err(Fetched::Failed(source.shorter())),
                    Recheck::Same => {}
                }
            }
            let (named, ticket) = (named_of(extent, false), store.end()?);
            pieces.push(Piece::Stored { length_bytes, named, ticket });
        }
        if is_inconsistent {
            pieces.iter_mut().for_each(Piece::distrust);
        }
        Ok(Reading::Done { pieces, is_inconsistent })
    }

    /// Gives the bytes of one extent to the store: those of stripes that are as stored from there, the
    /// others from the source. Returns how many there were.
    fn read_extent(
        &self,
        store: &mut Store,
        source: &Source<'_>,
        index: usize,
        previous: Option<&StoredExtent>,
    ) -> Result<u64, Fetched> {
        let length_bytes = source.item.extents.get(index).map_or(0, |extent| extent.length_bytes);
        let everything = || vec![Part { range: 0..length_bytes, is_stored: false }];
        let parts = self.parts(source.item, index, previous).unwrap_or_else(everything);
        let mut stored = source::Stored::new(self, chunks_of(previous));
        let mut sum = 0;
        for Part { range, is_stored } in parts {
            let wanted = range.end - range.start;
            let given = if is_stored && stored.covers(&range) {
                stored.give(range, |bytes| store.push(bytes))?;
                wanted
            } else {
                let mut stream = Stream::open(source, index, range)?;
                while let Some(bytes) = stream.next()? {
                    store.push(bytes)?;
                }
                stream.given()
            };
            sum += given;
            if given < wanted {
                break;
            }
        }
        Ok(sum)
    }

    fn parts(
        &self,
        item: &Item,
        index: usize,
        previous: Option<&StoredExtent>,
    ) -> Option<Vec<Part>> {
        let extent = item.extents.get(index)?;
        let ExtentBody::Data { checksums: Some(now), .. } = &extent.body else { return None };
        let previous = previous?;
        let StoredBody::Data { checksums: Some(stored), .. } = &previous.body else { return None };
        if !self.trust.believes_checksums(&item.key) {
            return None;
        }
        parts((now, extent.length_bytes), (stored, previous.length_bytes))
    }

    fn note_read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.context.monitor.count(Counter::ReadBytes, bytes as u64);
    }
}

impl Piece {
    /// Takes the source's names away from bytes that may be a mixture.
    fn distrust(&mut self) {
        match self {
            Self::Stored { named, .. } => *named = Named::default(),
            Self::Done(extent) => {
                if let StoredBody::Data { identity, checksums, .. } = &mut extent.body {
                    (*identity, *checksums) = (None, None);
                }
            }
        }
    }
}

fn named_of(extent: &Extent, is_inconsistent: bool) -> Named {
    match &extent.body {
        ExtentBody::Data { identity, checksums } if !is_inconsistent => {
            Named { identity: identity.clone(), checksums: checksums.clone() }
        }
        _ => Named::default(),
    }
}

fn misfit(item: &Item) -> Error {
    Error::new(ErrorKind::Internal, "read content", item.key.display())
        .detail("the decision does not belong to the item")
}
