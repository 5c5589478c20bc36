//! `loadavg`: runnable and blocked tasks, averaged.

use std::path::{Path, PathBuf};

use super::Collector;
use crate::CollectError;
use crate::families::Families;
use crate::procfs::{parse, read};

/// Reads `loadavg`.
pub(super) struct Loadavg(PathBuf);

impl Loadavg {
    pub(super) fn new(procfs: &Path) -> Self {
        Self(procfs.join("loadavg"))
    }
}

impl Collector for Loadavg {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        let line = read(&self.0)?;
        let mut columns = line.split_ascii_whitespace();
        for (name, help) in [
            ("node_load1", "1m load average."),
            ("node_load5", "5m load average."),
            ("node_load15", "15m load average."),
        ] {
            let column = columns.next().ok_or_else(|| {
                CollectError::malformed(&self.0, "fewer than three numbers", &line)
            })?;
            families.gauge(name, help).set(parse(column, &self.0, &line)?);
        }
        Ok(())
    }
}
