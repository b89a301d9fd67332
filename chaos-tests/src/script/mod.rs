//! The scripted run that is interrupted everywhere, and what has to be true of what it leaves.
//!
//! A run does all that writes to a repository: key slots, captures of every shape (a first one,
//! incremental ones, large content changed in place, one that goes on behind a checkpoint), points,
//! marks, logs, compaction, forgetting. It writes down, outside the store, what was acknowledged to it.
//! Whatever ends it, afterwards everything written down is there, whole, and everything else is there
//! whole or not at all. Then the same run, begun again over what is left, comes to its end.

mod check;
mod fact;
mod interrupted;
mod keys;
mod plan;

use std::sync::Arc;

use model::{Context, Result, SiteName};
use object_store::ObjectStore;
use repository::Repository;
use repository::mark::MarkKind;
use repository::point::{Point, PointDraft, PointId, PointSealer};
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::types::StreamName;
use testkit::ScriptedSystem;

use crate::engine::{capture_system, fresh_entry, seal_point};
use crate::logs;
use crate::observe::{describe_point, describe_snapshot, digest, revision_of};

pub use check::check;
pub use fact::Fact;
pub use keys::Key;
pub use plan::{Amount, Expected};

const SITE: &str = "site";
/// The kind of both systems.
const KIND: &str = "scripted";

/// Runs the script to its end, over whatever the `run` earlier ones left.
///
/// # Errors
/// Those of the repository, whose store may fail at any moment.
pub async fn run(
    objects: Arc<dyn ObjectStore>,
    amount: Amount,
    run: u64,
    context: &Context,
    mut note: impl FnMut(Fact),
) -> Result<()> {
    let store = Store::new(objects, "scripted", context);
    let (first, repository) = keys::open_or_create(&store, run, context).await?;
    note(Fact::Added(first));
    keys::change_slots((&store, &repository), amount.slots, run, context, &mut note).await?;
    let (main, side) = plan::systems();
    let site: SiteName = SITE.parse()?;
    let sealer = repository.point_sealer(&site);
    let (note, rounds) = (&mut note, Vec::new());
    let mut runner = Runner { repository, site, sealer, main, side, context, note, rounds };
    for round in 0..amount.rounds {
        runner.round(round).await?;
    }
    Ok(())
}

struct Runner<'a> {
    repository: Repository,
    site: SiteName,
    sealer: PointSealer,
    main: ScriptedSystem,
    side: ScriptedSystem,
    context: &'a Context,
    note: &'a mut dyn FnMut(Fact),
    /// What each round made.
    rounds: Vec<(Snapshot, Point)>,
}

impl Runner<'_> {
    async fn round(&mut self, round: u64) -> Result<()> {
        edit(&self.main, &plan::main_edits(round));
        let main = self.stream(plan::MAIN)?;
        if plan::is_interrupted(round) {
            interrupted::capture_half(&self.repository, &main, &self.main, self.context).await?;
        }
        let snapshot = self.capture(&main, &self.main.clone()).await?;
        let mut captured = vec![snapshot.clone()];
        if plan::has_side(round) {
            edit(&self.side, &plan::side_edits(round));
            let side = self.stream(plan::SIDE)?;
            captured.push(self.capture(&side, &self.side.clone()).await?);
        }
        let point = self.seal(round, captured).await?;
        (self.note)(Fact::Point(point.id.clone(), digest(&describe_point(&point))));
        self.rounds.push((snapshot, point));
        self.mark(round).await?;
        if plan::has_log(round) {
            self.follow(round).await?;
        }
        self.forget(round).await?;
        if plan::is_compacted(round) {
            logs::compact(&self.repository, &main, self.context).await?;
            logs::delete_compacted(&self.repository, &main, self.context).await?;
        }
        Ok(())
    }

    /// Points of even rounds are sealed as by the CLI, each in a chain of its own; those of odd rounds
    /// as by a daemon, one after another in one chain.
    async fn seal(&self, round: u64, captured: Vec<Snapshot>) -> Result<Point> {
        if round.is_multiple_of(2) {
            let systems = (KIND, &[plan::MAIN, plan::SIDE][..]);
            return seal_point(&self.repository, &self.site, systems, captured, self.context).await;
        }
        let entries = captured.iter().map(fresh_entry).collect();
        let (lacks, checks, clocks) = (vec!["side".to_owned()], Vec::new(), Vec::new());
        let draft = PointDraft { entries, lacks, checks, clocks };
        self.sealer.seal(draft, self.context).await
    }

    fn stream(&self, system: &str) -> Result<StreamName> {
        Ok(StreamName { site: self.site.clone(), system: system.parse()? })
    }

    async fn capture(&mut self, stream: &StreamName, system: &ScriptedSystem) -> Result<Snapshot> {
        let captured = capture_system(&self.repository, stream, system, self.context).await?;
        let snapshot = captured.snapshot;
        (self.note)(Fact::Snapshot(snapshot.id.clone(), digest(&describe_snapshot(&snapshot))));
        Ok(snapshot)
    }

    /// Points of even rounds are pinned or tagged, a pin is taken back two rounds later; those of odd
    /// rounds are verified and forgotten later.
    async fn mark(&mut self, round: u64) -> Result<()> {
        let Some(point) = self.point_of(round) else { return Ok(()) };
        let kind = match round % 4 {
            0 => MarkKind::Pin,
            2 => MarkKind::Tag(format!("round-{round}")),
            _ => MarkKind::Verified,
        };
        self.repository.set_mark(&point, kind.clone(), "as scripted", self.context).await?;
        (self.note)(Fact::Marked(point, kind));
        let pinned = round.checked_sub(2).filter(|round| round % 4 == 0);
        if let Some(pinned) = pinned.and_then(|round| self.point_of(round)) {
            // Noted before: from here on nobody may rely on it.
            (self.note)(Fact::Unmarking(pinned.clone(), MarkKind::Pin));
            self.repository.remove_mark(&pinned, &MarkKind::Pin, self.context).await?;
            (self.note)(Fact::Unmarked(pinned, MarkKind::Pin));
        }
        Ok(())
    }

    /// Forgets the point and the snapshot of the last odd round: no log begins at it.
    async fn forget(&mut self, round: u64) -> Result<()> {
        let made = round.checked_sub(2).filter(|round| round % 2 == 1);
        let made = made.and_then(|round| self.rounds.get(usize::try_from(round).ok()?));
        let Some((snapshot, point)) = made.cloned() else { return Ok(()) };
        (self.note)(Fact::ForgettingPoint(point.id.clone()));
        self.repository.forget_point(&point.id, self.context).await?;
        (self.note)(Fact::ForgottenPoint(point.id));
        (self.note)(Fact::Forgetting(snapshot.id.clone()));
        self.repository.forget_snapshot(&snapshot.id, self.context).await?;
        (self.note)(Fact::Forgotten(snapshot.id));
        Ok(())
    }

    async fn follow(&mut self, round: u64) -> Result<()> {
        let Some((base, _)) = self.rounds.last().cloned() else { return Ok(()) };
        edit(&self.main, &plan::log_edits(round));
        let note = &mut *self.note;
        let from = (&base.id, &base.position);
        logs::append(&self.repository, from, &self.main, self.context, |number, upto| {
            let revision = revision_of(&upto).unwrap_or_default();
            note(Fact::Batch(base.id.clone(), number, revision));
        })
        .await
    }

    fn point_of(&self, round: u64) -> Option<PointId> {
        let (_, point) = self.rounds.get(usize::try_from(round).ok()?)?;
        Some(point.id.clone())
    }
}

fn edit(system: &ScriptedSystem, lines: &[String]) {
    lines.iter().for_each(|line| system.edit(line));
}
