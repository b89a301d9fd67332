//! Checking a chain: nothing missing, nothing exchanged.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use futures::stream::{self, StreamExt as _};
use model::{Error, ErrorKind, Result, SiteName};

use super::list::is_damage;
use super::record::{self, HEADER_BYTES_MAX, POINT_BYTES_MAX};
use super::{PointHeader, PointId};
use crate::Repository;
use crate::types::hex;

/// How many objects are read at the same time.
const READS_AT_ONCE: usize = 32;

/// What was found in a chain.
#[derive(Debug, Default)]
pub struct ChainReport {
    /// How many points were read whole.
    pub points: u64,
    /// How many headers stand alone.
    pub headers: u64,
    /// Numbers that are missing before the last one.
    pub gaps: Vec<RangeInclusive<u64>>,
    /// Points whose link is not the hash of the one before them.
    pub broken: Vec<PointId>,
    /// What stands where a point was, and is none.
    pub unreadable: Vec<(PointId, Error)>,
}

impl ChainReport {
    /// Says whether the chain is whole.
    pub fn is_sound(&self) -> bool {
        self.gaps.is_empty() && self.broken.is_empty() && self.unreadable.is_empty()
    }
}

impl Repository {
    /// Reads a chain from its first point to its last and checks that each is linked to the one
    /// before. Points that are missing at the end leave no trace in the chain.
    ///
    /// # Errors
    /// Those of the store; damage is no error.
    pub async fn check_chain(&self, site: &SiteName, chain: [u8; 16]) -> Result<ChainReport> {
        let below = format!("{site}/{}", hex(&chain));
        let (points, headers) = (format!("point/{below}"), format!("point-header/{below}"));
        let (points, headers) =
            futures::try_join!(self.store().list(&points), self.store().list(&headers))?;
        // By number; where both stand, the body is about to be deleted and the point counts.
        let mut found: BTreeMap<u64, (PointId, bool)> = BTreeMap::new();
        for (listed, prefix) in [(headers, "point-header/"), (points, "point/")] {
            let paths = listed.iter().filter_map(|object| object.path.strip_prefix(prefix));
            let ids = paths.filter_map(PointId::from_path);
            found.extend(ids.map(|id| (id.number.get(), (id, prefix == "point/"))));
        }
        let mut read = stream::iter(found.into_iter().map(|(number, (id, is_whole))| {
            let this = self.clone();
            async move {
                let header = if is_whole {
                    this.point_with_header(&id).await.map(|(header, _)| header)
                } else {
                    this.point_header(&id).await
                };
                (number, id, is_whole, header)
            }
        }))
        .buffered(READS_AT_ONCE);
        let mut report = ChainReport::default();
        let (mut expected, mut previous) = (1, None);
        while let Some((number, id, is_whole, header)) = read.next().await {
            // Numbers count from 1; 0 has no place in a chain.
            let is_linked = number == expected;
            if number > expected {
                report.gaps.push(expected..=number - 1);
            }
            expected = number + 1;
            match header {
                Ok(header) => {
                    *(if is_whole { &mut report.points } else { &mut report.headers }) += 1;
                    if !is_link(&header, number, previous.filter(|_| is_linked)) {
                        report.broken.push(id);
                    }
                    previous = Some(header.hash);
                }
                // A flipped bit in the number of a key epoch looks like a key that is not at hand.
                Err(error)
                    if is_damage(&error)
                        || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::WrongKey) =>
                {
                    report.unreadable.push((id, error));
                    previous = None;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    /// Reads the header of a point, whether or not its body is still there.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`; those of the store.
    pub async fn point_header(&self, id: &PointId) -> Result<PointHeader> {
        let path = id.header_path();
        let (hash, unverified) = match self.store().get_limited(&path, HEADER_BYTES_MAX).await {
            Ok(object) => record::open_header(self.keys(), id, &object)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let point = self.store().get_limited(&id.object_path(), POINT_BYTES_MAX).await?;
                let header = record::header_object(self.keys(), id, &point)?;
                record::open_header(self.keys(), id, &header)?
            }
            Err(error) => return Err(error),
        };
        let signed = self.verify_all(vec![unverified]).await?;
        let fault = || Error::new(ErrorKind::Internal, "read header of point", id.path());
        record::read_header(id, hash, signed.first().ok_or_else(fault)?)
    }
}

/// Says whether a header holds the hash of the one before, as far as that is known.
fn is_link(header: &PointHeader, number: u64, previous: Option<[u8; 32]>) -> bool {
    match previous {
        _ if number <= 1 => number == 1 && header.previous.is_none(),
        Some(hash) => header.previous == Some(hash),
        None => header.previous.is_some(),
    }
}
