//! Faults on the way to a real store: what is said to be stored is.

use std::sync::Arc;
use std::time::Duration;

use chaos_tests::stores::{Fault, Faults, Interposed, Rule, Verb};
use model::{Context, ErrorKind};
use object_store::ObjectStore;
use testkit::real_context;

use super::life::{Host, collect_all};
use super::{s3, s3_store_of_root};

/// Kinds of objects that a backup creates.
const CREATED: [&str; 6] = ["session/", "pack/", "meta/", "index/", "snapshot/", "point/"];

/// A way to the server on which things go wrong, and the way beside it.
async fn ways(
    test: &str,
    prefix: &str,
    context: &Context,
) -> Option<(Arc<Faults>, Arc<dyn ObjectStore>, Arc<dyn ObjectStore>)> {
    let server = s3(test, context).await?;
    let sound = s3_store_of_root(server, prefix, context).object_store().clone();
    let faults = Arc::new(Faults::new(context.clock.clone()));
    let faulty = Arc::new(Interposed::new(sound.clone(), &faults));
    Some((faults, faulty, sound))
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_and_false_conflicts_of_s3_are_looked_into() {
    let (context, _) = real_context(111);
    let test = "lost_answers_and_false_conflicts_of_s3_are_looked_into";
    let Some((faults, faulty, sound)) = ways(test, "faults", &context).await else { return };
    let host = Host::new(&context);
    host.client.init(&sound).await.expect("init");
    for (number, prefix) in (0..).zip(CREATED) {
        let fault = match number % 2 {
            0 => [Fault::LostResponse, Fault::FalseConflict],
            _ => [Fault::FalseConflict, Fault::LostResponse],
        };
        for (nth, fault) in (1..).zip(fault) {
            let prefix = prefix.to_owned();
            faults.add(Rule { verb: Some(Verb::Put), prefix, nth, times: 1, fault });
        }
        host.write("large", 10 + number, 400_000);
        host.backup(&faulty).await;
    }
    let occurred: Vec<_> = faults.occurred().into_iter().map(|(request, _)| request.path).collect();
    for prefix in CREATED {
        let count = occurred.iter().filter(|path| path.starts_with(prefix)).count();
        assert_eq!(count, 2, "{prefix} in {occurred:?}");
    }
    host.check_deep(&sound, &context).await;
    host.check_restore(&sound).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_on_a_bad_line_to_s3_loses_nothing() {
    let (context, _) = real_context(112);
    let test = "a_whole_life_on_a_bad_line_to_s3_loses_nothing";
    let Some((faults, faulty, sound)) = ways(test, "line", &context).await else { return };
    let host = Host::new(&context);
    let slow = Fault::Slow(Duration::from_millis(30));
    let kinds = [Fault::ErrorBefore, Fault::LostResponse, Fault::FalseConflict, slow];
    faults.by_chance(112, 8, &kinds);
    host.client.init(&faulty).await.expect("init");
    for seed in 20..23 {
        host.write("large", seed, 1_000_000);
        host.backup(&faulty).await;
    }
    host.check_restore(&faulty).await;
    let repository = host.client.open(&faulty).await.expect("open");
    host.forget(&repository, 2, &context).await;
    collect_all(&repository, &context).await.expect("collect");
    assert!(faults.occurred().len() > 10, "{:?}", faults.occurred());
    faults.heal();
    host.check_deep(&sound, &context).await;
    host.check_restore(&sound).await;
}

/// S3 lists what is there; others have listed what was there. A backup by such a list may fail, but
/// breaks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn listings_of_s3_that_lag_and_break_off_do_no_harm() {
    let (context, _) = real_context(113);
    let test = "listings_of_s3_that_lag_and_break_off_do_no_harm";
    let Some((faults, faulty, sound)) = ways(test, "stale", &context).await else { return };
    let host = Host::new(&context);
    host.client.init(&sound).await.expect("init");
    host.backup(&sound).await;
    let mut ended_well = 0;
    for seed in 30..36 {
        host.write("large", seed, 300_000);
        let kinds = [Fault::Stale, Fault::MissingNewest(1), Fault::TornAfter(1)];
        faults.by_chance(seed, 30, &kinds);
        match Box::pin(host.client.backup(&faulty)).await {
            Ok(_) => ended_well += 1,
            Err(error) => {
                use ErrorKind::{Conflict, Fenced, NotFound, Unavailable};
                let kinds = [Conflict, Fenced, NotFound, Unavailable];
                assert!(kinds.contains(&error.kind()), "{error:?}");
            }
        }
        faults.heal();
    }
    assert!(ended_well > 0 && !faults.occurred().is_empty());
    host.check_deep(&sound, &context).await;
    host.backup(&sound).await;
    host.check_restore(&sound).await;
}
