//! The minutes of the default tier and who may spend them. A new kind of system takes its minutes
//! from those that are kept for kinds to come, never from somebody else.

/// One share of the time of the default tier.
pub struct Area {
    /// As it is printed.
    pub title: &'static str,
    /// Minutes on a cold machine with two cores.
    pub minutes: u32,
    /// Parts of the workspace that `--full AREA` can name, with the packages whose tests they are.
    pub parts: &'static [(&'static str, &'static [&'static str])],
    /// True for a kind of system: these share one sum.
    pub is_kind: bool,
}

impl Area {
    /// The names for `--full AREA`.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.parts.iter().map(|(name, _)| *name)
    }
}

/// Title of the area that fetching, checking and compiling count to.
pub const BUILD: &str = "build";

/// Every area, in the order in which it is printed.
pub const AREAS: &[Area] = &[
    Area { title: BUILD, minutes: 12, parts: &[], is_kind: false },
    Area {
        title: "engine and daemon",
        minutes: 8,
        parts: &[
            (
                "repository",
                &["model", "policies", "repository", "operations", "testkit", "chaos-tests"],
            ),
            ("daemon", &["app", "cli", "stack"]),
        ],
        is_kind: false,
    },
    Area { title: "files", minutes: 4, parts: &[("files", &["systems"])], is_kind: true },
    Area { title: "kinds to come", minutes: 21, parts: &[], is_kind: true },
];

/// True if `--full NAME` means something.
pub fn is_known(name: &str) -> bool {
    AREAS.iter().any(|area| area.names().any(|known| known == name))
}

/// The area that the tests of a package count to.
pub fn title_of(package: &str) -> &'static str {
    let owns = |area: &&Area| area.parts.iter().any(|(_, packages)| packages.contains(&package));
    AREAS.iter().find(owns).map_or(BUILD, |area| area.title)
}

/// True if the package is tested by `--full NAME`; without a name everything is.
pub fn contains(name: Option<&str>, package: &str) -> bool {
    let Some(name) = name else { return true };
    let mut parts = AREAS.iter().flat_map(|area| area.parts);
    parts.any(|(part, packages)| *part == name && packages.contains(&package))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn the_shares_make_forty_five_minutes() {
        assert_eq!(AREAS.iter().map(|area| area.minutes).sum::<u32>(), 45);
        let kinds = AREAS.iter().filter(|area| area.is_kind);
        assert_eq!(kinds.map(|area| area.minutes).sum::<u32>(), 25);
        let rest: Vec<_> = AREAS.iter().filter(|area| !area.is_kind).collect();
        let rest: Vec<_> = rest.iter().map(|area| (area.title, area.minutes)).collect();
        assert_eq!(rest, [("build", 12), ("engine and daemon", 8)]);
    }

    #[test]
    fn every_package_has_an_area() {
        let workspace = Workspace::load().unwrap();
        for member in workspace.members().filter(|member| member.name != "xtask") {
            assert_ne!(title_of(&member.name), BUILD, "{} is in no area", member.name);
        }
    }

    #[test]
    fn areas_choose_their_packages() {
        assert!(contains(None, "cli"));
        assert!(contains(Some("repository"), "chaos-tests"));
        assert!(!contains(Some("repository"), "systems"));
        assert!(contains(Some("files"), "systems"));
        assert!(is_known("daemon") && !is_known("kinds to come"));
    }
}
