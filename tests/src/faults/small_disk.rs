//! A file system of its own for a test: a tmpfs of a given size in a mount namespace.
//!
//! A shell holds the namespace; everybody else reaches the file system through `/proc/PID/root`. It goes with the shell. An ordinary user
//! may do that where user namespaces are allowed, root may always mount.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::conformance::{program, skip};

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    mount: PathBuf,
    /// Its root, for every process.
    pub path: PathBuf,
}

impl SmallDisk {
    /// Mounts a file system of `kib` KiB at the folder `mount`, which exists; only the holder sees it there.
    ///
    /// # Panics
    /// If it is not allowed and `SEXTANT_REQUIRE_PEERS=1`.
    #[must_use]
    pub fn mount(mount: &Path, kib: u32) -> Option<Self> {
        let unshare = program("unshare", "UNSHARE")?;
        // With a user namespace first; root can do without.
        for flags in ["-Urm", "-m"] {
            let disk = Self::hold(&unshare, flags, mount);
            if let Some(mut disk) = disk
                && disk.run(&format!("mount -t tmpfs -o size={kib}k tmpfs {}", mount.display()))
                && std::fs::read_dir(&disk.path).is_ok()
            {
                return Some(disk);
            }
        }
        skip("mounting a tmpfs is not allowed");
        None
    }

    fn hold(unshare: &Path, flags: &str, mount: &Path) -> Option<Self> {
        let mut holder = Command::new(unshare)
            .args([flags, "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let commands = holder.stdin.take()?;
        let answers = BufReader::new(holder.stdout.take()?);
        let inside = mount.strip_prefix("/").expect("an absolute path");
        let path = PathBuf::from(format!("/proc/{}/root", holder.id())).join(inside);
        Some(Self { holder, commands, answers, mount: mount.to_path_buf(), path })
    }

    /// Runs a command inside and says whether it succeeded.
    fn run(&mut self, command: &str) -> bool {
        let sent = writeln!(self.commands, "{command} >/dev/null 2>&1; echo $?");
        let mut answer = String::new();
        sent.is_ok() && self.answers.read_line(&mut answer).is_ok_and(|_| answer.trim_end() == "0")
    }

    /// Makes it read-only.
    ///
    /// # Panics
    /// If that is not possible, for which the kernel has no reason while nobody has a file open for writing.
    pub fn remount_read_only(&mut self) {
        let mount = self.mount.display().to_string();
        assert!(self.run(&format!("mount -o remount,ro {mount}")), "remount,ro {mount}");
    }

    /// Makes it writable again.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn remount_writable(&mut self) {
        let mount = self.mount.display().to_string();
        assert!(self.run(&format!("mount -o remount,rw {mount}")), "remount,rw {mount}");
    }

    /// Fills what is free with one file, which grows if it is there already.
    ///
    /// # Panics
    /// If writing fails for another reason than a full disk.
    pub fn fill(&self) {
        let file = File::options().create(true).append(true).open(self.ballast());
        let mut file = file.expect("an empty file needs no space");
        loop {
            match file.write(&[0; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
                Err(error) => panic!("{}: {error}", self.ballast().display()),
            }
        }
    }

    /// Removes what [`fill`](Self::fill) wrote.
    ///
    /// # Panics
    /// If there is nothing.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("fill() was called");
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
