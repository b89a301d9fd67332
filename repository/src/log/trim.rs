//! Trimming: a stream loses its front, never anything else.

use std::collections::BTreeSet;

use model::{Context, Error, ErrorKind, Result};
use prost::Message as _;

use super::catalogue::Catalogue;
use super::{corrupt, record};
use crate::Repository;
use crate::format::ObjectType;
use crate::types::{Number, SessionId, StreamName};

const TRIM_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct TrimRecord {
    #[prost(sint64, tag = "1")]
    at_unix_ns: i64,
}

/// Says that no batch before `oldest_needed` is needed any more. Never moves back; twice is the same as
/// once.
///
/// # Errors
/// `Invalid` where it lies behind the log's end; `Denied` where a hold covers the log; those of the store.
pub async fn trim_log(
    repository: &Repository,
    stream: &StreamName,
    oldest_needed: u64,
    context: &Context,
) -> Result<()> {
    context.check("trim log")?;
    repository.check_writable()?;
    let (end, trimmed) =
        futures::try_join!(repository.log_end(stream), repository.log_trim(stream))?;
    if oldest_needed <= trimmed {
        return Ok(());
    }
    let end = end.map_or(0, |end| end.number);
    if oldest_needed > end.saturating_add(1) {
        return Err(Error::new(ErrorKind::Invalid, "trim log", stream.to_string())
            .detail(format!("it ends with batch {end}")));
    }
    if let Some(hold) = repository.holds(context.clock.now()).await?.on_log(stream) {
        return Err(hold.in_the_way(stream.to_string()));
    }
    let path = record::numbered("logtrim", stream, oldest_needed)?;
    let body = TrimRecord { at_unix_ns: context.clock.now().unix_ns }.encode_to_vec();
    match repository.create_signed(ObjectType::LogTrim, &path, body).await {
        // Somebody trimmed to the same place at another time.
        Err(error) if error.kind() == ErrorKind::Conflict => check_trim(repository, &path).await,
        other => other.map(|_| ()),
    }
}

/// Deletes what is trimmed of a stream; returns how many objects. The newest batch stays, so that
/// numbers go on. For the collector.
///
/// # Errors
/// Those of the store; `Corrupt` where the trim is not signed.
pub async fn delete_trimmed(
    repository: &Repository,
    stream: &StreamName,
    context: &Context,
) -> Result<u64> {
    let trimmed = repository.log_trim(stream).await?;
    let catalogue = Catalogue::list(repository, stream, 0).await?;
    let Some(newest) = catalogue.last().filter(|_| trimmed > 0) else { return Ok(0) };
    let end = trimmed.min(newest);
    let mut paths = Vec::new();
    for (number, files) in catalogue.batches.range(..end) {
        if files.size_bytes.is_some() {
            paths.push(record::batch_path(stream, *number)?);
        }
        paths.extend(files.parts.iter().cloned());
    }
    let old = catalogue.segments.iter().filter(|segment| segment.last < end);
    paths.extend(old.map(|segment| segment.path.clone()));
    // A run goes once a later one begins at or before what is needed.
    let runs = numbers(repository, "logrun", stream).await?;
    let kept = runs.iter().map(|(first, _)| *first).filter(|first| *first <= end).max();
    paths.extend(runs.into_iter().filter(|(first, _)| Some(*first) < kept).map(|(_, path)| path));
    let trims = numbers(repository, "logtrim", stream).await?;
    paths.extend(trims.into_iter().filter(|(n, _)| *n < trimmed).map(|(_, path)| path));
    let count = paths.len() as u64;
    for path in paths {
        context.check("delete trimmed batches")?;
        repository.store().delete(&path).await?;
    }
    Ok(count)
}

impl Repository {
    /// Returns the snapshots that batches of a stream still build on: they are kept as if a point named
    /// them.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn referenced_bases(&self, stream: &StreamName) -> Result<BTreeSet<SessionId>> {
        let (runs, trimmed) = futures::try_join!(self.log_runs(stream), self.log_trim(stream))?;
        let is_needed = |last: Option<u64>| last.is_none_or(|last| last >= trimmed);
        Ok(runs.into_iter().filter(|run| is_needed(run.last)).map(|run| run.base).collect())
    }

    /// Returns the number before which a stream is trimmed; 0 where it never was.
    ///
    /// # Errors
    /// `Corrupt` where no certified writer signed the trim; those of the store.
    pub async fn log_trim(&self, stream: &StreamName) -> Result<u64> {
        let trims = numbers(self, "logtrim", stream).await?;
        let Some((number, path)) = trims.into_iter().max() else { return Ok(0) };
        check_trim(self, &path).await?;
        Ok(number)
    }
}

async fn check_trim(repository: &Repository, path: &str) -> Result<()> {
    let object = repository.store().get_limited(path, TRIM_BYTES_MAX).await?;
    let signed = repository.open_signed(ObjectType::LogTrim, path, &object).await?;
    TrimRecord::decode(&signed.body[..])
        .map(|_| ())
        .map_err(|error| corrupt(path, "no trim").because(error))
}

/// Lists the numbered objects of a kind that has few.
async fn numbers(
    repository: &Repository,
    kind: &str,
    stream: &StreamName,
) -> Result<Vec<(u64, String)>> {
    let listed = repository.store().list(&format!("{kind}/{stream}")).await?;
    let numbered = listed.into_iter().filter_map(|object| {
        let digits = object.path.rsplit('/').next()?.split('-').next()?;
        Some((Number::from_digits(digits)?.get(), object.path))
    });
    Ok(numbered.collect())
}
