//! `lifeboat restore`: brings a state back into a directory, reads it back and compares it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use app::targets::{Directory, OwnerRule, usual_owners};
use clap::ValueEnum;
use model::{Error, ErrorKind, ItemKey, Result, Target};
use operations::restore::{
    self, Existing, PlanSummary, RestoreOptions, RestoreReport, RestoreRules,
};
use operations::select::{Resolved, ResolvedSystem};
use policies::{show_bytes, show_duration};
use repository::Repository;
use repository::mark::MarkKind;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::names;
use crate::run::Run;
use crate::table::{count, counted};

/// How many items are named in a report for people.
const NAMED_MAX: usize = 20;

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// SITE[/SYSTEM]@WHEN[:PATH]
    selector: String,
    /// The directory that is restored into; several systems get a folder each
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// What may be done to things that are there
    #[arg(long, value_enum, default_value_t = Present::Keep)]
    existing: Present,
    /// Delete what is there and was not captured
    #[arg(long)]
    delete_extra: bool,
    /// Let the directory itself become the chosen one, without the path that leads to it
    #[arg(long)]
    flat: bool,
    /// Whose it will be [default: numeric for root, else mine]
    #[arg(long, value_enum)]
    owners: Option<Owners>,
    /// Do not read back what was written; nothing is proven then
    #[arg(long)]
    no_verify: bool,
    /// Print what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Present {
    /// What is equal stays, which resumes an interrupted restore; what differs stops it
    Keep,
    /// What is equal stays, what differs is replaced
    Overwrite,
    /// Nothing may be there
    Refuse,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Owners {
    /// The numbers of the source
    Numeric,
    /// Whoever has the source's names here
    Name,
    /// Whoever runs the restore
    Mine,
}

/// What was restored of one system, and where.
type Restored = (String, PathBuf, RestoreReport);

impl Args {
    /// Restores.
    ///
    /// # Errors
    /// `Conflict` where something stands in the way; `NotFound`; those of repository and target.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let started = run.context.clock.elapsed();
        let repository = run.open(&settings).await?;
        let resolved = run.resolve(&self.selector, &repository, &settings).await?;
        let chosen = chosen(&resolved).await?;
        if self.dry_run {
            return self.plan(&repository, &resolved, &chosen, run).await;
        }
        let mut restored = Vec::with_capacity(chosen.len());
        for system in &chosen {
            let to = self.folder(system, chosen.len(), run);
            let (target, options) = self.prepare(system, &to)?;
            let work = restore::restore(&repository, system, &target, &options, &run.context);
            let report = Box::pin(work).await?;
            restored.push((system.stream.system.to_string(), to, report));
        }
        run.progress.end();
        let is_proven = restored.iter().all(|(_, _, report)| report.is_proven());
        let is_marked = is_proven && self.mark(&repository, &resolved, &chosen, run).await;
        let elapsed = run.context.clock.elapsed().saturating_sub(started);
        let text = || {
            let reports = restored.iter().map(report_text).collect::<String>();
            reports + &end_text(is_proven, is_marked, self.no_verify, elapsed)
        };
        let value = || {
            json!({
                "site": resolved.site.as_str(),
                "id": resolved.id,
                "time": Run::utc(resolved.chosen_at),
                "is_proven": is_proven,
                "is_marked_verified": is_marked,
                "systems": restored.iter().map(report_value).collect::<Vec<_>>(),
                "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            })
        };
        run.output.result(text, value)?;
        Ok(restored.iter().fold(Exit::Done, |exit, (_, _, report)| exit.or_worse(exit_of(report))))
    }

    fn folder(&self, system: &ResolvedSystem, systems: usize, run: &Run) -> PathBuf {
        let to = run.environment.absolute(&self.to);
        if systems > 1 { to.join(system.stream.system.as_str()) } else { to }
    }

    fn prepare(
        &self,
        system: &ResolvedSystem,
        to: &Path,
    ) -> Result<(Arc<dyn Target>, RestoreOptions)> {
        let owners = match self.owners {
            Some(Owners::Numeric) => OwnerRule::Numeric,
            Some(Owners::Name) => OwnerRule::ByName,
            Some(Owners::Mine) => OwnerRule::Mine,
            None => usual_owners(),
        };
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(|error| not_created(parent, error))?;
        }
        let existing = match self.existing {
            Present::Keep => Existing::Keep,
            Present::Overwrite => Existing::Overwrite,
            Present::Refuse => Existing::Refuse,
        };
        let options = RestoreOptions {
            rules: RestoreRules { existing, delete_extra: self.delete_extra },
            onto: if self.flat { ItemKey::root() } else { system.path.clone() },
            include: Vec::new(),
            ignored: owners.ignored(),
            is_verified: !self.no_verify,
        };
        Ok((Directory::open(to, owners)?.target(), options))
    }

    async fn plan(
        &self,
        repository: &Repository,
        resolved: &Resolved,
        chosen: &[&ResolvedSystem],
        run: &Run,
    ) -> Result<Exit> {
        let mut plans = Vec::with_capacity(chosen.len());
        for system in chosen {
            let to = self.folder(system, chosen.len(), run);
            // Planning writes nothing: what is not there is planned against an empty folder.
            let scratch = Scratch::instead_of(&to, run)?;
            let (target, options) = self.prepare(system, scratch.path(&to))?;
            let work = restore::plan(repository, system, &target, &options, &run.context);
            plans.push((system.stream.system.to_string(), to, Box::pin(work).await?));
        }
        run.progress.end();
        let text = || plans.iter().map(plan_text).collect();
        let value = || {
            let systems: Vec<_> = plans.iter().map(plan_value).collect();
            json!({
                "site": resolved.site.as_str(),
                "id": resolved.id,
                "time": Run::utc(resolved.chosen_at),
                "is_dry_run": true,
                "systems": systems,
            })
        };
        run.output.result(text, value)?;
        let is_blocked = plans.iter().any(|(_, _, plan)| plan.conflict_items > 0);
        Ok(if is_blocked { Exit::InTheWay } else { Exit::Done })
    }

    /// Marks a whole point whose restore was proven; says whether it did.
    async fn mark(
        &self,
        repository: &Repository,
        resolved: &Resolved,
        chosen: &[&ResolvedSystem],
        run: &Run,
    ) -> bool {
        let own = app::policy_system::name();
        let others = resolved.systems.iter().filter(|system| system.stream.system != own).count();
        let is_whole = chosen.len() == others && chosen.iter().all(|system| system.path.is_root());
        let Some(point) = resolved.point.as_ref().filter(|point| is_whole && point.is_complete())
        else {
            return false;
        };
        if point.entries.len() != resolved.systems.len() {
            return false;
        }
        let marked = repository.set_mark(&point.id, MarkKind::Verified, "restored", &run.context);
        match marked.await {
            Ok(()) => true,
            Err(error) => {
                // What was restored is proven all the same; a reader may not be allowed to write.
                run.progress.note(&format!("not marked as verified: {}", error.chain()));
                false
            }
        }
    }
}

/// Chooses the systems of a selector: those that hold its path; the policy only where it is named.
pub(super) async fn chosen(resolved: &Resolved) -> Result<Vec<&ResolvedSystem>> {
    let systems = resolved.with_path().await?;
    let own = app::policy_system::name();
    let others: Vec<_> = systems.iter().copied().filter(|one| one.stream.system != own).collect();
    Ok(if others.is_empty() { systems } else { others })
}

/// An empty folder that stands for one that is not there.
struct Scratch(Option<PathBuf>);

impl Scratch {
    fn instead_of(to: &Path, run: &Run) -> Result<Self> {
        if to.exists() {
            return Ok(Self(None));
        }
        let mut random = [0; 8];
        run.context.entropy.fill(&mut random);
        let temporary = run.environment.path("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
        let path = temporary.join(format!("lifeboat-plan-{}", repository::types::hex(&random)));
        std::fs::create_dir(&path).map_err(|error| not_created(&path, error))?;
        Ok(Self(Some(path)))
    }

    fn path<'p>(&'p self, to: &'p Path) -> &'p Path {
        self.0.as_deref().unwrap_or(to)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It is empty, and where it cannot be removed it harms nobody.
            let _ = std::fs::remove_dir(path);
        }
    }
}

fn not_created(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::Denied
        }
        std::io::ErrorKind::StorageFull => ErrorKind::Exhausted,
        _ => ErrorKind::Invalid,
    };
    Error::new(kind, "create directory", path.display().to_string()).because(error)
}

fn exit_of(report: &RestoreReport) -> Exit {
    if report.mismatched_items > 0 {
        Exit::Damaged
    } else if report.failed_items > 0 {
        Exit::Partial
    } else {
        Exit::Done
    }
}

fn report_text((system, to, report): &Restored) -> String {
    let mut text = format!(
        "{system}: restored {} ({}) to {}",
        counted(report.created + report.replaced, "item"),
        show_bytes(report.restored_bytes),
        to.display(),
    );
    for (number, what) in [
        (report.replaced, "of them replaced"),
        (report.skipped, "there already"),
        (report.deleted, "deleted"),
        (report.left, "extra left alone"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {} {what}", count(number)));
        }
    }
    text.push('\n');
    if report.verified_items > 0 {
        text.push_str(&format!(
            "{system}: compared {} ({}) with what was captured: {}\n",
            counted(report.verified_items, "item"),
            show_bytes(report.verified_bytes),
            if report.mismatched_items == 0 {
                "no difference".to_owned()
            } else {
                counted(report.mismatched_items, "difference")
            },
        ));
    }
    for failure in report.failures.iter().take(NAMED_MAX) {
        let why = names::line(&failure.error.chain());
        text.push_str(&format!("  failed: {}: {why}\n", names::path(&failure.key)));
    }
    for mismatch in report.mismatches.iter().take(NAMED_MAX) {
        let what = names::line(&mismatch.difference.to_string());
        text.push_str(&format!("  differs: {}: {what}\n", names::path(&mismatch.key)));
    }
    text
}

fn end_text(is_proven: bool, is_marked: bool, is_unverified: bool, elapsed: Duration) -> String {
    let outcome = match (is_proven, is_marked) {
        (true, true) => "proven; the point is marked verified",
        (true, false) => "proven",
        (false, _) if is_unverified => "NOT proven: nothing was read back",
        (false, _) => "NOT proven",
    };
    format!("{outcome}; took {}\n", show_duration(elapsed))
}

fn report_value((system, to, report): &Restored) -> Value {
    let failures = report.failures.iter();
    let failures: Vec<_> = failures
        .map(|one| json!({ "path": names::path(&one.key), "why": one.error.chain() }))
        .collect();
    let mismatches = report.mismatches.iter();
    let mismatches: Vec<_> = mismatches
        .map(|one| json!({ "path": names::path(&one.key), "what": one.difference.to_string() }))
        .collect();
    json!({
        "system": system,
        "to": to.display().to_string(),
        "created": report.created,
        "replaced": report.replaced,
        "deleted": report.deleted,
        "skipped": report.skipped,
        "left": report.left,
        "restored_bytes": report.restored_bytes,
        "failed_items": report.failed_items,
        "failures": failures,
        "verified_items": report.verified_items,
        "verified_bytes": report.verified_bytes,
        "mismatched_items": report.mismatched_items,
        "mismatches": mismatches,
        "is_proven": report.is_proven(),
    })
}

fn plan_text((system, to, plan): &(String, PathBuf, PlanSummary)) -> String {
    let mut text = format!(
        "{system}: would restore into {}\n  create {}, write at most {}\n  replace {}, delete {}, \
         compare {}, leave {}\n",
        to.display(),
        counted(plan.create_items, "item"),
        show_bytes(plan.write_bytes),
        count(plan.replace_items),
        count(plan.delete_items),
        count(plan.compare_items),
        count(plan.leave_items),
    );
    if plan.conflict_items > 0 {
        text.push_str(&format!("  in the way: {}\n", counted(plan.conflict_items, "item")));
        plan.conflicts.iter().for_each(|key| text.push_str(&format!("    {}\n", names::path(key))));
    }
    text
}

fn plan_value((system, to, plan): &(String, PathBuf, PlanSummary)) -> Value {
    json!({
        "system": system,
        "to": to.display().to_string(),
        "create_items": plan.create_items,
        "write_bytes": plan.write_bytes,
        "replace_items": plan.replace_items,
        "delete_items": plan.delete_items,
        "compare_items": plan.compare_items,
        "leave_items": plan.leave_items,
        "conflict_items": plan.conflict_items,
        "conflicts": plan.conflicts.iter().map(names::path).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_ends_in_what_it_proves() {
        let mut report =
            RestoreReport { created: 2, verified_items: 2, ..RestoreReport::default() };
        assert_eq!(exit_of(&report), Exit::Done);
        let text = report_text(&(
            "etc".to_owned(),
            "/x".into(),
            RestoreReport { created: 2, verified_items: 2, ..RestoreReport::default() },
        ));
        assert_eq!(
            text,
            "etc: restored 2 items (0 B) to /x\n\
             etc: compared 2 items (0 B) with what was captured: no difference\n"
        );
        report.failed_items = 1;
        assert_eq!(exit_of(&report), Exit::Partial);
        report.mismatched_items = 1;
        assert_eq!(exit_of(&report), Exit::Damaged);
        let second = Duration::from_secs(1);
        assert_eq!(end_text(true, false, false, second), "proven; took 1.0 s\n");
        assert!(
            end_text(false, false, true, second).starts_with("NOT proven: nothing was read back")
        );
    }
}
