//! The time-series database: append, persist, select.
//!
//! [`Db`] is the principal type. It takes batches of samples ([`model::Appender`]), writes them to a write-ahead log, keeps
//! the last hours in memory (the head), cuts the head into immutable blocks of two hours and answers queries
//! ([`model::Queryable`]) over all of them. Every file is in Prometheus's format, so a Prometheus and this crate can take turns
//! on one folder; the pages in `docs/formats/` say which parts of which format are read and written.
//!
//! Files are reached through a [`Disk`] and the time through a [`model::Clock`], so that tests can take the power away after any
//! operation ([`MemDisk`]). Nothing here starts a thread, opens a socket or awaits: the caller decides when [`Db::sync`] and
//! [`Db::maintain`] run.
//!
//! ```
//! use std::sync::Arc;
//! use model::{Appender, Batch, Labels, ManualClock};
//! use tsdb::{Db, MemDisk, Options};
//!
//! let registry = telemetry::Registry::new();
//! let clock = Arc::new(ManualClock::new(0));
//! let db = Db::open("/data".as_ref(), Arc::new(MemDisk::new()), clock, Options::default(), &registry)?;
//! let mut batch = Batch::new();
//! batch.push_new(Labels::from_pairs([("__name__", "up")])?, 1_000, 1.0);
//! let appended = db.append(&batch)?;
//! assert_eq!(appended.series_created, 1);
//! db.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block;
mod bytes;
mod db;
mod disk;
mod head;
mod metrics;
mod options;
mod postings;
mod recode;
mod rows;
pub mod tools;
mod wal;

#[cfg(test)]
mod testing;

pub use db::{
    AdminError, CutError, Db, HeadStatistics, LabelPairCount, MaintainError, Maintenance,
    NameCount, OpenError, ReplayProgress, Retention, Statistics, SyncError,
};
pub(crate) use db::{WAL_DIR, WBL_DIR};
pub use disk::{DirEntry, DirLock, Disk, DiskFile, Fault, MemDisk, OsDisk, Space};
pub use options::{Fsync, Options, WalCompression};
