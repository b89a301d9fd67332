//! What the golden repository is a capture of.

use async_trait::async_trait;
use bytes::Bytes;
use model::{
    AttributeTag, Attributes, Claim, ContentClass, Context, Cut, Epoch, Error, ErrorKind, Extent,
    ExtentBody, ExtentIdentity, Follower, Item, ItemKind, Position, Proof, Replay, Result,
    StripeChecksums, System, SystemFacts, Version,
};
use testkit::scripted::key;
use testkit::{MemoryCut, Observed, ObservedItem, ScriptedSystem, random_bytes, text_bytes};

/// A system that holds one state after another, of all kinds of items.
#[derive(Debug)]
pub(super) struct Still {
    pub(super) position: u8,
    pub(super) state: Observed,
}

impl Still {
    fn position(&self) -> Position {
        Position(Bytes::copy_from_slice(&[b'p', self.position]))
    }
}

#[async_trait]
impl System for Still {
    fn facts(&self) -> SystemFacts {
        SystemFacts {
            kind: "still",
            host: model::Host::Free,
            content_class: ContentClass::Dump,
            read_concurrency: 1,
            log: None,
            extent_epoch: Epoch(7),
        }
    }

    async fn cut(&self, _: Option<&Position>, _: &Context) -> Result<Box<dyn Cut>> {
        let value = Bytes::from_static(b"what the system says");
        let claims = vec![Claim { name: "digest".to_owned(), value }];
        let proof = Proof { method: "walk".to_owned(), claims };
        Ok(Box::new(MemoryCut::new(self.position(), self.state.clone(), proof)))
    }

    async fn follow(&self, _: &Position, _: &Context) -> Result<Box<dyn Follower>> {
        Err(Error::new(ErrorKind::Unsupported, "follow", "still"))
    }

    fn replay(&self) -> Option<Box<dyn Replay>> {
        None
    }
}

/// A scripted system whose contents are read one after another, so that they are stored in one order.
#[derive(Debug)]
pub(super) struct OneByOne<'a>(pub(super) &'a ScriptedSystem);

#[async_trait]
impl System for OneByOne<'_> {
    fn facts(&self) -> SystemFacts {
        SystemFacts { read_concurrency: 1, ..self.0.facts() }
    }

    async fn cut(&self, since: Option<&Position>, context: &Context) -> Result<Box<dyn Cut>> {
        self.0.cut(since, context).await
    }

    async fn follow(&self, from: &Position, context: &Context) -> Result<Box<dyn Follower>> {
        self.0.follow(from, context).await
    }

    fn replay(&self) -> Option<Box<dyn Replay>> {
        self.0.replay()
    }
}

/// Collects items.
struct Items(Observed);

impl Items {
    fn add(&mut self, path: &str, kind: ItemKind, attributes: Attributes) {
        self.add_file(path, kind, attributes, Vec::new());
    }

    fn add_file(
        &mut self,
        path: &str,
        kind: ItemKind,
        attributes: Attributes,
        parts: Vec<(Extent, Bytes)>,
    ) {
        let mut content = Vec::new();
        for (extent, bytes) in &parts {
            match extent.body {
                ExtentBody::Hole => content.resize(content.len() + extent.length_bytes as usize, 0),
                ExtentBody::Data { .. } => content.extend_from_slice(bytes),
            }
        }
        // The version follows from all that the item is, as that of a file follows from its times.
        let shown = format!("{attributes:?}{}", blake3::hash(&content));
        let hash = blake3::hash(shown.as_bytes());
        let version = Some(Version(Bytes::copy_from_slice(&hash.as_bytes()[..8])));
        let extents = parts.into_iter().map(|(extent, _)| extent).collect();
        let item = Item { key: key(path), kind, attributes, version, extents };
        self.0.insert(item.key.clone(), ObservedItem { item, content: content.into() });
    }
}

fn mode(mode: u64) -> model::AttributesBuilder {
    Attributes::builder().unsigned(AttributeTag::MODE, mode)
}

fn data(bytes: impl Into<Bytes>) -> (Extent, Bytes) {
    let bytes = bytes.into();
    (Extent::data(bytes.len() as u64), bytes)
}

fn named(identity: &'static str, bytes: Bytes) -> (Extent, Bytes) {
    let identity = Some(ExtentIdentity(Bytes::from_static(identity.as_bytes())));
    let stripe_bytes = 512;
    let StripeChecksums { crc32c, .. } = testkit::stripe_checksums(&bytes, stripe_bytes);
    let checksums = Some(StripeChecksums { stripe_bytes, crc32c });
    let body = ExtentBody::Data { identity, checksums };
    (Extent { length_bytes: bytes.len() as u64, body }, bytes)
}

/// Items of every kind with every attribute; in the second state a large content differs in its middle.
pub fn still_state(is_second: bool) -> Observed {
    let mut items = Items(Observed::new());
    let extended = b"\x0d\x00user.lifeboat\x05\x00\x00\x00value";
    items.add(".", ItemKind::Directory, mode(0o755).build());
    items.add(
        "conf",
        ItemKind::Directory,
        mode(0o2750)
            .unsigned(AttributeTag::USER_ID, 1_234)
            .unsigned(AttributeTag::GROUP_ID, 0)
            .bytes(AttributeTag::USER_NAME, b"somebody")
            .bytes(AttributeTag::GROUP_NAME, b"root")
            .signed(AttributeTag::MODIFIED_NS, 1_700_000_000_987_654_321)
            .bytes(AttributeTag::EXTENDED, extended)
            .build(),
    );
    for number in 0..12 {
        let content = text_bytes(number, 200 + 90 * number as usize);
        let attributes = mode(0o640).signed(AttributeTag::MODIFIED_NS, -1 - number as i64).build();
        let (path, kind) = (format!("conf/small-{number:02}"), ItemKind::File);
        items.add_file(&path, kind, attributes, vec![data(content)]);
    }
    items.add_file("conf/empty", ItemKind::File, mode(0o600).build(), Vec::new());
    let middle = if is_second { &b"another middle"[..] } else { &b"middle"[..] };
    let large = [&random_bytes(1, 9_000), middle, &text_bytes(2, 20_000)[..]].concat();
    items.add_file("large", ItemKind::File, mode(0o644).build(), vec![data(large)]);
    let holes =
        vec![data(random_bytes(3, 700)), (Extent::hole(1 << 20), Bytes::new()), data("end")];
    items.add_file("holes", ItemKind::File, mode(0o644).build(), holes);
    let blocks = vec![
        named("blk_1", random_bytes(4, 1_500)),
        named(if is_second { "blk_3" } else { "blk_2" }, text_bytes(5 + u64::from(is_second), 900)),
    ];
    items.add_file("blocks", ItemKind::File, mode(0o644).build(), blocks);
    let link =
        |target: &[u8]| Attributes::builder().bytes(AttributeTag::LINK_TARGET, target).build();
    items.add("link", ItemKind::Symlink, link(b"conf/small-00"));
    items.add("odd%ff%0aname", ItemKind::Symlink, link(b"\xff/../nowhere"));
    items.add("zz-name", ItemKind::Hardlink, link(key("conf/small-01").as_bytes()));
    items.add("pipe", ItemKind::Fifo, mode(0o604).build());
    items.add_file("node", ItemKind::Node, Attributes::default(), vec![data("content")]);
    let own = Attributes::builder().bytes(AttributeTag::FIRST_OWN, b"own").build();
    items.add_file("node/child", ItemKind::Node, own, vec![data("of a node")]);
    if is_second {
        items.add_file("added", ItemKind::File, mode(0o644).build(), vec![data("new")]);
        items.0.remove(&key("conf/small-03"));
    }
    items.0
}
