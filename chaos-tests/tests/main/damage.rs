//! Damage to each object of a small repository that was filled by real captures: a reader gets an error
//! or what was written, never anything else, and `verify` finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chaos_tests::damage::{Cell, Damage, Sampling, blames_the_bytes, damaged, sample};
use chaos_tests::engine::{capture_system, fresh_entry};
use chaos_tests::logs;
use chaos_tests::observe::{
    describe_point, describe_snapshot, digest, followed_system, item_of, read_content, reader,
};
use futures::TryStreamExt;
use model::{Context, Error, Result};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::mark::MarkKind;
use repository::point::PointDraft;
use repository::store::Store;
use repository::types::{SessionId, StreamName};
use repository::verify::{Depth, VerifyOptions, verify};
use repository::{CreateOptions, OpenOptions, Repository};
use testkit::SeededEntropy;
use testkit::scripted::Shape;

/// What a reader was told, by what it asked for.
pub(crate) type Answers = BTreeMap<String, Result<String>>;

pub(crate) fn unlock() -> Unlock {
    Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(1)))
}

fn store(disk: &InMemory, context: &Context) -> Store {
    Store::new(Arc::new(disk.clone()), "memory", context)
}

/// Two captures, the second with a delta, two points, marks, a log of batches and a segment.
pub(crate) async fn fill(
    parity: Option<bool>,
    context: &Context,
) -> Result<(InMemory, Vec<SessionId>)> {
    let disk = InMemory::new();
    let options = CreateOptions {
        label: "first".to_owned(),
        cost: PassphraseCost::LEAST,
        open: OpenOptions { parity, ..OpenOptions::default() },
    };
    let repository = Repository::create(store(&disk, context), &unlock(), options, context).await?;
    let stream: StreamName = "site.main".parse()?;
    let system = followed_system(Shape::Changes);
    system.edit(
        r#"
        dir conf mode:755
        file conf/a "alpha"
        file conf/b 3~2000
        file large 1*300000+2*300000
        file holes 4*5000 hole*70000 5~3000
        symlink link conf/a
        "#,
    );
    let sealer = repository.point_sealer(&stream.site);
    let mut snapshots = Vec::new();
    for round in 0..2 {
        system.edit(&format!("file large 1*300000+{round}*90+2*300000 mtime:{round}"));
        let snapshot = capture_system(&repository, &stream, &system, context).await?.snapshot;
        let draft = PointDraft {
            entries: vec![fresh_entry(&snapshot)],
            lacks: Vec::new(),
            checks: Vec::new(),
            clocks: Vec::new(),
        };
        let point = sealer.seal(draft, context).await?;
        repository.set_mark(&point.id, MarkKind::Pin, "why", context).await?;
        system.edit(&format!(
            "file conf/c{round} 4*2000\nfile conf/b 4*1000\nfile conf/d 5*2500\ndelete conf/a"
        ));
        let over = (&snapshot.id, &snapshot.position);
        logs::append(&repository, over, &system, context, |_, _| ()).await?;
        if round == 0 {
            logs::compact(&repository, &stream, context).await?;
            logs::delete_compacted(&repository, &stream, context).await?;
        }
        snapshots.push(snapshot.id);
    }
    Ok((disk, snapshots))
}

/// Asks for everything; each question stands for itself.
pub(crate) async fn ask(disk: &InMemory, snapshots: &[SessionId], context: &Context) -> Answers {
    let mut answers = Answers::new();
    let store = store(disk, context);
    let opened = Repository::open(store, &unlock(), OpenOptions::default(), context).await;
    let repository = match opened {
        Ok(repository) => repository,
        Err(error) => {
            answers.insert("open".to_owned(), Err(error));
            return answers;
        }
    };
    for id in snapshots {
        let told = ask_for_items(&repository, id, &mut answers).await;
        answers.insert(format!("snapshot {id}"), told);
        let log = logs::read(&repository, &id.stream, id).await;
        answers.insert(
            format!("log {id}"),
            log.map(|batches| batches.iter().map(|b| format!("{b:?}\n")).collect()),
        );
        let listed = repository.newest_snapshots(&id.stream, 100).await;
        let described =
            |list: Vec<_>| list.iter().map(describe_snapshot).collect::<Vec<_>>().join("\n");
        answers.insert("list of snapshots".to_owned(), listed.map(described));
        let points = repository.newest_points(&id.stream.site, 100).await;
        let described =
            |list: Vec<_>| list.iter().map(describe_point).collect::<Vec<_>>().join("\n");
        answers.insert("list of points".to_owned(), points.map(described));
        let marks = repository.marks(&id.stream.site).await;
        answers.insert("list of marks".to_owned(), marks.map(|marks| format!("{marks:?}")));
    }
    answers
}

async fn ask_for_items(
    repository: &Repository,
    id: &SessionId,
    answers: &mut Answers,
) -> Result<String> {
    let snapshot = repository.snapshot(id).await?;
    let tree = repository.tree(&snapshot)?;
    let reader = reader(repository, &snapshot)?;
    let mut batches = tree.range(..);
    while let Some(batch) = batches.try_next().await? {
        for (key, record) in batch {
            let content = read_content(&reader, &record).await;
            let name = format!("item {id} {key:?}");
            let shown = format!("{:?}", item_of(key, &record));
            let told = content.map(|content| format!("{shown} {}", blake3::hash(&content)));
            answers.insert(name, told);
        }
    }
    Ok(digest(&describe_snapshot(&snapshot)))
}

/// Says what is wrong with the answers over damage; none where nothing is.
fn wrong(cell: &Cell, answers: &Answers, expected: &Answers) -> Option<String> {
    answers.iter().find_map(|(question, answer)| {
        let right = expected.get(question).and_then(|right| right.as_ref().ok());
        match answer {
            Ok(answer) if right == Some(answer) => None,
            // What is gone may never have been there: a list is shorter, never another one.
            Ok(answer)
                if cell.damage == Damage::Missing
                    && question.starts_with("list of")
                    && right.is_some_and(|right| is_shorter(answer, right)) =>
            {
                None
            }
            // A log may have ended earlier.
            Ok(answer)
                if cell.damage == Damage::Missing
                    && question.starts_with("log ")
                    && right.is_some_and(|right| right.starts_with(answer)) =>
            {
                None
            }
            Ok(answer) => Some(format!("{question}: {answer} instead of {right:?}")),
            Err(error) if blames_the_bytes(error.kind()) => None,
            Err(error) => Some(format!("{question}: {error:?}")),
        }
    })
}

/// Says whether every line of a list is in another one.
fn is_shorter(answer: &str, right: &str) -> bool {
    answer.len() < right.len()
        && (answer.split([',', '\n']).all(|part| right.contains(part.trim_matches(['[', ']']))))
}

/// Says whether a repository without this object is sound, only another one: what is said of others, and
/// the last of what is numbered, may never have been there; what a log holds twice it holds still.
fn may_be_absent(path: &str, all: &BTreeSet<String>, is_same: bool) -> bool {
    let (directory, _) = path.rsplit_once('/').unwrap_or_default();
    let mut newer = all.range(format!("{directory}/")..path.to_owned());
    // Newer ones come first.
    let is_newest = newer.next().is_none();
    match path.split('/').next().unwrap_or_default() {
        "mark" | "forget" | "session" | "key" | "heartbeat" => true,
        "point" => is_newest,
        "log" => is_newest || is_same,
        "logseg" | "logrun" => is_same,
        _ => false,
    }
}

/// Says whether every answer is the right one.
pub(crate) fn is_same(answers: &Answers, expected: &Answers) -> bool {
    expected.iter().all(|(question, right)| match (answers.get(question), right) {
        (Some(Ok(answer)), Ok(right)) => answer == right,
        _ => false,
    })
}

async fn find_wrong(sampling: Sampling) -> Vec<String> {
    let (context, _) = testkit::context(1);
    let (sound, snapshots) = fill(None, &context).await.expect("fill");
    let expected = ask(&sound, &snapshots, &context).await;
    let all_right = expected.values().all(Result::is_ok);
    assert!(all_right, "of the sound repository: {expected:#?}");
    let mut found = Vec::new();
    let all = paths_of(&sound).await;
    let cells = sample(&sound, sampling).await;
    assert!(cells.len() > 100, "only {} cells", cells.len());
    for cell in cells {
        let disk = damaged(&sound, &cell).await;
        let (context, _) = testkit::context(2);
        let answers = ask(&disk, &snapshots, &context).await;
        found.extend(wrong(&cell, &answers, &expected).map(|why| format!("{cell}: {why}")));
        let is_noticed = match verify_deep(&disk, &context).await {
            Ok(damage) => damage > 0,
            Err(error) => blames_the_bytes(error.kind()),
        };
        let absent = cell.damage == Damage::Missing
            && may_be_absent(cell.path.as_ref(), &all, is_same(&answers, &expected));
        if !is_noticed && !absent {
            found.push(format!("{cell}: verify finds nothing"));
        }
    }
    found
}

async fn paths_of(disk: &InMemory) -> BTreeSet<String> {
    let entries: Vec<_> = disk.list(None).try_collect().await.expect("list");
    entries.into_iter().map(|entry| entry.location.to_string()).collect()
}

pub(crate) async fn verify_deep(disk: &InMemory, context: &Context) -> Result<usize, Error> {
    let store = store(disk, context);
    let repository = Repository::open(store, &unlock(), OpenOptions::default(), context).await?;
    let options = VerifyOptions { depth: Depth::Deep, named: 3 };
    Ok(verify(&repository, &options, context).await?.damage.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_gives_errors_and_is_found() {
    let sampling = Sampling { flips_per_object: 2, swaps_per_object: 1 };
    let found = Box::pin(find_wrong(sampling)).await;
    assert!(found.is_empty(), "{} cells: {found:#?}", found.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full tier runs it"]
async fn damage_in_many_places_gives_errors_and_is_found() {
    let sampling = Sampling { flips_per_object: 100, swaps_per_object: 6 };
    let found = Box::pin(find_wrong(sampling)).await;
    assert!(found.is_empty(), "{} cells: {found:#?}", found.len());
}
