//! `lifeboat doctor`: everything that a backup and a restore depend on, looked at one by one.

use std::path::Path;
use std::time::Duration;

use app::settings::{PolicyUse, Settings};
use model::{Error, ErrorKind, Result, Timestamp};
use policies::{show_bytes, show_duration};
use repository::Repository;
use repository::crypto::{KeyRole, Unlock};
use repository::store::{Attach, Store, StoreKind};
use serde_json::json;

use crate::exit::Exit;
use crate::hints::hint;
use crate::names;
use crate::run::Run;
use crate::table::counted;

/// Clocks that disagree by more make points suspect.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);
/// A key that nobody has tried for longer may be lost without anybody knowing.
const TESTED_WITHIN: Duration = Duration::from_secs(90 * 24 * 3600);
/// How many points of a site are looked at to find a complete one.
const POINTS_LOOKED_AT: usize = 100;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write nothing into the store: neither try it out nor sweep what crashes left
    #[arg(long)]
    read_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Doubtful,
    Bad,
}

/// What was looked at and what came of it.
#[derive(Debug)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    hint: Option<&'static str>,
}

/// Checks as they are made.
#[derive(Debug, Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, name: &'static str, verdict: Verdict, detail: impl Into<String>) {
        self.0.push(Check { name, verdict, detail: detail.into(), hint: None });
    }

    /// Notes what failed; returns what did not.
    fn keep<T>(&mut self, name: &'static str, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                let (detail, hint) = (error.chain(), hint(&error));
                self.0.push(Check { name, verdict: Verdict::Bad, detail, hint });
                None
            }
        }
    }
}

impl Args {
    /// Looks at everything; what fails does not keep it from the rest.
    ///
    /// # Errors
    /// Where nobody reads the outcome.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let mut checks = Checks::default();
        let settings = settings(&mut checks, run)?;
        check_sources(&settings, &mut checks);
        check_cache(&settings, &mut checks, run);
        let store = app::repositories::attach(&settings, Attach::Existing, &run.context);
        if let Some(store) = checks.keep("store", store) {
            self.check_store(&store, &mut checks, run).await;
            if let Some(unlock) = checks.keep("key", run.key(&settings)) {
                run.listen();
                check_repository(store, &unlock, &settings, &mut checks, run).await;
            }
        }
        let worst = |verdict| checks.0.iter().any(|check| check.verdict == verdict);
        let value = || {
            let all = checks.0.iter().map(|check| {
                let verdict = match check.verdict {
                    Verdict::Good => "good",
                    Verdict::Doubtful => "doubtful",
                    Verdict::Bad => "bad",
                };
                json!({ "check": check.name, "verdict": verdict, "detail": check.detail, "hint": check.hint })
            });
            json!({ "is_healthy": !worst(Verdict::Bad), "checks": all.collect::<Vec<_>>() })
        };
        run.output.result(|| checks.0.iter().map(check_text).collect(), value)?;
        Ok(match (worst(Verdict::Bad), worst(Verdict::Doubtful)) {
            (true, _) => Exit::Failed,
            (false, true) => Exit::Partial,
            (false, false) => Exit::Done,
        })
    }

    async fn check_store(&self, store: &Store, checks: &mut Checks, run: &Run) {
        if let Some((verdict, detail)) = judge_kind(store.kind()) {
            checks.add("store", verdict, detail);
        }
        if self.read_only {
            checks.add("store", Verdict::Good, format!("{} is there; not tried out", store.name()));
            return;
        }
        if checks.keep("store", store.probe().await).is_some() {
            let detail = format!("{} creates each object once and lists it at once", store.name());
            checks.add("store", Verdict::Good, detail);
        }
        let before = run.now();
        if let Some(theirs) = checks.keep("clock", store.now().await) {
            let (verdict, detail) = judge_clocks(before, theirs, run.now());
            checks.add("clock", verdict, detail);
        }
        if let Some(swept) = checks.keep("leftovers", store.sweep_staging().await) {
            let detail = match swept.files {
                0 => "no crash left anything older than a day".to_owned(),
                files => {
                    format!(
                        "swept {} ({})",
                        counted(files, "staging file"),
                        show_bytes(swept.size_bytes)
                    )
                }
            };
            checks.add("leftovers", Verdict::Good, detail);
        }
    }
}

/// Reads settings; without a policy that can be read the rest is looked at by flags alone.
fn settings(checks: &mut Checks, run: &Run) -> Result<Settings> {
    if let Some(settings) = checks.keep("policy", run.settings()) {
        match &settings.policy {
            Some(file) => {
                let systems = counted(file.policy.files.len() as u64, "system");
                let detail =
                    format!("{}: site {}, {systems}", file.path.display(), file.policy.site);
                checks.add("policy", Verdict::Good, detail);
            }
            None => checks.add(
                "policy",
                Verdict::Doubtful,
                "there is none: `lifeboat backup` needs one",
            ),
        }
        return Ok(settings);
    }
    Settings::load(&run.globals.flags(), run.environment.clone(), PolicyUse::Ignored)
}

fn check_sources(settings: &Settings, checks: &mut Checks) {
    let files = settings.policy.iter().flat_map(|file| &file.policy.files);
    for path in files.flat_map(|files| &files.paths) {
        let outcome = look_at(path).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Denied,
            };
            Error::new(kind, "read source", path.display().to_string()).because(error)
        });
        if checks.keep("source", outcome).is_some() {
            checks.add("source", Verdict::Good, format!("{} can be read", path.display()));
        }
    }
}

/// Opens a file, or lists a directory's first entry.
fn look_at(path: &Path) -> std::io::Result<()> {
    if path.metadata()?.is_dir() {
        std::fs::read_dir(path)?.next().transpose()?;
    } else {
        std::fs::File::open(path)?;
    }
    Ok(())
}

fn check_cache(settings: &Settings, checks: &mut Checks, run: &Run) {
    let Some(folder) = settings.environment.cache_folder() else {
        checks.add(
            "cache",
            Verdict::Doubtful,
            "neither HOME nor XDG_CACHE_HOME is set: nothing is kept",
        );
        return;
    };
    let mut random = [0; 8];
    run.context.entropy.fill(&mut random);
    let file = folder.join(format!("doctor-{}", repository::types::hex(&random)));
    let tried = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, b"x"))
        .and_then(|()| std::fs::remove_file(&file));
    match tried {
        Ok(()) => {
            checks.add("cache", Verdict::Good, format!("{} can be written", folder.display()))
        }
        // It only makes things faster.
        Err(error) => {
            checks.add("cache", Verdict::Doubtful, format!("{}: {error}", folder.display()));
        }
    }
}

/// Says what is known of a kind of store; nothing where there is nothing to doubt.
fn judge_kind(kind: StoreKind) -> Option<(Verdict, String)> {
    match kind.tried_against() {
        Some(server) if kind.is_remote() => {
            Some((Verdict::Good, format!("{} was proven against {server}", kind.name())))
        }
        Some(_) => None,
        None => {
            let why = "there was no such server to try it against: restore something from it before \
                you rely on it";
            Some((Verdict::Doubtful, format!("{} is unproven: {why}", kind.name())))
        }
    }
}

/// Compares the store's clock with ours before and after it was asked.
fn judge_clocks(before: Timestamp, theirs: Timestamp, after: Timestamp) -> (Verdict, String) {
    let apart = before.since(theirs).max(theirs.since(after));
    if apart > CLOCKS_APART_MAX {
        return (
            Verdict::Bad,
            format!("this host and the store are {} apart", show_duration(apart)),
        );
    }
    (Verdict::Good, "this host and the store agree within a minute".to_owned())
}

async fn check_repository(
    store: Store,
    unlock: &Unlock,
    settings: &Settings,
    checks: &mut Checks,
    run: &Run,
) {
    let options = app::repositories::open_options(settings);
    let opened = Repository::open(store, unlock, options, &run.context).await;
    let Some(repository) = checks.keep("repository", opened) else { return };
    if checks.keep("repository", repository.check_writable()).is_some() {
        checks.add("repository", Verdict::Good, format!("{} opens", repository.id()));
    }
    if let Some(slot) = checks.keep("key", repository.test_slot(unlock).await) {
        checks.add("key", Verdict::Good, format!("key {} opens it", slot.id));
    }
    if let Some(slots) = checks.keep("keys", repository.slots().await) {
        let full = slots.iter().filter(|slot| slot.role == KeyRole::Full);
        let tests: Vec<_> = full.map(|slot| slot.tested).collect();
        let (verdict, detail) = judge_keys(&tests, run.now());
        checks.add("keys", verdict, detail);
    }
    let sites = match settings.site() {
        Some(site) => Some(vec![site.clone()]),
        None => checks.keep("points", repository.sites().await),
    };
    for site in sites.into_iter().flatten() {
        let newest = repository.newest_points(&site, POINTS_LOOKED_AT).await;
        if let Some(points) = checks.keep("points", newest) {
            let points: Vec<_> =
                points.iter().map(|point| (point.cut_to, point.is_complete())).collect();
            let (verdict, detail) = judge_points(&points, run.now());
            checks.add("points", verdict, format!("{site}: {detail}"));
        }
    }
}

/// Judges the keys by when each was last proven to open the repository. Two slots never have one secret:
/// adding such a one is refused.
fn judge_keys(tested: &[Option<Timestamp>], now: Timestamp) -> (Verdict, String) {
    if tested.len() < 2 {
        let why = "one key only: add a second and keep it elsewhere (`lifeboat key add`)";
        return (Verdict::Doubtful, why.to_owned());
    }
    let lately = tested.iter().flatten().filter(|at| now.since(**at) <= TESTED_WITHIN).count();
    if lately == 0 {
        let why =
            "none was tested in the last 90 days: try each where it is kept (`lifeboat key test`)";
        return (Verdict::Doubtful, format!("{} keys, {why}", tested.len()));
    }
    let detail = format!("{} keys open it, {lately} tested in the last 90 days", tested.len());
    (Verdict::Good, detail)
}

/// Judges the newest points of a site: when the reading of each ended, and whether it is complete.
fn judge_points(newest: &[(Timestamp, bool)], now: Timestamp) -> (Verdict, String) {
    let age = |at: Timestamp| show_duration(now.since(at));
    let last = newest.iter().max_by_key(|(at, _)| *at);
    let complete = newest.iter().filter(|(_, is_complete)| *is_complete).max_by_key(|(at, _)| *at);
    match (last, complete) {
        (None, _) => (Verdict::Doubtful, "there are none yet".to_owned()),
        (Some((at, true)), _) => (Verdict::Good, format!("the newest is {} old", age(*at))),
        (Some((at, false)), Some((complete, _))) => (
            Verdict::Doubtful,
            format!(
                "the newest, {} old, is not complete; the newest complete one is {} old",
                age(*at),
                age(*complete)
            ),
        ),
        (Some(_), None) => {
            (Verdict::Doubtful, format!("none of the newest {} is complete", newest.len()))
        }
    }
}

fn check_text(check: &Check) -> String {
    let verdict = match check.verdict {
        Verdict::Good => "ok  ",
        Verdict::Doubtful => "warn",
        Verdict::Bad => "FAIL",
    };
    let mut text = format!("{verdict}  {:<10}  {}\n", check.name, names::line(&check.detail));
    if let Some(hint) = check.hint {
        text.push_str(&format!("                  hint: {hint}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_disagree_by_a_minute() {
        let at = Timestamp::from_unix_seconds;
        assert_eq!(judge_clocks(at(100), at(100), at(101)).0, Verdict::Good);
        assert_eq!(judge_clocks(at(100), at(40), at(101)).0, Verdict::Good);
        assert_eq!(judge_clocks(at(100), at(39), at(101)).0, Verdict::Bad);
        assert_eq!(judge_clocks(at(100), at(162), at(101)).0, Verdict::Bad);
        // A slow answer is not a wrong clock.
        assert_eq!(judge_clocks(at(100), at(350), at(400)).0, Verdict::Good);
    }

    #[test]
    fn a_store_that_nobody_tried_is_unproven() {
        assert_eq!(judge_kind(StoreKind::Directory), None);
        let (verdict, detail) = judge_kind(StoreKind::S3).expect("S3");
        assert_eq!((verdict, &*detail), (Verdict::Good, "S3 was proven against versitygw 1.8.0"));
        let (verdict, detail) = judge_kind(StoreKind::Google).expect("GCS");
        assert!(verdict == Verdict::Doubtful && detail.contains("is unproven"), "{detail}");
    }

    #[test]
    fn keys_are_to_be_two_and_tried() {
        let at = |days: i64| Some(Timestamp::from_unix_seconds(days * 24 * 3600));
        let now = Timestamp::from_unix_seconds(1000 * 24 * 3600);
        for (tested, verdict, words) in [
            (&[][..], Verdict::Doubtful, "one key only"),
            (&[at(999)], Verdict::Doubtful, "one key only"),
            (&[None, None], Verdict::Doubtful, "2 keys, none was tested"),
            (&[None, at(909)], Verdict::Doubtful, "2 keys, none was tested"),
            (&[None, at(910)], Verdict::Good, "2 keys open it, 1 tested"),
        ] {
            let (found, detail) = judge_keys(tested, now);
            assert!(found == verdict && detail.starts_with(words), "{tested:?}: {detail}");
        }
    }

    #[test]
    fn a_point_that_is_not_complete_does_not_count_as_the_newest() {
        let at = Timestamp::from_unix_seconds;
        for (points, verdict, words) in [
            (&[][..], Verdict::Doubtful, "there are none yet"),
            (&[(at(90), true), (at(50), false)], Verdict::Good, "the newest is 10 s old"),
            (
                &[(at(90), false), (at(40), true)],
                Verdict::Doubtful,
                "the newest, 10 s old, is not complete; the newest complete one is 1m 0s old",
            ),
            (&[(at(90), false)], Verdict::Doubtful, "none of the newest 1 is complete"),
        ] {
            assert_eq!(judge_points(points, at(100)), (verdict, words.to_owned()));
        }
    }

    #[test]
    fn a_failure_is_noted_with_its_hint() {
        let mut checks = Checks::default();
        let failed: Option<()> =
            checks.keep("key", Err(Error::new(ErrorKind::WrongKey, "open repository", "")));
        assert!(failed.is_none());
        let shown: String = checks.0.iter().map(check_text).collect();
        assert!(
            shown.starts_with("FAIL  key") && shown.contains("hint: give another key"),
            "{shown}"
        );
    }
}
