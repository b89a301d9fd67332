//! Steps `list_sessions` and `resolve`: what became of every session that was announced before.
//!
//! A session without a commit is waited for while it is young, and closed then by a tombstone at its
//! commit key. Its writer's commit and the tombstone race for one key: one of them wins, and either way
//! it is known what the session refers to. Clocks decide only how long somebody is waited for.

use std::time::Duration;

use model::{Context, Error, ErrorKind, Result, Timestamp};

use super::roots::Roots;
use crate::Repository;
use crate::format::ObjectType;
use crate::snapshot::codec;
use crate::snapshot::snapshot_path;
use crate::types::SessionId;

/// How often it is looked whether a session has ended.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// Commit keys that are read together.
const COMMITS_AT_ONCE: usize = 1024;

/// A session that was announced, and when by the store's time.
pub(super) type Announced = (SessionId, Timestamp);

/// Lists all sessions whose announcement is there.
pub(super) async fn list(repository: &Repository) -> Result<Vec<Announced>> {
    let listed = repository.store().list("session").await?;
    let id = |path: &str| SessionId::from_path(path.strip_prefix("session/")?);
    Ok(listed.iter().filter_map(|l| Some((id(&l.path)?, l.modified))).collect())
}

/// The store's time, as it goes on.
pub(super) struct StoreClock {
    pub(super) at: Timestamp,
    pub(super) elapsed: Duration,
}

impl StoreClock {
    fn now(&self, context: &Context) -> Timestamp {
        self.at.saturating_add(context.clock.elapsed().saturating_sub(self.elapsed))
    }

    /// Returns how old something is.
    pub(super) fn age(&self, created: Timestamp, context: &Context) -> Duration {
        self.now(context).since(created)
    }
}

/// Lists sessions, and returns once the commit key of each is taken. What was committed becomes a
/// root; returns the sessions that were closed.
pub(super) async fn resolve(
    repository: &Repository,
    roots: &mut Roots,
    (clock, patience): (&StoreClock, Duration),
    context: &Context,
) -> Result<Vec<SessionId>> {
    let mut open = list(repository).await?;
    open.retain(|(id, _)| !roots.resolved.contains(id));
    let mut fenced = Vec::new();
    loop {
        for some in open.chunks(COMMITS_AT_ONCE) {
            context.check("wait for sessions")?;
            let ids: Vec<_> = some.iter().map(|(id, _)| id.clone()).collect();
            for (id, commit) in repository.read_commits(&ids).await? {
                roots.add(id, commit)?;
            }
        }
        open.retain(|(id, _)| !roots.resolved.contains(id));
        let mut waiting = Vec::new();
        for (id, created) in open {
            if clock.age(created, context) < patience {
                waiting.push((id, created));
            } else if fence(repository, roots, &id).await? {
                fenced.push(id);
            }
        }
        open = waiting;
        if open.is_empty() {
            roots.find_domains_of(repository, &fenced).await?;
            return Ok(fenced);
        }
        tokio::select! {
            () = context.clock.sleep(POLL_EVERY) => {}
            () = context.cancel.cancelled() => return Err(Error::cancelled("wait for sessions")),
        }
    }
}

/// Closes a session; says whether it was not committed just before.
async fn fence(repository: &Repository, roots: &mut Roots, id: &SessionId) -> Result<bool> {
    let body = codec::encode_tombstone("closed by a collector that had waited for it");
    match repository.create_signed(ObjectType::Snapshot, &snapshot_path(id), body).await {
        Ok(_) => {
            roots.resolved.insert(id.clone());
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::Conflict => {
            let commit = repository.commit_of(id).await;
            roots.add(id.clone(), commit)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
