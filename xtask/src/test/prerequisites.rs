//! What the tests need of a machine: Rust with two of its components, a C compiler, and the locked
//! dependencies. What is missing is named first, then fetched.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::host;

/// A component of the toolchain, and a call that works when it is there.
const COMPONENTS: &[(&str, &[&str])] =
    &[("rustfmt", &["fmt", "--version"]), ("clippy", &["clippy", "--version"])];

/// Says what is missing, fetches what can be fetched, and fails on what cannot.
pub fn provide() -> Result<()> {
    host::say(&format!("build output: {}", host::target_dir()?.display()));
    let compilers = ["cc", "gcc", "clang"];
    let has_compiler = compilers.iter().any(|name| host::succeeds(name, &["--version"]));
    ensure!(has_compiler, "no C compiler: install one (Debian: apt-get install gcc libc6-dev)");
    for (component, call) in COMPONENTS {
        if !host::succeeds("cargo", call) {
            host::say(&format!("installs: the Rust component {component}, by rustup"));
            ensure!(
                host::succeeds("rustup", &["--version"]),
                "{component} is missing, and so is rustup"
            );
            host::run(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    host::say(
        "fetches: the crates of Cargo.lock that are not on this machine yet, by cargo; no more",
    );
    host::say(
        "fetches, before tests that need them and unless they are in the cache: versitygw (Go module; Go from PyPI \
         where that of this machine is too old), azurite (npm), moto (PyPI) in place of versitygw where that cannot \
         be had; for `--full` also s3s-fs (crate)",
    );
    host::run(
        host::cargo()?
            .args(["fetch", "--locked", "--quiet"])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    )
}
