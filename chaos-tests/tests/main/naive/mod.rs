//! The whole repository against a naive one: plain states held in memory.

mod ops;
mod world;

use proptest::test_runner::{Config, TestCaseError, TestRunner};

use world::World;

fn run_cases(cases: u32, length: std::ops::Range<usize>) {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&ops::ops(length), |ops| {
        let checked = runtime.block_on(async {
            let mut world = World::create().await;
            for op in &ops {
                world.apply(op).await?;
            }
            world.check().await
        });
        checked.map_err(TestCaseError::fail)
    });
    // The failure prints the operations, shrunk.
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_repository_does_what_the_naive_one_does() {
    run_cases(48, 5..50);
}

#[test]
#[ignore = "the full tier runs it"]
fn the_repository_does_what_the_naive_one_does_for_many_operations() {
    run_cases(150, 20..120);
}
