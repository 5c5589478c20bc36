//! Looking for damage in the part of the log that a start with a snapshot did not read.
//!
//! We would not need it; but a Prometheus that is started on the folder deletes everything after the first damage that it finds.

use super::super::open::wal_dir;
use super::super::{Db, Upkeep};
use crate::wal::replay::{read_segment, repair_segment};
use crate::wal::segments::segment_name;

/// Segments that are read in one round of maintenance.
const SEGMENTS_PER_ROUND: usize = 8;

impl Db {
    /// Reads some of the segments that no start has read, and repairs what is damaged. What cannot be read now is not tried again: it is
    /// read when a checkpoint takes its place.
    pub(super) fn scrub_log(&self, upkeep: &mut Upkeep) {
        let dir = wal_dir(self);
        for _ in 0..SEGMENTS_PER_ROUND {
            let Some(number) = upkeep.unread_segments.pop() else { return };
            let path = dir.join(segment_name(number));
            let disk = self.disk.as_ref();
            let repaired = read_segment(disk, &path, |_| Ok(())).and_then(|damage| {
                for lost in &damage.lost {
                    tracing::warn!(
                        segment = %path.display(), offset = lost.offset, bytes = lost.bytes,
                        reason = %lost.reason,
                        "damage in a part of the log of which a snapshot had the content"
                    );
                    self.metrics.wal_corruptions.inc();
                }
                repair_segment(disk, &path, &damage, self.options.wal_compression)
            });
            if let Err(error) = repaired {
                tracing::warn!(segment = %path.display(), %error, "cannot look for damage");
            }
        }
    }
}
