//! `lifeboat mount` through the real kernel: what is mounted is walked and compared with what was captured.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, XattrFlags, lgetxattr, llistxattr, lsetxattr};

use super::{Scene, text};

/// Says whether this machine lets a file system be mounted; where it does not, that is told.
fn may_mount() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let has_helper = Command::new("fusermount3").arg("-V").output().is_ok();
    let opened = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let why = match opened {
        Err(error) => format!("/dev/fuse: {error}"),
        Ok(_) if !is_root && !has_helper => "this user needs fusermount3".to_owned(),
        Ok(_) => return true,
    };
    let _ = writeln!(std::io::stdout(), "not run: mounting: {why}");
    false
}

/// A program that serves a mounted file system.
struct Mounted {
    child: Child,
    directory: PathBuf,
}

impl Mounted {
    /// Starts it and waits until it says that all is there.
    fn start(scene: &Scene, selector: &str, more: &[&str]) -> Self {
        let directory = scene.path("mnt");
        fs::create_dir_all(&directory).expect("folder");
        let mut command = scene.command(&[&["mount", selector, "mnt"], more].concat());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        let mut mounted = Self { child, directory };
        if !line.starts_with("mounted on ") {
            panic!("{line}\n{}", mounted.stderr());
        }
        mounted
    }

    /// Sends a signal and returns the exit code and what was said on standard error.
    fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        let code = self.child.wait().expect("wait").code();
        (code, self.stderr())
    }

    fn stderr(&mut self) -> String {
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        said
    }

    fn is_mounted(directory: &Path) -> bool {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        mounts.lines().any(|line| line.split(' ').nth(1) == directory.to_str())
    }
}

impl Drop for Mounted {
    /// Leaves nothing behind where a test fails.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
            let _ = self.child.wait();
        }
    }
}

/// All that a file system tells of a path, but for how many names it has and when it was read.
fn facts(path: &Path) -> String {
    let metadata = path.symlink_metadata().expect("there");
    let mut buffer = vec![0; 1 << 16];
    let length = llistxattr(path, &mut buffer[..]).unwrap_or(0);
    let mut extended = BTreeMap::new();
    for name in buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 1 << 16];
        let length = lgetxattr(path, name, &mut value[..]).expect("attribute");
        extended.insert(text(name), value[..length].to_vec());
    }
    let kind = metadata.file_type();
    let content = if kind.is_file() {
        digest(&fs::read(path).expect("read"))
    } else if kind.is_symlink() {
        fs::read_link(path).expect("link").display().to_string()
    } else {
        format!("directory {} pipe {}", kind.is_dir(), kind.is_fifo())
    };
    let size = if kind.is_dir() { 0 } else { metadata.len() };
    let owner = (metadata.uid(), metadata.gid());
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    format!("{:o} {owner:?} {modified:?} {size} {extended:?} {content}", metadata.mode())
}

/// Stands for content in messages that people can read.
fn digest(content: &[u8]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in content {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{} bytes, {hash:016x}", content.len())
}

/// Walks a tree: path → all that is known.
fn walk(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        if path.symlink_metadata().expect("there").is_dir() {
            open.extend(
                fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()),
            );
        }
        found.insert(path.strip_prefix(root).expect("below").to_owned(), facts(&path));
    }
    found
}

/// Puts everything into the data that a file system may hold.
fn furnish(data: &Path) {
    let write = |name: &str, content: &[u8]| fs::write(data.join(name), content).expect("write");
    write("random", &testkit::random_bytes(1, 5_000_000));
    write("empty", b"");
    fs::write(data.join(std::ffi::OsStr::from_bytes(b"odd \xff\n name")), "odd").expect("write");
    for n in 0..1000 {
        write(&format!("sub/many{n:04}"), format!("content of {n}").as_bytes());
    }
    let sparse = File::create(data.join("sparse")).expect("create");
    sparse.write_all_at(b"middle", 20 << 20).expect("write");
    sparse.set_len(40 << 20).expect("length");
    fs::hard_link(data.join("random"), data.join("sub/again")).expect("link");
    rustix::fs::mkfifoat(rustix::fs::CWD, data.join("pipe"), Mode::from(0o620)).expect("pipe");
    let flags = XattrFlags::empty();
    let _ = lsetxattr(data.join("a.conf"), "user.note", b"\0value", flags);
    // Who owns it may read and write, user 1234 may read, others nothing.
    let list: Vec<u8> = [
        &2_u32.to_le_bytes()[..],
        b"\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xd2\x04\0\0\x04\0\0\0\xff\xff\xff\xff",
        b"\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff",
    ]
    .concat();
    let _ = lsetxattr(data.join("big"), "system.posix_acl_access", &list, flags);
    fs::set_permissions(data.join("empty"), fs::Permissions::from_mode(0o4511)).expect("mode");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(data.join("sub/link"), Some(12), Some(34)).expect("owner");
        std::os::unix::fs::chown(data.join("sub/b.txt"), Some(1234), Some(99)).expect("owner");
    }
}

#[test]
fn a_mounted_state_is_what_was_captured_down_to_the_last_byte() {
    if !may_mount() {
        return;
    }
    let scene = Scene::with_repository();
    furnish(&scene.data());
    scene.ok(&["backup"]);
    let before = walk(&scene.data());
    fs::write(scene.data().join("a.conf"), "later\n").expect("write");
    fs::remove_file(scene.data().join("random")).expect("remove");
    let mounted = Mounted::start(&scene, "prod@latest", &[]);
    assert!(Mounted::is_mounted(&mounted.directory));
    let shown = mounted.directory.join(scene.data().strip_prefix("/").expect("absolute"));
    let walked = walk(&shown);
    for (path, facts) in &before {
        assert_eq!(walked.get(path), Some(facts), "{}", path.display());
    }
    assert_eq!(walked.len(), before.len());
    assert!(before.len() > 1010, "{}", before.len());

    let inode = |name: &str| shown.join(name).metadata().expect("there").ino();
    assert_eq!(inode("random"), inode("sub/again"));
    assert_ne!(inode("random"), inode("big"));
    for entry in fs::read_dir(&shown).expect("list").map(|entry| entry.expect("entry")) {
        let metadata = entry.path().symlink_metadata().expect("there");
        assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), metadata.ino());
    }
    let sparse = shown.join("sparse").metadata().expect("there");
    assert!(sparse.blocks() * 512 < sparse.len() / 2, "{} blocks", sparse.blocks());
    let sparse = File::open(shown.join("sparse")).expect("open");
    let data = rustix::fs::seek(&sparse, rustix::fs::SeekFrom::Data(0)).expect("data");
    assert!(((19 << 20)..=(20 << 20)).contains(&data), "{data}");

    let error = fs::write(shown.join("new"), "x").expect_err("read-only").raw_os_error();
    assert_eq!(error, Some(rustix::io::Errno::ROFS.raw_os_error()));
    assert!(OpenOptions::new().write(true).open(shown.join("big")).is_err());
    assert!(fs::metadata(shown.join("nothing")).is_err());
    let file = File::open(shown.join("random")).expect("open");
    let expected = testkit::random_bytes(1, 5_000_000);
    for offset in [4_999_990_usize, 0, 2_500_000, 1, 4_000_000, 4_096, 4_999_999] {
        let mut bytes = vec![0; 5000];
        let count = file.read_at(&mut bytes, offset as u64).expect("read");
        let end = (offset + count).min(expected.len());
        assert_eq!(&bytes[..count], &expected[offset..end], "{offset}");
    }
    drop((file, sparse));
    let directory = mounted.directory.clone();
    let (code, said) = mounted.stop("-TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("warning"), "{said}");
    assert!(!Mounted::is_mounted(&directory));
    assert_eq!(fs::read_dir(&directory).expect("list").count(), 0);
}

#[test]
fn a_path_is_the_root_and_several_read_at_once() {
    if !may_mount() {
        return;
    }
    let scene = Scene::with_repository();
    let large = testkit::random_bytes(3, 20_000_000);
    fs::write(scene.data().join("large"), &large).expect("write");
    scene.ok(&["backup"]);
    let expected = walk(&scene.data());
    let selector = format!("prod/data@latest:{}", scene.data().display());
    let mounted = Mounted::start(&scene, &selector, &[]);
    let directory = &mounted.directory;
    std::thread::scope(|scope| {
        let whole = [0, 1]
            .map(|_| scope.spawn(|| fs::read(directory.join("large")).expect("read") == large[..]));
        let walks = [0, 1].map(|_| scope.spawn(|| walk(directory)));
        let jumps = scope.spawn(|| {
            let file = File::open(directory.join("large")).expect("open");
            (0..200_usize).all(|n| {
                let offset = n.wrapping_mul(7_654_321) % (large.len() - 5000);
                let mut bytes = vec![0; 5000];
                file.read_exact_at(&mut bytes, offset as u64).expect("read");
                bytes == large[offset..offset + 5000]
            })
        });
        assert!(whole.into_iter().all(|one| one.join().expect("no panic")));
        assert!(jumps.join().expect("no panic"));
        for walked in walks {
            assert_eq!(walked.join().expect("no panic"), expected);
        }
    });
    // Somebody works in it when it goes.
    let held = File::open(directory.join("large")).expect("open");
    let directory = directory.clone();
    let (code, said) = mounted.stop("-INT");
    assert_eq!(code, Some(0), "{said}");
    assert!(!Mounted::is_mounted(&directory));
    // What the kernel has kept can still be read; nobody answers for the rest.
    let mut bytes = [0; 10];
    if let Ok(count) = held.read_at(&mut bytes, 19_000_000) {
        assert_eq!(&bytes[..count], &large[19_000_000..19_000_000 + count]);
    }
}

#[test]
fn damaged_content_is_an_error_and_the_rest_reads() {
    if !may_mount() {
        return;
    }
    let scene = Scene::with_repository();
    let bad = testkit::random_bytes(5, 3_000_000);
    fs::remove_file(scene.data().join("big")).expect("remove");
    fs::write(scene.data().join("bad"), &bad).expect("write");
    scene.ok(&["backup"]);
    for pack in walk(&scene.path("repository/pack")).into_keys() {
        let path = scene.path("repository/pack").join(pack);
        if !path.is_file() {
            continue;
        }
        let mut bytes = fs::read(&path).expect("read");
        // Of the content, not of what stands at the end.
        let at = bytes.len() / 3;
        bytes[at] ^= 1;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        fs::write(&path, bytes).expect("write");
    }
    let good = testkit::random_bytes(6, 3_000_000);
    fs::write(scene.data().join("good"), &good).expect("write");
    scene.ok(&["backup"]);
    let selector = format!("prod/data@latest:{}", scene.data().display());
    let mounted = Mounted::start(&scene, &selector, &[]);
    let error =
        fs::read(mounted.directory.join("bad")).err().and_then(|error| error.raw_os_error());
    assert_eq!(error, Some(rustix::io::Errno::IO.raw_os_error()));
    assert!(fs::read(mounted.directory.join("good")).expect("sound") == good[..]);
    let file = File::open(mounted.directory.join("bad")).expect("open");
    let mut read = 0;
    for offset in (0..bad.len()).step_by(100_000) {
        let mut bytes = vec![0; 1000];
        if let Ok(count) = file.read_at(&mut bytes, offset as u64) {
            assert_eq!(&bytes[..count], &bad[offset..offset + count], "never wrong bytes");
            read += 1;
        }
    }
    assert!((1..30).contains(&read), "{read}");
    drop(file);
    let (code, said) = mounted.stop("-TERM");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("/bad").count(), 1, "told once: {said}");
}

#[test]
fn what_cannot_be_mounted_on_is_refused_before_anything_else() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    let refused = |code, directory: &str| scene.json(code, &["mount", "@latest", directory]);
    assert_eq!(refused(1, "nowhere")["error"]["kind"], "not_found");
    assert_eq!(refused(2, "lifeboat.toml")["error"]["kind"], "invalid");
    let full = refused(16, "data");
    assert!(
        full["error"]["hint"].as_str().is_some_and(|hint| hint.contains("--non-empty")),
        "{full}"
    );
    if !may_mount() {
        return;
    }
    fs::create_dir(scene.path("mnt")).expect("folder");
    fs::write(scene.path("mnt/hidden"), "x").expect("write");
    scene.code(17, &["mount", "@never-given", "mnt", "--non-empty"]);
    let file = format!("prod/data@latest:{}", scene.data().join("a.conf").display());
    scene.code(2, &["mount", &file, "mnt", "--non-empty"]);
    let mounted = Mounted::start(&scene, "@latest", &["--non-empty", "--allow-other"]);
    assert!(!mounted.directory.join("hidden").exists());
    let ended = Command::new("umount").arg(&mounted.directory).status().expect("umount");
    let directory = mounted.directory.clone();
    if ended.success() {
        let mut mounted = mounted;
        assert_eq!(mounted.child.wait().expect("wait").code(), Some(0), "{}", mounted.stderr());
    } else {
        assert_eq!(mounted.stop("-INT").0, Some(0));
    }
    assert!(directory.join("hidden").exists());
}
