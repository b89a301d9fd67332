//! `lifeboat points`: what can be restored, newest first, and marks on it.

use std::time::Duration;

use jiff::tz::TimeZone;
use model::{Result, SiteName, Timestamp};
use operations::select;
use policies::{check_tag, describe_time, show_bytes, show_duration, show_time};
use repository::Repository;
use repository::mark::{Mark, MarkKind};
use repository::point::{Freshness, Point, PointEntry, PointId};
use repository::snapshot::Snapshot;
use repository::types::StreamName;
use serde_json::{Value, json};

use super::refuse;
use crate::exit::Exit;
use crate::names;
use crate::run::{Run, SHORT_ID};
use crate::table::{count, lay_out};

/// Arguments of `points`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// SITE, or SITE/SYSTEM for the snapshots of one system [default: the policy's site, else all]
    scope: Option<String>,
    /// How many are listed
    #[arg(long, default_value_t = 20, value_name = "N")]
    last: usize,
    /// List all
    #[arg(long, conflicts_with = "last")]
    all: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Keep a point whatever the policy says
    Pin {
        /// The point
        selector: String,
        /// Why
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Take a pin off
    Unpin {
        /// The point
        selector: String,
    },
    /// Give a point a name
    Tag {
        /// The point
        selector: String,
        /// Letters, digits, - _ . and a letter first
        tag: String,
        /// Why
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Take a name off
    Untag {
        /// The point
        selector: String,
        /// The name
        tag: String,
    },
}

impl Args {
    /// Lists or marks.
    ///
    /// # Errors
    /// `NotFound`; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        if let Some(action) = &self.action {
            let repository = run.open(&settings).await?;
            return action.run(&repository, &settings, run).await;
        }
        let count = if self.all { usize::MAX } else { self.last };
        let scope = self.scope.as_deref().map(read_scope).transpose()?;
        let repository = run.open(&settings).await?;
        match scope.or_else(|| settings.site().cloned().map(Scope::Site)) {
            Some(Scope::System(stream)) => list_snapshots(&repository, &stream, count, run).await,
            Some(Scope::Site(site)) => list_points(&repository, vec![site], count, run).await,
            None => {
                let sites = repository.sites().await?;
                list_points(&repository, sites, count, run).await
            }
        }
    }
}

enum Scope {
    Site(SiteName),
    System(StreamName),
}

/// Reads `SITE` or `SITE/SYSTEM`.
fn read_scope(text: &str) -> Result<Scope> {
    match text.split_once('/') {
        None => text.parse().map(Scope::Site),
        Some((site, system)) => {
            Ok(Scope::System(StreamName { site: site.parse()?, system: system.parse()? }))
        }
    }
}

async fn list_points(
    repository: &Repository,
    sites: Vec<SiteName>,
    count: usize,
    run: &Run,
) -> Result<Exit> {
    let mut listed = Vec::with_capacity(sites.len());
    for site in sites {
        let (points, marks) =
            futures::try_join!(survey(repository, &site, count, run), repository.marks(&site))?;
        listed.push((site, points, marks));
    }
    let now = run.now();
    let text = || {
        let tables = listed.iter().map(|(site, points, marks)| {
            let table = points_table(points, marks, now, &run.zone);
            if points.is_empty() {
                format!("{site}: no points\n")
            } else {
                format!("{site}\n{table}")
            }
        });
        let text: String = tables.collect();
        if text.is_empty() {
            "no points: make one with `lifeboat backup`\n".to_owned()
        } else {
            text
        }
    };
    let value = || {
        let points = listed
            .iter()
            .flat_map(|(_, points, marks)| points.iter().map(|point| marked_value(point, marks)));
        json!({ "points": points.collect::<Vec<_>>() })
    };
    run.output.result(text, value)?;
    Ok(Exit::Done)
}

/// Returns the newest points that can be read; says which cannot.
///
/// # Errors
/// Those of the store.
pub async fn survey(
    repository: &Repository,
    site: &SiteName,
    count: usize,
    run: &Run,
) -> Result<Vec<Point>> {
    let surveyed = repository.survey_points(site, count).await?;
    for (id, error) in &surveyed.unreadable {
        run.progress.warn(&format!("point {site}@{} is damaged: {}", short(id), error.chain()));
    }
    Ok(surveyed.points)
}

/// Lays points out as a table.
pub fn points_table(points: &[Point], marks: &[Mark], now: Timestamp, zone: &TimeZone) -> String {
    let header = ["  ID", "TIME", "AGE", "ITEMS", "SIZE", "SYSTEMS", "STATE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for point in points {
        let shown = || point.entries.iter().filter(|entry| is_shown(entry));
        let items = shown().map(|entry| entry.items).sum();
        let bytes = shown().map(|entry| entry.content_bytes).sum();
        rows.push(vec![
            format!("  {}", short(&point.id)),
            show_time(point.cut_to, zone),
            show_duration(now.since(point.cut_to)),
            self::count(items),
            show_bytes(bytes),
            shown().map(|entry| system_text(entry, now)).collect::<Vec<_>>().join(" "),
            state_text(point, marks),
        ]);
    }
    lay_out(&rows, &[2, 3, 4])
}

/// The stored policy is no system that people asked for: it is shown where it is not as it should be.
fn is_shown(entry: &PointEntry) -> bool {
    entry.system != app::policy_system::name() || entry.freshness != Freshness::Fresh
}

/// Names a system with what is to be known of its state in a point.
fn system_text(entry: &PointEntry, now: Timestamp) -> String {
    match &entry.freshness {
        Freshness::Fresh if entry.problems == 0 => entry.system.to_string(),
        Freshness::Fresh => format!("{}({} unread)", entry.system, count(entry.problems)),
        Freshness::Carried => {
            format!("{}({} old)", entry.system, show_duration(now.since(entry.cut_to)))
        }
        Freshness::Missing(_) => format!("{}(missing)", entry.system),
    }
}

/// Says how good a point is and what people say of it.
fn state_text(point: &Point, marks: &[Mark]) -> String {
    let mut words = vec![if point.is_complete() { "complete" } else { "partial" }.to_owned()];
    if point.is_clock_suspect {
        words.push("clock-suspect".to_owned());
    }
    words.extend(marks.iter().filter(|mark| mark.point == point.id).map(|mark| match &mark.kind {
        MarkKind::Pin => "pinned".to_owned(),
        MarkKind::Tag(tag) => format!("tag:{}", names::escape(tag.as_bytes())),
        MarkKind::Verified => "verified".to_owned(),
    }));
    words.join(" ")
}

/// Returns the digits of an id that people are shown.
pub fn short(id: &PointId) -> String {
    id.short().chars().take(SHORT_ID).collect()
}

/// Writes a point as JSON, without what is said of it.
pub fn point_value(point: &Point) -> Value {
    let systems: Vec<_> = point.entries.iter().map(entry_value).collect();
    json!({
        "site": point.id.site.as_str(),
        "id": point.id.short(),
        "cut_from": Run::utc(point.cut_from),
        "cut_to": Run::utc(point.cut_to),
        "sealed": Run::utc(point.sealed),
        "store_time": point.store_time.map(Run::utc),
        "is_complete": point.is_complete(),
        "is_clock_suspect": point.is_clock_suspect,
        "lacks": point.lacks,
        "checks": point.checks,
        "systems": systems,
    })
}

fn entry_value(entry: &PointEntry) -> Value {
    let (freshness, why) = match &entry.freshness {
        Freshness::Fresh => ("fresh", None),
        Freshness::Carried => ("carried", None),
        Freshness::Missing(why) => ("missing", Some(why)),
    };
    json!({
        "system": entry.system.as_str(),
        "kind": entry.kind,
        "freshness": freshness,
        "why": why,
        "snapshot": entry.snapshot.as_ref().map(|id| id.short()),
        "cut_from": Run::utc(entry.cut_from),
        "cut_to": Run::utc(entry.cut_to),
        "items": entry.items,
        "content_bytes": entry.content_bytes,
        "problems": entry.problems,
    })
}

/// Writes a point as JSON with what is said of it.
pub fn marked_value(point: &Point, marks: &[Mark]) -> Value {
    let mut value = point_value(point);
    let ours = || marks.iter().filter(|mark| mark.point == point.id);
    let tags: Vec<_> = ours()
        .filter_map(|mark| match &mark.kind {
            MarkKind::Tag(tag) => Some(tag.clone()),
            MarkKind::Pin | MarkKind::Verified => None,
        })
        .collect();
    value["tags"] = json!(tags);
    value["is_pinned"] = json!(ours().any(|mark| mark.kind == MarkKind::Pin));
    value["is_verified"] = json!(ours().any(|mark| mark.kind == MarkKind::Verified));
    value
}

async fn list_snapshots(
    repository: &Repository,
    stream: &StreamName,
    count: usize,
    run: &Run,
) -> Result<Exit> {
    let snapshots = repository.newest_snapshots(stream, count).await?;
    let now = run.now();
    let row = |snapshot: &Snapshot| {
        vec![
            format!("  {}", snapshot.id.short()),
            show_time(snapshot.cut_to, &run.zone),
            show_duration(now.since(snapshot.cut_to)),
            self::count(snapshot.root.totals.items),
            show_bytes(snapshot.root.totals.content_bytes),
            show_bytes(snapshot.stored_bytes),
            if snapshot.problems == 0 {
                String::new()
            } else {
                format!("{} unread", self::count(snapshot.problems))
            },
        ]
    };
    let text = || {
        let header = ["  ID", "TIME", "AGE", "ITEMS", "SIZE", "STORED", ""].map(str::to_owned);
        let rows: Vec<_> =
            std::iter::once(header.to_vec()).chain(snapshots.iter().map(row)).collect();
        if snapshots.is_empty() {
            format!("{}/{}: no snapshots\n", stream.site, stream.system)
        } else {
            lay_out(&rows, &[2, 3, 4, 5])
        }
    };
    let value = || json!({ "snapshots": snapshots.iter().map(snapshot_value).collect::<Vec<_>>() });
    run.output.result(text, value)?;
    Ok(Exit::Done)
}

fn snapshot_value(snapshot: &Snapshot) -> Value {
    json!({
        "site": snapshot.id.stream.site.as_str(),
        "system": snapshot.id.stream.system.as_str(),
        "id": snapshot.id.short(),
        "kind": snapshot.kind,
        "host": snapshot.host,
        "cut_from": Run::utc(snapshot.cut_from),
        "cut_to": Run::utc(snapshot.cut_to),
        "items": snapshot.root.totals.items,
        "content_bytes": snapshot.root.totals.content_bytes,
        "stored_bytes": snapshot.stored_bytes,
        "problems": snapshot.problems,
    })
}

impl Action {
    async fn run(
        &self,
        repository: &Repository,
        settings: &app::settings::Settings,
        run: &Run,
    ) -> Result<Exit> {
        let (selector, kind) = match self {
            Self::Pin { selector, .. } | Self::Unpin { selector } => (selector, MarkKind::Pin),
            Self::Tag { selector, tag, .. } | Self::Untag { selector, tag } => {
                check_tag(tag)?;
                (selector, MarkKind::Tag(tag.clone()))
            }
        };
        let host_of = &app::systems::host_of;
        let chosen = run.selector(selector, settings)?;
        let resolved = select::resolve(repository, &chosen, host_of, &run.context).await?;
        let Some(point) = resolved.point.filter(|_| chosen.system.is_none()) else {
            return Err(refuse("mark point", selector, "it names a system, not a point"));
        };
        let is_set = match self {
            Self::Pin { note, .. } | Self::Tag { note, .. } => {
                repository.set_mark(&point.id, kind, note, &run.context).await?;
                true
            }
            Self::Unpin { .. } | Self::Untag { .. } => {
                repository.remove_mark(&point.id, &kind, &run.context).await?;
                false
            }
        };
        let marks = repository.marks(&point.id.site).await?;
        let text = || {
            let time = describe_time(point.cut_to, &run.zone);
            format!(
                "{}@{}, {time}: {}\n",
                point.id.site,
                short(&point.id),
                state_text(&point, &marks)
            )
        };
        run.output
            .result(text, || json!({ "point": marked_value(&point, &marks), "is_set": is_set }))?;
        Ok(Exit::Done)
    }
}

/// Returns how old the newest of some points is.
pub fn age_of_newest(points: &[Point], now: Timestamp) -> Option<Duration> {
    points.iter().map(|point| point.cut_to).max().map(|newest| now.since(newest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use repository::types::{Number, WriterId};

    const AT: Timestamp = Timestamp::from_unix_seconds(1_795_531_530);

    fn point() -> Point {
        let entry = |system: &str, freshness, problems| PointEntry {
            system: system.parse().expect("name"),
            kind: "files".to_owned(),
            freshness,
            snapshot: None,
            position: None,
            cut_from: AT,
            cut_to: AT,
            items: 1000,
            content_bytes: 1 << 20,
            problems,
        };
        Point {
            id: PointId {
                site: "prod".parse().expect("name"),
                chain: [1; 16],
                number: Number::new(1).expect("in range"),
            },
            writer: WriterId([0; 16]),
            cut_from: AT,
            cut_to: AT,
            sealed: AT,
            store_time: None,
            is_clock_suspect: false,
            entries: vec![
                entry("a", Freshness::Fresh, 0),
                entry("b", Freshness::Fresh, 2),
                entry("c", Freshness::Carried, 0),
                entry("d", Freshness::Missing("gone".to_owned()), 0),
            ],
            lacks: vec!["d: gone".to_owned()],
            checks: Vec::new(),
        }
    }

    #[test]
    fn a_point_is_a_row_and_an_object() {
        let point = point();
        let mark = |kind| Mark {
            point: point.id.clone(),
            kind,
            writer: WriterId([0; 16]),
            at: AT,
            note: String::new(),
        };
        let marks =
            [mark(MarkKind::Pin), mark(MarkKind::Tag("x".to_owned())), mark(MarkKind::Verified)];
        let now = AT.saturating_add(Duration::from_secs(90));
        let table = points_table(std::slice::from_ref(&point), &marks, now, &TimeZone::UTC);
        let row = table.lines().nth(1).expect("a row");
        let id = short(&point.id);
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>().join(" "),
            format!(
                "{id} 2026-11-24 14:45:30 1m 30s 4,000 4.0 MiB a b(2 unread) c(1m 30s old) \
                 d(missing) partial pinned tag:x verified"
            )
        );
        let value = marked_value(&point, &marks);
        assert_eq!(value["tags"], json!(["x"]));
        assert_eq!((&value["is_pinned"], &value["is_verified"]), (&json!(true), &json!(true)));
        assert_eq!(value["is_complete"], json!(false));
        assert_eq!(value["systems"][3]["freshness"], json!("missing"));
        assert_eq!(value["systems"][3]["why"], json!("gone"));
        assert_eq!(value["cut_to"], json!("2026-11-24T14:45:30Z"));
    }

    #[test]
    fn scopes_are_a_site_or_a_system() {
        assert!(matches!(read_scope("prod"), Ok(Scope::Site(_))));
        assert!(matches!(read_scope("prod/etc"), Ok(Scope::System(_))));
        assert!(read_scope("prod/").is_err() && read_scope("A").is_err());
    }
}
