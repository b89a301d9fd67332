//! A real store that keeps the condition of a create only while nobody else writes.

use model::ErrorKind;
use stack::Shared;
use testkit::real_context;

use super::life::Host;
use super::{s3_store_of_root, start};

static RACING: Shared = Shared::new(
    "chaos-racing",
    r#"
server = [{ name = "s3", recipe = "s3sfs" }]

[artefact.s3sfs]
sources = [{ crate = "s3s-fs@0.14.1", features = ["binary"], program = "bin/s3s-fs" }]

[recipe.s3sfs]
about = "an S3 store whose conditional creates race"
ports = ["s3"]
memory_mib = 256

[[recipe.s3sfs.variant]]
name = "s3s-fs"
provides = ["s3"]
needs = ["s3sfs"]
folders = ["data/test"]
command = [
    "${program.s3sfs}", "--host", "${host}", "--port", "${port.s3}",
    "--access-key", "testkey", "--secret-key", "testsecret", "${folder}/data",
]
ready = [{ tcp = "${host}:${port.s3}" }]
properties = { url = "http://${host}:${port.s3}", region = "us-east-1", bucket = "test", access_key = "testkey", secret_key = "testsecret" }
"#,
);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the full tier runs it: the server takes minutes to be compiled"]
async fn a_real_store_whose_creates_race_is_refused() {
    let (context, _) = real_context(131);
    let test = "a_real_store_whose_creates_race_is_refused";
    let Some(server) = start(&RACING, (test, "s3"), &context).await else { return };
    let store = s3_store_of_root(server, "refused", &context);
    let host = Host::new(&context);
    let error = host.client.init(store.object_store()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    let chain = error.chain();
    assert!(chain.contains("If-None-Match") || chain.contains("replaced the object"), "{chain}");
    let error = store.probe().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
}
