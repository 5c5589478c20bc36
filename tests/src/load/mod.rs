//! A load of which every sample can be computed again, and the account of what a store has to hold of it.
//!
//! `append_load` (the binary beside this library) appends a [`Workload`] to a store and reports each batch in a [`Line`] on its standard output. Whoever
//! started it enters the lines in a [`Ledger`], which outlives the process, and compares that with what a store opened later
//! has. [`Settings`] makes what takes hours in production happen within a second: cuts of the head, checkpoints, retention.

mod ledger;
mod line;
mod workload;

use std::time::Duration;

use tsdb::Options;

pub use ledger::{Account, Ledger};
pub use line::Line;
pub use workload::{Point, STEP_MS, Value, Workload, fingerprint, mix};

/// The shape of a store under load. Spans are in steps of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Span of a block.
    pub block_steps: u32,
    /// How long samples are kept; 0 is for ever.
    pub retention_steps: u32,
    /// Bytes after which a log segment is full.
    pub segment_bytes: u64,
}

impl Settings {
    /// Blocks of 60 steps, seven of which are kept, and the smallest segments.
    pub const SMALL: Self = Self { block_steps: 60, retention_steps: 420, segment_bytes: 1 << 15 };

    /// How late a sample may be: more than any of a workload is, even where threads lag behind each other.
    const OUT_OF_ORDER_STEPS: u32 = 40;

    /// The options of such a store.
    #[must_use]
    pub fn options(self) -> Options {
        Options {
            retention: span(self.retention_steps),
            min_block_duration: span(self.block_steps),
            out_of_order_time_window: span(Self::OUT_OF_ORDER_STEPS),
            wal_segment_bytes: self.segment_bytes,
            ..Options::default()
        }
    }

    /// Flags by which `append_load` opens such a store.
    #[must_use]
    pub fn flags(self) -> Vec<String> {
        vec![
            format!("--block-steps={}", self.block_steps),
            format!("--retention-steps={}", self.retention_steps),
            format!("--segment-bytes={}", self.segment_bytes),
        ]
    }
}

fn span(steps: u32) -> Duration {
    Duration::from_millis(STEP_MS.unsigned_abs()) * steps
}
