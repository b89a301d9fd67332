//! One direction of a copy, in passes: look at all, copy packs, look whether anything was deleted
//! meanwhile, copy what refers to them.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::future::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Counter, Error, ErrorKind, Phase, Result};

use super::folders::{LISTINGS_AT_ONCE, folders, list_both, of_kind};
use super::identity::Identity;
use super::kind::Compare;
use super::lag::measure_lag;
use super::plan::{Plan, amount};
use super::report::{Amount, Report};
use super::transfer::Transfer;
use super::{Kind, ReplicaOptions};
use crate::gc::{Activity, activity};
use crate::store::{Listed, Store};

/// After so many passes collectors are too busy for a copy.
const PASSES_MAX: u64 = 10;
/// How often it is looked whether a collection at the destination has ended.
const SETTLE_EVERY: Duration = Duration::from_secs(10);
/// How long it is waited for.
const SETTLE_MAX: Duration = Duration::from_secs(600);
/// What is at the top of a repository and is no affair of a replica.
const NOT_COPIED: [&str; 2] = ["gc", "probe"];
/// What stands at the top and is no folder.
const DESCRIPTOR: &str = crate::format::descriptor::DESCRIPTOR_PATH;

/// Stands for a path: the first bytes of its hash.
type Fingerprint = [u8; 16];

/// One direction.
pub(super) struct Run<'a> {
    transfer: Transfer<'a>,
    options: &'a ReplicaOptions,
    context: &'a Context,
}

/// What a look at both stores found.
#[derive(Default)]
struct Survey {
    /// What the destination lacks, by kind.
    missing: BTreeMap<Kind, Amount>,
    /// Of what refers to other objects: which of them were listed, by folder. Only these may be copied.
    listed: BTreeMap<Kind, BTreeMap<String, HashSet<Fingerprint>>>,
    /// Folders of packs that the destination lacks some of.
    pack_folders: Vec<(Kind, String)>,
    /// Announcements that the destination lacks, of whatever has ended or not.
    has_sessions: bool,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The destination has everything that was listed.
    Whole,
    /// It had everything before, but a collection there has not ended.
    Unsettled,
    /// Something was deleted meanwhile.
    Disturbed,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        stores: (&'a Store, &'a Store),
        options: &'a ReplicaOptions,
        context: &'a Context,
    ) -> Self {
        Self { transfer: Transfer::new(stores, options, context), options, context }
    }

    /// Copies everything, or finds out what would be copied.
    pub(super) async fn run(self) -> Result<Report> {
        let (source, destination) = (self.transfer.source, self.transfer.destination);
        let identity = Identity::find(source, destination).await?;
        let unknown = unknown_names(source).await?;
        let (mut passes, mut ended) = (0, Ended::Disturbed);
        if self.options.is_dry_run {
            self.survey(true).boxed().await?;
        } else {
            identity.settle(destination).await?;
            while ended == Ended::Disturbed {
                if passes == PASSES_MAX {
                    return Err(busy(source, "collectors keep deleting at either end"));
                }
                ended = self.pass(passes == 0).boxed().await?;
                passes += 1;
            }
        }
        let lag = measure_lag(source, destination).await?;
        let tally = std::mem::take(&mut *self.transfer.tally());
        Ok(Report {
            repository: identity.descriptor.id,
            is_dry_run: self.options.is_dry_run,
            kinds: tally.kinds,
            problems: tally.problems,
            passes,
            is_settled: ended != Ended::Unsettled,
            unknown,
            keys_only_there: tally.keys_only_there,
            lag,
        })
    }

    async fn pass(&self, is_first: bool) -> Result<Ended> {
        let (source, destination) = (self.transfer.source, self.transfer.destination);
        self.transfer.take_gone();
        let (here, there) = futures::try_join!(activity(source), activity(destination))?;
        let survey = self.survey(is_first).boxed().await?;
        if survey.missing.is_empty() {
            // Nothing is relied on that was not relied on before.
            if survey.has_sessions {
                self.copy_sessions().boxed().await?;
            }
            return Ok(if there.is_open { Ended::Unsettled } else { Ended::Whole });
        }
        self.announce(&survey);
        // Whoever can open the copy must find proof of what he signed.
        for kind in [Kind::Writer, Kind::KeySlot, Kind::KeyTest, Kind::Hold] {
            self.copy_all(kind, &survey).boxed().await?;
        }
        self.copy_packs(&survey).boxed().await?;
        self.copy_listed(Kind::Index, &survey).boxed().await?;
        // What was deleted at the source between two listings is not noticed where it happens.
        if activity(source).await?.decided != here.decided || self.transfer.take_gone() > 0 {
            return self.disturbed().await;
        }
        if self.was_collected(there).await? {
            return self.disturbed().await;
        }
        self.copy_references(&survey).boxed().await?;
        let is_whole = self.transfer.take_gone() == 0 && self.has_snapshots(&survey).await?;
        if !is_whole || self.was_collected(there).await? {
            return self.disturbed().await;
        }
        Ok(Ended::Whole)
    }

    /// Copies packs, of all folders together: most folders hold few.
    async fn copy_packs(&self, survey: &Survey) -> Result<()> {
        let folders = survey.pack_folders.iter().cloned();
        let missing = stream::iter(folders).map(|(kind, folder)| {
            let planned = async move {
                let plan = self.plan(kind, &folder).boxed().await?;
                Ok::<_, Error>((kind, plan.missing))
            };
            planned.boxed()
        });
        let objects = missing.buffered(LISTINGS_AT_ONCE).map_ok(|(kind, missing)| {
            stream::iter(missing.into_iter().map(move |object| Ok((kind, object))))
        });
        self.transfer.copy_in_any_order(objects.try_flatten()).boxed().await
    }

    /// Copies what refers to packs: each kind after what it refers to, up to where something is gone.
    async fn copy_references(&self, survey: &Survey) -> Result<()> {
        for kind in [Kind::ForgetPoint, Kind::Forget] {
            self.copy_early_forgets(kind, survey).boxed().await?;
        }
        self.copy_listed(Kind::Snapshot, survey).boxed().await?;
        self.copy_sessions().boxed().await?;
        // What a trim makes needless may be missing, and only the newest batch tells of its run without
        // a note of it: both come before what they speak of.
        for kind in [Kind::LogTrim, Kind::LogRun, Kind::LogSegment, Kind::LogBatch] {
            if self.transfer.has_gone() {
                return Ok(());
            }
            self.copy_listed(kind, survey).boxed().await?;
        }
        for kind in [Kind::Heartbeat, Kind::Mark] {
            self.copy_all(kind, survey).boxed().await?;
        }
        // Points are forgotten before the snapshots that they name.
        for kind in [Kind::PointHeader, Kind::Point, Kind::ForgetPoint, Kind::Forget] {
            if self.transfer.has_gone() {
                return Ok(());
            }
            self.copy_listed(kind, survey).boxed().await?;
        }
        self.copy_all(Kind::HoldRelease, survey).boxed().await
    }

    /// Says that this pass has to be followed by another, once a collection at the destination has ended.
    async fn disturbed(&self) -> Result<Ended> {
        let mut waited = Duration::ZERO;
        while activity(self.transfer.destination).await?.is_open {
            if waited >= SETTLE_MAX {
                return Err(busy(
                    self.transfer.destination,
                    "a collection there has not ended: let it end with `lifeboat repo gc`",
                ));
            }
            tokio::select! {
                () = self.context.clock.sleep(SETTLE_EVERY) => {}
                () = self.context.cancel.cancelled() => {
                    return Err(Error::cancelled("sync repository"));
                }
            }
            waited += SETTLE_EVERY;
        }
        Ok(Ended::Disturbed)
    }

    /// Says whether a collector at the destination may have deleted what is relied on.
    async fn was_collected(&self, before: Activity) -> Result<bool> {
        let now = activity(self.transfer.destination).await?;
        Ok(before.is_open || now.is_open || now.decided != before.decided)
    }

    /// Looks at everything in both stores, referrers first.
    async fn survey(&self, is_first: bool) -> Result<Survey> {
        let subject = self.transfer.source.name().to_owned();
        self.context.monitor.phase(Phase { name: "list", subject, total: None });
        let mut survey = Survey::default();
        for kind in Kind::BY_REFERENCE {
            if kind == Kind::KeySlot && !self.options.with_keys {
                continue;
            }
            let here = folders(self.transfer.source, kind).boxed().await?;
            let plans = stream::iter(here).map(|folder| {
                let planned = async move {
                    let plan = self.plan(kind, &folder).boxed().await?;
                    Ok::<_, Error>((folder, plan))
                };
                planned.boxed()
            });
            let mut plans = std::pin::pin!(plans.buffered(LISTINGS_AT_ONCE));
            let mut only_there = Vec::new();
            while let Some((folder, mut plan)) = plans.try_next().await? {
                only_there.append(&mut plan.only_there);
                self.note_plan(kind, folder, plan, is_first, &mut survey).boxed().await?;
            }
            if is_first {
                self.note_only_there(kind, &only_there);
            }
        }
        Ok(survey)
    }

    async fn note_plan(
        &self,
        kind: Kind,
        folder: String,
        plan: Plan,
        is_first: bool,
        survey: &mut Survey,
    ) -> Result<()> {
        let missing = amount(&plan.missing);
        survey.has_sessions |= kind == Kind::Session && missing.objects > 0;
        // A session that has not ended is not copied: it may end otherwise at the source.
        if missing.objects > 0 && kind != Kind::Session {
            let all = survey.missing.entry(kind).or_default();
            *all = all.plus(missing);
            if kind.refers() {
                let listed = plan.missing.iter().map(|object| fingerprint(&object.path));
                survey.listed.entry(kind).or_default().insert(folder.clone(), listed.collect());
            }
            if kind.is_pack() {
                survey.pack_folders.push((kind, folder));
            }
        }
        if !is_first {
            return Ok(());
        }
        let there = amount(&plan.common);
        if missing.objects + there.objects > 0 {
            let mut tally = self.transfer.tally();
            let report = tally.kinds.entry(kind).or_default();
            report.there = report.there.plus(there);
            if kind != Kind::Session {
                report.missing = report.missing.plus(missing);
            }
        }
        for (object, size_there) in plan.differing {
            self.transfer.judge_differing(kind, &object, size_there).await?;
        }
        let mut common = plan.common;
        match kind.compare() {
            Compare::Never => return Ok(()),
            // Numbers count down in names.
            Compare::Newest => common.truncate(1),
            Compare::All => {}
        }
        self.transfer.compare(kind, common).boxed().await
    }

    /// Counts what only the destination has, which is what lies in folders that the source has as well;
    /// of key slots says which.
    fn note_only_there(&self, kind: Kind, only_there: &[Listed]) {
        if only_there.is_empty() {
            return;
        }
        let mut tally = self.transfer.tally();
        tally.kinds.entry(kind).or_default().only_there += only_there.len() as u64;
        if kind == Kind::KeySlot {
            let slots = only_there.iter().filter_map(|slot| slot.path.strip_prefix("key/"));
            tally.keys_only_there = slots.map(str::to_owned).collect();
        }
    }

    fn announce(&self, survey: &Survey) {
        let total = survey.missing.values().fold(Amount::default(), |sum, kind| sum.plus(*kind));
        self.context.monitor.phase(Phase {
            name: "copy",
            subject: self.transfer.destination.name().to_owned(),
            total: Some((Counter::CopiedBytes, total.bytes)),
        });
    }

    /// Compares a folder in both stores; names that are not known are left out.
    async fn plan(&self, kind: Kind, folder: &str) -> Result<Plan> {
        self.context.check("sync repository")?;
        let (source, destination) = (self.transfer.source, self.transfer.destination);
        let (mut here, there) = list_both(source, destination, folder).await?;
        here.retain(|object| kind.knows(&object.path));
        Ok(Plan::new(here, there))
    }

    /// Copies all that is missing of a kind.
    async fn copy_all(&self, kind: Kind, survey: &Survey) -> Result<()> {
        if !survey.missing.contains_key(&kind) {
            return Ok(());
        }
        for folder in folders(self.transfer.source, kind).boxed().await? {
            let plan = self.plan(kind, &folder).boxed().await?;
            self.transfer.copy(kind, oldest_first(plan.missing)).boxed().await?;
        }
        Ok(())
    }

    /// Copies what is missing of a kind and was listed before all to which it refers; what came later
    /// waits for the next time. What was listed and is gone counts as gone, and ends a chain: what comes
    /// after it would leave a gap.
    async fn copy_listed(&self, kind: Kind, survey: &Survey) -> Result<()> {
        // The oldest first, as numbers count down.
        for (folder, listed) in survey.listed.get(&kind).into_iter().flatten().rev() {
            let mut plan = self.plan(kind, folder).boxed().await?;
            let seen = plan.here().filter(|path| listed.contains(&fingerprint(path))).count();
            self.transfer.note_gone(listed.len().saturating_sub(seen) as u64);
            if kind.is_chained() && self.transfer.has_gone() {
                return Ok(());
            }
            if kind.is_log() && self.transfer.has_fork(folder) {
                continue;
            }
            plan.missing.retain(|object| listed.contains(&fingerprint(&object.path)));
            self.transfer.copy(kind, oldest_first(plan.missing)).boxed().await?;
        }
        Ok(())
    }

    /// Copies the forgets of what the destination does not have yet: what comes forgotten is never
    /// visible there, since what it needs may be gone at the source. Those of what the destination has
    /// come last, when all is there that was committed before.
    async fn copy_early_forgets(&self, kind: Kind, survey: &Survey) -> Result<()> {
        let of = if kind == Kind::Forget { Kind::Snapshot } else { Kind::Point };
        if ![kind, of].iter().any(|kind| survey.missing.contains_key(kind)) {
            return Ok(());
        }
        for folder in folders(self.transfer.source, kind).boxed().await? {
            let mut plan = self.plan(kind, &folder).boxed().await?;
            if plan.missing.is_empty() {
                continue;
            }
            let there = self.paths_there(&of_kind(&folder, of)).await?;
            plan.missing.retain(|object| !there.contains(&of_kind(&object.path, of)));
            self.transfer.copy(kind, oldest_first(plan.missing)).boxed().await?;
        }
        Ok(())
    }

    /// Copies the announcements of sessions that have ended at the destination as well. One that has not
    /// would be closed there by a collector, and could never end as it does at the source.
    async fn copy_sessions(&self) -> Result<()> {
        for folder in folders(self.transfer.source, Kind::Session).boxed().await? {
            let mut plan = self.plan(Kind::Session, &folder).boxed().await?;
            if plan.missing.is_empty() {
                continue;
            }
            let there = self.paths_there(&of_kind(&folder, Kind::Snapshot)).await?;
            let has_ended = |path: &str| there.contains(&of_kind(path, Kind::Snapshot));
            plan.missing.retain(|object| has_ended(&object.path));
            self.transfer.copy(Kind::Session, oldest_first(plan.missing)).boxed().await?;
        }
        Ok(())
    }

    /// Says whether the destination still has the snapshots that it lacked before: a collector there may
    /// have deleted one that came forgotten, before the point came that names it.
    async fn has_snapshots(&self, survey: &Survey) -> Result<bool> {
        for (folder, listed) in survey.listed.get(&Kind::Snapshot).into_iter().flatten() {
            let plan = self.plan(Kind::Snapshot, folder).boxed().await?;
            let is_known = |path: &str| self.transfer.tally().problems.contains_key(path);
            let lacks = |object: &Listed| {
                listed.contains(&fingerprint(&object.path)) && !is_known(&object.path)
            };
            if plan.missing.iter().any(lacks) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn paths_there(&self, folder: &str) -> Result<HashSet<String>> {
        let listed = self.transfer.destination.list(folder).await?;
        Ok(listed.into_iter().map(|object| object.path).collect())
    }
}

/// Numbers count down in names.
fn oldest_first(mut objects: Vec<Listed>) -> Vec<Listed> {
    objects.reverse();
    objects
}

fn fingerprint(path: &str) -> Fingerprint {
    let hash = blake3::hash(path.as_bytes());
    let mut fingerprint = Fingerprint::default();
    fingerprint.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    fingerprint
}

/// Lists what stands at the top of a store and is of no kind that is copied.
async fn unknown_names(store: &Store) -> Result<Vec<String>> {
    let top = store.list_directories("").await?;
    let is_known = |folder: &String| {
        Kind::BY_REFERENCE.iter().any(|kind| kind.name() == folder)
            || NOT_COPIED.contains(&folder.as_str())
    };
    let mut unknown: Vec<_> = top.directories.into_iter().filter(|f| !is_known(f)).collect();
    let objects = top.objects.into_iter().map(|object| object.path);
    unknown.extend(objects.filter(|path| path != DESCRIPTOR));
    Ok(unknown)
}

fn busy(store: &Store, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "sync repository", store.name()).detail(why)
}
