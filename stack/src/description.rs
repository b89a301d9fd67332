//! Descriptions: which servers, by which recipes, with which settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use model::Result;
use serde::Deserialize;

use crate::artefact::{Artefact, RawArtefact};
use crate::order;
use crate::recipe::{RawRecipe, Recipe};
use crate::syntax::{check_name, parse, refuse};
use crate::template;

const ACTION: &str = "read description";

/// What is to run.
#[derive(Debug, Clone)]
pub struct Description {
    /// What it is called.
    pub name: String,
    /// Whether it runs in a network of its own that leads nowhere.
    pub is_isolated: bool,
    /// The servers, by name.
    pub servers: BTreeMap<String, ServerDescription>,
    /// Installations that the user names, by artefact: a program, or a folder laid out as the recipe expects.
    pub installed: BTreeMap<String, PathBuf>,
    pub(crate) recipes: BTreeMap<String, Recipe>,
    pub(crate) artefacts: BTreeMap<String, Artefact>,
    pub(crate) waves: Vec<Vec<String>>,
}

/// One server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerDescription {
    /// What it is called: others and tests name it so.
    pub name: String,
    /// The recipe that makes it.
    pub recipe: String,
    /// The only variant of the recipe that will do; none: the first that can be had.
    pub variant: Option<String>,
    /// Servers that must be ready before it, besides those that its settings name.
    #[serde(default)]
    pub after: BTreeSet<String>,
    /// How much memory it may take, in MiB; none: as the recipe says.
    pub memory_mib: Option<u64>,
    /// Ports that are to have a certain number; others get one that is free.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Settings of the recipe that are to differ; templates that may name other servers: `${zk.url}`.
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
}

/// A setting as people write it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// `true` or `false`.
    Truth(bool),
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
}

impl Setting {
    /// Returns it as it goes into templates.
    pub fn text(&self) -> String {
        match self {
            Self::Truth(truth) => truth.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDescription {
    name: Option<String>,
    #[serde(default)]
    isolated: bool,
    #[serde(default)]
    installed: BTreeMap<String, PathBuf>,
    server: Vec<ServerDescription>,
    #[serde(default)]
    recipe: BTreeMap<String, RawRecipe>,
    #[serde(default)]
    artefact: BTreeMap<String, RawArtefact>,
}

impl Description {
    /// Reads a description. `name` is what it is called where it does not say so itself.
    ///
    /// # Errors
    /// `Invalid`: what makes no sense, and where.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let raw: RawDescription = parse(text, ACTION, name)?;
        let name = raw.name.unwrap_or_else(|| name.to_owned());
        check_name(&name, ACTION)?;
        let mut recipes = Recipe::known()?;
        for (name, raw) in raw.recipe {
            recipes.insert(name.clone(), Recipe::check(&name, raw)?);
        }
        let mut artefacts = Artefact::known()?;
        for (name, raw) in raw.artefact {
            artefacts.insert(name.clone(), Artefact::check(&name, raw)?);
        }
        if let Some(unknown) = raw.installed.keys().find(|name| !artefacts.contains_key(*name)) {
            return Err(refuse(ACTION, unknown, "there is no artefact of this name"));
        }
        if let Some((name, _)) = raw.installed.iter().find(|(_, path)| !path.is_absolute()) {
            return Err(refuse(ACTION, name, "the path of an installation must be absolute"));
        }
        let mut servers = BTreeMap::new();
        for server in raw.server {
            check_server(&server, &recipes)?;
            if servers.contains_key(&server.name) {
                return Err(refuse(ACTION, &server.name, "a second server of this name"));
            }
            servers.insert(server.name.clone(), server);
        }
        if servers.is_empty() {
            return Err(refuse(ACTION, &name, "there is no server in it"));
        }
        let waves = order::waves(&needs(&servers)?)?;
        let is_isolated = raw.isolated;
        Ok(Self { name, is_isolated, servers, installed: raw.installed, recipes, artefacts, waves })
    }

    /// Returns the recipe of a server.
    pub(crate) fn recipe_of(&self, server: &ServerDescription) -> Result<&Recipe> {
        let unknown = || refuse(ACTION, &server.recipe, "there is no recipe of this name");
        self.recipes.get(&server.recipe).ok_or_else(unknown)
    }
}

fn check_server(server: &ServerDescription, recipes: &BTreeMap<String, Recipe>) -> Result<()> {
    let name = &server.name;
    check_name(name, ACTION)?;
    let Some(recipe) = recipes.get(&server.recipe) else {
        let known: Vec<_> = recipes.keys().map(String::as_str).collect();
        let why = format!("there is no recipe {:?}; there are {}", server.recipe, known.join(", "));
        return Err(refuse(ACTION, name, why));
    };
    if let Some(unknown) = server.settings.keys().find(|name| !recipe.settings.contains_key(*name))
    {
        let known: Vec<_> = recipe.settings.keys().map(String::as_str).collect();
        let why = format!("no setting {unknown:?} in its recipe; there are {}", known.join(", "));
        return Err(refuse(ACTION, name, why));
    }
    if let Some(unknown) = server.ports.keys().find(|port| !recipe.ports.contains(port)) {
        let why =
            format!("no port {unknown:?} in its recipe; there are {}", recipe.ports.join(", "));
        return Err(refuse(ACTION, name, why));
    }
    match &server.variant {
        Some(variant) if recipe.variants.iter().all(|one| one.name != *variant) => {
            Err(refuse(ACTION, name, format!("no variant {variant:?} in its recipe")))
        }
        _ => Ok(()),
    }
}

/// Says which servers need which: as told, and as their settings name them.
fn needs(
    servers: &BTreeMap<String, ServerDescription>,
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut needs = BTreeMap::new();
    for server in servers.values() {
        let mut needed = server.after.clone();
        for setting in server.settings.values() {
            for name in template::names(&setting.text())? {
                let other = name.split('.').next().unwrap_or_default();
                needed.insert(other.to_owned());
            }
        }
        needs.insert(server.name.clone(), needed);
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
        [recipe.web]
        about = "a web server"
        ports = ["http"]
        settings = { greeting = "hello", peer = "" }
        [[recipe.web.variant]]
        name = "sh"
        command = ["sh"]
        properties = { url = "http://${host}:${port.http}" }
    "#;

    fn read(head: &str) -> Result<Description> {
        Description::parse(&format!("{head}\n{RECIPE}"), "site")
    }

    #[test]
    fn a_description_is_read() {
        let description = read(
            r#"
            isolated = true
            installed = { go = "/opt/go/bin/go" }
            server = [
                { name = "b", recipe = "web", settings = { peer = "${a.url}", greeting = 7 } },
                { name = "a", recipe = "web", memory_mib = 64, ports = { http = 8080 } },
                { name = "c", recipe = "web", after = ["a", "b"], variant = "sh" },
            ]"#,
        )
        .expect("sound");
        assert_eq!((description.name.as_str(), description.is_isolated), ("site", true));
        assert_eq!(description.waves, [["a"], ["b"], ["c"]]);
        assert_eq!(description.servers["b"].settings["greeting"].text(), "7");
        assert_eq!(description.servers["a"].ports["http"], 8080);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (head, why) in [
            ("", "missing field `server`"),
            ("server = []", "no server in it"),
            ("name = \"A b\"\nserver = []", "small letters"),
            ("servers = 1", "line 1"),
            ("server = [{ name = \"a\", recipe = \"wbe\" }]", "there are azurite, versitygw, web"),
            ("server = [{ name = \"../a\", recipe = \"web\" }]", "small letters"),
            ("server = [{ name = \"a\", recipe = \"web\", mem = 1 }]", "unknown field `mem`"),
            ("server = [{ name = \"a\", recipe = \"web\", ports = { x = 1 } }]", "there are http"),
            (
                "server = [{ name = \"a\", recipe = \"web\", settings = { x = 1 } }]",
                "greeting, peer",
            ),
            ("server = [{ name = \"a\", recipe = \"web\", variant = \"x\" }]", "no variant"),
            (
                "server = [{ name = \"a\", recipe = \"web\", after = [\"b\"] }]",
                "which is no server",
            ),
            (
                "server = [{ name = \"a\", recipe = \"web\", settings = { peer = \"${a.url}\" } }]",
                "each waits",
            ),
            (
                "server = [{ name = \"a\", recipe = \"web\" }, { name = \"a\", recipe = \"web\" }]",
                "a second server",
            ),
            ("installed = { x = \"/x\" }\nserver = []", "no artefact"),
            ("installed = { go = \"go\" }\nserver = []", "absolute"),
        ] {
            let error = read(head).expect_err(head);
            assert_eq!(error.kind(), model::ErrorKind::Invalid);
            assert!(error.chain().contains(why), "{head}: {}", error.chain());
        }
    }
}
