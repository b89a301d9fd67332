//! How far the points of one store are behind those of another, as far as names and times of creation
//! tell: a daemon that holds no key can measure it.

use std::collections::BTreeMap;

use model::{Result, SiteName};

use super::Kind;
use super::folders::{folders, list_both};
use super::plan::Plan;
use super::report::Lag;
use crate::store::Store;

/// Measures how far a destination is behind its source, by site.
///
/// # Errors
/// Those of the stores.
pub async fn measure_lag(source: &Store, destination: &Store) -> Result<Vec<Lag>> {
    let mut sites = BTreeMap::new();
    for folder in folders(source, Kind::Point).await? {
        let Some(site) = site_of(&folder) else { continue };
        let (here, there) = list_both(source, destination, &folder).await?;
        if let Some(lag) = lag_of(site.clone(), Plan::new(here, there)) {
            sites.insert(site, lag);
        }
    }
    Ok(sites.into_values().collect())
}

fn site_of(folder: &str) -> Option<SiteName> {
    folder.rsplit('/').next()?.parse().ok()
}

/// Says how far a site is behind; none where it has no points.
fn lag_of(site: SiteName, plan: Plan) -> Option<Lag> {
    let differing = plan.differing.iter().map(|(object, _)| object);
    let lacked = || plan.missing.iter().chain(differing.clone());
    let newest_there = plan.common.iter().map(|object| object.modified).max();
    let newest_lacked = lacked().map(|object| object.modified).max();
    let newest_here = newest_there.max(newest_lacked)?;
    Some(Lag { site, newest_here, newest_there, points_missing: lacked().count() as u64 })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::Timestamp;

    use super::*;
    use crate::store::Listed;

    /// Lists points by when they were created.
    fn listing(seconds: &[i64]) -> Vec<Listed> {
        let object = |seconds: &i64| Listed {
            path: format!("point/prod/{seconds:010}"),
            size_bytes: 1,
            modified: Timestamp::from_unix_seconds(*seconds),
        };
        seconds.iter().map(object).collect()
    }

    #[test]
    fn lag_is_between_the_newest_points() {
        for (here, there, behind, missing) in [
            (&[10, 20, 30][..], &[10, 20, 30][..], Some(0), 0),
            (&[10, 20, 30], &[10, 20], Some(10), 1),
            (&[10, 20, 30], &[10, 30], Some(0), 1),
            (&[10, 20, 30], &[], None, 3),
            (&[10], &[10, 40], Some(0), 0),
        ] {
            let site: SiteName = "prod".parse().expect("site");
            let lag = lag_of(site, Plan::new(listing(here), listing(there))).expect("points");
            assert_eq!(lag.behind(), behind.map(Duration::from_secs), "{here:?} {there:?}");
            assert_eq!(lag.points_missing, missing, "{here:?} {there:?}");
        }
        let site: SiteName = "prod".parse().expect("site");
        assert_eq!(lag_of(site, Plan::new(Vec::new(), listing(&[1]))), None);
    }
}
