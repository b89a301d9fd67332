//! Appending: the number after the last one, created once.

use bytes::Bytes;
use model::{Batch, Context, Error, ErrorKind, LogPayload, Payload, Result};

use super::read::Tail;
use super::record::{self, Header};
use super::{LOG_BATCH_BYTES_MAX, LOG_PART_BYTES_MAX, LogEnd, changes};
use crate::Repository;
use crate::types::{SessionId, StreamName};

/// Appends to one stream's log. Two writers of one stream find each other out: numbers are created once.
#[derive(Debug)]
pub struct LogWriter {
    repository: Repository,
    stream: StreamName,
    payload: LogPayload,
    base: SessionId,
    tail: Option<Tail>,
    /// What is before this number is trimmed.
    trimmed: u64,
    context: Context,
}

impl LogWriter {
    /// Appends a batch; durable when it returns. `contents` has an entry for every change: what the data
    /// extents of an upserted item hold, else nothing. After an error the same batch may be appended
    /// again, and is stored once.
    ///
    /// # Errors
    /// `Conflict` where another writer appended meanwhile, the snapshot that a run begins at was
    /// forgotten, or batches of the run are missing, as in a copy that is not complete; `Invalid` where the batch does not follow the
    /// last one of its run, is of another payload or does not fit its contents; `Exhausted` where it is
    /// larger than [`LOG_BATCH_BYTES_MAX`]: take a new cut; those of the store.
    pub async fn append(&mut self, batch: Batch, contents: Vec<Vec<Bytes>>) -> Result<u64> {
        self.context.check("append to log")?;
        self.check(&batch)?;
        let body = self.body(&batch.payload, &contents)?;
        if body.len() > LOG_BATCH_BYTES_MAX {
            return Err(self.error(ErrorKind::Exhausted, "the batch is larger than one may be"));
        }
        let next = self.end().map_or(1, |end| end.number.saturating_add(1));
        // Nobody reads what stands before a trim.
        let number = next.max(self.trimmed);
        let before = self.tail.as_ref().filter(|_| number == next);
        let run = before.filter(|tail| tail.end.base == self.base);
        if number > next && self.end().is_some_and(|end| end.base == self.base) {
            let what = "batches over that snapshot are missing: take a new cut";
            return Err(self.error(ErrorKind::Conflict, what));
        }
        let run_first = run.map_or(number, |tail| tail.run_first);
        let path = record::batch_path(&self.stream, number)?;
        let (store, keys) = (self.repository.store(), self.repository.keys());
        let mut parts = Vec::new();
        let mut rest = &body[..];
        while rest.len() > LOG_PART_BYTES_MAX {
            let (part, more) = rest.split_at(LOG_PART_BYTES_MAX);
            let (hash, object) = record::seal_part(keys, &path, part)?;
            store.create(&record::part_path(&path, &hash), Bytes::from(object)).await?;
            parts.push(hash);
            rest = more;
        }
        let header = Header {
            number,
            previous: before.map(|tail| tail.hash),
            base: self.base.clone(),
            run_first,
            after: batch.after,
            upto: batch.upto,
            first_at: batch.first_at,
            last_at: batch.last_at,
            payload: self.payload,
            parts,
        };
        let object = record::seal_batch(keys, &path, &header, rest)?;
        let hash = *blake3::hash(&object).as_bytes();
        store.create(&path, Bytes::from(object)).await?;
        if run_first == number {
            self.repository.note_run(&self.stream, number, &self.base).await?;
        }
        self.tail = Some(Tail::new(header, hash));
        // Referred to first, looked at then: whoever forgets it from now on leaves it to the log.
        if run_first == number && self.repository.is_forgotten(&self.base).await? {
            return Err(self.error(
                ErrorKind::Conflict,
                "the snapshot that it builds on was forgotten meanwhile: take a new cut",
            ));
        }
        Ok(number)
    }

    /// Returns where the log ends.
    pub fn end(&self) -> Option<&LogEnd> {
        self.tail.as_ref().map(|tail| &tail.end)
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let payload = match batch.payload {
            Payload::Raw(_) => LogPayload::Raw,
            Payload::Changes(_) => LogPayload::Changes,
        };
        if payload != self.payload {
            return Err(self.error(ErrorKind::Invalid, "the batch is of another payload"));
        }
        let run = self.end().filter(|end| end.base == self.base);
        if run.is_some_and(|end| end.upto != batch.after) {
            return Err(self.error(ErrorKind::Invalid, "the batch does not follow the last one"));
        }
        Ok(())
    }

    fn body(&self, payload: &Payload, contents: &[Vec<Bytes>]) -> Result<Bytes> {
        let unfit = || self.error(ErrorKind::Invalid, "the contents are not those of the changes");
        match payload {
            Payload::Raw(bytes) if contents.is_empty() => Ok(bytes.clone()),
            Payload::Changes(changes) if contents.len() == changes.len() => {
                let mut body = Vec::new();
                for (change, contents) in changes.iter().zip(contents) {
                    changes::encode(change, contents, &mut body).ok_or_else(unfit)?;
                }
                Ok(body.into())
            }
            _ => Err(unfit()),
        }
    }

    fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, "append to log", self.stream.to_string()).detail(what)
    }
}

impl Repository {
    /// Opens a stream's log for appending a run of batches over `base`: the run that the log ends with
    /// where it is over the same base, else a new one.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn log_writer(
        &self,
        stream: &StreamName,
        payload: LogPayload,
        base: &SessionId,
        context: &Context,
    ) -> Result<LogWriter> {
        context.check("open log")?;
        self.check_writable()?;
        let (tail, trimmed) = futures::try_join!(self.log_tail(stream), self.log_trim(stream))?;
        if let Some(Tail { end, run_first, .. }) = &tail {
            // Whoever appended it may have died before it said so.
            self.note_run(stream, *run_first, &end.base).await?;
        }
        Ok(LogWriter {
            repository: self.clone(),
            stream: stream.clone(),
            payload,
            base: base.clone(),
            tail,
            trimmed,
            context: context.clone(),
        })
    }
}
