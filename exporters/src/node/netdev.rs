//! `netdev`: traffic of network devices.
//!
//! `net/dev` folds the kernel's detailed counters exactly as the names here do: `drop` counts what was dropped or missed, `frame` all framing
//! errors, `carrier` all carrier errors.

use std::path::{Path, PathBuf};

use super::Collector;
use crate::CollectError;
use crate::families::Families;
use crate::procfs::{parse, read};

/// Columns of a line after the name of the device.
const COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];
/// Lines of headings.
const HEADINGS: usize = 2;

/// Reads `net/dev`.
pub(super) struct Netdev(PathBuf);

impl Netdev {
    pub(super) fn new(procfs: &Path) -> Self {
        Self(procfs.join("net/dev"))
    }
}

impl Collector for Netdev {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        for line in read(&self.0)?.lines().skip(HEADINGS) {
            // Names may contain colons (aliases); numbers do not.
            let Some((device, numbers)) = line.rsplit_once(':') else {
                return Err(CollectError::malformed(&self.0, "no colon", line));
            };
            let device = [("device", device.trim())];
            let mut numbers = numbers.split_ascii_whitespace();
            for column in COLUMNS {
                let number = numbers.next().unwrap_or_default();
                let value = parse(number, &self.0, line)?;
                let name = format!("node_network_{column}_total");
                let help = format!("Network device statistic {column}.");
                families.counter(name, help).add(&device, value);
            }
        }
        Ok(())
    }
}
