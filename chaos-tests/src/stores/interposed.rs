//! The one wrapper: shows each request to a policy before and after it reaches the store.

use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    UploadPart,
};

/// How many entries one request of a listing returns, as S3 does.
pub const LIST_PAGE_ENTRIES: usize = 1_000;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Puts a whole object, or begins, continues or ends a multipart upload.
    Put,
    /// Reads an object, a range of it or its metadata.
    Get,
    /// Removes an object.
    Delete,
    /// Lists one page.
    List,
    /// Copies or renames an object.
    Copy,
}

impl Verb {
    /// Says whether such a request changes the store.
    pub fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Delete | Self::Copy)
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it does.
    pub verb: Verb,
    /// The object, or the prefix of a listing.
    pub path: String,
    /// How many bytes go with it to the store.
    pub sent_bytes: u64,
}

/// What a store answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Whether it did what was asked.
    pub is_ok: bool,
    /// How many bytes of content came with the answer.
    pub received_bytes: u64,
}

impl Answer {
    fn to<T>(result: &Result<T>) -> Self {
        Self { is_ok: result.is_ok(), received_bytes: 0 }
    }
}

/// What a policy makes of a listing.
#[derive(Debug)]
pub struct Altered {
    /// The entries that are shown.
    pub entries: Vec<ObjectMeta>,
    /// Whether the listing fails after them.
    pub is_torn: bool,
}

/// Decides about requests. Every request goes `before`, store, `alter_*`, `after`.
#[async_trait]
pub trait Policy: Debug + Send + Sync + 'static {
    /// What it remembers of a request while it is under way.
    type Ticket: Debug + Send + Sync;

    /// The request is about to reach the store: wait, or refuse it.
    async fn before(&self, request: &Request) -> Result<Self::Ticket>;

    /// The store has answered: wait, or lose the answer.
    async fn after(&self, request: &Request, ticket: Self::Ticket, answer: Answer) -> Result<()>;

    /// Changes content that the store gave.
    fn alter_content(&self, ticket: &Self::Ticket, content: Bytes) -> Bytes;

    /// Changes a listing that the store gave.
    fn alter_list(&self, ticket: &Self::Ticket, entries: Vec<ObjectMeta>) -> Altered;
}

/// An [`ObjectStore`] whose requests pass a policy.
#[derive(Debug)]
pub struct Interposed<P> {
    inner: Arc<dyn ObjectStore>,
    policy: Arc<P>,
}

impl<P: Policy> Interposed<P> {
    /// Wraps a store; the policy stays with the caller too.
    pub fn new(inner: Arc<dyn ObjectStore>, policy: &Arc<P>) -> Self {
        Self { inner, policy: Arc::clone(policy) }
    }
}

impl<P> Clone for Interposed<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), policy: Arc::clone(&self.policy) }
    }
}

impl<P: Policy> fmt::Display for Interposed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interposed({})", self.inner)
    }
}

impl Request {
    fn new(verb: Verb, path: &Path) -> Self {
        Self { verb, path: path.to_string(), sent_bytes: 0 }
    }

    fn put(path: &Path, payload: &PutPayload) -> Self {
        Self { sent_bytes: payload.content_length() as u64, ..Self::new(Verb::Put, path) }
    }

    fn list(prefix: Option<&Path>) -> Self {
        Self::new(Verb::List, prefix.unwrap_or(&Path::default()))
    }
}

impl<P: Policy> Interposed<P> {
    /// Sends a request that gives no content.
    async fn send<T>(
        &self,
        request: Request,
        answer: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let ticket = self.policy.before(&request).await?;
        let answer = answer.await;
        self.policy.after(&request, ticket, Answer::to(&answer)).await?;
        answer
    }

    /// Sends the pages of a listing, one request each.
    async fn send_list(
        &self,
        request: Request,
        entries: BoxStream<'static, Result<ObjectMeta>>,
    ) -> Result<Altered> {
        let ticket = self.policy.before(&request).await?;
        let entries: Result<Vec<_>> = entries.try_collect().await;
        let altered = entries.map(|entries| self.policy.alter_list(&ticket, entries));
        self.policy.after(&request, ticket, Answer::to(&altered)).await?;
        let altered = altered?;
        self.send_further_pages(&request, altered.entries.len()).await?;
        Ok(altered)
    }

    /// Sends the requests that a listing of so many entries takes after its first.
    async fn send_further_pages(&self, request: &Request, entries: usize) -> Result<()> {
        for _ in 1..entries.div_ceil(LIST_PAGE_ENTRIES) {
            let ticket = self.policy.before(request).await?;
            self.policy.after(request, ticket, Answer { is_ok: true, received_bytes: 0 }).await?;
        }
        Ok(())
    }

    fn stream_list(
        &self,
        request: Request,
        entries: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let pages = async move {
            let altered = store.send_list(request, entries).await?;
            let error = altered.is_torn.then(|| Err(super::failure("the listing broke off")));
            Ok(stream::iter(altered.entries.into_iter().map(Ok).chain(error)))
        };
        pages.boxed().try_flatten_stream().boxed()
    }
}

#[async_trait]
impl<P: Policy> ObjectStore for Interposed<P> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let request = Request::put(location, &payload);
        self.send(request, self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let request = Request::new(Verb::Put, location);
        let inner = self.send(request, self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(Upload { inner, store: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let request = Request::new(Verb::Get, location);
        let ticket = self.policy.before(&request).await?;
        let answer = match self.inner.get_opts(location, options).await {
            Ok(result) => read(result).await,
            Err(error) => Err(error),
        };
        let answer =
            answer.map(|(result, content)| (result, self.policy.alter_content(&ticket, content)));
        let received_bytes = answer.as_ref().map_or(0, |(_, content)| content.len() as u64);
        let is_ok = answer.is_ok();
        self.policy.after(&request, ticket, Answer { is_ok, received_bytes }).await?;
        let (result, content) = answer?;
        let payload = GetResultPayload::Stream(stream::iter([Ok(content)]).boxed());
        Ok(GetResult { payload, ..result })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // As remote stores do: near ranges become one request each.
        object_store::coalesce_ranges(
            ranges,
            |range| async move {
                let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
                self.get_opts(location, options).await?.bytes().await
            },
            object_store::OBJECT_STORE_COALESCE_DEFAULT,
        )
        .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let request = Request::new(Verb::Delete, &location);
                let one = stream::iter([Ok(location.clone())]).boxed();
                let deleted = store.inner.delete_stream(one).try_collect::<Vec<_>>();
                store.send(request, deleted).await.map(|_| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.stream_list(Request::list(prefix), self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.stream_list(Request::list(prefix), self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix);
        let request = Request::list(prefix);
        let ticket = self.policy.before(&request).await?;
        let listed = listed.await;
        let listed = listed.map(|result| {
            let entries = result.objects.len() + result.common_prefixes.len();
            let altered = self.policy.alter_list(&ticket, result.objects);
            (altered, result.common_prefixes, result.extensions, entries)
        });
        self.policy.after(&request, ticket, Answer::to(&listed)).await?;
        let (altered, common_prefixes, extensions, entries) = listed?;
        self.send_further_pages(&request, entries).await?;
        if altered.is_torn {
            return Err(super::failure("the listing broke off"));
        }
        Ok(ListResult { common_prefixes, objects: altered.entries, extensions })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let request = Request::new(Verb::Copy, to);
        self.send(request, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let request = Request::new(Verb::Copy, to);
        self.send(request, self.inner.rename_opts(from, to, options)).await
    }
}

/// Takes a result and its content apart; the payload left behind is empty.
async fn read(result: GetResult) -> Result<(GetResult, Bytes)> {
    let (meta, range) = (result.meta.clone(), result.range.clone());
    let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
    let content = result.bytes().await?;
    let payload = GetResultPayload::Stream(stream::empty().boxed());
    Ok((GetResult { payload, meta, range, attributes, extensions }, content))
}

/// A multipart upload whose parts pass the policy as puts.
#[derive(Debug)]
struct Upload<P> {
    inner: Box<dyn MultipartUpload>,
    store: Interposed<P>,
    location: Path,
}

#[async_trait]
impl<P: Policy> MultipartUpload for Upload<P> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let request = Request::put(&self.location, &data);
        let part = self.inner.put_part(data);
        let store = self.store.clone();
        async move { store.send(request, part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let request = Request::new(Verb::Put, &self.location);
        self.store.send(request, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
