//! From settings to an opened repository.

use std::collections::BTreeMap;

use model::{Context, ErrorKind, Result};
use policies::StorePlace;
use repository::crypto::Unlock;
use repository::store::{Attach, Store};
use repository::{OpenOptions, Repository};

use crate::settings::{Settings, absolute_url};

/// Attaches the store of a repository. Makes no request.
///
/// # Errors
/// `Invalid` where none is named or its URL makes no sense; `NotFound`, `Unsupported`.
pub fn attach(settings: &Settings, attach: Attach, context: &Context) -> Result<Store> {
    let url = settings.repository()?;
    let options = store_options(url, &settings.place, settings.environment.store_options());
    Store::attach(url, &options, attach, context)
}

/// Attaches what is to be copied: the repository, unless another is named. Makes no request.
///
/// # Errors
/// As [`attach`].
pub fn attach_source(settings: &Settings, url: Option<&str>, context: &Context) -> Result<Store> {
    let Some(url) = url else { return attach(settings, Attach::Existing, context) };
    let url = absolute_url(url, &settings.environment);
    let place = settings.place_of(&url);
    let options = store_options(&url, &place, settings.environment.store_options());
    Store::attach(&url, &options, Attach::Existing, context)
}

/// Attaches the place of a copy, with settings of its own where the environment has them (see
/// [`Environment::copy_options`](crate::environment::Environment::copy_options)). A folder that is not
/// there is made, but for a dry run, which sees an empty place. Makes no request.
///
/// # Errors
/// As [`attach`].
pub fn attach_copy(
    settings: &Settings,
    url: &str,
    is_dry_run: bool,
    context: &Context,
) -> Result<Store> {
    let url = absolute_url(url, &settings.environment);
    let place = settings.place_of(&url);
    let options = store_options(&url, &place, settings.environment.copy_options());
    if !is_dry_run {
        return Store::attach(&url, &options, Attach::Create, context);
    }
    match Store::attach(&url, &options, Attach::Existing, context) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let empty = Store::attach("memory:///", &options, Attach::Existing, context)?;
            Ok(Store::new(empty.object_store().clone(), &url, context))
        }
        attached => attached,
    }
}

/// What a store is told: variables of the environment, and what the policy says where they are silent. A
/// local folder has no settings.
fn store_options(
    url: &str,
    place: &StorePlace,
    mut options: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let Some((scheme, _)) = url.split_once("://").filter(|(scheme, _)| *scheme != "file") else {
        return BTreeMap::new();
    };
    for (setting, value) in [
        (Setting::Endpoint, &place.endpoint),
        (Setting::Region, &place.region),
        (Setting::Account, &place.account),
    ] {
        let names = setting.names(scheme);
        let (Some(value), Some(name)) = (value, names.first()) else { continue };
        if names.iter().any(|name| options.contains_key(*name)) {
            continue;
        }
        options.insert((*name).to_owned(), value.clone());
        if setting == Setting::Endpoint && value.starts_with("http://") {
            // Whoever writes such an endpoint into a policy has said that it is meant.
            options.insert(format!("{}_ALLOW_HTTP", prefix(scheme)), "true".to_owned());
        }
    }
    options
}

/// Returns where the store of the chosen repository is found, as the environment and the policy have it:
/// what is to be kept in a policy that is written now.
pub fn place(settings: &Settings) -> StorePlace {
    let Ok(url) = settings.repository() else { return StorePlace::default() };
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let options = store_options(url, &settings.place, settings.environment.store_options());
    let find = |setting: Setting| {
        setting.names(scheme).iter().find_map(|name| options.get(*name)).cloned()
    };
    // What the policy would refuse, such as a password in it, stays in the environment.
    let endpoint = find(Setting::Endpoint).filter(|endpoint| !endpoint.contains(['@', '?', '#']));
    StorePlace { endpoint, region: find(Setting::Region), account: find(Setting::Account) }
}

/// What a policy says of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Endpoint,
    Region,
    Account,
}

impl Setting {
    /// The variables that say the same; the first is set where none is.
    fn names(self, scheme: &str) -> &'static [&'static str] {
        match (scheme, self) {
            ("s3", Self::Endpoint) => &["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"],
            ("s3", Self::Region) => &["AWS_REGION", "AWS_DEFAULT_REGION"],
            ("az", Self::Endpoint) => &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"],
            ("az", Self::Account) => &["AZURE_STORAGE_ACCOUNT_NAME"],
            ("gs", Self::Endpoint) => &["GOOGLE_BASE_URL"],
            _ => &[],
        }
    }
}

fn prefix(scheme: &str) -> &'static str {
    match scheme {
        "az" => "AZURE",
        "gs" => "GOOGLE",
        _ => "AWS",
    }
}

/// Says how a repository is used: the policy's memory, a cache below the user's own.
pub fn open_options(settings: &Settings) -> OpenOptions {
    let usual = OpenOptions::default();
    OpenOptions {
        memory_bytes: settings.memory_bytes().unwrap_or(usual.memory_bytes),
        cache_folder: settings.environment.cache_folder(),
    }
}

/// Makes sure that there is a repository, without a key.
///
/// # Errors
/// As [`attach`] and [`Repository::find`].
pub async fn find(settings: &Settings, context: &Context) -> Result<()> {
    Repository::find(&attach(settings, Attach::Existing, context)?).await
}

/// Opens the repository with a key.
///
/// # Errors
/// As [`attach`] and [`Repository::open`].
pub async fn open(settings: &Settings, unlock: &Unlock, context: &Context) -> Result<Repository> {
    let store = attach(settings, Attach::Existing, context)?;
    Repository::open(store, unlock, open_options(settings), context).await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::environment::Environment;
    use crate::settings::{Flags, PolicyUse};

    fn settings(policy: &str, pairs: &[(&str, &str)]) -> Settings {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("lifeboat.toml");
        std::fs::write(&path, format!("site = \"prod\"\n[[repository]]\n{policy}")).expect("write");
        let environment = Environment::of_pairs(Path::new("/"), pairs);
        let flags = Flags { policy: Some(path), ..Flags::default() };
        Settings::load(&flags, environment, PolicyUse::Wanted).expect("settings")
    }

    fn options(policy: &str, pairs: &[(&str, &str)]) -> String {
        let settings = settings(policy, pairs);
        let url = settings.repository().expect("named");
        let options = store_options(url, &settings.place, settings.environment.store_options());
        let shown = options.iter().map(|(name, value)| format!("{name}={value}"));
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_environment_goes_before_the_policy() {
        let s3 = "url = \"s3://b/a\"\nendpoint = \"http://host:1\"\nregion = \"r\"";
        let az = "url = \"az://c/a\"\naccount = \"a\"";
        for (policy, pairs, expected) in [
            (s3, &[][..], "AWS_ALLOW_HTTP=true AWS_ENDPOINT=http://host:1 AWS_REGION=r"),
            (s3, &[("AWS_ENDPOINT_URL", "https://e")], "AWS_ENDPOINT_URL=https://e AWS_REGION=r"),
            (
                s3,
                &[("AWS_DEFAULT_REGION", "e"), ("AWS_ENDPOINT", "https://e")],
                "AWS_DEFAULT_REGION=e AWS_ENDPOINT=https://e",
            ),
            (az, &[], "AZURE_STORAGE_ACCOUNT_NAME=a"),
            (az, &[("AZURE_STORAGE_ACCOUNT_NAME", "b")], "AZURE_STORAGE_ACCOUNT_NAME=b"),
            ("url = \"/a\"", &[("AWS_REGION", "e")], ""),
        ] {
            assert_eq!(options(policy, pairs), expected, "{policy} {pairs:?}");
        }
    }

    #[test]
    fn a_copy_is_found_as_the_policy_and_variables_of_its_own_have_it() {
        let policy = "url = \"s3://b/a\"\nendpoint = \"https://here\"\n\
                      [[repository]]\nurl = \"s3://b/copy\"\nendpoint = \"https://there\"";
        let settings = settings(policy, &[("LIFEBOAT_COPY_AWS_REGION", "r")]);
        let options = |url: &str| {
            let options = settings.environment.copy_options();
            store_options(url, &settings.place_of(url), options).into_iter().collect::<Vec<_>>()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let region = pair("AWS_REGION", "r");
        let endpoint = pair("AWS_ENDPOINT", "https://there");
        assert_eq!(options("s3://b/copy/"), [endpoint, region.clone()]);
        assert_eq!(options("s3://b/other"), [region]);
        assert_eq!(options("/folder"), []);
    }

    #[test]
    fn a_new_policy_keeps_what_the_environment_says_of_the_place_and_no_secret() {
        let pairs = [
            ("AWS_ENDPOINT_URL", "http://host:1"),
            ("AWS_REGION", "r"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
        ];
        let expected = StorePlace {
            endpoint: Some("http://host:1".to_owned()),
            region: Some("r".to_owned()),
            account: None,
        };
        assert_eq!(place(&settings("url = \"s3://b/a\"", &pairs)), expected);
        let secret = [("AWS_ENDPOINT", "http://user:secret@host")];
        assert_eq!(place(&settings("url = \"s3://b/a\"", &secret)), StorePlace::default());
        assert_eq!(place(&settings("url = \"/a\"", &pairs)), StorePlace::default());
    }
}
