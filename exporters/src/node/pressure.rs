//! `pressure`: time that tasks lost waiting for CPU, memory or I/O (PSI).

use std::path::{Path, PathBuf};

use super::Collector;
use crate::CollectError;
use crate::families::Families;
use crate::procfs::{parse, pressure_seconds, read};

/// Resource, line, and the family it becomes.
const LINES: [(&str, &str, &str, &str); 6] = [
    (
        "cpu",
        "some",
        "node_pressure_cpu_waiting_seconds_total",
        "Total time in seconds that processes have waited for CPU time",
    ),
    (
        "io",
        "some",
        "node_pressure_io_waiting_seconds_total",
        "Total time in seconds that processes have waited due to IO congestion",
    ),
    (
        "io",
        "full",
        "node_pressure_io_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IO congestion",
    ),
    (
        "memory",
        "some",
        "node_pressure_memory_waiting_seconds_total",
        "Total time in seconds that processes have waited for memory",
    ),
    (
        "memory",
        "full",
        "node_pressure_memory_stalled_seconds_total",
        "Total time in seconds no process could make progress due to memory congestion",
    ),
    (
        "irq",
        "full",
        "node_pressure_irq_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IRQ congestion",
    ),
];

/// Reads `pressure/*`.
pub(super) struct Pressure(PathBuf);

impl Pressure {
    pub(super) fn new(procfs: &Path) -> Self {
        Self(procfs.join("pressure"))
    }
}

impl Collector for Pressure {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        let mut found = false;
        for (resource, line, name, help) in LINES {
            let path = self.0.join(resource);
            let text = match read(&path) {
                Ok(text) => text,
                // Not every kernel counts every resource, and some refuse to be read unless PSI is enabled at boot.
                Err(CollectError::NoData(_)) => continue,
                Err(error) => return Err(error),
            };
            let seconds = pressure_seconds(&text, line)
                .map_or_else(|| parse("", &path, text.trim_end()), Ok)?;
            families.counter(name, help).set(seconds);
            found = true;
        }
        if found { Ok(()) } else { Err(CollectError::NoData(self.0.clone())) }
    }
}
