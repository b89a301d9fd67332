//! `lifeboat repo sync`: a second copy of the repository, made without a key.

use std::time::Duration;

use app::repositories::{attach_copy, attach_source, open_options};
use model::{Context, Result};
use operations::sync::{JOBS, SyncPlan, Synced, sync};
use policies::{parse_bytes, show_bytes, show_duration, show_time};
use repository::Repository;
use repository::replicate::{Amount, Fault, Lag, Report};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::names;
use crate::run::Run;
use crate::table::{count, counted, lay_out};

/// Arguments of `repo sync`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the copy is, or is to be: an empty place, or a copy of the same repository
    #[arg(long, value_name = "URL")]
    to: String,
    /// What is copied [default: the repository]
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Copy back, too, what only the copy has
    #[arg(long)]
    both: bool,
    /// Say what would be copied, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// How fast it may be, as in 10MiB/s
    #[arg(long, value_name = "RATE", value_parser = read_rate)]
    limit: Option<u64>,
    /// How many objects are copied at the same time [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

/// Reads `10 MiB/s`.
fn read_rate(text: &str) -> Result<u64, String> {
    let text = text.trim();
    match parse_bytes(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err("nothing is ever copied at that rate".to_owned()),
        rate => Ok(rate),
    }
}

/// Where from and where to, as people call them.
type Ends<'a> = (&'a str, &'a str);

impl Args {
    /// Copies.
    ///
    /// # Errors
    /// `NotFound` where there is nothing to copy; `Conflict` where something else stands at the other
    /// end; those of the stores.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        run.listen();
        let context: &Context = &run.context;
        let started = context.clock.elapsed();
        let from = attach_source(&settings, self.from.as_deref(), context)?;
        // No folder is made for a copy of what is not there.
        Repository::find(&from).await?;
        let to = attach_copy(&settings, &self.to, self.dry_run, context)?;
        let plan = SyncPlan {
            is_dry_run: self.dry_run,
            is_both_ways: self.both,
            jobs: self.jobs.map_or(JOBS, usize::from),
            memory_bytes: open_options(&settings).memory_bytes,
            bytes_per_second: self.limit,
        };
        let synced = Box::pin(sync(&from, &to, &plan, context)).await?;
        run.progress.end();
        let elapsed = context.clock.elapsed().saturating_sub(started);
        let ends = (from.name(), to.name());
        let told = || text(&synced, ends, elapsed, &|time| show_time(time, &run.zone));
        run.output.result(told, || value(&synced, ends, elapsed))?;
        Ok(match (synced.is_damaged(), synced.is_whole()) {
            (true, _) => Exit::Damaged,
            (false, true) => Exit::Done,
            (false, false) => Exit::Partial,
        })
    }
}

/// Pairs the directions with their ends.
fn directions<'s>(synced: &'s Synced, (from, to): Ends<'s>) -> Vec<(Ends<'s>, &'s Report)> {
    [(from, to), (to, from)].into_iter().zip(synced.directions()).collect()
}

fn amount(amount: Amount) -> String {
    format!("{}, {}", counted(amount.objects, "object"), show_bytes(amount.bytes))
}

fn text(
    synced: &Synced,
    ends: Ends<'_>,
    elapsed: Duration,
    show_time: &dyn Fn(model::Timestamp) -> String,
) -> String {
    let mut lines = Vec::new();
    for (ends, report) in directions(synced, ends) {
        lines.extend(done(ends, report));
        lines.extend(wrong(report));
        lines.extend(report.lag.iter().map(|lag| lag_line(lag, show_time)));
    }
    if !synced.forth.is_dry_run {
        lines.push(format!("took {}", show_duration(elapsed)));
    }
    lines.join("\n") + "\n"
}

/// Says what was copied, or would be.
fn done((from, to): Ends<'_>, report: &Report) -> Vec<String> {
    let (did, all) = match report.is_dry_run {
        true => ("would copy", report.missing()),
        false => ("copied", report.copied()),
    };
    let there = amount(report.there());
    let mut lines = vec![format!("{from} to {to}: {did} {}; {there} were there", amount(all))];
    let of_kind = |kind: &repository::replicate::KindReport| {
        if report.is_dry_run { kind.missing } else { kind.copied }
    };
    let kinds = report.kinds.iter().map(|(kind, told)| (kind.name(), of_kind(told)));
    let kinds = kinds.filter(|(_, amount)| amount.objects > 0);
    let rows: Vec<_> = kinds
        .map(|(name, amount)| {
            vec![name.to_owned(), count(amount.objects), show_bytes(amount.bytes)]
        })
        .collect();
    if !rows.is_empty() {
        let header = ["KIND", "OBJECTS", "SIZE"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
        lines.push(lay_out(&rows, &[1, 2]).trim_end().to_owned());
    }
    lines
}

fn fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::DamagedHere => "damaged_at_source",
        Fault::DamagedThere => "damaged_at_destination",
        Fault::Conflict => "conflict",
    }
}

/// Says what was not copied, and why.
fn wrong(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, problem) in &report.problems {
        let what = match problem.fault {
            Fault::DamagedHere => "DAMAGED at the source, not copied",
            Fault::DamagedThere => {
                "DAMAGED at the destination, left alone: delete it there, copy again"
            }
            Fault::Conflict if path.starts_with("log/") => {
                "CONFLICT, both left alone, and no more of this log copied"
            }
            Fault::Conflict => "CONFLICT, both left alone",
        };
        lines.push(format!("{what}: {path}: {}", names::line(&problem.why)));
    }
    for slot in &report.keys_only_there {
        lines.push(format!(
            "key {slot} opens the destination only: if it was removed, remove it there as well \
             (`lifeboat key remove`)"
        ));
    }
    if !report.unknown.is_empty() {
        let names: Vec<_> = report.unknown.iter().map(|name| names::line(name)).collect();
        lines.push(format!("not copied, of no known kind: {}", names.join(", ")));
    }
    if !report.is_settled {
        lines.push(
            "a collection at the destination has not ended: let it end (`lifeboat repo gc`), then \
             copy again"
                .to_owned(),
        );
    }
    lines
}

fn lag_line(lag: &Lag, show_time: &dyn Fn(model::Timestamp) -> String) -> String {
    let (site, newest) = (&lag.site, show_time(lag.newest_here));
    let missing = counted(lag.points_missing, "point");
    match lag.behind() {
        None => format!("{site}: no point is there yet; the newest here is of {newest}"),
        Some(_) if lag.points_missing == 0 => {
            format!("{site}: up to date, to the point of {newest}")
        }
        Some(behind) => {
            format!(
                "{site}: {} behind the point of {newest}, lacks {missing}",
                show_duration(behind)
            )
        }
    }
}

fn amount_value(amount: Amount) -> Value {
    json!({ "objects": amount.objects, "bytes": amount.bytes })
}

fn value(synced: &Synced, ends: Ends<'_>, elapsed: Duration) -> Value {
    let directions = directions(synced, ends);
    json!({
        "id": synced.forth.repository.to_string(),
        "is_dry_run": synced.forth.is_dry_run,
        "directions": directions
            .iter()
            .map(|(ends, report)| direction_value(*ends, report))
            .collect::<Vec<_>>(),
        "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}

fn direction_value((from, to): Ends<'_>, report: &Report) -> Value {
    let kinds = report.kinds.iter().map(|(kind, told)| {
        json!({
            "kind": kind.name(),
            "missing": amount_value(told.missing),
            "copied": amount_value(told.copied),
            "there": amount_value(told.there),
            "only_there": told.only_there,
        })
    });
    let problems = report.problems.iter().map(|(path, problem)| {
        json!({ "object": path, "fault": fault_name(problem.fault), "why": problem.why })
    });
    let lag = report.lag.iter().map(|lag| {
        let behind_ms = lag.behind().map(|behind| u64::try_from(behind.as_millis()).ok());
        json!({
            "site": lag.site.to_string(),
            "newest_here": policies::to_jiff(lag.newest_here).to_string(),
            "newest_there": lag.newest_there.map(|time| policies::to_jiff(time).to_string()),
            "behind_ms": behind_ms,
            "points_missing": lag.points_missing,
        })
    });
    json!({
        "from": from,
        "to": to,
        "missing": amount_value(report.missing()),
        "copied": amount_value(report.copied()),
        "there": amount_value(report.there()),
        "passes": report.passes,
        "is_settled": report.is_settled,
        "kinds": kinds.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
        "unknown": report.unknown,
        "keys_only_there": report.keys_only_there,
        "lag": lag.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::Timestamp;
    use repository::replicate::{Kind, KindReport, Problem};
    use repository::types::RepositoryId;

    use super::*;

    fn report() -> Report {
        let copied = Amount { objects: 2, bytes: 2048 };
        let kind = KindReport { copied, missing: copied, ..KindReport::default() };
        let problem = Problem { fault: Fault::DamagedHere, why: "its bytes".to_owned() };
        let at = Timestamp::from_unix_seconds;
        Report {
            repository: RepositoryId([1; 16]),
            is_dry_run: false,
            kinds: BTreeMap::from([(Kind::Data, kind), (Kind::Meta, KindReport::default())]),
            problems: BTreeMap::from([("pack/00/x".to_owned(), problem)]),
            passes: 1,
            is_settled: false,
            unknown: vec!["novelty".to_owned()],
            keys_only_there: vec!["0123".to_owned()],
            lag: vec![Lag {
                site: "prod".parse().expect("site"),
                newest_here: at(100),
                newest_there: Some(at(40)),
                points_missing: 2,
            }],
        }
    }

    #[test]
    fn all_that_matters_is_told() {
        let synced = Synced { forth: report(), back: Some(report()) };
        let shown = text(&synced, ("/a", "/b"), Duration::from_secs(1), &|_| "noon".to_owned());
        for line in [
            "/a to /b: copied 2 objects, 2.0 KiB; 0 objects, 0 B were there",
            "/b to /a: copied",
            "pack        2  2.0 KiB",
            "DAMAGED at the source, not copied: pack/00/x: its bytes",
            "key 0123 opens the destination only",
            "of no known kind: novelty",
            "has not ended",
            "prod: 1m 0s behind the point of noon, lacks 2 points",
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
        assert!(!shown.contains("meta"), "{shown}");
        let value = value(&synced, ("/a", "/b"), Duration::from_secs(1));
        let direction = &value["directions"][1];
        assert_eq!(
            (&direction["from"], &direction["copied"]["bytes"]),
            (&json!("/b"), &json!(2048))
        );
        assert_eq!(direction["problems"][0]["fault"], "damaged_at_source");
        assert_eq!(direction["lag"][0]["behind_ms"], 60_000);
    }

    #[test]
    fn rates_are_read_with_and_without_their_second() {
        assert_eq!(read_rate("10 MiB/s"), Ok(10 << 20));
        assert_eq!(read_rate("1kB"), Ok(1000));
        for bad in ["0B", "10", "10MiB/m", "/s"] {
            read_rate(bad).expect_err(bad);
        }
    }
}
