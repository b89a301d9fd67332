//! Reading back what was restored, and comparing it with what was captured: attributes with those of
//! the target's survey, content by cutting it as it was cut and naming the pieces again.

use std::sync::Arc;

use model::{Counter, Item, ItemKey, Result};
use tokio::task::JoinSet;

use super::merge::{Side, pair};
use super::plan::has_same_attributes;
use super::report::{Difference, RestoreReport};
use super::wanted::Wanted;
use super::{Job, is_fatal, survey};
use crate::browse::Entry;

/// What one thread reads back at a time.
const UNIT_BYTES: u64 = 16 << 20;
const UNIT_ITEMS: usize = 512;

/// Items that one thread compares.
#[derive(Default)]
struct Unit {
    items: Vec<(Entry, Item)>,
    content_bytes: u64,
}

/// What came of a unit.
#[derive(Default)]
struct Compared {
    items: u64,
    bytes: u64,
    mismatches: Vec<(ItemKey, Difference)>,
}

/// Compares everything that is wanted with what is there.
pub(super) async fn verify(job: &Arc<Job>, report: &mut RestoreReport) -> Result<()> {
    let mut wanted = Side::new(job.wish.spawn());
    let mut there = Side::new(survey::spawn(&job.target, &job.context));
    let mut unit = Unit::default();
    let mut tasks = JoinSet::new();
    loop {
        let (wish, found) = pair(&mut wanted, &mut there).await?;
        let is_last = wish.is_none() && found.is_none();
        if let Some(Wanted { entry, is_ancestor }) = wish {
            match shallow(&entry, found.as_ref(), is_ancestor, job) {
                Shallow::Passed => {}
                Shallow::Mismatch(difference) => {
                    report.verified_items += 1;
                    report.mismatch(&entry.item.key, difference, &job.context);
                }
                Shallow::Equal => unit.push(entry, found),
            }
        }
        if unit.is_full() || is_last {
            job.context.check("verify restore")?;
            let (unit, job) = (std::mem::take(&mut unit), job.clone());
            let work = job.clone();
            tasks.spawn(job.on_thread(async move { compare(&work, unit).await }));
        }
        let in_flight_max = if is_last { 0 } else { job.target.facts().write_concurrency.max(2) };
        while tasks.len() > in_flight_max {
            let Some(task) = tasks.join_next().await else { break };
            let compared = task.map_err(|error| {
                model::Error::new(model::ErrorKind::Internal, "verify restore", "").because(error)
            })??;
            note(compared, report, job);
        }
        if is_last {
            return Ok(());
        }
    }
}

impl Unit {
    fn push(&mut self, entry: Entry, found: Option<Item>) {
        let Some(found) = found else { return };
        self.content_bytes += entry.item.content_bytes();
        self.items.push((entry, found));
    }

    fn is_full(&self) -> bool {
        self.content_bytes >= UNIT_BYTES || self.items.len() >= UNIT_ITEMS
    }
}

/// What is seen without reading content.
enum Shallow {
    /// Nothing to compare it with.
    Passed,
    Mismatch(Difference),
    Equal,
}

fn shallow(entry: &Entry, found: Option<&Item>, is_ancestor: bool, job: &Job) -> Shallow {
    let item = &entry.item;
    let Some(found) = found else {
        // A survey need not list the target itself.
        let is_target = item.key.is_root();
        return if is_target { Shallow::Passed } else { Shallow::Mismatch(Difference::Missing) };
    };
    if item.kind != found.kind {
        return Shallow::Mismatch(Difference::Kind);
    }
    if !is_ancestor && !has_same_attributes(item, found, &job.options.ignored) {
        return Shallow::Mismatch(Difference::Attributes);
    }
    if item.content_bytes() != found.content_bytes() {
        return Shallow::Mismatch(Difference::Content);
    }
    Shallow::Equal
}

async fn compare(job: &Job, unit: Unit) -> Result<Compared> {
    let mut compared = Compared::default();
    for (entry, found) in unit.items {
        job.context.check("verify restore")?;
        compared.items += u64::from(!entry.item.key.is_root());
        compared.bytes += entry.item.content_bytes();
        let key = entry.item.key.clone();
        let is_proven = job.proven.holds(&key, found.version.as_ref());
        if !entry.item.kind.has_content() || is_proven {
            continue;
        }
        match job.is_as_wanted(&entry, &found).await {
            Ok(true) => {}
            Ok(false) => compared.mismatches.push((key, Difference::Content)),
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => {
                compared.mismatches.push((key, Difference::Unreadable(error.chain())));
            }
        }
    }
    let monitor = &job.context.monitor;
    monitor.count(Counter::VerifiedItems, compared.items);
    monitor.count(Counter::VerifiedBytes, compared.bytes);
    Ok(compared)
}

fn note(compared: Compared, report: &mut RestoreReport, job: &Job) {
    report.verified_items += compared.items;
    report.verified_bytes += compared.bytes;
    for (key, difference) in compared.mismatches {
        report.mismatch(&key, difference, &job.context);
    }
}
