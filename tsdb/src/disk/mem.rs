//! A file system in memory that can fail like a real one.
//!
//! Every inode has two contents: what a running process sees, and what is on the platter. Syncing copies the first to the second,
//! for files and for directories each on its own, and [`MemDisk::crash`] the second to the first. This is stricter than most
//! real file systems, which tend to make a new file's name durable together with its content. [`MemDisk::crash_at_random`] is the lottery
//! that a real disk is: of what was not synced, some has made it to the platter, in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirEntry, DirLock, Disk, DiskFile, Space};

type Inode = usize;

const ROOT: Inode = 0;

/// How a changing operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With this errno, without effect.
    Error(i32),
    /// With this errno; a write has put its first half into the file.
    Torn(i32),
}

/// A file system in memory; clones share it.
///
/// Operations that change something (create, write, sync, truncate, rename, remove, create and sync directories) are counted, so
/// that a test can make each of them fail in turn.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    inodes: Vec<Node>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    fault: Option<(u64, u64, Fault)>,
    reads: u64,
    read_fault: Option<(u64, u64, i32)>,
    space: Space,
    /// Distinguishes file handles from before a crash, which are dead.
    life: u64,
}

#[derive(Clone, Debug)]
enum Node {
    File { seen: Vec<u8>, durable: Vec<u8> },
    Dir { seen: BTreeMap<String, Inode>, durable: BTreeMap<String, Inode>, changes: Vec<Change> },
}

/// A change of a directory that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Set(String, Inode),
    Remove(String),
    /// Within the directory; a real file system does both halves or none.
    Move(String, String, Inode),
}

impl Node {
    const fn dir() -> Self {
        Self::Dir { seen: BTreeMap::new(), durable: BTreeMap::new(), changes: Vec::new() }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            inodes: vec![Node::dir()],
            locks: BTreeSet::new(),
            operations: 0,
            fault: None,
            reads: 0,
            read_fault: None,
            space: Space { available_bytes: u64::MAX / 2, total_bytes: u64::MAX / 2 },
            life: 0,
        }
    }
}

impl MemDisk {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many changing operations were asked for so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Makes the changing operation number `nth` (counted from 0 over the disk's life) fail.
    pub fn fail_at(&self, nth: u64, fault: Fault) {
        self.state.lock().fault = Some((nth, nth, fault));
    }

    /// Makes every changing operation from number `nth` on fail.
    pub fn fail_from(&self, nth: u64, fault: Fault) {
        self.state.lock().fault = Some((nth, u64::MAX, fault));
    }

    /// How many reads of files were asked for so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// Makes the read number `nth` (counted from 0 over the disk's life) fail with `errno`.
    pub fn fail_read_at(&self, nth: u64, errno: i32) {
        self.state.lock().read_fault = Some((nth, nth, errno));
    }

    /// Makes every read from number `nth` on fail with `errno`.
    pub fn fail_reads_from(&self, nth: u64, errno: i32) {
        self.state.lock().read_fault = Some((nth, u64::MAX, errno));
    }

    /// Lets operations succeed again.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        (state.fault, state.read_fault) = (None, None);
    }

    /// What [`Disk::space`] says from now on. Writes do not change it.
    pub fn set_space(&self, space: Space) {
        self.state.lock().space = space;
    }

    /// The power goes: everything that was not synced is forgotten, locks are gone, open files are dead. Faults are
    /// forgotten too.
    pub fn crash(&self) {
        self.crash_keeping(|_| 0);
    }

    /// As [`crash`](Self::crash), but of the bytes appended to a file since it was synced, `keep(bytes)` have made it to the
    /// platter.
    pub fn crash_keeping(&self, mut keep: impl FnMut(usize) -> usize) {
        let mut state = self.state.lock();
        for node in &mut state.inodes {
            match node {
                Node::File { seen, durable } => {
                    if seen.len() > durable.len() && seen.starts_with(durable) {
                        let unsynced = seen.len() - durable.len();
                        let kept = durable.len() + keep(unsynced).min(unsynced);
                        durable.extend_from_slice(&seen[durable.len()..kept]);
                    }
                    seen.clone_from(durable);
                }
                Node::Dir { seen, durable, changes } => {
                    seen.clone_from(durable);
                    changes.clear();
                }
            }
        }
        state.end_life();
    }

    /// As [`crash`](Self::crash), but of what was not synced some has made it to the platter, as `seed` has it: sectors of 512 bytes of files,
    /// and changes of directories, each on its own, so that of two renames the second may be there and the first not.
    pub fn crash_at_random(&self, seed: u64) {
        let mut random = SplitMix(seed);
        let mut state = self.state.lock();
        for node in &mut state.inodes {
            match node {
                Node::File { seen, durable } => {
                    keep_sectors(seen, durable, &mut random);
                    seen.clone_from(durable);
                }
                Node::Dir { seen, durable, changes } => {
                    for change in changes.drain(..) {
                        if random.coin() {
                            change.apply(durable);
                        }
                    }
                    seen.clone_from(durable);
                }
            }
        }
        state.end_life();
    }

    /// The process is killed: nothing is forgotten, but locks are gone and open files dead. Faults are forgotten too.
    pub fn kill(&self) {
        self.state.lock().end_life();
    }

    /// An independent copy of everything, as a process sees it now, all of it durable.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state.lock();
        let mut inodes = state.inodes.clone();
        for node in &mut inodes {
            match node {
                Node::File { seen, durable } => durable.clone_from(seen),
                Node::Dir { seen, durable, changes } => {
                    durable.clone_from(seen);
                    changes.clear();
                }
            }
        }
        Self { state: Arc::new(Mutex::new(State { inodes, ..State::default() })) }
    }

    /// An independent copy of everything, with what is durable and what is not.
    #[must_use]
    pub fn fork_unsynced(&self) -> Self {
        let state = self.state.lock();
        let inodes = state.inodes.clone();
        Self { state: Arc::new(Mutex::new(State { inodes, ..State::default() })) }
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// As opening and reading do.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        super::read_all(self, path, u64::MAX)
    }

    /// Replaces a file's content, durably and without counting as an operation.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such file.
    pub fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.find(path)?;
        match &mut state.inodes[inode] {
            Node::File { seen, durable } => {
                *seen = bytes.to_vec();
                *durable = bytes.to_vec();
                Ok(())
            }
            Node::Dir { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

impl Change {
    fn apply(self, dir: &mut BTreeMap<String, Inode>) {
        match self {
            Self::Set(name, inode) => {
                dir.insert(name, inode);
            }
            Self::Remove(name) => {
                dir.remove(&name);
            }
            Self::Move(from, to, inode) => {
                dir.remove(&from);
                dir.insert(to, inode);
            }
        }
    }
}

const SECTOR_BYTES: usize = 512;

/// Copies some of the sectors that differ to the platter, and a part of the growth.
fn keep_sectors(seen: &[u8], durable: &mut Vec<u8>, random: &mut SplitMix) {
    if seen.len() > durable.len() {
        let grown = (seen.len() - durable.len()).div_ceil(SECTOR_BYTES) as u64 + 1;
        let sectors = usize::try_from(random.next() % grown).unwrap_or(0);
        let len = (durable.len() / SECTOR_BYTES + sectors) * SECTOR_BYTES;
        // What was never written reads as zeros where a file has grown over it.
        durable.resize(len.clamp(durable.len(), seen.len()), 0);
    } else if seen.len() < durable.len() && random.coin() {
        durable.truncate(seen.len());
    }
    for start in (0..durable.len().min(seen.len())).step_by(SECTOR_BYTES) {
        let end = (start + SECTOR_BYTES).min(durable.len()).min(seen.len());
        if durable[start..end] != seen[start..end] && random.coin() {
            durable[start..end].copy_from_slice(&seen[start..end]);
        }
    }
}

/// Sebastiano Vigna's SplitMix64: a sequence that a seed determines.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

fn names(path: &Path) -> impl Iterator<Item = String> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    })
}

impl State {
    /// Counts a changing operation and says whether it is to fail, and how.
    fn change(&mut self) -> Option<Fault> {
        let nth = self.operations;
        self.operations += 1;
        let (from, to, fault) = self.fault?;
        (from <= nth && nth <= to).then_some(fault)
    }

    fn change_or_fail(&mut self) -> io::Result<()> {
        match self.change() {
            None => Ok(()),
            Some(Fault::Error(errno) | Fault::Torn(errno)) => {
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    fn dir(&self, inode: Inode) -> io::Result<&BTreeMap<String, Inode>> {
        match &self.inodes[inode] {
            Node::Dir { seen, .. } => Ok(seen),
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Changes a directory.
    fn change_dir(&mut self, inode: Inode, change: Change) -> io::Result<()> {
        match &mut self.inodes[inode] {
            Node::Dir { seen, changes, .. } => {
                change.clone().apply(seen);
                changes.push(change);
                Ok(())
            }
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Counts a read and says whether it is to fail.
    fn read_or_fail(&mut self) -> io::Result<()> {
        let nth = self.reads;
        self.reads += 1;
        match self.read_fault {
            Some((from, to, errno)) if from <= nth && nth <= to => {
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    /// Open files are dead, locks gone, faults forgotten.
    fn end_life(&mut self) {
        self.locks.clear();
        self.fault = None;
        self.read_fault = None;
        self.life += 1;
    }

    fn find(&mut self, path: &Path) -> io::Result<Inode> {
        let mut inode = ROOT;
        for name in names(path) {
            inode = *self.dir(inode)?.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(inode)
    }

    fn parent(&mut self, path: &Path) -> io::Result<(Inode, String)> {
        let name = names(path).last().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(parent)?, name))
    }

    fn add(&mut self, parent: Inode, name: String, node: Node) -> io::Result<Inode> {
        let inode = self.inodes.len();
        self.inodes.push(node);
        self.change_dir(parent, Change::Set(name, inode))?;
        Ok(inode)
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let inode = state.find(path)?;
        match state.inodes[inode] {
            Node::File { .. } => {
                Ok(Arc::new(MemFile { state: Arc::clone(&self.state), inode, life: state.life }))
            }
            Node::Dir { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.change_or_fail()?;
        let (parent, name) = state.parent(path)?;
        let inode = match state.dir(parent)?.get(&name).copied() {
            Some(inode) => match &mut state.inodes[inode] {
                Node::File { seen, .. } => {
                    seen.clear();
                    inode
                }
                Node::Dir { .. } => return Err(io::ErrorKind::IsADirectory.into()),
            },
            None => state.add(parent, name, Node::File { seen: vec![], durable: vec![] })?,
        };
        Ok(Arc::new(MemFile { state: Arc::clone(&self.state), inode, life: state.life }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change_or_fail()?;
        let (from_parent, from_name) = state.parent(from)?;
        let (to_parent, to_name) = state.parent(to)?;
        let inode =
            state.dir(from_parent)?.get(&from_name).copied().ok_or(io::ErrorKind::NotFound)?;
        if let Some(&there) = state.dir(to_parent)?.get(&to_name)
            && let Node::Dir { seen, .. } = &state.inodes[there]
            && !seen.is_empty()
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if from_parent == to_parent {
            return state.change_dir(from_parent, Change::Move(from_name, to_name, inode));
        }
        state.change_dir(to_parent, Change::Set(to_name, inode))?;
        state.change_dir(from_parent, Change::Remove(from_name))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change_or_fail()?;
        let inode = state.find(from)?;
        if state.find(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (parent, name) = state.parent(to)?;
        state.change_dir(parent, Change::Set(name, inode))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let mut state = self.state.lock();
        state.find(path)?;
        Ok(state.space)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change_or_fail()?;
        let (parent, name) = state.parent(path)?;
        if !state.dir(parent)?.contains_key(&name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_dir(parent, Change::Remove(name))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.find(path).is_ok() {
            return Ok(());
        }
        state.change_or_fail()?;
        let mut inode = ROOT;
        for name in names(path) {
            inode = match state.dir(inode)?.get(&name) {
                Some(&child) => child,
                None => state.add(inode, name, Node::dir())?,
            };
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state.lock();
        let inode = state.find(path)?;
        let entries = state.dir(inode)?.clone();
        Ok(entries
            .into_iter()
            .map(|(name, inode)| DirEntry {
                name,
                is_dir: matches!(state.inodes[inode], Node::Dir { .. }),
            })
            .collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change_or_fail()?;
        let inode = state.find(path)?;
        match &mut state.inodes[inode] {
            Node::Dir { seen, durable, changes } => {
                durable.clone_from(seen);
                changes.clear();
                Ok(())
            }
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut state = self.state.lock();
        let (parent, name) = state.parent(path)?;
        state.dir(parent)?;
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if !state.dir(parent)?.contains_key(&name) {
            state.add(parent, name, Node::File { seen: vec![], durable: vec![] })?;
        }
        let life = state.life;
        Ok(Box::new(MemLock { state: Arc::clone(&self.state), path: path.to_path_buf(), life }))
    }
}

#[derive(Debug)]
struct MemFile {
    state: Arc<Mutex<State>>,
    inode: Inode,
    life: u64,
}

impl MemFile {
    /// Runs `f` on the content, unless the file is from before a crash.
    fn with<T>(&self, f: impl FnOnce(&mut State, Inode) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.life != self.life {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        f(&mut state, self.inode)
    }
}

fn content(state: &mut State, inode: Inode) -> io::Result<(&mut Vec<u8>, &mut Vec<u8>)> {
    match &mut state.inodes[inode] {
        Node::File { seen, durable } => Ok((seen, durable)),
        Node::Dir { .. } => Err(io::ErrorKind::IsADirectory.into()),
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl DiskFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state, inode| {
            state.read_or_fail()?;
            let (seen, _) = content(state, inode)?;
            let rest = seen.get(position(offset)?..).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state, inode| {
            let (bytes, error) = match state.change() {
                None => (bytes, None),
                Some(Fault::Error(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                Some(Fault::Torn(errno)) => {
                    (&bytes[..bytes.len() / 2], Some(io::Error::from_raw_os_error(errno)))
                }
            };
            let (start, (seen, _)) = (position(offset)?, content(state, inode)?);
            let end = start + bytes.len();
            if seen.len() < end {
                seen.resize(end, 0);
            }
            seen[start..end].copy_from_slice(bytes);
            error.map_or(Ok(()), Err)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, inode| {
            state.change_or_fail()?;
            let (seen, durable) = content(state, inode)?;
            durable.clone_from(seen);
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|state, inode| {
            state.change_or_fail()?;
            content(state, inode)?.0.resize(position(len)?, 0);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state, inode| Ok(content(state, inode)?.0.len() as u64))
    }
}

#[derive(Debug)]
struct MemLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    life: u64,
}

impl DirLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_forgets_what_was_not_synced() {
        let disk = MemDisk::new();
        let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
        disk.create_dir_all(dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let file = disk.create(path).unwrap();
        file.write_at(b"one", 0).unwrap();
        file.sync().unwrap();
        disk.crash();
        assert_eq!(disk.open(path).unwrap_err().kind(), io::ErrorKind::NotFound);

        let file = disk.create(path).unwrap();
        file.write_at(b"one", 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(dir).unwrap();
        file.write_at(b"two", 3).unwrap();
        disk.crash_keeping(|unsynced| unsynced - 1);
        assert_eq!(disk.read(path).unwrap(), b"onetw");
        assert!(file.read_at(&mut [0], 0).is_err());
    }

    #[test]
    fn a_random_crash_keeps_any_part_and_nothing_else() {
        let disk = MemDisk::new();
        let file = disk.create(Path::new("/f")).unwrap();
        file.write_at(&[1; 2048], 0).unwrap();
        file.sync().unwrap();
        disk.rename(Path::new("/f"), Path::new("/g")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.write_at(&[2; 2048], 1024).unwrap();
        disk.create(Path::new("/new")).unwrap();
        disk.rename(Path::new("/g"), Path::new("/h")).unwrap();
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let crashed = disk.fork_unsynced();
            crashed.crash_at_random(seed);
            let names: Vec<String> =
                crashed.list(Path::new("/")).unwrap().into_iter().map(|entry| entry.name).collect();
            let name = if names.contains(&String::from("h")) { "/h" } else { "/g" };
            let bytes = crashed.read(Path::new(name)).unwrap();
            assert!(bytes.len() >= 2048 && bytes[..1024] == [1; 1024]);
            for sector in bytes[1024..].chunks(512) {
                let one = sector.iter().all(|byte| *byte == sector[0]);
                assert!(one && sector[0] <= 2, "sectors are whole");
            }
            outcomes.insert((names, bytes));
        }
        assert!(outcomes.len() > 20, "{} outcomes", outcomes.len());
    }

    #[test]
    fn operations_fail_when_told() {
        let disk = MemDisk::new();
        let file = disk.create(Path::new("/f")).unwrap();
        disk.fail_at(disk.operations(), Fault::Torn(28));
        assert_eq!(file.write_at(b"abcd", 0).unwrap_err().raw_os_error(), Some(28));
        assert_eq!(file.len().unwrap(), 2);
        file.write_at(b"abcd", 0).unwrap();
        disk.fail_from(disk.operations(), Fault::Error(5));
        assert!(file.sync().is_err());
        assert!(file.truncate(0).is_err());
        disk.heal();
        file.sync().unwrap();
    }

    #[test]
    fn directories_move_with_their_content() {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/a/b")).unwrap();
        disk.create(Path::new("/a/b/f")).unwrap().write_at(b"x", 0).unwrap();
        disk.rename(Path::new("/a/b"), Path::new("/a/c")).unwrap();
        assert_eq!(disk.read(Path::new("/a/c/f")).unwrap(), b"x");
        assert_eq!(
            disk.list(Path::new("/a")).unwrap(),
            [DirEntry { name: "c".into(), is_dir: true }]
        );
    }
}
