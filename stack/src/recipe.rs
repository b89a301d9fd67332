//! Recipes: how a server is made. Data; all texts in it are templates (see [`crate::template`]).
//!
//! The names that templates of a variant can use: `name`, `host`, `port.PORT`, `folder` and
//! `folder.FOLDER`, `setting.SETTING`, `program.ARTEFACT` and `tree.ARTEFACT`, `memory_mib`.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Result;
use serde::{Deserialize, Serialize};

use crate::description::Setting;
use crate::syntax::{check_name, parse, refuse};

const ACTION: &str = "read recipe";

/// The recipes that every description can name.
const KNOWN: &[(&str, &str)] = &[
    ("azurite", include_str!("../recipes/azurite.toml")),
    ("versitygw", include_str!("../recipes/versitygw.toml")),
];

/// How a kind of server is made.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What it is, for people.
    pub about: String,
    /// The ports that it listens on, by name.
    pub ports: Vec<String>,
    /// Its settings and what they are where nothing else is said.
    pub settings: BTreeMap<String, String>,
    /// How much memory it may take, in MiB.
    pub memory_mib: Option<u64>,
    /// The ways to make it, best first; the first whose artefacts can be had is used.
    pub variants: Vec<Variant>,
}

/// One way to make a server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// What it is called.
    pub name: String,
    /// What it can do: tests ask for it and are *not run* where it is missing.
    #[serde(default)]
    pub provides: Vec<String>,
    /// The artefacts that it takes.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Folders to be made in the server's own folder.
    #[serde(default)]
    pub folders: Vec<String>,
    /// Files to be written there before each start, by relative path.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Variables of its environment, besides `PATH`, `HOME`, `TMPDIR` and `LANG`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Commands that are run once, before the first start in a folder.
    #[serde(default)]
    pub create: Vec<Vec<String>>,
    /// The server: a program with its arguments, which stays in the foreground.
    pub command: Vec<String>,
    /// What must hold for it to be ready.
    #[serde(default)]
    pub ready: Vec<Probe>,
    /// Commands that are run once, when it is ready for the first time in a folder.
    #[serde(default)]
    pub prepare: Vec<Vec<String>>,
    /// How long it may take to be ready.
    #[serde(default = "ready_within_s")]
    pub ready_within_s: u64,
    /// How long it may take to stop before it is killed.
    #[serde(default = "stop_within_s")]
    pub stop_within_s: u64,
    /// The signal that asks it to stop.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// What holds its memory where there are no control groups.
    #[serde(default)]
    pub memory_fallback: MemoryFallback,
    /// What others need to know: `url`, credentials.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// The signal that asks a server to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
}

/// What holds a server's memory where there are no control groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryFallback {
    /// The server itself, by `${memory_mib}` in its command; right for all that reserve much more than they take.
    #[default]
    Own,
    /// A limit on its addresses.
    AddressSpace,
}

/// One thing that must hold for a server to be ready: exactly one of `http`, `tcp`, `command`, `log`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// A URL that answers with `status`.
    pub http: Option<String>,
    /// HOST:PORT that accepts connections.
    pub tcp: Option<String>,
    /// A command that succeeds.
    pub command: Option<Vec<String>>,
    /// Text that a line of its log contains.
    pub log: Option<String>,
    /// The status that a URL has to answer with.
    #[serde(default = "status")]
    pub status: u16,
    /// Text that the answer or the output of the command has to contain.
    pub contains: Option<String>,
}

/// A recipe as people write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRecipe {
    about: String,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    settings: BTreeMap<String, Setting>,
    memory_mib: Option<u64>,
    variant: Vec<Variant>,
}

const fn ready_within_s() -> u64 {
    60
}

const fn stop_within_s() -> u64 {
    10
}

const fn status() -> u16 {
    200
}

impl Recipe {
    /// Returns those that every description can name.
    pub(crate) fn known() -> Result<BTreeMap<String, Self>> {
        let known =
            KNOWN.iter().map(|(name, text)| Ok(((*name).to_owned(), Self::parse(text, name)?)));
        known.collect()
    }

    /// Reads one.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        Self::check(name, parse(text, ACTION, name)?)
    }

    pub(crate) fn check(name: &str, raw: RawRecipe) -> Result<Self> {
        check_name(name, ACTION)?;
        for name in raw.ports.iter().chain(raw.settings.keys()) {
            check_name(name, ACTION)?;
        }
        if raw.variant.is_empty() {
            return Err(refuse(ACTION, name, "there is no variant in it"));
        }
        for variant in &raw.variant {
            variant.check(name)?;
        }
        Ok(Self {
            about: raw.about,
            ports: raw.ports,
            settings: raw.settings.into_iter().map(|(name, value)| (name, value.text())).collect(),
            memory_mib: raw.memory_mib,
            variants: raw.variant,
        })
    }
}

impl Variant {
    fn check(&self, recipe: &str) -> Result<()> {
        check_name(&self.name, ACTION)?;
        let commands = self.create.iter().chain(&self.prepare).chain([&self.command]);
        let probes = self.ready.iter().filter_map(|probe| probe.command.as_ref());
        if commands.chain(probes).any(Vec::is_empty) {
            return Err(refuse(ACTION, recipe, "an empty command"));
        }
        let paths = self.folders.iter().chain(self.files.keys());
        for path in paths {
            let is_below = !path.is_empty()
                && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
            if !is_below {
                return Err(refuse(ACTION, recipe, format!("{path:?} is no relative path")));
            }
        }
        for probe in &self.ready {
            let ways = [probe.http.is_some(), probe.tcp.is_some(), probe.log.is_some()];
            let ways = ways.into_iter().chain([probe.command.is_some()]).filter(|is| *is).count();
            if ways != 1 {
                let why = "a probe is one of http, tcp, command and log";
                return Err(refuse(ACTION, recipe, why));
            }
        }
        Ok(())
    }

    /// Returns how long it may take to be ready.
    pub fn ready_within(&self) -> Duration {
        Duration::from_secs(self.ready_within_s)
    }

    /// Returns how long it may take to stop.
    pub fn stop_within(&self) -> Duration {
        Duration::from_secs(self.stop_within_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_known_are_sound() {
        let known = Recipe::known().expect("sound");
        assert_eq!(known.keys().collect::<Vec<_>>(), ["azurite", "versitygw"]);
        let s3: Vec<_> = known["versitygw"].variants.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(s3, ["versitygw", "moto"]);
        let artefacts = crate::artefact::Artefact::known().expect("sound");
        for variant in known.values().flat_map(|recipe| &recipe.variants) {
            let unknown: Vec<_> =
                variant.needs.iter().filter(|one| !artefacts.contains_key(*one)).collect();
            assert_eq!(unknown, Vec::<&String>::new(), "{}", variant.name);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (variant, why) in [
            ("", "missing field `command`"),
            ("command = []", "an empty command"),
            ("command = [\"a\"]\ncreate = [[]]", "an empty command"),
            ("command = [\"a\"]\nfolders = [\"../x\"]", "no relative path"),
            ("command = [\"a\"]\nfiles = { \"/etc/x\" = \"\" }", "no relative path"),
            ("command = [\"a\"]\nready = [{ contains = \"x\" }]", "a probe is one of"),
            ("command = [\"a\"]\nready = [{ tcp = \"x\", log = \"y\" }]", "a probe is one of"),
            ("command = [\"a\"]\nstop_signal = \"kill\"", "unknown variant"),
        ] {
            let text = format!("about = \"x\"\n[[variant]]\nname = \"x\"\n{variant}");
            let error = Recipe::parse(&text, "x").expect_err(variant);
            assert!(error.chain().contains(why), "{variant}: {}", error.chain());
        }
        let error = Recipe::parse("about = \"x\"\nvariant = []", "x").expect_err("no variant");
        assert!(error.chain().contains("no variant"), "{error}");
    }
}
