//! The bodies of `session/`, `snapshot/` and `forget/`: prost messages, signed by their writer.
//!
//! What is read is checked here and nowhere else: lengths against caps, numbers against their types.

use bytes::Bytes;
use model::{Claim, Epoch, Error, ErrorKind, Position, Proof, Result, Timestamp};
use prost::Message;

use super::Snapshot;
use crate::tree::HEIGHT_MAX;
use crate::types::{Location, NodeId, PackName, Place, Root, SessionId, Totals, WriterId};

/// The most bytes that a snapshot takes; a proof or a position may be long.
pub(crate) const SNAPSHOT_BYTES_MAX: u64 = 1 << 20;
/// The most bytes that an announcement or a forget takes.
pub(crate) const NOTICE_BYTES_MAX: u64 = 16 << 10;

const HOST_BYTES_MAX: usize = 255;
const NAME_BYTES_MAX: usize = 64;

/// What stands at a commit key.
#[derive(Debug, Clone)]
pub(crate) enum Commit {
    /// A snapshot or a checkpoint.
    Snapshot(Box<Snapshot>),
    /// The session was given up, or closed by a collector.
    Tombstone(String),
}

/// A writer's announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The capturing host.
    pub host: String,
    /// The kind of the system.
    pub kind: String,
    /// The key domain.
    pub domain: String,
    /// When it began, by the writer's clock.
    pub started: Timestamp,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct AnnouncementBody {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(string, tag = "2")]
    kind: String,
    #[prost(string, tag = "3")]
    domain: String,
    #[prost(sint64, tag = "4")]
    started_ns: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct CommitBody {
    #[prost(message, optional, tag = "1")]
    snapshot: Option<SnapshotBody>,
    #[prost(message, optional, tag = "2")]
    tombstone: Option<TombstoneBody>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct TombstoneBody {
    #[prost(string, tag = "1")]
    reason: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct SnapshotBody {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(string, tag = "3")]
    host: String,
    #[prost(string, optional, tag = "4")]
    parent: Option<String>,
    #[prost(uint64, tag = "5")]
    capture_number: u64,
    #[prost(bool, tag = "6")]
    is_checkpoint: bool,
    #[prost(message, optional, tag = "7")]
    root: Option<RootBody>,
    #[prost(bytes = "bytes", tag = "8")]
    position: Bytes,
    #[prost(sint64, tag = "9")]
    cut_from_ns: i64,
    #[prost(sint64, tag = "10")]
    cut_to_ns: i64,
    #[prost(sint64, optional, tag = "11")]
    source_time_ns: Option<i64>,
    #[prost(sint64, optional, tag = "12")]
    store_time_ns: Option<i64>,
    #[prost(uint64, tag = "13")]
    extent_epoch: u64,
    #[prost(string, tag = "14")]
    proof_method: String,
    #[prost(message, repeated, tag = "15")]
    claims: Vec<ClaimBody>,
    #[prost(uint64, tag = "16")]
    problems: u64,
    #[prost(uint64, tag = "17")]
    stored_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ClaimBody {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// Absent for an empty tree.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct RootBody {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    height: u32,
    #[prost(uint64, tag = "3")]
    items: u64,
    #[prost(uint64, tag = "4")]
    content_bytes: u64,
    #[prost(bytes = "vec", tag = "5")]
    pack: Vec<u8>,
    #[prost(uint32, tag = "6")]
    block_offset: u32,
    #[prost(uint32, tag = "7")]
    block_length: u32,
    #[prost(uint32, tag = "8")]
    offset_in_block: u32,
    #[prost(uint32, tag = "9")]
    length: u32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ForgetBody {
    #[prost(sint64, tag = "1")]
    at_ns: i64,
    #[prost(string, tag = "2")]
    reason: String,
}

/// Refuses names that no reader would take.
pub(crate) fn check_names(kind: &str, domain: &str, host: &str) -> Result<()> {
    for (what, name, length_max) in [
        ("kind", kind, NAME_BYTES_MAX),
        ("domain", domain, NAME_BYTES_MAX),
        ("host", host, HOST_BYTES_MAX),
    ] {
        if name.len() > length_max {
            return Err(Error::new(ErrorKind::Invalid, "begin session", name)
                .detail(format!("the name of its {what} has more than {length_max} bytes")));
        }
    }
    Ok(())
}

/// Encodes an announcement.
pub(crate) fn encode_announcement(announcement: &Announcement) -> Vec<u8> {
    let Announcement { host, kind, domain, started } = announcement.clone();
    AnnouncementBody { host, kind, domain, started_ns: started.unix_ns }.encode_to_vec()
}

/// Decodes an announcement.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn decode_announcement(id: &SessionId, body: &[u8]) -> Result<Announcement> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "read session", id.to_string());
    let body = AnnouncementBody::decode(body).map_err(|error| corrupt().because(error))?;
    let AnnouncementBody { host, kind, domain, started_ns } = body;
    check_names(&kind, &domain, &host).map_err(|error| corrupt().because(error))?;
    Ok(Announcement { host, kind, domain, started: Timestamp { unix_ns: started_ns } })
}

/// Encodes a tombstone.
pub(crate) fn encode_tombstone(reason: &str) -> Vec<u8> {
    let tombstone = Some(TombstoneBody { reason: reason.to_owned() });
    CommitBody { snapshot: None, tombstone }.encode_to_vec()
}

/// Encodes a forget.
pub(crate) fn encode_forget(at: Timestamp, reason: &str) -> Vec<u8> {
    ForgetBody { at_ns: at.unix_ns, reason: reason.to_owned() }.encode_to_vec()
}

/// Decodes a forget: when it was said, and why.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn decode_forget(id: &SessionId, body: &[u8]) -> Result<(Timestamp, String)> {
    let body = ForgetBody::decode(body).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "read forget of", id.to_string()).because(error)
    })?;
    Ok((Timestamp { unix_ns: body.at_ns }, body.reason))
}

/// Encodes a snapshot.
///
/// # Errors
/// `Internal` where its root has no place; `Exhausted` where it is longer than readers take.
pub(crate) fn encode_snapshot(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let root = encode_root(&snapshot.root).ok_or_else(|| {
        Error::new(ErrorKind::Internal, "write snapshot", snapshot.id.to_string())
            .detail("its root has no place yet")
    })?;
    let claims = snapshot.proof.claims.iter();
    let body = SnapshotBody {
        kind: snapshot.kind.clone(),
        domain: snapshot.domain.clone(),
        host: snapshot.host.clone(),
        parent: snapshot.parent.as_ref().map(SessionId::path),
        capture_number: snapshot.capture_number,
        is_checkpoint: snapshot.is_checkpoint,
        root,
        position: snapshot.position.0.clone(),
        cut_from_ns: snapshot.cut_from.unix_ns,
        cut_to_ns: snapshot.cut_to.unix_ns,
        source_time_ns: snapshot.source_time.map(|time| time.unix_ns),
        store_time_ns: snapshot.store_time.map(|time| time.unix_ns),
        extent_epoch: snapshot.extent_epoch.0,
        proof_method: snapshot.proof.method.clone(),
        claims: claims
            .map(|claim| ClaimBody { name: claim.name.clone(), value: claim.value.clone() })
            .collect(),
        problems: snapshot.problems,
        stored_bytes: snapshot.stored_bytes,
    };
    let bytes = CommitBody { snapshot: Some(body), tombstone: None }.encode_to_vec();
    // The envelope and the signature take less than the second half.
    if bytes.len() as u64 > SNAPSHOT_BYTES_MAX / 2 {
        return Err(Error::new(ErrorKind::Exhausted, "write snapshot", snapshot.id.to_string())
            .detail("its position and its proof are too long"));
    }
    Ok(bytes)
}

fn encode_root(root: &Root) -> Option<Option<RootBody>> {
    let Some((id, place)) = &root.node else { return Some(None) };
    let Location { pack, block_offset, block_length, offset_in_block, length } =
        place.location()?;
    Some(Some(RootBody {
        id: id.0.to_vec(),
        height: root.height.into(),
        items: root.totals.items,
        content_bytes: root.totals.content_bytes,
        pack: pack.0.to_vec(),
        block_offset,
        block_length,
        offset_in_block,
        length,
    }))
}

/// Decodes what stands at a commit key.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn decode_commit(id: &SessionId, writer: WriterId, body: &[u8]) -> Result<Commit> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "read snapshot", id.to_string());
    let body = CommitBody::decode(body).map_err(|error| corrupt().because(error))?;
    match (body.snapshot, body.tombstone) {
        (Some(body), None) => {
            check_names(&body.kind, &body.domain, &body.host)
                .map_err(|error| corrupt().because(error))?;
            let snapshot = decode_snapshot(id, writer, body);
            snapshot.map(|snapshot| Commit::Snapshot(Box::new(snapshot))).ok_or_else(corrupt)
        }
        (None, Some(tombstone)) => Ok(Commit::Tombstone(tombstone.reason)),
        _ => Err(corrupt().detail("neither a snapshot nor a tombstone")),
    }
}

fn decode_snapshot(id: &SessionId, writer: WriterId, body: SnapshotBody) -> Option<Snapshot> {
    let time = |unix_ns| Timestamp { unix_ns };
    let claims =
        body.claims.into_iter().map(|claim| Claim { name: claim.name, value: claim.value });
    Some(Snapshot {
        id: id.clone(),
        writer,
        kind: body.kind,
        domain: body.domain,
        host: body.host,
        parent: match body.parent {
            None => None,
            Some(path) => Some(SessionId::from_path(&path)?),
        },
        capture_number: body.capture_number,
        is_checkpoint: body.is_checkpoint,
        root: decode_root(body.root)?,
        position: Position(body.position),
        cut_from: time(body.cut_from_ns),
        cut_to: time(body.cut_to_ns),
        source_time: body.source_time_ns.map(time),
        store_time: body.store_time_ns.map(time),
        extent_epoch: Epoch(body.extent_epoch),
        proof: Proof { method: body.proof_method, claims: claims.collect() },
        problems: body.problems,
        stored_bytes: body.stored_bytes,
    })
}

fn decode_root(root: Option<RootBody>) -> Option<Root> {
    let Some(root) = root else {
        return Some(Root { node: None, height: 0, totals: Totals::default() });
    };
    let id = NodeId(root.id.try_into().ok()?);
    let location = Location {
        pack: PackName(root.pack.try_into().ok()?),
        block_offset: root.block_offset,
        block_length: root.block_length,
        offset_in_block: root.offset_in_block,
        length: root.length,
    };
    let height = u8::try_from(root.height).ok().filter(|h| (1..=HEIGHT_MAX).contains(h))?;
    let totals = Totals { items: root.items, content_bytes: root.content_bytes };
    Some(Root { node: Some((id, Place::Known(location))), height, totals })
}
