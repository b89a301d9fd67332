//! What is deleted outside of generations: each of it by a rule of its own that needs nobody's consent.
//!
//! A forgotten snapshot's session and commit go, its forget stays: whatever a late writer creates under
//! the same name is dead on arrival. A stream's newest session stays, so that numbers go on. Of a
//! forgotten point the header stays, of logs what is not trimmed and not in a segment.

use std::collections::HashMap;
use std::time::Duration;

use model::{Context, ErrorKind, Result, Timestamp};

use super::report::Leftovers;
use super::roots::Roots;
use crate::Repository;
use crate::log::{delete_compacted, delete_trimmed};
use crate::point::is_damage;
use crate::snapshot::{session_path, snapshot_path};
use crate::types::{Number, StreamName, from_hex};

/// Probes that are older were left by somebody who may not delete.
const PROBE_LEFT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Deletes what is left over; what is damaged is reported and left.
pub(super) async fn clear(
    repository: &Repository,
    roots: &Roots,
    now: Timestamp,
    context: &Context,
) -> Result<Leftovers> {
    let mut cleared = Leftovers::default();
    for point in &roots.gone_points {
        context.check("delete forgotten points")?;
        match repository.delete_point_body(point, &roots.holds).await {
            Ok(()) => cleared.points += 1,
            Err(error) if is_about_one(error.kind()) => context.monitor.problem(&error),
            Err(error) => return Err(error),
        }
    }
    cleared.snapshots = clear_snapshots(repository, roots, context).await?;
    for stream in repository.logged_streams().await? {
        for deleted in [
            delete_trimmed(repository, &stream, context).await,
            delete_compacted(repository, &stream, context).await,
        ] {
            match deleted {
                Ok(count) => cleared.logs += count,
                // Deleted by another collector since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if is_damage(&error) => context.monitor.problem(&error),
                Err(error) => return Err(error),
            }
        }
    }
    cleared.heartbeats = repository.delete_old_heartbeats(context).await?;
    for probe in repository.store().list("probe").await? {
        let name = probe.path.strip_prefix("probe/").and_then(from_hex::<16>);
        if name.is_some() && now.since(probe.modified) >= PROBE_LEFT_AFTER {
            repository.store().delete(&probe.path).await?;
            cleared.probes += 1;
        }
    }
    cleared.probes += repository.store().sweep_staging().await?.files;
    Ok(cleared)
}

async fn clear_snapshots(repository: &Repository, roots: &Roots, context: &Context) -> Result<u64> {
    if roots.gone.is_empty() {
        return Ok(0);
    }
    let mut newest: HashMap<&StreamName, Number> = HashMap::new();
    for id in &roots.resolved {
        let number = newest.entry(&id.stream).or_insert(id.number);
        *number = id.number.max(*number);
    }
    let mut count = 0;
    for id in &roots.gone {
        if newest.get(&id.stream) == Some(&id.number) {
            continue;
        }
        context.check("delete forgotten snapshots")?;
        // The announcement first: without it nobody takes the session for open.
        repository.store().delete(&session_path(id)).await?;
        repository.store().delete(&snapshot_path(id)).await?;
        count += 1;
    }
    Ok(count)
}

fn is_about_one(kind: ErrorKind) -> bool {
    use ErrorKind::{Corrupt, Denied, NotFound, Unsupported, WrongKey};
    matches!(kind, Corrupt | Denied | NotFound | Unsupported | WrongKey)
}
