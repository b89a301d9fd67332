//! Fetches the servers that tests start, before the tests: its time is the build's, not theirs.

use anyhow::Result;

use super::{Tier, areas};
use crate::host;
use crate::workspace::Workspace;

/// Packages whose end-to-end tests start servers.
const STARTED_BY: &[&str] = &["chaos-tests", "cli", "stack"];
/// A description for each server, so that one that cannot be had takes none of the others with it.
const DESCRIPTIONS: &[&str] = &["xtask/servers/s3.toml", "xtask/servers/azure.toml"];

/// True if a tier starts servers.
pub fn are_started(tier: Tier, area: Option<&str>) -> bool {
    tier != Tier::Fast && STARTED_BY.iter().any(|package| areas::contains(area, package))
}

/// Fetches them with the program that was just built; returns whether all are there.
pub fn fetch(workspace: &Workspace, tier: Tier) -> Result<bool> {
    let mut all = true;
    for description in DESCRIPTIONS {
        let mut command = host::cargo()?;
        command.current_dir(&workspace.root).args(["run", "--quiet", "--locked"]);
        if tier == Tier::Full {
            command.args(["--profile", "full"]);
        }
        command.args(["--package", "cli", "--bin", "lifeboat", "--"]);
        command.args(["stack", "fetch", description]);
        if let Err(error) = host::run(&mut command) {
            host::say(&format!("{error:#}"));
            all = false;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_start_servers_wait_for_them() {
        assert!(!are_started(Tier::Fast, None));
        assert!(are_started(Tier::Default, None));
        assert!(are_started(Tier::Full, Some("repository")));
        assert!(!are_started(Tier::Full, Some("files")));
    }

    #[test]
    fn descriptions_are_where_they_are_looked_for() {
        let workspace = Workspace::load().unwrap();
        for description in DESCRIPTIONS {
            assert!(workspace.root.join(description).is_file(), "{description}");
        }
    }
}
