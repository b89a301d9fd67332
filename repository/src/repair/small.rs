//! Mending all objects but packs: a second copy has the same ones, and keys tell whether they are right.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::{Error, ErrorKind, Result};

use super::mender::Mender;
use super::report::Means;
use crate::Repository;
use crate::format::certificate::Certificate;
use crate::format::envelope::open_object;
use crate::format::key_slot::KeySlot;
use crate::index::Body;
use crate::index::segment::Segment;
use crate::point::PointId;
use crate::replicate::Kind;

impl Mender<'_> {
    /// Mends an object; says whether it is whole now, or would be. Its bytes may stand under the name of
    /// one of `others`.
    pub(super) async fn small(
        &mut self,
        repository: &Repository,
        path: &str,
        others: &BTreeSet<String>,
    ) -> Result<bool> {
        self.context.check("repair repository")?;
        let Some(kind) = Kind::of(path) else { return Ok(false) };
        let found = self.store.get_damaged(path, kind.size_max()).await?;
        if let Some(found) = &found
            && is_sound(repository, path, found).await?
        {
            // What was said of it may be wrong with what it names.
            return Ok(true);
        }
        let found = found.as_ref();
        if let Some(copy) = self.copy_of(path, kind.size_max()).await? {
            if is_sound(repository, path, &copy).await? {
                self.put(path, found, copy, Means::Copy).await?;
                return Ok(true);
            }
            self.give_up(path, "the second copy is damaged too".to_owned());
        }
        for other in others.iter().filter(|other| *other != path) {
            // Where it was replaced by now, what stood there is kept.
            let kept = self.report.mended.iter().find(|mended| mended.object == *other);
            let at = kept.and_then(|mended| mended.kept.clone()).unwrap_or_else(|| other.clone());
            let Some(stray) = self.store.get_damaged(&at, kind.size_max()).await? else { continue };
            if is_sound(repository, path, &stray).await? {
                self.put(path, found, stray, Means::Misplaced).await?;
                return Ok(true);
            }
        }
        self.give_up(path, "no whole copy of it is at hand".to_owned());
        Ok(false)
    }
}

/// Says whether bytes are what belongs at a path.
pub(super) async fn is_sound(repository: &Repository, path: &str, bytes: &Bytes) -> Result<bool> {
    match check(repository, path, bytes).await {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Internal) => {
            Err(error)
        }
        Err(_) => Ok(false),
    }
}

async fn check(repository: &Repository, path: &str, bytes: &Bytes) -> Result<()> {
    let unknown =
        || Error::new(ErrorKind::Corrupt, "check object", path).detail("there is no such object");
    let (kind, (_, rest)) = Kind::of(path).zip(path.split_once('/')).ok_or_else(unknown)?;
    let keys = repository.keys();
    match kind {
        Kind::Data | Kind::Meta => kind.check(path, bytes),
        Kind::KeySlot => {
            let slot = KeySlot::decode(rest.parse().map_err(|_| unknown())?, bytes)?;
            if slot.binding.descriptor == repository.descriptor_hash() {
                return Ok(());
            }
            Err(unknown().detail("it belongs to another repository"))
        }
        Kind::Writer => {
            let writer = rest.parse().map_err(|_| unknown())?;
            let authority = &repository.descriptor().authority;
            Certificate::open(keys, authority, writer, bytes).map(|_| ())
        }
        Kind::Index => {
            let plaintext = open_object(keys, kind.object_type(), path, bytes)?;
            Segment::open(Body::in_memory(path, plaintext.into())).map(|_| ())
        }
        Kind::LogBatch | Kind::LogRun | Kind::LogSegment => {
            open_object(keys, kind.object_type(), path, bytes).map(|_| ())
        }
        Kind::Point => {
            let id = PointId::from_path(rest).ok_or_else(unknown)?;
            repository.open_point(&id, bytes).await.map(|_| ())
        }
        _ => repository.open_signed(kind.object_type(), path, bytes).await.map(|_| ()),
    }
}
