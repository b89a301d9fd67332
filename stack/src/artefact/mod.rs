//! Artefacts: distributions of servers, and the tool chains that make or run them.
//!
//! An artefact has a list of sources, best first: a package of some manager, or what is installed. Each
//! manager is used through its own client with the configuration of this machine; no address of any
//! registry stands here. What was fetched goes into the cache as one folder, by a rename, with a record of
//! its digest, which is checked whenever it is used again.

mod cache;
mod digest;
mod install;
mod maven;
mod provide;
mod run;
mod version;

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::Result;
use serde::{Deserialize, Serialize};

use crate::syntax::{check_name, parse, refuse};
pub use maven::Maven;
pub use provide::Provider;
use version::Version;

const ACTION: &str = "read artefact";

/// One artefact and where it can be had.
#[derive(Debug, Clone)]
pub struct Artefact {
    /// What it is called.
    pub name: String,
    /// How its program tells its version, and the oldest that will do.
    pub version: Option<(Vec<String>, Version)>,
    /// Programs that must stand beside its own.
    pub companions: Vec<String>,
    /// Where it can be had, best first.
    pub sources: Vec<Source>,
}

/// One place to have an artefact from: exactly one of `installed`, `go`, `npm`, `python`, `debian`, `maven`,
/// `crate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A program that this machine has.
    #[serde(skip_serializing_if = "Option::is_none")]
    installed: Option<String>,
    /// A Go package with its version, as `go install` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    go: Option<String>,
    /// npm packages with their versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    npm: Option<Vec<String>>,
    /// Python packages with their versions, as `pip install` takes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    python: Option<Vec<String>>,
    /// Debian packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    debian: Option<Vec<String>>,
    /// Maven coordinates.
    #[serde(skip_serializing_if = "Option::is_none")]
    maven: Option<Maven>,
    /// A crate with its version, as in `garage@2.5.0`, and features.
    #[serde(rename = "crate", skip_serializing_if = "Option::is_none")]
    krate: Option<String>,
    /// Features of the crate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    /// Where in what was fetched the program is; a part of the path may be a pattern with `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
}

/// An artefact as people write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawArtefact {
    version: Option<Vec<String>>,
    at_least: Option<String>,
    #[serde(default)]
    companions: Vec<String>,
    sources: Vec<Source>,
}

/// An artefact that is at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// Which artefact it is.
    pub artefact: String,
    /// Where it came from.
    pub source: String,
    /// The folder that holds it.
    pub tree: PathBuf,
    /// Its program; none where it is a mere folder of files.
    pub program: Option<PathBuf>,
    /// The digest of the folder; none for what is installed on this machine.
    pub digest: Option<String>,
    /// Whether it was fetched just now.
    pub is_new: bool,
    /// Better sources that it could not be had from.
    pub passed_over: Vec<PassedOver>,
}

/// A source that something could not be had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Which one.
    pub source: String,
    /// Why not.
    pub why: String,
}

impl Artefact {
    /// Returns those that every recipe can name.
    pub fn known() -> Result<BTreeMap<String, Self>> {
        let text = include_str!("../../recipes/artefacts.toml");
        let raw: BTreeMap<String, RawArtefact> = parse(text, ACTION, "artefacts")?;
        raw.into_iter().map(|(name, raw)| Ok((name.clone(), Self::check(&name, raw)?))).collect()
    }

    /// Checks what was read.
    pub fn check(name: &str, raw: RawArtefact) -> Result<Self> {
        check_name(name, ACTION)?;
        if raw.sources.is_empty() {
            return Err(refuse(ACTION, name, "there is no source in it"));
        }
        raw.sources.iter().try_for_each(|source| source.check(name))?;
        let version = match (raw.version, raw.at_least) {
            (None, None) => None,
            (Some(call), Some(least)) => {
                let why = || refuse(ACTION, name, format!("{least:?} is no version"));
                Some((call, Version::find(&least).ok_or_else(why)?))
            }
            _ => return Err(refuse(ACTION, name, "version and at_least go together")),
        };
        let (companions, sources) = (raw.companions, raw.sources);
        Ok(Self { name: name.to_owned(), version, companions, sources })
    }
}

impl Source {
    fn check(&self, artefact: &str) -> Result<()> {
        let ways = [
            self.installed.is_some(),
            self.go.is_some(),
            self.npm.is_some(),
            self.python.is_some(),
            self.debian.is_some(),
            self.maven.is_some(),
            self.krate.is_some(),
        ];
        if ways.into_iter().filter(|is| *is).count() != 1 {
            let why = "a source is one of installed, go, npm, python, debian, maven, crate";
            return Err(refuse(ACTION, artefact, why));
        }
        let is_pinned = |text: &String| {
            text.rsplit_once('@')
                .is_some_and(|(name, v)| !name.is_empty() && v != "latest" && !v.is_empty())
        };
        let npm = self.npm.iter().flatten();
        if let Some(loose) =
            self.go.iter().chain(&self.krate).chain(npm).find(|one| !is_pinned(one))
        {
            return Err(refuse(ACTION, artefact, format!("{loose} has no version")));
        }
        let python = self.python.iter().flatten();
        if let Some(loose) = python.into_iter().find(|one| !one.contains("==")) {
            return Err(refuse(ACTION, artefact, format!("{loose} has no version")));
        }
        // What begins with a dash would be an option of the client.
        let debian = self.debian.iter().flatten();
        let all = self.python.iter().flatten().chain(self.npm.iter().flatten()).chain(debian);
        if let Some(option) =
            all.chain(&self.go).chain(&self.krate).find(|one| one.starts_with('-'))
        {
            return Err(refuse(ACTION, artefact, format!("{option} is an option")));
        }
        self.maven.as_ref().map_or(Ok(()), |maven| maven.check(artefact))
    }

    /// Says what it is, for people.
    pub fn label(&self) -> String {
        let several = |kind: &str, names: &[String]| format!("{kind} {}", names.join(" "));
        match self {
            Self { installed: Some(name), .. } => format!("installed {name}"),
            Self { go: Some(package), .. } => format!("go {package}"),
            Self { npm: Some(packages), .. } => several("npm", packages),
            Self { python: Some(packages), .. } => several("python", packages),
            Self { debian: Some(packages), .. } => several("debian", packages),
            Self { maven: Some(maven), .. } => maven.label(),
            Self { krate: Some(name), .. } => format!("crate {name}"),
            _ => String::new(),
        }
    }

    /// Returns the tool chains that fetch from it.
    fn tools(&self) -> &'static [&'static str] {
        match self {
            Self { go: Some(_), .. } => &["go"],
            Self { npm: Some(_), .. } => &["node"],
            Self { python: Some(_), .. } => &["python"],
            Self { maven: Some(_), .. } => &["java", "maven"],
            Self { krate: Some(_), .. } => &["cargo"],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests;
