//! Loading the blocks of a folder.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{QueryError, TimeRange};
use ulid::Ulid;

use super::open::{OpenError, failed};
use super::{Blocks, LeftOut};
use crate::block::meta::Meta;
use crate::block::quarantine::{QUARANTINE_DIR, quarantine};
use crate::block::{Access, Block, CREATION_SUFFIX, DELETION_SUFFIX};
use crate::disk::{Disk, exists};
use crate::metrics::Metrics;

/// The names of all folders in `dir` that are named as blocks are.
pub(super) fn block_names(disk: &dyn Disk, dir: &Path) -> Result<HashSet<Ulid>, OpenError> {
    let listed = disk.list(dir).map_err(failed(dir))?;
    let dirs = listed.into_iter().filter(|entry| entry.is_dir);
    Ok(dirs.filter_map(|entry| Ulid::from_string(&entry.name).ok()).collect())
}

/// Opens all blocks in `dir` that can be opened, and removes what was left unfinished if that is allowed.
pub(super) fn load_blocks(
    disk: &dyn Disk,
    dir: &Path,
    metrics: &Metrics,
    may_write: bool,
) -> Result<Blocks, OpenError> {
    let mut blocks = Blocks::default();
    let mut broken: Vec<(Ulid, Broken)> = Vec::new();
    for entry in disk.list(dir).map_err(failed(dir))? {
        let path = dir.join(&entry.name);
        if !entry.is_dir {
            continue;
        }
        if entry.name.ends_with(CREATION_SUFFIX) || entry.name.ends_with(DELETION_SUFFIX) {
            if may_write {
                tracing::info!(path = %path.display(), "removing what was left unfinished");
                disk.remove_dir_all(&path).map_err(failed(&path))?;
            }
        } else if entry.name == QUARANTINE_DIR {
            blocks.left_out.extend(in_quarantine(disk, &path));
        } else if let Ok(ulid) = Ulid::from_string(&entry.name) {
            match open_block(disk, &path, may_write) {
                Ok(block) => blocks.loaded.push(Arc::new(block)),
                Err(reason) => broken.push((ulid, reason)),
            }
        }
    }
    let obsolete = obsolete_blocks(&blocks.loaded);
    blocks.loaded.retain(|block| !obsolete.contains(&block.meta.ulid));
    for ulid in obsolete.iter().filter(|_| may_write) {
        let path = dir.join(ulid.to_string());
        if let Err(error) = delete_block(disk, &path) {
            tracing::warn!(block = %path.display(), %error, "cannot delete an obsolete block");
        }
    }
    for (ulid, broken) in broken.into_iter().filter(|(ulid, _)| !obsolete.contains(ulid)) {
        let path = dir.join(ulid.to_string());
        let mut left_out = broken.left_out(&path);
        tracing::error!("{}", left_out.warning);
        metrics.blocks_failed.inc();
        if broken.is_damaged && may_write {
            left_out.is_aside = set_aside(disk, &path, &broken.reason, metrics);
        }
        blocks.left_out.push(left_out);
    }
    blocks.sort();
    Ok(blocks)
}

/// A block that cannot be opened.
pub(super) struct Broken {
    /// The span of its samples, if that could be read.
    range: Option<TimeRange>,
    reason: String,
    /// It will not get better by trying again.
    is_damaged: bool,
}

impl Broken {
    /// Why.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    fn left_out(&self, path: &Path) -> LeftOut {
        let warning = format!("block {} is left out: {}", path.display(), self.reason);
        LeftOut { range: self.range, warning, is_aside: false }
    }
}

/// Moves a damaged block where neither we nor a Prometheus trip over it again; whether that was possible.
fn set_aside(disk: &dyn Disk, path: &Path, reason: &str, metrics: &Metrics) -> bool {
    match quarantine(disk, path, reason) {
        Ok(aside) => {
            tracing::error!(block = %path.display(), aside = %aside.display(), "block put aside");
            metrics.blocks_quarantined.inc();
            true
        }
        Err(error) => {
            tracing::error!(block = %path.display(), %error, "cannot put a damaged block aside");
            false
        }
    }
}

/// What was put aside earlier: queries that miss it are told so until someone removes it.
fn in_quarantine(disk: &dyn Disk, dir: &Path) -> Vec<LeftOut> {
    let entries = disk.list(dir).unwrap_or_default();
    let blocks = entries.into_iter().filter(|entry| entry.is_dir);
    blocks
        .map(|entry| {
            let path = dir.join(entry.name);
            let range = Meta::read(disk, &path).ok().map(|meta| meta.range());
            let warning = format!("block {} is left out: it is damaged", path.display());
            LeftOut { range, warning, is_aside: true }
        })
        .collect()
}

/// Blocks that others were made from, and empty ones: their deletion was interrupted.
fn obsolete_blocks(loaded: &[Arc<Block>]) -> HashSet<Ulid> {
    let parents = loaded.iter().flat_map(|block| &block.meta.compaction.parents);
    let deletable = loaded.iter().filter(|block| block.meta.compaction.deletable);
    parents.map(|parent| parent.ulid).chain(deletable.map(|block| block.meta.ulid)).collect()
}

/// Opens the block in `path`.
pub(super) fn open_block(disk: &dyn Disk, path: &Path, may_write: bool) -> Result<Block, Broken> {
    let meta = Meta::read(disk, path).map_err(|error| Broken {
        range: None,
        reason: format!("meta.json: {error}"),
        is_damaged: is_damage(&error),
    })?;
    let range = Some(meta.range());
    let access = if may_write { Access::ReadWrite } else { Access::ReadOnly };
    Block::open(disk, path, meta, access).map_err(|error| Broken {
        range,
        is_damaged: match &error {
            QueryError::Corrupt { .. } => true,
            QueryError::Io { source, .. } => is_damage(source),
            _ => false,
        },
        reason: error.to_string(),
    })
}

/// Whether a file is wrong or missing; other errors may be the disk's, and pass.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// Deletes the block in `dir`, if it is there: first its name, so that half of a block is never taken for one.
pub(super) fn delete_block(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if !exists(disk, dir)? {
        return Ok(());
    }
    let mut name = dir.as_os_str().to_owned();
    name.push(DELETION_SUFFIX);
    let doomed = PathBuf::from(name);
    disk.rename(dir, &doomed)?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent)?;
    }
    disk.remove_dir_all(&doomed)
}

impl Blocks {
    pub(super) fn sort(&mut self) {
        self.loaded.sort_by_key(|block| (block.meta.min_time, block.meta.max_time));
    }

    /// The end, exclusive, of what came in order and is in blocks. Late samples are cut into blocks of their own, which say nothing about
    /// what the head may take.
    pub(super) fn end_in_order(&self) -> Option<i64> {
        let in_order = self.loaded.iter().filter(|block| block.meta.ends_the_head());
        in_order.map(|block| block.meta.max_time).max()
    }
}
