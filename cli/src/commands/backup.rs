//! `lifeboat backup`: captures what the policy protects and seals a point.

use std::path::PathBuf;
use std::time::Duration;

use app::settings::{PolicyFile, Settings};
use app::systems::{self, Protected, Use};
use model::{Error, Result, SystemName};
use operations::capture::{self, CaptureOptions, Captured, Planned};
use operations::seal::{self, Expected};
use policies::{describe_time, show_bytes, show_duration};
use repository::Repository;
use repository::crypto::DEFAULT_DOMAIN;
use repository::point::Point;
use repository::types::StreamName;
use serde_json::{Value, json};

use super::refuse;
use crate::exit::Exit;
use crate::output;
use crate::run::{Run, SHORT_ID};
use crate::table::{count, counted};

/// Each unchanged item is read again once in so many captures: an hourly backup looks at every byte within
/// eleven days.
const RECHECK_EVERY_CAPTURES: u32 = 256;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Systems of the policy; a point is sealed only when all are captured [default: all]
    systems: Vec<SystemName>,
    /// Print what would be read, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Read everything, also what looks unchanged
    #[arg(long)]
    read_everything: bool,
    /// What this host is called [env: LIFEBOAT_HOST] [default: as the kernel says]
    #[arg(long)]
    host: Option<String>,
}

/// One system and what became of its capture.
type Outcome<T> = (SystemName, Result<T>);

/// A backup that runs.
struct Backup<'b> {
    repository: &'b Repository,
    file: &'b PolicyFile,
    options: CaptureOptions,
    run: &'b Run,
}

impl Args {
    /// Captures.
    ///
    /// # Errors
    /// `NotFound` without a policy; `Invalid`; those of the repository; `Cancelled`. Systems that fail make
    /// it partial, no error, unless all of them do.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let file = settings.policy()?;
        let started = run.context.clock.elapsed();
        let host = self.host.clone().map_or_else(|| run.environment.host(), Ok)?;
        let chosen = self.choose(systems::build(file, &host, Use::Once)?)?;
        let is_whole = chosen.len() == systems::expected(&file.policy).len();
        let repository = run.open(&settings).await?;
        let options = capture_options(host, self.read_everything, &settings, run);
        let backup = Backup { repository: &repository, file, options, run };
        if self.dry_run {
            return backup.plan(&chosen).await;
        }
        let outcomes = backup.capture(&chosen).await?;
        let point = if is_whole { Some(backup.seal(&outcomes).await?) } else { None };
        run.progress.end();
        let elapsed = run.context.clock.elapsed().saturating_sub(started);
        backup.report(&outcomes, point.as_ref(), elapsed)
    }

    fn choose(&self, built: Vec<Protected>) -> Result<Vec<Protected>> {
        if built.iter().all(|one| one.name == app::policy_system::name()) {
            return Err(refuse("back up", "", "the policy protects nothing: add a [[files]]"));
        }
        if let Some(unknown) = self.systems.iter().find(|n| built.iter().all(|one| one.name != **n))
        {
            let names: Vec<_> = built.iter().map(|one| one.name.to_string()).collect();
            let why = format!("the policy has no such system; it has {}", names.join(", "));
            return Err(refuse("back up", unknown.as_str(), why));
        }
        let is_chosen =
            |one: &Protected| self.systems.is_empty() || self.systems.contains(&one.name);
        Ok(built.into_iter().filter(is_chosen).collect())
    }
}

/// Says how systems of this host are captured.
pub fn capture_options(
    host: String,
    read_everything: bool,
    settings: &Settings,
    run: &Run,
) -> CaptureOptions {
    CaptureOptions {
        host,
        domain: DEFAULT_DOMAIN.to_owned(),
        recheck_every_captures: RECHECK_EVERY_CAPTURES,
        read_everything,
        scratch_folder: scratch_folder(settings, run),
        workers: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Says where lists that are larger than memory are sorted.
pub fn scratch_folder(settings: &Settings, run: &Run) -> PathBuf {
    let temporary = run.environment.path("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    settings.environment.cache_folder().unwrap_or(temporary).join("scratch")
}

impl Backup<'_> {
    fn stream(&self, system: &SystemName) -> StreamName {
        StreamName { site: self.file.policy.site.clone(), system: system.clone() }
    }

    /// Captures one system after the other, and the policy, which waits for the store only, beside them.
    async fn capture(&self, chosen: &[Protected]) -> Result<Vec<Outcome<Captured>>> {
        let own = app::policy_system::name();
        let (policy, others): (Vec<_>, Vec<_>) = chosen.iter().partition(|one| one.name == own);
        let (mut outcomes, policy) =
            futures::join!(self.capture_all(others), self.capture_all(policy));
        outcomes.extend(policy);
        self.run.context.check("back up")?;
        if outcomes.iter().any(|(_, outcome)| outcome.is_ok()) {
            return Ok(outcomes);
        }
        match outcomes.into_iter().next() {
            Some((_, Err(error))) => Err(error),
            _ => Err(refuse("back up", "", "nothing was chosen")),
        }
    }

    async fn capture_all(&self, systems: Vec<&Protected>) -> Vec<Outcome<Captured>> {
        let mut outcomes = Vec::with_capacity(systems.len());
        for Protected { name, system } in systems {
            let (stream, context) = (self.stream(name), &self.run.context);
            let captured =
                capture::capture(self.repository, &stream, system.as_ref(), &self.options, context);
            let captured = Box::pin(captured).await;
            if let Err(error) = &captured {
                context.monitor.problem(error);
            }
            outcomes.push((name.clone(), captured));
        }
        outcomes
    }

    async fn seal(&self, outcomes: &[Outcome<Captured>]) -> Result<Point> {
        let policy = &self.file.policy;
        let expected = systems::expected(policy).into_iter();
        let expected: Vec<_> = expected.map(|(system, kind)| Expected { system, kind }).collect();
        let captured = outcomes.iter().map(|(name, outcome)| {
            let snapshot = outcome.as_ref().map(|captured| captured.snapshot.clone());
            (name.clone(), snapshot.map_err(copy_of))
        });
        let (site, context) = (&policy.site, &self.run.context);
        let captured = captured.collect();
        seal::seal(self.repository, site, &expected, captured, Duration::ZERO, context).await
    }

    /// Says what would be done.
    async fn plan(&self, chosen: &[Protected]) -> Result<Exit> {
        let mut plans = Vec::with_capacity(chosen.len());
        for Protected { name, system } in chosen {
            let (stream, context) = (self.stream(name), &self.run.context);
            let plan =
                capture::plan(self.repository, &stream, system.as_ref(), &self.options, context);
            plans.push((name, Box::pin(plan).await?));
        }
        self.run.progress.end();
        let text = || plans.iter().map(|(name, plan)| plan_text(name, plan)).collect::<String>();
        let value = || {
            let systems: Vec<_> = plans.iter().map(|(name, plan)| plan_value(name, plan)).collect();
            json!({ "is_dry_run": true, "site": self.file.policy.site.as_str(), "systems": systems })
        };
        self.run.output.result(text, value)?;
        Ok(Exit::Done)
    }

    fn report(
        &self,
        outcomes: &[Outcome<Captured>],
        point: Option<&Point>,
        elapsed: Duration,
    ) -> Result<Exit> {
        let run = self.run;
        let (problems, problem_count) = run.progress.problems();
        let is_partial = problem_count > 0
            || outcomes.iter().any(|(_, outcome)| outcome.is_err())
            || point.is_some_and(|point| !point.is_complete());
        let text = || {
            let own = app::policy_system::name();
            let lines = outcomes.iter().map(|(name, outcome)| match outcome {
                // The policy is stored beside what people asked for; it is told of where it fails.
                Ok(_) if *name == own && outcomes.len() > 1 => String::new(),
                Ok(captured) => captured_text(name, captured),
                Err(error) => format!("{name}: failed: {}\n", crate::names::line(&error.chain())),
            });
            let mut text: String = lines.collect();
            if let Some(point) = point {
                text.push_str(&self.point_text(point));
            }
            if problem_count > 0 {
                text.push_str(&format!("{} on the way\n", counted(problem_count, "problem")));
            }
            text + &format!("took {}\n", show_duration(elapsed))
        };
        let value = || {
            let systems: Vec<_> = outcomes.iter().map(outcome_value).collect();
            json!({
                "site": self.file.policy.site.as_str(),
                "point": point.map(super::points::point_value),
                "systems": systems,
                "problem_count": problem_count,
                "problems": problems,
                "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            })
        };
        run.output.result(text, value)?;
        Ok(if is_partial { Exit::Partial } else { Exit::Done })
    }

    fn point_text(&self, point: &Point) -> String {
        let short: String = point.id.short().chars().take(SHORT_ID).collect();
        let time = describe_time(point.cut_to, &self.run.zone);
        let site = &point.id.site;
        let mut text = format!("sealed {site}@{short}, {time}");
        text.push_str(if point.is_complete() { ", complete\n" } else { ", NOT complete\n" });
        point
            .lacks
            .iter()
            .for_each(|lack| text.push_str(&format!("  {}\n", crate::names::line(lack))));
        text
    }
}

/// A failure stands in the report and in the point.
fn copy_of(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.action(), error.subject());
    let causes = output::causes(error).join(": ");
    if causes.is_empty() { copy } else { copy.detail(causes) }
}

fn captured_text(name: &SystemName, captured: &Captured) -> String {
    let totals = captured.snapshot.root.totals;
    let mut text = format!(
        "{name}: {}, {}; ",
        counted(totals.items, "item"),
        show_bytes(totals.content_bytes),
    );
    if captured.read_items == 0 && captured.deleted_items == 0 {
        text.push_str("nothing read");
    } else {
        text.push_str(&format!(
            "read {} ({})",
            count(captured.read_items),
            show_bytes(captured.read_bytes),
        ));
    }
    if captured.deleted_items > 0 {
        text.push_str(&format!(", {} gone", count(captured.deleted_items)));
    }
    text + &format!(", stored {}\n", show_bytes(captured.stored_bytes))
}

fn outcome_value((name, outcome): &Outcome<Captured>) -> Value {
    match outcome {
        Err(error) => json!({
            "system": name.as_str(),
            "error": { "kind": output::kind_name(error.kind()), "message": error.chain() },
        }),
        Ok(captured) => json!({
            "system": name.as_str(),
            "snapshot": captured.snapshot.id.short(),
            "items": captured.snapshot.root.totals.items,
            "content_bytes": captured.snapshot.root.totals.content_bytes,
            "listed_items": captured.listed_items,
            "reused_items": captured.reused_items,
            "read_items": captured.read_items,
            "deleted_items": captured.deleted_items,
            "read_bytes": captured.read_bytes,
            "stored_bytes": captured.stored_bytes,
            "problems": captured.problems,
        }),
    }
}

fn plan_text(name: &SystemName, plan: &Planned) -> String {
    format!(
        "{name}: would read {} of {} (at most {}), take over {}, drop {}\n",
        count(plan.read_items),
        counted(plan.listed_items, "item"),
        show_bytes(plan.read_bytes),
        count(plan.reused_items),
        count(plan.deleted_items),
    )
}

fn plan_value(name: &SystemName, plan: &Planned) -> Value {
    json!({
        "system": name.as_str(),
        "listed_items": plan.listed_items,
        "reused_items": plan.reused_items,
        "read_items": plan.read_items,
        "deleted_items": plan.deleted_items,
        "read_bytes": plan.read_bytes,
        "problems": plan.problems,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ErrorKind;

    #[test]
    fn a_copied_failure_says_the_same() {
        let cause = Error::new(ErrorKind::Denied, "open directory", "/x");
        let error = Error::new(ErrorKind::Unavailable, "cut system", "prod.etc").because(cause);
        let copy = copy_of(&error);
        assert_eq!((copy.kind(), copy.chain()), (error.kind(), error.chain()));
    }

    #[test]
    fn a_plan_is_one_line() {
        let plan =
            Planned { listed_items: 1200, read_items: 3, read_bytes: 2048, ..Planned::default() };
        let text = plan_text(&"etc".parse().expect("name"), &plan);
        assert_eq!(
            text,
            "etc: would read 3 of 1,200 items (at most 2.0 KiB), take over 0, drop 0\n"
        );
    }
}
