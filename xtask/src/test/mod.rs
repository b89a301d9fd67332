//! `cargo xtask test`: says what it will fetch, checks the workspace, runs the tests of the chosen
//! tier, and ends with a time per step, a time per area, and one line that counts.

mod areas;
mod binaries;
mod prerequisites;
mod servers;
mod steps;
mod summary;

use anyhow::{Result, bail};
use clap::Args;

use crate::host;
use crate::workspace::Workspace;
use areas::AREAS;

/// Which tests to run; without an option the tier of continuous integration.
#[derive(Args)]
pub struct Options {
    /// Only checks and the tests inside the libraries.
    #[arg(long, conflicts_with = "full")]
    fast: bool,
    /// Every test at its full size, of the whole workspace or of one area.
    #[arg(long, value_name = "AREA", num_args = 0..=1)]
    full: Option<Option<String>>,
}

/// How much is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// No end-to-end tests.
    Fast,
    /// What continuous integration runs.
    Default,
    /// Everything, also what is marked `#[ignore]` because it takes long.
    Full,
}

/// Runs the tier; true if nothing failed.
pub fn run(options: &Options) -> Result<bool> {
    let (tier, area) = chosen(options)?;
    prerequisites::provide()?;
    let workspace = Workspace::load()?;
    let outcomes = steps::run(&workspace, tier, area);
    for line in summary::lines(&outcomes) {
        host::say(&line);
    }
    Ok(outcomes.iter().all(|outcome| outcome.counts.failed == 0))
}

fn chosen(options: &Options) -> Result<(Tier, Option<&str>)> {
    match &options.full {
        None if options.fast => Ok((Tier::Fast, None)),
        None => Ok((Tier::Default, None)),
        Some(None) => Ok((Tier::Full, None)),
        Some(Some(area)) if areas::is_known(area) => Ok((Tier::Full, Some(area))),
        Some(Some(area)) => {
            let known: Vec<&str> = AREAS.iter().flat_map(|one| one.names()).collect();
            bail!("no area {area}; there are: {}", known.join(", "))
        }
    }
}
