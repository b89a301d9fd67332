//! Marks: pins, tags, proofs. Creates, as everything else; a mark is taken back by another object.
//!
//! What is said of a point is one numbered sequence, `mark/<point>/<number>`; the last word about a
//! kind of mark is the one that counts. Tags stand in the sealed bodies, so that the store learns none.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Result, SiteName, Timestamp};
use prost::Message as _;

use crate::Repository;
use crate::format::ObjectType;
use crate::format::envelope::open_unverified;
use crate::point::PointId;
use crate::types::{Number, WriterId};

const MARK_BYTES_MAX: u64 = 64 << 10;
/// The most bytes of a tag.
pub const TAG_BYTES_MAX: usize = 128;
/// The most bytes of a note.
pub const NOTE_BYTES_MAX: usize = 4096;
const READS_AT_ONCE: usize = 64;
/// How often a number is taken by somebody else before it is no coincidence.
const TRIES_MAX: usize = 16;

/// What is said of a point.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkKind {
    /// It is kept whatever the policy says.
    Pin,
    /// People call it so.
    Tag(String),
    /// A restore of it was proven.
    Verified,
}

/// A mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Of which point.
    pub point: PointId,
    /// What is said.
    pub kind: MarkKind,
    /// Who says so.
    pub writer: WriterId,
    /// When, by the writer's clock.
    pub at: Timestamp,
    /// Why, for people.
    pub note: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    tag: String,
    #[prost(bool, tag = "3")]
    is_set: bool,
    #[prost(sint64, tag = "4")]
    at_unix_ns: i64,
    #[prost(string, tag = "5")]
    note: String,
}

/// Names an object of the sequence: the point and the number in its sequence.
type Place = (PointId, u64);
/// What is in force, and the numbers that are taken.
type Sequence = (Vec<Mark>, u64);

impl Repository {
    /// Sets a mark. Twice is the same as once.
    ///
    /// # Errors
    /// `NotFound` where there is no such point, or it is forgotten; `Invalid` where a tag makes no
    /// sense; those of the store.
    pub async fn set_mark(
        &self,
        point: &PointId,
        kind: MarkKind,
        note: &str,
        context: &Context,
    ) -> Result<()> {
        self.check_markable(point).await?;
        self.say(point, &kind, Some(note), context).await
    }

    /// Takes a mark back. One that is not set is fine.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_mark(
        &self,
        point: &PointId,
        kind: &MarkKind,
        context: &Context,
    ) -> Result<()> {
        self.say(point, kind, None, context).await
    }

    /// Returns the marks of a site's points that are in force, by point and kind.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn marks(&self, site: &SiteName) -> Result<Vec<Mark>> {
        let sequences = self.mark_sequences(&format!("mark/{site}")).await?;
        Ok(sequences.into_values().flat_map(|(marks, _)| marks).collect())
    }

    /// Returns the marks of a point that are in force.
    ///
    /// # Errors
    /// As [`Repository::marks`].
    pub async fn marks_of_point(&self, point: &PointId) -> Result<Vec<Mark>> {
        self.mark_sequence(point).await.map(|(marks, _)| marks)
    }

    async fn mark_sequence(&self, point: &PointId) -> Result<Sequence> {
        let mut sequences = self.mark_sequences(&format!("mark/{}", point.path())).await?;
        Ok(sequences.remove(point).unwrap_or_default())
    }

    async fn check_markable(&self, point: &PointId) -> Result<()> {
        let path = format!("point/{}", point.path());
        let (_, is_forgotten) =
            futures::try_join!(self.store().head(&path), self.is_point_forgotten(point))?;
        if is_forgotten {
            return Err(Error::new(ErrorKind::NotFound, "mark point", point.short())
                .detail("it is forgotten"));
        }
        Ok(())
    }

    /// Appends to a point's sequence what is not in force already; `note` is none to take back.
    async fn say(
        &self,
        point: &PointId,
        kind: &MarkKind,
        note: Option<&str>,
        context: &Context,
    ) -> Result<()> {
        self.check_writable()?;
        let record = Record::new(kind, note, context.clock.now());
        if record.read_kind().is_none() || record.note.len() > NOTE_BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, "mark point", format!("{kind:?}")).detail(
                format!("use at most {TAG_BYTES_MAX} bytes of plain text, and for the note {NOTE_BYTES_MAX}"),
            ));
        }
        let mut tries = 0;
        loop {
            context.check("mark point")?;
            let (marks, next) = self.mark_sequence(point).await?;
            if marks.iter().any(|mark| mark.kind == *kind) == record.is_set {
                return Ok(());
            }
            let path = mark_path(point, next)?;
            match self.create_signed(ObjectType::Mark, &path, record.encode_to_vec()).await {
                // Somebody else's word came in between; it may have been the same.
                Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES_MAX => {
                    tries += 1
                }
                other => return other.map(|_| ()),
            }
        }
    }

    /// Reads every word below a prefix and says per point which hold, and the next free number.
    async fn mark_sequences(&self, prefix: &str) -> Result<BTreeMap<PointId, Sequence>> {
        let listed = self.store().list(prefix).await?;
        let places: Vec<_> = listed.iter().filter_map(|object| read_path(&object.path)).collect();
        let words = stream::iter(places.into_iter().map(|place| self.mark_object(place)))
            .buffered(READS_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let (places, unverified): (Vec<_>, Vec<_>) = words.into_iter().unzip();
        let mut by_number: BTreeMap<Place, (WriterId, Record)> = BTreeMap::new();
        for (place, signed) in places.into_iter().zip(self.verify_all(unverified).await?) {
            let record = Record::decode(&signed.body[..])
                .map_err(|error| corrupt(&place.0).because(error))?;
            by_number.insert(place, (signed.writer, record));
        }
        let mut sequences: BTreeMap<PointId, (BTreeMap<MarkKind, Option<Mark>>, u64)> =
            BTreeMap::new();
        for ((point, number), (writer, record)) in by_number {
            let (said, next) = sequences.entry(point.clone()).or_default();
            let kind = record.read_kind().ok_or_else(|| corrupt(&point))?;
            let at = Timestamp { unix_ns: record.at_unix_ns };
            let mark = Mark { point, kind: kind.clone(), writer, at, note: record.note };
            said.insert(kind, record.is_set.then_some(mark));
            *next = number.saturating_add(1);
        }
        let in_force = sequences
            .into_iter()
            .map(|(point, (said, next))| (point, (said.into_values().flatten().collect(), next)));
        Ok(in_force.collect())
    }

    async fn mark_object(
        &self,
        (point, number): Place,
    ) -> Result<(Place, crate::format::envelope::Unverified)> {
        let path = mark_path(&point, number)?;
        let object = self.store().get_limited(&path, MARK_BYTES_MAX).await?;
        let unverified = open_unverified(self.keys(), ObjectType::Mark, &path, &object)?;
        Ok(((point, number), unverified))
    }
}

impl Record {
    fn new(kind: &MarkKind, note: Option<&str>, at: Timestamp) -> Self {
        let (number, tag) = match kind {
            MarkKind::Pin => (1, ""),
            MarkKind::Tag(tag) => (2, &tag[..]),
            MarkKind::Verified => (3, ""),
        };
        Self {
            kind: number,
            tag: tag.to_owned(),
            is_set: note.is_some(),
            at_unix_ns: at.unix_ns,
            note: note.unwrap_or_default().to_owned(),
        }
    }

    fn read_kind(&self) -> Option<MarkKind> {
        let is_plain = self.tag.len() <= TAG_BYTES_MAX && !self.tag.chars().any(char::is_control);
        match self.kind {
            1 if self.tag.is_empty() => Some(MarkKind::Pin),
            2 if !self.tag.is_empty() && is_plain => Some(MarkKind::Tag(self.tag.clone())),
            3 if self.tag.is_empty() => Some(MarkKind::Verified),
            _ => None,
        }
    }
}

fn mark_path(point: &PointId, number: u64) -> Result<String> {
    let number = Number::new(number)
        .ok_or_else(|| Error::new(ErrorKind::Exhausted, "mark point", point.short()))?;
    Ok(format!("mark/{}/{}", point.path(), number.digits()))
}

fn read_path(path: &str) -> Option<Place> {
    let (point, digits) = path.strip_prefix("mark/")?.rsplit_once('/')?;
    Some((PointId::from_path(point)?, Number::from_digits(digits)?.get()))
}

fn corrupt(point: &PointId) -> Error {
    Error::new(ErrorKind::Corrupt, "read mark of point", point.short())
}

#[cfg(test)]
mod tests;
