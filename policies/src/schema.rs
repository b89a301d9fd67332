//! The policy file's shape, as TOML has it: strings with their places, nothing judged yet.
//!
//! One list per kind of system and `deny_unknown_fields` everywhere, without `flatten` and `untagged`,
//! so that a mistyped key is reported where it stands.

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicy {
    pub site: Spanned<String>,
    pub memory: Option<Spanned<String>>,
    #[serde(default)]
    pub files: Vec<RawFiles>,
    #[serde(default)]
    pub repository: Vec<Spanned<RawRepository>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFiles {
    pub name: Spanned<String>,
    #[serde(default)]
    pub paths: Vec<Spanned<String>>,
    #[serde(default)]
    pub include: Vec<Spanned<String>>,
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
    #[serde(default)]
    pub one_file_system: bool,
    #[serde(default = "yes")]
    pub skip_caches: bool,
    #[serde(default)]
    pub commands: Vec<RawCommand>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCommand {
    pub name: Spanned<String>,
    pub command: Spanned<Vec<String>>,
    pub timeout: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRepository {
    pub url: Spanned<String>,
    pub endpoint: Option<Spanned<String>>,
    pub region: Option<Spanned<String>>,
    pub account: Option<Spanned<String>>,
    pub key_file: Option<Spanned<String>>,
    pub identity_file: Option<Spanned<String>>,
    pub passphrase_file: Option<Spanned<String>>,
    pub passphrase_command: Option<Spanned<Vec<String>>>,
    pub passphrase_env: Option<Spanned<String>>,
}

fn yes() -> bool {
    true
}
