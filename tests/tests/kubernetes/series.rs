//! Series in the store of a server that is not started yet.

use std::path::Path;
use std::sync::Arc;

use model::{Appender, Batch, Clock, Labels, SystemClock};
use tsdb::{Db, Options, OsDisk};

/// A series by the names and values of its labels, and its value.
pub(crate) type Constant<'a> = (&'a [(&'a str, &'a str)], f64);

/// Writes series that have had the same value every five seconds of the minute that ends now, to the store in `folder`.
pub(crate) fn write_series(folder: &Path, series: &[Constant<'_>]) {
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock));
    let registry = telemetry::Registry::new();
    let db = Db::open(&folder.join("data"), disk, clock, Options::default(), &registry).unwrap();
    let now_ms = SystemClock.now();
    for step in 0..=12 {
        let mut batch = Batch::new();
        for (labels, value) in series {
            let labels = Labels::from_pairs(labels.iter().copied()).unwrap();
            batch.push_new(labels, now_ms - 60_000 + step * 5_000, *value);
        }
        let appended = db.append(&batch).unwrap();
        assert!(appended.rejected.is_empty(), "{:?}", appended.rejected);
    }
    db.close().unwrap();
}
