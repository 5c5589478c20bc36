//! The trees of cgroups: one per controller in version 1, one for all in version 2, or both side by side.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Deepest cgroup below the root that is shown.
const DEPTH_MAX: usize = 16;
/// Most cgroups that are shown.
const CGROUPS_MAX: usize = 20_000;

/// Controllers of version 1 that are read.
const CONTROLLERS: [Controller; 5] =
    [Controller::Cpu, Controller::Cpuacct, Controller::Memory, Controller::Pids, Controller::Blkio];

/// A controller of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Cpuacct,
    Memory,
    Pids,
    Blkio,
}

impl Controller {
    /// Names of folders where it may be mounted.
    const fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Cpu => &["cpu", "cpu,cpuacct"],
            Self::Cpuacct => &["cpuacct", "cpu,cpuacct"],
            Self::Memory => &["memory"],
            Self::Pids => &["pids"],
            Self::Blkio => &["blkio"],
        }
    }
}

/// Where the trees are mounted.
#[derive(Debug)]
pub(super) struct Hierarchies {
    /// Version 1, in the order of `CONTROLLERS`.
    controllers: [Option<PathBuf>; CONTROLLERS.len()],
    /// Version 2.
    unified: Option<PathBuf>,
}

impl Hierarchies {
    /// Finds what is mounted under `cgroupfs`.
    pub(super) fn find(cgroupfs: &Path) -> Self {
        let is_unified = |path: &PathBuf| path.join("cgroup.controllers").exists();
        let unified =
            [cgroupfs.to_path_buf(), cgroupfs.join("unified")].into_iter().find(is_unified);
        // A file that every cgroup of version 1 has, and no ordinary folder.
        let is_controller = |path: &PathBuf| path.join("cgroup.procs").exists();
        let controllers = CONTROLLERS.map(|controller| {
            if unified.as_deref() == Some(cgroupfs) {
                return None;
            }
            let folders = controller.folders().iter().map(|name| cgroupfs.join(name));
            folders.into_iter().find(is_controller)
        });
        Self { controllers, unified }
    }

    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        self.controllers.iter().flatten().chain(&self.unified)
    }

    /// Ids of all cgroups in any tree: paths from the root, which is `/`. Sorted.
    pub(super) fn cgroups(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for root in self.roots() {
            walk(root, String::from("/"), 0, &mut found);
        }
        if found.len() >= CGROUPS_MAX {
            tracing::warn!("there are more than {CGROUPS_MAX} cgroups; the rest is not shown");
        }
        found
    }

    /// The cgroup `id` in every tree that has it.
    pub(super) fn cgroup(&self, id: &str) -> Cgroup {
        let relative = id.trim_start_matches('/');
        let present = |root: &Option<PathBuf>| {
            root.as_ref().map(|root| root.join(relative)).filter(|path| path.is_dir())
        };
        Cgroup {
            controllers: std::array::from_fn(|i| present(&self.controllers[i])),
            unified: present(&self.unified),
            is_root: id == "/",
        }
    }
}

fn walk(folder: &Path, id: String, depth: usize, found: &mut BTreeSet<String>) {
    if found.len() >= CGROUPS_MAX {
        return;
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    if depth < DEPTH_MAX {
        for entry in entries {
            // Links are not followed: they lead to other mounts of the same tree.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let child = if id == "/" { format!("/{name}") } else { format!("{id}/{name}") };
            walk(&entry.path(), child, depth + 1, found);
        }
    }
    found.insert(id);
}

/// The folders of one cgroup.
#[derive(Debug)]
pub(super) struct Cgroup {
    controllers: [Option<PathBuf>; CONTROLLERS.len()],
    unified: Option<PathBuf>,
    is_root: bool,
}

impl Cgroup {
    /// Its folder in the tree of a controller of version 1.
    pub(super) fn v1(&self, controller: Controller) -> Option<&Path> {
        let index = CONTROLLERS.iter().position(|c| *c == controller)?;
        self.controllers[index].as_deref()
    }

    /// Its folder in the tree of version 2.
    pub(super) fn v2(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// Any of its folders, to list its processes.
    pub(super) fn any(&self) -> Option<&Path> {
        self.controllers.iter().flatten().chain(&self.unified).next().map(PathBuf::as_path)
    }

    /// Whether it is the whole machine.
    pub(super) const fn is_root(&self) -> bool {
        self.is_root
    }

    /// When it was made, in seconds since the epoch: the oldest of its folders' times. The kernel keeps no other.
    pub(super) fn created_seconds(&self) -> Option<i64> {
        let folders = self.controllers.iter().flatten().chain(&self.unified);
        folders.filter_map(|path| path.metadata().ok()).map(|m| m.mtime().min(m.ctime())).min()
    }
}
