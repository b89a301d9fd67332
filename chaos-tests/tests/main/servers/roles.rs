//! The ready policies: each account does all of its work and nothing else.

use std::time::Duration;

use chaos_tests::engine::capture_options;
use model::{Context, ErrorKind, LogPayload};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpConnector as _, HttpRequest, ReqwestConnector};
use operations::follow::{FollowOptions, follow};
use repository::Repository;
use repository::store::Store;
use repository::types::StreamName;
use stack::Server;
use testkit::{ScriptedSystem, real_context};
use tokio_util::sync::CancellationToken;

use super::life::{Host, collect_all};
use super::{property, s3_store, s3_store_of_root, s3_with};

const WRITER: &str = include_str!("../../../../docs/object-stores/s3-writer.json");
const COLLECTOR: &str = include_str!("../../../../docs/object-stores/s3-collector.json");
const READER: &str = include_str!("../../../../docs/object-stores/s3-reader.json");

const PREFIX: &str = "roles/prod";

/// Gives the second account what a policy allows, and no more.
async fn allow(server: &Server, policy: &str) {
    let (bucket, user) = (property(server, "bucket"), property(server, "user_access_key"));
    let policy = policy.replace("PRINCIPAL", &user).replace("BUCKET", &bucket);
    let policy = policy.replace("PREFIX", PREFIX);
    let credential = AwsCredential {
        key_id: property(server, "access_key"),
        secret_key: property(server, "secret_key"),
        token: None,
    };
    let mut request = HttpRequest::new(policy.into());
    *request.method_mut() = "PUT".parse().expect("method");
    let url = format!("{}/{bucket}?policy=", server.url().expect("url"));
    *request.uri_mut() = url.parse().expect("address");
    let region = property(server, "region");
    let signed = AwsAuthorizer::new(&credential, "s3", &region).try_authorize(&mut request, None);
    signed.expect("signed");
    let options = ClientOptions::new().with_allow_http(true);
    let client = ReqwestConnector::default().connect(&options).expect("client");
    let answer = client.execute(request).await.expect("answer");
    let status = answer.status();
    let text = answer.into_body().bytes().await.expect("text");
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&text));
}

/// Returns the repository's place as the second account sees it.
fn store_of_user(server: &Server, context: &Context) -> Store {
    let key = property(server, "user_access_key");
    s3_store(server, (&key, &property(server, "user_secret_key")), PREFIX, context)
}

/// Follows a system until its first changes are durable.
async fn follow_for_a_while(repository: &Repository, context: &Context) {
    let system = ScriptedSystem::new("dir d\n file d/a \"one\"").with_log(LogPayload::Changes);
    let stream: StreamName = "prod.followed".parse().expect("stream");
    let cancel = CancellationToken::new();
    let followed = Context { cancel: cancel.clone(), ..context.clone() };
    let mut options = FollowOptions::new(capture_options(&std::env::temp_dir()));
    options.batch_age = Duration::from_millis(50);
    let run = follow(repository, &stream, &system, &options, &followed);
    let script = async {
        let mut edited = false;
        for _ in 0..600 {
            if system.acknowledged() == system.position() {
                if edited {
                    cancel.cancel();
                    return;
                }
                system.edit("file d/b \"two\"");
                edited = true;
            }
            context.clock.sleep(Duration::from_millis(50)).await;
        }
        panic!("the change never became durable");
    };
    let (done, ()) = futures::join!(Box::pin(run), script);
    let done = done.expect("a good end");
    assert!(done.captures == 1 && done.batches > 0, "{done:?}");
}

async fn check_writer(server: &Server, host: &Host, context: &Context) {
    allow(server, WRITER).await;
    let store = store_of_user(server, context);
    store.probe().await.expect("a writer can try the store out");
    let objects = store.object_store();
    for seed in 41..43 {
        host.write("large", seed, 2_000_000);
        host.backup(objects).await;
    }
    let repository = host.client.open(objects).await.expect("open");
    follow_for_a_while(&repository, context).await;
    host.check_restore(objects).await;
    host.check_deep(objects, context).await;
    host.forget(&repository, 2, context).await;
    let packs = store.list("pack").await.expect("list");
    let denied = store.delete(&packs[0].path).await.expect_err("a writer deletes nothing");
    assert_eq!(denied.kind(), ErrorKind::Denied, "{denied:?}");
    assert_eq!(store.list("pack").await.expect("list"), packs);
    let probes = store.list("probe").await.expect("list").len();
    assert!(probes > 0, "what it may not delete is left for the collector");
    let denied = collect_all(&repository, context).await.expect_err("nor does it collect");
    assert_eq!(denied.kind(), ErrorKind::Denied, "{denied:?}");
}

async fn check_reader(server: &Server, host: &Host, context: &Context) {
    allow(server, READER).await;
    let store = store_of_user(server, context);
    let objects = store.object_store();
    assert!(host.client.points(objects, 10).await.expect("points") > 0);
    assert!(host.client.ls(objects, &host.root).await.expect("ls") > 0);
    host.check_restore(objects).await;
    host.check_deep(objects, context).await;
    let denied =
        store.create("pack/00/new", "x".into()).await.expect_err("a reader writes nothing");
    assert_eq!(denied.kind(), ErrorKind::Denied, "{denied:?}");
    let denied = Box::pin(host.client.backup(objects)).await.expect_err("nor does it back up");
    assert_eq!(denied.kind(), ErrorKind::Denied, "{denied:?}");
}

async fn check_collector(server: &Server, host: &Host, context: &Context) {
    allow(server, COLLECTOR).await;
    let store = store_of_user(server, context);
    let repository = host.client.open(store.object_store()).await.expect("open");
    let freed = collect_all(&repository, context).await.expect("collect");
    assert!(freed > 0, "nothing was freed");
    // Keys, forgets and the descriptor are none of its business.
    let slots = store.list("").await.expect("list");
    let kept = [
        "pack/",
        "meta/",
        "index/",
        "session/",
        "snapshot/",
        "gc/",
        "point/",
        "log",
        "heartbeat/",
        "probe/",
    ];
    let kept = slots.iter().filter(|one| !kept.iter().any(|prefix| one.path.starts_with(prefix)));
    let kept: Vec<_> = kept.map(|listed| listed.path.clone()).collect();
    assert!(kept.len() >= 2, "{kept:?}");
    for path in kept {
        let denied = store.delete(&path).await.expect_err(&path);
        assert_eq!(denied.kind(), ErrorKind::Denied, "{path}: {denied:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_does_its_work_and_no_more() {
    let (context, _) = real_context(121);
    let test = "each_account_does_its_work_and_no_more";
    let Some(server) = s3_with(test, "users", &context).await else { return };
    let root = s3_store_of_root(server, PREFIX, &context);
    let host = Host::new(&context);
    host.client.init(root.object_store()).await.expect("init");
    host.backup(root.object_store()).await;
    Box::pin(check_writer(server, &host, &context)).await;
    Box::pin(check_reader(server, &host, &context)).await;
    Box::pin(check_collector(server, &host, &context)).await;
    host.check_deep(root.object_store(), &context).await;
    host.check_restore(root.object_store()).await;
}
