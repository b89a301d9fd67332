//! Tests of key slots on record: when was each last proven to open the repository?
//!
//! A test is signed by the very slot that was tested, so that nobody else can say it for it. Like all else
//! it is only ever created: `key-test/<slot>/<number>`, the newest number counts.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Context, Error, ErrorKind, Result, Timestamp};
use prost::Message as _;

use super::{Repository, SMALL_REQUESTS_MAX};
use crate::format::ObjectType;
use crate::types::{Number, WriterId};

const TEST_BYTES_MAX: u64 = 4 << 10;
/// How often a number is taken by somebody else before it is no coincidence.
const TRIES_MAX: usize = 16;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Record {
    #[prost(sint64, tag = "1")]
    at_unix_ns: i64,
}

impl Repository {
    /// Puts on record that the slot with which this repository was opened opens it
    /// ([`Repository::test_slot`] proves it).
    ///
    /// # Errors
    /// Those of the store.
    pub async fn record_slot_test(&self, context: &Context) -> Result<Timestamp> {
        self.check_writable()?;
        let (slot, at) = (self.writer(), context.clock.now());
        let body = Record { at_unix_ns: at.unix_ns }.encode_to_vec();
        let mut tries = 0;
        loop {
            context.check("record test of key slot")?;
            let listed = self.store().list(&format!("key-test/{slot}")).await?;
            let taken = listed.iter().filter_map(|object| read_test_path(&object.path));
            let next = taken.map(|(_, number)| number.get() + 1).max().unwrap_or(0);
            let path = test_path(slot, next)?;
            match self.create_signed(ObjectType::KeyTest, &path, body.clone()).await {
                Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES_MAX => {
                    tries += 1;
                }
                other => return other.map(|_| at),
            }
        }
    }

    /// Returns when each slot was last tested; what was never tested is not in it.
    ///
    /// # Errors
    /// Those of the store; `Corrupt` where a slot's newest test was not signed by it.
    pub async fn slot_tests(&self) -> Result<BTreeMap<WriterId, Timestamp>> {
        let listed = self.store().list("key-test").await?;
        let mut newest = BTreeMap::<WriterId, Number>::new();
        for (slot, number) in listed.iter().filter_map(|object| read_test_path(&object.path)) {
            let known = newest.entry(slot).or_insert(number);
            *known = number.max(*known);
        }
        stream::iter(newest.into_iter().map(|(slot, number)| self.read_test(slot, number)))
            .buffered(SMALL_REQUESTS_MAX)
            .try_collect()
            .await
    }

    async fn read_test(&self, slot: WriterId, number: Number) -> Result<(WriterId, Timestamp)> {
        let path = test_path(slot, number.get())?;
        let object = self.store().get_limited(&path, TEST_BYTES_MAX).await?;
        let signed = self.open_signed(ObjectType::KeyTest, &path, &object).await?;
        let corrupt = || Error::new(ErrorKind::Corrupt, "read test of key slot", &path);
        if signed.writer != slot {
            return Err(corrupt().detail("another slot signed it"));
        }
        let record = Record::decode(&signed.body[..]).map_err(|error| corrupt().because(error))?;
        Ok((slot, Timestamp { unix_ns: record.at_unix_ns }))
    }
}

fn test_path(slot: WriterId, number: u64) -> Result<String> {
    let number = Number::new(number).ok_or_else(|| {
        Error::new(ErrorKind::Exhausted, "record test of key slot", slot.to_string())
    })?;
    Ok(format!("key-test/{slot}/{}", number.digits()))
}

/// Reads the path of a test.
pub(crate) fn read_test_path(path: &str) -> Option<(WriterId, Number)> {
    let (slot, digits) = path.strip_prefix("key-test/")?.split_once('/')?;
    Some((slot.parse().ok()?, Number::from_digits(digits)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::hex;

    #[test]
    fn golden_bytes_and_path() {
        let at = Timestamp::from_unix_seconds(1_764_000_000);
        let record = Record { at_unix_ns: at.unix_ns };
        assert_eq!(hex(&record.encode_to_vec()), "088080d0fceca9fefa30");
        let path = test_path(WriterId([0xab; 16]), 1).expect("path");
        assert_eq!(path, format!("key-test/{}/fffffffffe", "ab".repeat(16)));
        let read = read_test_path(&path).expect("read");
        assert_eq!((read.0, read.1.get()), (WriterId([0xab; 16]), 1));
        assert_eq!(read_test_path("key-test/ab/fffffffffe"), None);
    }
}
