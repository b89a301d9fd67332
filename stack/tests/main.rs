//! Real servers: each is fetched once, starts, and does what it was started for.

use std::io::Write as _;
use std::sync::{Arc, Once};

use model::Context;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreExt as _, PutMode};
use stack::{Place, Server, Shared, Stack};
use testkit::real_context;

/// One stack for all tests of this program.
static STORES: Shared = Shared::new(
    "stores",
    r#"server = [
        { name = "s3", recipe = "versitygw" },
        { name = "azure", recipe = "azurite" },
    ]"#,
);

static SAID: Once = Once::new();

fn place() -> Place {
    Place::of_variables(std::env::vars_os()).expect("folders")
}

/// Says first what may be fetched, whatever becomes of what tests print.
async fn stores(context: &Context) -> &'static Stack {
    SAID.call_once(|| {
        let line = "fetches, unless they are in the cache: versitygw as a Go module (else moto by pip), azurite by npm";
        let _ = writeln!(std::io::stderr(), "{line}");
    });
    STORES.get(&place(), context).await.expect("started")
}

fn property(server: &Server, name: &str) -> String {
    server.property(name).expect(name).to_owned()
}

/// One TLS for all, and none here.
fn plain() -> ClientOptions {
    ClientOptions::new().with_allow_http(true)
}

fn s3(server: &Server, key: &str, secret: &str) -> Arc<dyn ObjectStore> {
    let store = AmazonS3Builder::new()
        .with_endpoint(property(server, "url"))
        .with_region(property(server, "region"))
        .with_bucket_name(property(server, "bucket"))
        .with_access_key_id(key)
        .with_secret_access_key(secret)
        .with_client_options(plain());
    Arc::new(store.build().expect("client"))
}

/// Creates where nothing is; what is there stays.
async fn check_create(store: &dyn ObjectStore, path: &str) {
    let path = Path::from(path);
    let create = |content: &'static str| {
        let path = path.clone();
        async move { store.put_opts(&path, content.into(), PutMode::Create.into()).await }
    };
    create("first").await.expect("created");
    let second = create("second").await.expect_err("it is there already");
    assert!(matches!(second, Error::AlreadyExists { .. }), "{second:?}");
    let content = store.get(&path).await.expect("get").bytes().await.expect("bytes");
    assert_eq!(content, "first");
}

#[tokio::test]
async fn s3_creates_where_nothing_is() {
    let (context, _) = real_context(1);
    let server = stores(&context).await.server("s3").expect("s3");
    let (key, secret) = (property(server, "access_key"), property(server, "secret_key"));
    check_create(s3(server, &key, &secret).as_ref(), "lifeboat/create").await;
}

#[tokio::test]
async fn s3_lets_in_who_has_the_secret() {
    let (context, _) = real_context(2);
    let server = stores(&context).await.server("s3").expect("s3");
    if !server.provides("authentication") {
        println!("not run: {} lets everybody in", server.record().variant);
        return;
    }
    let path = Path::from("lifeboat/nothing");
    let store = s3(server, &property(server, "access_key"), "wrong");
    let error = store.get(&path).await.expect_err("wrong secret");
    let is_refused =
        matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. });
    assert!(is_refused, "{error:?}");
    // The second user is known, and may do nothing until a policy says so.
    let user = property(server, "user_access_key");
    let store = s3(server, &user, &property(server, "user_secret_key"));
    let error = store.put(&path, "x".into()).await.expect_err("no policy");
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
}

#[tokio::test]
async fn objects_of_s3_are_files_that_tests_can_damage() {
    let (context, _) = real_context(3);
    let server = stores(&context).await.server("s3").expect("s3");
    let Ok(data) = server.property("data") else {
        println!("not run: {} keeps no files", server.record().variant);
        return;
    };
    let (key, secret) = (property(server, "access_key"), property(server, "secret_key"));
    let (store, path) = (s3(server, &key, &secret), Path::from("lifeboat/damaged"));
    store.put(&path, "sound".into()).await.expect("put");
    let file = std::path::Path::new(data).join(property(server, "bucket")).join("lifeboat/damaged");
    std::fs::write(file, "burnt").expect("write");
    let content = store.get(&path).await.expect("get").bytes().await.expect("bytes");
    assert_eq!(content, "burnt");
}

#[tokio::test]
async fn azure_creates_where_nothing_is() {
    let (context, _) = real_context(4);
    let server = stores(&context).await.server("azure").expect("azure");
    let account = property(server, "account");
    let store = MicrosoftAzureBuilder::new()
        .with_endpoint(format!("{}/{account}", server.url().expect("url")))
        .with_account(&account)
        .with_access_key(property(server, "key"))
        .with_container_name(property(server, "container"))
        .with_client_options(plain())
        .build()
        .expect("client");
    check_create(&store, "lifeboat/create").await;
}
