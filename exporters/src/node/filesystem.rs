//! `filesystem`: sizes of what is mounted.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use rustix::fs::{StatVfs, StatVfsMountFlags};

use super::Collector;
use super::statfs::{Statfs, StatfsError};
use crate::CollectError;
use crate::families::Families;
use crate::procfs::read;

/// Mount points that are left out, upstream's default.
static MOUNT_POINTS_EXCLUDED: LazyLock<Regex> = LazyLock::new(|| {
    let expression =
        r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)";
    Regex::new(expression).expect("a valid expression")
});

/// File systems that are left out, upstream's default: they have no size of their own.
const TYPES_EXCLUDED: [&str; 25] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Reads the mounts of process 1 and asks about each.
pub(super) struct Filesystem {
    procfs: PathBuf,
    rootfs: PathBuf,
    statfs: Statfs,
}

impl Filesystem {
    pub(super) fn new(procfs: &Path, rootfs: &Path) -> Self {
        Self {
            procfs: procfs.to_path_buf(),
            rootfs: rootfs.to_path_buf(),
            statfs: Statfs::default(),
        }
    }

    fn mounts(&self) -> Result<Vec<Mount>, CollectError> {
        // Those of process 1 are the machine's; without the right to see them, our own are the next best.
        let first = self.procfs.join("1/mountinfo");
        let (path, text) = match read(&first) {
            Ok(text) => (first, text),
            Err(_) => {
                let own = self.procfs.join("self/mountinfo");
                let text = read(&own)?;
                (own, text)
            }
        };
        let malformed = |line| CollectError::malformed(&path, "not a mount", line);
        text.lines()
            .map(|line| Mount::parse(line, &self.rootfs).ok_or_else(|| malformed(line)))
            .collect()
    }
}

/// A line of `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    major: String,
    minor: String,
    /// As seen from the root that is looked at.
    point: String,
    /// Where we find it.
    path: PathBuf,
    device: String,
    kind: String,
    read_only: bool,
}

impl Mount {
    /// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`; see proc(5).
    fn parse(line: &str, rootfs: &Path) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let (major, minor) = left.next()?.split_once(':')?;
        let path = PathBuf::from(unescape(left.nth(1)?));
        let options = left.next()?;
        let mut right = right.split(' ');
        let (kind, device) = (unescape(right.next()?), unescape(right.next()?));
        let super_options = right.next().unwrap_or_default();
        let read_only = [options, super_options].iter().any(|o| o.split(',').any(|o| o == "ro"));
        let point = match path.strip_prefix(rootfs) {
            Ok(inside) => Path::new("/").join(inside),
            Err(_) => path.clone(),
        };
        Some(Self {
            major: String::from(major),
            minor: String::from(minor),
            point: point.to_string_lossy().into_owned(),
            path,
            device,
            kind,
            read_only,
        })
    }

    fn is_shown(&self) -> bool {
        !MOUNT_POINTS_EXCLUDED.is_match(&self.point)
            && !TYPES_EXCLUDED.contains(&self.kind.as_str())
    }
}

/// Undoes the octal escapes of `mountinfo`: `\040` is a space.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.map(|digits| u8::from_str_radix(digits, 8)) {
            Some(Ok(byte)) if *first == b'\\' => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[expect(clippy::cast_precision_loss, reason = "upstream multiplies as floats too")]
fn add_sizes(families: &mut Families, labels: &[(&'static str, &str)], stat: &StatVfs) {
    let unit = stat.f_frsize as f64;
    for (name, help, value) in [
        ("node_filesystem_size_bytes", "Filesystem size in bytes.", stat.f_blocks as f64 * unit),
        (
            "node_filesystem_free_bytes",
            "Filesystem free space in bytes.",
            stat.f_bfree as f64 * unit,
        ),
        (
            "node_filesystem_avail_bytes",
            "Filesystem space available to non-root users in bytes.",
            stat.f_bavail as f64 * unit,
        ),
        ("node_filesystem_files", "Filesystem total file nodes.", stat.f_files as f64),
        ("node_filesystem_files_free", "Filesystem total free file nodes.", stat.f_ffree as f64),
    ] {
        families.gauge(name, help).add(labels, value);
    }
}

impl Collector for Filesystem {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        let mut seen = HashSet::new();
        for mount in self.mounts()?.into_iter().filter(Mount::is_shown) {
            // Mounted twice at the same place is one file system to us: the one on top.
            if !seen.insert((mount.device.clone(), mount.point.clone(), mount.kind.clone())) {
                continue;
            }
            let answer = self.statfs.get(&mount.path);
            let error = match &answer {
                Ok(_) => String::new(),
                Err(StatfsError::Stuck) => String::from("mountpoint timeout"),
                Err(StatfsError::Refused(error)) => error.to_string(),
            };
            let labels = [
                ("device", mount.device.as_str()),
                ("mountpoint", mount.point.as_str()),
                ("fstype", mount.kind.as_str()),
                ("device_error", error.as_str()),
            ];
            let read_only = match &answer {
                Ok(stat) => mount.read_only || stat.f_flag.contains(StatVfsMountFlags::RDONLY),
                Err(_) => mount.read_only,
            };
            families
                .gauge("node_filesystem_readonly", "Filesystem read-only status.")
                .add(&labels, f64::from(u8::from(read_only)));
            families
                .gauge(
                    "node_filesystem_device_error",
                    "Whether an error occurred while getting statistics for the given device.",
                )
                .add(&labels, f64::from(u8::from(answer.is_err())));
            if let Ok(stat) = &answer {
                add_sizes(families, &labels, stat);
                families.gauge("node_filesystem_mount_info", "Filesystem mount information.").add(
                    &[
                        ("device", &mount.device),
                        ("major", &mount.major),
                        ("minor", &mount.minor),
                        ("mountpoint", &mount.point),
                    ],
                    1.0,
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let line = r"36 35 98:0 /mnt1 /host/mnt\040two rw,noatime master:1 - ext4 /dev/root ro,errors=continue";
        let mount = Mount::parse(line, Path::new("/host")).unwrap();
        assert_eq!(
            mount,
            Mount {
                major: "98".into(),
                minor: "0".into(),
                point: "/mnt two".into(),
                path: "/host/mnt two".into(),
                device: "/dev/root".into(),
                kind: "ext4".into(),
                read_only: true,
            }
        );
        assert!(mount.is_shown());
        for short in ["", "36 35", "36 35 98:0 /a /b rw", "36 35 980 /a /b rw - ext4 /dev/x rw"] {
            assert_eq!(Mount::parse(short, Path::new("/")), None, "{short}");
        }
    }

    #[test]
    fn pseudo_file_systems_are_left_out() {
        let shown = |point: &str, kind: &str| {
            let line = format!("1 2 0:3 / {point} rw - {kind} dev rw");
            Mount::parse(&line, Path::new("/")).unwrap().is_shown()
        };
        assert!(shown("/", "ext4") && shown("/run", "tmpfs") && shown("/device", "xfs"));
        assert!(!shown("/dev", "tmpfs") && !shown("/sys/fs/cgroup", "tmpfs"));
        assert!(!shown("/a", "overlay") && !shown("/a", "proc"));
        assert!(!shown("/var/lib/docker/overlay2/x", "ext4"));
    }
}
