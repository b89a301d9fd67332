//! From the policy to the systems that it protects.

use model::{Host, Result, System, SystemName};
use policies::{FilesPolicy, Policy};
use systems::files::{CommandItem, Files, FilesOptions, FollowOptions};

use crate::policy_system::PolicySystem;
use crate::settings::PolicyFile;

/// A system of the policy, ready to be captured.
#[derive(Debug)]
pub struct Protected {
    /// Its name in the policy.
    pub name: SystemName,
    /// The system.
    pub system: Box<dyn System>,
}

/// Whether a system will be followed after a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is captured once: nothing is remembered of a cut.
    Once,
    /// Its changes will be followed.
    Followed,
}

/// Builds the systems of a policy in its order, the policy itself last.
///
/// # Errors
/// `Invalid` where a system's options make no sense.
pub fn build(file: &PolicyFile, host: &str, usage: Use) -> Result<Vec<Protected>> {
    let mut built = Vec::with_capacity(file.policy.files.len() + 1);
    for policy in &file.policy.files {
        let files = Files::new(files_options(policy, host))?;
        let files = if usage == Use::Once { files.without_log() } else { files };
        built.push(Protected { name: policy.name.clone(), system: Box::new(files) });
    }
    let name = crate::policy_system::name();
    let is_taken = file.policy.files.iter().any(|files| files.name == name);
    if !is_taken {
        built.push(Protected { name, system: Box::new(PolicySystem::new(&file.text)) });
    }
    Ok(built)
}

/// Lists the names and the kinds of all systems of a policy, in its order, the policy itself last.
pub fn expected(policy: &Policy) -> Vec<(SystemName, String)> {
    let files = policy.files.iter().map(|files| (files.name.clone(), "files".to_owned()));
    let name = crate::policy_system::name();
    let own = (!policy.files.iter().any(|files| files.name == name))
        .then(|| (name, crate::policy_system::KIND.to_owned()));
    files.chain(own).collect()
}

/// Says whether the keys of a kind's items begin with a host.
pub fn host_of(kind: &str) -> Host {
    if kind == "files" { Host::Bound } else { Host::Free }
}

fn files_options(policy: &FilesPolicy, host: &str) -> FilesOptions {
    let commands = policy.commands.iter().map(|command| CommandItem {
        name: command.name.clone(),
        command: command.command.clone(),
        timeout: command.timeout,
    });
    FilesOptions {
        host: host.to_owned(),
        paths: policy.paths.clone(),
        include: policy.include.clone(),
        exclude: policy.exclude.clone(),
        one_file_system: policy.one_file_system,
        skip_caches: policy.skip_caches,
        commands: commands.collect(),
        follow: FollowOptions::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> PolicyFile {
        let policy = Policy::parse(text).expect("policy");
        PolicyFile { path: "/lifeboat.toml".into(), text: text.to_owned(), policy }
    }

    #[test]
    fn a_policy_gives_its_systems_and_itself() {
        let file = file(
            "site = \"a\"\n[[files]]\nname = \"etc\"\npaths = [\"/etc\"]\n\
             [[files]]\nname = \"out\"\ncommands = [{ name = \"x\", command = [\"true\"] }]\npaths = []\n",
        );
        let built = build(&file, "host", Use::Once).expect("systems");
        let shown: Vec<_> = built
            .iter()
            .map(|one| (one.name.to_string(), one.system.facts().kind, one.system.facts().host))
            .collect();
        let expected_names = [
            ("etc".to_owned(), "files", Host::Bound),
            ("out".to_owned(), "files", Host::Bound),
            ("lifeboat-policy".to_owned(), "policy", Host::Free),
        ];
        assert_eq!(shown, expected_names);
        assert!(built[0].system.facts().log.is_none(), "nothing is to be remembered");
        assert!(
            built.iter().all(|one| host_of(one.system.facts().kind) == one.system.facts().host)
        );
        let names: Vec<_> = expected(&file.policy).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, built.iter().map(|one| one.name.clone()).collect::<Vec<_>>());
        let followed = build(&file, "host", Use::Followed).expect("systems");
        assert!(followed[0].system.facts().log.is_some());
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let file = file("site = \"a\"\n[[files]]\nname = \"etc\"\npaths = [\"/etc\"]\n");
        assert!(build(&file, "a/b", Use::Once).is_err());
    }
}
