//! `lifeboat follow`: stores changes as they happen, until it is interrupted.

use app::systems::{self, Use};
use futures::future::join_all;
use model::{Result, SystemName};
use operations::follow::{FollowOptions, Followed, follow};
use repository::types::StreamName;
use serde_json::{Value, json};

use super::refuse;
use crate::exit::Exit;
use crate::names;
use crate::output;
use crate::run::Run;
use crate::table::counted;

/// Arguments of `follow`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Systems of the policy [default: all that can be followed]
    systems: Vec<SystemName>,
    /// What this host is called [env: LIFEBOAT_HOST] [default: as the kernel says]
    #[arg(long)]
    host: Option<String>,
}

impl Args {
    /// Follows until an interrupt, which is its good end.
    ///
    /// # Errors
    /// `NotFound` without a policy; `Invalid`; those of the repository. A system that fails ends alone.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let file = settings.policy()?;
        let host = self.host.clone().map_or_else(|| run.environment.host(), Ok)?;
        let mut built = systems::build(file, &host, Use::Followed)?;
        built.retain(|one| one.system.facts().log.is_some());
        if let Some(unknown) = self.systems.iter().find(|n| built.iter().all(|one| one.name != **n))
        {
            let why = "the policy has no such system that can be followed";
            return Err(refuse("follow", unknown.as_str(), why));
        }
        built.retain(|one| self.systems.is_empty() || self.systems.contains(&one.name));
        if built.is_empty() {
            return Err(refuse("follow", "", "the policy holds nothing that can be followed"));
        }
        let repository = run.open(&settings).await?;
        let capture = super::backup::capture_options(host, false, &settings, run);
        let options = FollowOptions::new(capture);
        let names: Vec<_> = built.iter().map(|one| one.name.to_string()).collect();
        run.progress.note(&format!("following {}; an interrupt ends it", names.join(", ")));
        let outcomes = join_all(built.iter().map(async |one| {
            let stream = StreamName { site: file.policy.site.clone(), system: one.name.clone() };
            let system = one.system.as_ref();
            let followed =
                Box::pin(follow(&repository, &stream, system, &options, &run.context)).await;
            if let Err(error) = &followed {
                run.context.monitor.problem(error);
            }
            (one.name.to_string(), followed)
        }));
        let outcomes = outcomes.await;
        run.progress.end();
        let text = || outcomes.iter().map(outcome_text).collect();
        let value = || json!({ "systems": outcomes.iter().map(outcome_value).collect::<Vec<_>>() });
        run.output.result(text, value)?;
        let is_whole = outcomes.iter().all(|(_, outcome)| outcome.is_ok());
        Ok(if is_whole { Exit::Done } else { Exit::Partial })
    }
}

fn outcome_text((name, outcome): &(String, Result<Followed>)) -> String {
    match outcome {
        Ok(followed) => format!(
            "{name}: {}, {}, {}\n",
            counted(followed.captures, "capture"),
            counted(followed.batches, "change set"),
            counted(followed.heartbeats, "heartbeat"),
        ),
        Err(error) => format!("{name}: failed: {}\n", names::line(&error.chain())),
    }
}

fn outcome_value((name, outcome): &(String, Result<Followed>)) -> Value {
    match outcome {
        Ok(followed) => json!({
            "system": name,
            "captures": followed.captures,
            "batches": followed.batches,
            "heartbeats": followed.heartbeats,
            "covered_upto": followed.covered_upto.map(Run::utc),
        }),
        Err(error) => json!({
            "system": name,
            "error": { "kind": output::kind_name(error.kind()), "message": error.chain() },
        }),
    }
}
