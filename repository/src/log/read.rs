//! Reading logs: segments before batches, every link checked, and once more from the listing where an
//! object that was listed is gone, because it was compacted meanwhile.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use model::{BatchStream, Error, ErrorKind, Result};
use prost::Message as _;

use super::catalogue::{Catalogue, Piece, Segment};
use super::record::{self, Hash, OBJECT_BYTES_MAX, Stored};
use super::{LOG_BATCH_BYTES_MAX, LogBatch, LogEnd, LogRun, corrupt};
use crate::Repository;
use crate::format::ObjectType;
use crate::format::envelope::{open_object, seal_object};
use crate::types::{Number, SessionId, StreamName};

/// How many batches are read ahead.
const BATCHES_AHEAD: usize = 16;
/// How many segments are read ahead; each may be tens of MiB.
const SEGMENTS_AHEAD: usize = 2;
/// How often the listing is read again for the same batch.
const LISTINGS_MAX: usize = 4;
const RUN_BYTES_MAX: u64 = 64 << 10;
const READS_AT_ONCE: usize = 32;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct RunRecord {
    #[prost(string, tag = "1")]
    base: String,
}

impl Repository {
    /// Returns where a stream's log ends; none where there is none.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn log_end(&self, stream: &StreamName) -> Result<Option<LogEnd>> {
        Ok(self.log_tail(stream).await?.map(|tail| tail.end))
    }

    /// Returns the number of a stream's oldest batch that is there and not trimmed.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn log_begin(&self, stream: &StreamName) -> Result<Option<u64>> {
        let (catalogue, trimmed) =
            futures::try_join!(Catalogue::list(self, stream, 0), self.log_trim(stream))?;
        Ok(catalogue.first().map(|first| first.max(trimmed)))
    }

    /// Lists the streams that have logs.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn logged_streams(&self) -> Result<Vec<StreamName>> {
        let (logs, segments) = futures::try_join!(
            self.store().list_directories("log"),
            self.store().list_directories("logseg")
        )?;
        let paths = logs.directories.iter().chain(&segments.directories);
        let names = paths.filter_map(|path| path.rsplit('/').next()?.parse().ok());
        let streams: BTreeSet<StreamName> = names.collect();
        Ok(streams.into_iter().collect())
    }

    /// Lists the runs of a stream's log, oldest first.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn log_runs(&self, stream: &StreamName) -> Result<Vec<LogRun>> {
        let prefix = format!("logrun/{stream}");
        // A writer that died with its first batch left no other word of its run than that batch.
        let (listed, tail) = futures::try_join!(self.store().list(&prefix), self.log_tail(stream))?;
        let mut runs: Vec<LogRun> = stream::iter(listed.into_iter().filter_map(|object| {
            let digits = object.path.rsplit('/').next()?.split('-').next()?;
            Some((Number::from_digits(digits)?.get(), object.path))
        }))
        .map(|(first, path)| {
            let this = self.clone();
            async move {
                let object = this.store().get_limited(&path, RUN_BYTES_MAX).await?;
                let body = open_object(this.keys(), ObjectType::LogBatch, &path, &object)?;
                let base = RunRecord::decode(&body[..]).ok();
                let base = base.and_then(|record| SessionId::from_path(&record.base));
                let base = base.ok_or_else(|| corrupt(&path, "no beginning of a run"))?;
                Ok::<_, Error>(LogRun { base, first, last: None })
            }
        })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
        runs.extend(tail.map(|tail| tail.run()));
        runs.sort_by_key(|run| run.first);
        runs.dedup_by_key(|run| run.first);
        let next: Vec<_> = runs.iter().skip(1).map(|run| run.first - 1).collect();
        for (run, last) in runs.iter_mut().zip(next) {
            run.last = Some(last);
        }
        Ok(runs)
    }

    /// Reads the batches over a snapshot, in order, without gaps: the run that began at it. Segments are
    /// preferred to the batches that they hold.
    ///
    /// The stream fails with `NotFound` where the run's front is trimmed, with `Corrupt` where a batch
    /// is missing or exchanged, and with the errors of the store.
    pub fn log_batches(
        &self,
        stream: &StreamName,
        base: &SessionId,
    ) -> BoxStream<'static, Result<LogBatch>> {
        let (repository, stream, base) = (self.clone(), stream.clone(), base.clone());
        let batches = async move {
            let Some(reader) = run_reader(&repository, &stream, &base).await? else {
                return Ok(stream::empty().boxed());
            };
            let read = move |batch: Stored| {
                if batch.header.base == base {
                    return batch.read(&stream);
                }
                let what = format!("batch {} is over another snapshot", batch.header.number);
                Err(corrupt(&format!("log/{stream}"), what))
            };
            let batches = reader.into_stream();
            Ok::<_, Error>(batches.and_then(move |batch| std::future::ready(read(batch))).boxed())
        };
        stream::once(batches).try_flatten().boxed()
    }

    /// Reads the batches over a snapshot as [`model::Replay`] takes them.
    ///
    /// The stream fails as [`Repository::log_batches`] does.
    pub fn log_batch_stream(&self, stream: &StreamName, base: &SessionId) -> BatchStream {
        self.log_batches(stream, base).map_ok(Into::into).boxed()
    }

    pub(super) async fn log_tail(&self, stream: &StreamName) -> Result<Option<Tail>> {
        let mut tries = 0;
        loop {
            let catalogue = Catalogue::newest(self, stream).await?;
            let Some(last) = catalogue.last() else { return Ok(None) };
            let has_batch =
                catalogue.batches.get(&last).is_some_and(|files| files.size_bytes.is_some());
            let read = if has_batch {
                read_header(self, stream, last).await
            } else {
                let segment = catalogue.segments.iter().filter(|s| s.last == last);
                let Some(segment) = segment.max_by_key(|segment| segment.first) else {
                    return Ok(None);
                };
                let batches = read_segment(self, segment).await;
                batches.map(|mut batches| batches.pop().map(|b| (b.header, b.hash)))
            };
            match read {
                Err(error) if error.kind() == ErrorKind::NotFound && tries < LISTINGS_MAX => {
                    tries += 1;
                }
                Err(error) => return Err(error),
                Ok(None) => return Ok(None),
                Ok(Some((header, hash))) => {
                    return Ok(Some(Tail::new(header, hash)));
                }
            }
        }
    }

    /// Says which run begins with a batch that is there. Said after the batch, so that nobody who lost
    /// a contest for a number says anything; twice is the same as once.
    pub(super) async fn note_run(
        &self,
        stream: &StreamName,
        first: u64,
        base: &SessionId,
    ) -> Result<()> {
        let path = record::numbered("logrun", stream, first)?;
        let body = RunRecord { base: base.path() }.encode_to_vec();
        let object = seal_object(self.keys(), ObjectType::LogBatch, &path, &body)?;
        self.store().create(&path, Bytes::from(object)).await.map(|_| ())
    }
}

/// The last batch of a log.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    pub(super) end: LogEnd,
    /// The number of the first batch of its run.
    pub(super) run_first: u64,
    /// The hash of its object.
    pub(super) hash: Hash,
}

impl Tail {
    pub(super) fn new(header: record::Header, hash: Hash) -> Self {
        let record::Header { number, base, run_first, upto, last_at, .. } = header;
        Self { end: LogEnd { number, base, upto, last_at }, run_first, hash }
    }

    fn run(&self) -> LogRun {
        LogRun { base: self.end.base.clone(), first: self.run_first, last: None }
    }
}

/// Finds the newest run over a base; none where it has no batches.
async fn run_reader(
    repository: &Repository,
    stream: &StreamName,
    base: &SessionId,
) -> Result<Option<LogReader>> {
    let (runs, trimmed) =
        futures::try_join!(repository.log_runs(stream), repository.log_trim(stream))?;
    let Some(run) = runs.into_iter().rev().find(|run| run.base == *base) else {
        return Ok(None);
    };
    let catalogue = Catalogue::list(repository, stream, run.first).await?;
    let Some(end) = catalogue.last().filter(|end| *end >= run.first) else {
        return Ok(None);
    };
    if run.first < trimmed {
        return Err(Error::new(ErrorKind::NotFound, "read log", stream.to_string())
            .detail(format!("the batches over {base} are trimmed")));
    }
    let upto = run.last.map_or(end, |last| last.min(end));
    Ok(Some(LogReader::new(repository, stream, (run.first, upto), Some(catalogue))))
}

/// Reads a range of batches.
pub(super) struct LogReader {
    repository: Repository,
    stream: StreamName,
    next: u64,
    upto: u64,
    previous: Option<Hash>,
    catalogue: Option<Catalogue>,
    coming: Option<BoxStream<'static, (Piece, Result<Vec<Stored>>)>>,
    /// Segments that cannot be read; the batches may still be there.
    refused: BTreeSet<String>,
    /// What was wrong last, and how often in a row nothing came of it.
    failure: Option<Error>,
    failures: usize,
}

impl LogReader {
    pub(super) fn new(
        repository: &Repository,
        stream: &StreamName,
        (first, upto): (u64, u64),
        catalogue: Option<Catalogue>,
    ) -> Self {
        Self {
            repository: repository.clone(),
            stream: stream.clone(),
            next: first,
            upto,
            previous: None,
            catalogue,
            coming: None,
            refused: BTreeSet::new(),
            failure: None,
            failures: 0,
        }
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Result<Stored>> {
        stream::try_unfold(self, |mut reader| async move {
            let batches = reader.next().await?;
            Ok::<_, Error>(
                batches.map(|batches| (stream::iter(batches.into_iter().map(Ok)), reader)),
            )
        })
        .try_flatten()
        .boxed()
    }

    /// Returns the next batches; none at the end of the range.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Stored>>> {
        while self.next <= self.upto {
            let Some(coming) = &mut self.coming else {
                self.plan().await?;
                continue;
            };
            match coming.next().await {
                None => self.coming = None,
                Some((_, Ok(batches))) => {
                    let mut batches = batches;
                    let (next, upto) = (self.next, self.upto);
                    batches.retain(|batch| (next..=upto).contains(&batch.header.number));
                    self.check_links(&batches)?;
                    (self.failure, self.failures) = (None, 0);
                    return Ok(Some(batches));
                }
                Some((piece, Err(error))) => self.fail(piece, error)?,
            }
        }
        Ok(None)
    }

    /// Lists, and chooses what is read.
    async fn plan(&mut self) -> Result<()> {
        let catalogue = match self.catalogue.take() {
            Some(catalogue) => catalogue,
            None => Catalogue::list(&self.repository, &self.stream, self.next).await?,
        };
        let refused = |segment: &Segment| self.refused.contains(&segment.path);
        let pieces = catalogue.cover(self.next, self.upto, refused);
        if pieces.is_empty() {
            self.failures += 1;
            if self.failures >= LISTINGS_MAX {
                let missing = corrupt(
                    &format!("log/{}", self.stream),
                    format!("batch {} is missing", self.next),
                );
                return Err(self.failure.take().unwrap_or(missing));
            }
            return Ok(());
        }
        let is_segment = |piece: &Piece| matches!(piece, Piece::Segment(_));
        let mut groups: Vec<Vec<Piece>> = Vec::new();
        for piece in pieces {
            match groups.last_mut() {
                Some(group) if group.first().map(is_segment) == Some(is_segment(&piece)) => {
                    group.push(piece);
                }
                _ => groups.push(vec![piece]),
            }
        }
        let (repository, name) = (self.repository.clone(), self.stream.clone());
        self.coming = Some(
            stream::iter(groups)
                .flat_map(move |group| {
                    let is_segments = group.first().is_some_and(is_segment);
                    let ahead = if is_segments { SEGMENTS_AHEAD } else { BATCHES_AHEAD };
                    let (repository, name) = (repository.clone(), name.clone());
                    stream::iter(group)
                        .map(move |piece| read_piece(repository.clone(), name.clone(), piece))
                        .buffered(ahead)
                })
                .boxed(),
        );
        Ok(())
    }

    fn fail(&mut self, piece: Piece, error: Error) -> Result<()> {
        self.coming = None;
        self.failures += 1;
        let is_damage = crate::point::is_damage(&error);
        match piece {
            _ if self.failures >= LISTINGS_MAX => return Err(error),
            // Compacted or trimmed since it was listed.
            _ if error.kind() == ErrorKind::NotFound => {}
            Piece::Segment(segment) if is_damage => {
                self.refused.insert(segment.path);
            }
            _ => return Err(error),
        }
        self.failure = Some(error);
        Ok(())
    }

    /// Checks that batches follow those before.
    fn check_links(&mut self, batches: &[Stored]) -> Result<()> {
        let path = || format!("log/{}", self.stream);
        for batch in batches {
            let number = batch.header.number;
            if number != self.next {
                return Err(corrupt(&path(), format!("batch {number} stands for {}", self.next)));
            }
            let is_linked = match (self.previous, batch.header.previous) {
                // The first of a log, or of a run behind a gap that a trim made.
                (None, None) => number == batch.header.run_first,
                (None, Some(_)) => number > 1,
                (previous, found) => found == previous,
            };
            if !is_linked {
                return Err(corrupt(&path(), format!("batch {number} does not follow another")));
            }
            self.previous = Some(batch.hash);
            self.next = self.next.saturating_add(1);
        }
        Ok(())
    }
}

async fn read_piece(
    repository: Repository,
    stream: StreamName,
    piece: Piece,
) -> (Piece, Result<Vec<Stored>>) {
    let read = match &piece {
        Piece::Batch(number) => {
            read_batch(&repository, &stream, *number).await.map(|batch| vec![batch])
        }
        Piece::Segment(segment) => read_segment(&repository, segment).await,
    };
    (piece, read)
}

/// Reads a segment whole and checks it.
pub(super) async fn read_segment(
    repository: &Repository,
    segment: &Segment,
) -> Result<Vec<Stored>> {
    let object = repository.store().get_limited(&segment.path, OBJECT_BYTES_MAX).await?;
    let range = (segment.first, segment.last);
    record::open_segment(repository.keys(), &segment.path, range, &object)
}

async fn read_header(
    repository: &Repository,
    stream: &StreamName,
    number: u64,
) -> Result<Option<(record::Header, Hash)>> {
    let path = record::batch_path(stream, number)?;
    let object = repository.store().get_limited(&path, OBJECT_BYTES_MAX).await?;
    let (header, _) = record::open_batch(repository.keys(), &path, &object)?;
    if header.number != number {
        return Err(corrupt(&path, "it has another number"));
    }
    Ok(Some((header, *blake3::hash(&object).as_bytes())))
}

/// Reads a batch with all its parts.
async fn read_batch(repository: &Repository, stream: &StreamName, number: u64) -> Result<Stored> {
    let path = record::batch_path(stream, number)?;
    let object = repository.store().get_limited(&path, OBJECT_BYTES_MAX).await?;
    let hash = *blake3::hash(&object).as_bytes();
    let (header, last) = record::open_batch(repository.keys(), &path, &object)?;
    if header.number != number {
        return Err(corrupt(&path, "it has another number"));
    }
    if header.parts.is_empty() {
        return Ok(Stored { header, hash, body: last });
    }
    let mut body = BytesMut::new();
    for part in &header.parts {
        let part_path = record::part_path(&path, part);
        let object = repository.store().get_limited(&part_path, OBJECT_BYTES_MAX).await?;
        body.extend_from_slice(&record::open_part(repository.keys(), &part_path, part, &object)?);
    }
    body.extend_from_slice(&last);
    if body.len() > LOG_BATCH_BYTES_MAX {
        return Err(corrupt(&path, "it is larger than a batch may be"));
    }
    Ok(Stored { header, hash, body: body.freeze() })
}
