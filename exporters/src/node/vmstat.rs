//! `vmstat`: paging, swapping, page faults, out-of-memory kills.

use std::path::{Path, PathBuf};

use exposition::MetricKind;

use super::Collector;
use crate::CollectError;
use crate::families::Families;
use crate::procfs::{parse, read};

/// Reads `vmstat`.
pub(super) struct Vmstat(PathBuf);

impl Vmstat {
    pub(super) fn new(procfs: &Path) -> Self {
        Self(procfs.join("vmstat"))
    }
}

/// Upstream's default: `^(oom_kill|pgpg|pswp|pg.*fault).*`.
fn is_shown(field: &str) -> bool {
    ["oom_kill", "pgpg", "pswp"].iter().any(|prefix| field.starts_with(prefix))
        || field.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"))
}

impl Collector for Vmstat {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        for line in read(&self.0)?.lines() {
            let Some((field, value)) = line.split_once(' ') else { continue };
            if is_shown(field) {
                let value = parse(value.trim(), &self.0, line)?;
                let help = format!("/proc/vmstat information field {field}.");
                let name = format!("node_vmstat_{field}");
                families.family(name, help, MetricKind::Unknown).set(value);
            }
        }
        Ok(())
    }
}
