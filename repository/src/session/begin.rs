//! How a session begins: announce, then read what is condemned, then check the parent.
//!
//! The order is the whole of what makes reuse safe without locks. A collector condemns packs first and
//! looks for announced sessions then. So either it sees this session, and waits for what becomes of it;
//! or it had condemned before this session was announced, and what is read here says so. That a parent
//! is not forgotten *after* what is condemned was read means that no collector has finished with what it
//! holds. Both are asked at once; where a collector has ended something meanwhile, the second is asked
//! again.

use model::{Context, Error, ErrorKind, Result, Timestamp};

use super::SessionOptions;
use crate::Repository;
use crate::format::ObjectType;
use crate::gc::{CondemnedSet, newest_over, open_condemned};
use crate::snapshot::codec::{self, Commit};
use crate::snapshot::{Announcement, Snapshot, session_path};
use crate::types::{Number, SessionId, StreamName};

/// Candidates for the parent that are read while the session is announced.
const CANDIDATES: usize = 4;
/// How many are read at once where none of those will do.
const MORE_CANDIDATES: usize = 64;

/// An announced session that has learnt all that it has to know.
pub(super) struct Announced {
    pub(super) id: SessionId,
    /// The store's time when it was announced.
    pub(super) store_time: Timestamp,
    pub(super) condemned: CondemnedSet,
    pub(super) parent: Option<Snapshot>,
    pub(super) capture_number: u64,
}

/// Announces, reads what is condemned and chooses the parent.
pub(super) async fn begin(
    repository: &Repository,
    stream: &StreamName,
    options: &SessionOptions,
    context: &Context,
) -> Result<Announced> {
    repository.keys().check_full("begin session")?;
    let (survey, over_before) =
        futures::try_join!(repository.survey(stream), newest_over(repository))?;
    let id = next_id(stream, survey.newest_number, context)?;
    let (newest, others) = survey.candidates.split_at(CANDIDATES.min(survey.candidates.len()));
    // What is read of candidates before the announcement is a hint; that they are there does not change.
    let (announced, mut candidates) = futures::try_join!(
        announce(repository, &id, options, context),
        repository.read_commits(newest)
    )?;
    let () = announced;
    if !others.is_empty() && !candidates.iter().any(|(_, commit)| is_usable(commit, options)) {
        for others in others.chunks(MORE_CANDIDATES) {
            candidates.extend(repository.read_commits(others).await?);
            if candidates.iter().any(|(_, commit)| is_usable(commit, options)) {
                break;
            }
        }
    }
    let mut snapshots = candidates.into_iter().filter_map(|(_, commit)| match commit {
        Ok(Commit::Snapshot(snapshot)) => Some(*snapshot),
        _ => None,
    });
    let snapshots: Vec<_> = snapshots.by_ref().collect();
    let capture_number = snapshots.first().map_or(0, next_capture);
    let usable: Vec<_> =
        snapshots.into_iter().filter(|snapshot| is_parent(snapshot, options)).collect();
    let (store_time, condemned, is_forgotten) = futures::try_join!(
        async { Ok(repository.store().head(&session_path(&id)).await?.modified) },
        open_condemned(repository),
        async {
            match usable.first() {
                Some(newest) => repository.is_forgotten(&newest.id).await,
                None => Ok(false),
            }
        }
    )?;
    // A collector may have ended between the look at the parent and the reading of what is condemned:
    // with a generation in which the parent was forgotten, and what it holds was deleted.
    let is_known = condemned.newest_over() == over_before;
    let is_forgotten = is_known.then_some(is_forgotten);
    let parent = choose(repository, usable, is_forgotten).await?;
    let capture_number_after = parent.as_ref().map(next_capture);
    let parent = whole(repository, parent, &condemned).await?;
    let capture_number = capture_number_after.unwrap_or(capture_number);
    Ok(Announced { id, store_time, condemned, parent, capture_number })
}

/// Announces the session that continues a capture, before the one at hand is committed as a checkpoint.
pub(super) async fn announce_next(
    repository: &Repository,
    current: &SessionId,
    options: &SessionOptions,
    context: &Context,
) -> Result<(SessionId, Timestamp, CondemnedSet)> {
    let id = next_id(&current.stream, Some(current.number.get()), context)?;
    announce(repository, &id, options, context).await?;
    let (listed, condemned) = futures::try_join!(
        async { repository.store().head(&session_path(&id)).await },
        open_condemned(repository)
    )?;
    Ok((id, listed.modified, condemned))
}

async fn announce(
    repository: &Repository,
    id: &SessionId,
    options: &SessionOptions,
    context: &Context,
) -> Result<()> {
    let announcement = Announcement {
        host: options.host.clone(),
        kind: options.kind.clone(),
        domain: options.domain.clone(),
        started: context.clock.now(),
    };
    let body = codec::encode_announcement(&announcement);
    repository.create_signed(ObjectType::Session, &session_path(id), body).await?;
    Ok(())
}

fn next_id(stream: &StreamName, newest: Option<u64>, context: &Context) -> Result<SessionId> {
    let next = newest.map_or(Some(0), |newest| newest.checked_add(1)).and_then(Number::new);
    let number = next.ok_or_else(|| {
        Error::new(ErrorKind::Exhausted, "begin session of", stream.to_string())
            .detail("all numbers are taken")
    })?;
    let mut random = [0; 8];
    context.entropy.fill(&mut random);
    Ok(SessionId { stream: stream.clone(), number, random })
}

/// A checkpoint belongs to a capture that is not finished.
fn next_capture(before: &Snapshot) -> u64 {
    before.capture_number.saturating_add(u64::from(!before.is_checkpoint))
}

fn is_parent(snapshot: &Snapshot, options: &SessionOptions) -> bool {
    !options.ignore_parent && snapshot.kind == options.kind && snapshot.domain == options.domain
}

/// Says whether a candidate ends the search: a parent, or where none is wanted, what tells the number.
fn is_usable(commit: &Result<Commit>, options: &SessionOptions) -> bool {
    match commit {
        Ok(Commit::Snapshot(snapshot)) => options.ignore_parent || is_parent(snapshot, options),
        _ => false,
    }
}

/// Leaves out a parent of whose tree a part may be lost: who walks it does not come to its end. Everything
/// is read then, once: whoever began after that was known has stored it again.
async fn whole(
    repository: &Repository,
    parent: Option<Snapshot>,
    condemned: &CondemnedSet,
) -> Result<Option<Snapshot>> {
    let Some(parent) = parent else { return Ok(None) };
    if !condemned.lacks_nodes() {
        return Ok(Some(parent));
    }
    let begun = match repository.store().head(&session_path(&parent.id)).await {
        Ok(announcement) => Some(announcement.modified),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(Some(parent).filter(|_| !condemned.may_lack_nodes(begun)))
}

/// Takes the newest snapshot that is not forgotten by now; of the first that may be known already.
async fn choose(
    repository: &Repository,
    usable: Vec<Snapshot>,
    mut first_is_forgotten: Option<bool>,
) -> Result<Option<Snapshot>> {
    for snapshot in usable {
        let is_forgotten = match first_is_forgotten.take() {
            Some(is_forgotten) => is_forgotten,
            None => repository.is_forgotten(&snapshot.id).await?,
        };
        if !is_forgotten {
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}
