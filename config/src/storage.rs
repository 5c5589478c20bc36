//! `storage`: what the store keeps. All of it can be changed while the server runs.

use std::time::Duration;

use crate::error::{ConfigError, Problem};
use crate::file::{Retention, Storage, Tsdb};
use crate::resolve::{Resolver, or};

/// Exemplars that are kept unless the file says otherwise.
const EXEMPLARS_MAX: u64 = 100_000;

/// `storage`.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageConfig {
    /// Samples late by no more than this are accepted out of order; zero for none.
    pub out_of_order_time_window: Duration,
    /// Series that have ended leave the head early once they are this part of it; zero for never.
    pub stale_series_compaction_threshold: f64,
    /// What is kept; `None` where the file leaves that to the flags.
    pub retention: Option<RetentionConfig>,
    /// Exemplars that are kept.
    pub exemplars_max: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            out_of_order_time_window: Duration::ZERO,
            stale_series_compaction_threshold: 0.0,
            retention: None,
            exemplars_max: EXEMPLARS_MAX,
        }
    }
}

/// `storage.tsdb.retention`. A bound that is zero is none; a section that is there replaces the flags as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetentionConfig {
    /// Samples this much older than the newest are deleted.
    pub time: Duration,
    /// Blocks are deleted, oldest first, while the store takes more bytes.
    pub bytes_max: u64,
    /// As `bytes_max`, in hundredths of the file system's size.
    pub percentage_max: f64,
}

impl Resolver<'_> {
    pub(crate) fn storage(&mut self, written: Storage) -> Result<StorageConfig, ConfigError> {
        self.section = String::from("storage");
        let mut storage = match written.tsdb {
            Some(tsdb) => self.tsdb(tsdb.value)?,
            None => StorageConfig::default(),
        };
        if let Some(exemplars) = written.exemplars {
            // As in Prometheus: the section without a number means none, and so does a negative number.
            let count_max = or(exemplars.value.max_exemplars, 0);
            storage.exemplars_max = u64::try_from(count_max).unwrap_or(0);
        }
        Ok(storage)
    }

    fn tsdb(&mut self, written: Tsdb) -> Result<StorageConfig, ConfigError> {
        let mut storage = StorageConfig::default();
        if let Some(window) = written.out_of_order_time_window {
            storage.out_of_order_time_window = window.value.0;
        }
        if let Some(threshold) = written.stale_series_compaction_threshold {
            if threshold.value.is_nan() {
                let field = "tsdb.stale_series_compaction_threshold";
                return Err(self.invalid(field, threshold.referenced, Problem::NotANumber));
            }
            storage.stale_series_compaction_threshold = threshold.value.max(0.0);
        }
        if let Some(floats) = written.chunk_encoding.and_then(|encoding| encoding.value.floats) {
            match floats.value.as_str() {
                "" | "xor" => {}
                // The samples are the same; only their start times would be kept too.
                "xor2" => self.warn("storage.tsdb.chunk_encoding.floats xor2", floats.referenced),
                _ => {
                    let problem = Problem::Choice(floats.value);
                    return Err(self.invalid(
                        "tsdb.chunk_encoding.floats",
                        floats.referenced,
                        problem,
                    ));
                }
            }
        }
        if let Some(retention) = written.retention {
            storage.retention = Some(self.retention(retention.value)?);
        }
        Ok(storage)
    }

    fn retention(&mut self, written: Retention) -> Result<RetentionConfig, ConfigError> {
        let mut percentage_max = 0.0;
        if let Some(percentage) = written.percentage {
            if !(0.0..=100.0).contains(&percentage.value) {
                let problem = Problem::Percentage(percentage.value);
                let at = percentage.referenced;
                return Err(self.invalid("tsdb.retention.percentage", at, problem));
            }
            percentage_max = percentage.value;
        }
        Ok(RetentionConfig {
            time: written.time.map_or(Duration::ZERO, |text| text.value.0),
            bytes_max: written.size.map_or(0, |bytes| bytes.value.0),
            percentage_max,
        })
    }
}
