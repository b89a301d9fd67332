//! From what a person types to the states that it means: points, snapshots, and states between them.
//!
//! The choice itself is a pure function of `policies`; here its candidates are read, no more of them
//! than the choice needs, however many there are.

mod candidates;
mod points;
mod snapshots;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Host, ItemKey, Position, Result, SiteName, Timestamp};
use policies::Selector;
use repository::Repository;
use repository::log::LoggedTree;
use repository::point::Point;
use repository::snapshot::Snapshot;
use repository::tree::Tree;
use repository::types::StreamName;

pub use points::resolve_newest;
pub(crate) use points::{choose_point, no_such_point};
pub(crate) use snapshots::choose_snapshot;

/// Says whether the keys of a kind's items begin with a host. Kinds are known further up.
pub type HostOf<'a> = &'a (dyn Fn(&str) -> Host + Sync);

/// How many small objects are asked for at the same time.
const REQUESTS_MAX: usize = 16;
const ACTION: &str = "find state";

/// What a selector means.
#[derive(Clone)]
pub struct Resolved {
    /// The site.
    pub site: SiteName,
    /// The point; none where one system was asked for and its snapshots were looked through.
    pub point: Option<Point>,
    /// What people type for it: of the point, else of the snapshot.
    pub id: String,
    /// When its reading ended; of a state between two snapshots the time that it stands at.
    pub chosen_at: Timestamp,
    /// How many newer points were passed over because they are not complete.
    pub skipped_partial: usize,
    /// The states, by name of the system.
    pub systems: Vec<ResolvedSystem>,
}

/// One system's state.
#[derive(Clone)]
pub struct ResolvedSystem {
    /// The system.
    pub stream: StreamName,
    /// The snapshot; of a state between two snapshots the one that it builds on.
    pub snapshot: Snapshot,
    /// The time that the state stands at.
    pub stands_at: Timestamp,
    /// The position that the state stands at.
    pub position: Position,
    /// The host that all its keys begin with, where the kind's do.
    pub host: Option<String>,
    /// What of it is meant, as people see it: without the host.
    pub path: ItemKey,
    /// Its items.
    pub items: Items,
}

/// The items of a state.
#[derive(Clone)]
pub enum Items {
    /// Of a snapshot.
    Stored(Tree),
    /// Of a snapshot with the changes after it.
    Logged(LoggedTree),
}

impl ResolvedSystem {
    /// Returns the key that stands before all keys of the state.
    ///
    /// # Errors
    /// `Corrupt` where the host of the snapshot cannot stand in a key.
    pub fn root(&self) -> Result<ItemKey> {
        let Some(host) = &self.host else { return Ok(ItemKey::root()) };
        ItemKey::root().child(host.as_bytes()).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "read snapshot", self.snapshot.id.to_string())
                .because(error)
        })
    }

    /// Returns the stored key of one that people see.
    ///
    /// # Errors
    /// As [`ResolvedSystem::root`]; `Invalid` where the key gets too long.
    pub fn stored(&self, shown: &ItemKey) -> Result<ItemKey> {
        let root = self.root()?;
        let components = root.components().chain(shown.components());
        ItemKey::from_components(components)
    }

    /// Returns the key that people see for a stored one.
    pub fn shown(&self, stored: &ItemKey) -> ItemKey {
        let root = self.root().unwrap_or_default();
        stored.rebase(&root, &ItemKey::root()).unwrap_or_else(|| stored.clone())
    }

    /// Says whether anything stands at the path or below it.
    ///
    /// # Errors
    /// Those of the store; `Corrupt`.
    pub async fn has_path(&self) -> Result<bool> {
        let key = self.stored(&self.path)?;
        // Mostly it is an item; looking below reads ahead what nobody may want.
        if self.path.is_root() || crate::browse::get(&self.items, &key).await?.is_some() {
            return Ok(true);
        }
        let mut below = crate::browse::entries(&self.items, &key);
        Ok(below.try_next().await?.is_some())
    }
}

impl Resolved {
    /// Returns the systems in which the selector's path exists.
    ///
    /// # Errors
    /// `NotFound` where it exists in none; those of the store.
    pub async fn with_path(&self) -> Result<Vec<&ResolvedSystem>> {
        let found: Vec<bool> = stream::iter(self.systems.clone())
            .map(|system| async move { system.has_path().await })
            .buffered(REQUESTS_MAX)
            .try_collect()
            .await?;
        let found = self.systems.iter().zip(found).filter(|(_, is_there)| *is_there);
        let found: Vec<_> = found.map(|(system, _)| system).collect();
        if found.is_empty() {
            let path = self.systems.first().map(|system| crate::browse::as_path(&system.path));
            return Err(Error::new(ErrorKind::NotFound, ACTION, path.unwrap_or_default())
                .detail(format!("no system of {} holds it in {}", self.site, self.id)));
        }
        Ok(found)
    }
}

/// Finds the state that a selector means.
///
/// # Errors
/// `NotFound` where there is none; `Invalid` where the site has to be said, or a prefix of an id fits
/// several; those of the store; `Corrupt`.
pub async fn resolve(
    repository: &Repository,
    selector: &Selector,
    host_of: HostOf<'_>,
    context: &Context,
) -> Result<Resolved> {
    context.check(ACTION)?;
    let site = resolve_site(repository, selector.site.as_ref()).await?;
    match &selector.system {
        None => points::resolve(repository, site, selector, host_of).await,
        Some(system) => {
            let stream = StreamName { site, system: system.clone() };
            snapshots::resolve(repository, stream, selector, host_of, context).await
        }
    }
}

/// Returns the named site, or the only one that there is.
///
/// # Errors
/// `NotFound` where nothing was ever captured; `Invalid` where there are several; those of the store.
pub async fn resolve_site(repository: &Repository, site: Option<&SiteName>) -> Result<SiteName> {
    if let Some(site) = site {
        return Ok(site.clone());
    }
    let (sites, streams) = futures::try_join!(repository.sites(), repository.streams())?;
    let of_streams = streams.into_iter().map(|stream| stream.site);
    let all: BTreeSet<SiteName> = sites.into_iter().chain(of_streams).collect();
    only_site(all, repository.store().name())
}

fn only_site(all: BTreeSet<SiteName>, repository: &str) -> Result<SiteName> {
    let names: Vec<_> = all.iter().map(SiteName::to_string).collect();
    let mut all = all.into_iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Error::new(ErrorKind::NotFound, "find site", repository)
            .detail("nothing was captured into it yet")),
        (Some(_), Some(_)) => Err(Error::new(ErrorKind::Invalid, "find site", repository)
            .detail(format!("it holds several: {}; say which one", names.join(", ")))),
    }
}

/// Puts together what is known of a snapshot's state.
fn of_snapshot(
    repository: &Repository,
    snapshot: Snapshot,
    path: &ItemKey,
    host_of: HostOf<'_>,
) -> Result<ResolvedSystem> {
    let host = match host_of(&snapshot.kind) {
        Host::Bound => Some(snapshot.host.clone()),
        Host::Free => None,
    };
    Ok(ResolvedSystem {
        stream: snapshot.id.stream.clone(),
        stands_at: snapshot.cut_to,
        position: snapshot.position.clone(),
        host,
        path: path.clone(),
        items: Items::Stored(repository.tree(&snapshot)?),
        snapshot,
    })
}
