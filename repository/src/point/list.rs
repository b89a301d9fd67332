//! Reading points: however many there are, the newest are a few round trips away.
//!
//! The chains of a site are listed, then the buckets of every chain, then the newest bucket of each
//! beside the same bucket of forgets, then the newest points are read together. Which are the newest
//! is told by the store's time of their creation, as only that stands in a listing.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use model::{Error, ErrorKind, Result, SiteName, Timestamp};

use super::record::{self, POINT_BYTES_MAX};
use super::{Point, PointHeader, PointId};
use crate::Repository;
use crate::store::Listed;
use crate::types::from_hex;

/// How many listings run at the same time: one wave for a thousand chains.
const LISTINGS_AT_ONCE: usize = 1024;
/// How many points are read at the same time.
const READS_AT_ONCE: usize = 128;
/// How many points a bucket holds at most.
const BUCKET_POINTS: usize = 1000;

/// The newest points of a site, with those that cannot be read.
#[derive(Debug, Default)]
pub struct SurveyedPoints {
    /// Newest sealed first.
    pub points: Vec<Point>,
    /// What stands where points were, and is none.
    pub unreadable: Vec<(PointId, Error)>,
}

/// A point in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    created: Timestamp,
    id: PointId,
}

/// The buckets of a chain that are not yet listed, newest last.
struct Unlisted {
    chain: String,
    buckets: Vec<String>,
}

impl Repository {
    /// Lists the sites that have points.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sites(&self) -> Result<Vec<SiteName>> {
        let listing = self.store().list_directories("point").await?;
        Ok(listing.directories.iter().filter_map(|path| last_part(path)?.parse().ok()).collect())
    }

    /// Lists the chains of a site.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn chains(&self, site: &SiteName) -> Result<Vec<[u8; 16]>> {
        let (points, headers) = (format!("point/{site}"), format!("point-header/{site}"));
        let (points, headers) = futures::try_join!(
            self.store().list_directories(&points),
            self.store().list_directories(&headers)
        )?;
        let paths = points.directories.iter().chain(&headers.directories);
        let chains: BTreeSet<_> = paths.filter_map(|path| from_hex(last_part(path)?)).collect();
        Ok(chains.into_iter().collect())
    }

    /// Returns the newest points of a site over all chains, newest sealed first, without what is
    /// forgotten. At most five sequential round trips however many there are.
    ///
    /// # Errors
    /// Those of the store; `Corrupt` where one of them cannot be read: [`Repository::survey_points`]
    /// gives the others.
    pub async fn newest_points(&self, site: &SiteName, count: usize) -> Result<Vec<Point>> {
        let mut surveyed = self.survey_points(site, count).await?;
        match surveyed.unreadable.pop() {
            Some((_, error)) => Err(error),
            None => Ok(surveyed.points),
        }
    }

    /// Returns the newest `count` points of a site as [`Repository::newest_points`] does, those among
    /// them that are damaged apart.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn survey_points(&self, site: &SiteName, count: usize) -> Result<SurveyedPoints> {
        let newest = self.newest_ids(site, count).await?;
        self.read_points(newest).await
    }

    /// Reads all points of a site that are not forgotten, newest created first.
    ///
    /// The stream fails as [`Repository::newest_points`] does.
    pub fn all_points(&self, site: &SiteName) -> BoxStream<'static, Result<Point>> {
        let (repository, site) = (self.clone(), site.clone());
        let batches = async move {
            let found = repository.all_ids(&format!("{site}")).await?;
            let batches: Vec<_> = found.chunks(READS_AT_ONCE).map(<[PointId]>::to_vec).collect();
            Ok::<_, Error>(stream::iter(batches).then(move |batch| {
                let repository = repository.clone();
                async move {
                    let mut surveyed = repository.read_points(batch).await?;
                    match surveyed.unreadable.pop() {
                        Some((_, error)) => Err(error),
                        None => Ok(stream::iter(surveyed.points.into_iter().map(Ok))),
                    }
                }
            }))
        };
        stream::once(batches).try_flatten().try_flatten().boxed()
    }

    /// Finds the points of all sites whose short form begins with `prefix`, without what is forgotten.
    ///
    /// # Errors
    /// `Invalid` where the prefix is empty or not hexadecimal; as [`Repository::newest_points`].
    pub async fn find_points(&self, prefix: &str) -> Result<Vec<Point>> {
        let is_sound = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if prefix.is_empty() || !prefix.chars().all(is_sound) {
            return Err(Error::new(ErrorKind::Invalid, "find point", format!("{prefix:?}"))
                .detail("expected lower-case hexadecimal digits"));
        }
        let mut ids = self.all_ids("").await?;
        ids.retain(|id| id.short().starts_with(prefix));
        let mut surveyed = self.read_points(ids).await?;
        match surveyed.unreadable.pop() {
            Some((_, error)) => Err(error),
            None => Ok(surveyed.points),
        }
    }

    /// Reads one point, forgotten or not.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`; those of the store.
    pub async fn point(&self, id: &PointId) -> Result<Point> {
        self.point_with_header(id).await.map(|(_, point)| point)
    }

    /// Reads one point with what its header says of its chain.
    ///
    /// # Errors
    /// As [`Repository::point`].
    pub async fn point_with_header(&self, id: &PointId) -> Result<(PointHeader, Point)> {
        let object = self.store().get_limited(&id.object_path(), POINT_BYTES_MAX).await?;
        self.open_point(id, &object).await
    }

    /// Opens a point that was read.
    ///
    /// # Errors
    /// As [`Repository::point`].
    pub(crate) async fn open_point(
        &self,
        id: &PointId,
        object: &bytes::Bytes,
    ) -> Result<(PointHeader, Point)> {
        let (opened, unverified) = record::open(self.keys(), id, object)?;
        let signed = self.verify_all(vec![unverified]).await?;
        let signed = signed
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "read point", id.path()))?;
        opened.read(signed)
    }

    /// Reads points together; certificates not met before are fetched in one more round trip.
    async fn read_points(&self, ids: Vec<PointId>) -> Result<SurveyedPoints> {
        let read: Vec<(PointId, Result<_>)> = stream::iter(ids.into_iter().map(|id| {
            let this = self.clone();
            async move {
                let object = this.store().get_limited(&id.object_path(), POINT_BYTES_MAX).await;
                let opened = object.and_then(|object| record::open(this.keys(), &id, &object));
                (id, opened)
            }
        }))
        .buffered(READS_AT_ONCE)
        .collect()
        .await;
        let mut surveyed = SurveyedPoints::default();
        let mut opened = Vec::new();
        for (id, result) in read {
            match result {
                Ok((point, unverified)) => opened.push((id, point, unverified)),
                // Deleted between the listing and now: it was forgotten.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if is_damage(&error) => surveyed.unreadable.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        // One point of each writer first: certificates are fetched once.
        let mut writers = BTreeSet::new();
        let (firsts, others): (Vec<_>, Vec<_>) =
            opened.into_iter().partition(|(_, _, unverified)| writers.insert(unverified.writer()));
        let mut verified = Vec::new();
        for opened in [firsts, others] {
            let points = stream::iter(opened.into_iter().map(|(id, point, unverified)| {
                let this = self.clone();
                async move {
                    let signed = this.verify_all(vec![unverified]).await;
                    let point = signed.and_then(|signed| {
                        let fault = || Error::new(ErrorKind::Internal, "read point", id.path());
                        point.read(signed.first().ok_or_else(fault)?)
                    });
                    (id, point)
                }
            }));
            verified.extend(points.buffered(READS_AT_ONCE).collect::<Vec<_>>().await);
        }
        for (id, result) in verified {
            match result {
                Ok((_, point)) => surveyed.points.push(point),
                Err(error) if is_damage(&error) => surveyed.unreadable.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        surveyed.points.sort_by(|a, b| (b.sealed, &b.id).cmp(&(a.sealed, &a.id)));
        Ok(surveyed)
    }

    /// Lists all points below a prefix of `point/` that are not forgotten, newest created first.
    async fn all_ids(&self, below: &str) -> Result<Vec<PointId>> {
        let prefix = |kind: &str| match below {
            "" => kind.to_owned(),
            below => format!("{kind}/{below}"),
        };
        let (points, forgets) = (prefix("point"), prefix("forget-point"));
        let (points, forgets) =
            futures::try_join!(self.store().list(&points), self.store().list(&forgets))?;
        let forgotten: BTreeSet<_> =
            forgets.iter().filter_map(|found| found.path.strip_prefix("forget-point/")).collect();
        let mut found: Vec<_> = points
            .iter()
            .filter_map(|listed| {
                let path = listed.path.strip_prefix("point/")?;
                let id = PointId::from_path(path).filter(|_| !forgotten.contains(path))?;
                Some(Found { created: listed.modified, id })
            })
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found.into_iter().map(|found| found.id).collect())
    }

    /// Names the newest points of a site that are not forgotten.
    async fn newest_ids(&self, site: &SiteName, count: usize) -> Result<Vec<PointId>> {
        let (points, forgets) = (format!("point/{site}"), format!("forget-point/{site}"));
        let (chains, forgets) = futures::try_join!(
            self.store().list_directories(&points),
            self.store().list_directories(&forgets)
        )?;
        let forgetful: BTreeSet<_> =
            forgets.directories.iter().filter_map(|path| last_part(path)).collect();
        let mut unlisted: Vec<Unlisted> =
            stream::iter(chains.directories.into_iter().map(|chain| {
                let store = self.store().clone();
                async move {
                    let mut buckets = store.list_directories(&chain).await?.directories;
                    buckets.reverse();
                    Ok::<_, Error>(Unlisted { chain, buckets })
                }
            }))
            .buffer_unordered(LISTINGS_AT_ONCE)
            .try_collect()
            .await?;
        let mut found: Vec<Found> = Vec::new();
        // A newest bucket may hold a single point: two of them hold a thousand and more.
        let mut buckets = count.div_ceil(BUCKET_POINTS) + 1;
        loop {
            let next = unlisted.iter_mut().flat_map(|chain| {
                let has_forgets = last_part(&chain.chain).is_some_and(|c| forgetful.contains(c));
                let left = chain.buckets.len();
                let taken = chain.buckets.split_off(left.saturating_sub(buckets));
                taken.into_iter().map(move |bucket| (bucket, has_forgets))
            });
            let next: Vec<_> = next.collect();
            let is_last = next.is_empty();
            found.extend(self.list_buckets(next).await?);
            if is_last || found.len() >= count {
                break;
            }
            buckets = buckets.saturating_mul(2);
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(count);
        Ok(found.into_iter().map(|found| found.id).collect())
    }

    /// Lists buckets without what is forgotten of them.
    async fn list_buckets(&self, buckets: Vec<(String, bool)>) -> Result<Vec<Found>> {
        let listed = stream::iter(buckets.into_iter().map(|(bucket, has_forgets)| {
            let store = self.store().clone();
            async move {
                let forgets = bucket.replacen("point/", "forget-point/", 1);
                let forgotten =
                    async { if has_forgets { store.list(&forgets).await } else { Ok(Vec::new()) } };
                let (points, forgotten) = futures::try_join!(store.list(&bucket), forgotten)?;
                Ok::<_, Error>(without_forgotten(&points, &forgotten))
            }
        }));
        listed.buffer_unordered(LISTINGS_AT_ONCE).try_concat().await
    }
}

/// Takes what is forgotten out of a bucket.
fn without_forgotten(points: &[Listed], forgotten: &[Listed]) -> Vec<Found> {
    let id = |listed: &Listed, kind| PointId::from_path(listed.path.strip_prefix(kind)?);
    let mut created: BTreeMap<PointId, Timestamp> =
        points.iter().filter_map(|point| Some((id(point, "point/")?, point.modified))).collect();
    for id in forgotten.iter().filter_map(|forget| id(forget, "forget-point/")) {
        created.remove(&id);
    }
    created.into_iter().map(|(id, created)| Found { created, id }).collect()
}

/// Says whether an object is bad, and not the way to it.
pub(crate) fn is_damage(error: &Error) -> bool {
    use ErrorKind::{Corrupt, Exhausted, Unsupported};
    [Corrupt, Exhausted, Unsupported].contains(&error.kind())
}

fn last_part(path: &str) -> Option<&str> {
    path.rsplit('/').next()
}
