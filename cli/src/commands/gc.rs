//! `lifeboat repo gc`: frees what nothing needs any more, and says what is kept and why.

use std::time::Duration;

use model::Result;
use operations::collect::{CollectPlan, PATIENCE, collect};
use policies::{parse_duration, show_bytes};
use repository::gc::{Amount, Gone, Report};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::run::Run;
use crate::table::{count, counted};

/// Arguments of `repo gc`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Say what would be freed, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// How long a capture that has not ended is waited for; it begins again then [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    patience: Option<Duration>,
    /// How long what was forgotten is left alone [default: not at all]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    grace: Option<Duration>,
}

impl Args {
    /// Collects garbage.
    ///
    /// # Errors
    /// `Corrupt` where it cannot be told what is needed; `Denied` where this account may not delete;
    /// those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let repository = run.open(&settings).await?;
        let plan = CollectPlan {
            is_dry_run: self.dry_run,
            patience: self.patience.unwrap_or(PATIENCE),
            grace: self.grace.unwrap_or_default(),
            scratch_folder: super::backup::scratch_folder(&settings, run),
        };
        let report = collect(&repository, &plan, &run.context).await?;
        run.output.result(|| text(&report), || value(&report))?;
        Ok(if report.lost == 0 { Exit::Done } else { Exit::Damaged })
    }
}

fn packs(amount: Amount) -> String {
    format!("{} in {}", show_bytes(amount.bytes), counted(amount.packs, "pack"))
}

/// Says why snapshots that are forgotten are kept.
fn reason(gone: Gone) -> (&'static str, &'static str) {
    match gone {
        Gone::Held => ("held", "a hold covers them"),
        Gone::InGrace => ("in_grace", "forgotten only lately"),
        Gone::NamedByPoint => ("named_by_point", "a point names them"),
        Gone::BaseOfLog => ("base_of_log", "changes are logged over them"),
        Gone::Unknown => ("unknown", "a point or a log cannot be read that may need them"),
        Gone::Unsigned => ("unsigned", "nobody known has signed the forget"),
    }
}

fn text(report: &Report) -> String {
    let lines: Vec<String> = done(report).into_iter().chain(kept(report)).collect();
    lines.join("\n") + "\n"
}

/// Says what was freed, or would be.
fn done(report: &Report) -> Vec<String> {
    let would = if report.is_dry_run { "would free" } else { "freed" };
    let mut lines = vec![format!("{would} {}", packs(report.freed))];
    let rewritten = packs(report.rewritten);
    if report.rewritten.packs > 0 && report.is_dry_run {
        lines.push(format!("would rewrite {rewritten}, of which less than half is needed"));
    } else if report.rewritten.packs > 0 {
        lines.push(format!("rewrote {rewritten} into {}", packs(report.rewritten_into)));
    }
    let left = report.leftovers;
    let deleted = if report.is_dry_run { "would delete" } else { "deleted" };
    let others = [
        (left.snapshots, deleted, "forgotten snapshot"),
        (left.points, deleted, "forgotten point"),
        (left.logs, deleted, "superfluous log object"),
        (left.heartbeats, deleted, "old heartbeat"),
        (left.probes, deleted, "leftover probe"),
        (report.fenced.len() as u64, "closed", "session that did not end"),
        (report.abandoned, "forgot", "checkpoint that nobody went on with"),
    ];
    let others = others.into_iter().filter(|(number, _, _)| *number > 0);
    lines.extend(others.map(|(number, did, noun)| match noun.split_once(" that ") {
        Some((noun, what)) => format!("{did} {} that {what}", counted(number, noun)),
        None => format!("{did} {}", counted(number, noun)),
    }));
    lines
}

/// Says what is kept and why.
fn kept(report: &Report) -> Vec<String> {
    let needed = packs(report.needed);
    let mut lines =
        vec![format!("kept {needed}: {} need them", counted(report.snapshots, "snapshot"))];
    if report.unneeded_bytes > 0 {
        lines.push(format!("  about {} of it is not needed", show_bytes(report.unneeded_bytes)));
    }
    for (amount, why) in [
        (report.young, "a session is at work that may need them"),
        (report.unknown, "what is in them is not known"),
    ] {
        if amount.packs > 0 {
            lines.push(format!("kept {}: {why}", packs(amount)));
        }
    }
    for (gone, number) in &report.held {
        let snapshots = counted(*number, "forgotten snapshot");
        lines.push(format!("kept {snapshots}: {}", reason(*gone).1));
    }
    if report.unknown_objects > 0 {
        let objects = counted(report.unknown_objects, "object");
        lines.push(format!("kept {objects} of no known name among the packs"));
    }
    if report.lost > 0 {
        let lost = count(report.lost);
        lines.push(format!(
            "DAMAGED: {lost} that is needed is nowhere to be found (`lifeboat verify`)"
        ));
    }
    lines
}

fn amount(amount: Amount) -> Value {
    json!({ "packs": amount.packs, "bytes": amount.bytes })
}

fn value(report: &Report) -> Value {
    let held = report.held.iter().map(|(gone, number)| (reason(*gone).0.to_owned(), json!(number)));
    json!({
        "is_dry_run": report.is_dry_run,
        "generations": report.generations,
        "snapshots": report.snapshots,
        "nodes_read": report.nodes_read,
        "total": amount(report.total),
        "freed": amount(report.freed),
        "rewritten": amount(report.rewritten),
        "rewritten_into": amount(report.rewritten_into),
        "kept": {
            "needed": amount(report.needed),
            "unneeded_bytes": report.unneeded_bytes,
            "young": amount(report.young),
            "unknown": amount(report.unknown),
            "unknown_objects": report.unknown_objects,
            "forgotten_snapshots": held.collect::<serde_json::Map<_, _>>(),
        },
        "lost": report.lost,
        "fenced": report.fenced.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "abandoned_checkpoints": report.abandoned,
        "segments_replaced": report.segments_replaced,
        "deleted": {
            "snapshots": report.leftovers.snapshots,
            "points": report.leftovers.points,
            "logs": report.leftovers.logs,
            "heartbeats": report.leftovers.heartbeats,
            "probes": report.leftovers.probes,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_told_with_its_reason() {
        let mut report = Report {
            freed: Amount { packs: 2, bytes: 2048 },
            needed: Amount { packs: 1, bytes: 1024 },
            young: Amount { packs: 1, bytes: 1 },
            snapshots: 3,
            lost: 1,
            ..Report::default()
        };
        report.held.insert(Gone::NamedByPoint, 2);
        let shown = text(&report);
        for line in [
            "freed 2.0 KiB in 2 packs",
            "in 1 pack: 3 snapshots need them",
            "a session is at work",
            "kept 2 forgotten snapshots: a point names them",
            "DAMAGED: 1 that",
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
        report.is_dry_run = true;
        assert!(text(&report).starts_with("would free "));
        assert_eq!(value(&report)["kept"]["forgotten_snapshots"]["named_by_point"], json!(2));
    }
}
