//! Who may use whom. The direction of dependencies is the design; this table is where it is held.

use anyhow::Result;

use crate::workspace::{Package, Workspace};

/// What one crate may use in what is built for users.
struct Layer {
    name: &'static str,
    may_use: &'static [&'static str],
}

/// One line per crate; a crate without a line may not be in the workspace. `cli` and `daemon` name
/// the types of what `app` assembles, therefore they may use its lower layers too, but never a
/// system or a stack.
const LAYERS: &[Layer] = &[
    Layer { name: "model", may_use: &[] },
    Layer { name: "proto", may_use: &[] },
    Layer { name: "policies", may_use: &["model"] },
    Layer { name: "repository", may_use: &["model"] },
    Layer { name: "stack", may_use: &["model"] },
    Layer { name: "systems", may_use: &["model", "stack"] },
    Layer { name: "operations", may_use: &["model", "policies", "repository"] },
    Layer {
        name: "app",
        may_use: &["model", "operations", "policies", "repository", "stack", "systems"],
    },
    Layer {
        name: "cli",
        may_use: &["app", "model", "operations", "policies", "proto", "repository"],
    },
    Layer {
        name: "daemon",
        may_use: &["app", "model", "operations", "policies", "proto", "repository"],
    },
    Layer { name: "testkit", may_use: &["model"] },
    Layer {
        name: "chaos-tests",
        may_use: &[
            "app",
            "cli",
            "daemon",
            "model",
            "operations",
            "policies",
            "proto",
            "repository",
            "stack",
            "systems",
            "testkit",
        ],
    },
    Layer { name: "xtask", may_use: &[] },
];

/// Crates that are in nobody's release build: others may use them in their tests alone.
const TESTS_ONLY: &[&str] = &["testkit", "chaos-tests", "xtask"];

/// What a crate must not see of the outside, whatever the convenience.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("model", &["object_store", "url", "reqwest", "rustix", "jiff"], "model knows no vendor"),
    ("policies", &["tokio", "object_store", "rustix", "futures"], "policies does no I/O"),
    ("systems", &["object_store"], "a system never sees the repository's store"),
    (
        "operations",
        &["object_store", "rustix", "fuser"],
        "operations reaches the world through ports",
    ),
    ("testkit", &["rustix"], "testkit needs no operating system"),
];

/// Every edge of the workspace that the design does not allow.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let names: Vec<&str> = workspace.members().map(|member| member.name.as_str()).collect();
    Ok(workspace.members().flat_map(|member| problems_of(member, &names)).collect())
}

fn problems_of(package: &Package, members: &[&str]) -> Vec<String> {
    let name = package.name.as_str();
    let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
        return vec![format!("{name}: has no line in the table of layers")];
    };
    let forbidden = FORBIDDEN.iter().filter(|(owner, ..)| *owner == name);
    let mut problems = Vec::new();
    for dependency in &package.dependencies {
        let used = dependency.name.as_str();
        if members.contains(&used) {
            problems.extend(edge_problem(layer, used, dependency.is_dev()));
        } else if !dependency.is_dev() {
            let refused = forbidden.clone().filter(|(_, outside, _)| outside.contains(&used));
            problems.extend(refused.map(|(.., why)| format!("{name} uses {used}: {why}")));
        }
    }
    problems
}

/// Tests may use `testkit`, the real servers of `stack`, and their own crate's layer; nothing higher.
fn edge_problem(layer: &Layer, used: &str, is_dev: bool) -> Option<String> {
    let name = layer.name;
    let test_help = used == "testkit" || used == "stack" || used == name;
    if layer.may_use.contains(&used) || (is_dev && test_help) {
        None
    } else if TESTS_ONLY.contains(&used) {
        Some(format!("{name} uses {used}, which is for tests alone"))
    } else {
        Some(format!("{name} uses {used}, which is not below it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str) -> &'static Layer {
        LAYERS.iter().find(|layer| layer.name == name).unwrap()
    }

    #[test]
    fn the_workspace_keeps_its_layers() {
        let workspace = Workspace::load().unwrap();
        assert_eq!(check(&workspace).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn edges_are_judged() {
        // (who, uses whom, in tests only, allowed)
        let table = [
            ("operations", "repository", false, true),
            ("repository", "operations", false, false),
            ("systems", "repository", false, false),
            ("systems", "testkit", true, true),
            ("systems", "testkit", false, false),
            ("repository", "chaos-tests", true, false),
            ("cli", "systems", false, false),
            ("cli", "stack", false, false),
            ("cli", "stack", true, true),
            ("model", "testkit", true, true),
            ("policies", "repository", true, false),
        ];
        for (who, whom, is_dev, allowed) in table {
            let problem = edge_problem(layer(who), whom, is_dev);
            assert_eq!(problem.is_none(), allowed, "{who} -> {whom}: {problem:?}");
        }
    }

    #[test]
    fn the_table_has_no_cycle() {
        // A crate may use only crates whose own lines do not lead back to it.
        fn reaches(from: &str, to: &str) -> bool {
            layer(from).may_use.iter().any(|next| *next == to || reaches(next, to))
        }
        for layer in LAYERS {
            assert!(!reaches(layer.name, layer.name), "{} reaches itself", layer.name);
        }
    }
}
