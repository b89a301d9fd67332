//! Points: one state of every system of a site.
//!
//! A chain belongs to one process, which counts up in it and links each point to the one before; so a
//! point that was taken out of the middle is missed. Readers merge the chains of a site.
//! `docs/repository-format.md` §7 has the bytes.

mod chain;
mod forget;
mod list;
mod record;
mod seal;
#[cfg(test)]
mod tests;

pub(crate) use list::is_damage;

use model::{Error, Position, SiteName, SystemName, Timestamp};

pub use chain::ChainReport;
pub use list::SurveyedPoints;
pub use record::PointHeader;
pub use seal::PointSealer;

use crate::types::{Number, SessionId, WriterId, from_hex, hex};

/// Clocks that disagree by more than this make a point suspect.
pub const CLOCKS_APART_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Names a point.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointId {
    /// The site.
    pub site: SiteName,
    /// The chain: 16 random bytes, by whoever opened it.
    pub chain: [u8; 16],
    /// Counts up from 1 within the chain, without gaps.
    pub number: Number,
}

impl PointId {
    /// Returns what people type: 32 hexadecimal digits that depend on all of it.
    pub fn short(&self) -> String {
        let hash = blake3::hash(self.path().as_bytes());
        hex(hash.as_bytes().first_chunk::<16>().map_or(&[][..], |bytes| bytes))
    }

    /// Returns the path below `point/`, `point-header/`, `forget-point/` or `mark/`.
    pub fn path(&self) -> String {
        let Self { site, chain, number } = self;
        format!("{site}/{}/{}/{}", hex(chain), number.bucket(), number.digits())
    }

    /// Reads [`PointId::path`].
    pub fn from_path(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (site, chain) = (parts.next()?, parts.next()?);
        let (bucket, digits) = (parts.next()?, parts.next()?);
        let number = Number::from_digits(digits)?;
        let id = Self { site: site.parse().ok()?, chain: from_hex(chain)?, number };
        (parts.next().is_none() && number.bucket() == bucket).then_some(id)
    }

    fn object_path(&self) -> String {
        format!("point/{}", self.path())
    }

    fn header_path(&self) -> String {
        format!("point-header/{}", self.path())
    }

    fn forget_path(&self) -> String {
        format!("forget-point/{}", self.path())
    }
}

/// Whether a system's state was read for this point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// It was.
    Fresh,
    /// It is an earlier one.
    Carried,
    /// There is none; why.
    Missing(String),
}

/// One system's state in a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointEntry {
    /// The system.
    pub system: SystemName,
    /// Its kind.
    pub kind: String,
    /// Whether it was read for this point.
    pub freshness: Freshness,
    /// The state; none where it is missing.
    pub snapshot: Option<SessionId>,
    /// Where the system stood.
    pub position: Option<Position>,
    /// When its reading began.
    pub cut_from: Timestamp,
    /// When its reading ended.
    pub cut_to: Timestamp,
    /// Items in it.
    pub items: u64,
    /// Bytes of content in it.
    pub content_bytes: u64,
    /// How many items could not be read.
    pub problems: u64,
}

/// Clocks that were read at about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The writer's.
    pub writer: Timestamp,
    /// The source's, where it told.
    pub source: Option<Timestamp>,
    /// The store's, where it was asked.
    pub store: Option<Timestamp>,
}

impl ClockReading {
    /// Says whether any two of them are further apart than [`CLOCKS_APART_MAX`].
    pub fn disagrees(&self) -> bool {
        let told = || [Some(self.writer), self.source, self.store].into_iter().flatten();
        match (told().min(), told().max()) {
            (Some(first), Some(last)) => last.since(first) > CLOCKS_APART_MAX,
            _ => false,
        }
    }
}

/// What is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PointDraft {
    /// One entry per system of the policy, by name.
    pub entries: Vec<PointEntry>,
    /// What keeps it from being complete, for people; empty where it is.
    pub lacks: Vec<String>,
    /// Notes of checks that held or failed.
    pub checks: Vec<String>,
    /// The clocks that its fresh captures met: one reading at each capture's commit.
    pub clocks: Vec<ClockReading>,
}

/// A recovery point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub id: PointId,
    /// Who sealed it.
    pub writer: WriterId,
    /// The earliest beginning of its readings.
    pub cut_from: Timestamp,
    /// The latest end of its fresh readings.
    pub cut_to: Timestamp,
    /// When it was sealed, by the writer's clock.
    pub sealed: Timestamp,
    /// The store's clock then.
    pub store_time: Option<Timestamp>,
    /// Whether the clocks disagree by more than a minute.
    pub is_clock_suspect: bool,
    /// One entry per system, by name.
    pub entries: Vec<PointEntry>,
    /// What keeps it from being complete; empty where it is.
    pub lacks: Vec<String>,
    /// Notes of checks.
    pub checks: Vec<String>,
}

impl Point {
    /// Says whether everything that it should hold is there.
    pub fn is_complete(&self) -> bool {
        self.lacks.is_empty()
    }
}

/// Something that is damaged in a point's object.
fn corrupt(path: &str, what: impl Into<String>) -> Error {
    Error::new(model::ErrorKind::Corrupt, "read point", path).detail(what)
}
