//! `lifeboat hold`: what is kept whatever retention says, for whom and why.

use model::{Context, Result};
use operations::select;
use policies::{parse_time_ahead, show_time};
use repository::Repository;
use repository::hold::{Hold, HoldRequest, HoldScope};
use repository::types::{HoldId, StreamName};
use serde_json::{Value, json};

use super::refuse;
use crate::exit::Exit;
use crate::names;
use crate::run::{Run, SHORT_ID};
use crate::table::lay_out;

/// Arguments of `hold`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Keep something whatever retention says
    Add {
        /// SITE or SITE/SYSTEM (also what comes), SITE@WHEN (a point), SITE/SYSTEM@WHEN (a snapshot)
        scope: String,
        /// Why
        #[arg(long)]
        why: String,
        /// Who wants it [default: the user and the host]
        #[arg(long)]
        who: Option<String>,
        /// When it ends by itself: a date, or how far ahead ("90 days") [default: when it is released]
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// List the holds that are in force
    List {
        /// Also those that ended
        #[arg(long)]
        all: bool,
    },
    /// End a hold
    Release {
        /// Its id, or the beginning of it
        id: String,
        /// Why
        #[arg(long)]
        why: String,
        /// Who wants it [default: the user and the host]
        #[arg(long)]
        who: Option<String>,
    },
}

impl Args {
    /// Carries it out.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        match &self.action {
            Action::Add { scope, why, who, until } => {
                let until = until.as_deref();
                let until = until.map(|text| parse_time_ahead(text, run.now(), &run.zone));
                let (until, who) = (until.transpose()?, somebody(who.as_ref(), run)?);
                let repository = run.open(&settings).await?;
                let (scope, snapshots) = if scope.contains('@') {
                    self.state(scope, &repository, &settings, run).await?
                } else {
                    (named_scope(scope)?, Vec::new())
                };
                let request = HoldRequest { scope, snapshots, who, why: why.clone(), until };
                let hold = repository.add_hold(request, &run.context).await?;
                show(&[hold], Some("added"), run)
            }
            Action::List { all } => {
                let mut holds = run.open(&settings).await?.all_holds().await?;
                holds.retain(|hold| *all || hold.is_in_force(run.now()));
                show(&holds, None, run)
            }
            Action::Release { id, why, who } => {
                let who = somebody(who.as_ref(), run)?;
                let repository = run.open(&settings).await?;
                let id = choose(&repository, id, &run.context).await?;
                let hold = repository.release_hold(id, &who, why, &run.context).await?;
                show(&[hold], Some("released"), run)
            }
        }
    }

    /// Finds the point or the snapshot that a selector means.
    async fn state(
        &self,
        text: &str,
        repository: &Repository,
        settings: &app::settings::Settings,
        run: &Run,
    ) -> Result<(HoldScope, Vec<repository::types::SessionId>)> {
        let found = run.resolve(text, repository, settings).await?;
        if let Some(point) = found.point {
            let snapshots = point.entries.iter().filter_map(|entry| entry.snapshot.clone());
            return Ok((HoldScope::Point(point.id), snapshots.collect()));
        }
        match found.systems.as_slice() {
            [only] if matches!(only.items, select::Items::Stored(_)) => {
                Ok((HoldScope::Snapshot(only.snapshot.id.clone()), Vec::new()))
            }
            _ => Err(refuse(
                "hold state",
                text,
                "a state between two captures is kept by a hold on its system: leave the time out",
            )),
        }
    }
}

/// Reads `SITE` or `SITE/SYSTEM`.
fn named_scope(text: &str) -> Result<HoldScope> {
    match text.split_once('/') {
        None => Ok(HoldScope::Site(text.parse()?)),
        Some((site, system)) => {
            let stream = StreamName { site: site.parse()?, system: system.parse()? };
            Ok(HoldScope::System(stream))
        }
    }
}

fn somebody(who: Option<&String>, run: &Run) -> Result<String> {
    if let Some(who) = who {
        return Ok(who.clone());
    }
    let host = run.environment.host()?;
    Ok(match run.environment.text("USER")?.filter(|user| !user.is_empty()) {
        Some(user) => format!("{user} at {host}"),
        None => host,
    })
}

async fn choose(repository: &Repository, id: &str, context: &Context) -> Result<HoldId> {
    context.check("choose hold")?;
    let holds = repository.all_holds().await?;
    let mut fitting = holds.iter().filter(|hold| hold.id.to_string().starts_with(id));
    match (fitting.next(), fitting.next()) {
        (Some(hold), None) => Ok(hold.id),
        (None, _) => Err(refuse("choose hold", id, "no hold has this id")),
        (Some(_), Some(_)) => {
            Err(refuse("choose hold", id, "several holds begin so: type more digits"))
        }
    }
}

fn show(holds: &[Hold], action: Option<&str>, run: &Run) -> Result<Exit> {
    let text = || match (action, holds) {
        (Some(action), [hold]) => {
            let short: String = hold.id.to_string().chars().take(SHORT_ID).collect();
            format!("{action} hold {short} on {}\n", scope_name(&hold.request.scope))
        }
        (_, []) => "nothing is held\n".to_owned(),
        _ => {
            let header = ["ID", "HELD", "FOR", "SINCE", "UNTIL", "WHY"].map(str::to_owned).to_vec();
            let rows = holds.iter().map(|hold| cells(hold, run));
            lay_out(&std::iter::once(header).chain(rows).collect::<Vec<_>>(), &[])
        }
    };
    let value =
        || json!({ "holds": holds.iter().map(|hold| value(hold, run)).collect::<Vec<_>>() });
    run.output.result(text, value)?;
    Ok(Exit::Done)
}

fn scope_name(scope: &HoldScope) -> String {
    match scope {
        HoldScope::Site(site) => site.to_string(),
        HoldScope::System(stream) => format!("{}/{}", stream.site, stream.system),
        HoldScope::Point(point) => {
            let short: String = point.short().chars().take(SHORT_ID).collect();
            format!("{}@{short}", point.site)
        }
        HoldScope::Snapshot(id) => {
            format!("{}/{}@{}", id.stream.site, id.stream.system, id.short())
        }
    }
}

fn cells(hold: &Hold, run: &Run) -> Vec<String> {
    let end = match (&hold.release, hold.request.until) {
        (Some(release), _) => format!("released {}", show_time(release.at, &run.zone)),
        (None, Some(until)) => show_time(until, &run.zone),
        (None, None) => "no end".to_owned(),
    };
    vec![
        hold.id.to_string().chars().take(SHORT_ID).collect(),
        scope_name(&hold.request.scope),
        names::escape(hold.request.who.as_bytes()),
        show_time(hold.at, &run.zone),
        end,
        names::escape(hold.request.why.as_bytes()),
    ]
}

fn value(hold: &Hold, run: &Run) -> Value {
    let release = hold.release.as_ref().map(
        |release| json!({ "who": release.who, "why": release.why, "at": Run::utc(release.at) }),
    );
    json!({
        "id": hold.id.to_string(),
        "scope": scope_name(&hold.request.scope),
        "who": hold.request.who,
        "why": hold.request.why,
        "at": Run::utc(hold.at),
        "until": hold.request.until.map(Run::utc),
        "is_in_force": hold.is_in_force(run.now()),
        "release": release,
    })
}
