//! Checking logs: every run of batches is read from its beginning to its end, link by link.
//!
//! Each object was opened before; what is looked for here is what is missing or exchanged. Reading a
//! run prefers segments, as a restore does.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use model::{Error, ErrorKind, Result};

use super::objects::Collected;
use super::run::Run;
use crate::log::LogRun;
use crate::snapshot::snapshot_path;
use crate::types::{SessionId, StreamName};

impl Run<'_> {
    /// Checks all logs; returns the snapshots that they build on.
    pub(super) async fn check_logs(&self, collected: &Collected) -> Result<BTreeSet<SessionId>> {
        let mut bases = BTreeSet::new();
        for stream in self.repository.logged_streams().await? {
            self.context.check("verify logs")?;
            let object = format!("log/{stream}");
            let runs = self.repository.log_runs(&stream).await;
            let trimmed = self.repository.log_trim(&stream).await;
            let end = self.repository.log_end(&stream).await;
            let (Some(runs), Some(trimmed), Some(end)) = (
                self.judge_log(&object, runs).await?,
                self.judge_log(&object, trimmed).await?,
                self.judge_log(&object, end).await?,
            ) else {
                continue;
            };
            let Some(end) = end else { continue };
            // Numbers count from 1; what is not trimmed has to be there.
            let begin = trimmed.max(1);
            self.check_runs(&stream, &runs, (begin, end.number)).await?;
            let needed = runs.into_iter().filter(|run| run.last.is_none_or(|last| last >= begin));
            bases.extend(needed.map(|run| run.base));
        }
        for base in bases.iter().filter(|base| !collected.read_snapshots.contains(*base)) {
            let what = "it is not there, and a log builds on it".to_owned();
            self.findings().add(&snapshot_path(base), what);
        }
        Ok(bases)
    }

    async fn check_runs(
        &self,
        stream: &StreamName,
        runs: &[LogRun],
        (begin, end): (u64, u64),
    ) -> Result<()> {
        let beginnings = format!("logrun/{stream}");
        if runs.first().is_none_or(|run| run.first > begin) {
            let what = format!("no run begins at or before batch {begin}");
            self.findings().add(&beginnings, what);
        }
        // A run whose front is trimmed cannot be replayed, and need not be whole.
        for (index, run) in runs.iter().enumerate() {
            // Where two begin at one snapshot, readers take the newer one.
            let is_superseded = runs.iter().skip(index + 1).any(|later| later.base == run.base);
            if is_superseded || run.first < begin || run.first > end {
                continue;
            }
            self.context.check("verify logs")?;
            let last = run.last.map_or(end, |last| last.min(end));
            match self.read_run(stream, run).await {
                Ok(Some(read)) if read == last => {}
                // Two writers may have contended for the same place: one of them has batches.
                Ok(None) => {}
                Ok(Some(read)) => {
                    let what =
                        format!("batch {} belongs to a run whose beginning is missing", read + 1);
                    let number = self.findings().add(&beginnings, what);
                    self.findings().reach_snapshot(number, &run.base);
                }
                Err(error) => {
                    let object = subject(&error, &format!("log/{stream}"));
                    let number = self.note(&object, error).await?;
                    self.findings().reach_snapshot(number, &run.base);
                }
            }
        }
        Ok(())
    }

    /// Reads a run; returns the number of its last batch.
    async fn read_run(&self, stream: &StreamName, run: &LogRun) -> Result<Option<u64>> {
        let mut batches = self.repository.log_batches(stream, &run.base);
        let mut last = None;
        while let Some(batch) = batches.try_next().await? {
            self.context.check("verify logs")?;
            last = Some(batch.number);
        }
        Ok(last)
    }

    async fn judge_log<T>(&self, object: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Err(error) => {
                let object = subject(&error, object);
                self.judge(&object, Err(error)).await
            }
            result => self.judge(object, result).await,
        }
    }
}

/// Returns the object that an error speaks of, where it speaks of one.
fn subject(error: &Error, otherwise: &str) -> String {
    let subject = error.subject();
    let is_object = error.kind() != ErrorKind::NotFound && subject.starts_with("log");
    if is_object { subject.to_owned() } else { otherwise.to_owned() }
}
