//! Ed25519: who wrote this?

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use model::{Error, ErrorKind, Result};

use super::Secret;
use crate::types::{WriterId, hex};

/// Checks signatures.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Checks a signature.
    ///
    /// # Errors
    /// `Corrupt` where this key did not sign the message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .map_err(|_| Error::new(ErrorKind::Corrupt, "verify signature", ""))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex(&self.0))
    }
}

/// Signs for one writer.
pub struct Signer {
    writer: WriterId,
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Signer {
    /// Takes over a writer's seed.
    pub(super) fn new(writer: WriterId, seed: &Secret) -> Result<Self> {
        let pair = key_pair(seed)?;
        let public = public_key(&pair)?;
        Ok(Self { writer, pair, public })
    }

    /// Says for whom.
    pub fn writer(&self) -> WriterId {
        self.writer
    }

    /// Returns what checks the signatures.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        // An Ed25519 signature has 64 bytes; a shorter one would not verify.
        for (byte, signed) in bytes.iter_mut().zip(self.pair.sign(message).as_ref()) {
            *byte = *signed;
        }
        bytes
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({:?})", self.writer)
    }
}

fn key_pair(seed: &Secret) -> Result<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(seed.expose())
        .map_err(|_| Error::new(ErrorKind::Internal, "read signing key", ""))
}

fn public_key(pair: &Ed25519KeyPair) -> Result<PublicKey> {
    let bytes = pair.public_key().as_ref().try_into();
    bytes.map(PublicKey).map_err(|_| Error::new(ErrorKind::Internal, "read public key", ""))
}
