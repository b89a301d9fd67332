//! The policy file as a system of its own, so that a repository and a key are enough to find out what
//! was protected and how.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use model::{
    AttributeTag, Attributes, Content, ContentClass, ContentReader, Context, Cut, CutItems, Epoch,
    Error, ErrorKind, Extent, Follower, Host, Item, ItemKey, ItemKind, Position, Proof, Recheck,
    Replay, Result, System, SystemFacts, SystemName, Version,
};

/// The kind's name.
pub const KIND: &str = "policy";
/// The name of its one item.
pub const FILE_NAME: &str = "lifeboat.toml";
const NAME: &str = "lifeboat-policy";
const MODE: u64 = 0o600;

/// Returns the system's name, the same in every site.
pub fn name() -> SystemName {
    // A constant that is sound, as its test shows.
    NAME.parse().unwrap_or_else(|error: Error| unreachable!("{}", error.chain()))
}

/// Returns the key of the policy's text.
///
/// # Errors
/// None that can happen.
pub fn key() -> Result<ItemKey> {
    ItemKey::root().child(FILE_NAME.as_bytes())
}

/// The text of a policy.
#[derive(Debug, Clone)]
pub struct PolicySystem(Bytes);

impl PolicySystem {
    /// Takes the text as it was read.
    pub fn new(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

#[async_trait]
impl System for PolicySystem {
    fn facts(&self) -> SystemFacts {
        SystemFacts {
            kind: KIND,
            host: Host::Free,
            content_class: ContentClass::General,
            read_concurrency: 1,
            log: None,
            extent_epoch: Epoch::default(),
        }
    }

    async fn cut(&self, _since: Option<&Position>, context: &Context) -> Result<Box<dyn Cut>> {
        // The text was read when the process began; any position will do that tells cuts apart.
        let position = context.clock.now().unix_ns.to_be_bytes();
        let position = Position(Bytes::copy_from_slice(&position));
        Ok(Box::new(PolicyCut { text: self.0.clone(), position }))
    }

    async fn follow(&self, _from: &Position, _context: &Context) -> Result<Box<dyn Follower>> {
        Err(Error::new(ErrorKind::Unsupported, "follow policy", ""))
    }

    fn replay(&self) -> Option<Box<dyn Replay>> {
        None
    }
}

struct PolicyCut {
    text: Bytes,
    position: Position,
}

impl PolicyCut {
    fn item(&self) -> Result<Item> {
        // The whole text tells whether it changed, so that what did not is not stored again.
        let version = Bytes::copy_from_slice(blake3::hash(&self.text).as_bytes());
        Ok(Item {
            key: key()?,
            kind: ItemKind::File,
            attributes: Attributes::builder().unsigned(AttributeTag::MODE, MODE).build(),
            version: Some(Version(version)),
            extents: vec![Extent::data(self.text.len() as u64)],
        })
    }
}

#[async_trait]
impl Content for PolicyCut {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        let wanted = (usize::try_from(range.start), usize::try_from(range.end));
        let is_ours = extent == 0 && item.key == key()?;
        match wanted {
            (Ok(start), Ok(end)) if is_ours && start <= end && end <= self.text.len() => {
                Ok(Box::new(OnePiece(self.text.slice(start..end))))
            }
            _ => Err(Error::new(ErrorKind::NotFound, "read policy", item.key.display())),
        }
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        Ok(if *item == self.item()? { Recheck::Same } else { Recheck::Gone })
    }
}

#[async_trait]
impl Cut for PolicyCut {
    fn position(&self) -> &Position {
        &self.position
    }

    fn items(&self, _context: &Context) -> CutItems<'_> {
        CutItems::Sorted(
            stream::once(std::future::ready(self.item().map(|item| vec![item]))).boxed(),
        )
    }

    async fn proof(&self) -> Result<Proof> {
        Ok(Proof { method: "read".to_owned(), claims: Vec::new() })
    }

    async fn release(&self) -> Result<()> {
        Ok(())
    }
}

/// Gives bytes in one piece.
struct OnePiece(Bytes);

#[async_trait]
impl ContentReader for OnePiece {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let bytes = std::mem::take(&mut self.0);
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_sound() {
        assert_eq!(name().as_str(), NAME);
    }

    #[tokio::test]
    async fn it_is_a_system_like_any_other() {
        let (context, _) = testkit::context(1);
        let system = PolicySystem::new("site = \"prod\"\n");
        testkit::conformance::check_system(&system, &context).await;
        let cut = system.cut(None, &context).await.expect("cut");
        let CutItems::Sorted(mut items) = cut.items(&context) else { panic!("sorted") };
        let item = items.next().await.expect("a batch").expect("items").remove(0);
        let read = testkit::conformance::read_content(cut.as_ref(), &item).await.expect("read");
        assert_eq!(read, "site = \"prod\"\n");
        assert!(
            cut.open(&item, 1, 0..1).await.is_err() && cut.open(&item, 0, 0..99).await.is_err()
        );
    }
}
