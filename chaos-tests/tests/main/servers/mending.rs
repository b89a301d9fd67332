//! Repair in real stores: objects are replaced there under their keys, and what stood there is kept.

use std::sync::Arc;

use model::Context;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use repository::repair::{Means, RepairOptions, repair};
use repository::replicate::{ReplicaOptions, replicate};
use repository::store::Store;
use testkit::real_context;

use super::life::Host;
use super::{azure, azure_store, s3, s3_store_of_root};

async fn mend(store: &Store, context: &Context) {
    let objects = store.object_store();
    let host = Host::new(context);
    host.client.init(objects).await.expect("init");
    host.backup(objects).await;
    let copy = Store::new(Arc::new(InMemory::new()), "copy", context);
    let sync = ReplicaOptions {
        is_dry_run: false,
        jobs: 4,
        memory_bytes: 64 << 20,
        bytes_per_second: None,
        with_keys: true,
    };
    Box::pin(replicate(store, &copy, &sync, context)).await.expect("copy");
    let first = async |prefix: &str| store.list(prefix).await.expect("list").swap_remove(0).path;
    let (pack, snapshot, meta) =
        (first("pack").await, first("snapshot").await, first("meta").await);
    for (path, length) in [(&pack, 1000), (&snapshot, 0)] {
        let damaged = PutPayload::from(vec![7; length]);
        objects.put(&Path::from(path.as_str()), damaged).await.expect("damage");
    }
    store.delete(&meta).await.expect("lose");
    let repository = host.client.open(objects).await.expect("open");
    let options = RepairOptions { is_dry_run: false, named: 3, jobs: 4, memory_bytes: 64 << 20 };
    let report = Box::pin(repair(&repository, Some(&copy), &options, context)).await;
    let report = report.expect("repair");
    assert!(report.is_whole(), "{report:#?}");
    for path in [&pack, &snapshot] {
        let mended = report.mended.iter().find(|mended| mended.object == *path).expect("mended");
        assert_eq!(mended.by, Means::Copy);
        let kept = store.get(mended.kept.as_deref().expect("kept")).await.expect("get");
        assert!(kept.iter().all(|byte| *byte == 7));
    }
    host.check_deep(objects, context).await;
    host.check_restore(objects).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_s3_heals() {
    let (context, _) = real_context(161);
    let Some(server) = s3("damage in S3 heals", &context).await else { return };
    mend(&s3_store_of_root(server, "mending", &context), &context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_azure_heals() {
    let (context, _) = real_context(162);
    let Some(server) = azure("damage in Azure heals", &context).await else { return };
    mend(&azure_store(server, "mending", &context), &context).await;
}
