//! Step `write_index`: segments that name packs that are going, and many small ones, are written anew.
//!
//! Only creates. The new segments have names that nobody has used; the outcome says which old ones
//! they replace. Where somebody else's outcome counts, ours are superfluous copies, and deleted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::{Context, Error, ErrorKind, Result};

use super::places::{DomainIndex, Places};
use crate::Repository;
use crate::index::segment::{Entry, RECORDS_TARGET, Segment};
use crate::index::{directory, write_segment};
use crate::pack::pack_path;
use crate::types::{Number, PackKind, PackName, hex};

/// A segment with fewer records is small.
const SMALL_RECORDS: usize = RECORDS_TARGET / 4;
/// So many small segments become few.
const SMALL_MAX: usize = 16;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    /// Segments that are to go.
    pub(super) old: Vec<String>,
    /// Segments that take their place.
    pub(super) new: Vec<String>,
}

/// Writes segments of what is left of those that name packs in `sweep` or packs that are not there.
pub(super) async fn write_index(
    repository: &Repository,
    generation: Number,
    places: &Places,
    sweep: &HashSet<PackName>,
    context: &Context,
) -> Result<Rewritten> {
    let mut random = [0; 16];
    context.entropy.fill(&mut random);
    let mut writer = Writer {
        repository,
        context,
        places,
        sweep,
        looked_at: HashMap::new(),
        stem: format!("merged/{}-{}", generation.digits(), hex(&random)),
        rewritten: Rewritten::default(),
    };
    for domain in &places.domains {
        writer.domain(domain).await?;
    }
    Ok(writer.rewritten)
}

struct Writer<'w> {
    repository: &'w Repository,
    context: &'w Context,
    places: &'w Places,
    sweep: &'w HashSet<PackName>,
    /// Packs that were not listed, and whether they are there after all.
    looked_at: HashMap<PackName, bool>,
    stem: String,
    rewritten: Rewritten,
}

impl Writer<'_> {
    async fn domain(&mut self, domain: &DomainIndex) -> Result<()> {
        let mut chosen: Vec<Arc<Segment>> = Vec::new();
        let mut small = Vec::new();
        for segment in &domain.segments {
            let mut is_stale = false;
            for (kind, pack) in segment.packs()? {
                is_stale |= self.is_gone(kind, &pack).await?;
            }
            if is_stale {
                chosen.push(segment.clone());
            } else if segment.len() < SMALL_RECORDS {
                small.push(segment.clone());
            }
        }
        if small.len() + chosen.len() > SMALL_MAX {
            chosen.append(&mut small);
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut count = 0_u32;
        for segment in chosen {
            self.context.check("write index")?;
            let all = segment.entries()?;
            for entry in all {
                if !self.is_gone(entry.pack_kind, &entry.location.pack).await? {
                    entries.push(entry);
                }
            }
            self.rewritten.old.push(segment.name().to_owned());
            while entries.len() >= RECORDS_TARGET {
                let rest = entries.split_off(RECORDS_TARGET);
                self.write(domain, std::mem::replace(&mut entries, rest), &mut count).await?;
            }
        }
        self.write(domain, entries, &mut count).await
    }

    async fn write(
        &mut self,
        domain: &DomainIndex,
        entries: Vec<Entry>,
        count: &mut u32,
    ) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let path = format!("{}/{}-{count:04x}", directory(&domain.keys), self.stem);
        write_segment(self.repository, &path, entries).await?;
        *count += 1;
        self.rewritten.new.push(path);
        Ok(())
    }

    /// Says whether a pack is going or has gone. One that was not listed is looked at: a listing that
    /// lacks it must not cost its entries.
    async fn is_gone(&mut self, kind: PackKind, pack: &PackName) -> Result<bool> {
        if self.sweep.contains(pack) {
            return Ok(true);
        }
        if self.places.known.packs.number(pack).is_some() {
            return Ok(false);
        }
        if let Some(is_there) = self.looked_at.get(pack) {
            return Ok(!is_there);
        }
        let is_there = match self.repository.store().head(&pack_path(kind, *pack)).await {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        self.looked_at.insert(*pack, is_there);
        Ok(!is_there)
    }
}

/// Deletes segments, one after another.
pub(super) async fn remove(
    repository: &Repository,
    segments: &[String],
    context: &Context,
) -> Result<()> {
    for path in segments {
        context.check("delete index segments")?;
        // What is read back from the store is checked there; this is the last look before a delete.
        if !path.starts_with("index/") {
            return Err(Error::new(ErrorKind::Internal, "delete index segment", path));
        }
        repository.store().delete(path).await?;
    }
    Ok(())
}
