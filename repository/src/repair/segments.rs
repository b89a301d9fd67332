//! Mending the index: what it says stands in packs as well.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::Result;

use super::mender::Mender;
use super::report::Means;
use crate::Repository;
use crate::format::ObjectType;
use crate::format::envelope::seal_object;
use crate::index::rebuild::rebuild_thoroughly;
use crate::index::segment::encode;
use crate::replicate::Kind;

impl Mender<'_> {
    /// Puts an empty segment in the place of each that is still damaged, then stores again what the index
    /// does not know. In this order, since an index with a damaged segment cannot be opened; what the
    /// segment said cannot be read either way.
    pub(super) async fn index(
        &mut self,
        repository: &Repository,
        domains: &[String],
        damaged: &BTreeSet<String>,
    ) -> Result<()> {
        let given_up = |path: &&String| self.report.unmended.contains_key(*path);
        let given_up: Vec<_> = damaged.iter().filter(given_up).cloned().collect();
        for path in given_up {
            let empty = encode(&[])?;
            let empty = seal_object(repository.keys(), ObjectType::IndexSegment, &path, &empty)?;
            let found = self.store.get_damaged(&path, Kind::Index.size_max()).await?;
            self.put(&path, found.as_ref(), Bytes::from(empty), Means::Contents).await?;
        }
        if self.is_dry_run {
            return Ok(());
        }
        for domain in domains {
            let rebuilt = rebuild_thoroughly(repository, domain, self.context).await?;
            self.report.indexed += rebuilt.entries;
        }
        Ok(())
    }
}
