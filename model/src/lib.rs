//! The words of lifeboat and its ports.
//!
//! This crate holds the values that every other crate speaks in (ids, keys, items, extents,
//! positions, errors) and the *ports*: small `dyn` traits through which systems are read
//! ([`System`], [`Cut`], [`Follower`], [`Replay`]), restored into ([`Target`]) and through which
//! the process learns about its surroundings ([`Clock`], [`Entropy`], [`Monitor`]).
//!
//! It knows no vendor, no repository and no file system. A port has no default bodies: a wrapper
//! that forgets a method does not compile. Each port's contract stands in its documentation and is
//! checked by `testkit`.

mod attributes;
mod clock;
mod context;
mod cut;
mod entropy;
mod error;
mod follow;
mod id;
mod item;
mod key;
mod monitor;
mod position;
mod replay;
mod system;
mod target;

pub use attributes::{AttributeTag, Attributes, AttributesBuilder};
pub use clock::{Clock, Timestamp};
pub use context::Context;
pub use cut::{
    Change, ChangeBatches, Claim, Content, ContentReader, Cut, CutItems, ItemBatches, Proof,
    Recheck,
};
pub use entropy::Entropy;
pub use error::{Error, ErrorKind, Result};
pub use follow::{Batch, Follower, Next, Payload};
pub use id::{SiteName, SystemName};
pub use item::{
    ContentClass, Extent, ExtentBody, ExtentIdentity, Fingerprint, Item, ItemKind, StripeChecksums,
    Version,
};
pub use key::{ItemKey, KEY_SEPARATOR};
pub use monitor::{Counter, Monitor, Phase};
pub use position::{Epoch, Position};
pub use replay::{BatchStream, Replay, Replayed};
pub use system::{Host, LogPayload, System, SystemFacts};
pub use target::{ContentCheck, RestoreStep, Target, TargetFacts};
