//! What was chosen, under the keys that it gets in the target.

use model::{ErrorKind, ItemKind, Result};
use object_store::memory::InMemory;
use testkit::scripted::key;

use super::super::wanted::Wish;
use crate::fixtures;

/// Shows what is wanted as `path[/][@primary]`, ancestors after `^`.
async fn shown(host: Option<&str>, path: &str, onto: &str, include: &[&str]) -> Result<String> {
    let (context, _) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let words = match host {
        Some(_) => "h/ h/a/ h/a/b/ h/a/b/c*3 h/a/b/d@h/a/b/c h/a/e@h/a/b/c h/f@h/a/b/c",
        None => "a/ a/b/ a/b/c*3 a/b/d@a/b/c a/e@a/b/c f@a/b/c",
    };
    let system = fixtures::state(&repository, words, host, path).await;
    let include: Vec<_> = include.iter().map(|path| key(path)).collect();
    let mut batches = Wish::new(&system, &key(onto), &include)?.spawn();
    let mut all = Vec::new();
    while let Some(batch) = batches.recv().await {
        for wanted in batch? {
            let item = &wanted.entry.item;
            let slash = if item.kind == ItemKind::Directory { "/" } else { "" };
            let link = wanted.entry.link_target().map(|key| format!("@{}", key.display()));
            let mark = if wanted.is_ancestor { "^" } else { "" };
            let length = match item.content_bytes() {
                0 => String::new(),
                bytes => format!("*{bytes}"),
            };
            let link = link.unwrap_or_default();
            all.push(format!("{mark}{}{slash}{link}{length}", item.key.display()));
        }
    }
    let path = |word: &String| {
        let path = word.trim_start_matches('^').split(['@', '*']).next().map(str::to_owned);
        key(&path.unwrap_or_default())
    };
    assert!(all.is_sorted_by_key(path), "{all:?}");
    Ok(all.join(" "))
}

async fn check(host: Option<&str>, path: &str, onto: &str, include: &[&str], expected: &str) {
    let shown = shown(host, path, onto, include).await.map_err(|error| error.chain());
    assert_eq!(shown.as_deref(), Ok(expected), "{path} onto {onto}, {include:?}");
}

#[tokio::test]
async fn the_host_is_taken_off_also_from_links() {
    let all = "/ a/ a/b/ a/b/c*3 a/b/d@a/b/c a/e@a/b/c f@a/b/c";
    check(Some("h"), ".", ".", &[], all).await;
    check(None, ".", ".", &[], &all[2..]).await;
}

#[tokio::test]
async fn a_part_keeps_its_place_or_becomes_the_target() {
    check(Some("h"), "a/b", "a/b", &[], "^a/ a/b/ a/b/c*3 a/b/d@a/b/c").await;
    check(Some("h"), "a/b", ".", &[], "/ c*3 d@c").await;
    check(None, "a/b", "x/y", &[], "^x/ x/y/ x/y/c*3 x/y/d@x/y/c").await;
    check(None, "a/b/c", "a/b/c", &[], "^a/ ^a/b/ a/b/c*3").await;
}

#[tokio::test]
async fn a_name_whose_item_was_not_chosen_becomes_the_item() {
    check(None, ".", ".", &["a/e", "f"], "^a/ a/e*3 f@a/e").await;
    check(None, "a", ".", &["a/e"], "e*3").await;
    check(None, "f", "f", &[], "f*3").await;
    check(None, ".", ".", &["a/b", "a/b/c", "f"], "^a/ a/b/ a/b/c*3 a/b/d@a/b/c f@a/b/c").await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    for (path, onto, include, kind) in [
        ("q", "q", None, ErrorKind::NotFound),
        ("a/b/c", ".", None, ErrorKind::Invalid),
        ("a", "a", Some("f"), ErrorKind::Invalid),
        (".", ".", Some("a/q"), ErrorKind::NotFound),
    ] {
        let include: Vec<_> = include.into_iter().collect();
        let error = shown(None, path, onto, &include).await.expect_err(path);
        assert_eq!(error.kind(), kind, "{path} onto {onto}, {include:?}");
    }
}
