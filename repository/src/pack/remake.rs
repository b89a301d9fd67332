//! Making the end of a pack anew from its blocks: its table of contents says nothing that blocks do not
//! say themselves, and is sealed without chance.

use bytes::Bytes;

use super::builder::complete;
use super::check::check_head;
use super::contents::{TableCipher, table_bytes};
use super::parity::parity_bytes;
use super::{HEADER_BYTES, PACK_BYTES_MAX, pack_path, salvage, scan_blocks};
use crate::crypto::DomainKeys;
use crate::format::Header;
use crate::types::{PackKind, PackName, RepositoryId};

/// Where the random part of a pack stands.
const SALT_AT: usize = Header::LENGTH + 2;

/// Makes a pack whole of which only what follows its blocks is damaged: parity, table of contents,
/// footer. None where anything else is, or where these are not the keys of its domain.
pub(crate) fn remake_end(
    found: &Bytes,
    repository: RepositoryId,
    keys: &DomainKeys,
    kind: PackKind,
    name: PackName,
) -> Option<Vec<u8>> {
    let head = found.get(..HEADER_BYTES).map(|_| found.slice(..HEADER_BYTES))?;
    check_head(&head, kind, &pack_path(kind, name)).ok()?;
    let salt = head.get(SALT_AT..)?.first_chunk::<32>()?;
    let mut end = HEADER_BYTES;
    let mut blocks = Vec::new();
    for block in scan_blocks(found) {
        // Behind the last block, bytes of another pack may stand.
        if block.start != end {
            break;
        }
        end = block.end;
        blocks.push((u32::try_from(block.start).ok()?, u32::try_from(block.len()).ok()?));
    }
    let body = found.slice(..end);
    let entries = salvage(&body, repository, keys, kind, name).ok()?;
    let bases = entries.iter().map(|entry| entry.bases.len()).sum();
    let bare_bytes = end + table_bytes(blocks.len(), entries.len(), bases);
    let cipher = TableCipher { kind, repository, keys };
    [0, parity_bytes(bare_bytes)].into_iter().find_map(|parity_bytes| {
        if bare_bytes + parity_bytes > PACK_BYTES_MAX {
            return None;
        }
        let mut object = Vec::with_capacity(bare_bytes + parity_bytes);
        object.extend_from_slice(&body);
        complete(&cipher, &mut object, salt, (&blocks, &entries), parity_bytes).ok()?;
        (*blake3::hash(&object).as_bytes() == name.0).then_some(object)
    })
}
