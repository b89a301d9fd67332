//! Checking points: every chain from its first point to its last, and that what they name is there.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Result, SiteName};

use super::Wanted;
use super::objects::{Collected, READS_AT_ONCE, gone_is_fine};
use super::run::Run;
use crate::point::{Freshness, PointId};
use crate::snapshot::snapshot_path;
use crate::types::{Number, SessionId};

/// The most points that one gap in a chain is reported as.
const GAP_REPORTED_MAX: usize = 1000;

impl Run<'_> {
    /// Checks all points, along their chains, and returns which snapshots they name.
    pub(super) async fn check_points(
        &self,
        top: &[String],
        collected: &Collected,
    ) -> Result<Wanted> {
        let mut ids = BTreeSet::new();
        let mut chains = BTreeSet::<(SiteName, [u8; 16])>::new();
        for directory in ["point", "point-header"] {
            if !top.iter().any(|name| name == directory) {
                continue;
            }
            let listed = self.repository.store().list(directory).await?;
            for object in &listed {
                let id = object.path.split_once('/').and_then(|(_, id)| PointId::from_path(id));
                let Some(id) = id else {
                    self.count_unknown(1);
                    continue;
                };
                self.count_object();
                chains.insert((id.site.clone(), id.chain));
                if directory == "point" {
                    ids.insert(id);
                }
            }
        }
        for (site, chain) in &chains {
            self.check_chain(site, *chain).await?;
        }
        let mut wanted = Wanted::default();
        let mut read = stream::iter(ids.into_iter().map(|id| self.check_point(id, collected)))
            .buffered(READS_AT_ONCE);
        while let Some(named) = read.try_next().await? {
            let Some((id, snapshots)) = named else { continue };
            wanted.points_read += 1;
            for snapshot in snapshots {
                wanted.points.entry(snapshot).or_default().push(id.clone());
            }
        }
        Ok(wanted)
    }

    async fn check_chain(&self, site: &SiteName, chain: [u8; 16]) -> Result<()> {
        self.context.check("verify points")?;
        let report = self.repository.check_chain(site, chain).await?;
        let path = |id: &PointId| format!("point/{}", id.path());
        let point = |number| {
            Number::new(number).map(|number| PointId { site: site.clone(), chain, number })
        };
        for gap in report.gaps {
            for number in gap.take(GAP_REPORTED_MAX) {
                let Some(id) = point(number) else { continue };
                let mut findings = self.findings();
                let what = "it is missing in its chain".to_owned();
                let damage = findings.add(&path(&id), what);
                findings.reach_point(damage, &id);
            }
        }
        for (id, error) in report.unreadable {
            let damage = self.note(&path(&id), error).await?;
            self.findings().reach_point(damage, &id);
        }
        for id in report.broken {
            let mut findings = self.findings();
            let what = "it does not hold the hash of the point before it".to_owned();
            let damage = findings.add(&path(&id), what);
            findings.reach_point(damage, &id);
        }
        Ok(())
    }

    /// Reads a point and returns the snapshots that it names; none where it is damaged, gone or
    /// forgotten.
    async fn check_point(
        &self,
        id: PointId,
        collected: &Collected,
    ) -> Result<Option<(PointId, Vec<SessionId>)>> {
        self.context.check("verify points")?;
        let path = format!("point/{}", id.path());
        let point = match gone_is_fine(self.repository.point(&id).await) {
            Ok(None) => return Ok(None),
            Ok(Some(point)) => point,
            Err(error) => {
                let damage = self.note(&path, error).await?;
                self.findings().reach_point(damage, &id);
                return Ok(None);
            }
        };
        if collected.forgotten_points.contains(&id) {
            return Ok(None);
        }
        let mut named = BTreeMap::new();
        for entry in point.entries {
            match (entry.snapshot, entry.freshness) {
                (Some(snapshot), Freshness::Fresh | Freshness::Carried) => {
                    named.insert(snapshot, entry.items);
                }
                (_, Freshness::Missing(_)) | (None, _) => {}
            }
        }
        let is_there = |snapshot: &SessionId| collected.read_snapshots.contains(snapshot);
        for (snapshot, items) in named.iter().filter(|(snapshot, _)| !is_there(snapshot)) {
            self.miss_snapshot(snapshot, &id, *items);
        }
        Ok(Some((id, named.into_keys().collect())))
    }

    /// A point names a snapshot that is not there or cannot be read.
    fn miss_snapshot(&self, snapshot: &SessionId, point: &PointId, items: u64) {
        let mut findings = self.findings();
        let what = "it is not there, and a point names it".to_owned();
        let damage = findings.add(&snapshot_path(snapshot), what);
        if findings.reach_point(damage, point) {
            findings.reach_items(damage, snapshot, || "all items".to_owned(), items);
        }
    }
}
