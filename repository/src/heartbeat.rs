//! Heartbeats: proofs of "nothing new", one object per writer for all its idle streams.
//!
//! A writer's newest heartbeat says all that the writer knows: what an earlier one said of other
//! streams (of another process with the same key, perhaps) is carried over, so that one read is enough.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Position, Result, Timestamp};
use prost::Message as _;

use crate::Repository;
use crate::format::ObjectType;
use crate::log::LogEnd;
use crate::snapshot::Snapshot;
use crate::types::{Number, StreamName, WriterId};

const HEARTBEAT_BYTES_MAX: u64 = 16 << 20;
/// The most streams of one heartbeat.
const STREAMS_MAX: usize = 16_384;
/// What was said of a stream that nobody speaks of any more is dropped after this time.
const CARRIED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
const READS_AT_ONCE: usize = 64;
/// How often a number is taken by somebody else before it is no coincidence.
const TRIES_MAX: usize = 16;

/// What a heartbeat says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// The stream.
    pub stream: StreamName,
    /// Where it stands.
    pub position: Position,
    /// The source's time up to which there is nothing after that position.
    pub as_of: Timestamp,
}

/// One writer's heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whose.
    pub writer: WriterId,
    /// Its number.
    pub number: u64,
    /// When, by the writer's clock.
    pub at: Timestamp,
    /// The idle streams.
    pub idle: Vec<Idle>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Record {
    #[prost(sint64, tag = "1")]
    at_unix_ns: i64,
    #[prost(message, repeated, tag = "2")]
    idle: Vec<IdleRecord>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct IdleRecord {
    #[prost(string, tag = "1")]
    stream: String,
    #[prost(bytes = "vec", tag = "2")]
    position: Vec<u8>,
    #[prost(sint64, tag = "3")]
    as_of_unix_ns: i64,
}

/// Writes this writer's heartbeats: one request each, as long as nobody else writes with the same key.
#[derive(Debug, Clone)]
pub struct HeartbeatWriter {
    repository: Repository,
    newest: Option<Heartbeat>,
}

impl HeartbeatWriter {
    /// Writes a heartbeat. Durable when it returns.
    ///
    /// # Errors
    /// `Invalid` where it covers too many streams; those of the store.
    pub async fn beat(&mut self, idle: Vec<Idle>, context: &Context) -> Result<Heartbeat> {
        let mut tries = 0;
        loop {
            context.check("write heartbeat")?;
            let next = next_heartbeat(&self.repository, self.newest.as_ref(), &idle, context);
            if next.idle.len() > STREAMS_MAX {
                return Err(Error::new(ErrorKind::Invalid, "write heartbeat", "")
                    .detail(format!("it may cover {STREAMS_MAX} streams")));
            }
            let path = heartbeat_path(next.writer, next.number)?;
            let body = Record::new(&next).encode_to_vec();
            match self.repository.create_signed(ObjectType::Heartbeat, &path, body).await {
                Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES_MAX => {
                    tries += 1;
                    self.newest = self.repository.newest_heartbeat(next.writer).await?;
                }
                Err(error) => return Err(error),
                Ok(_) => {
                    self.newest = Some(next.clone());
                    return Ok(next);
                }
            }
        }
    }
}

impl Repository {
    /// Returns what writes this writer's heartbeats.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn heartbeat_writer(&self) -> Result<HeartbeatWriter> {
        self.check_writable()?;
        let newest = self.newest_heartbeat(self.writer()).await?;
        Ok(HeartbeatWriter { repository: self.clone(), newest })
    }

    /// Writes a single heartbeat of this writer. Who writes more than one uses
    /// [`Repository::heartbeat_writer`].
    ///
    /// # Errors
    /// As [`HeartbeatWriter::beat`].
    pub async fn beat(&self, idle: Vec<Idle>, context: &Context) -> Result<Heartbeat> {
        self.heartbeat_writer().await?.beat(idle, context).await
    }

    /// Returns the newest heartbeat of every writer.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn latest_heartbeats(&self) -> Result<Vec<Heartbeat>> {
        let writers = self.heartbeat_writers().await?;
        stream::iter(writers.into_iter().map(|writer| self.newest_heartbeat(writer)))
            .buffered(READS_AT_ONCE)
            .try_filter_map(|heartbeat| std::future::ready(Ok(heartbeat)))
            .try_collect()
            .await
    }

    /// Returns the source's time up to which everything of a stream is durable: the end of its log, the
    /// cut of its newest snapshot, or what a heartbeat says of the position where one of them stands.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn covered_upto(&self, stream: &StreamName) -> Result<Option<Timestamp>> {
        let (end, snapshots, heartbeats) = futures::try_join!(
            self.log_end(stream),
            self.newest_snapshots(stream, 1),
            self.latest_heartbeats()
        )?;
        Ok(covered(stream, end.as_ref(), snapshots.first(), &heartbeats))
    }

    /// Deletes all but the newest heartbeat of every writer; returns how many. For the collector.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete_old_heartbeats(&self, context: &Context) -> Result<u64> {
        let mut deleted = 0;
        for writer in self.heartbeat_writers().await? {
            let listed = self.store().list(&format!("heartbeat/{writer}")).await?;
            let numbers = listed.iter().filter_map(|object| read_path(&object.path));
            let mut numbers: Vec<_> = numbers.map(|(_, number)| number).collect();
            numbers.sort_unstable();
            numbers.pop();
            for number in numbers {
                context.check("delete old heartbeats")?;
                self.store().delete(&heartbeat_path(writer, number)?).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    async fn heartbeat_writers(&self) -> Result<Vec<WriterId>> {
        let listing = self.store().list_directories("heartbeat").await?;
        let names = listing.directories.iter().filter_map(|path| path.rsplit('/').next());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    async fn newest_heartbeat(&self, writer: WriterId) -> Result<Option<Heartbeat>> {
        let buckets =
            self.store().list_directories(&format!("heartbeat/{writer}")).await?.directories;
        for bucket in buckets {
            // A local disk may keep a bucket in which nothing is left.
            let listed = self.store().list(&bucket).await?;
            let numbers = listed.iter().filter_map(|object| read_path(&object.path));
            let Some(number) = numbers.map(|(_, number)| number).max() else { continue };
            let path = heartbeat_path(writer, number)?;
            let object = self.store().get_limited(&path, HEARTBEAT_BYTES_MAX).await?;
            let signed = self.open_signed(ObjectType::Heartbeat, &path, &object).await?;
            let corrupt = || Error::new(ErrorKind::Corrupt, "read heartbeat", &path);
            if signed.writer != writer {
                return Err(corrupt().detail("another writer signed it"));
            }
            let record =
                Record::decode(&signed.body[..]).map_err(|error| corrupt().because(error))?;
            return record.read(writer, number).map(Some).ok_or_else(corrupt);
        }
        Ok(None)
    }
}

/// The source's time up to which everything of a stream is durable. A heartbeat counts only where the
/// position that it speaks of is durable itself.
pub fn covered(
    stream: &StreamName,
    end: Option<&LogEnd>,
    snapshot: Option<&Snapshot>,
    heartbeats: &[Heartbeat],
) -> Option<Timestamp> {
    let logged = end.map(|end| (&end.upto, end.last_at));
    let captured = snapshot
        .map(|snapshot| (&snapshot.position, snapshot.source_time.unwrap_or(snapshot.cut_from)));
    let durable: Vec<_> = logged.into_iter().chain(captured).collect();
    let said = heartbeats
        .iter()
        .flat_map(|heartbeat| &heartbeat.idle)
        .filter(|idle| idle.stream == *stream)
        .filter(|idle| durable.iter().any(|(position, _)| **position == idle.position))
        .map(|idle| idle.as_of);
    durable.iter().map(|(_, time)| *time).chain(said).max()
}

/// What is to be said after an earlier heartbeat: the same of the streams that are not spoken of now.
fn next_heartbeat(
    repository: &Repository,
    newest: Option<&Heartbeat>,
    idle: &[Idle],
    context: &Context,
) -> Heartbeat {
    let at = context.clock.now();
    let carried = newest.iter().flat_map(|heartbeat| &heartbeat.idle);
    let carried = carried.filter(|idle| at.since(idle.as_of) <= CARRIED_FOR);
    let mut by_stream: BTreeMap<_, &Idle> = carried.map(|idle| (&idle.stream, idle)).collect();
    by_stream.extend(idle.iter().map(|idle| (&idle.stream, idle)));
    Heartbeat {
        writer: repository.writer(),
        number: newest.map_or(1, |heartbeat| heartbeat.number.saturating_add(1)),
        at,
        idle: by_stream.into_values().cloned().collect(),
    }
}

impl Record {
    fn new(heartbeat: &Heartbeat) -> Self {
        let idle = heartbeat.idle.iter().map(|idle| IdleRecord {
            stream: idle.stream.to_string(),
            position: idle.position.0.to_vec(),
            as_of_unix_ns: idle.as_of.unix_ns,
        });
        Self { at_unix_ns: heartbeat.at.unix_ns, idle: idle.collect() }
    }

    fn read(self, writer: WriterId, number: u64) -> Option<Heartbeat> {
        if self.idle.len() > STREAMS_MAX {
            return None;
        }
        let idle = self.idle.into_iter().map(|idle| {
            Some(Idle {
                stream: idle.stream.parse().ok()?,
                position: Position(idle.position.into()),
                as_of: Timestamp { unix_ns: idle.as_of_unix_ns },
            })
        });
        let at = Timestamp { unix_ns: self.at_unix_ns };
        Some(Heartbeat { writer, number, at, idle: idle.collect::<Option<_>>()? })
    }
}

fn heartbeat_path(writer: WriterId, number: u64) -> Result<String> {
    let number = Number::new(number)
        .ok_or_else(|| Error::new(ErrorKind::Exhausted, "write heartbeat", writer.to_string()))?;
    Ok(format!("heartbeat/{writer}/{}/{}", number.bucket(), number.digits()))
}

fn read_path(path: &str) -> Option<(WriterId, u64)> {
    let mut parts = path.strip_prefix("heartbeat/")?.split('/');
    let (writer, bucket, digits) = (parts.next()?, parts.next()?, parts.next()?);
    let number = Number::from_digits(digits)?;
    (parts.next().is_none() && number.bucket() == bucket).then_some(())?;
    Some((writer.parse().ok()?, number.get()))
}

#[cfg(test)]
mod tests;
