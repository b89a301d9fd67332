//! What all parts of a repair share: where from, where to, how an object takes the place of another.

use std::collections::HashMap;

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result};

use super::report::{Means, Mended, Report};
use crate::gc::{Activity, activity};
use crate::store::Store;
use crate::types::PackName;

/// One repair.
pub(super) struct Mender<'r> {
    pub(super) store: &'r Store,
    pub(super) from: Option<&'r Store>,
    pub(super) is_dry_run: bool,
    pub(super) context: &'r Context,
    pub(super) report: Report,
    /// Where bytes stand that belong elsewhere, by what they are.
    pub(super) strays: HashMap<PackName, String>,
    collectors: Activity,
}

impl<'r> Mender<'r> {
    pub(super) async fn new(
        store: &'r Store,
        from: Option<&'r Store>,
        is_dry_run: bool,
        context: &'r Context,
    ) -> Result<Self> {
        let collectors = activity(store).await?;
        let (report, strays) = (Report::default(), HashMap::new());
        Ok(Self { store, from, is_dry_run, context, report, strays, collectors })
    }

    /// Says whether a collection was open when this began.
    pub(super) fn is_collecting(&self) -> bool {
        self.collectors.is_open
    }

    /// Makes sure that no collector has begun since.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn check_collectors(&self) -> Result<()> {
        if activity(self.store).await? == self.collectors {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "repair repository", self.store.name())
            .detail("a collection has begun or ended meanwhile: repair again"))
    }

    /// Puts an object that was shown to belong there, in the place of what stands there. `found` are the
    /// bytes of that as far as they could be read.
    pub(super) async fn put(
        &mut self,
        path: &str,
        found: Option<&Bytes>,
        bytes: Bytes,
        by: Means,
    ) -> Result<()> {
        self.context.check("repair repository")?;
        let is_there = match self.store.head(path).await {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let mut kept = None;
        if !self.is_dry_run {
            self.check_collectors().await?;
            if is_there {
                let name = self.store.keep_damaged(path, found).await?;
                self.strays
                    .values_mut()
                    .filter(|at| *at == path)
                    .for_each(|at| at.clone_from(&name));
                kept = Some(name);
                self.store.replace(path, bytes).await?;
            } else {
                self.store.create(path, bytes).await?;
            }
        }
        self.report.unmended.remove(path);
        self.report.mended.push(Mended { object: path.to_owned(), by, kept });
        Ok(())
    }

    /// Notes that an object could not be mended.
    pub(super) fn give_up(&mut self, path: &str, why: String) {
        self.report.unmended.entry(path.to_owned()).or_insert(why);
    }

    /// Reads an object of the second copy; none where it has none, or cannot give it.
    pub(super) async fn copy_of(&self, path: &str, size_max: u64) -> Result<Option<Bytes>> {
        let Some(from) = self.from else { return Ok(None) };
        match from.get_limited(path, size_max).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    self.context.monitor.problem(&error);
                }
                Ok(None)
            }
        }
    }
}

/// Runs what computes where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, "repair repository", "").because(error))
}
