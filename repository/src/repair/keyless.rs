//! What can be mended without a key: packs, whose names say what they are; and of other objects those
//! that do not even begin as they should, from a second copy.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Counter, Error, ErrorKind, Phase, Result};

use super::mender::Mender;
use super::report::{Means, Report};
use super::{RepairOptions, check_same};
use crate::Repository;
use crate::pack::{PACK_BYTES_MAX, pack_path};
use crate::replicate::{Kind, folders, pack_of, replicate};
use crate::store::Store;
use crate::types::{PackKind, PackName};

/// How many packs are read at the same time.
const READS_AT_ONCE: usize = 2;

/// Reads all packs of a repository and mends those that are damaged; mends other objects as far as a
/// second copy has them and it can be seen that they are damaged. What is sealed cannot be checked
/// without a key.
///
/// # Errors
/// As [`repair`](super::repair); `Unavailable` too where a collection has not ended.
pub async fn repair_without_key(
    store: &Store,
    from: Option<&Store>,
    options: &RepairOptions,
    context: &Context,
) -> Result<Report> {
    Repository::find(store).await?;
    if let Some(from) = from {
        check_same(store, from).await?;
    }
    let mut mender = Mender::new(store, from, options.is_dry_run, context).await?;
    if mender.is_collecting() && !options.is_dry_run {
        return Err(Error::new(ErrorKind::Unavailable, "repair repository", store.name())
            .detail("a collection has not ended: let it end with `lifeboat repo gc`"));
    }
    let subject = store.name().to_owned();
    context.monitor.phase(Phase { name: "check packs", subject, total: None });
    let mut damaged = BTreeSet::new();
    for (kind, pack_kind) in [(Kind::Data, PackKind::Data), (Kind::Meta, PackKind::Meta)] {
        mender.find_damaged(kind, pack_kind, &mut damaged).await?;
    }
    mender.find_strays(&damaged).await?;
    for pack in &damaged {
        mender.pack(*pack, None).await?;
    }
    if let Some(from) = from {
        for kind in Kind::BY_REFERENCE.into_iter().rev().filter(|kind| !kind.is_pack()) {
            mender.headers(kind).await?;
        }
        let copied = Box::pin(replicate(from, store, &options.replica(), context)).await?;
        mender.report.copied = Some(copied.missing());
    }
    let mut report = mender.report;
    report.is_dry_run = options.is_dry_run;
    Ok(report)
}

impl Mender<'_> {
    /// Reads all packs of a kind.
    async fn find_damaged(
        &mut self,
        kind: Kind,
        pack_kind: PackKind,
        damaged: &mut BTreeSet<(PackKind, PackName)>,
    ) -> Result<()> {
        for folder in folders(self.store, kind).await? {
            let listed = self.store.list(&folder).await?;
            let names = listed.iter().filter_map(|listed| pack_of(&listed.path));
            let names: Vec<_> = names.collect();
            let this = &*self;
            let checked: Vec<_> = stream::iter(names)
                .map(|name| async move {
                    this.context.check("repair repository")?;
                    let path = pack_path(pack_kind, name);
                    let found = this.store.get_damaged(&path, 2 * PACK_BYTES_MAX as u64).await?;
                    let bytes = found.as_ref().map_or(0, |found| found.len() as u64);
                    this.context.monitor.count(Counter::CheckedObjects, 1);
                    this.context.monitor.count(Counter::VerifiedBytes, bytes);
                    let is_whole = match found {
                        Some(found) => super::packs::is_named(found, name).await?.is_some(),
                        None => false,
                    };
                    Ok::<_, Error>((name, bytes, is_whole))
                })
                .buffered(READS_AT_ONCE)
                .try_collect()
                .await?;
            for (name, bytes, is_whole) in checked {
                self.report.objects += 1;
                self.report.read_bytes += bytes;
                if !is_whole {
                    damaged.insert((pack_kind, name));
                }
            }
        }
        Ok(())
    }

    /// Mends objects that do not begin as they should.
    async fn headers(&mut self, kind: Kind) -> Result<()> {
        for folder in folders(self.store, kind).await? {
            for listed in self.store.list(&folder).await? {
                self.context.check("repair repository")?;
                let (path, size_max) = (listed.path, kind.size_max());
                self.report.objects += 1;
                let found = self.store.get_damaged(&path, size_max).await?;
                if let Some(found) = &found
                    && !is_damage(&kind.check(&path, found))
                {
                    self.report.read_bytes += found.len() as u64;
                    continue;
                }
                match self.copy_of(&path, size_max).await? {
                    Some(copy) if kind.check(&path, &copy).is_ok() => {
                        self.put(&path, found.as_ref(), copy, Means::Copy).await?;
                    }
                    _ => self.give_up(&path, "no whole copy of it is at hand".to_owned()),
                }
            }
        }
        Ok(())
    }
}

fn is_damage(checked: &Result<()>) -> bool {
    checked.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt)
}
