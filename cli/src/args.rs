//! The grammar of the command line. Each command's own arguments stand in its file.

use std::path::PathBuf;

use app::settings::Flags;
use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::commands::{
    backup, cat, completion, diff, doctor, find, follow, forget, hold, init, key, kit, ls, man,
    mount, points, recover, repo, restore, stack, verify,
};

/// Keeps everything that a data platform needs to come back, and brings any point in time back.
///
/// A state is named by a selector: SITE[/SYSTEM]@WHEN[:PATH], where WHEN is latest, latest~N, verified,
/// a tag, 8 or more digits of an id, or a time ("2026-11-22 10:31", "2 hours ago").
#[derive(Debug, Parser)]
#[command(name = "lifeboat", version, max_term_width = 100)]
pub struct Args {
    /// What applies to every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// What applies to every command.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The repository: a path, or a URL (s3://, az://, gs://, file://) [env: LIFEBOAT_REPO]
    #[arg(long, global = true, value_name = "URL")]
    pub repo: Option<String>,
    /// A key file that opens the repository [env: LIFEBOAT_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The identity of a recipient that opens it [env: LIFEBOAT_IDENTITY]
    #[arg(long, global = true, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// A recovery share; repeat it for as many as are needed
    #[arg(long, global = true, value_name = "FILE")]
    pub share_file: Vec<PathBuf>,
    /// A file whose first line is the passphrase [env: LIFEBOAT_PASSPHRASE_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// A command that prints the passphrase [env: LIFEBOAT_PASSPHRASE_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND")]
    pub passphrase_command: Option<String>,
    /// The policy file [env: LIFEBOAT_POLICY] [default: ./lifeboat.toml, then the user's, then /etc]
    #[arg(long, global = true, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Do not show progress
    #[arg(long, global = true)]
    pub no_progress: bool,
}

impl Globals {
    /// Returns what settings are made of.
    pub fn flags(&self) -> Flags {
        Flags {
            repository: self.repo.clone(),
            key_file: self.key_file.clone(),
            identity_file: self.identity.clone(),
            share_files: self.share_file.clone(),
            passphrase_file: self.passphrase_file.clone(),
            passphrase_command: self.passphrase_command.clone(),
            policy: self.policy.clone(),
        }
    }
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a repository, its key and a policy file
    Init(init::Args),
    /// Capture what the policy protects and seal a point
    Backup(backup::Args),
    /// Store changes as they happen, until interrupted
    Follow(follow::Args),
    /// List recovery points, newest first; pin and tag them
    Points(points::Args),
    /// List what a state holds at a path
    Ls(ls::Args),
    /// Find items of a state by name, kind or size
    Find(find::Args),
    /// Print the content of an item
    Cat(cat::Args),
    /// Show what differs between two states
    Diff(diff::Args),
    /// Show a state as a read-only file system, until interrupted
    Mount(mount::Args),
    /// Bring a state back into a directory and prove it
    Restore(restore::Args),
    /// Begin here when all is lost: a repository, a key, nothing else
    Recover(recover::Args),
    /// Check the repository, down to every byte if told
    Verify(verify::Args),
    /// Say that states are no longer wanted
    Forget(forget::Args),
    /// Keep things whatever retention says: for whom, why, until when
    Hold(hold::Args),
    /// Look at the repository as a whole
    Repo(repo::Args),
    /// Manage the keys that open the repository
    Key(key::Args),
    /// Write a folder and a printable page with all that a restore needs but the secrets
    Kit(kit::Args),
    /// Check everything that a backup and a restore depend on
    Doctor(doctor::Args),
    /// Start real servers on this host from a description, and stop them
    Stack(stack::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::Args),
}

impl Command {
    /// Returns the name that JSON carries.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Backup(_) => "backup",
            Self::Follow(_) => "follow",
            Self::Points(_) => "points",
            Self::Ls(_) => "ls",
            Self::Find(_) => "find",
            Self::Cat(_) => "cat",
            Self::Diff(_) => "diff",
            Self::Mount(_) => "mount",
            Self::Restore(_) => "restore",
            Self::Recover(_) => "recover",
            Self::Verify(_) => "verify",
            Self::Forget(_) => "forget",
            Self::Hold(_) => "hold",
            Self::Repo(_) => "repo",
            Self::Key(_) => "key",
            Self::Kit(_) => "kit",
            Self::Doctor(_) => "doctor",
            Self::Stack(_) => "stack",
            Self::Completion(_) => "completion",
            Self::Man(_) => "man",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("lifeboat").chain(line.split(' ')))
    }

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn lines_are_read() {
        for (line, name) in [
            ("init --repo /r --key-file k", "init"),
            ("init --repo /r /etc /opt --site prod", "init"),
            ("backup", "backup"),
            ("backup --dry-run etc --json", "backup"),
            ("--repo /r backup", "backup"),
            ("follow etc", "follow"),
            ("points", "points"),
            ("points prod/etc --last 3", "points"),
            ("points pin prod@latest --note why", "points"),
            ("points tag prod@latest before-upgrade", "points"),
            ("ls", "ls"),
            ("ls -lr @latest:/etc", "ls"),
            ("find @latest *.conf --type f --larger 1MiB", "find"),
            ("cat prod/etc@latest:/etc/hosts", "cat"),
            ("diff demo@latest~1 demo@latest", "diff"),
            ("mount prod@latest /x", "mount"),
            ("mount prod/etc@latest:/etc /x --allow-other --non-empty", "mount"),
            ("restore demo@latest~1 --to /x", "restore"),
            (
                "restore demo@latest --to /x --existing overwrite --delete-extra --dry-run",
                "restore",
            ),
            ("recover s3://bucket/x --key-file k", "recover"),
            ("verify --deep", "verify"),
            ("verify --sample 5%", "verify"),
            ("forget prod@latest~9 prod@latest~8 --dry-run", "forget"),
            ("repo usage", "repo"),
            ("repo gc --dry-run --patience 10m --grace 1d --json", "repo"),
            (
                "repo sync --to /copy --from s3://b/x --both --limit 10MiB/s --jobs 4 --dry-run",
                "repo",
            ),
            ("hold add prod@latest --why x --until 2030-01-01", "hold"),
            ("hold list --all", "hold"),
            ("hold release 0123 --why x --who me", "hold"),
            ("key add --new-key-file k --label me", "key"),
            ("key remove 0123456789abcdef", "key"),
            ("key add --shares 3/5 --out d", "key"),
            ("key add --recipient lifeboat-recipient-1-00", "key"),
            ("key new-recipient --out f", "key"),
            ("key test --share-file a --share-file b", "key"),
            ("kit --to /x --with-program", "kit"),
            ("doctor", "doctor"),
            ("stack up servers.toml --detach", "stack"),
            ("stack up servers.toml --folder /x --offline", "stack"),
            ("stack fetch servers.toml", "stack"),
            ("stack status", "stack"),
            ("stack status servers.toml", "stack"),
            ("stack logs servers.toml s3 --follow", "stack"),
            ("stack down servers.toml", "stack"),
            ("completion bash", "completion"),
            ("man --to /x", "man"),
        ] {
            let args = parse(line).map_err(|error| error.to_string()).expect(line);
            assert_eq!(args.command.name(), name, "{line}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_code_two() {
        for line in [
            "",
            "frobnicate",
            "restore x",
            "mount x",
            "cat",
            "diff a",
            "verify --deep --sample 5%",
            "verify --sample 0%",
            "verify --sample 101%",
            "key",
            "stack",
            "stack up",
            "stack down",
            "forget",
            "recover",
            "backup --passphrase x",
            "repo",
            "repo gc --patience 10",
            "repo sync",
            "repo sync --to /copy --limit 0B",
            "repo sync --to /copy --jobs 0",
            "find @latest a --type q",
            "restore a --to b --existing maybe",
            "key add --new-key-file a --new-passphrase-file b",
            "key add --shares 3/5",
            "key add --shares 5/3 --out d",
            "key add --shares 1/3 --out d",
            "key add --shares 3of5 --out d",
            "key add --shares 3/5 --out d --recipient r",
            "key new-recipient",
            "kit",
            "hold add prod",
            "hold release 0123",
            "completion tcl",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn no_flag_takes_a_secret() {
        for command in Args::command().get_subcommands() {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let is_secret = id.contains("passphrase") || id.contains("password");
                assert!(
                    !is_secret
                        || id.ends_with("_file")
                        || id.ends_with("_command")
                        || id == "ask_passphrase",
                    "{id}"
                );
            }
        }
    }
}
