//! From a URL to a store.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::{Context, Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use super::errors::{io_kind, without_credentials, without_values};
use super::{Store, StoreKind};

/// A connection that answers nothing for so long is dead. Sending a pack counts as silence, so that
/// this also bounds how slow a line may be.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// Whether the place has to exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// It has to: a directory that is not there is an error.
    Existing,
    /// A directory that is not there is made.
    Create,
}

impl Store {
    /// Attaches the store at a URL (`s3://`, `az://`, `gs://`, `file://`, `memory://`) or at a plain
    /// path. `options` are the store's own settings by their usual names (`aws_access_key_id`), in any
    /// case; names that it does not know are passed over, so that a whole environment can be given.
    ///
    /// Attaching makes no request.
    ///
    /// # Errors
    /// `Invalid` for a URL or options that make no sense; `NotFound` for a directory that is not there;
    /// `Unsupported` for a kind of store that is not built in.
    pub fn attach(
        url: &str,
        options: &BTreeMap<String, String>,
        attach: Attach,
        context: &Context,
    ) -> Result<Self> {
        let parsed = match url.split_once("://") {
            None => return attach_directory(FilePath::new(url), url, attach, context),
            Some(_) => Url::parse(url).map_err(|error| invalid(url, error))?,
        };
        let (scheme, path) =
            ObjectStoreScheme::parse(&parsed).map_err(|_| unsupported(url, parsed.scheme()))?;
        let (kind, remote): (_, Box<dyn ObjectStore>) = match scheme {
            ObjectStoreScheme::Local => {
                let directory = parsed.to_file_path().map_err(|()| {
                    invalid(url, Error::new(ErrorKind::Invalid, "read path of URL", ""))
                })?;
                return attach_directory(&directory, url, attach, context);
            }
            ObjectStoreScheme::Memory => (StoreKind::Memory, Box::new(InMemory::new())),
            ObjectStoreScheme::AmazonS3 => {
                // One object is deleted at a time. Its own request says whether that was refused; the one
                // for many says that all went well, and hides in its body that it did not.
                let builder = AmazonS3Builder::new()
                    .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
                (StoreKind::S3, remote!(builder, url, options))
            }
            ObjectStoreScheme::MicrosoftAzure => {
                (StoreKind::Azure, remote!(MicrosoftAzureBuilder::new(), url, options))
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                (StoreKind::Google, remote!(GoogleCloudStorageBuilder::new(), url, options))
            }
            _ => return Err(unsupported(url, parsed.scheme())),
        };
        let whole = path == Path::default();
        let object_store: Arc<dyn ObjectStore> =
            if whole { remote.into() } else { Arc::new(PrefixStore::new(remote, path)) };
        Ok(Self::of_kind(kind, object_store, url, (None, service(options)), context))
    }
}

/// Returns the settings that say at which service, and in whose account, a bucket of some name is.
fn service(options: &BTreeMap<String, String>) -> Vec<String> {
    let is_place = |name: &str| {
        let name = name.to_ascii_uppercase();
        ["ENDPOINT", "BASE_URL", "ACCOUNT_NAME"].iter().any(|word| name.contains(word))
    };
    let places = options.iter().filter(|(name, _)| is_place(name));
    places.map(|(_, value)| value.trim_end_matches('/').to_owned()).collect()
}

macro_rules! remote {
    ($builder:expr, $url:expr, $options:expr) => {{
        let start =
            $builder.with_url($url).with_client_options(client_options()).with_retry(no_retries());
        let builder = $options.iter().fold(start, |builder, (name, value)| {
            match name.to_ascii_lowercase().parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            }
        });
        let built = builder.build();
        let shown = |error: object_store::Error| without_values(&error.to_string(), $options);
        Box::new(built.map_err(|error| refused($url, &shown(error)))?)
    }};
}
use remote;

/// A whole request may take as long as its bytes need; silence may not.
fn client_options() -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_read_timeout(READ_TIMEOUT)
}

/// [`super::retry`] tries again, where a create can be looked into first.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn attach_directory(
    directory: &FilePath,
    name: &str,
    attach: Attach,
    context: &Context,
) -> Result<Store> {
    let failed = |error: std::io::Error| {
        Error::new(io_kind(&error), "open repository directory", without_credentials(name))
            .because(error)
    };
    if attach == Attach::Create {
        create_directory(directory).map_err(failed)?;
    }
    let root: PathBuf = std::fs::canonicalize(directory).map_err(failed)?;
    if !root.is_dir() {
        return Err(Error::new(ErrorKind::Invalid, "open repository directory", name)
            .detail("it is not a directory"));
    }
    let local = LocalFileSystem::new_with_prefix(&root)
        .map_err(|error| invalid(name, error))?
        .with_fsync(true);
    let place = (Some(root), Vec::new());
    Ok(Store::of_kind(StoreKind::Directory, Arc::new(local), name, place, context))
}

/// Makes a directory and whatever leads to it, so that all of it survives a power cut.
fn create_directory(directory: &FilePath) -> std::io::Result<()> {
    let missing: Vec<_> = directory.ancestors().take_while(|path| !path.exists()).collect();
    std::fs::create_dir_all(directory)?;
    for path in missing {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        super::sweep::sync_directory(parent.unwrap_or(FilePath::new(".")))?;
    }
    Ok(())
}

fn invalid(url: &str, error: impl std::error::Error) -> Error {
    refused(url, &error.to_string())
}

fn refused(url: &str, why: &str) -> Error {
    Error::new(ErrorKind::Invalid, "attach repository", without_credentials(url))
        .because(without_credentials(why))
}

fn unsupported(url: &str, scheme: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "attach repository", without_credentials(url)).detail(
        format!("a store of kind {scheme:?} is not known; use a path, s3://, az:// or gs://"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attach(url: &str, options: &[(&str, &str)]) -> Result<Store> {
        let (context, _) = testkit::context(1);
        let options = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Store::attach(url, &options.collect(), Attach::Existing, &context)
    }

    #[test]
    fn a_url_says_what_kind_of_store_it_is() {
        let azure = ("AZURE_STORAGE_ACCOUNT_NAME", "account");
        for (url, options, kind) in [
            ("memory:///", None, StoreKind::Memory),
            ("s3://bucket/a/prefix", None, StoreKind::S3),
            ("az://container/prefix", Some(azure), StoreKind::Azure),
            ("gs://bucket", None, StoreKind::Google),
        ] {
            let store = attach(url, options.as_slice()).expect(url);
            assert_eq!((store.kind(), store.name()), (kind, url));
        }
        let folder = tempfile::tempdir().expect("folder");
        let store = attach(&folder.path().to_string_lossy(), &[]).expect("directory");
        assert_eq!(store.kind(), StoreKind::Directory);
        let unknown = attach("ftp://host/a", &[]).expect_err("ftp");
        assert_eq!(unknown.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn one_name_at_two_services_is_two_places() {
        let here = ("AWS_ENDPOINT", "https://here");
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        let [store, same, elsewhere, usual] = [
            attach("s3://bucket/a", &[here, keys[0], keys[1]]),
            attach("s3://bucket/a/", &[("AWS_ENDPOINT", "https://here/")]),
            attach("s3://bucket/a", &[("AWS_ENDPOINT", "https://there")]),
            attach("s3://bucket/a", &[]),
        ]
        .map(|store| store.expect("attach"));
        assert!(store.is_same_place(&same));
        assert!(!store.is_same_place(&elsewhere));
        assert!(!store.is_same_place(&usual));
        assert!(!store.is_same_place(&attach("s3://bucket/b", &[here]).expect("attach")));
        let folder = tempfile::tempdir().expect("folder");
        let [one, other] = ["", "/."].map(|end| {
            attach(&format!("{}{end}", folder.path().display()), &[]).expect("directory")
        });
        assert!(one.is_same_place(&other));
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_its_secrets() {
        let no_account = attach("az://container/a", &[]).expect_err("no account");
        assert_eq!(no_account.kind(), ErrorKind::Invalid);
        for (name, value) in [
            ("AZURE_STORAGE_ACCOUNT_KEY", "*not base64, secret*"),
            ("AZURE_STORAGE_SAS_TOKEN", "se=secret%zz%&&=;"),
        ] {
            let account = ("AZURE_STORAGE_ACCOUNT_NAME", "account");
            if let Err(error) = attach("az://container/a", &[account, (name, value)]) {
                assert_eq!(error.kind(), ErrorKind::Invalid);
                let chain = error.chain();
                assert!(!chain.contains("secret"), "{chain}");
            }
        }
        let key = ("GOOGLE_SERVICE_ACCOUNT_KEY", "{\"private_key\": \"secret\"");
        let chain = attach("gs://bucket/a", &[key]).expect_err("no key").chain();
        assert!(!chain.contains("secret"), "{chain}");
    }
}
