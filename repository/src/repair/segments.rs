//! Mending the index: what it says stands in packs as well.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::Result;

use super::mender::Mender;
use super::report::Means;
use crate::Repository;
use crate::format::ObjectType;
use crate::format::envelope::seal_object;
use crate::index::directory;
use crate::index::rebuild::rebuild_thoroughly;
use crate::index::segment::{Entry, encode};
use crate::replicate::Kind;

impl Mender<'_> {
    /// Stores again what the index does not know, then puts a segment of a single entry, which others hold
    /// as well, in the place of each that is still damaged: an index with a damaged segment cannot be
    /// opened.
    pub(super) async fn index(
        &mut self,
        repository: &Repository,
        domains: &[String],
        damaged: &BTreeSet<String>,
    ) -> Result<()> {
        let given_up = |path: &&String| self.report.unmended.contains_key(*path);
        let damaged: BTreeSet<_> = damaged.iter().filter(given_up).cloned().collect();
        for domain in domains {
            let folder = format!("{}/", directory(&repository.domain(domain)?));
            let mine: Vec<_> = damaged.iter().filter(|path| path.starts_with(&folder)).collect();
            let mut any = None;
            if !self.is_dry_run {
                let context = self.context;
                let (rebuilt, entry) =
                    rebuild_thoroughly(repository, domain, &damaged, context).await?;
                self.report.indexed += rebuilt.entries;
                any = entry;
            }
            for path in mine {
                let bytes = match &any {
                    Some(any) => seal(repository, path, any.clone())?,
                    None if self.is_dry_run => Bytes::new(),
                    // There are no packs of this domain.
                    None => continue,
                };
                let found = self.store.get_damaged(path, Kind::Index.size_max()).await?;
                self.put(path, found.as_ref(), bytes, Means::Contents).await?;
            }
        }
        Ok(())
    }
}

fn seal(repository: &Repository, path: &str, entry: Entry) -> Result<Bytes> {
    let plaintext = encode(&[entry])?;
    seal_object(repository.keys(), ObjectType::IndexSegment, path, &plaintext).map(Bytes::from)
}
