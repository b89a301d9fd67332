//! Sealing: one process counts up in a chain of its own.

use std::sync::Arc;

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result, SiteName, Timestamp};
use tokio::sync::Mutex;

use super::record::{self, ENTRIES_MAX, NOTES_MAX, POINT_BYTES_MAX, Seal};
use super::{Freshness, Point, PointDraft, PointId};
use crate::Repository;
use crate::types::Number;

/// Seals the points of one site into a chain that nobody else writes to. Cheap to clone; points are
/// sealed one after another.
#[derive(Debug, Clone)]
pub struct PointSealer {
    repository: Repository,
    site: SiteName,
    coordinator_epoch: u64,
    chain: Arc<Mutex<Option<Chain>>>,
}

/// Where the next point goes.
#[derive(Debug, Clone, Copy)]
struct Chain {
    id: [u8; 16],
    next: u64,
    previous: Option<[u8; 32]>,
}

impl Chain {
    fn open(context: &Context) -> Self {
        let mut id = [0; 16];
        context.entropy.fill(&mut id);
        Self { id, next: 1, previous: None }
    }
}

impl PointSealer {
    /// Makes the chain one of a coordinator's epoch: the sealer of a later epoch opens another.
    #[must_use]
    pub fn of_epoch(mut self, coordinator_epoch: u64) -> Self {
        self.coordinator_epoch = coordinator_epoch;
        self
    }

    /// Seals a point. Durable when it returns.
    ///
    /// A point whose sealing failed may still come to be there. The next one therefore opens another
    /// chain instead of taking a number that may be taken.
    ///
    /// # Errors
    /// `Invalid` where the draft makes no sense; those of the store.
    pub async fn seal(&self, draft: PointDraft, context: &Context) -> Result<Point> {
        context.check("seal point")?;
        self.repository.check_writable()?;
        let draft = check(draft, &self.site)?;
        let store = self.repository.store();
        let (store_time, probe) = store.read_clock().await?;
        // Held while sealing: a chain has no gaps.
        let mut state = self.chain.lock().await;
        let chain = state.take().unwrap_or_else(|| Chain::open(context));
        let encoded = self.encode(&chain, draft, store_time, context);
        let create = async {
            let (point, object, hash) = encoded?;
            store.create(&point.id.object_path(), Bytes::from(object)).await?;
            Ok((point, hash))
        };
        let (created, cleaned) = futures::join!(create, store.forget_probe(&probe));
        let (point, hash) = created?;
        *state = Some(Chain { next: chain.next + 1, previous: Some(hash), ..chain });
        // The point stands; that the probe could not be removed is said all the same.
        cleaned.map(|()| point)
    }

    /// Makes the object of a chain's next point.
    fn encode(
        &self,
        chain: &Chain,
        draft: PointDraft,
        store_time: Timestamp,
        context: &Context,
    ) -> Result<(Point, Vec<u8>, [u8; 32])> {
        let number = Number::new(chain.next)
            .ok_or_else(|| Error::new(ErrorKind::Exhausted, "seal point of", self.site.as_str()))?;
        let id = PointId { site: self.site.clone(), chain: chain.id, number };
        let seal = Seal {
            coordinator_epoch: self.coordinator_epoch,
            previous: chain.previous,
            sealed: context.clock.now(),
            store_time: Some(store_time),
        };
        let encoded = record::encode(self.repository.keys(), id, draft, &seal)?;
        if encoded.1.len() as u64 > POINT_BYTES_MAX {
            return Err(refuse(&self.site, "it is larger than a point may be"));
        }
        Ok(encoded)
    }
}

impl Repository {
    /// Returns what seals points of a site. The chain is opened by the first point: keep one sealer
    /// for as long as the process lives.
    pub fn point_sealer(&self, site: &SiteName) -> PointSealer {
        PointSealer {
            repository: self.clone(),
            site: site.clone(),
            coordinator_epoch: 0,
            chain: Arc::default(),
        }
    }

    /// Seals a single point, in a chain of its own. Who seals more than one uses
    /// [`Repository::point_sealer`].
    ///
    /// # Errors
    /// As [`PointSealer::seal`].
    pub async fn seal_point(
        &self,
        site: &SiteName,
        draft: PointDraft,
        context: &Context,
    ) -> Result<Point> {
        self.point_sealer(site).seal(draft, context).await
    }
}

fn check(mut draft: PointDraft, site: &SiteName) -> Result<PointDraft> {
    draft.entries.sort_by(|a, b| a.system.cmp(&b.system));
    if !draft.entries.is_sorted_by(|a, b| a.system < b.system) {
        return Err(refuse(site, "a system has two entries"));
    }
    let notes = draft.lacks.len().max(draft.checks.len());
    if draft.entries.len() > ENTRIES_MAX || notes > NOTES_MAX {
        return Err(refuse(site, "it has more entries or notes than a point may hold"));
    }
    for entry in &draft.entries {
        let is_missing = matches!(entry.freshness, Freshness::Missing(_));
        if is_missing != entry.snapshot.is_none() {
            let what = format!("system {} has a state and is missing, or neither", entry.system);
            return Err(refuse(site, &what));
        }
        if is_missing && draft.lacks.is_empty() {
            let what = format!("system {} is missing, and the point lacks nothing", entry.system);
            return Err(refuse(site, &what));
        }
    }
    Ok(draft)
}

fn refuse(site: &SiteName, what: &str) -> Error {
    Error::new(ErrorKind::Invalid, "seal point of", site.as_str()).detail(what)
}
