//! The bytes of a point: a signed header that can stand alone, and the body that it vouches for.
//!
//! A point's object holds the whole sealed object of its header. Whoever deletes the body of a
//! forgotten point puts exactly these bytes at `point-header/…` first, without a key that signs. The
//! next point's header holds the hash of this header's bytes, so the chain is checked with either.

use model::{Position, Result, Timestamp};
use prost::Message as _;

use super::{ClockReading, Freshness, Point, PointDraft, PointEntry, PointId, corrupt};
use crate::crypto::KeyRing;
use crate::format::ObjectType;
use crate::format::envelope::{
    SignedBody, Unverified, open_object, open_unverified, seal_object, seal_signed,
};
use crate::types::{SessionId, WriterId};

/// The most bytes of a point's object.
pub(super) const POINT_BYTES_MAX: u64 = 16 << 20;
/// The most bytes of a header's object.
pub(super) const HEADER_BYTES_MAX: u64 = 64 << 10;
/// The most systems of one point.
pub(super) const ENTRIES_MAX: usize = 4096;
/// The most notes of one kind in a point.
pub(super) const NOTES_MAX: usize = 65_536;

const FRESH: u32 = 1;
const CARRIED: u32 = 2;
const MISSING: u32 = 3;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HeaderRecord {
    #[prost(uint64, tag = "1")]
    coordinator_epoch: u64,
    #[prost(bytes = "vec", tag = "2")]
    previous: Vec<u8>,
    #[prost(sint64, tag = "3")]
    sealed_unix_ns: i64,
    #[prost(sint64, optional, tag = "4")]
    store_unix_ns: Option<i64>,
    #[prost(sint64, tag = "5")]
    cut_from_unix_ns: i64,
    #[prost(sint64, tag = "6")]
    cut_to_unix_ns: i64,
    #[prost(bool, tag = "7")]
    is_clock_suspect: bool,
    #[prost(bool, tag = "8")]
    is_complete: bool,
    #[prost(uint32, tag = "9")]
    systems: u32,
    #[prost(bytes = "vec", tag = "10")]
    body_hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct PointRecord {
    #[prost(bytes = "vec", tag = "1")]
    header: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct BodyRecord {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<EntryRecord>,
    #[prost(string, repeated, tag = "2")]
    lacks: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    checks: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct EntryRecord {
    #[prost(string, tag = "1")]
    system: String,
    #[prost(string, tag = "2")]
    kind: String,
    #[prost(uint32, tag = "3")]
    freshness: u32,
    #[prost(string, tag = "4")]
    missing_why: String,
    #[prost(string, tag = "5")]
    snapshot: String,
    #[prost(bytes = "vec", optional, tag = "6")]
    position: Option<Vec<u8>>,
    #[prost(sint64, tag = "7")]
    cut_from_unix_ns: i64,
    #[prost(sint64, tag = "8")]
    cut_to_unix_ns: i64,
    #[prost(uint64, tag = "9")]
    items: u64,
    #[prost(uint64, tag = "10")]
    content_bytes: u64,
    #[prost(uint64, tag = "11")]
    problems: u64,
}

/// What stays of a point when it is forgotten and its body is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointHeader {
    /// The point.
    pub id: PointId,
    /// Who sealed it.
    pub writer: WriterId,
    /// The coordinator's epoch that the chain belongs to; 0 without a coordinator.
    pub coordinator_epoch: u64,
    /// BLAKE3 of the bytes of the header before it in the chain; none for the chain's first.
    pub previous: Option<[u8; 32]>,
    /// BLAKE3 of its own bytes.
    pub hash: [u8; 32],
    /// When it was sealed, by the writer's clock.
    pub sealed: Timestamp,
    /// The store's clock then.
    pub store_time: Option<Timestamp>,
    /// The earliest beginning of its readings.
    pub cut_from: Timestamp,
    /// The latest end of its fresh readings.
    pub cut_to: Timestamp,
    /// Whether the clocks disagree by more than a minute.
    pub is_clock_suspect: bool,
    /// Whether everything that it should hold was there.
    pub is_complete: bool,
    /// How many systems it has an entry for.
    pub systems: u32,
    body_hash: [u8; 32],
}

/// The place in a chain and the time that a point is sealed with.
pub(super) struct Seal {
    pub(super) coordinator_epoch: u64,
    pub(super) previous: Option<[u8; 32]>,
    pub(super) sealed: Timestamp,
    pub(super) store_time: Option<Timestamp>,
}

/// Makes the object of a point, and the hash that the next one holds.
pub(super) fn encode(
    keys: &KeyRing,
    id: PointId,
    draft: PointDraft,
    seal: &Seal,
) -> Result<(Point, Vec<u8>, [u8; 32])> {
    let (cut_from, cut_to) = cut_times(&draft.entries, seal.sealed);
    let at_sealing = ClockReading { writer: seal.sealed, source: None, store: seal.store_time };
    let is_clock_suspect = draft.clocks.iter().chain([&at_sealing]).any(ClockReading::disagrees);
    let body = BodyRecord {
        entries: draft.entries.iter().map(EntryRecord::new).collect(),
        lacks: draft.lacks.clone(),
        checks: draft.checks.clone(),
    }
    .encode_to_vec();
    let header = HeaderRecord {
        coordinator_epoch: seal.coordinator_epoch,
        previous: seal.previous.map_or(Vec::new(), |hash| hash.to_vec()),
        sealed_unix_ns: seal.sealed.unix_ns,
        store_unix_ns: seal.store_time.map(|time| time.unix_ns),
        cut_from_unix_ns: cut_from.unix_ns,
        cut_to_unix_ns: cut_to.unix_ns,
        is_clock_suspect,
        is_complete: draft.lacks.is_empty(),
        systems: u32::try_from(draft.entries.len()).unwrap_or(u32::MAX),
        body_hash: blake3::hash(&body).as_bytes().to_vec(),
    };
    let header = seal_signed(keys, ObjectType::Point, &id.header_path(), header.encode_to_vec())?;
    let hash = *blake3::hash(&header).as_bytes();
    let record = PointRecord { header, body }.encode_to_vec();
    let object = seal_object(keys, ObjectType::Point, &id.object_path(), &record)?;
    let point = Point {
        id,
        writer: keys.signer().writer(),
        cut_from,
        cut_to,
        sealed: seal.sealed,
        store_time: seal.store_time,
        is_clock_suspect,
        entries: draft.entries,
        lacks: draft.lacks,
        checks: draft.checks,
    };
    Ok((point, object, hash))
}

/// The span of the readings that were made for a point; of all that it has where none was.
fn cut_times(entries: &[PointEntry], sealed: Timestamp) -> (Timestamp, Timestamp) {
    let is_fresh = |entry: &&PointEntry| entry.freshness == Freshness::Fresh;
    let has_state = |entry: &&PointEntry| entry.snapshot.is_some();
    let span = |chosen: Vec<&PointEntry>| {
        let from = chosen.iter().map(|entry| entry.cut_from).min()?;
        Some((from, chosen.iter().map(|entry| entry.cut_to).max()?))
    };
    span(entries.iter().filter(is_fresh).collect())
        .or_else(|| span(entries.iter().filter(has_state).collect()))
        .unwrap_or((sealed, sealed))
}

/// A point whose signature has to be checked before it can be had.
pub(super) struct Opened {
    id: PointId,
    header_hash: [u8; 32],
    body: Vec<u8>,
}

/// Opens a point's object; the signature is that of its header.
pub(super) fn open(keys: &KeyRing, id: &PointId, object: &[u8]) -> Result<(Opened, Unverified)> {
    let path = id.object_path();
    let plaintext = open_object(keys, ObjectType::Point, &path, object)?;
    let record = PointRecord::decode(&plaintext[..])
        .map_err(|error| corrupt(&path, "no point").because(error))?;
    let (hash, unverified) = open_header(keys, id, &record.header)?;
    Ok((Opened { id: id.clone(), header_hash: hash, body: record.body }, unverified))
}

/// Opens a header that stands alone.
pub(super) fn open_header(
    keys: &KeyRing,
    id: &PointId,
    object: &[u8],
) -> Result<([u8; 32], Unverified)> {
    let unverified = open_unverified(keys, ObjectType::Point, &id.header_path(), object)?;
    Ok((*blake3::hash(object).as_bytes(), unverified))
}

/// Returns the bytes that are to stand alone when a point's body is deleted.
pub(super) fn header_object(keys: &KeyRing, id: &PointId, object: &[u8]) -> Result<Vec<u8>> {
    let path = id.object_path();
    let plaintext = open_object(keys, ObjectType::Point, &path, object)?;
    PointRecord::decode(&plaintext[..])
        .map(|record| record.header)
        .map_err(|error| corrupt(&path, "no point").because(error))
}

/// Reads a header whose signature holds.
pub(super) fn read_header(
    id: &PointId,
    hash: [u8; 32],
    signed: &SignedBody,
) -> Result<PointHeader> {
    let path = id.header_path();
    let record = HeaderRecord::decode(&signed.body[..])
        .map_err(|error| corrupt(&path, "no header of a point").because(error))?;
    let previous = match &record.previous[..] {
        [] => None,
        bytes => Some(bytes.try_into().map_err(|_| corrupt(&path, "not the hash of another"))?),
    };
    let body_hash = record.body_hash[..].try_into();
    let time = |unix_ns| Timestamp { unix_ns };
    Ok(PointHeader {
        id: id.clone(),
        writer: signed.writer,
        coordinator_epoch: record.coordinator_epoch,
        previous,
        hash,
        sealed: time(record.sealed_unix_ns),
        store_time: record.store_unix_ns.map(time),
        cut_from: time(record.cut_from_unix_ns),
        cut_to: time(record.cut_to_unix_ns),
        is_clock_suspect: record.is_clock_suspect,
        is_complete: record.is_complete,
        systems: record.systems,
        body_hash: body_hash.map_err(|_| corrupt(&path, "not the hash of a body"))?,
    })
}

impl Opened {
    /// Reads the point once its header's signature holds.
    pub(super) fn read(self, signed: &SignedBody) -> Result<(PointHeader, Point)> {
        let path = self.id.object_path();
        let header = read_header(&self.id, self.header_hash, signed)?;
        if *blake3::hash(&self.body).as_bytes() != header.body_hash {
            return Err(corrupt(&path, "its body is not the one that was signed"));
        }
        let body = BodyRecord::decode(&self.body[..])
            .map_err(|error| corrupt(&path, "no body of a point").because(error))?;
        if body.entries.len() > ENTRIES_MAX || body.lacks.len().max(body.checks.len()) > NOTES_MAX {
            return Err(corrupt(&path, "more than a point may hold"));
        }
        let entries: Option<Vec<_>> = body.entries.into_iter().map(EntryRecord::read).collect();
        let entries = entries.ok_or_else(|| corrupt(&path, "an entry makes no sense"))?;
        if !entries.is_sorted_by(|a, b| a.system < b.system) {
            return Err(corrupt(&path, "its entries are not sorted"));
        }
        let point = Point {
            id: self.id,
            writer: header.writer,
            cut_from: header.cut_from,
            cut_to: header.cut_to,
            sealed: header.sealed,
            store_time: header.store_time,
            is_clock_suspect: header.is_clock_suspect,
            entries,
            lacks: body.lacks,
            checks: body.checks,
        };
        Ok((header, point))
    }
}

impl EntryRecord {
    fn new(entry: &PointEntry) -> Self {
        let (freshness, missing_why) = match &entry.freshness {
            Freshness::Fresh => (FRESH, String::new()),
            Freshness::Carried => (CARRIED, String::new()),
            Freshness::Missing(why) => (MISSING, why.clone()),
        };
        Self {
            system: entry.system.to_string(),
            kind: entry.kind.clone(),
            freshness,
            missing_why,
            snapshot: entry.snapshot.as_ref().map_or(String::new(), SessionId::path),
            position: entry.position.as_ref().map(|position| position.0.to_vec()),
            cut_from_unix_ns: entry.cut_from.unix_ns,
            cut_to_unix_ns: entry.cut_to.unix_ns,
            items: entry.items,
            content_bytes: entry.content_bytes,
            problems: entry.problems,
        }
    }

    fn read(self) -> Option<PointEntry> {
        let freshness = match self.freshness {
            FRESH => Freshness::Fresh,
            CARRIED => Freshness::Carried,
            MISSING => Freshness::Missing(self.missing_why),
            _ => return None,
        };
        let snapshot = match &self.snapshot[..] {
            "" => None,
            path => Some(SessionId::from_path(path)?),
        };
        let is_missing = matches!(freshness, Freshness::Missing(_));
        (is_missing == snapshot.is_none()).then_some(())?;
        Some(PointEntry {
            system: self.system.parse().ok()?,
            kind: self.kind,
            freshness,
            snapshot,
            position: self.position.map(|bytes| Position(bytes.into())),
            cut_from: Timestamp { unix_ns: self.cut_from_unix_ns },
            cut_to: Timestamp { unix_ns: self.cut_to_unix_ns },
            items: self.items,
            content_bytes: self.content_bytes,
            problems: self.problems,
        })
    }
}
