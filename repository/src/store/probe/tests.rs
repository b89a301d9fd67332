//! Stores that break a promise, each in its own way, and one that keeps it under trouble.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use model::ErrorKind;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::store::Store;

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sound,
    /// Every put writes, whatever its condition.
    Ignores,
    /// So many puts see nothing there and write.
    Races(usize),
    /// Every put is refused, the last one after it has written.
    RefusesAndWrites,
    /// So many puts are refused as if something were there; nothing is written.
    Conflicts(usize),
    /// So many answers to puts that wrote are lost.
    Loses(usize),
    /// So many puts fail before they write.
    Fails(usize),
    Unlisted,
    Unread,
    NoBucket,
    KeepsAll,
}

#[derive(Debug)]
struct Odd {
    objects: InMemory,
    way: Way,
    puts: AtomicUsize,
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.way)
    }
}

fn broken() -> Error {
    Error::Generic { store: "odd", source: "the connection broke".into() }
}

#[async_trait]
impl ObjectStore for Odd {
    async fn put_opts(
        &self,
        to: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let number = self.puts.fetch_add(1, SeqCst);
        let there = || Error::AlreadyExists { path: to.to_string(), source: "there".into() };
        let overwrite = PutOptions::from(PutMode::Overwrite);
        match self.way {
            Way::Ignores => self.objects.put_opts(to, payload, overwrite).await,
            Way::Races(count) if number < count => {
                self.objects.put_opts(to, payload, overwrite).await
            }
            Way::RefusesAndWrites => {
                let put = self.objects.put_opts(to, payload, overwrite).await;
                if number == 0 { put } else { Err(there()) }
            }
            Way::Conflicts(count) if number < count => Err(there()),
            Way::Loses(count) if number < count => {
                self.objects.put_opts(to, payload, options).await?;
                Err(broken())
            }
            Way::Fails(count) if number < count => Err(broken()),
            Way::NoBucket => {
                Err(Error::NotFound { path: to.to_string(), source: "no bucket".into() })
            }
            _ => self.objects.put_opts(to, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        if self.way == Way::Unread {
            return Err(Error::NotFound { path: from.to_string(), source: "not yet".into() });
        }
        self.objects.get_opts(from, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if self.way == Way::KeepsAll {
            let refuse = |path: Result<Path>| {
                Err(Error::PermissionDenied { path: path?.to_string(), source: "kept".into() })
            };
            return paths.map(refuse).boxed();
        }
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.way == Way::Unlisted {
            return stream::empty().boxed();
        }
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// Probes a store; returns what came of it and how many objects were left.
async fn probe(way: Way) -> (model::Result<()>, usize) {
    let (context, _) = testkit::context(1);
    let objects = Odd { objects: InMemory::new(), way, puts: AtomicUsize::new(0) };
    let objects: Arc<Odd> = Arc::new(objects);
    let probed = Store::new(objects.clone(), "s3://bucket/odd", &context).probe().await;
    (probed, objects.objects.list(None).count().await)
}

#[tokio::test]
async fn a_store_that_breaks_a_promise_is_refused_and_told_which() {
    for (way, words) in [
        (Way::Ignores, "the store ignores the condition of a create (`If-None-Match: *`)"),
        (Way::Races(4), "4 of 16 creates of one object at the same time succeeded"),
        (Way::RefusesAndWrites, "a create that failed replaced the object"),
        (Way::Unlisted, "an object is not listed after its create"),
        (Way::Unread, "an object is not there after its create"),
    ] {
        let (probed, left) = probe(way).await;
        let error = probed.expect_err(words);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{way:?}: {error:?}");
        let chain = error.chain();
        assert!(chain.contains(words) && chain.contains("s3://bucket/odd"), "{way:?}: {chain}");
        assert_eq!(left, 0, "{way:?}");
    }
}

#[tokio::test]
async fn trouble_is_not_taken_for_a_broken_promise() {
    for way in [
        Way::Sound,
        Way::Conflicts(16),
        Way::Conflicts(3),
        Way::Loses(1),
        Way::Loses(16),
        Way::Fails(5),
        Way::Fails(20),
    ] {
        let (probed, left) = probe(way).await;
        probed.unwrap_or_else(|error| panic!("{way:?}: {error:?}"));
        assert_eq!(left, 0, "{way:?}");
    }
}

#[tokio::test]
async fn who_may_not_delete_leaves_the_probe() {
    let (probed, left) = probe(Way::KeepsAll).await;
    probed.expect("good enough");
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_said_so() {
    let (probed, _) = probe(Way::NoBucket).await;
    let error = probed.expect_err("no bucket");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.chain().contains("create it first"), "{}", error.chain());
}
