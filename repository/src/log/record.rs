//! The bytes of batches, of their parts and of segments.

use bytes::Bytes;
use model::{Error, ErrorKind, LogPayload, Position, Result, Timestamp};
use prost::Message as _;

use super::{
    LOG_BATCH_BYTES_MAX, LOG_PART_BYTES_MAX, LogBatch, LogBody, SEGMENT_BYTES_MAX, changes, corrupt,
};
use crate::crypto::KeyRing;
use crate::format::ObjectType;
use crate::format::envelope::{open_object, seal_object};
use crate::types::{Number, SessionId, StreamName, hex};

/// The most bytes of a batch's or a segment's object: incompressible bytes and what is around them.
pub(super) const OBJECT_BYTES_MAX: u64 = 80 << 20;
/// The most parts that a batch has beside its own object.
pub(super) const PARTS_MAX: usize = LOG_BATCH_BYTES_MAX / LOG_PART_BYTES_MAX;
/// The most batches of one segment.
pub(super) const SEGMENT_BATCHES_MAX: usize = 1 << 20;

const LEVEL: i32 = 1;
const PLAIN: u32 = 0;
const ZSTD: u32 = 1;
const RAW: u32 = 1;
const CHANGES: u32 = 2;

/// BLAKE3 of an object's bytes.
pub(super) type Hash = [u8; 32];

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct EncodedRecord {
    #[prost(uint32, tag = "1")]
    encoding: u32,
    #[prost(uint64, tag = "2")]
    length: u64,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HeaderRecord {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "vec", tag = "2")]
    previous: Vec<u8>,
    #[prost(string, tag = "3")]
    base: String,
    #[prost(bytes = "vec", tag = "4")]
    after: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    upto: Vec<u8>,
    #[prost(sint64, tag = "6")]
    first_at_unix_ns: i64,
    #[prost(sint64, tag = "7")]
    last_at_unix_ns: i64,
    #[prost(uint32, tag = "8")]
    payload: u32,
    #[prost(bytes = "vec", repeated, tag = "9")]
    parts: Vec<Vec<u8>>,
    #[prost(uint64, tag = "10")]
    run_first: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct BatchRecord {
    #[prost(message, optional, tag = "1")]
    header: Option<HeaderRecord>,
    #[prost(message, optional, tag = "2")]
    body: Option<EncodedRecord>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct SegmentRecord {
    #[prost(message, repeated, tag = "1")]
    batches: Vec<SegmentBatchRecord>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct SegmentBatchRecord {
    #[prost(message, optional, tag = "1")]
    header: Option<HeaderRecord>,
    #[prost(bytes = "vec", tag = "2")]
    hash: Vec<u8>,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
}

/// What a batch says before its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    /// The hash of the batch before; none for the stream's first.
    pub(super) previous: Option<Hash>,
    pub(super) base: SessionId,
    /// The number of the first batch of its run.
    pub(super) run_first: u64,
    pub(super) after: Position,
    pub(super) upto: Position,
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
    pub(super) payload: LogPayload,
    /// The hashes of the parts that come before what stands in the batch's own object.
    pub(super) parts: Vec<Hash>,
}

/// A batch that was read, its body not yet taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) header: Header,
    /// The hash of its object.
    pub(super) hash: Hash,
    pub(super) body: Bytes,
}

/// A batch's place.
pub(super) fn batch_path(stream: &StreamName, number: u64) -> Result<String> {
    numbered("log", stream, number)
}

/// A part's place: named by its hash, so that writers who contend for a number do not meet.
pub(super) fn part_path(batch: &str, hash: &Hash) -> String {
    format!("{batch}-{}", hex(hash))
}

/// The place below `kind/<stream>/`.
pub(super) fn numbered(kind: &str, stream: &StreamName, number: u64) -> Result<String> {
    let number = Number::new(number)
        .ok_or_else(|| Error::new(ErrorKind::Exhausted, "append to log", stream.to_string()))?;
    Ok(format!("{kind}/{stream}/{}/{}", number.bucket(), number.digits()))
}

/// Seals a batch's object around the last piece of its body.
pub(super) fn seal_batch(
    keys: &KeyRing,
    path: &str,
    header: &Header,
    body: &[u8],
) -> Result<Vec<u8>> {
    let record = BatchRecord {
        header: Some(HeaderRecord::new(header)),
        body: Some(EncodedRecord::new(body)?),
    };
    seal_object(keys, ObjectType::LogBatch, path, &record.encode_to_vec())
}

/// Seals a piece of a body. Its place follows from its plaintext's hash, which is returned.
pub(super) fn seal_part(keys: &KeyRing, batch: &str, body: &[u8]) -> Result<(Hash, Vec<u8>)> {
    let hash = *blake3::hash(body).as_bytes();
    let record = EncodedRecord::new(body)?.encode_to_vec();
    let object = seal_object(keys, ObjectType::LogBatch, &part_path(batch, &hash), &record)?;
    Ok((hash, object))
}

/// Opens a batch's object: what it says, and the last piece of its body.
pub(super) fn open_batch(keys: &KeyRing, path: &str, object: &[u8]) -> Result<(Header, Bytes)> {
    let plaintext = Bytes::from(open_object(keys, ObjectType::LogBatch, path, object)?);
    let record =
        BatchRecord::decode(plaintext).map_err(|error| corrupt(path, "no batch").because(error))?;
    let header = record.header.and_then(HeaderRecord::read);
    let header = header.ok_or_else(|| corrupt(path, "its header makes no sense"))?;
    let body = record.body.and_then(|body| body.read(LOG_PART_BYTES_MAX));
    Ok((header, body.ok_or_else(|| corrupt(path, "its body is damaged"))?))
}

/// Opens a part.
pub(super) fn open_part(keys: &KeyRing, path: &str, hash: &Hash, object: &[u8]) -> Result<Bytes> {
    let plaintext = Bytes::from(open_object(keys, ObjectType::LogBatch, path, object)?);
    let record = EncodedRecord::decode(plaintext)
        .map_err(|error| corrupt(path, "no part of a batch").because(error))?;
    let body = record.read(LOG_PART_BYTES_MAX);
    body.filter(|body| blake3::hash(body) == *hash).ok_or_else(|| corrupt(path, "it is damaged"))
}

/// What a batch takes of a segment's body, within a few bytes: never less.
pub(super) fn segment_bytes(batch: &Stored) -> usize {
    const FRAMES: usize = 64;
    HeaderRecord::new(&batch.header).encoded_len() + batch.body.len() + FRAMES
}

/// Encodes batches as the plaintext of a segment's body.
pub(super) fn encode_segment(batches: Vec<Stored>) -> Vec<u8> {
    let batches = batches.into_iter().map(|batch| SegmentBatchRecord {
        header: Some(HeaderRecord::new(&batch.header)),
        hash: batch.hash.to_vec(),
        body: batch.body,
    });
    SegmentRecord { batches: batches.collect() }.encode_to_vec()
}

/// Seals a segment.
pub(super) fn seal_segment(keys: &KeyRing, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    let record = EncodedRecord::new(body)?.encode_to_vec();
    seal_object(keys, ObjectType::LogSegment, path, &record)
}

/// Opens a segment of the batches `first` to `last`: all of them, linked.
pub(super) fn open_segment(
    keys: &KeyRing,
    path: &str,
    (first, last): (u64, u64),
    object: &[u8],
) -> Result<Vec<Stored>> {
    let plaintext = Bytes::from(open_object(keys, ObjectType::LogSegment, path, object)?);
    let body = EncodedRecord::decode(plaintext)
        .map_err(|error| corrupt(path, "no segment").because(error))?
        .read(SEGMENT_BYTES_MAX)
        .ok_or_else(|| corrupt(path, "its body is damaged"))?;
    let record =
        SegmentRecord::decode(body).map_err(|error| corrupt(path, "no batches").because(error))?;
    let count = record.batches.len();
    let expected = last.checked_sub(first).and_then(|n| usize::try_from(n).ok()?.checked_add(1));
    if count > SEGMENT_BATCHES_MAX || expected != Some(count) {
        return Err(corrupt(path, "it does not hold the batches that its name says"));
    }
    let mut batches: Vec<Stored> = Vec::with_capacity(count);
    for (record, number) in record.batches.into_iter().zip(first..) {
        let header = record.header.and_then(HeaderRecord::read);
        let hash = record.hash[..].try_into().ok();
        let is_linked = |header: &Header| {
            header.number == number
                && batches.last().is_none_or(|before| header.previous == Some(before.hash))
        };
        match (header.filter(is_linked), hash) {
            (Some(header), Some(hash)) => {
                batches.push(Stored { header, hash, body: record.body });
            }
            _ => return Err(corrupt(path, format!("batch {number} does not fit in"))),
        }
    }
    Ok(batches)
}

impl Stored {
    /// Takes the body apart.
    pub(super) fn read(self, stream: &StreamName) -> Result<LogBatch> {
        let Header { number, base, after, upto, first_at, last_at, payload, .. } = self.header;
        let body = match payload {
            LogPayload::Raw => LogBody::Raw(self.body),
            LogPayload::Changes => {
                LogBody::Changes(changes::decode(&self.body).ok_or_else(|| {
                    corrupt(&format!("log/{stream}"), format!("changes of batch {number}"))
                })?)
            }
        };
        Ok(LogBatch { number, base, after, upto, first_at, last_at, body })
    }
}

impl EncodedRecord {
    pub(super) fn new(body: &[u8]) -> Result<Self> {
        let compressed = zstd::bulk::compress(body, LEVEL)
            .map_err(|error| Error::new(ErrorKind::Internal, "compress log", "").because(error))?;
        let is_smaller = compressed.len() < body.len();
        Ok(Self {
            encoding: if is_smaller { ZSTD } else { PLAIN },
            length: body.len() as u64,
            data: if is_smaller { compressed.into() } else { Bytes::copy_from_slice(body) },
        })
    }

    pub(super) fn read(self, length_max: usize) -> Option<Bytes> {
        let length = usize::try_from(self.length).ok().filter(|length| *length <= length_max)?;
        let body = match self.encoding {
            PLAIN => self.data,
            // It fails where there is more than the length that was checked.
            ZSTD => zstd::bulk::decompress(&self.data, length).ok()?.into(),
            _ => return None,
        };
        (body.len() == length).then_some(body)
    }
}

impl HeaderRecord {
    fn new(header: &Header) -> Self {
        Self {
            number: header.number,
            previous: header.previous.map_or(Vec::new(), |hash| hash.to_vec()),
            base: header.base.path(),
            after: header.after.0.to_vec(),
            upto: header.upto.0.to_vec(),
            first_at_unix_ns: header.first_at.unix_ns,
            last_at_unix_ns: header.last_at.unix_ns,
            payload: match header.payload {
                LogPayload::Raw => RAW,
                LogPayload::Changes => CHANGES,
            },
            parts: header.parts.iter().map(|hash| hash.to_vec()).collect(),
            run_first: header.run_first,
        }
    }

    fn read(self) -> Option<Header> {
        let hash = |bytes: Vec<u8>| bytes.try_into().ok();
        let parts = self.parts;
        (parts.len() <= PARTS_MAX && self.run_first <= self.number).then_some(())?;
        Some(Header {
            number: self.number,
            previous: match self.previous.is_empty() {
                true => None,
                false => Some(hash(self.previous)?),
            },
            base: SessionId::from_path(&self.base)?,
            run_first: self.run_first,
            after: Position(self.after.into()),
            upto: Position(self.upto.into()),
            first_at: Timestamp { unix_ns: self.first_at_unix_ns },
            last_at: Timestamp { unix_ns: self.last_at_unix_ns },
            payload: match self.payload {
                RAW => LogPayload::Raw,
                CHANGES => LogPayload::Changes,
                _ => return None,
            },
            parts: parts.into_iter().map(hash).collect::<Option<_>>()?,
        })
    }
}
