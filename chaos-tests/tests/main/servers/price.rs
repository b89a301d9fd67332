//! How many requests commands make, of the kinds that stores charge for. `docs/object-stores.md` has the
//! numbers that this test holds.

use std::sync::Arc;

use chaos_tests::stores::{Interposed, Recorder, Verb};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::life::{Host, collect_all};

/// The most requests of a command: puts and lists, gets.
const INIT: (u64, u64) = (24, 4);
const FIRST: (u64, u64) = (40, 30);
const UNCHANGED: (u64, u64) = (40, 50);
const POINTS: (u64, u64) = (12, 12);
const LS: (u64, u64) = (12, 20);
const RESTORE: (u64, u64) = (16, 40);
const COLLECT: (u64, u64) = (40, 60);

#[tokio::test]
async fn commands_make_as_many_requests_as_is_told() {
    let (context, _) = testkit::real_context(151);
    let recorder = Arc::new(Recorder::new());
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let objects: Arc<dyn ObjectStore> = Arc::new(Interposed::new(memory, &recorder));
    let check = |name: &str, most: (u64, u64)| {
        let count = |verb| recorder.count_of(verb).requests;
        let found = (count(Verb::Put) + count(Verb::List), count(Verb::Get));
        println!(
            "{name}: {} puts, {} lists, {} gets, {} deletes",
            count(Verb::Put),
            count(Verb::List),
            found.1,
            count(Verb::Delete)
        );
        assert!(found.0 <= most.0 && found.1 <= most.1, "{name}: {found:?} of {most:?}");
        recorder.reset();
    };
    let host = Host::new(&context);
    host.client.init(&objects).await.expect("init");
    check("init", INIT);
    host.backup(&objects).await;
    check("first backup", FIRST);
    host.backup(&objects).await;
    check("backup without changes", UNCHANGED);
    host.client.points(&objects, 100).await.expect("points");
    check("points", POINTS);
    host.client.ls(&objects, &host.root).await.expect("ls");
    check("ls", LS);
    host.client.restore(&objects, &host.root.join("large")).await.expect("restore");
    check("restore of one file", RESTORE);
    let repository = host.client.open(&objects).await.expect("open");
    collect_all(&repository, &context).await.expect("collect");
    check("gc with nothing to free", COLLECT);
}
