//! `lifeboat verify`: is what is stored still what was written?

use model::Result;
use policies::show_bytes;
use repository::types::SessionId;
use repository::verify::{Damage, Depth, Report, VerifyOptions, verify};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::names;
use crate::run::Run;
use crate::table::{count, counted};

/// How many items are named per damaged object.
const NAMED_MAX: usize = 20;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read and check every byte
    #[arg(long)]
    deep: bool,
    /// Read and check a part, as in 5%
    #[arg(long, value_name = "PERCENT", conflicts_with = "deep", value_parser = read_percent)]
    sample: Option<f64>,
}

/// Reads `5%` as 0.05.
fn read_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    match number {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err("expected a percentage above 0 and up to 100, as in 5%".to_owned()),
    }
}

impl Args {
    /// Verifies.
    ///
    /// # Errors
    /// Those of the repository; damage is an outcome.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let repository = run.open(&settings).await?;
        let depth = match (self.deep, self.sample) {
            (true, _) => Depth::Deep,
            (false, Some(share)) => Depth::Sample(share),
            (false, None) => Depth::Structure,
        };
        let options = VerifyOptions { depth, named: NAMED_MAX };
        let report = Box::pin(verify(&repository, &options, &run.context)).await?;
        run.progress.end();
        let name = match depth {
            Depth::Deep => "deep",
            Depth::Sample(_) => "sample",
            Depth::Structure => "structure",
        };
        run.output.result(|| text(&report, depth), || value(&report, name))?;
        Ok(if report.damage.is_empty() { Exit::Done } else { Exit::Damaged })
    }
}

fn text(report: &Report, depth: Depth) -> String {
    let mut text = format!(
        "checked {}, {} read: {}, {}, {}\n",
        counted(report.objects, "object"),
        show_bytes(report.read_bytes),
        counted(report.points, "point"),
        counted(report.snapshots, "snapshot"),
        counted(report.items, "item"),
    );
    if report.unknown_objects > 0 {
        let unknown = counted(report.unknown_objects, "object");
        text.push_str(&format!("{unknown} of no known kind, left alone\n"));
    }
    for damage in &report.damage {
        text.push_str(&format!("damaged: {}: {}\n", damage.object, names::line(&damage.what)));
        let reached = damage.items.iter();
        reached.for_each(|(id, path)| {
            text.push_str(&format!("  {id} {}\n", names::escape(path.as_bytes())));
        });
        let more = damage.item_count.saturating_sub(damage.items.len() as u64);
        if more > 0 {
            text.push_str(&format!("  and {} more\n", count(more)));
        }
        let points =
            damage.points.iter().map(|id| format!("{}@{}", id.site, super::points::short(id)));
        let points: Vec<_> = points.collect();
        if !points.is_empty() {
            text.push_str(&format!("  in points {}\n", points.join(" ")));
        }
    }
    text + match (report.damage.is_empty(), depth) {
        (false, _) => "DAMAGED\n",
        (true, Depth::Structure) => "sound; contents were not read (--deep reads them)\n",
        (true, Depth::Sample(_)) => "sound; of the contents a sample was read\n",
        (true, Depth::Deep) => "sound: every byte was read\n",
    }
}

fn value(report: &Report, depth: &str) -> Value {
    json!({
        "depth": depth,
        "is_sound": report.damage.is_empty(),
        "objects": report.objects,
        "read_bytes": report.read_bytes,
        "snapshots": report.snapshots,
        "points": report.points,
        "items": report.items,
        "unknown_objects": report.unknown_objects,
        "damage": report.damage.iter().map(damage_value).collect::<Vec<_>>(),
    })
}

fn damage_value(damage: &Damage) -> Value {
    let item = |(id, path): &(SessionId, String)| json!({ "snapshot": id.to_string(), "path": names::escape(path.as_bytes()) });
    json!({
        "object": damage.object,
        "what": damage.what,
        "items": damage.items.iter().map(item).collect::<Vec<_>>(),
        "item_count": damage.item_count,
        "points": damage.points.iter().map(|id| id.short()).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read() {
        for (text, share) in [("5%", 0.05), ("100%", 1.0), ("0.5", 0.005), ("50 %", 0.5)] {
            assert!((read_percent(text).expect(text) - share).abs() < 1e-12, "{text}");
        }
        for bad in ["0%", "101%", "-5%", "x", "NaN", ""] {
            assert!(read_percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn damage_is_told_with_what_it_reaches() {
        let damage = Damage {
            object: "pack/00/ab".to_owned(),
            what: "a chunk is not what it was".to_owned(),
            items: Vec::new(),
            item_count: 3,
            points: Vec::new(),
        };
        let report = Report { objects: 1, damage: vec![damage], ..Report::default() };
        let shown = text(&report, Depth::Deep);
        assert!(shown.contains("damaged: pack/00/ab: a chunk"), "{shown}");
        assert!(shown.contains("and 3 more") && shown.ends_with("DAMAGED\n"), "{shown}");
        assert_eq!(value(&report, "deep")["is_sound"], json!(false));
        for (depth, end) in [
            (Depth::Structure, "(--deep reads them)\n"),
            (Depth::Sample(0.1), "a sample was read\n"),
            (Depth::Deep, "every byte was read\n"),
        ] {
            assert!(text(&Report::default(), depth).ends_with(end), "{depth:?}");
        }
    }
}
