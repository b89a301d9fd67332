//! Repositories in real object stores: the whole of their life, faults on the way to them, and accounts
//! that may do only what they have to.

mod faults;
mod life;
mod price;
mod refused;
mod roles;

use std::collections::BTreeMap;
use std::io::Write as _;

use model::{Context, ErrorKind};
use repository::store::{Attach, Store};
use stack::{Place, Server, Shared};

static S3: Shared = Shared::new("chaos-s3", r#"server = [{ name = "s3", recipe = "versitygw" }]"#);
static AZURE: Shared =
    Shared::new("chaos-azure", r#"server = [{ name = "azure", recipe = "azurite" }]"#);

/// Says that a test was not run, whatever becomes of what tests print.
fn not_run(why: &str) {
    let _ = writeln!(std::io::stdout(), "not run: {why}");
}

/// Starts a server; none where it cannot be had on this machine.
async fn start(
    stack: &'static Shared,
    (test, name): (&str, &str),
    context: &Context,
) -> Option<&'static Server> {
    let place = Place::of_variables(std::env::vars_os()).expect("folders");
    match stack.get(&place, context).await {
        Ok(stack) => Some(stack.server(name).expect(name)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            not_run(&format!("{test}: {}", error.chain()));
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

async fn s3(test: &str, context: &Context) -> Option<&'static Server> {
    start(&S3, (test, "s3"), context).await
}

async fn azure(test: &str, context: &Context) -> Option<&'static Server> {
    start(&AZURE, (test, "azure"), context).await
}

/// Returns the S3 server if it can do something, and says so if it cannot.
async fn s3_with(test: &str, ability: &str, context: &Context) -> Option<&'static Server> {
    let server = s3(test, context).await?;
    if !server.provides(ability) {
        not_run(&format!("{test}: {} has no {ability}", server.record().variant));
        return None;
    }
    Some(server)
}

fn property(server: &Server, name: &str) -> String {
    server.property(name).expect(name).to_owned()
}

fn settings<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Attaches a prefix of the server's bucket as the program does it, under an account.
fn s3_store(
    server: &Server,
    (key, secret): (&str, &str),
    prefix: &str,
    context: &Context,
) -> Store {
    let options = settings([
        ("AWS_ENDPOINT_URL", server.url().expect("url").to_owned()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", property(server, "region")),
        ("AWS_ACCESS_KEY_ID", key.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
    ]);
    let url = format!("s3://{}/{prefix}", property(server, "bucket"));
    Store::attach(&url, &options, Attach::Existing, context).expect("attach")
}

/// The same, under the account that may do everything.
fn s3_store_of_root(server: &Server, prefix: &str, context: &Context) -> Store {
    let (key, secret) = (property(server, "access_key"), property(server, "secret_key"));
    s3_store(server, (&key, &secret), prefix, context)
}

/// Attaches a prefix of the server's container as the program does it.
fn azure_store(server: &Server, prefix: &str, context: &Context) -> Store {
    let account = property(server, "account");
    let options = settings([
        ("AZURE_STORAGE_ENDPOINT", format!("{}/{account}", server.url().expect("url"))),
        ("AZURE_ALLOW_HTTP", "true".to_owned()),
        ("AZURE_STORAGE_ACCOUNT_KEY", property(server, "key")),
        ("AZURE_STORAGE_ACCOUNT_NAME", account),
    ]);
    let url = format!("az://{}/{prefix}", property(server, "container"));
    Store::attach(&url, &options, Attach::Existing, context).expect("attach")
}
