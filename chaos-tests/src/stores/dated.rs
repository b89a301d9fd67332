//! A store whose own time is that of a test's clock.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use model::{Clock, Timestamp};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// An [`ObjectStore`] that says of each object that it was put when the clock said so, so that nothing
/// that is stored depends on real time. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Dated {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    put_at: Arc<Mutex<HashMap<Path, Timestamp>>>,
}

impl Dated {
    /// Wraps a store that is empty; what was in it keeps its time.
    pub fn new(inner: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock, put_at: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Path, Timestamp>> {
        self.put_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, location: &Path) {
        self.lock().insert(location.clone(), self.clock.now());
    }

    fn date(&self, meta: ObjectMeta) -> ObjectMeta {
        let put_at = self.lock().get(&meta.location).copied();
        let since_1970 = put_at.and_then(|time| u64::try_from(time.unix_ns).ok());
        match since_1970.map(Duration::from_nanos) {
            None => meta,
            Some(since) => {
                ObjectMeta { last_modified: (SystemTime::UNIX_EPOCH + since).into(), ..meta }
            }
        }
    }

    fn date_all(
        &self,
        entries: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        entries.map_ok(move |meta| store.date(meta)).boxed()
    }
}

impl Display for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dated({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Dated {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let result = self.inner.put_opts(location, payload, options).await?;
        self.note(location);
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.note(location);
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(location, options).await?;
        let meta = self.date(result.meta.clone());
        Ok(GetResult { meta, ..result })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.date_all(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.date_all(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await?;
        let objects = listed.objects.into_iter().map(|meta| self.date(meta)).collect();
        Ok(ListResult { objects, ..listed })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.note(to);
        self.inner.copy_opts(from, to, options).await
    }
}
