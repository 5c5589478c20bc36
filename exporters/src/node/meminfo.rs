//! `meminfo`: memory by use.

use std::path::{Path, PathBuf};

use super::Collector;
use crate::CollectError;
use crate::families::Families;
use crate::procfs::{parse, read};

/// Reads `meminfo`.
pub(super) struct Meminfo(PathBuf);

impl Meminfo {
    pub(super) fn new(procfs: &Path) -> Self {
        Self(procfs.join("meminfo"))
    }
}

impl Collector for Meminfo {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        for line in read(&self.0)?.lines() {
            let Some((field, rest)) = line.split_once(':') else {
                return Err(CollectError::malformed(&self.0, "no colon", line));
            };
            let mut columns = rest.split_ascii_whitespace();
            let Some(number) = columns.next() else {
                return Err(CollectError::malformed(&self.0, "no number", line));
            };
            let number = parse(number, &self.0, line)?;
            // `Active(anon)` becomes `Active_anon`; counts without a unit keep their name.
            let mut field = field.replace('(', "_").replace(')', "");
            let value = if columns.next() == Some("kB") {
                field.push_str("_bytes");
                number * 1024.0
            } else {
                number
            };
            let help = format!("Memory information field {field}.");
            families.gauge(format!("node_memory_{field}"), help).set(value);
        }
        Ok(())
    }
}
