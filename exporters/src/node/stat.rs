//! `stat`: interrupts, context switches, forks, boot time, processes.

use std::path::{Path, PathBuf};

use exposition::MetricKind::{Counter, Gauge};

use super::Collector;
use crate::CollectError;
use crate::families::Families;
use crate::procfs::{parse, read};

/// Lines of `stat` and what they become.
const LINES: [(&str, &str, &str, exposition::MetricKind); 6] = [
    ("intr", "node_intr_total", "Total number of interrupts serviced.", Counter),
    ("ctxt", "node_context_switches_total", "Total number of context switches.", Counter),
    ("processes", "node_forks_total", "Total number of forks.", Counter),
    ("btime", "node_boot_time_seconds", "Node boot time, in unixtime.", Gauge),
    ("procs_running", "node_procs_running", "Number of processes in runnable state.", Gauge),
    (
        "procs_blocked",
        "node_procs_blocked",
        "Number of processes blocked waiting for I/O to complete.",
        Gauge,
    ),
];

/// Reads `stat`.
pub(super) struct Stat(PathBuf);

impl Stat {
    pub(super) fn new(procfs: &Path) -> Self {
        Self(procfs.join("stat"))
    }
}

impl Collector for Stat {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        for line in read(&self.0)?.lines() {
            let mut columns = line.split_ascii_whitespace();
            let key = columns.next().unwrap_or_default();
            let Some((_, name, help, kind)) = LINES.iter().find(|(of, ..)| *of == key) else {
                continue;
            };
            // `intr` goes on with a number for each interrupt; the first is their sum.
            let value = parse(columns.next().unwrap_or_default(), &self.0, line)?;
            families.family(*name, *help, *kind).set(value);
        }
        Ok(())
    }
}
