//! What an administrator asks for: deletion of series, snapshots; and looking up exemplars.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp as Instant;
use model::{Exemplar, Labels, Matcher, QueryContext, QueryError, TimeRange, Timestamp};

use super::Db;
use super::maintain::{MaintainError, Maintenance, random};
use super::sources::HeadSource;
use crate::block::meta::Meta;
use crate::block::snapshot::snapshot_block;
use crate::block::writer::{BlockError, write_block_from};
use crate::disk::create_dir_durably;
use crate::head::Head;
use crate::head::cut::Cut;
use crate::postings;
use crate::wal::WalError;
use crate::wal::record::{self, Deleted};

/// The folder that snapshots are put into.
const SNAPSHOTS_DIR: &str = "snapshots";

/// Why an administrator's wish was not done, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The store is open for reading alone.
    #[error("the store is open for reading alone")]
    ReadOnly,
    /// What to delete or copy could not be read.
    #[error(transparent)]
    Read(#[from] QueryError),
    /// A file could not be written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A block that is left out may have what is to be deleted, and may be back after a restart.
    #[error("{0}; what is to be deleted may be in it")]
    LeftOut(String),
    /// Queries still read late samples that were put into blocks before, so those that came since cannot be.
    #[error("queries that began before the last late samples came must end first, try again")]
    Busy,
    /// A block could not be rewritten.
    #[error(transparent)]
    Maintain(#[from] MaintainError),
}

impl From<WalError> for AdminError {
    fn from(WalError { path, source }: WalError) -> Self {
        Self::Io { path, source }
    }
}

impl From<BlockError> for AdminError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Read(error) => Self::Read(error),
            error => Self::Maintain(error.into()),
        }
    }
}

impl Db {
    /// Deletes the samples in `range` of the series that satisfy all matchers of any of `sets`. They are gone from queries at once, and from the disk when
    /// their blocks are rewritten.
    ///
    /// # Errors
    /// [`AdminError`]; a part may have been deleted, and the same wish can be repeated.
    pub fn delete_series(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<(), AdminError> {
        let mut upkeep = self.maintenance.lock();
        if self.is_read_only() {
            return Err(AdminError::ReadOnly);
        }
        self.remove_doomed()?;
        {
            // A batch that was rejected may be found by a restart, and nothing would say that it was deleted.
            let mut writer = self.writer.lock();
            writer.wal.cut_rejected()?;
            writer.wbl.cut_rejected()?;
        }
        // The logs do not say which late samples a deletion was meant for: in a block it is theirs alone.
        if self.head.read().late.range().is_some_and(|late| late.overlaps(range)) {
            self.drop_late(&mut upkeep);
            self.cut_late(&mut upkeep, &mut Maintenance::default())?;
            self.drop_late(&mut upkeep);
            let uncut = self.head.read().late.uncut_range();
            if uncut.is_some_and(|late| late.overlaps(range)) {
                return Err(AdminError::Busy);
            }
        }
        self.delete_from_head(sets, range)?;
        let context = QueryContext::unbounded();
        let blocks = Arc::clone(&self.blocks.read());
        for block in blocks.loaded.iter().filter(|block| block.meta.range().overlaps(range)) {
            if let Some(changed) = block.delete(self.disk.as_ref(), sets, range, &context)? {
                self.change_blocks(|all| {
                    all.loaded.retain(|other| other.meta.ulid != changed.meta.ulid);
                    all.loaded.push(Arc::new(changed));
                    all.sort();
                });
            }
        }
        let may_return = blocks.left_out.iter().find(|left_out| {
            !left_out.is_aside && left_out.range.is_none_or(|of| of.overlaps(range))
        });
        may_return.map_or(Ok(()), |left_out| Err(AdminError::LeftOut(left_out.warning.clone())))
    }

    fn delete_from_head(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<(), AdminError> {
        let mut writer = self.writer.lock();
        let deleted = deletions(&self.head.read(), sets, range)?;
        let mut record = Vec::new();
        deleted.iter().for_each(|deleted| record::put_deleted(&mut record, *deleted));
        if record.is_empty() {
            return Ok(());
        }
        writer.wal.append(&[&record])?;
        self.sync_now(&mut writer)?;
        let mut head = self.head.write();
        for Deleted { series, min, max } in deleted {
            head.deletions.add(series, TimeRange::new(min, max));
        }
        Ok(())
    }

    /// Rewrites all blocks from which something was deleted, without it.
    ///
    /// # Errors
    /// [`AdminError`]; blocks that were rewritten stay so.
    pub fn clean_tombstones(&self) -> Result<(), AdminError> {
        let _upkeep = self.maintenance.lock();
        if self.is_read_only() {
            return Err(AdminError::ReadOnly);
        }
        let blocks = Arc::clone(&self.blocks.read());
        for block in blocks.loaded.iter().filter(|block| block.needs_cleaning()) {
            self.replace_by_merged(std::slice::from_ref(block))?;
            self.metrics.tombstone_cleanings.inc();
        }
        Ok(())
    }

    /// Copies the store as it is into a folder of its own under `snapshots`, from which a store can be opened; its name. Blocks take no room: their files
    /// get a second name. `with_head` adds what is in the head as a block.
    ///
    /// # Errors
    /// [`AdminError`]; nothing is left then.
    pub fn snapshot(&self, with_head: bool) -> Result<String, AdminError> {
        let _upkeep = self.maintenance.lock();
        if self.is_read_only() {
            return Err(AdminError::ReadOnly);
        }
        let now = Instant::from_millisecond(self.clock.now()).unwrap_or(Instant::UNIX_EPOCH);
        let id = random() & u128::from(u64::MAX);
        let name = format!("{}-{id:016x}", now.strftime("%Y%m%dT%H%M%SZ"));
        let dir = self.dir.join(SNAPSHOTS_DIR).join(&name);
        match self.copy_to(&dir, with_head) {
            Ok(()) => Ok(name),
            Err(error) => {
                if let Err(error) = self.disk.remove_dir_all(&dir) {
                    tracing::warn!(dir = %dir.display(), %error, "cannot remove a failed snapshot");
                }
                Err(error)
            }
        }
    }

    fn copy_to(&self, dir: &Path, with_head: bool) -> Result<(), AdminError> {
        let disk = self.disk.as_ref();
        let failed = |source| AdminError::Io { path: dir.display().to_string(), source };
        create_dir_durably(disk, dir).map_err(failed)?;
        for block in &self.blocks.read().loaded.clone() {
            snapshot_block(disk, &block.dir, dir).map_err(failed)?;
        }
        if with_head {
            for what in [Cut::InOrder, Cut::LateKept] {
                let plan = {
                    let head = self.head.read();
                    let range = match what {
                        Cut::InOrder => head.time_range(),
                        _ => head.late.range(),
                    };
                    let Some(range) = range else { continue };
                    head.plan_cut(range.min, range.max.saturating_add(1), what, |_| true)
                };
                let (min_time, max_time) = (plan.min_time, plan.max_time);
                let meta = Meta::of_head(self.new_ulid(), min_time, max_time);
                write_block_from(&self.disk, dir, meta, &mut HeadSource::new(self, plan))?;
            }
        }
        Ok(())
    }

    /// The exemplars in `range` of the series that satisfy all matchers of any of `sets`, by series in order of labels, each in order of time.
    #[must_use]
    pub fn exemplars(
        &self,
        sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        let head = self.head.read();
        let mut found = Vec::new();
        for (_, labels, exemplars) in head.exemplars.iter() {
            let wanted = |set: &Vec<Matcher>| set.iter().all(|m| m.matches_labels(labels));
            if !sets.iter().any(wanted) {
                continue;
            }
            let exemplars: Vec<Exemplar> =
                exemplars.filter(|exemplar| range.contains(exemplar.t)).cloned().collect();
            if !exemplars.is_empty() {
                found.push((labels.clone(), exemplars));
            }
        }
        drop(head);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

/// What of the head is to be deleted. Not beyond the samples that there are: later ones are not meant.
fn deletions(
    head: &Head,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<Vec<Deleted>, QueryError> {
    let context = QueryContext::unbounded();
    let mut deleted = Vec::new();
    for matchers in sets {
        for slot in postings::select(head, matchers, &context)? {
            let series = head.series_ref(slot);
            let last = head.last(slot).map_or(Timestamp::MIN, |last| last.t);
            let late = head.late.of(series).filter_map(|late| late.range()).map(|late| late.max);
            let max = range.max.min(late.fold(last, Timestamp::max));
            if range.min <= max {
                deleted.push(Deleted { series, min: range.min, max });
            }
        }
    }
    Ok(deleted)
}
