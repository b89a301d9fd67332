//! The scripted system and target pass every check, and checks fail those who break a rule.

use std::ops::Range;

use async_trait::async_trait;
use model::{
    Content, ContentReader, Cut, Follower, ItemBatches, LogPayload, Recheck, Replay, RestoreStep,
    SystemFacts, Target, TargetFacts,
};
use proptest::prelude::*;

use super::*;
use crate::scripted::{Shape, key};
use crate::{MemoryTarget, ScriptedSystem, context};

const SCRIPT: &str = r#"
    dir     .
    dir     data mode:755
    file    data/a mode:644 mtime:1 "hello" hole*4096 blk_1=7*10000/4096 "end"
    file    data/a.txt 9~5000
    file    data/b blk_2=1*9000
    file    data/copy blk_2=1*9000
    file    data/empty
    file    data/odd%ff%0aname 3*1
    symlink data/link ../outside
    fifo    data/pipe
    dir     data/sub
    node    zk "value"
    node    zk/child "other"
"#;

const EDITS: &str = r#"
    file   data/a "changed"
    move   data/sub data/moved
    file   data/moved/new 4*20000
    move   data moved
    file   moved/b "again"
    delete zk
    node   zk "back"
    dir    data
    move   moved/moved data/sub
    delete moved/empty
"#;

fn changed(shape: Shape, log: Option<LogPayload>) -> ScriptedSystem {
    let system = ScriptedSystem::new(SCRIPT).with_shape(shape);
    log.map_or(system.clone(), |log| system.with_log(log))
}

#[tokio::test]
async fn the_scripted_system_passes_in_every_shape() {
    let (context, _) = context(1);
    for shape in [Shape::Sorted, Shape::Unsorted, Shape::Changes] {
        for log in [None, Some(LogPayload::Raw), Some(LogPayload::Changes)] {
            let system = changed(shape, log);
            check_system(&system, &context).await;
            assert_eq!(check_unchanged_opens_nothing(&system, &context).await, 0);
            let before = Baseline::take(&system, &context).await.expect("baseline");
            system.edit(EDITS);
            check_system(&system, &context).await;
            let changes = check_changes_cut(&system, &before, &context).await;
            assert_eq!(changes, (shape == Shape::Changes).then_some(10), "{shape:?}");
            let batches = check_follower(&system, &before, &context).await;
            assert_eq!(batches.map(|batches| batches.len()), log.map(|_| 5), "{log:?}");
            let replayed = check_replay(&system, &before, &context).await;
            assert_eq!(replayed, (log == Some(LogPayload::Raw)).then_some(5), "{log:?}");
            assert_eq!(system.cuts_held(), 0);
        }
    }
}

#[tokio::test]
async fn a_log_that_needs_a_server_is_not_replayed() {
    let (context, _) = context(1);
    let system = changed(Shape::Sorted, Some(LogPayload::Raw)).with_replay_by_server();
    let before = Baseline::take(&system, &context).await.expect("baseline");
    system.edit(EDITS);
    assert_eq!(check_replay(&system, &before, &context).await, None);
}

#[tokio::test]
async fn the_memory_target_passes() {
    let (context, _) = context(1);
    let source = Baseline::take(&ScriptedSystem::new(SCRIPT), &context).await.expect("baseline");
    let target = MemoryTarget::new();
    check_target(&target, &source, &[], &String::new, &context).await;
    assert!(target.is_finished());
}

/// One line of a script over a few names, so that edits meet: overwrites, moves onto and into.
fn any_line() -> impl Strategy<Value = String> {
    let path = || prop::sample::select(vec!["a", "a/b", "a/b/c", "a/d", "e", "e/f", "a.x"]);
    prop_oneof![
        4 => (path(), 0..50_u64, 0..9_000_u64)
            .prop_map(|(path, seed, length)| format!("node {path} {seed}*{length}")),
        2 => path().prop_map(|path| format!("delete {path}")),
        2 => (path(), path()).prop_map(|(from, to)| format!("move {from} {to}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Three ways of bringing a state forward agree: changes of a cut, a log of changes, a raw log.
    #[test]
    fn any_history_leads_to_the_same_state(lines in prop::collection::vec(any_line(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let (context, _) = context(1);
            for log in [LogPayload::Raw, LogPayload::Changes] {
                let system = ScriptedSystem::new("node a\n node a/b 1*10\n node e 2*10")
                    .with_shape(Shape::Changes)
                    .with_log(log);
                let before = Baseline::take(&system, &context).await.expect("baseline");
                system.edit(&lines.join("\n"));
                let changes = check_changes_cut(&system, &before, &context).await;
                assert_eq!(changes, Some(lines.len()));
                assert!(check_follower(&system, &before, &context).await.is_some());
                check_replay(&system, &before, &context).await;
            }
        });
    }
}

/// A system that breaks one rule.
#[derive(Debug)]
struct Broken(ScriptedSystem, Rule);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    Order,
    Range,
    Recheck,
    Facts,
}

struct BrokenCut(Box<dyn Cut>, Rule);

#[async_trait]
impl System for Broken {
    fn facts(&self) -> SystemFacts {
        let facts = self.0.facts();
        let read_concurrency = if self.1 == Rule::Facts { 0 } else { facts.read_concurrency };
        SystemFacts { read_concurrency, ..facts }
    }
    async fn cut(&self, since: Option<&Position>, context: &Context) -> Result<Box<dyn Cut>> {
        Ok(Box::new(BrokenCut(self.0.cut(since, context).await?, self.1)))
    }
    async fn follow(&self, from: &Position, context: &Context) -> Result<Box<dyn Follower>> {
        self.0.follow(from, context).await
    }
    fn replay(&self) -> Option<Box<dyn Replay>> {
        self.0.replay()
    }
}

#[async_trait]
impl Content for BrokenCut {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        let length = range.end - range.start;
        let range = if self.1 == Rule::Range && range.start > 0 { 0..length } else { range };
        self.0.open(item, extent, range).await
    }
    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        if self.1 == Rule::Recheck { Ok(Recheck::Gone) } else { self.0.recheck(item).await }
    }
}

#[async_trait]
impl Cut for BrokenCut {
    fn position(&self) -> &Position {
        self.0.position()
    }
    fn items(&self, context: &Context) -> CutItems<'_> {
        match self.0.items(context) {
            CutItems::Unsorted(batches) if self.1 == Rule::Order => CutItems::Sorted(batches),
            items => items,
        }
    }
    async fn proof(&self) -> Result<Proof> {
        self.0.proof().await
    }
    async fn release(&self) -> Result<()> {
        self.0.release().await
    }
}

#[tokio::test]
async fn a_system_that_breaks_a_rule_fails() {
    for (rule, complaint) in [
        (Rule::Order, "out of order"),
        (Rule::Range, "is not a slice"),
        (Rule::Recheck, "nobody changed"),
        (Rule::Facts, "make no sense"),
    ] {
        let failed = tokio::spawn(async move {
            let (context, _) = context(1);
            let system = Broken(ScriptedSystem::new(SCRIPT).with_shape(Shape::Unsorted), rule);
            check_system(&system, &context).await;
        });
        assert_panics(failed, complaint).await;
    }
}

/// An identity that names two contents, in one cut.
#[tokio::test]
async fn an_identity_that_lies_fails() {
    let failed = tokio::spawn(async {
        let (context, _) = context(1);
        let system = ScriptedSystem::new("file a blk=1*100\n file b blk=2*100");
        check_system(&system, &context).await;
    });
    assert_panics(failed, "names different bytes").await;
}

async fn assert_panics(task: tokio::task::JoinHandle<()>, complaint: &str) {
    let panic = task.await.expect_err(complaint).into_panic();
    let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(said.contains(complaint), "{said}");
}

/// A target that forgets the second half of each content.
#[derive(Debug)]
struct Forgetful(MemoryTarget);

#[async_trait]
impl Content for Forgetful {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        self.0.open(item, extent, range).await
    }
    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        self.0.recheck(item).await
    }
}

#[async_trait]
impl Target for Forgetful {
    fn facts(&self) -> TargetFacts {
        self.0.facts()
    }
    fn survey(&self, context: &Context) -> ItemBatches<'_> {
        self.0.survey(context)
    }
    async fn apply(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        context: &Context,
    ) -> Result<()> {
        if step.key() == &key("zk/child") {
            return Ok(());
        }
        self.0.apply(step, content, context).await
    }
    async fn finish(&self, context: &Context) -> Result<()> {
        self.0.finish(context).await
    }
    async fn persist(&self, context: &Context) -> Result<()> {
        self.0.persist(context).await
    }
}

#[tokio::test]
async fn a_target_that_loses_an_item_fails() {
    let failed = tokio::spawn(async {
        let (context, _) = context(1);
        let source = Baseline::take(&ScriptedSystem::new(SCRIPT), &context).await.expect("source");
        let target = Forgetful(MemoryTarget::new());
        check_target(&target, &source, &[], &String::new, &context).await;
    });
    assert_panics(failed, "other items are there").await;
}
