//! `lifeboat repo repair`: damage is mended from parity, from a second copy, from what is said twice.

use std::time::Duration;

use app::repositories::{attach, attach_source, open_options};
use model::{Context, ErrorKind, Result};
use operations::sync::JOBS;
use policies::{show_bytes, show_duration};
use repository::Repository;
use repository::repair::{
    Left, Means, Mended, RepairOptions, Report, mend_entrance, repair, repair_without_key,
};
use repository::store::{Attach, Store};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::names;
use crate::run::Run;
use crate::table::counted;

/// How many items are named per damaged object that is left.
const NAMED_MAX: usize = 20;

/// Arguments of `repo repair`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A second copy of the same repository, which is only read
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Say what could be mended, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Mend what can be mended without a key: packs
    #[arg(long)]
    without_key: bool,
}

impl Args {
    /// Repairs.
    ///
    /// # Errors
    /// Those of the repository; what is still damaged is an outcome.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let context: &Context = &run.context;
        let from = self.from.as_deref().map(|url| attach_source(&settings, Some(url), context));
        let from = from.transpose()?;
        let options = RepairOptions {
            is_dry_run: self.dry_run,
            named: NAMED_MAX,
            jobs: JOBS,
            memory_bytes: open_options(&settings).memory_bytes,
        };
        let started = context.clock.elapsed();
        let report = if self.without_key {
            run.listen();
            let store = attach(&settings, Attach::Existing, context)?;
            Box::pin(repair_without_key(&store, from.as_ref(), &options, context)).await?
        } else {
            let (repository, entrance) = self.open(run, &settings, from.as_ref()).await?;
            let mut report = match repository {
                Some(repository) => {
                    Box::pin(repair(&repository, from.as_ref(), &options, context)).await?
                }
                // What comes next can only be seen once it opens.
                None => Report { is_dry_run: true, ..Report::default() },
            };
            report.mended.splice(0..0, entrance);
            report
        };
        run.progress.end();
        let elapsed = context.clock.elapsed().saturating_sub(started);
        let told = || text(&report, elapsed, self.without_key);
        run.output.result(told, || value(&report, elapsed))?;
        Ok(if report.is_whole() { Exit::Done } else { Exit::Damaged })
    }

    /// Opens the repository; where it does not open and a second copy does, mends what it is opened by.
    async fn open(
        &self,
        run: &Run,
        settings: &app::settings::Settings,
        from: Option<&Store>,
    ) -> Result<(Option<Repository>, Vec<Mended>)> {
        let unlock = run.key(settings)?;
        run.listen();
        let (context, opened) = (&run.context, open_options(settings));
        let store = attach(settings, Attach::Existing, context)?;
        let error = match Repository::open(store.clone(), &unlock, opened.clone(), context).await {
            Ok(repository) => return Ok((Some(repository), Vec::new())),
            Err(error) => error,
        };
        let is_entrance = matches!(
            error.kind(),
            ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::WrongKey | ErrorKind::Unsupported
        );
        let Some(from) = from.filter(|_| is_entrance) else { return Err(error) };
        let Ok(second) = Repository::open(from.clone(), &unlock, opened.clone(), context).await
        else {
            return Err(error);
        };
        let mended = mend_entrance(&store, &second, self.dry_run, context).await?;
        if mended.is_empty() {
            return Err(error);
        }
        if self.dry_run {
            return Ok((None, mended));
        }
        Ok((Some(Repository::open(store, &unlock, opened, context).await?), mended))
    }
}

fn means(by: Means) -> &'static str {
    match by {
        Means::Parity => "parity",
        Means::Blocks => "blocks",
        Means::Misplaced => "misplaced",
        Means::Copy => "copy",
        Means::Contents => "contents",
    }
}

fn explained(by: Means) -> &'static str {
    match by {
        Means::Parity => "by its parity",
        Means::Blocks => "its table of contents made again from its blocks",
        Means::Misplaced => "its bytes stood in another place",
        Means::Copy => "from the second copy",
        Means::Contents => "made again from the contents of packs",
    }
}

fn text(report: &Report, elapsed: Duration, without_key: bool) -> String {
    let mut lines = vec![format!(
        "checked {}, {} read",
        counted(report.objects, "object"),
        show_bytes(report.read_bytes)
    )];
    let did = if report.is_dry_run { "would mend" } else { "mended" };
    for Mended { object, by, kept } in &report.mended {
        lines.push(format!("{did}: {object}: {}", explained(*by)));
        lines.extend(kept.iter().map(|kept| format!("  what stood there is kept as {kept}")));
    }
    if let Some(copied) = report.copied.filter(|copied| copied.objects > 0) {
        let came = if report.is_dry_run { "would come" } else { "came" };
        let (objects, bytes) = (counted(copied.objects, "object"), show_bytes(copied.bytes));
        lines.push(format!("{objects}, {bytes}, that were missing {came} from the second copy"));
    }
    if report.indexed > 0 {
        lines.push(format!(
            "the index knows {} again that it had lost",
            counted(report.indexed, "place")
        ));
    }
    for Left { damage, why } in &report.left {
        lines.push(format!("still damaged: {}: {}", damage.object, names::line(&damage.what)));
        lines.extend(why.iter().map(|why| format!("  not mended: {}", names::line(why))));
        let reached = damage.items.iter();
        lines
            .extend(reached.map(|(id, path)| format!("  {id} {}", names::escape(path.as_bytes()))));
    }
    let named = |path: &String| report.left.iter().any(|left| left.damage.object == *path);
    let others = report.unmended.iter().filter(|(path, _)| !named(path));
    lines.extend(others.map(|(path, why)| format!("not mended: {path}: {}", names::line(why))));
    if report.marked > 0 {
        let (marked, are) =
            (counted(report.marked, "pack"), if report.marked == 1 { "is" } else { "are" });
        lines.push(format!(
            "{marked} {are} lost: the next backup stores again what the source still has of them"
        ));
    }
    lines.push(match (report.is_whole(), report.is_dry_run, without_key) {
        (false, _, _) => "DAMAGED".to_owned(),
        (true, true, _) => "all would be whole".to_owned(),
        (true, false, false) => "all is whole".to_owned(),
        (true, false, true) => {
            "all packs are whole; what is sealed can be checked with a key only".to_owned()
        }
    });
    lines.push(format!("took {}", show_duration(elapsed)));
    lines.join("\n") + "\n"
}

fn value(report: &Report, elapsed: Duration) -> Value {
    let mended = report.mended.iter().map(
        |mended| json!({ "object": mended.object, "by": means(mended.by), "kept": mended.kept }),
    );
    let left = report.left.iter().map(|Left { damage, why }| {
        json!({
            "object": damage.object,
            "what": damage.what,
            "why": why,
            "item_count": damage.item_count,
            "items": damage.items.iter().map(|(id, path)| {
                json!({ "snapshot": id.to_string(), "path": names::escape(path.as_bytes()) })
            }).collect::<Vec<_>>(),
            "points": damage.points.iter().map(|id| id.short()).collect::<Vec<_>>(),
        })
    });
    let copied = report.copied.map(|all| json!({ "objects": all.objects, "bytes": all.bytes }));
    json!({
        "is_dry_run": report.is_dry_run,
        "is_whole": report.is_whole(),
        "objects": report.objects,
        "read_bytes": report.read_bytes,
        "mended": mended.collect::<Vec<_>>(),
        "indexed_entries": report.indexed,
        "copied": copied,
        "lost_packs": report.marked,
        "unmended": report.unmended,
        "left": left.collect::<Vec<_>>(),
        "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use repository::verify::Damage;

    use super::*;

    fn report() -> Report {
        let mended = |object: &str, by, kept: Option<&str>| Mended {
            object: object.to_owned(),
            by,
            kept: kept.map(str::to_owned),
        };
        let damage = Damage {
            object: "pack/00/b".to_owned(),
            what: "it is not there".to_owned(),
            items: Vec::new(),
            item_count: 3,
            points: Vec::new(),
        };
        let why = "of no copy".to_owned();
        Report {
            objects: 5,
            mended: vec![
                mended("pack/00/a", Means::Parity, Some("damaged/pack/00/a")),
                mended("index/0/x", Means::Contents, None),
            ],
            marked: 1,
            unmended: [("pack/00/b".to_owned(), why.clone())].into(),
            left: vec![Left { damage, why: Some(why) }],
            ..Report::default()
        }
    }

    #[test]
    fn all_that_matters_is_told() {
        let shown = text(&report(), Duration::from_secs(1), false);
        for line in [
            "mended: pack/00/a: by its parity",
            "  what stood there is kept as damaged/pack/00/a",
            "mended: index/0/x: made again",
            "still damaged: pack/00/b: it is not there",
            "  not mended: of no copy",
            "1 pack is lost: the next backup",
            "DAMAGED",
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
        let value = value(&report(), Duration::from_secs(1));
        assert_eq!(
            (&value["is_whole"], &value["mended"][0]["by"]),
            (&json!(false), &json!("parity"))
        );
        let whole = Report { is_dry_run: true, ..Report::default() };
        assert!(text(&whole, Duration::ZERO, false).contains("all would be whole"));
        let whole = Report::default();
        assert!(text(&whole, Duration::ZERO, true).contains("with a key only"));
    }
}
