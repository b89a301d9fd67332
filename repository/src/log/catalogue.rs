//! What a stream's log consists of, as far as names tell.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Error, ErrorKind, Result};

use super::record::numbered;
use crate::Repository;
use crate::types::{Number, StreamName};

/// How many listings run at the same time.
const LISTINGS_AT_ONCE: usize = 64;

/// A batch in a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BatchFiles {
    /// The length of its own object; none where only parts are there.
    pub(super) size_bytes: Option<u64>,
    /// The paths of parts: its own, or those of a writer that lost a contest.
    pub(super) parts: Vec<String>,
}

/// A segment in a listing. Ordered by what it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The number of bits of its body's length before compression.
    pub(super) length_bits: u32,
    pub(super) path: String,
}

/// A piece that is read as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Batch(u64),
    Segment(Segment),
}

/// What is there of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    pub(super) batches: BTreeMap<u64, BatchFiles>,
    pub(super) segments: Vec<Segment>,
}

impl Piece {
    pub(super) fn range(&self) -> (u64, u64) {
        match self {
            Self::Batch(number) => (*number, *number),
            Self::Segment(segment) => (segment.first, segment.last),
        }
    }
}

impl Segment {
    pub(super) fn new(stream: &StreamName, first: u64, last: u64, length: usize) -> Result<Self> {
        let length_bits = usize::BITS - length.leading_zeros();
        let first_digits = Number::new(first)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "name segment", stream.to_string()))?
            .digits();
        let place = numbered("logseg", stream, last)?;
        let path = format!("{place}-{first_digits}-{length_bits:02x}");
        Ok(Self { first, last, length_bits, path })
    }

    fn from_path(path: &str) -> Option<Self> {
        let (rest, name) = path.rsplit_once('/')?;
        let mut parts = name.split('-');
        let last = Number::from_digits(parts.next()?)?;
        let first = Number::from_digits(parts.next()?)?.get();
        let length_bits = u32::from_str_radix(parts.next()?, 16).ok()?;
        let is_sound = parts.next().is_none()
            && first <= last.get()
            && rest.rsplit('/').next()? == last.bucket()
            && length_bits <= usize::BITS;
        is_sound.then(|| Self { first, last: last.get(), length_bits, path: path.to_owned() })
    }

    /// Says whether all of another segment is in this one.
    pub(super) fn holds(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl Catalogue {
    /// Lists all of a stream from a batch on.
    pub(super) async fn list(
        repository: &Repository,
        stream: &StreamName,
        from: u64,
    ) -> Result<Self> {
        let (logs, segments) = futures::try_join!(
            buckets(repository, "log", stream, from),
            buckets(repository, "logseg", stream, from)
        )?;
        let mut catalogue = Self::of_buckets(repository, logs, segments).await?;
        catalogue.batches.retain(|number, _| *number >= from);
        catalogue.segments.retain(|segment| segment.last >= from);
        Ok(catalogue)
    }

    /// Lists the newest of a stream: enough to know where it ends.
    pub(super) async fn newest(repository: &Repository, stream: &StreamName) -> Result<Self> {
        let (logs, segments) = futures::try_join!(
            buckets(repository, "log", stream, 0),
            buckets(repository, "logseg", stream, 0)
        )?;
        let (mut logs, mut segments) = (logs.into_iter(), segments.into_iter());
        loop {
            // A local disk may keep buckets in which nothing is left.
            let next = (logs.next(), segments.next());
            if next == (None, None) {
                return Ok(Self::default());
            }
            let (log, segment) = (next.0.into_iter().collect(), next.1.into_iter().collect());
            let found = Self::of_buckets(repository, log, segment).await?;
            if found.last().is_some() {
                return Ok(found);
            }
        }
    }

    async fn of_buckets(
        repository: &Repository,
        logs: Vec<String>,
        segments: Vec<String>,
    ) -> Result<Self> {
        let mut catalogue = Self::default();
        let buckets = logs.into_iter().chain(segments);
        let mut listed = stream::iter(buckets.map(|bucket| {
            let store = repository.store().clone();
            async move {
                let objects = store.list(&bucket).await?;
                Ok::<_, Error>((bucket.starts_with("logseg/"), objects))
            }
        }))
        .buffer_unordered(LISTINGS_AT_ONCE);
        while let Some((is_segment, objects)) = listed.try_next().await? {
            for object in objects {
                if is_segment {
                    catalogue.segments.extend(Segment::from_path(&object.path));
                } else {
                    catalogue.add_batch(&object.path, object.size_bytes);
                }
            }
        }
        catalogue.segments.sort_unstable();
        Ok(catalogue)
    }

    fn add_batch(&mut self, path: &str, size_bytes: u64) {
        let Some((_, name)) = path.rsplit_once('/') else { return };
        let (digits, part) = name.split_once('-').unwrap_or((name, ""));
        let Some(number) = Number::from_digits(digits) else { return };
        let files = self.batches.entry(number.get()).or_default();
        if part.is_empty() {
            files.size_bytes = Some(size_bytes);
        } else {
            files.parts.push(path.to_owned());
        }
    }

    /// Returns the newest batch's number.
    pub(super) fn last(&self) -> Option<u64> {
        let batch = self.batches.iter().rev().find(|(_, files)| files.size_bytes.is_some());
        let segment = self.segments.iter().map(|segment| segment.last).max();
        batch.map(|(number, _)| *number).max(segment)
    }

    /// Returns the oldest batch's number.
    pub(super) fn first(&self) -> Option<u64> {
        let batch = self.batches.iter().find(|(_, files)| files.size_bytes.is_some());
        let segment = self.segments.first().map(|segment| segment.first);
        batch.map(|(number, _)| *number).into_iter().chain(segment).min()
    }

    /// Returns the first batch at or after a place that is there.
    pub(super) fn next_from(&self, from: u64) -> Option<u64> {
        let is_there = |(_, files): &(&u64, &BatchFiles)| files.size_bytes.is_some();
        let batch = self.batches.range(from..).find(is_there).map(|(number, _)| *number);
        let segments = self.segments.iter().filter(|segment| segment.last >= from);
        segments.map(|segment| segment.first.max(from)).chain(batch).min()
    }

    /// Chooses what is read of a range, in order, up to the first batch that is nowhere. Segments are
    /// preferred, the farther reaching first, but for those that are refused.
    pub(super) fn cover(
        &self,
        from: u64,
        upto: u64,
        is_refused: impl Fn(&Segment) -> bool,
    ) -> Vec<Piece> {
        // The farthest reaching segment that begins at or before the present place.
        let (mut candidates, mut best) = (self.segments.iter().peekable(), None::<&Segment>);
        let (mut pieces, mut next) = (Vec::new(), from);
        while next <= upto {
            while let Some(segment) = candidates.next_if(|segment| segment.first <= next) {
                if !is_refused(segment) && best.is_none_or(|best| best.last < segment.last) {
                    best = Some(segment);
                }
            }
            if let Some(segment) = best.filter(|segment| segment.last >= next) {
                pieces.push(Piece::Segment(segment.clone()));
                next = segment.last.saturating_add(1);
            } else if self.batches.get(&next).is_some_and(|files| files.size_bytes.is_some()) {
                pieces.push(Piece::Batch(next));
                next = next.saturating_add(1);
            } else {
                break;
            }
        }
        pieces
    }
}

/// Lists the buckets that may hold what reaches to `from` or beyond, newest first.
async fn buckets(
    repository: &Repository,
    kind: &str,
    stream: &StreamName,
    from: u64,
) -> Result<Vec<String>> {
    let oldest = Number::new(from).map(Number::bucket);
    let listing = repository.store().list_directories(&format!("{kind}/{stream}")).await?;
    let is_wanted = |path: &String| match (&oldest, path.rsplit('/').next()) {
        (Some(oldest), Some(bucket)) => bucket <= &oldest[..],
        _ => false,
    };
    Ok(listing.directories.into_iter().filter(is_wanted).collect())
}
