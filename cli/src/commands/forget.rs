//! `lifeboat forget`: says that states are no longer wanted. The collector frees what only they need.

use model::Result;
use operations::forget::{Forgotten, forget};
use operations::select;
use policies::describe_time;
use serde_json::{Value, json};

use super::refuse;
use crate::exit::Exit;
use crate::run::{Run, SHORT_ID};
use crate::table::counted;

/// Arguments of `forget`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Points (SITE@WHEN), or snapshots of one system (SITE/SYSTEM@WHEN)
    #[arg(required = true)]
    selectors: Vec<String>,
    /// Print what would be forgotten, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// What a selector meant before anything was forgotten.
struct Chosen {
    selector: policies::Selector,
    id: String,
    text: String,
    time: String,
}

impl Args {
    /// Forgets. All selectors are looked up before the first is carried out, so that `latest~1 latest~2`
    /// means what it says.
    ///
    /// # Errors
    /// `NotFound`; `Denied` where a point is pinned; `Conflict`; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let repository = run.open(&settings).await?;
        let mut chosen = Vec::with_capacity(self.selectors.len());
        for text in &self.selectors {
            let mut selector = run.selector(text, &settings)?;
            if !selector.path.is_root() {
                return Err(refuse(
                    "forget",
                    text,
                    "a state is forgotten as a whole: leave the path out",
                ));
            }
            let host_of = &app::systems::host_of;
            let found = select::resolve(&repository, &selector, host_of, &run.context).await?;
            selector.site = Some(found.site.clone());
            selector.when = policies::When::Id(found.id.clone());
            let short: String = found.id.chars().take(SHORT_ID).collect();
            let system = selector.system.as_ref().map(|one| format!("/{one}")).unwrap_or_default();
            let time = describe_time(found.chosen_at, &run.zone);
            let text = format!("{}{system}@{short}, {time}", found.site);
            chosen.push(Chosen { selector, id: found.id, text, time: Run::utc(found.chosen_at) });
        }
        let mut done = Vec::with_capacity(chosen.len());
        if !self.dry_run {
            for one in &chosen {
                done.push(forget(&repository, &one.selector, &run.context).await?);
            }
        }
        let text = || self.text(&chosen, &done);
        let value = || {
            let all = chosen.iter().enumerate().map(|(at, one)| value(one, done.get(at)));
            json!({ "is_dry_run": self.dry_run, "forgotten": all.collect::<Vec<_>>() })
        };
        run.output.result(text, value)?;
        Ok(Exit::Done)
    }

    fn text(&self, chosen: &[Chosen], done: &[Forgotten]) -> String {
        if self.dry_run {
            return chosen.iter().map(|one| format!("would forget {}\n", one.text)).collect();
        }
        let line = |(one, forgotten): (&Chosen, &Forgotten)| {
            let gone = counted(forgotten.snapshots.len() as u64, "snapshot");
            let kept = match forgotten.kept.len() as u64 {
                0 => String::new(),
                kept => format!(", {} still needed", counted(kept, "snapshot")),
            };
            format!("forgot {} ({gone}{kept})\n", one.text)
        };
        let lines: String = chosen.iter().zip(done).map(line).collect();
        let is_last = done.last().is_some_and(|last| last.points_left == 0);
        let left = if is_last { "no point of the site is left\n" } else { "" };
        lines + left + "space is freed by the collector\n"
    }
}

fn value(chosen: &Chosen, forgotten: Option<&Forgotten>) -> Value {
    json!({
        "site": chosen.selector.site.as_ref().map(|site| site.as_str()),
        "system": chosen.selector.system.as_ref().map(|system| system.as_str()),
        "id": chosen.id,
        "time": chosen.time,
        "snapshots_forgotten": forgotten.map(|one| one.snapshots.len()),
        "snapshots_kept": forgotten.map(|one| one.kept.len()),
        "points_left": forgotten.map(|one| one.points_left),
    })
}
