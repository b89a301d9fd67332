//! What the repository needs of an object store, as a check that any store can be put to.

use std::sync::Arc;

use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

const RACERS: usize = 16;

/// Checks that creates have one winner, that what was written is read and listed at once, that
/// ranges are slices and that what is missing is said to be missing. Writes below `prefix` and
/// removes it again.
///
/// # Panics
/// Where the store breaks a rule.
pub async fn check_store(store: Arc<dyn ObjectStore>, prefix: &str) {
    check_create(&store, prefix).await;
    check_read(&store, prefix).await;
    check_list(&store, prefix).await;
    let below = Path::from(prefix);
    let all: Vec<_> = store.list(Some(&below)).try_collect().await.expect("list all");
    for entry in all {
        store.delete(&entry.location).await.expect("delete");
        let gone = store.get(&entry.location).await;
        assert!(matches!(gone, Err(Error::NotFound { .. })), "what is deleted is read: {gone:?}");
    }
    let left: Vec<_> = store.list(Some(&below)).try_collect().await.expect("list again");
    assert!(left.is_empty(), "what is deleted is listed: {left:?}");
}

async fn check_create(store: &Arc<dyn ObjectStore>, prefix: &str) {
    for round in 0..8 {
        let path = Path::from(format!("{prefix}/race/{round}"));
        let racers = (0..RACERS).map(|racer| {
            let (store, path) = (Arc::clone(store), path.clone());
            tokio::spawn(async move {
                let payload = PutPayload::from(vec![racer as u8; 4_096]);
                let put = store.put_opts(&path, payload, PutMode::Create.into()).await;
                (racer, put)
            })
        });
        let mut winners = Vec::new();
        for ended in join_all(racers).await {
            match ended.expect("racer") {
                (racer, Ok(_)) => winners.push(racer),
                (_, Err(Error::AlreadyExists { .. })) => {}
                (racer, Err(error)) => panic!("racer {racer} failed otherwise: {error}"),
            }
        }
        let [winner] = winners.as_slice() else { panic!("{winners:?} all created {path}") };
        let content = store.get(&path).await.expect("get").bytes().await.expect("read");
        assert_eq!(content, vec![*winner as u8; 4_096], "the loser's bytes stand there");
    }
}

async fn check_read(store: &Arc<dyn ObjectStore>, prefix: &str) {
    let content = testkit::random_bytes(1, 100_000);
    let path = Path::from(format!("{prefix}/read/content"));
    store.put(&path, content.clone().into()).await.expect("put");
    let read = store.get(&path).await.expect("get").bytes().await.expect("read");
    assert!(read == content, "what was written is not what is read");
    for range in [0..1, 5..99_000, 99_999..100_000] {
        let slice = store.get_range(&path, range.clone()).await.expect("range");
        let expected = content.slice(range.start as usize..range.end as usize);
        assert!(slice == expected, "range {range:?} is not a slice");
    }
    let ranges = [0..10, 50_000..60_000, 99_990..100_000];
    let slices = store.get_ranges(&path, &ranges).await.expect("ranges");
    let lengths: Vec<_> = slices.iter().map(bytes::Bytes::len).collect();
    assert_eq!(lengths, [10, 10_000, 10]);
    assert_eq!(store.head(&path).await.expect("head").size, 100_000);

    let missing = Path::from(format!("{prefix}/read/missing"));
    let found = store.get(&missing).await;
    assert!(matches!(found, Err(Error::NotFound { .. })), "what is missing is read: {found:?}");
    let found = store.head(&missing).await;
    assert!(matches!(found, Err(Error::NotFound { .. })), "what is missing has size: {found:?}");
}

async fn check_list(store: &Arc<dyn ObjectStore>, prefix: &str) {
    let directory = Path::from(format!("{prefix}/list"));
    for name in ["b/1", "a", "b/2", "c"] {
        let path = Path::from(format!("{prefix}/list/{name}"));
        store.put(&path, PutPayload::from_static(b"x")).await.expect("put");
        let listed: Vec<_> =
            store.list(Some(&directory)).try_collect().await.expect("list after write");
        assert!(listed.iter().any(|entry| entry.location == path), "{path} is not listed at once");
    }
    let level = store.list_with_delimiter(Some(&directory)).await.expect("list a level");
    let mut names: Vec<_> = level.objects.iter().map(|entry| entry.location.to_string()).collect();
    names.sort();
    assert_eq!(names, [format!("{prefix}/list/a"), format!("{prefix}/list/c")]);
    assert_eq!(level.common_prefixes, [Path::from(format!("{prefix}/list/b"))]);
    let empty: Vec<_> = store
        .list(Some(&Path::from(format!("{prefix}/nothing"))))
        .try_collect()
        .await
        .expect("list nothing");
    assert!(empty.is_empty());
}
