//! What was acknowledged to a run, as lines that outlive it.

use repository::mark::MarkKind;
use repository::point::PointId;
use repository::types::{Number, SessionId, from_hex, hex};

use super::keys::Key;

/// What was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// This slot opens the repository.
    Added(Key),
    /// This slot may open nothing any more.
    Removed(Key),
    /// This snapshot is there; the digest of its description.
    Snapshot(SessionId, String),
    /// This snapshot may be forgotten any time from here on.
    Forgetting(SessionId),
    /// This snapshot is forgotten.
    Forgotten(SessionId),
    /// This point is there; the digest of its description.
    Point(PointId, String),
    /// This point may be forgotten any time from here on.
    ForgettingPoint(PointId),
    /// This point is forgotten.
    ForgottenPoint(PointId),
    /// This mark is in force.
    Marked(PointId, MarkKind),
    /// This mark may be taken back any time from here on.
    Unmarking(PointId, MarkKind),
    /// This mark is not in force.
    Unmarked(PointId, MarkKind),
    /// The batch of this number, over this snapshot, leads to this revision of the system.
    Batch(SessionId, u64, u64),
}

impl Fact {
    /// Writes the fact as a line.
    pub fn to_line(&self) -> String {
        match self {
            Self::Added(key) => format!("added {} {}", key.slot, key.run),
            Self::Removed(key) => format!("removed {} {}", key.slot, key.run),
            Self::Snapshot(id, digest) => format!("snapshot {} {digest}", id.path()),
            Self::Forgetting(id) => format!("forgetting {}", id.path()),
            Self::Forgotten(id) => format!("forgotten {}", id.path()),
            Self::Point(id, digest) => format!("point {} {digest}", point_word(id)),
            Self::ForgettingPoint(id) => format!("forgetting-point {}", point_word(id)),
            Self::ForgottenPoint(id) => format!("forgotten-point {}", point_word(id)),
            Self::Marked(id, kind) => format!("marked {} {}", point_word(id), kind_word(kind)),
            Self::Unmarking(id, kind) => {
                format!("unmarking {} {}", point_word(id), kind_word(kind))
            }
            Self::Unmarked(id, kind) => format!("unmarked {} {}", point_word(id), kind_word(kind)),
            Self::Batch(base, number, revision) => {
                format!("batch {} {number} {revision}", base.path())
            }
        }
    }

    /// Reads a line; none where it is no fact.
    pub fn from_line(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let key =
            |slot: &str, run: &str| Some(Key { slot: slot.parse().ok()?, run: run.parse().ok()? });
        let session = SessionId::from_path;
        Some(match words.as_slice() {
            ["added", slot, run] => Self::Added(key(slot, run)?),
            ["removed", slot, run] => Self::Removed(key(slot, run)?),
            ["snapshot", path, digest] => Self::Snapshot(session(path)?, (*digest).to_owned()),
            ["forgetting", path] => Self::Forgetting(session(path)?),
            ["forgotten", path] => Self::Forgotten(session(path)?),
            ["point", id, digest] => Self::Point(point_of(id)?, (*digest).to_owned()),
            ["forgetting-point", id] => Self::ForgettingPoint(point_of(id)?),
            ["forgotten-point", id] => Self::ForgottenPoint(point_of(id)?),
            ["marked", id, kind] => Self::Marked(point_of(id)?, kind_of(kind)?),
            ["unmarking", id, kind] => Self::Unmarking(point_of(id)?, kind_of(kind)?),
            ["unmarked", id, kind] => Self::Unmarked(point_of(id)?, kind_of(kind)?),
            ["batch", path, number, revision] => {
                Self::Batch(session(path)?, number.parse().ok()?, revision.parse().ok()?)
            }
            _ => return None,
        })
    }
}

fn point_word(id: &PointId) -> String {
    format!("{}/{}/{}", id.site, hex(&id.chain), id.number.get())
}

fn point_of(word: &str) -> Option<PointId> {
    let mut parts = word.split('/');
    let (site, chain, number) = (parts.next()?, parts.next()?, parts.next()?);
    Some(PointId {
        site: site.parse().ok()?,
        chain: from_hex(chain)?,
        number: Number::new(number.parse().ok()?)?,
    })
}

fn kind_word(kind: &MarkKind) -> String {
    match kind {
        MarkKind::Pin => "pin".to_owned(),
        MarkKind::Verified => "verified".to_owned(),
        MarkKind::Tag(name) => format!("tag:{name}"),
    }
}

fn kind_of(word: &str) -> Option<MarkKind> {
    match word {
        "pin" => Some(MarkKind::Pin),
        "verified" => Some(MarkKind::Verified),
        _ => word.strip_prefix("tag:").map(|name| MarkKind::Tag(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_as_lines() {
        let number = Number::new(7).expect("in range");
        let stream = "site.main".parse().expect("stream");
        let id = SessionId { stream, number, random: [3; 8] };
        let point = PointId { site: "site".parse().expect("site"), chain: [5; 16], number };
        let key = Key { slot: 1, run: 2 };
        let facts = [
            Fact::Added(key),
            Fact::Removed(key),
            Fact::Snapshot(id.clone(), "00ff".to_owned()),
            Fact::Forgetting(id.clone()),
            Fact::Forgotten(id.clone()),
            Fact::Point(point.clone(), "00ff".to_owned()),
            Fact::ForgettingPoint(point.clone()),
            Fact::ForgottenPoint(point.clone()),
            Fact::Marked(point.clone(), MarkKind::Tag("t-1".to_owned())),
            Fact::Unmarking(point.clone(), MarkKind::Pin),
            Fact::Unmarked(point, MarkKind::Verified),
            Fact::Batch(id, 4, 19),
        ];
        for fact in facts {
            let line = fact.to_line();
            assert_eq!(Fact::from_line(&line), Some(fact), "{line}");
        }
        assert_eq!(Fact::from_line("batch nothing 1 2"), None);
    }
}
