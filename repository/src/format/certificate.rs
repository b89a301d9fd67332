//! Writer certificates: which public key a writer signs with, vouched for by the authority.

use model::{Error, ErrorKind, Result, Timestamp};
use prost::Message as _;

use super::ObjectType;
use super::envelope::{open_unverified, seal_signed_by};
use crate::crypto::{KeyRing, KeyRole, PublicKey};
use crate::types::WriterId;

/// The most bytes that a certificate may have.
pub(crate) const CERTIFICATE_BYTES_MAX: u64 = 64 << 10;
const LABEL_BYTES_MAX: usize = 256;

/// Returns where a certificate stands.
pub(crate) fn certificate_path(writer: WriterId) -> String {
    format!("writer/{writer}")
}

/// What the authority says about a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The writer; its key slot has the same id.
    pub writer: WriterId,
    /// What it signs with.
    pub public_key: PublicKey,
    /// What people call it.
    pub label: String,
    /// When it was issued, by the issuer's clock.
    pub created: Timestamp,
    /// Which recipient its slot is for; none for slots of other kinds.
    pub recipient: Option<[u8; 16]>,
    /// What its slot lets its holder do.
    pub role: KeyRole,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Record {
    #[prost(bytes = "vec", tag = "1")]
    writer: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    public_key: Vec<u8>,
    #[prost(string, tag = "3")]
    label: String,
    #[prost(sint64, tag = "4")]
    created_unix_ns: i64,
    #[prost(bytes = "vec", tag = "5")]
    recipient: Vec<u8>,
    #[prost(uint32, tag = "6")]
    role: u32,
}

impl Certificate {
    /// Checks that a label can stand in a certificate.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn check_label(label: &str) -> Result<()> {
        if label.len() > LABEL_BYTES_MAX || label.chars().any(char::is_control) {
            return Err(Error::new(ErrorKind::Invalid, "label key slot", format!("{label:?}"))
                .detail(format!("use at most {LABEL_BYTES_MAX} bytes of plain text")));
        }
        Ok(())
    }

    /// Signs and seals the certificate.
    ///
    /// # Errors
    /// `WrongKey` where the keys cannot certify; `Internal` where the cipher fails.
    pub(crate) fn seal(&self, keys: &KeyRing) -> Result<Vec<u8>> {
        let record = Record {
            writer: self.writer.0.to_vec(),
            public_key: self.public_key.0.to_vec(),
            label: self.label.clone(),
            created_unix_ns: self.created.unix_ns,
            recipient: self.recipient.map(Vec::from).unwrap_or_default(),
            role: match self.role {
                KeyRole::Full => 0,
                KeyRole::Collector => 1,
            },
        };
        let path = certificate_path(self.writer);
        let authority = keys.authority().ok_or_else(|| {
            Error::new(ErrorKind::WrongKey, "certify writer", self.writer.to_string())
                .detail("the key that opened the repository is that of a collector")
        })?;
        let body = record.encode_to_vec();
        seal_signed_by(keys, authority, ObjectType::WriterCertificate, &path, body)
    }

    /// Opens and checks the certificate of a writer.
    ///
    /// # Errors
    /// `Corrupt` where the authority did not sign it for this writer.
    pub(crate) fn open(
        keys: &KeyRing,
        authority: &PublicKey,
        writer: WriterId,
        object: &[u8],
    ) -> Result<Self> {
        let path = certificate_path(writer);
        let corrupt = || Error::new(ErrorKind::Corrupt, "read writer certificate", &path);
        let unverified = open_unverified(keys, ObjectType::WriterCertificate, &path, object)?;
        let signed = unverified.verify(authority)?;
        let record = Record::decode(&signed.body[..]).map_err(|error| corrupt().because(error))?;
        let named = WriterId(record.writer.try_into().map_err(|_| corrupt())?);
        if named != writer || Self::check_label(&record.label).is_err() {
            return Err(corrupt());
        }
        let public_key = PublicKey(record.public_key.try_into().map_err(|_| corrupt())?);
        let created = Timestamp { unix_ns: record.created_unix_ns };
        let recipient = match record.recipient.as_slice() {
            [] => None,
            id => Some(id.try_into().map_err(|_| corrupt())?),
        };
        // A role of a later version is not taken for all keys: what counts full slots counts on it.
        let role = if record.role == 0 { KeyRole::Full } else { KeyRole::Collector };
        Ok(Self { writer, public_key, label: record.label, created, recipient, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::ring;
    use crate::format::envelope::seal_signed;

    fn certificate() -> Certificate {
        Certificate {
            writer: WriterId([1; 16]),
            public_key: PublicKey([2; 32]),
            label: "laptop".to_owned(),
            created: Timestamp::from_unix_seconds(1_764_000_000),
            recipient: None,
            role: KeyRole::Full,
        }
    }

    #[test]
    fn golden_bytes() {
        let keys = ring(1);
        let object = certificate().seal(&keys).expect("seal");
        assert_eq!(
            blake3::hash(&object).to_hex().as_str(),
            "2d4182aac2ead8df5641d3b9b058cff3a2cc1e243b90d0dd271c438f60b9254f"
        );
        let authority = keys.authority().expect("authority").public_key();
        let opened = Certificate::open(&keys, &authority, WriterId([1; 16]), &object);
        assert_eq!(opened.expect("open"), certificate());
    }

    #[test]
    fn only_the_authority_certifies_and_only_for_the_named_writer() {
        let keys = ring(1);
        let authority = keys.authority().expect("authority").public_key();
        let writer = WriterId([1; 16]);
        let path = certificate_path(writer);
        let body = |writer: WriterId| Record {
            writer: writer.0.to_vec(),
            public_key: vec![2; 32],
            ..Record::default()
        };
        let kind = ObjectType::WriterCertificate;
        let own = seal_signed(&keys, kind, &path, body(writer).encode_to_vec()).expect("seal");
        let others = body(WriterId([9; 16])).encode_to_vec();
        let other =
            seal_signed_by(&keys, keys.authority().expect("authority"), kind, &path, others)
                .expect("seal");
        for object in [own, other] {
            let error = Certificate::open(&keys, &authority, writer, &object).expect_err("forged");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}
