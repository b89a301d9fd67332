//! Limits of memory: a control group of the kernel where there is one, otherwise what the recipe says.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde::{Deserialize, Serialize};

use crate::process::ProcessId;
use crate::recipe::MemoryFallback;

/// What holds a server's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum MemoryLimit {
    /// Nothing: no limit was wanted.
    None,
    /// A control group: who takes more is killed by the kernel.
    ControlGroup {
        /// Its folder, which goes with the server.
        path: PathBuf,
    },
    /// A limit on addresses: who takes more gets no memory.
    AddressSpace,
    /// The server itself, as its command says.
    Own,
}

/// A place where control groups for memory can be made.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    folder: PathBuf,
    limit_file: &'static str,
}

/// Limits the memory of a process that has not begun.
pub fn limit(
    id: ProcessId,
    memory_mib: Option<u64>,
    fallback: MemoryFallback,
    group: &str,
) -> MemoryLimit {
    let Some(bytes) = memory_mib.map(|mib| mib.saturating_mul(1 << 20)) else {
        return MemoryLimit::None;
    };
    for hierarchy in hierarchies() {
        if let Some(path) = hierarchy.make(group, bytes) {
            if fs::write(path.join("cgroup.procs"), id.pid.to_string()).is_ok() {
                return MemoryLimit::ControlGroup { path };
            }
            remove(&path);
        }
    }
    let pid = i32::try_from(id.pid).ok().and_then(Pid::from_raw);
    let both = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    match fallback {
        MemoryFallback::AddressSpace if prlimit(pid, Resource::As, both).is_ok() => {
            MemoryLimit::AddressSpace
        }
        _ => MemoryLimit::Own,
    }
}

/// Removes the group of a server that has ended. One that is not empty stays, and its mark tells whose it is.
pub fn remove(group: &Path) {
    let _ = fs::remove_dir(group);
}

impl Hierarchy {
    fn make(&self, group: &str, bytes: u64) -> Option<PathBuf> {
        let path = self.folder.join(group);
        fs::create_dir(&path).ok()?;
        let file = path.join(self.limit_file);
        // The kernel makes the file. Where it is missing this is a folder like any other, and writing
        // into it would limit nothing.
        let is_set = file.exists()
            && path.join("cgroup.procs").exists()
            && fs::write(&file, bytes.to_string()).is_ok()
            && fs::read_to_string(&file).is_ok_and(|text| is_about(&text, bytes));
        if !is_set {
            remove(&path);
            return None;
        }
        Some(path)
    }
}

/// The kernel rounds to pages.
fn is_about(text: &str, bytes: u64) -> bool {
    text.trim().parse::<u64>().is_ok_and(|set| set.abs_diff(bytes) <= 1 << 16)
}

fn hierarchies() -> Vec<Hierarchy> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    find(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// Finds where this process's groups are: of version 1 that of `memory`, of version 2 the one.
fn find(mounts: &str, own_groups: &str) -> Vec<Hierarchy> {
    let own = |wanted: &dyn Fn(&str, &str) -> bool| {
        own_groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            wanted(id, controllers).then(|| path.to_owned())
        })
    };
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let (Some(root), Some(mount)) = (left.get(3), left.get(4)) else { continue };
        let mut right = right.split(' ');
        let kind = right.next().unwrap_or_default();
        let options = right.next_back().unwrap_or_default();
        let is_memory = |list: &str| list.split(',').any(|one| one == "memory");
        let (group, limit_file) = match kind {
            "cgroup" if is_memory(options) => {
                (own(&|_, controllers| is_memory(controllers)), "memory.limit_in_bytes")
            }
            "cgroup2" => (own(&|id, _| id == "0"), "memory.max"),
            _ => continue,
        };
        let Some(group) = group else { continue };
        // Seen from inside a container the root of the mount is the container's group.
        let below = Path::new(&group).strip_prefix(root).unwrap_or(Path::new(""));
        let folder = Path::new(mount).join(below).components().collect();
        found.push(Hierarchy { folder, limit_file });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_where_they_are() {
        let v1 = "31 23 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory";
        let cpu = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct";
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let inside = "31 23 0:27 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let tmpfs = "29 23 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755";
        let memory = "/sys/fs/cgroup/memory";
        for (mounts, own, expected) in [
            (vec![tmpfs, cpu, v1], "9:memory:/\n0::/\n", vec![(memory, "memory.limit_in_bytes")]),
            (
                vec![v1],
                "9:memory:/user/a:b\n",
                vec![("/sys/fs/cgroup/memory/user/a:b", "memory.limit_in_bytes")],
            ),
            (vec![inside], "9:memory:/docker/ab\n", vec![(memory, "memory.limit_in_bytes")]),
            (
                vec![v2],
                "0::/system.slice/x\n",
                vec![("/sys/fs/cgroup/system.slice/x", "memory.max")],
            ),
            (vec![tmpfs, cpu], "3:cpu,cpuacct:/\n", vec![]),
            (vec![], "", vec![]),
        ] {
            let found = find(&mounts.join("\n"), own);
            let found: Vec<_> = found
                .iter()
                .map(|one| (one.folder.to_str().expect("text"), one.limit_file))
                .collect();
            assert_eq!(found, expected, "{mounts:?}");
        }
    }

    #[test]
    fn a_folder_like_any_other_limits_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let hierarchy = Hierarchy { folder: folder.path().to_owned(), limit_file: "memory.max" };
        assert_eq!(hierarchy.make("x", 1 << 20), None);
        assert!(!folder.path().join("x").exists());
    }
}
