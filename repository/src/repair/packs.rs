//! Mending packs. Their names say what they are, so that whatever gives these bytes will do.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::Result;

use super::mender::{Mender, blocking};
use super::report::Means;
use crate::crypto::DomainKeys;
use crate::pack::{PACK_BYTES_MAX, heal, pack_path, remake_end};
use crate::types::{PackKind, PackName, RepositoryId};

/// How much is read of a pack that is longer than it should be.
const FOUND_BYTES_MAX: u64 = 2 * PACK_BYTES_MAX as u64;

/// Which repository it is, and the keys of all its domains.
pub(super) type Keys<'k> = (RepositoryId, &'k [DomainKeys]);

impl Mender<'_> {
    /// Finds out which of some packs stand under the name of another of them.
    pub(super) async fn find_strays(&mut self, all: &BTreeSet<(PackKind, PackName)>) -> Result<()> {
        for (kind, name) in all {
            let path = pack_path(*kind, *name);
            let Some(found) = self.store.get_damaged(&path, FOUND_BYTES_MAX).await? else {
                continue;
            };
            let is = blocking(move || PackName(*blake3::hash(&found).as_bytes())).await?;
            if is != *name {
                self.strays.insert(is, path);
            }
        }
        Ok(())
    }

    /// Says whether a pack is there and whole.
    pub(super) async fn is_whole(&self, path: &str, name: PackName) -> Result<bool> {
        match self.store.get_damaged(path, PACK_BYTES_MAX as u64).await? {
            Some(found) => Ok(is_named(found, name).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Mends a pack; says whether it is whole now, or would be.
    pub(super) async fn pack(
        &mut self,
        (kind, name): (PackKind, PackName),
        keys: Option<Keys<'_>>,
    ) -> Result<bool> {
        self.context.check("repair repository")?;
        let path = pack_path(kind, name);
        let found = self.store.get_damaged(&path, FOUND_BYTES_MAX).await?;
        if let Some(found) = &found
            && is_named(found.clone(), name).await?.is_some()
        {
            return Ok(true);
        }
        let mut why = "it is not there".to_owned();
        if let Some(found) = &found {
            let bytes = found.clone();
            match blocking(move || heal(&bytes, name)).await? {
                Ok(healed) => {
                    let healed = Bytes::from(healed);
                    self.put(&path, Some(found), healed, Means::Parity).await?;
                    return Ok(true);
                }
                Err(error) => why = error.chain(),
            }
            if let Some(remade) = remake(found, kind, name, keys).await? {
                self.put(&path, Some(found), remade, Means::Blocks).await?;
                return Ok(true);
            }
        }
        let found = found.as_ref();
        if let Some(at) = self.strays.get(&name).cloned()
            && let Some(stray) = self.store.get_damaged(&at, PACK_BYTES_MAX as u64).await?
            && let Some(stray) = is_named(stray, name).await?
        {
            self.put(&path, found, stray, Means::Misplaced).await?;
            return Ok(true);
        }
        if let Some(copy) = self.copy_of(&path, PACK_BYTES_MAX as u64).await? {
            if let Some(copy) = is_named(copy, name).await? {
                self.put(&path, found, copy, Means::Copy).await?;
                return Ok(true);
            }
            why.push_str("; the second copy is damaged too");
        }
        self.give_up(&path, why);
        Ok(false)
    }
}

/// Gives bytes back that have a name.
pub(super) async fn is_named(bytes: Bytes, name: PackName) -> Result<Option<Bytes>> {
    blocking(move || (*blake3::hash(&bytes).as_bytes() == name.0).then_some(bytes)).await
}

async fn remake(
    found: &Bytes,
    kind: PackKind,
    name: PackName,
    keys: Option<Keys<'_>>,
) -> Result<Option<Bytes>> {
    let Some((repository, domains)) = keys else { return Ok(None) };
    let (found, domains) = (found.clone(), domains.to_vec());
    blocking(move || {
        let remade =
            domains.iter().find_map(|keys| remake_end(&found, repository, keys, kind, name));
        remade.map(Bytes::from)
    })
    .await
}
