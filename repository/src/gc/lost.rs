//! Packs that are known to be lost: damaged or gone, and nothing at hand makes them whole again.
//!
//! A mark says so, `gc/lost/<pack or meta>/<name>`. It stands beside the generations since those who have
//! to know of it list these anyway. Writers take a marked pack for absent, as they do with a condemned
//! one, so that whatever of it the source still has is read and stored again, under the same ids: older
//! snapshots have it back then as well. Readers go on to use what is intact in it. A collector keeps
//! something there only where there is no other place, and so frees the pack in the end; then it takes
//! the mark away. Nothing else is deleted because of a mark.

use model::{Context, Error, ErrorKind, Result, Timestamp};
use prost::Message;

use crate::Repository;
use crate::format::ObjectType;
use crate::store::Listed;
use crate::types::{PackKind, PackName};

/// Below which marks stand.
pub(crate) const LOST: &str = "gc/lost";

/// A mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LostPack {
    pub(crate) kind: PackKind,
    pub(crate) name: PackName,
    /// The store's time of the mark.
    pub(crate) at: Timestamp,
}

#[derive(Clone, PartialEq, Message)]
struct RawLost {
    #[prost(sint64, tag = "1")]
    at: i64,
    #[prost(string, tag = "2")]
    reason: String,
}

/// Returns where the mark of a pack stands.
pub(crate) fn lost_path(kind: PackKind, name: PackName) -> String {
    let folder = match kind {
        PackKind::Data => "pack",
        PackKind::Meta => "meta",
    };
    format!("{LOST}/{folder}/{name}")
}

/// Reads [`lost_path`].
pub(crate) fn from_lost_path(path: &str) -> Option<(PackKind, PackName)> {
    let (folder, name) = path.strip_prefix(LOST)?.strip_prefix('/')?.split_once('/')?;
    let kind = match folder {
        "pack" => PackKind::Data,
        "meta" => PackKind::Meta,
        _ => return None,
    };
    Some((kind, name.parse().ok()?))
}

/// Picks the marks out of a listing of `gc/`.
pub(crate) fn lost_of(listed: &[Listed]) -> impl Iterator<Item = LostPack> {
    listed.iter().filter_map(|listed| {
        let (kind, name) = from_lost_path(&listed.path)?;
        Some(LostPack { kind, name, at: listed.modified })
    })
}

/// Lists the packs that are marked.
///
/// # Errors
/// Those of the store.
pub(crate) async fn list_lost(repository: &Repository) -> Result<Vec<LostPack>> {
    let listed = repository.store().list(LOST).await?;
    Ok(lost_of(&listed).collect())
}

/// Marks a pack, unless it is marked.
///
/// # Errors
/// Those of the store.
pub(crate) async fn mark_lost(
    repository: &Repository,
    (kind, name): (PackKind, PackName),
    reason: &str,
    context: &Context,
) -> Result<()> {
    let path = lost_path(kind, name);
    let raw = RawLost { at: context.clock.now().unix_ns, reason: reason.to_owned() };
    match repository.create_signed(ObjectType::GcLost, &path, raw.encode_to_vec()).await {
        // Marked before.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        created => created.map(|_| ()),
    }
}

/// Takes marks away. One that may not be deleted stays: it costs work and harms nobody.
///
/// # Errors
/// Those of the store.
pub(crate) async fn unmark(
    repository: &Repository,
    packs: impl IntoIterator<Item = (PackKind, PackName)>,
    context: &Context,
) -> Result<u64> {
    let mut count = 0;
    for (kind, name) in packs {
        context.check("take away marks of lost packs")?;
        match repository.store().delete(&lost_path(kind, name)).await {
            Ok(()) => count += 1,
            Err(error) if error.kind() == ErrorKind::Denied => {
                context.monitor.problem(&error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Opens a mark that was found.
///
/// # Errors
/// `Corrupt`; those of [`Repository::open_signed`].
pub(crate) async fn check_lost(repository: &Repository, path: &str, object: &[u8]) -> Result<()> {
    let signed = repository.open_signed(ObjectType::GcLost, path, object).await?;
    let corrupt = || Error::new(ErrorKind::Corrupt, "read mark of lost pack", path);
    RawLost::decode(&signed.body[..]).map(|_| ()).map_err(|error| corrupt().because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_back() {
        for kind in [PackKind::Data, PackKind::Meta] {
            let path = lost_path(kind, PackName([0xab; 32]));
            assert_eq!(from_lost_path(&path), Some((kind, PackName([0xab; 32]))));
            assert_eq!(crate::gc::from_gc_path(&path), None);
        }
        for bad in ["gc/lost/pack/x", "gc/lost", "gc/lostpack/x", "gc/lost/key/00"] {
            assert_eq!(from_lost_path(bad), None, "{bad}");
        }
    }
}
