//! Real directories from end to end: captured, changed, captured again, and any of the states restored
//! bit for bit with all metadata.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chaos_tests::engine::{capture_system, resolved, restore_state};
use chaos_tests::trees::{SeenTree, difference, look_at, make_tree, set_metadata};
use model::{Context, ItemKey, Target};
use object_store::local::LocalFileSystem;
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::types::StreamName;
use repository::{CreateOptions, OpenOptions, Repository};
use systems::files::target::{DirectoryTarget, TargetOptions};
use systems::files::{Files, FilesOptions, FollowOptions};
use testkit::SeededEntropy;

/// The host that the files are of.
pub const HOST: &str = "node1";
/// Their stream.
pub const STREAM: &str = "site.files";

/// A folder with a source, a repository and room for restores.
pub struct Scene {
    pub folder: tempfile::TempDir,
    pub source: PathBuf,
    pub store: PathBuf,
    pub context: Context,
    pub repository: Repository,
}

impl Scene {
    pub async fn create(large_bytes: usize) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().canonicalize().expect("path");
        let (source, store) = (root.join("source"), root.join("store"));
        make_tree(&source, large_bytes).expect("make source");
        std::fs::create_dir(&store).expect("make store");
        let (context, _) = testkit::context(1);
        let local = LocalFileSystem::new_with_prefix(&store).expect("store");
        let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(1)));
        let options = CreateOptions {
            label: "first".to_owned(),
            cost: PassphraseCost::LEAST,
            open: OpenOptions::default(),
        };
        let objects = Store::new(Arc::new(local), "scene", &context);
        let created = Repository::create(objects, &unlock, options, &context).await;
        Self { folder, source, store, repository: created.expect("create"), context }
    }

    pub async fn capture(&self) -> Snapshot {
        let files = Files::new(FilesOptions {
            host: HOST.to_owned(),
            paths: vec![self.source.clone()],
            include: Vec::new(),
            exclude: Vec::new(),
            one_file_system: false,
            skip_caches: false,
            commands: Vec::new(),
            follow: FollowOptions::default(),
        });
        let files = files.expect("sound options").without_log();
        let stream: StreamName = STREAM.parse().expect("stream");
        let captured =
            Box::pin(capture_system(&self.repository, &stream, &files, &self.context)).await;
        let captured = captured.expect("capture");
        assert_eq!(captured.problems, 0);
        captured.snapshot
    }

    /// Restores a snapshot into an empty folder; returns where the source is in it.
    pub async fn restore(&self, snapshot: &Snapshot, name: &str) -> PathBuf {
        let root = self.room(name);
        let system = resolved(&self.repository, snapshot, Some(HOST)).expect("open");
        let target = DirectoryTarget::open(&root, TargetOptions::default()).expect("target");
        let target: Arc<dyn Target> = Arc::new(target);
        let into = (&target, ItemKey::root());
        let restored = Box::pin(restore_state(&self.repository, &system, into, &self.context));
        restored.await.expect("restore");
        self.restored_source(&root)
    }

    /// Returns the path of a restore's root.
    pub fn room(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().expect("path").join(name)
    }

    /// Returns where the source is below a restore's root.
    pub fn restored_source(&self, root: &Path) -> PathBuf {
        root.join(self.source.strip_prefix("/").expect("absolute"))
    }
}

pub fn seen(path: &Path) -> SeenTree {
    look_at(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn change(source: &Path) {
    use std::os::unix::fs::{FileExt, symlink};
    set_metadata(&source.join("conf"), 0o755, 1_600_000_000).expect("writable");
    let large = std::fs::OpenOptions::new().write(true).open(source.join("data/large"));
    large.expect("open").write_all_at(b"changed in place", 400_000).expect("write");
    std::fs::write(source.join("conf/service-5.conf"), b"rewritten").expect("write");
    std::fs::remove_file(source.join("conf/service-6.conf")).expect("remove");
    std::fs::rename(source.join("data/deep/er"), source.join("conf/er")).expect("move");
    std::fs::remove_file(source.join("pipe")).expect("remove");
    std::fs::create_dir(source.join("pipe")).expect("a directory where a pipe was");
    std::fs::write(source.join("pipe/file"), b"in it").expect("write");
    std::fs::remove_file(source.join("conf/current")).expect("remove");
    symlink("service-5.conf", source.join("conf/current")).expect("link");
    std::fs::remove_file(source.join("a third name")).expect("remove");
    set_metadata(&source.join("conf/service-7.conf"), 0o600, 1_700_000_000).expect("touch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_captured_state_comes_back_bit_for_bit() {
    let scene = Scene::create(900_000).await;
    let before = seen(&scene.source);
    let first = scene.capture().await;
    assert_eq!(difference(&seen(&scene.source), &before), None, "a capture changes nothing");
    change(&scene.source);
    let after = seen(&scene.source);
    assert!(difference(&after, &before).is_some());
    let second = scene.capture().await;
    // A delta of the large file, not the whole of it again.
    assert!(second.stored_bytes < 400_000, "{} bytes stored", second.stored_bytes);
    let third = scene.capture().await;
    assert_eq!(third.root.node.map(|(id, _)| id), second.root.node.clone().map(|(id, _)| id));

    let older = scene.restore(&first, "older").await;
    assert_eq!(difference(&seen(&older), &before), None);
    let newer = scene.restore(&second, "newer").await;
    assert_eq!(difference(&seen(&newer), &after), None);
    assert_eq!(difference(&seen(&scene.source), &after), None, "a restore changes nothing else");
}
