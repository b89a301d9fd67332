//! Holds: what is kept whatever retention says, who wants it so, why and until when.
//!
//! A hold is one signed object, `hold/<id>`; its release is another one beside it. Nothing can be taken out
//! of a hold and nothing is forgotten that one covers; the collector asks here too, so that a forget
//! that came at the same moment as the hold frees nothing. A hold that cannot be read stops both: it might
//! cover anything.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Result, SiteName, Timestamp};
use prost::Message as _;

use crate::Repository;
use crate::format::ObjectType;
use crate::point::PointId;
use crate::types::{HoldId, SessionId, StreamName, WriterId};

/// What is being done where a hold is in the way; the same for all that it can be in the way of.
pub const HELD_ACTION: &str = "forget what a hold covers";
/// The most bytes of who wants a hold, and of why.
pub const HOLD_TEXT_BYTES_MAX: usize = 4096;
/// The most snapshots that a hold names.
const SNAPSHOTS_MAX: usize = 4096;
const HOLD_BYTES_MAX: u64 = 1 << 20;
const READS_AT_ONCE: usize = 64;

/// What a hold covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldScope {
    /// All points, snapshots and logs of a site, those to come as well.
    Site(SiteName),
    /// All snapshots and logs of a system, those to come as well.
    System(StreamName),
    /// A point and the snapshots that it names.
    Point(PointId),
    /// A snapshot.
    Snapshot(SessionId),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    /// What is to be kept.
    pub scope: HoldScope,
    /// The snapshots that a point names; empty for other scopes.
    pub snapshots: Vec<SessionId>,
    /// Who wants it, for people.
    pub who: String,
    /// Why, for people.
    pub why: String,
    /// When it ends by itself; none: when it is released.
    pub until: Option<Timestamp>,
}

/// A hold as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its name.
    pub id: HoldId,
    /// What was asked for.
    pub request: HoldRequest,
    /// Which key slot signed it.
    pub writer: WriterId,
    /// When, by the writer's clock.
    pub at: Timestamp,
    /// How it was released; none where it was not.
    pub release: Option<HoldRelease>,
}

/// The end of a hold before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRelease {
    /// Who wanted it, for people.
    pub who: String,
    /// Why, for people.
    pub why: String,
    /// Which key slot signed it.
    pub writer: WriterId,
    /// When, by the writer's clock.
    pub at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    scope: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    snapshots: Vec<String>,
    #[prost(string, tag = "4")]
    who: String,
    #[prost(string, tag = "5")]
    why: String,
    #[prost(sint64, optional, tag = "6")]
    until_unix_ns: Option<i64>,
    #[prost(sint64, tag = "7")]
    at_unix_ns: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ReleaseRecord {
    #[prost(string, tag = "1")]
    who: String,
    #[prost(string, tag = "2")]
    why: String,
    #[prost(sint64, tag = "3")]
    at_unix_ns: i64,
}

/// The holds that are in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds(Vec<Hold>);

impl Holds {
    /// Takes of all holds those that are in force at a time.
    pub fn in_force(all: Vec<Hold>, now: Timestamp) -> Self {
        Self(all.into_iter().filter(|hold| hold.is_in_force(now)).collect())
    }

    /// Returns a hold that covers a point, if one does.
    pub fn on_point(&self, id: &PointId) -> Option<&Hold> {
        self.0.iter().find(|hold| match &hold.request.scope {
            HoldScope::Site(site) => *site == id.site,
            HoldScope::Point(point) => point == id,
            HoldScope::System(_) | HoldScope::Snapshot(_) => false,
        })
    }

    /// Returns a hold that covers a snapshot, if one does. Of a site or a system every snapshot is
    /// covered; checkpoints, which nobody sees, are none.
    pub fn on_snapshot(&self, id: &SessionId) -> Option<&Hold> {
        self.0.iter().find(|hold| match &hold.request.scope {
            HoldScope::Site(site) => *site == id.stream.site,
            HoldScope::System(stream) => *stream == id.stream,
            HoldScope::Point(_) => hold.request.snapshots.contains(id),
            HoldScope::Snapshot(snapshot) => snapshot == id,
        })
    }

    /// Returns a hold that covers the log of a stream, if one does.
    pub fn on_log(&self, stream: &StreamName) -> Option<&Hold> {
        self.0.iter().find(|hold| match &hold.request.scope {
            HoldScope::Site(site) => *site == stream.site,
            HoldScope::System(system) => system == stream,
            HoldScope::Point(_) | HoldScope::Snapshot(_) => false,
        })
    }

    /// Returns them all.
    pub fn all(&self) -> &[Hold] {
        &self.0
    }
}

impl Hold {
    /// Says whether it counts at a time.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.release.is_none() && self.request.until.is_none_or(|until| now < until)
    }

    /// Says that it is in the way of forgetting something.
    pub fn in_the_way(&self, subject: String) -> Error {
        let HoldRequest { who, why, .. } = &self.request;
        Error::new(ErrorKind::Denied, HELD_ACTION, subject)
            .detail(format!("{who} holds it: {why} (hold {})", self.id))
    }
}

impl Repository {
    /// Makes a hold. Durable when it returns.
    ///
    /// # Errors
    /// `NotFound` where the point or snapshot is not there; `Invalid` where the texts make no sense;
    /// those of the store.
    pub async fn add_hold(&self, request: HoldRequest, context: &Context) -> Result<Hold> {
        context.check("add hold")?;
        self.check_writable()?;
        let mut id = [0; 16];
        context.entropy.fill(&mut id);
        let (id, at) = (HoldId(id), context.clock.now());
        let record = Record::new(&request, at);
        if record.clone().read().is_none() {
            return Err(Error::new(ErrorKind::Invalid, "add hold", "").detail(format!(
                "say who and why in plain text of at most {HOLD_TEXT_BYTES_MAX} bytes each"
            )));
        }
        self.check_holdable(&request.scope).await?;
        self.create_signed(ObjectType::Hold, &hold_path(id), record.encode_to_vec()).await?;
        // Once more: who forgets looks for holds first, so that one of the two sees the other. The hold
        // stays then, and keeps what the collector would free.
        self.check_holdable(&request.scope).await?;
        Ok(Hold { id, request, writer: self.writer(), at, release: None })
    }

    /// Ends a hold. Twice is the same as once: the first word stays.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where the texts make no sense; those of the store.
    pub async fn release_hold(
        &self,
        id: HoldId,
        who: &str,
        why: &str,
        context: &Context,
    ) -> Result<Hold> {
        context.check("release hold")?;
        self.check_writable()?;
        let hold = self.hold(id).await?;
        if hold.release.is_some() {
            return Ok(hold);
        }
        if !is_plain(who) || !is_plain(why) {
            return Err(Error::new(ErrorKind::Invalid, "release hold", id.to_string())
                .detail("say who and why in plain text"));
        }
        let (who, why) = (who.to_owned(), why.to_owned());
        let record = ReleaseRecord { who, why, at_unix_ns: context.clock.now().unix_ns };
        let path = release_path(id);
        match self.create_signed(ObjectType::HoldRelease, &path, record.encode_to_vec()).await {
            // Somebody was faster.
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => self.hold(id).await,
        }
    }

    /// Returns the holds that are in force at a time. Who deletes passes the earliest time that any clock
    /// he trusts shows: a clock that is ahead ends no hold then.
    ///
    /// # Errors
    /// Those of the store; `Corrupt` where one cannot be read.
    pub async fn holds(&self, now: Timestamp) -> Result<Holds> {
        self.all_holds().await.map(|all| Holds::in_force(all, now))
    }

    /// Returns all holds that ever were, the oldest first.
    ///
    /// # Errors
    /// Those of the store; `Corrupt` where one cannot be read.
    pub async fn all_holds(&self) -> Result<Vec<Hold>> {
        // Releases first: one that comes in between is missed, which keeps more.
        let released = self.store().list("hold-release").await?;
        let listed = self.store().list("hold").await?;
        let ids = |paths: &[crate::store::Listed], kind: &str| -> BTreeSet<HoldId> {
            let names = paths.iter().filter_map(|listed| listed.path.strip_prefix(kind));
            names.filter_map(|name| name.parse().ok()).collect()
        };
        let released = ids(&released, "hold-release/");
        let reads = ids(&listed, "hold/").into_iter().map(|id| {
            let is_released = released.contains(&id);
            async move { self.read_hold(id, is_released).await }
        });
        let reads: Vec<_> = reads.collect();
        let mut holds: Vec<Hold> =
            stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        holds.sort_by_key(|hold| (hold.at, hold.id));
        Ok(holds)
    }

    /// Returns one hold.
    ///
    /// # Errors
    /// `NotFound`; those of the store; `Corrupt`.
    pub async fn hold(&self, id: HoldId) -> Result<Hold> {
        self.read_hold(id, true).await
    }

    async fn read_hold(&self, id: HoldId, may_be_released: bool) -> Result<Hold> {
        let path = hold_path(id);
        let corrupt = |path: &str| Error::new(ErrorKind::Corrupt, "read hold", path);
        let object = self.store().get_limited(&path, HOLD_BYTES_MAX).await?;
        let signed = self.open_signed(ObjectType::Hold, &path, &object).await?;
        let record =
            Record::decode(&signed.body[..]).map_err(|error| corrupt(&path).because(error))?;
        let (request, at) = record.read().ok_or_else(|| corrupt(&path))?;
        let release = if may_be_released { self.read_release(id).await? } else { None };
        Ok(Hold { id, request, writer: signed.writer, at, release })
    }

    async fn read_release(&self, id: HoldId) -> Result<Option<HoldRelease>> {
        let path = release_path(id);
        let object = match self.store().get_limited(&path, HOLD_BYTES_MAX).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let signed = self.open_signed(ObjectType::HoldRelease, &path, &object).await?;
        let record = ReleaseRecord::decode(&signed.body[..]).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "read release of hold", &path).because(error)
        })?;
        let at = Timestamp { unix_ns: record.at_unix_ns };
        Ok(Some(HoldRelease { who: record.who, why: record.why, writer: signed.writer, at }))
    }

    /// Refuses a scope that is gone. A site or a system may be held before anything is captured.
    async fn check_holdable(&self, scope: &HoldScope) -> Result<()> {
        let gone = |subject: String| {
            Error::new(ErrorKind::NotFound, "hold state", subject).detail("it is forgotten")
        };
        match scope {
            HoldScope::Site(_) | HoldScope::System(_) => Ok(()),
            HoldScope::Point(id) => {
                self.store().head(&format!("point/{}", id.path())).await?;
                match self.is_point_forgotten(id).await? {
                    true => Err(gone(id.short())),
                    false => Ok(()),
                }
            }
            HoldScope::Snapshot(id) => {
                self.store().head(&format!("snapshot/{}", id.path())).await?;
                match self.is_forgotten(id).await? {
                    true => Err(gone(id.to_string())),
                    false => Ok(()),
                }
            }
        }
    }
}

impl Record {
    fn new(request: &HoldRequest, at: Timestamp) -> Self {
        let (scope, name) = match &request.scope {
            HoldScope::Site(site) => (1, site.to_string()),
            HoldScope::System(stream) => (2, stream.to_string()),
            HoldScope::Point(point) => (3, point.path()),
            HoldScope::Snapshot(snapshot) => (4, snapshot.path()),
        };
        Self {
            scope,
            name,
            snapshots: request.snapshots.iter().map(SessionId::path).collect(),
            who: request.who.clone(),
            why: request.why.clone(),
            until_unix_ns: request.until.map(|until| until.unix_ns),
            at_unix_ns: at.unix_ns,
        }
    }

    fn read(self) -> Option<(HoldRequest, Timestamp)> {
        let scope = match self.scope {
            1 => HoldScope::Site(self.name.parse().ok()?),
            2 => HoldScope::System(self.name.parse().ok()?),
            3 => HoldScope::Point(PointId::from_path(&self.name)?),
            4 => HoldScope::Snapshot(SessionId::from_path(&self.name)?),
            _ => return None,
        };
        let may_name =
            matches!(scope, HoldScope::Point(_)) && self.snapshots.len() <= SNAPSHOTS_MAX;
        let is_sound = is_plain(&self.who) && is_plain(&self.why);
        if !is_sound || !(may_name || self.snapshots.is_empty()) {
            return None;
        }
        let snapshots = self.snapshots.iter().map(|path| SessionId::from_path(path));
        let snapshots = snapshots.collect::<Option<Vec<_>>>()?;
        let until = self.until_unix_ns.map(|unix_ns| Timestamp { unix_ns });
        let (who, why) = (self.who, self.why);
        let request = HoldRequest { scope, snapshots, who, why, until };
        Some((request, Timestamp { unix_ns: self.at_unix_ns }))
    }
}

/// Says whether a text says something and can be shown.
fn is_plain(text: &str) -> bool {
    !text.trim().is_empty()
        && text.len() <= HOLD_TEXT_BYTES_MAX
        && !text.chars().any(char::is_control)
}

fn hold_path(id: HoldId) -> String {
    format!("hold/{id}")
}

fn release_path(id: HoldId) -> String {
    format!("hold-release/{id}")
}

#[cfg(test)]
mod tests;
