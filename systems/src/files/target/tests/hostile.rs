//! A tree in which somebody exchanges directories for links while it is restored into.

use std::collections::VecDeque;
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
/// How many directories are exchanged for links at any moment.
const LINKS_AT_ONCE: usize = 25;

/// For each file that is restored, so that the attacker leaves time to do it.
const SWAPS_PER_FILE_MAX: u64 = 15;

/// A link that leads from a directory to a file outside.
const BAIT: &str = "bait";

/// A contest this many times longer than its files alone take is given up: the attacker gets no turn.
const ROUNDS_FACTOR_MAX: u64 = 20;

/// Exchanges directories for links to the outside, and back, as fast as it can. Each exchange is one
/// atomic call: at any moment either the directory stands there or the link.
struct Attacker {
    root: PathBuf,
    swaps: AtomicU64,
    /// How many it may have made by now: it runs ahead of the restore only so far.
    swaps_max: AtomicU64,
    is_over: AtomicBool,
}

impl Attacker {
    fn new(bench: &Bench) -> Self {
        let attacker = Self {
            root: bench.root(),
            swaps: AtomicU64::new(0),
            swaps_max: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        };
        for directory in 0..DIRECTORIES {
            let link = attacker.root.join(format!("link{directory}"));
            std::os::unix::fs::symlink("../outside", link).expect("link");
        }
        std::os::unix::fs::symlink("../../outside/f0", attacker.root.join(BAIT)).expect("bait");
        attacker
    }

    fn swap(&self, directory: usize) {
        let ours = self.root.join(format!("d{directory}"));
        let link = self.root.join(format!("link{directory}"));
        renameat_with(CWD, &ours, CWD, &link, RenameFlags::EXCHANGE).expect("exchange");
        self.swaps.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts a link where a file is about to be made: one more name of the bait, as some file systems
    /// take long to make new things where many were removed of late.
    fn plant(&self, directory: usize, file: usize) {
        let path = key(&format!("d{directory}/f{file}"));
        let parent = self.root.join(format!("d{directory}"));
        let hidden = parent.join(std::ffi::OsStr::from_bytes(&temporary_name(&path)));
        // Through an exchanged directory this would reach the outside by the attacker's own hand.
        if std::fs::symlink_metadata(&parent).is_ok_and(|data| data.is_dir()) {
            let _taken = std::fs::hard_link(self.root.join(BAIT), hidden);
        }
    }

    fn run(&self) {
        let mut random = testkit::Random::new(7);
        let mut exchanged = VecDeque::new();
        while !self.is_over.load(Ordering::Relaxed) {
            if self.swaps.load(Ordering::Relaxed) >= self.swaps_max.load(Ordering::Relaxed) {
                std::thread::yield_now();
                continue;
            }
            let directory = random.index(DIRECTORIES);
            if !exchanged.contains(&directory) {
                self.swap(directory);
                exchanged.push_back(directory);
            }
            if exchanged.len() > LINKS_AT_ONCE
                && let Some(first) = exchanged.pop_front()
            {
                self.swap(first);
            }
            if random.chance(5) {
                self.plant(directory, random.index(FILES_EACH));
            }
        }
    }
}

/// Ends the attack when dropped, also by a failed assertion.
struct End<'a>(&'a Attacker);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
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
async fn round(bench: &Bench, attacker: &Attacker, number: usize, tally: &mut Tally) -> u64 {
    let mut written = 0;
    for file_number in 0..FILES_EACH {
        for directory in 0..DIRECTORIES {
            let path = format!("d{directory}/f{file_number}");
            let thing = file(&path, "ours");
            attacker.swaps_max.fetch_add(SWAPS_PER_FILE_MAX, Ordering::Relaxed);
            let replaced = bench.replace(&thing).await;
            written += u64::from(replaced.is_ok());
            tally.add(replaced);
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

/// Restores, in rounds, until that many files were written and that many directories exchanged. The end
/// of a restore comes after each round, but for making it durable: that waits for all that others write
/// to the same disk, while the attacker has nothing to attack.
async fn contest(
    bench: &Bench,
    attacker: &Attacker,
    (files, swaps): (u64, u64),
    is_attacked: &dyn Fn() -> bool,
) -> (Tally, u64) {
    let (mut tally, mut written, mut number) = (Tally::default(), 0, 0);
    while (written < files || attacker.swaps.load(Ordering::Relaxed) < swaps)
        && written < files * ROUNDS_FACTOR_MAX
        && is_attacked()
    {
        written += round(bench, attacker, number, &mut tally).await;
        tally.add(bench.target.complete_waiting(&bench.context));
        look_around(bench).await;
        number += 1;
    }
    (tally, written)
}

fn survive(bench: Bench, files: u64, swaps: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
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
    let (tally, written) = std::thread::scope(|scope| {
        let _end = End(&attacker);
        let thread = scope.spawn(|| attacker.run());
        let is_attacked = || !thread.is_finished();
        runtime.block_on(contest(&bench, &attacker, (files, swaps), &is_attacked))
    });
    let swapped = attacker.swaps.load(Ordering::Relaxed);
    assert!(written >= files && swapped >= swaps, "{written} files, {swapped} swaps");
    assert!(tally.done > 0 && tally.refused > 0, "there was no contest: {tally:?}");
    // Directories that are links now are refused to the end.
    let _refused = runtime.block_on(bench.target.finish(&bench.context));
    assert_eq!(before, canary(), "something outside has changed");
}

#[test]
fn nothing_outside_is_touched_while_directories_become_links() {
    survive(Bench::in_memory(), 2_000, 10_000);
}

#[test]
#[ignore = "the full tier runs it"]
fn nothing_outside_is_touched_by_ten_thousand_files_and_a_hundred_thousand_swaps() {
    survive(Bench::in_memory(), 10_000, 100_000);
    survive(Bench::new(), 1_000, 10_000);
}
