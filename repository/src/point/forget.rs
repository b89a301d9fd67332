//! Forgetting a point: a create beside it. What it takes is freed by the collector.

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result, Timestamp};
use prost::Message as _;

use super::record::{self, POINT_BYTES_MAX};
use super::{PointId, corrupt};
use crate::Repository;
use crate::format::ObjectType;
use crate::hold::Holds;
use crate::mark::MarkKind;
use crate::types::WriterId;

const FORGET_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ForgetRecord {
    #[prost(sint64, tag = "1")]
    at_unix_ns: i64,
}

impl Repository {
    /// Says that a point is no longer wanted. Its header stays. Twice is the same as once.
    ///
    /// # Errors
    /// `Denied` where it is pinned, or where a hold covers it; `NotFound`; those of the store.
    pub async fn forget_point(&self, id: &PointId, context: &Context) -> Result<()> {
        context.check("forget point")?;
        self.check_writable()?;
        let path = id.object_path();
        let (_, marks, holds) = futures::try_join!(
            self.store().head(&path),
            self.marks_of_point(id),
            self.holds(context.clock.now())
        )?;
        if let Some(hold) = holds.on_point(id) {
            return Err(hold.in_the_way(id.short()));
        }
        if marks.iter().any(|mark| mark.kind == MarkKind::Pin) {
            return Err(Error::new(ErrorKind::Denied, "forget point", id.short())
                .detail("it is pinned; remove the pin first"));
        }
        let body = ForgetRecord { at_unix_ns: context.clock.now().unix_ns }.encode_to_vec();
        match self.create_signed(ObjectType::ForgetPoint, &id.forget_path(), body).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                match self.forget_of_point(id).await? {
                    Some(_) => Ok(()),
                    None => Err(error),
                }
            }
            other => other.map(|_| ()),
        }
    }

    /// Says whether a point is forgotten. A name in a listing is enough to leave a point out; who
    /// deletes asks here, where the signature is checked.
    ///
    /// # Errors
    /// `Corrupt` where no certified writer signed the forget; those of the store.
    pub async fn is_point_forgotten(&self, id: &PointId) -> Result<bool> {
        self.forget_of_point(id).await.map(|forget| forget.is_some())
    }

    /// Deletes the body of a forgotten point: puts its header alone, then deletes the point. For the
    /// collector, which decides when, and by whose clock holds are in force.
    ///
    /// # Errors
    /// `Denied` where it is not forgotten, is pinned, or is held; `Corrupt`; those of the store.
    pub async fn delete_point_body(&self, id: &PointId, holds: &Holds) -> Result<()> {
        if let Some(hold) = holds.on_point(id) {
            return Err(hold.in_the_way(id.short()));
        }
        let denied = |what: &str| {
            Error::new(ErrorKind::Denied, "delete body of point", id.short()).detail(what)
        };
        let (forget, marks) =
            futures::try_join!(self.forget_of_point(id), self.marks_of_point(id))?;
        if forget.is_none() {
            return Err(denied("it is not forgotten"));
        }
        if marks.iter().any(|mark| mark.kind == MarkKind::Pin) {
            return Err(denied("it is pinned"));
        }
        let path = id.object_path();
        let object = match self.store().get_limited(&path, POINT_BYTES_MAX).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // An earlier call got as far as this; without a header there never was a point.
                return self.store().head(&id.header_path()).await.map(|_| ());
            }
            other => other?,
        };
        // Checked as a whole before it is taken apart.
        self.point(id).await?;
        let header = record::header_object(self.keys(), id, &object)?;
        self.store().create(&id.header_path(), Bytes::from(header)).await?;
        self.store().delete(&path).await
    }

    async fn forget_of_point(&self, id: &PointId) -> Result<Option<(WriterId, Timestamp)>> {
        let path = id.forget_path();
        let object = match self.store().get_limited(&path, FORGET_BYTES_MAX).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let signed = self.open_signed(ObjectType::ForgetPoint, &path, &object).await?;
        let record = ForgetRecord::decode(&signed.body[..])
            .map_err(|error| corrupt(&path, "no forget of a point").because(error))?;
        Ok(Some((signed.writer, Timestamp { unix_ns: record.at_unix_ns })))
    }
}
