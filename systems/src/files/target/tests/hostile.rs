//! A tree in which somebody exchanges directories for links while it is restored into.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;
use crate::files::target::names::temporary_name;

/// More than are kept open, so that each is resolved anew again and again.
const DIRECTORIES: usize = 100;
const FILES_EACH: usize = 5;

/// Exchanges directories for links to the outside, and back, as fast as it can. Each exchange is one
/// atomic call: at any moment either the directory stands there or the link.
struct Attacker {
    root: PathBuf,
    swaps: AtomicU64,
    is_over: AtomicBool,
}

impl Attacker {
    fn new(bench: &Bench) -> Self {
        let attacker =
            Self { root: bench.root(), swaps: AtomicU64::new(0), is_over: AtomicBool::new(false) };
        for directory in 0..DIRECTORIES {
            let link = attacker.root.join(format!("link{directory}"));
            std::os::unix::fs::symlink("../outside", link).expect("link");
        }
        attacker
    }

    fn swap(&self, directory: usize) {
        let ours = self.root.join(format!("d{directory}"));
        let link = self.root.join(format!("link{directory}"));
        if renameat_with(CWD, &ours, CWD, &link, RenameFlags::EXCHANGE).is_ok() {
            self.swaps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts a link where a file is about to be made.
    fn plant(&self, directory: usize, file: usize) {
        let path = key(&format!("d{directory}/f{file}"));
        let parent = self.root.join(format!("d{directory}"));
        let hidden = parent.join(std::ffi::OsStr::from_bytes(&temporary_name(&path)));
        // Through an exchanged directory this would reach the outside by the attacker's own hand.
        if std::fs::symlink_metadata(&parent).is_ok_and(|data| data.is_dir()) {
            let _taken = std::os::unix::fs::symlink("../../outside/f0", hidden);
        }
    }

    fn run(&self) {
        let mut random = testkit::Random::new(7);
        while !self.is_over.load(Ordering::Relaxed) {
            let directory = random.index(DIRECTORIES);
            self.swap(directory);
            if random.chance(5) {
                self.plant(directory, random.index(FILES_EACH));
            }
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    done: u64,
    refused: u64,
}

impl Tally {
    fn add(&mut self, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.done += 1,
            Err(_) => self.refused += 1,
        }
    }
}

/// One round over all files: makes, replaces, reads back, removes. Returns how many were written.
async fn round(bench: &Bench, number: usize, tally: &mut Tally) -> u64 {
    let mut written = 0;
    for file_number in 0..FILES_EACH {
        for directory in 0..DIRECTORIES {
            let path = format!("d{directory}/f{file_number}");
            let thing = file(&path, "ours");
            tally.add(bench.replace(&thing).await);
            written += 1;
            if let Ok(mut reader) = model::Content::open(&bench.target, &thing.item, 0, 0..4).await
            {
                let bytes = reader.next().await.ok().flatten().unwrap_or_default();
                assert_eq!(bytes, "ours"[..bytes.len()], "{path} was read from elsewhere");
            }
            match (number + directory + file_number) % 4 {
                0 => tally.add(bench.apply(RestoreStep::Delete(key(&path)), b"").await),
                1 => tally.add(bench.create(&symlink(&path, "anywhere")).await),
                2 => tally.add(bench.replace(&fifo(&format!("d{directory}/p"))).await),
                _ => {
                    let linked = hardlink(&format!("d{directory}/h"), &path);
                    tally.add(bench.replace(&linked).await)
                }
            }
        }
    }
    written
}

/// A survey may end with an error, but lists nothing that lies outside.
async fn look_around(bench: &Bench) {
    let mut batches = bench.target.survey(&bench.context);
    while let Some(Ok(batch)) = batches.next().await {
        let outside = batch.iter().find(|item| item.key.name() == Some(b"canary"));
        assert_eq!(outside, None, "the survey went outside");
    }
}

fn survive(files: u64, swaps: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let bench = Bench::new();
    let outside = bench.outside();
    for name in (0..FILES_EACH).map(|file| format!("f{file}")).chain(["p".into(), "h".into()]) {
        std::fs::write(outside.join(name), "outs").expect("write");
    }
    let canary = || {
        let changed = |name: &str| {
            let data = std::fs::symlink_metadata(outside.join(name)).expect("look");
            (data.ctime(), data.ctime_nsec(), data.ino())
        };
        (fingerprint(&outside), changed("f0"), changed("canary"), changed(""))
    };
    for directory_number in 0..DIRECTORIES {
        let thing = directory(&format!("d{directory_number}"));
        runtime.block_on(bench.create(&thing)).expect("create");
    }
    let before = canary();
    let attacker = Attacker::new(&bench);
    let (mut tally, mut written, mut rounds) = (Tally::default(), 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| attacker.run());
        runtime.block_on(async {
            while written < files || attacker.swaps.load(Ordering::Relaxed) < swaps {
                written += round(&bench, rounds, &mut tally).await;
                tally.add(bench.target.finish(&bench.context).await);
                look_around(&bench).await;
                rounds += 1;
            }
        });
        attacker.is_over.store(true, Ordering::Relaxed);
    });
    let swapped = attacker.swaps.load(Ordering::Relaxed);
    assert!(written >= files && swapped >= swaps, "{written} files, {swapped} swaps");
    assert!(tally.done > 0 && tally.refused > 0, "there was no contest: {tally:?}");
    assert_eq!(before, canary(), "something outside has changed");
}

#[test]
fn nothing_outside_is_touched_while_directories_become_links() {
    survive(2_000, 10_000);
}

#[test]
#[ignore = "the full tier runs it"]
fn nothing_outside_is_touched_by_ten_thousand_files_and_a_hundred_thousand_swaps() {
    survive(10_000, 100_000);
}
