//! The operations as every run here calls them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{Context, Error, ErrorKind, ItemKey, Result, SiteName, System, Target};
use operations::capture::{CaptureOptions, Captured, capture};
use operations::restore::{Existing, RestoreOptions, RestoreReport, RestoreRules, restore};
use operations::seal::{Expected, seal};
use operations::select::{Items, ResolvedSystem};
use repository::Repository;
use repository::point::{Freshness, Point, PointEntry};
use repository::snapshot::Snapshot;
use repository::types::StreamName;

/// The key domain that everything is captured into.
pub const DOMAIN: &str = "default";
/// The capturing host.
pub const HOST: &str = "host";
/// How old what a point carries may be.
const SKEW_MAX: Duration = Duration::from_secs(1_000_000);

/// Returns options for a capture that may spill into a folder.
pub fn capture_options(scratch_folder: &Path) -> CaptureOptions {
    CaptureOptions {
        host: HOST.to_owned(),
        domain: DOMAIN.to_owned(),
        recheck_every_captures: 0,
        read_everything: false,
        scratch_folder: scratch_folder.to_owned(),
        workers: 2,
    }
}

/// Captures a system.
///
/// # Errors
/// Those of the system and of the repository.
pub async fn capture_system(
    repository: &Repository,
    stream: &StreamName,
    system: &dyn System,
    context: &Context,
) -> Result<Captured> {
    let options = capture_options(&std::env::temp_dir());
    capture(repository, stream, system, &options, context).await
}

/// Seals a point over these systems of one kind, of which some were captured just now.
///
/// # Errors
/// Those of the repository.
pub async fn seal_point(
    repository: &Repository,
    site: &SiteName,
    (kind, systems): (&str, &[&str]),
    captured: Vec<Snapshot>,
    context: &Context,
) -> Result<Point> {
    let mut expected = Vec::new();
    for system in systems {
        expected.push(Expected { system: system.parse()?, kind: kind.to_owned() });
    }
    let captured = captured
        .into_iter()
        .map(|snapshot| (snapshot.id.stream.system.clone(), Ok(snapshot)))
        .collect();
    seal(repository, site, &expected, captured, SKEW_MAX, context).await
}

/// Returns what a point says of a snapshot that was captured for it.
pub fn fresh_entry(snapshot: &Snapshot) -> PointEntry {
    PointEntry {
        system: snapshot.id.stream.system.clone(),
        kind: snapshot.kind.clone(),
        freshness: Freshness::Fresh,
        snapshot: Some(snapshot.id.clone()),
        position: Some(snapshot.position.clone()),
        cut_from: snapshot.cut_from,
        cut_to: snapshot.cut_to,
        items: snapshot.root.totals.items,
        content_bytes: snapshot.root.totals.content_bytes,
        problems: snapshot.problems,
    }
}

/// Returns a whole snapshot as what is restored.
///
/// # Errors
/// `Invalid`.
pub fn resolved(
    repository: &Repository,
    snapshot: &Snapshot,
    host: Option<&str>,
) -> Result<ResolvedSystem> {
    Ok(ResolvedSystem {
        stream: snapshot.id.stream.clone(),
        snapshot: snapshot.clone(),
        stands_at: snapshot.cut_to,
        position: snapshot.position.clone(),
        host: host.map(str::to_owned),
        path: ItemKey::root(),
        items: Items::Stored(repository.tree(snapshot)?),
    })
}

/// Restores all of a state into the root of a target. What an earlier restore left there is gone on with.
///
/// # Errors
/// Those of the repository and of the target; `Corrupt` where not all of it was restored.
pub async fn restore_state(
    repository: &Repository,
    system: &ResolvedSystem,
    (target, onto): (&Arc<dyn Target>, ItemKey),
    context: &Context,
) -> Result<RestoreReport> {
    let options = RestoreOptions {
        rules: RestoreRules { existing: Existing::Keep, delete_extra: false },
        onto,
        include: Vec::new(),
        ignored: Vec::new(),
        is_verified: true,
    };
    let report = restore(repository, system, target, &options, context).await?;
    if !report.is_proven() {
        let told = format!("{report:?}");
        return Err(
            Error::new(ErrorKind::Corrupt, "restore", system.stream.to_string()).detail(told)
        );
    }
    Ok(report)
}
